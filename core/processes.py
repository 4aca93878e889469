"""Processes of this machine that outlive whoever started them: told apart, looked for, ended with all they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

from core.config import Frozen
from core.errors import RunError

END_S = 15.0  # from being asked to end until being killed


class Process(Frozen):
    """A process, told from a later one with the same id by when it started (in the kernel's own words)."""

    pid: int
    started: str

    @classmethod
    def of(cls, pid: int) -> Process:
        """The process that has this id now, if any has."""
        return cls(pid=pid, started=_started(pid) or "")


def alive(process: Process) -> bool:
    """Whether this very process runs: its id may belong to another one by now."""
    return process.started != "" and _started(process.pid) == process.started


def end_group(process: Process) -> None:
    """Ask the process and all it started to end, wait, then kill who is left.

    What it started counts after it, too: as long as one of the group lives, no other can have its number. Raises
    ``RunError`` where some cannot be ended.
    """
    if not alive(process):
        return
    for sent, patience_s in ((signal.SIGTERM, END_S), (signal.SIGKILL, END_S)):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, sent)
        deadline = time.monotonic() + patience_s
        while (left := members(process.pid)) and time.monotonic() < deadline:
            time.sleep(0.05)
        if not left:
            return
    raise RunError(
        f"Expected all processes of the job to end, {', '.join(map(str, left))} did not. End them by hand.",
        code="not_ended",
    )


def members(group: int) -> list[int]:
    """The living processes of a group; those of which only the exit status is left do not count."""
    if not Path("/proc/self/stat").exists():
        told = subprocess.run(["ps", "-A", "-o", "pid=,pgid=,stat="], capture_output=True, text=True, check=False)
        rows = [line.split() for line in told.stdout.splitlines()]
        return [int(pid) for pid, of, state in rows if int(of) == group and state[0] != "Z"]
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended meanwhile
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
            if int(fields[2]) == group and fields[0] not in "ZX":
                found.append(int(stat.parent.name))
    return sorted(found)


def _started(pid: int) -> str | None:
    """When the process started; None where there is none or only its exit status is left."""
    stat = Path(f"/proc/{pid}/stat")
    if Path("/proc/self/stat").exists():
        try:
            fields = stat.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
        except OSError:
            return None
        return None if fields[0] in "ZX" else f"{fields[19]}@{_boot()}"
    told = subprocess.run(["ps", "-o", "stat=,lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
    state, _, started = told.stdout.strip().partition(" ")
    return None if not started or state.startswith("Z") else started.strip()


def _boot() -> str:
    """Which run of the kernel: ticks since boot mean nothing after a restart."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
    except OSError:
        return ""
