"""A run folder: what was asked, how far it is, and what came out.

    runs/<id>/   config.json  status.json  metrics.json  oof.parquet  artifact/  checkpoints/last.ckpt  events.out.*

Every file is written beside its final name and renamed, so a reader never sees half of one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import pandas as pd
import pyarrow as pa
from pydantic import Field, ValidationError

from core import __version__
from core.config import Frozen, TrainConfig
from core.dataset import Dataset
from core.errors import RunError
from core.parquet import write_parquet
from core.record_files import write_records

State = Literal["running", "finished", "failed"]
JOB_FILE, JOB_LOG = "job.json", "job.log"  # of a run that somebody queued: there before the run begins


class RunConfig(Frozen):
    """What was asked. ``fold`` is the held-out fold; ``None`` trains on every clip.

    ``class_names`` are what the network tells apart; clips of the classes ``left_out`` take no part in training.
    """

    run_id: str
    dataset: str
    dataset_hash: str
    class_names: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    fold: int | None
    train: TrainConfig
    init: Path | None = Field(None, description="artifact whose weights it starts with")
    started_from: str | None = Field(None, description="its fingerprint")
    code_version: str


class RunStatus(Frozen):
    """How far it is. ``heartbeat`` is the time of writing, UTC."""

    state: State
    epoch: int
    epochs: int
    heartbeat: datetime
    metrics: dict[str, float] = Field(default_factory=dict)
    message: str = ""


class RunFolder:
    """The files of one run under ``path``."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def members(self) -> list[RunFolder]:
        """The runs of a cross-validation, by name."""
        found = sorted((self.path / "members").glob("*/config.json"))
        if not found:
            raise RunError(
                f"Expected a cross-validation with members/ in {self.path}, found none. Give its run folder.",
                code="no_run",
            )
        return [RunFolder(path.parent) for path in found]

    @property
    def checkpoint(self) -> Path:
        return self.path / "checkpoints" / "last.ckpt"

    @property
    def artifact(self) -> Path:
        return self.path / "artifact"

    @property
    def oof(self) -> Path:
        return self.path / "oof.parquet"

    def begin(self, config: Frozen, *, may_grow: Sequence[str] = ()) -> None:
        """Create the folder, or take up an interrupted run of exactly the same configuration.

        Lists named in ``may_grow`` may have got more items at their end since.
        """
        try:
            if self.path.exists() and any(map(_is_of_a_run, self.path.iterdir())):
                self.refuse_other(config, may_grow)
            self.path.mkdir(parents=True, exist_ok=True)
            write_text(self.path / "config.json", config.model_dump_json(indent=2))
        except OSError as exc:
            raise _refused_by_the_disk(self.path, exc) from exc

    def config(self) -> RunConfig:
        return RunConfig.model_validate_json(self._read("config.json"))

    def class_names(self) -> tuple[str, ...]:
        """In the order of the logits, of a single run and of a cross-validation alike."""
        names = self._json("config.json").get("class_names")
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise _damaged(self.path / "config.json", "it names no classes")
        return tuple(names)

    def status(self) -> RunStatus:
        return RunStatus.model_validate_json(self._read("status.json"))

    def status_if_any(self) -> RunStatus | None:
        """``status``; None before the run said anything, or where what it said cannot be read."""
        try:
            return self.status()
        except (RunError, ValueError):  # pydantic's errors are ValueErrors
            return None

    def metrics(self) -> dict[str, Any]:
        return self._json("metrics.json")

    def finished(self) -> bool:
        return (self.path / "status.json").exists() and self.status().state == "finished"

    @property
    def robustness(self) -> Path:
        return self.path / "robustness.parquet"

    @property
    def unknown(self) -> Path:
        return self.path / "unknown.parquet"

    def records(self) -> pd.DataFrame:
        """The out-of-fold records: one row a clip and seed."""
        return pd.read_parquet(self.oof)

    @contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the folder for one writer; the kernel lets go when the process ends, however it ends."""
        with (self.path / ".lock").open("a") as handle:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                raise RunError(
                    f"Expected {self.path} to be free, but another process is writing to it. Wait for it or end it.",
                    code="run_in_use",
                ) from exc
            yield

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Mark the run failed where what is done within fails. Raises ``RunError`` for what the disk refuses."""
        try:
            yield
        except OSError as exc:
            self.mark_failed(exc)
            raise _refused_by_the_disk(self.path, exc) from exc
        except BaseException as exc:
            self.mark_failed(exc)
            raise

    def write_status(
        self, state: State, epoch: int, epochs: int, metrics: dict[str, float] | None = None, message: str = ""
    ) -> None:
        status = RunStatus(
            state=state, epoch=epoch, epochs=epochs, heartbeat=datetime.now(UTC), metrics=metrics or {}, message=message
        )
        write_text(self.path / "status.json", status.model_dump_json(indent=2))

    def mark_failed(self, error: BaseException) -> None:
        """Say in ``status.json`` why the run stopped; a disk too full even for that is not a second error."""
        with contextlib.suppress(OSError, RunError):
            status = self.status()
            self.write_status("failed", status.epoch, status.epochs, status.metrics, f"{type(error).__name__}: {error}")

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        write_text(self.path / "metrics.json", json.dumps(metrics, indent=2, sort_keys=True))

    def write_oof(self, records: pd.DataFrame) -> None:
        write_atomically(self.oof, lambda part: write_records(part, records, self.class_names()))

    def refuse_other(self, config: Frozen, may_grow: Sequence[str]) -> None:
        """Raise ``RunError`` where this run is not of ``config``, but for more items of what ``may_grow``."""
        existing, asked = json.loads(self._read("config.json")), config.model_dump(mode="json")
        for name in may_grow:
            asked[name] = asked[name][: len(existing.get(name, []))]
        changed = [name for name in sorted(existing.keys() | asked.keys()) if existing.get(name) != asked.get(name)]
        if changed:
            raise RunError(
                f"Expected {self.path} to hold a run of the same configuration, but {', '.join(changed)} differ. "
                "Choose another --out or --run-id, or repeat the command that started it.",
                code="other_run",
            )

    def _json(self, name: str) -> dict[str, Any]:
        try:
            content = json.loads(self._read(name))
        except ValueError as exc:
            raise _damaged(self.path / name, str(exc)) from exc
        if not isinstance(content, dict):
            raise _damaged(self.path / name, "it is no object")
        return content

    def _read(self, name: str) -> str:
        try:
            return (self.path / name).read_text(encoding="utf-8")
        except OSError as exc:
            raise RunError(
                f"Expected a run folder with {name}, found none at {self.path}. Give the path of a training run.",
                code="no_run",
            ) from exc


