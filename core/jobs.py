"""Training jobs: what was asked, the state of each, what it said and how far it is.

A job is a run folder with two more files, so its state survives every process: ``job.json`` (what was asked, the state,
which process) and ``job.log`` (what the process said). ``core.local_jobs`` runs them here, ``core.remote`` on Modal.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field

from core.config import AugmentConfig, Frozen, Positive, TrainConfig
from core.errors import RunError
from core.processes import Process
from core.training.runs import JOB_FILE, JOB_LOG, RunFolder, RunStatus, new_run_id, train_config, write_text

JobState = Literal["queued", "running", "finished", "failed", "cancelled", "dead"]
Where = Literal["local", "modal"]
Evaluation = Literal["fold", "crossval"]
Augmentation = Literal["full", "mild", "off"]
ACTIVE: tuple[JobState, ...] = ("queued", "running")
RESUMABLE: tuple[JobState, ...] = ("failed", "cancelled", "dead")
LOG_TAIL_BYTES, LOG_TAIL_LINES = 16_384, 40
_SWITCHES = tuple(f"augment.{name}=0" for name in AugmentConfig.model_fields if name.endswith("_p"))
_NO_MASKS = ("augment.time_masks=0", "augment.frequency_masks=0")
AUGMENTATIONS: dict[Augmentation, tuple[str, ...]] = {
    "full": (),
    "mild": ("augment.reverb_p=0", "augment.overdrive_p=0", "augment.noise_p=0.2", "augment.low_pass_p=0.1"),
    "off": (*_SWITCHES, *_NO_MASKS, "augment.stretch=1", "augment.gain_db=0", "augment.crop_spread=1"),
}


class TrainingRequest(Frozen):
    """What to train, and where. ``fold`` and ``seed`` are for one fold, ``seeds`` for a cross-validation."""

    where: Where = "local"
    protocol: Evaluation = "fold"
    dataset: Path = Field(description="folder in ESC-50's layout")
    fold: int | None = Field(1, description="held-out fold; None trains on every clip")
    seed: Annotated[int, Field(ge=0)] = 0
    seeds: Positive = Field(1, description="how many networks a fold: 0, 1, 2, …")
    epochs: Positive = TrainConfig().epochs
    learning_rate: float = Field(TrainConfig().learning_rate, gt=0)
    augmentation: Augmentation = "full"
    init: Path | None = Field(None, description="artifact, or cross-validation, whose weights training starts from")
    changes: tuple[str, ...] = Field((), description="any other training settings, NAME=VALUE")

    @property
    def settings(self) -> tuple[str, ...]:
        """Everything that differs from the defaults, as ``--set`` takes it."""
        return (f"learning_rate={self.learning_rate:g}", *AUGMENTATIONS[self.augmentation], *self.changes)

    def train_config(self) -> TrainConfig:
        """Raises ``RunError`` for a change of no setting."""
        return train_config(self.settings, epochs=self.epochs, seed=self.seed)

    @property
    def networks(self) -> int | None:
        """How many networks are trained, where the request alone says it."""
        return 1 if self.protocol == "fold" else None

    def command(self, run: Path) -> list[str]:
        """``python -m core`` and the arguments that train this into ``run``; the same again goes on with it."""
        common = ["--data", str(self.dataset), "--epochs", str(self.epochs)]
        common += ["--out", str(run.parent), "--run-id", run.name]
        if self.init is not None:
            common += ["--init", str(self.init)]
        common += [part for change in self.settings for part in ("--set", change)]
        if self.protocol == "crossval":
            return ["crossval", *common, "--seeds", str(self.seeds)]
        return ["train", *common, "--fold", "all" if self.fold is None else str(self.fold), "--seed", str(self.seed)]


class Job(Frozen):
    """One request and how far it came. ``run`` is its run folder, ``id`` the folder's name."""

    id: str
    request: TrainingRequest
    state: JobState
    asked_by: str = ""
    queued_at: datetime
    started_at: datetime | None = None
    ended_at: datetime | None = None
    epochs_before: int = Field(0, description="epochs that were done when it last started")
    log_start: int = Field(0, description="bytes of the log that were there when it last started")
    process: Process | None = Field(None, description="of a local job")
    call_id: str | None = Field(None, description="of a job on Modal")
    message: str = ""
    run: Path = Field(exclude=True)

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    @property
    def resumable(self) -> bool:
        return self.state in RESUMABLE


