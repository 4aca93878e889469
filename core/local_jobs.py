"""Training jobs of this machine: processes of their own that outlive the page and the server that asked for them.

A job is the command anyone could type, ``python -m core train …``, in its own session. One runs at a time, first come,
first served. The turn is a kernel lock on ``runs/.turn``: a worker process inherits it from whoever saw a queued job,
its training process inherits it from the worker, and it is free again when both have ended, however they ended. So two
jobs never train at once, whoever is killed when.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from core.config import ROOT
from core.errors import RunError
from core.jobs import (
    Job,
    Progress,
    TrainingRequest,
    create_job,
    ended_state,
    epochs_done,
    job_files,
    jobs_in,
    log_tail,
    now,
    progress_of,
    read_job,
    save_job,
)
from core.processes import Process, alive, end_group
from core.training.runs import JOB_LOG, RunFolder

NICENESS = 10  # training never slows the page or the API
SECRETS = (
    "EARSHOT_API_KEY",
    "EARSHOT_ADMIN_TOKEN",
    "EARSHOT_DATABASE_URL",
    "EARSHOT_TABLEAU_TOKEN",
)  # no business of a training process


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
            lives = job.process is not None and alive(job.process)
            if not (job.active or lives):
                return job
            if job.process is not None and not lives:
                state, message = ended_state(job)
                return save_job(job, state=state, message=message, ended_at=now())
            running = job.process
            job = save_job(job, state="cancelled", ended_at=now(), message="Cancelled.")
        if running is None:
            return job
        try:
            end_group(running)
        except RunError:
            with job_files(self.runs_dir):
                save_job(read_job(job.run), state="running", ended_at=None, message="It could not be ended.")
            raise
        with job_files(self.runs_dir):
            job, status = read_job(job.run), RunFolder(job.run).status_if_any()
            if job.state != "cancelled":
                return job
            if status is not None and status.state == "finished":  # a moment before
                return save_job(job, state="finished", message="", process=None)
            return save_job(job, process=None)

    def resume(self, job_id: str) -> Job:
        with job_files(self.runs_dir):
            job = self._job(job_id)
            if not job.resumable:
                raise RunError(f"Expected a job that stopped early, {job_id} is {job.state}.", code="not_resumable")
            job = save_job(job, state="queued", queued_at=now(), message="", process=None, ended_at=None)
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
            return save_job(job, state=state, message=message, ended_at=now())

    def _set_going(self) -> None:
        """Start a worker unless one, or a job that outlived its worker, has the turn."""
        with _turn(self.runs_dir) as turn:
            if turn is None:
                return
            command = [sys.executable, "-m", "core.local_jobs", str(self.runs_dir), str(turn)]
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
    """The worker, ``python -m core.local_jobs RUNS_DIR LOCK``: run queued jobs until there is none."""
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
        done = epochs_done(job)[0]
        with (job.run / JOB_LOG).open("ab") as log:
            said = log.tell()
            started_at = now()
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
        process = Process.of(training.pid)
        running = {"state": "running", "started_at": started_at, "ended_at": None, "process": process}
        save_job(job, **running, epochs_before=done, log_start=said)
    training.wait()
    with job_files(runs_dir):
        job = read_job(job.run)
        if job.state == "running":
            state, message = ended_state(job)
            if state == "dead" and training.returncode > 0:
                state, message = "failed", _last_words(job)
            save_job(job, state=state, message=message, ended_at=now())
    return True


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


def _last_words(job: Job) -> str:
    spoken = [line.strip() for line in log_tail(job.run, since=job.log_start) if line.strip()]
    return spoken[-1] if spoken else "Its process failed without a word."


if __name__ == "__main__":
    sys.exit(main())
