"""Training jobs: asked for, queued, run in processes of their own, followed, cancelled, taken up again.

A job is a run folder with two more files, so its state survives every process: ``job.json`` (what was asked, the state,
which process) and ``job.log`` (what the process said). A local job is the command anyone could type, ``python -m core
train …``, in its own session: it outlives the page and the server that asked for it.

One local job runs at a time, first come, first served. The turn is a kernel lock on ``runs/.turn``: a worker process
inherits it from whoever saw a queued job, its training process inherits it from the worker, and it is free again when
both have ended, however they ended. So two jobs never train at once, whoever is killed when.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any, Literal, Protocol

from pydantic import Field, ValidationError

from core.config import ROOT, AugmentConfig, Frozen, Positive, TrainConfig
from core.errors import RunError
from core.training.runs import JOB_FILE, JOB_LOG, RunFolder, RunStatus, new_run_id, train_config, write_text

JobState = Literal["queued", "running", "finished", "failed", "cancelled", "dead"]
Where = Literal["local", "modal"]
Evaluation = Literal["fold", "crossval"]
Augmentation = Literal["full", "mild", "off"]
ACTIVE: tuple[JobState, ...] = ("queued", "running")
RESUMABLE: tuple[JobState, ...] = ("failed", "cancelled", "dead")
LOG_TAIL_BYTES, LOG_TAIL_LINES = 16_384, 40
END_S = 15.0  # from being asked to end until being killed
NICENESS = 10  # training never slows the page or the API
SECRETS = (
    "EARSHOT_API_KEY",
    "EARSHOT_ADMIN_TOKEN",
    "EARSHOT_DATABASE_URL",
    "EARSHOT_TABLEAU_TOKEN",
)  # no business of a training process
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


class Process(Frozen):
    """A process, told from a later one with the same id by when it started (in the kernel's own words)."""

    pid: int
    started: str


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


# Job files: shared by every trainer.


def create_job(runs_dir: Path, request: TrainingRequest, *, asked_by: str = "") -> Job:
    """A queued job in a new run folder. Raises ``RunError`` for a request that cannot be run."""
    request.train_config()
    with _disk(runs_dir):
        runs_dir.mkdir(parents=True, exist_ok=True)
        run = _new_folder(runs_dir, _named(request))
        job = Job(id=run.name, request=request, state="queued", asked_by=asked_by, queued_at=_now(), run=run)
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
    epoch, epochs, stage, latest = _epochs_done(job)
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
    status = _status(job.run)
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


# This machine.


class LocalTrainer:
    """Jobs on this machine, one at a time. ``jobs`` and ``follow`` notice the dead and set waiting ones going."""

    def __init__(self, runs_dir: Path) -> None:
        self.runs_dir = runs_dir.absolute()

    def start_training(self, request: TrainingRequest, *, asked_by: str = "") -> Job:
        if request.where != "local":
            raise RunError(f"Expected a job for this machine, got one for {request.where}.", code="wrong_trainer")
        if not (request.dataset / "meta" / "esc50.csv").is_file():
            raise RunError(
                f"Expected a dataset with audio/ and meta/esc50.csv in {request.dataset}, found none. "
                "Give its folder, or fetch one: python -m core download --dataset esc10.",
                code="no_dataset",
            )
        absolute = request.model_copy(update={"dataset": request.dataset.absolute()})
        job = create_job(self.runs_dir, absolute, asked_by=asked_by)
        self._set_going()
        return job

    def jobs(self) -> list[Job]:
        seen = [self._observed(job) for job in jobs_in(self.runs_dir, "local")]
        if any(job.state == "queued" for job in seen):
            self._set_going()
        return seen

    def follow(self, job_id: str) -> Progress:
        job = self._observed(self._job(job_id))
        if job.state == "queued":
            self._set_going()
        return progress_of(job, log=log_tail(job.run))

    def cancel(self, job_id: str) -> Job:
        """End the job's processes, or take it out of the queue. What it learnt so far stays; ``resume`` goes on."""
        with job_files(self.runs_dir):
            job = self._job(job_id)
            if not job.active:
                return job
            if job.process is not None and not alive(job.process):
                state, message = ended_state(job)
                return save_job(job, state=state, message=message, ended_at=_now())
            running = job.process
            job = save_job(job, state="cancelled", ended_at=_now(), message="Cancelled.", process=None)
        if running is None:
            return job
        end_group(running)
        with job_files(self.runs_dir):
            job, status = read_job(job.run), _status(job.run)
            if job.state == "cancelled" and status is not None and status.state == "finished":  # a moment before
                return save_job(job, state="finished", message="")
        return job

    def resume(self, job_id: str) -> Job:
        with job_files(self.runs_dir):
            job = self._job(job_id)
            if not job.resumable:
                raise RunError(f"Expected a job that stopped early, {job_id} is {job.state}.", code="not_resumable")
            job = save_job(job, state="queued", queued_at=_now(), message="", process=None, ended_at=None)
        self._set_going()
        return job

    def _job(self, job_id: str) -> Job:
        if Path(job_id).name != job_id or job_id.startswith("."):
            raise RunError(f"Expected the name of a training job, got {job_id!r}.", code="no_job")
        return read_job(self.runs_dir / job_id)

    def _observed(self, job: Job) -> Job:
        """``job`` as it really is: a running one whose process is gone has ended somehow."""
        if job.state != "running" or (job.process is not None and alive(job.process)):
            return job
        with job_files(self.runs_dir):
            job = read_job(job.run)
            if job.state != "running" or (job.process is not None and alive(job.process)):
                return job
            state, message = ended_state(job)
            return save_job(job, state=state, message=message, ended_at=_now())

    def _set_going(self) -> None:
        """Start a worker unless one, or a job that outlived its worker, has the turn."""
        with _turn(self.runs_dir) as turn:
            if turn is None:
                return
            command = [sys.executable, "-m", "core.jobs", str(self.runs_dir), str(turn)]
            with (self.runs_dir / ".worker.log").open("ab") as log:
                worker = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    pass_fds=(turn,),
                    start_new_session=True,
                )
        threading.Thread(target=worker.wait, daemon=True).start()  # reaped, should this process still be here


