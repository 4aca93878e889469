"""The other side: a training function in a container, with the volume mounted as a folder."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from core.dataset import Dataset, load_dataset
from core.errors import DatasetError, EarshotError, RunError
from core.remote.cloud import CANCELLED, DATASETS, STARTS
from core.training.runs import JOB_LOG, RunFolder

log = logging.getLogger(__name__)


def dataset_on(volume: Path, key: str) -> Dataset:
    """The dataset ``HASH/NAME`` of the volume, or ``NAME`` where only one is called so, or the only one."""
    found = {f"{path.parent.name}/{path.name}": path for path in sorted((volume / DATASETS).glob("*/*"))}
    chosen = [path for name, path in found.items() if key in ("", name, path.name)]
    if len(chosen) != 1:
        raise DatasetError(
            f"Expected one dataset {key or 'on the Volume'}, found {', '.join(found) or 'none'}. Upload it with "
            "'python modal_backend.py upload DIR', or name one with --dataset.",
            code="no_dataset",
        )
    return load_dataset(chosen[0])


def start_on(volume: Path, key: str) -> Path | None:
    """The model to start from, as ``upload`` printed its key; None for no key."""
    if not key:
        return None
    folder = volume / STARTS / Path(key).name
    if not (folder / "artifact" / "artifact.json").is_file():
        raise RunError(
            f"Expected a model to start from, {key!r}, on the Volume, found none. Upload it with "
            "'python modal_backend.py upload MODEL'.",
            code="no_start",
        )
    return folder


def check_wanted(run: Path, of_call: str) -> None:
    """Raise ``RunError`` where the call that asked for a part of ``run`` was cancelled."""
    if of_call and text_of(run / CANCELLED) == of_call:
        raise RunError(f"The cross-validation {run.name} was cancelled.", code="cancelled")


def changes_in(settings: str) -> list[str]:
    """NAME=VALUE, one a line or, typed on a command line, separated by spaces."""
    return settings.splitlines() if "\n" in settings else settings.split()


def text_of(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


@contextmanager
def outcome_of(run: RunFolder, commit: Callable[[], None]) -> Iterator[dict[str, str]]:
    """What a training function returns: the run's name and, if it failed on purpose, the error.

    Meanwhile log lines go to the container's log and into the run folder; at the end the folder is committed.
    """
    outcome = {"run": run.path.name}
    run.path.mkdir(parents=True, exist_ok=True)
    to_file = logging.FileHandler(run.path / JOB_LOG, encoding="utf-8")
    root = logging.getLogger()
    handlers: tuple[logging.Handler, ...] = (to_file, logging.StreamHandler(sys.stderr))
    root.setLevel(logging.INFO)
    for handler in handlers:
        root.addHandler(handler)
    try:
        yield outcome
    except EarshotError as exc:
        log.error("error [%s]: %s", exc.code, exc)
        outcome |= {"error": exc.code, "message": str(exc)}
    finally:
        for handler in handlers:
            root.removeHandler(handler)
        to_file.close()
        commit()
