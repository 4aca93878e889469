"""What the client needs of Modal: functions, their calls and a volume of files. ``modal_backend.OnModal`` is that."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from core.remote.failures import unreachable

T = TypeVar("T")

GPU = "A10"  # the name under which Modal now documents what it called A10G
INFERENCE, TRAIN, CROSS_VALIDATE = "Inference.answer", "train", "cross_validate"  # functions
DATASETS, RUNS, STARTS = "datasets", "runs", "starts"  # folders of the volume
CALLS = "calls.json"  # of a cross-validation's run: member → call
CANCELLED = "cancelled"  # beside it: the call that was cancelled last


@dataclass(frozen=True)
class Patience:
    """How long a person is kept waiting, in seconds, before being told why."""

    connect_s: float = 6.0  # until Modal says that it is there and Earshot deployed; its own client takes 57 s
    answer_s: float = 60.0  # a container that has to be started takes 10 to 40 s
    each_s: float = 1.0  # more for every sound after the first
    upload_s: float = 1_800.0
    pull_s: float = 300.0
    look_every_s: float = 3.0  # at a job in progress
    silent_s: float = 20.0  # after no answer, before asking again
    launch_s: float = 120.0  # after which a launch that was written down and never said to have worked did not


@dataclass(frozen=True)
class Load:
    """What a function is at: questions being answered, and containers."""

    running: int
    containers: int


@dataclass(frozen=True)
class RemoteFile:
    """A file of the volume. ``modified_s``: seconds since 1970."""

    path: str
    size: int
    modified_s: float


class Cloud(Protocol):
    """Every method raises ``BackendError`` for what Modal did not do, with one of the codes of ``failures``."""

    async def ready(self, function: str) -> None:
        """Raise where ``function`` cannot be called now."""
        ...

    async def spawn(self, function: str, *given: Any, **named: Any) -> str:
        """Call ``function``; the call's id. It goes on whatever becomes of this process."""
        ...

    async def result(self, call_id: str, *, timeout_s: float) -> Any:
        """Raises ``TimeoutError`` while the call goes on."""
        ...

    async def cancel(self, call_id: str) -> None:
        """End a call and its containers; nothing happens to one that has ended."""
        ...

    async def load(self, function: str) -> Load: ...

    async def files(self, folder: str) -> Sequence[RemoteFile] | None:
        """All below ``folder``; None where there is none."""
        ...

    async def read(self, path: str) -> bytes | None: ...

    async def put(self, files: Mapping[str, Path | bytes]) -> None:
        """Write all of ``files``, over what was there."""
        ...


def bounded(work: Coroutine[Any, Any, T], seconds: float, patience: Patience) -> T:
    """The result of ``work`` within ``seconds``; afterwards Modal counts as unreachable. Not within an event loop."""
    try:
        return asyncio.run(asyncio.wait_for(work, seconds))
    except TimeoutError:
        raise unreachable(max(seconds, patience.connect_s)) from None