class Progress(Frozen):
    """How far a job is now. ``epoch`` of ``epochs`` counts over all its networks; ``eta_s`` needs one of them done."""

    job: Job
    epoch: int = 0
    epochs: int
    stage: str = ""
    eta_s: float | None = None
    metrics: dict[str, float] = Field(default_factory=dict)
    heartbeat: datetime | None = None
    log: tuple[str, ...] = ()


class Trainer(Protocol):
    """Where training runs: this machine or Modal. Jobs are named by their ids. Errors are ``EarshotError``s."""

    def start_training(self, request: TrainingRequest, *, asked_by: str = "") -> Job: ...

    def jobs(self) -> list[Job]:
        """Every job of this trainer as it is now, the latest first."""
        ...

    def follow(self, job_id: str) -> Progress: ...

    def cancel(self, job_id: str) -> Job: ...

    def resume(self, job_id: str) -> Job:
        """Queue a failed, cancelled or dead job again: it goes on at its last finished epoch."""
        ...


def create_job(runs_dir: Path, request: TrainingRequest, *, asked_by: str = "") -> Job:
    """A queued job in a new run folder. Raises ``RunError`` for a request that cannot be run."""
    request.train_config()
    with _disk(runs_dir):
        runs_dir.mkdir(parents=True, exist_ok=True)
        run = _new_folder(runs_dir, _named(request))
        job = Job(id=run.name, request=request, state="queued", asked_by=asked_by, queued_at=now(), run=run)
        with job_files(runs_dir):
            return save_job(job)


def read_job(run: Path) -> Job:
    """Raises ``RunError`` where ``run`` is no job's folder."""
    try:
        text = (run / JOB_FILE).read_text(encoding="utf-8")
    except OSError as exc:
        raise RunError(f"Expected a training job, found none named {run.name}.", code="no_job") from exc
    try:
        return Job.model_validate(json.loads(text) | {"run": run, "id": run.name})
    except (ValueError, TypeError) as exc:
        raise RunError(
            f"{run / JOB_FILE} was written by another version of Earshot or altered. Remove the folder.",
            code="unreadable_job",
        ) from exc


def jobs_in(runs_dir: Path, where: Where | None = None) -> list[Job]:
    """Every job that can be read, the latest first."""
    found = []
    for file in runs_dir.glob(f"*/{JOB_FILE}"):
        with contextlib.suppress(RunError):
            found.append(read_job(file.parent))
    chosen = [job for job in found if where in (None, job.request.where)]
    return sorted(chosen, key=lambda job: job.queued_at, reverse=True)


def save_job(job: Job, **changes: Any) -> Job:
    """Write ``job`` with ``changes``; hold ``job_files`` from reading to saving."""
    changed = job.model_copy(update=changes)
    write_text(job.run / JOB_FILE, changed.model_dump_json(indent=2))
    return changed


@contextmanager
def job_files(runs_dir: Path) -> Iterator[None]:
    """The right to change job files: one process at a time, for moments."""
    with (runs_dir / ".jobs").open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def progress_of(job: Job, *, log: Sequence[str] = ()) -> Progress:
    """What the run folder says of ``job``: a single run's epochs, or those of all members of a cross-validation."""
    epoch, epochs, stage, latest = epochs_done(job)
    epoch = max(epoch, job.epochs_before)  # a run that goes on counts from 0 until its checkpoint is read
    return Progress(
        job=job,
        epoch=epoch,
        epochs=epochs,
        stage=stage,
        eta_s=_remaining_s(job, epoch, epochs),
        metrics=latest.metrics if latest else {},
        heartbeat=latest.heartbeat if latest else None,
        log=tuple(log),
    )


