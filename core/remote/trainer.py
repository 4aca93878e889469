"""``ModalTrainer``: training jobs on Modal, told by the calls that run them.

A launch is written down before Modal hears of it and again with its call: two processes cannot launch one job twice,
and one whose launcher was killed in between is told as dead. What is cancelled is asked once more how it ended.
"""

from __future__ import annotations

import json
import time
from collections.abc import Coroutine
from pathlib import Path
from typing import Any, TypeVar

from core.errors import BackendError, RunError
from core.jobs import (
    ACTIVE,
    Job,
    JobState,
    Progress,
    TrainingRequest,
    create_job,
    job_files,
    jobs_in,
    log_tail,
    now,
    progress_of,
    read_job,
    save_job,
)
from core.remote.cloud import CALLS, CANCELLED, CROSS_VALIDATE, RUNS, TRAIN, Cloud, Patience, bounded
from core.remote.failures import NOT_OF_THE_JOB
from core.remote.folders import pull_run, upload_dataset, upload_start

T = TypeVar("T")
CANCELLED_JOB: tuple[JobState, str] = ("cancelled", "Cancelled.")


class ModalTrainer:
    """Jobs on Modal. Their run folders are copied from the volume into ``runs_dir`` as they grow."""

    def __init__(self, runs_dir: Path, cloud: Cloud, *, patience: Patience = Patience()) -> None:
        self.runs_dir, self._cloud, self._patience = runs_dir.absolute(), cloud, patience
        self._looked: dict[str, float] = {}  # job → when Modal was last asked about it
        self._silence: tuple[float, BackendError] | None = None  # since when Modal gives no answer, and why

    def start_training(self, request: TrainingRequest, *, asked_by: str = "") -> Job:
        """Upload what is not there, then have it trained. Raises ``BackendError`` and ``DatasetError``."""
        if request.where != "modal":
            raise RunError(f"Expected a job for Modal, got one for {request.where}.", code="wrong_trainer")
        absolute = request.model_copy(update={"dataset": request.dataset.absolute()})
        given = self._prepared(absolute)
        return self._launch(create_job(self.runs_dir, absolute, asked_by=asked_by), given)

    def jobs(self) -> list[Job]:
        """The latest first; where Modal does not answer, as they were last seen, with a message that says so."""
        return [self._seen(job) for job in jobs_in(self.runs_dir, "modal")]

    def follow(self, job_id: str) -> Progress:
        job = self._seen(self._job(job_id))
        return progress_of(job, log=log_tail(job.run))

    def cancel(self, job_id: str) -> Job:
        """End the calls and their containers. What was committed stays; ``resume`` goes on.

        One that had ended by itself a moment before is what it ended as.
        """
        job = self._job(job_id)
        if not job.active:
            return job
        state, message = CANCELLED_JOB
        if job.call_id is not None:
            state, message = self._bounded(self._end(job, job.call_id), 3 * self._patience.connect_s)
        if state == "finished":
            pull_run(job.id, self.runs_dir, self._cloud, patience=self._patience)
        with job_files(self.runs_dir):
            current = read_job(job.run)
            if current.call_id == job.call_id:
                done = {"state": state, "ended_at": now(), "message": message}
                return save_job(current, **done) if current.active else current
        return self.cancel(job_id)  # it was launched, or resumed, meanwhile

    def resume(self, job_id: str) -> Job:
        job = self._job(job_id)
        _check_resumable(job)
        given = self._prepared(job.request)
        with job_files(self.runs_dir):
            job = read_job(job.run)
            _check_resumable(job)  # another process may have been quicker
            anew = {"queued_at": now(), "started_at": None, "ended_at": None, "message": "", "call_id": None}
            job = save_job(job, state="queued", epochs_before=progress_of(job).epoch, **anew)
        return self._launch(job, given)

    def _job(self, job_id: str) -> Job:
        for job in jobs_in(self.runs_dir, "modal"):
            if job.id == job_id:
                return job
        raise RunError(f"Expected a training job on Modal, found none named {job_id}.", code="no_job")

    def _prepared(self, asked: TrainingRequest) -> dict[str, Any]:
        """What the function is called with, once all that it needs is on the volume."""
        self._bounded(self._cloud.ready(_function(asked)))
        given: dict[str, Any] = {
            "dataset": upload_dataset(asked.dataset, self._cloud, patience=self._patience),
            "epochs": asked.epochs,
            "settings": "".join(f"{change}\n" for change in asked.settings),
        }
        if asked.init is not None:
            given["init"] = upload_start(asked.init, self._cloud, patience=self._patience)
        if asked.protocol == "crossval":
            return given | {"seeds": asked.seeds}
        return given | {"fold": "all" if asked.fold is None else str(asked.fold), "seed": asked.seed}

    def _launch(self, job: Job, given: dict[str, Any]) -> Job:
        """Have ``job``, which is queued, run; where that fails it says so and can be resumed."""
        try:
            call_id = self._bounded(self._cloud.spawn(_function(job.request), **given, run_id=job.id))
        except BaseException as exc:
            with job_files(self.runs_dir):
                said = f"It could not be launched. {exc}".strip()
                save_job(read_job(job.run), state="failed", ended_at=now(), message=said)
            raise
        with job_files(self.runs_dir):
            current = read_job(job.run)
            if current.active:
                return save_job(current, call_id=call_id)
        self._bounded(self._cloud.cancel(call_id))  # cancelled while it was launched
        return current

    async def _end(self, job: Job, call_id: str) -> tuple[JobState, str]:
        """End the call and those of its members; how it ended.

        Members that the call may still spawn find on the volume that it was cancelled. It is ended before its members
        are read, so that all that it had written down are.
        """
        if job.request.protocol == "crossval":
            await self._cloud.put({f"{RUNS}/{job.id}/{CANCELLED}": call_id.encode()})
        await self._cloud.cancel(call_id)
        if (calls := await self._cloud.read(f"{RUNS}/{job.id}/{CALLS}")) is not None:
            for member in json.loads(calls).values():
                await self._cloud.cancel(member)
        try:
            return _ended(await self._cloud.result(call_id, timeout_s=0))
        except (TimeoutError, BackendError):  # it is being ended, or was
            return CANCELLED_JOB

    def _seen(self, job: Job) -> Job:
        """``job`` as it is on Modal now or, where Modal does not answer, as it was last seen."""
        if not job.active:
            return job
        if job.call_id is None:
            return self._never_launched(job)
        if self._silence is None or time.monotonic() - self._silence[0] > self._patience.silent_s:
            try:
                job, self._silence = self._observed(job, job.call_id), None
            except BackendError as exc:
                self._silence = (time.monotonic(), exc)
        if self._silence is None:
            return job
        return job.model_copy(update={"message": f"This is how it was last seen. {self._silence[1]}"})

    def _never_launched(self, job: Job) -> Job:
        """``job``, of which no call is known: being launched now, or its launcher was killed."""
        if (now() - job.queued_at).total_seconds() < self._patience.launch_s:
            return job
        with job_files(self.runs_dir):
            current = read_job(job.run)
            if not current.active or current.call_id is not None or current.queued_at != job.queued_at:
                return current
            said = "Whoever launched it ended before Modal had answered. Resume it."
            return save_job(current, state="dead", ended_at=now(), message=said)

    def _observed(self, job: Job, call_id: str) -> Job:
        """``job`` as it is now, its run folder brought up to date. Raises ``BackendError``."""
        if time.monotonic() - self._looked.get(job.id, -1e9) < self._patience.look_every_s:
            return job
        state, message = self._bounded(self._state_of(call_id))
        try:
            pull_run(job.id, self.runs_dir, self._cloud, live=state in ACTIVE, patience=self._patience)
        except RunError as exc:
            if exc.code != "no_run":
                raise
            if state == "finished":  # it says so, and left nothing
                state, message = "failed", str(exc)
        self._looked[job.id] = time.monotonic()
        if state in ACTIVE:
            state = "running" if (job.run / "status.json").exists() else "queued"
        with job_files(self.runs_dir):
            current = read_job(job.run)
            if current.state == state or current.call_id != call_id or not current.active:
                return current
            ended = {} if state in ACTIVE else {"ended_at": now(), "message": message}
            return save_job(current, state=state, started_at=current.started_at or now(), **ended)

    async def _state_of(self, call_id: str) -> tuple[JobState, str]:
        """How the call of a job stands. Raises what says nothing of the job: no token, no connection."""
        try:
            return _ended(await self._cloud.result(call_id, timeout_s=0))
        except TimeoutError:
            return "running", ""
        except BackendError as exc:
            if exc.code in NOT_OF_THE_JOB:
                raise
            return ("dead" if exc.code == "modal_forgotten" else "failed"), str(exc)

    def _bounded(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        return bounded(work, 2 * self._patience.connect_s if seconds is None else seconds, self._patience)


def _function(asked: TrainingRequest) -> str:
    return CROSS_VALIDATE if asked.protocol == "crossval" else TRAIN


def _ended(outcome: dict[str, str]) -> tuple[JobState, str]:
    """By what a training function returned: the run's name and, if it failed on purpose, the error."""
    return ("failed", outcome["message"]) if "error" in outcome else ("finished", "")


def _check_resumable(job: Job) -> None:
    if not job.resumable:
        raise RunError(f"Expected a job that stopped early, {job.id} is {job.state}.", code="not_resumable")
