"""The API as its own process, as ``make api`` starts it."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx2 as httpx

from core.config import ROOT

START_S = 300.0  # importing torch on a machine that is busy with something else
STOP_S = 300.0


@dataclass(frozen=True)
class ApiServer:
    process: subprocess.Popen[bytes]
    url: str
    log: Path

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1])

    def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Send the signal and wait until it is gone."""
        self.process.send_signal(how)
        self.process.wait(timeout=STOP_S)

    def client(self) -> httpx.Client:
        return httpx.Client(base_url=self.url, timeout=300, trust_env=False)


@contextmanager
def api_server(folder: Path, artifact: Path | None = None, **settings: object) -> Iterator[ApiServer]:
    """Serve on a free port of loopback; the log of predictions lies in ``folder``. ``settings`` as in ``Settings``."""
    log = folder / "server.log"
    command = [sys.executable, "-m", "core", "serve", "--port", "0"]
    command += ["--artifact", str(artifact)] if artifact else []
    with log.open("wb") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=environment(folder, settings), stdout=out, stderr=out)
    try:
        yield ApiServer(process, _address(process, log), log)
    finally:
        process.kill()
        process.wait(timeout=STOP_S)


def environment(folder: Path, settings: Mapping[str, object]) -> dict[str, str]:
    """This process's, without its own settings of Earshot."""
    own = {name: value for name, value in os.environ.items() if not name.startswith("EARSHOT_")}
    given = {"database_url": f"sqlite:///{folder / 'log.sqlite3'}"} | dict(settings)
    return own | {"OMP_NUM_THREADS": "1"} | {f"EARSHOT_{name.upper()}": str(value) for name, value in given.items()}


def _address(process: subprocess.Popen[bytes], log: Path) -> str:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        if found := re.search(r"running on (http://[\d.]+:\d+)", log.read_text(errors="replace")):
            return found.group(1)
        time.sleep(0.05)
    raise RuntimeError(f"The API did not start within {START_S:g} s:\n{log.read_text(errors='replace')}")