def log_tail(run: Path, *, since: int = 0) -> tuple[str, ...]:
    """The last lines of what the job's process said, from byte ``since`` on."""
    try:
        with (run / JOB_LOG).open("rb") as file:
            file.seek(max(since, file.seek(0, os.SEEK_END) - LOG_TAIL_BYTES))
            text = file.read().decode("utf-8", errors="replace")
    except OSError:
        return ()
    return tuple(text.splitlines()[-LOG_TAIL_LINES:])


def ended_state(job: Job) -> tuple[JobState, str]:
    """How a job whose process is gone ended, by what it left behind, and what to say of it."""
    status = RunFolder(job.run).status_if_any()
    if status is not None and status.state == "finished":
        return "finished", ""
    lines = log_tail(job.run, since=job.log_start)
    told = [line for line in lines if line.startswith("error [")]
    if told:
        return "failed", told[-1].partition("]: ")[2]
    if any(line.startswith("Traceback ") for line in lines):
        return "failed", lines[-1]
    if (
        status is not None
        and status.state == "failed"
        and (job.started_at is None or status.heartbeat > job.started_at)
    ):
        return "failed", status.message
    reached = "before its first epoch" if status is None else f"after epoch {status.epoch} of {status.epochs}"
    return "dead", f"Its process ended without a word, {reached}: killed, out of memory, or the machine restarted."


def _named(request: TrainingRequest) -> str:
    kind = "tuned-" if request.init is not None else ""
    if request.protocol == "crossval":
        return f"{kind}crossval"
    return f"{kind}fold-{'all' if request.fold is None else request.fold}-seed-{request.seed}"


def _new_folder(runs_dir: Path, name: str) -> Path:
    """A folder that nobody else got, even in the same second."""
    stem = new_run_id(name)
    for number in range(1, 1000):
        run = runs_dir / (stem if number == 1 else f"{stem}-{number}")
        with contextlib.suppress(FileExistsError):
            run.mkdir()
            return run
    raise RunError(
        f"Expected a free name for a run in {runs_dir}, {stem} is taken a thousand times.", code="run_in_use"
    )


def epochs_done(job: Job) -> tuple[int, int, str, RunStatus | None]:
    """Epochs done, epochs in all, which network, and the status of that network."""
    status = RunFolder(job.run).status_if_any()
    if job.request.protocol == "fold":
        return (status.epoch if status else 0), job.request.epochs, "", status
    members = [RunFolder(file.parent) for file in job.run.glob("members/*/status.json")]
    told = {member.path.name: said for member in members if (said := member.status_if_any()) is not None}
    if status is None or not told:
        return 0, job.request.epochs * (status.epochs if status else 1), "", status
    epochs = status.epochs * job.request.epochs
    done = epochs if status.state == "finished" else sum(member.epoch for member in told.values())
    name, latest = max(told.items(), key=lambda item: item[1].heartbeat)
    finished = sum(member.state == "finished" for member in told.values())
    stage = f"{name}, {finished} of {status.epochs} networks done"
    return min(done, epochs), epochs, stage, latest


def _remaining_s(job: Job, epoch: int, epochs: int) -> float | None:
    """By the mean time of an epoch since the job last started."""
    done = epoch - job.epochs_before
    if job.state != "running" or job.started_at is None or done <= 0:
        return None
    return (now() - job.started_at).total_seconds() / done * (epochs - epoch)


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RunError(
            f"Expected to write into {folder}, got {exc.strerror or exc}. Free space, or set EARSHOT_RUNS_DIR.",
            code="disk",
        ) from exc


def now() -> datetime:
    """UTC."""
    return datetime.now(UTC)