def main(argv: Sequence[str] | None = None) -> int:
    """The worker, ``python -m core.jobs RUNS_DIR LOCK``: run queued jobs until there is none."""
    arguments = sys.argv[1:] if argv is None else argv
    runs_dir, turn = Path(arguments[0]), int(arguments[1])
    os.nice(NICENESS)
    while True:
        while _run_next(runs_dir, turn):
            pass
        os.close(turn)
        # Whoever queued a job between the last look and the closing found the turn taken: look again.
        if not any(job.state == "queued" for job in jobs_in(runs_dir, "local")):
            return 0
        again = _try_turn(runs_dir)
        if again is None:
            return 0
        turn = again


def _run_next(runs_dir: Path, turn: int) -> bool:
    """Run the job that waited longest to its end; False where none waits."""
    with job_files(runs_dir):
        waiting = [job for job in jobs_in(runs_dir, "local") if job.state == "queued"]
        if not waiting:
            return False
        job = min(waiting, key=lambda job: job.queued_at)
        done = _epochs_done(job)[0]
        with (job.run / JOB_LOG).open("ab") as log:
            said = log.tell()
            started_at = _now()
            training = subprocess.Popen(
                [sys.executable, "-m", "core", *job.request.command(job.run)],
                cwd=ROOT,
                env={name: value for name, value in os.environ.items() if name not in SECRETS},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(turn,),
                start_new_session=True,
            )
        process = Process(pid=training.pid, started=_started(training.pid) or "")
        running = {"state": "running", "started_at": started_at, "ended_at": None, "process": process}
        save_job(job, **running, epochs_before=done, log_start=said)
    training.wait()
    with job_files(runs_dir):
        job = read_job(job.run)
        if job.state == "running":
            state, message = ended_state(job)
            if state == "dead" and training.returncode > 0:
                state, message = "failed", _last_words(job)
            save_job(job, state=state, message=message, ended_at=_now())
    return True


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


@contextmanager
def _turn(runs_dir: Path) -> Iterator[int | None]:
    """The turn as a descriptor to hand on, or None where another has it. Closed here; whom it was given to keeps it."""
    turn = _try_turn(runs_dir)
    try:
        yield turn
    finally:
        if turn is not None:
            os.close(turn)


def _try_turn(runs_dir: Path) -> int | None:
    turn = os.open(runs_dir / ".turn", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        fcntl.flock(turn, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(turn)
        return None
    return turn


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


def _status(run: Path) -> RunStatus | None:
    try:
        return RunFolder(run).status()
    except (RunError, ValidationError):
        return None


def _epochs_done(job: Job) -> tuple[int, int, str, RunStatus | None]:
    """Epochs done, epochs in all, which network, and the status of that network."""
    status = _status(job.run)
    if job.request.protocol == "fold":
        return (status.epoch if status else 0), job.request.epochs, "", status
    members = {file.parent.name: _status(file.parent) for file in job.run.glob("members/*/status.json")}
    told = {name: member for name, member in members.items() if member is not None}
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
    return (_now() - job.started_at).total_seconds() / done * (epochs - epoch)


def _last_words(job: Job) -> str:
    spoken = [line.strip() for line in log_tail(job.run, since=job.log_start) if line.strip()]
    return spoken[-1] if spoken else "Its process failed without a word."


@contextmanager
def _disk(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise RunError(
            f"Expected to write into {folder}, got {exc.strerror or exc}. Free space, or set EARSHOT_RUNS_DIR.",
            code="disk",
        ) from exc


def _now() -> datetime:
    return datetime.now(UTC)


if __name__ == "__main__":
    sys.exit(main())
