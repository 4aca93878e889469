"""A PostgreSQL of our own from the system's packages: one cluster in a temporary folder, on a socket there, no port."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

START_S = 120


def programs() -> Path | None:
    """The folder of ``initdb`` and ``pg_ctl``, the newest first; ``None`` where PostgreSQL is not installed."""
    debian = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda folder: float(folder.parent.name))
    named = shutil.which("initdb")
    found = [folder for folder in reversed(debian) if (folder / "initdb").is_file()]
    return found[0] if found else Path(named).resolve().parent if named else None


@dataclass(frozen=True)
class Cluster:
    """A running server, which may be stopped and started again."""

    programs: Path
    folder: Path

    def url(self, schema: str = "public") -> str:
        """What ``EARSHOT_DATABASE_URL`` wants; a ``schema`` of its own is a database of its own to us."""
        options = quote(f"-csearch_path={schema}", safe="")
        return f"postgresql+psycopg://earshot@/postgres?host={quote(str(self.folder), safe='')}&options={options}"

    def start(self) -> None:
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder}"
        self._run("pg_ctl", "start", "-w", "-t", str(START_S), "-l", str(self.folder / "log"), "-o", options)

    def stop(self) -> None:
        """At once, as a power cut does."""
        self._run("pg_ctl", "stop", "-w", "-m", "immediate")

    def create(self) -> None:
        self._run("initdb", "-U", "earshot", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")

    def _run(self, program: str, *arguments: str) -> None:
        command = [str(self.programs / program), "-D", str(self.folder / "data"), *arguments]
        # PostgreSQL refuses to run as root, and its packages bring a user of their own
        user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        done = subprocess.run(
            command, cwd=self.folder, stdin=subprocess.DEVNULL, capture_output=program == "initdb", check=False, **user
        )  # fmt: skip
        assert done.returncode == 0, f"{command} ended with {done.returncode}: {done.stderr!r}"


@contextmanager
def cluster(found: Path) -> Iterator[Cluster]:
    """Created, started, and gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="earshot-pg-"))  # pytest's folders are too long a name for a socket
    try:
        if os.getuid() == 0:
            shutil.chown(folder, "postgres", "postgres")
        server = Cluster(found, folder)
        server.create()
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
