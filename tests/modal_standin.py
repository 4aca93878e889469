"""Modal on the loopback: the real client and Modal's real container entrypoint, a stand-in for their servers.

It lies beside the repository, in ``shared/tools``. Without it the tests that need it are skipped, in CI they fail.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.image_python import image_python

ROOT = Path(__file__).resolve().parents[1]
STAND_IN = ROOT.parent / "shared" / "tools" / "localmodal.py"
API_KEY, PROXY = "a key that callers send", ("wk-proxy", "ws-proxy")
PATIENCE_S = 900.0  # of one wait, on the busiest machine


def _module() -> ModuleType:
    if not STAND_IN.is_file():
        reason = f"needs the stand-in for Modal's servers, {STAND_IN}"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    spec = importlib.util.spec_from_file_location("localmodal", STAND_IN)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    vars(module)["sync_tree"] = newer_files
    return module


def newer_files(source: Path, target: Path) -> None:
    """Copy what is newer, whole. As on Modal, a commit of one container takes back no file that another one wrote."""
    target.mkdir(parents=True, exist_ok=True)
    for path in sorted(source.rglob("*")):
        copy = target / path.relative_to(source)
        with contextlib.suppress(FileNotFoundError):  # a temporary file, renamed meanwhile
            if path.is_dir():
                copy.mkdir(exist_ok=True)
            elif not copy.exists() or copy.stat().st_mtime_ns < path.stat().st_mtime_ns:
                part = copy.with_name(f".{copy.name}.{time.monotonic_ns()}.tmp")
                shutil.copy2(path, part)
                part.replace(copy)


@contextmanager
def stand_in() -> Iterator[Any]:
    """The servers, with Earshot deployed on them by Modal's own command.

    Containers see no file of this checkout and no package that the image's requirements do not bring.
    """
    local_modal = _module().LocalModal
    with tempfile.TemporaryDirectory(prefix="image-") as folder:
        server = local_modal(
            secrets={"earshot": {"EARSHOT_API_KEY": API_KEY}},
            proxy_tokens=dict([PROXY]),
            hide=[str(ROOT / name) for name in ("core", "app", "pages", "tests")],
            container_python=str(image_python(Path(folder), ROOT / "requirements.txt")),
            container_env={"EARSHOT_COMMIT_EVERY_S": "0"},
            snapshots=True,
        )
        server.start()
        try:
            command(server, "-m", "modal", "deploy", "modal_backend.py")
            yield server
        finally:
            server.stop()


def command(server: Any, *arguments: str, **more: str) -> str:
    """What a command typed by a person prints; warnings are errors."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        cwd=ROOT,
        env=os.environ | server.env | more,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


@contextmanager
def environment(values: Mapping[str, str | None]) -> Iterator[None]:
    """These variables, and a client of Modal that has seen no others."""
    before = {name: os.environ.get(name) for name in values}
    _forget()
    _set(values)
    try:
        yield
    finally:
        _forget()
        _set(before)


def _forget() -> None:
    """Close the client that Modal keeps for the process, so that the next one is made from the variables then."""
    import modal
    from modal.client import _Client

    if _Client._client_from_env is not None:
        modal.Client.from_env().close()


def _set(values: Mapping[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


def until(condition: Callable[[], Any]) -> Any:
    """What ``condition`` gives once it gives something."""
    deadline = time.monotonic() + PATIENCE_S
    while time.monotonic() < deadline:
        if found := condition():
            return found
        time.sleep(0.1)
    raise AssertionError("it did not happen in time")


def containers(server: Any, function: str) -> list[Any]:
    """The live ones of a deployed function."""
    ids, _ = server.app_layouts[server.app_names["earshot"]]
    bound = {number for number, (base, *_) in server.bound.items() if base == ids[function]} | {ids[function]}
    return [task for task in server.tasks.values() if task.function_id in bound and not task.dead]


def kill(server: Any, task: Any) -> None:
    """As when a machine is lost."""
    server._kill(task)
    until(lambda: task.dead)


@contextmanager
def held(task: Any) -> Iterator[None]:
    """Inside, the container stops dead at the first thing it is given, as when its machine hangs."""

    def hold() -> None:
        until(lambda: task.running)
        os.killpg(task.proc.pid, signal.SIGSTOP)

    holder = threading.Thread(target=hold)
    holder.start()
    yield
    holder.join()


def preempt(server: Any, task: Any) -> None:
    """As Modal does: the container ends, and what it was at is given to another one."""

    async def requeue() -> None:
        for given in list(task.running.values()):
            task.running.pop(given.id)
            given.task = None
            if given.timer:
                given.timer.cancel()
            server.pending[given.call.function_id].append(given)
        server._kill(task)

    asyncio.run_coroutine_threadsafe(requeue(), server._loop).result(30)
    until(lambda: task.dead)
