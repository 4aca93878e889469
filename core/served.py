"""Which model answers, and how another one takes its place.

    runs/served/<fingerprint>/    copies of promoted artifacts, never changed again
    runs/served/current.json      the promotions, oldest first; the last one serves, without any the shipped model does

The pointer is replaced by renaming, so whoever reads it gets the old model or the new one. ``Settings`` resolves it:
the app, the API and the commands all ask ``Settings.load().artifact``, and an explicit ``EARSHOT_ARTIFACT`` wins.
"""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from pydantic import ValidationError

from core.artifact import Manifest, load_artifact
from core.config import SERVED, SERVED_POINTER, SHIPPED_ARTIFACT, Frozen, Settings
from core.errors import RunError
from core.training.runs import write_text


class Promotion(Frozen):
    """One model that was put to serve. ``run``: the run folder it came from."""

    fingerprint: str
    run: str
    at: datetime
    by: str


class Served(Frozen):
    """Every promotion that was not taken back, oldest first."""

    promotions: tuple[Promotion, ...] = ()

    @property
    def current(self) -> Promotion | None:
        """None: the shipped model serves."""
        return self.promotions[-1] if self.promotions else None

    @property
    def previous(self) -> Promotion | None:
        """What a roll-back would serve; None: the shipped model."""
        return self.promotions[-2] if len(self.promotions) > 1 else None


def served(runs_dir: Path) -> Served:
    """Raises ``RunError`` for a pointer that cannot be read."""
    pointer = runs_dir / SERVED_POINTER
    try:
        return Served.model_validate_json(pointer.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return Served()
    except (OSError, ValidationError) as exc:
        raise RunError(
            f"Expected {pointer} to say which model serves, it cannot be read. Remove it to serve the shipped model.",
            code="unreadable_pointer",
        ) from exc


def promote(run: Path, runs_dir: Path, *, by: str) -> Manifest:
    """Serve the artifact of ``run`` from now on, once its copy has been loaded and its probe replayed.

    Raises ``ArtifactError`` for one that is not fit to serve; then nothing has changed.
    """
    manifest = load_artifact(run / "artifact").manifest
    folder = runs_dir / SERVED / manifest.fingerprint
    with _changing(runs_dir):
        if not folder.exists():
            _copy(run / "artifact", folder)
        load_artifact(folder)
        now = served(runs_dir)
        if now.current is None or now.current.fingerprint != manifest.fingerprint:
            promotion = Promotion(fingerprint=manifest.fingerprint, run=run.name, at=datetime.now(UTC), by=by)
            _write(runs_dir, Served(promotions=(*now.promotions, promotion)))
    return manifest


def roll_back(runs_dir: Path) -> Manifest:
    """Serve what served before the last promotion, once it has been loaded and its probe replayed.

    Raises ``RunError`` where nothing was promoted, ``ArtifactError`` where the earlier model is not fit any more.
    """
    with _changing(runs_dir):
        now = served(runs_dir)
        if now.current is None:
            raise RunError(
                "Expected a promoted model to take back, but the shipped model serves.", code="nothing_promoted"
            )
        before = now.previous
        folder = SHIPPED_ARTIFACT if before is None else runs_dir / SERVED / before.fingerprint
        manifest = load_artifact(folder).manifest
        _write(runs_dir, Served(promotions=now.promotions[:-1]))
    return manifest


def starting_point(settings: Settings) -> Path:
    """What training goes on from: the run that serves, with the networks of its folds, else the artifact that does."""
    current = None if settings.artifact_is_set else served(settings.runs_dir).current
    run = settings.runs_dir / current.run if current else None
    if run is not None and (run / "members").is_dir() and (run / "artifact").is_dir():
        return run
    return settings.artifact


def _copy(artifact: Path, folder: Path) -> None:
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".part.") as part:
        shutil.copytree(artifact, Path(part) / "artifact")
        (Path(part) / "artifact").rename(folder)


def _write(runs_dir: Path, state: Served) -> None:
    write_text(runs_dir / SERVED_POINTER, state.model_dump_json(indent=2))


@contextmanager
def _changing(runs_dir: Path) -> Iterator[None]:
    """One change of the served model at a time; a disk that cannot be written is told as our own error."""
    try:
        (runs_dir / SERVED).mkdir(parents=True, exist_ok=True)
        with (runs_dir / SERVED / ".lock").open("a") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield
    except OSError as exc:
        raise RunError(
            f"Expected to write into {runs_dir / SERVED}, got {exc.strerror or exc}. Free space or correct its "
            "permissions. The served model is as it was.",
            code="disk",
        ) from exc
