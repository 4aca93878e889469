"""The model that answers: another one takes its place while the server runs, as soon as it is promoted.

It is loaded beside the one that answers, with its hashes and its probe, and put in its place at once; requests that
have begun end with the model they began with. One that is not fit changes nothing: that is logged, and ``/readyz`` says
so.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path

from core.artifact import read_manifest
from core.backend import Backend
from core.config import SHIPPED_ARTIFACT, promoted_artifact
from core.errors import EarshotError

log = logging.getLogger(__name__)

LOOK_EVERY_S = 2.0  # at the pointer, a file of a few lines
AGAIN_S = 60.0  # until a model that was refused is tried once more
UNFIT = (
    "The model that was promoted last is not fit to serve, so the one before it still answers. "
    "The server's log says why."
)


class Answering:
    """``backend`` answers now. Whoever answers a request takes it once: it may be another one the next moment."""

    def __init__(self, backend: Backend) -> None:
        self.backend, self.problem = backend, ""
        self._told = ""  # the last error, logged once
        self._follow: tuple[Path, Callable[[Path], Backend]] | None = None
        self._tried: tuple[object, ...] = ()  # the files of the promoted model when it was last taken or refused
        self._again_at = 0.0  # when one that was refused is tried once more: the reason may have passed

    def follow(self, runs_dir: Path, make: Callable[[Path], Backend]) -> None:
        """From now on ``look`` looks for promotions under ``runs_dir``; ``make`` gives the backend over an artifact."""
        self._follow = (runs_dir, make)

    def look(self) -> None:
        """Take the promoted model, if it is another one. Never raises: ``problem`` says what is wrong."""
        if self._follow is None:
            return
        try:
            self._take(*self._follow)
        except Exception as exc:
            if str(exc) != self._told:
                known = isinstance(exc, (EarshotError, OSError))
                said = "the promoted model is not fit to serve, the one before it still answers: %s"
                log.error(said, exc, exc_info=not known)
            self.problem, self._told = UNFIT, str(exc)

    def _take(self, runs_dir: Path, make: Callable[[Path], Backend]) -> None:
        artifact = promoted_artifact(runs_dir) or SHIPPED_ARTIFACT
        stamp = (artifact, *(file.stat().st_mtime_ns for file in sorted(artifact.glob("*"))))
        if stamp == self._tried and not (self.problem and time.monotonic() >= self._again_at):
            return
        self._tried, self._again_at = stamp, time.monotonic() + AGAIN_S
        if read_manifest(artifact).fingerprint != self.backend.manifest.fingerprint:
            before, self.backend = self.backend, make(artifact)
            told = (self.backend.manifest.fingerprint[:12], before.manifest.fingerprint[:12])
            log.info("the model %s answers from now on, %s no more", *told)
        self.problem = self._told = ""

    async def watch(self) -> None:
        """Look now and then, until cancelled."""
        while self._follow is not None:
            await asyncio.to_thread(self.look)
            await asyncio.sleep(LOOK_EVERY_S)