def origin_of(dataset: Dataset) -> dict[str, Any]:
    """What a run's configuration says of its dataset and of this release."""
    return {
        "dataset": dataset.name,
        "dataset_hash": dataset.content_hash,
        "class_names": dataset.class_names,
        "code_version": __version__,
    }


def fold_named(text: str, folds: Sequence[int]) -> int | None:
    """``"1"`` → 1; ``"all"``, nothing held out, → None. Raises ``RunError`` for a fold that does not exist."""
    if text == "all":
        return None
    if not text.isdigit() or int(text) not in folds:
        raise RunError(
            f"Expected one of the folds {', '.join(map(str, folds))} or 'all', got {text!r}.", code="no_such_fold"
        )
    return int(text)


def train_config(changes: Sequence[str], **given: Any) -> TrainConfig:
    """``TrainConfig`` with dotted ``name=value`` changes; values are JSON where they parse as JSON."""
    values = TrainConfig().model_dump() | given
    for change in changes:
        name, sign, text = change.partition("=")
        *path, last = name.split(".")
        place: Any = values
        for part in path:
            place = place.get(part) if isinstance(place, dict) else None
        if not sign or not isinstance(place, dict) or last not in place:
            raise RunError(
                f"Expected --set NAME=VALUE with the name of a training setting, got {change!r}.", code="bad_setting"
            )
        place[last] = _value(text)
    try:
        return TrainConfig.model_validate(values)
    except ValidationError as exc:
        first = exc.errors()[0]
        raise RunError(
            f"{'.'.join(map(str, first['loc']))}: {first['msg']}, got {first['input']!r}.", code="bad_setting"
        ) from exc


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def _is_of_a_run(entry: Path) -> bool:
    """Not of the job that asked for it, nor a lock or what a killed writer left."""
    return entry.name not in (JOB_FILE, JOB_LOG) and not entry.name.startswith(".")


def _refused_by_the_disk(folder: Path, exc: OSError) -> RunError:
    return RunError(
        f"{folder} could not be written: {exc}. Free space, then go on with the same run: what is finished stays.",
        code="disk",
    )


def _damaged(file: Path, why: str) -> RunError:
    return RunError(
        f"Expected {file} as a training run writes it, but {why}. Restore it or give another run.", code="damaged_run"
    )


def networks(folder: Path) -> dict[tuple[int | None, int], Path]:
    """(held-out fold, seed) → artifact, of every network of a run that told apart all of its classes.

    A cross-validation has one for each fold and seed in ``members/``, as long as they are kept; a single training has
    itself. The fold of a network that heard every clip is ``None``.
    """
    found = {}
    for config in sorted([folder / "config.json", *(folder / "members").glob("*/config.json")]):
        run = RunFolder(config.parent)
        with contextlib.suppress(ValueError, RunError):  # of a cross-validation, or of another release
            asked = run.config()
            if not asked.left_out and (run.artifact / "artifact.json").is_file():
                found[asked.fold, asked.train.seed] = run.artifact
    return found


def new_run_id(name: str) -> str:
    """``<UTC time>-<name>``: sorts by start."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{name}"


def run_at(folder: Path, run_id: str) -> RunFolder:
    """The run called ``run_id`` in ``folder``. Raises ``RunError`` for a name that leads elsewhere."""
    if not run_id or run_id.startswith(".") or set(run_id) & set("/\\\0"):
        raise RunError(
            f"Expected the name of a run, such as mine or fold-1, got {run_id!r}. Give its folder as --out.",
            code="bad_setting",
        )
    return RunFolder(folder / run_id)


def write_text(path: Path, text: str) -> None:
    write_atomically(path, lambda part: part.write_text(text + "\n", encoding="utf-8"))


def write_table(path: Path, table: pd.DataFrame) -> None:
    columns = pa.Table.from_pandas(table, preserve_index=False)
    write_atomically(path, lambda part: write_parquet(part, columns))


def write_atomically(path: Path, write: Callable[[Path], Any]) -> None:
    """Have ``write`` fill a temporary file, then rename it to ``path``. A failure leaves ``path`` as it was."""
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    part = Path(name)
    try:
        write(part)
        part.chmod(0o644)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
