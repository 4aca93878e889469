"""Earshot on Modal: inference on a GPU, an HTTP API, training fanned out over GPUs; and the clients of these.

    modal setup                                        # once: a token for this machine
    modal secret create earshot EARSHOT_API_KEY=…      # once: what callers of the API send
    modal deploy modal_backend.py                      # then choose Modal in the app, or EARSHOT_BACKEND=modal
    modal run modal_backend.py --file dog.wav          # classifies a clip without deploying
    python modal_backend.py upload data/esc10          # the dataset, for the two that follow
    modal run modal_backend.py::train --fold 1
    modal run modal_backend.py::cross_validate --seeds 3
    python modal_backend.py pull RUN                   # a run folder, as if it had been trained here

Nothing runs, and nothing costs, while nobody asks. What crosses between the machines is JSON and bytes (core/wire.py).
The model that is served is the one that EARSHOT_ARTIFACT names when the app is deployed.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import sys
import time
from collections.abc import Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, TypeVar

import modal
from modal.exception import (
    AuthError,
    DeserializationError,
    ExecutionError,
    FunctionTimeoutError,
    InternalFailure,
    NotFoundError,
    OutputExpiredError,
    PermissionDeniedError,
    RemoteError,
    ResourceExhaustedError,
)
from modal.exception import ConnectionError as NotConnectedError
from modal.types import FileEntryType

from core.config import Settings, TrainConfig
from core.errors import AudioError, BackendError, DatasetError, EarshotError, RunError
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
    progress_of,
    read_job,
    save_job,
)
from core.records import Place, Prediction
from core.training.runs import JOB_LOG, RunFolder, write_text

if TYPE_CHECKING:
    from fastapi import FastAPI

    from core.artifact import Manifest
    from core.backend import Health
    from core.dataset import Dataset
    from core.explain import Explanation
    from core.wire import Packed

T = TypeVar("T")
log = logging.getLogger(__name__)

APP = "earshot"
GPU = "A10"  # the name under which Modal now documents what it called A10G
PYTHON = "3.11"
CORES = 2  # decoding, descriptors, augmentation; the GPU does the rest
INFERENCE_MEMORY_MIB = 8_192  # sixteen sounds of ten minutes at once
TRAINING_MEMORY_MIB = 12_288  # ESC-50 takes 4.2 GB
EPOCHS = TrainConfig().epochs
BATCH = 16  # questions answered together
BATCH_WAIT_MS = 20  # how long the first of them waits for others
MAX_CONTAINERS = 4
SCALEDOWN_S = 120  # a container without questions lives, and costs, this long
ANSWER_TIMEOUT_S = 120
STARTUP_TIMEOUT_S = 600
TRAINING_TIMEOUT_S = 12 * 3_600
FAN_OUT_TIMEOUT_S = 24 * 3_600  # Modal's longest
TRAINERS_AT_ONCE = 10  # GPUs of one cross-validation
API_CONCURRENCY = 64
API_TIMEOUT_S = 150  # Modal cuts HTTP requests there
API_ANSWER_S = 135.0
COMMIT_EVERY_S = float(os.environ.get("EARSHOT_COMMIT_EVERY_S", "10"))  # so much training, and an epoch, may be lost
HERE = Path(__file__).resolve().parent
HOME = "/root"  # in a container: where this file lies, and core/ beside it
SERVED = HERE / "served"  # in a container: the artifact
MOUNT = Path("/earshot")  # in a container: the Volume
DATASETS, RUNS = "datasets", "runs"  # folders of it
SECRET = "earshot"
CALLS = "calls.json"  # of a cross-validation: member → call

image = (
    modal.Image.debian_slim(python_version=PYTHON)
    .uv_pip_install(requirements=[str(HERE / "requirements.txt")])  # PyPI's torch is a CUDA build
    .env({"OMP_NUM_THREADS": f"{CORES}", "PYTHONUNBUFFERED": "1"})
)
if modal.is_local():  # containers have these files already
    image = image.add_local_dir(HERE / "core", f"{HOME}/core", ignore=["**/__pycache__"]).add_local_dir(
        Settings.load().artifact, f"{HOME}/served"
    )
app = modal.App(APP, image=image)
# Version 2 takes commits of many containers at once: a cross-validation has one for each network.
volume = modal.Volume.from_name(APP, create_if_missing=True, version=2)


# Inference.


@app.cls(
    gpu=GPU,
    cpu=CORES,
    memory=INFERENCE_MEMORY_MIB,
    max_containers=MAX_CONTAINERS,
    scaledown_window=SCALEDOWN_S,
    timeout=ANSWER_TIMEOUT_S,
    startup_timeout=STARTUP_TIMEOUT_S,
    retries=modal.Retries(max_retries=1, initial_delay=0.0),
    enable_memory_snapshot=True,
)
class Inference:
    """The served model on a GPU. Modal allows a batched class one method, so every kind of question goes there."""

    @modal.enter(snap=True)
    def load(self) -> None:
        """Load on the CPU, check hashes and probe: Modal keeps what is in memory then, and later starts begin there."""
        from core.classifier import Classifier

        self.classifier = Classifier.from_artifact(SERVED, limits=Settings.load().limits)

    @modal.enter(snap=False)
    def warm_up(self) -> None:
        """Move to the GPU, replay the probe there, and run one full batch, so that the first answer is no slower."""
        import torch

        from core.audio import write_wav
        from core.hardware import hardware

        on_gpu = torch.cuda.is_available()
        torch.backends.cudnn.allow_tf32 = False  # answers as the CPU does, to 1e-5
        self.classifier.to("cuda" if on_gpu else "cpu")
        manifest = self.classifier.manifest
        rate_hz = manifest.audio.sample_rate_hz
        self.classifier.predict_many([write_wav(manifest.probe.waveform(rate_hz), rate_hz)] * (BATCH if on_gpu else 1))
        self.device, self.fresh = hardware(), True

    @modal.batched(max_batch_size=BATCH, wait_ms=BATCH_WAIT_MS)
    def answer(self, questions: list[Packed]) -> list[Packed]:
        """One answer a question (core/wire.py). Callers pass one question; Modal makes the batches."""
        from core.wire import answer_all

        cold, self.fresh = self.fresh, False
        return answer_all(self.classifier, questions, backend=ModalBackend.name, device=self.device, cold=cold)


@app.function(
    secrets=[modal.Secret.from_name(SECRET, required_keys=["EARSHOT_API_KEY"])],
    scaledown_window=SCALEDOWN_S,
    timeout=API_TIMEOUT_S,
    startup_timeout=STARTUP_TIMEOUT_S,
)
@modal.concurrent(max_inputs=API_CONCURRENCY)
@modal.asgi_app(requires_proxy_auth=True, label=APP)
def api() -> FastAPI:
    """The HTTP API (core/api.py) behind Modal's proxy tokens and Earshot's key; it asks ``Inference``.

    ``EARSHOT_DATABASE_URL`` in the secret names the PostgreSQL that keeps the log; without it the log is the
    container's own and ends with it.
    """
    from core.api import create_api
    from core.artifact import read_manifest
    from core.store import Store

    settings = Settings.load()
    if "EARSHOT_DATABASE_URL" not in os.environ:
        log.warning("EARSHOT_DATABASE_URL is not in the secret %r: the log ends with this container", SECRET)
    backend = ModalBackend(read_manifest(SERVED), settings.runs_dir, patience=Patience(answer_s=API_ANSWER_S))
    patient = settings.model_copy(update={"api_timeout_s": API_ANSWER_S + 5})  # a container may have to be started
    return create_api(backend, store=Store.open(settings.database), settings=patient)


# Training. Every function may be killed at any moment and called again with the same arguments: it goes on.


@app.function(
    gpu=GPU,
    cpu=CORES,
    memory=TRAINING_MEMORY_MIB,
    volumes={str(MOUNT): volume},
    timeout=TRAINING_TIMEOUT_S,
    startup_timeout=STARTUP_TIMEOUT_S,
    retries=modal.Retries(max_retries=3, initial_delay=1.0),
    single_use_containers=True,
)
def train(
    dataset: str = "",
    fold: str = "1",
    epochs: int = EPOCHS,
    seed: int = 0,
    settings: str = "",
    run_id: str = "",
) -> dict[str, str]:
    """Train one network into runs/RUN_ID of the Volume.

    ``dataset``: as ``upload`` printed it; may be left out while there is one. ``settings``: NAME=VALUE, separated by
    spaces. An error of ours is an answer and no crash, which Modal would try again.
    """
    from core.training.loop import train as run_training
    from core.training.runs import RunConfig, fold_named, new_run_id, origin_of, train_config

    volume.reload()
    run = RunFolder(MOUNT / RUNS / (run_id or new_run_id(f"fold-{fold}-seed-{seed}")))
    with _outcome(run) as outcome:
        clips = _dataset(dataset)
        config = RunConfig(
            run_id=run.path.name,
            fold=fold_named(fold, clips.folds),
            train=train_config(_changes(settings), epochs=epochs, seed=seed),
            **origin_of(clips),
        )
        run_training(config, clips, run, once_saved=Commits())
    return outcome


@app.function(
    gpu=GPU,
    cpu=CORES,
    memory=TRAINING_MEMORY_MIB,
    volumes={str(MOUNT): volume},
    timeout=TRAINING_TIMEOUT_S,
    startup_timeout=STARTUP_TIMEOUT_S,
    retries=modal.Retries(max_retries=3, initial_delay=1.0),
    max_containers=TRAINERS_AT_ONCE,
    scaledown_window=10,  # ready for the next network at once, and gone soon
)
def train_member(dataset: str, run_id: str, member: str) -> dict[str, str]:
    """Train and measure one network of the cross-validation ``run_id``."""
    from core.training.crossval import CrossvalConfig, complete_member, is_complete, members_of
    from core.training.data import decode_clips

    volume.reload()
    run = RunFolder(MOUNT / RUNS / run_id)
    with _outcome(RunFolder(run.path / "members" / member)) as outcome:
        config = CrossvalConfig.model_validate_json((run.path / "config.json").read_text(encoding="utf-8"))
        asked = next(asked for asked in members_of(config) if asked.run_id == member)
        if not is_complete(asked, run):
            clips = _dataset(dataset)
            complete_member(asked, clips, run, decode_clips(clips.clips, config.train.audio), once_saved=Commits())
    return outcome


@app.function(
    cpu=CORES,
    memory=TRAINING_MEMORY_MIB,
    volumes={str(MOUNT): volume},
    timeout=FAN_OUT_TIMEOUT_S,
    startup_timeout=STARTUP_TIMEOUT_S,
    retries=modal.Retries(max_retries=3, initial_delay=1.0),
    single_use_containers=True,
)
def cross_validate(
    dataset: str = "",
    seeds: int = 3,
    epochs: int = EPOCHS,
    settings: str = "",
    leave_out: str = "",
    run_id: str = "",
) -> dict[str, str]:
    """Train every fold and seed, each on a GPU of its own, then one model on all folds.

    ``leave_out``: as ``python -m core crossval --leave-out`` takes it, separated by spaces.
    """
    from core.training.crossval import CrossvalConfig, left_out_named, members_of
    from core.training.crossval import cross_validate as pool
    from core.training.runs import new_run_id, origin_of, train_config

    volume.reload()
    run = RunFolder(MOUNT / RUNS / (run_id or new_run_id("crossval")))
    with _outcome(run) as outcome:
        clips = _dataset(dataset)
        config = CrossvalConfig(
            run_id=run.path.name,
            folds=clips.folds,
            seeds=tuple(range(seeds)),
            left_out=left_out_named(leave_out.split(), clips.class_names),
            left_out_epochs=max(1, epochs // 4),
            train=train_config(_changes(settings), epochs=epochs),
            **origin_of(clips),
        )
        run.begin(config, may_grow=("seeds", "left_out"))
        fan_out(run, [member.run_id for member in members_of(config)], dataset)
    if "error" not in outcome:
        volume.reload()  # what the members wrote; no file may be open
        with _outcome(run) as outcome:
            pool(config, clips, run)
    return outcome


def fan_out(run: RunFolder, names: Sequence[str], dataset: str) -> None:
    """Have every member trained that is not, and wait for all. Raises the first error once none trains any more.

    ``calls.json`` holds each member's call: after a preemption they are waited for and not trained twice, and whoever
    cancels the run cancels them.
    """
    calls: dict[str, str] = json.loads(_text(run.path / CALLS) or "{}")
    for name in names:
        if name not in calls or _failed(calls[name]):
            calls[name] = train_member.spawn(dataset, run.path.name, name).object_id
            write_text(run.path / CALLS, json.dumps(calls, indent=2))
            volume.commit()
    run.write_status("running", 0, len(names), message="training")
    volume.commit()
    failures = []
    for name in names:
        try:
            outcome = modal.FunctionCall.from_id(calls[name]).get()
        except Exception as exc:
            outcome = {"message": str(exc)}
        if "message" in outcome:
            failures.append(f"{name}: {outcome['message']}")
    if failures:
        raise RunError(f"{len(failures)} of {len(names)} networks failed. {failures[0]}", code="member_failed")


def _failed(call_id: str) -> bool:
    """Whether a call ended with an error; one that still runs has not."""
    try:
        return "error" in modal.FunctionCall.from_id(call_id).get(timeout=0)
    except TimeoutError:
        return False
    except Exception:
        return True


class Commits:
    """Makes what is written visible outside the container and safe from its end, every ``COMMIT_EVERY_S``."""

    def __init__(self) -> None:
        self._last = -COMMIT_EVERY_S

    def __call__(self) -> None:
        if time.monotonic() - self._last >= COMMIT_EVERY_S:
            volume.commit()
            self._last = time.monotonic()


@contextmanager
def _outcome(run: RunFolder) -> Iterator[dict[str, str]]:
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
        volume.commit()


def _changes(settings: str) -> list[str]:
    """NAME=VALUE, one a line or, typed on a command line, separated by spaces."""
    return settings.splitlines() if "\n" in settings else settings.split()


def _dataset(key: str) -> Dataset:
    """The dataset ``HASH/NAME`` of the Volume, or ``NAME`` where only one is called so, or the only one."""
    from core.dataset import load_dataset

    found = {f"{path.parent.name}/{path.name}": path for path in sorted((MOUNT / DATASETS).glob("*/*"))}
    chosen = [path for name, path in found.items() if key in ("", name, path.name)]
    if len(chosen) != 1:
        raise DatasetError(
            f"Expected one dataset {key or 'on the Volume'}, found {', '.join(found) or 'none'}. Upload it with "
            "'python modal_backend.py upload DIR', or name one with --dataset.",
            code="no_dataset",
        )
    return load_dataset(chosen[0])


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""


# The client: this machine's side.


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


class ModalBackend:
    """Answers from a GPU on Modal. Call it from threads, not from a running event loop.

    ``manifest`` is of the model that the app was set to; an answer by another one is refused. A question that was not
    answered in time is not lost: its call is kept, and asking again waits for that one.
    """

    name: str = "modal"

    def __init__(
        self, manifest: Manifest, runs_dir: Path, *, app_name: str = APP, patience: Patience = Patience()
    ) -> None:
        self._manifest, self._app_name, self._patience = manifest, app_name, patience
        self._trainer = ModalTrainer(runs_dir, app_name=app_name, patience=patience)
        self._calls: dict[str, str] = {}  # question → call, of those that still run

    @property
    def manifest(self) -> Manifest:
        return self._manifest

    def classify(self, sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
        from core.wire import ask_to_classify, unpack_answer

        started = time.perf_counter()
        packed = self._ask([ask_to_classify(sound) for sound in sounds])
        round_trip_ms = (time.perf_counter() - started) * 1000
        answers = [unpack_answer(answer) for answer in packed]
        return [
            answer
            if isinstance(answer, AudioError)
            else answer.model_copy(
                update={"place": Place(device=told["device"], cold=told["cold"], round_trip_ms=round_trip_ms)}
            )
            for told, answer in zip(packed, answers, strict=True)
        ]

    def explain(
        self,
        sound: bytes,
        *,
        label: str | None = None,
        window: int = 0,
        timeline: bool = False,
        occlusion: bool = False,
    ) -> Explanation:
        from core.wire import ask_to_explain, unpack_explanation

        question = ask_to_explain(sound, label=label, window=window, timeline=timeline, occlusion=occlusion)
        (packed,) = self._ask([question])
        return unpack_explanation(packed)

    def health(self) -> Health:
        from core.backend import Health

        try:
            containers = bounded(self._containers(), self._patience.connect_s, self._unreachable)
        except BackendError as exc:
            return Health(ready=False, backend=self.name, device=GPU, message=str(exc))
        warm = f"{containers} running" if containers else "none runs, so the first answer waits until one has started"
        return Health(ready=True, backend=self.name, device=GPU, message=f"Deployed on Modal; containers: {warm}.")

    def start_training(self, request: TrainingRequest, *, asked_by: str = "") -> Job:
        return self._trainer.start_training(request, asked_by=asked_by)

    def jobs(self) -> list[Job]:
        return self._trainer.jobs()

    def follow(self, job_id: str) -> Progress:
        return self._trainer.follow(job_id)

    def cancel(self, job_id: str) -> Job:
        return self._trainer.cancel(job_id)

    def resume(self, job_id: str) -> Job:
        return self._trainer.resume(job_id)

    def _ask(self, questions: Sequence[Packed]) -> list[Packed]:
        if not questions:
            return []
        wait_s = self._patience.answer_s + self._patience.each_s * (len(questions) - 1)
        slack_s = 3 * self._patience.connect_s  # bounds each call by itself; this is for Modal falling silent between
        packed = bounded(self._answers(questions, wait_s), wait_s + slack_s, self._unreachable)
        for answer in packed:
            if answer.get("fingerprint") != self.manifest.fingerprint:
                raise BackendError(
                    f"Expected an answer by the model {self.manifest.fingerprint[:12]}, Modal serves "
                    f"{str(answer.get('fingerprint'))[:12]}. Serve this one there: modal deploy modal_backend.py.",
                    code="modal_other_model",
                )
        return packed

    async def _answers(self, questions: Sequence[Packed], wait_s: float) -> list[Packed]:
        method = await self._method()
        some = asyncio.Semaphore(2 * BATCH * MAX_CONTAINERS)

        async def answered(question: Packed) -> Packed:
            async with some:
                return await self._answer(method, question, wait_s)

        return await asyncio.gather(*(answered(question) for question in questions))

    async def _answer(self, method: Any, question: Packed, wait_s: float) -> Packed:
        key = _digest(question)
        if key not in self._calls:
            self._calls[key] = (await method.spawn.aio(question)).object_id
        call_id = self._calls[key]
        try:
            answer: Packed = await modal.FunctionCall.from_id(call_id).get.aio(timeout=wait_s)
        except TimeoutError:
            raise await self._late(method, call_id, wait_s) from None
        except BaseException:
            self._calls.pop(key, None)
            raise
        self._calls.pop(key, None)
        return answer

    async def _late(self, method: Any, call_id: str, wait_s: float) -> BackendError:
        """No answer yet: because no container was ready for the question, or because it takes long."""
        stats = await asyncio.wait_for(method.get_current_stats.aio(), self._patience.connect_s)
        goes_on = f"The question goes on as {call_id}: ask again in a moment and its answer is taken"
        if stats.num_running_inputs == 0:
            return BackendError(
                f"Modal is still starting a container for Earshot after {wait_s:g} s (a cold start). {goes_on}.",
                code="modal_cold",
            )
        return BackendError(f"Expected an answer from Modal within {wait_s:g} s. {goes_on}.", code="modal_timeout")

    async def _method(self) -> Any:
        """The deployed method, looked up within ``connect_s``."""
        method = modal.Cls.from_name(self._app_name, "Inference")().answer
        return await _looked_up(method, self._patience.connect_s)

    async def _containers(self) -> int:
        return int((await (await self._method()).get_current_stats.aio()).num_total_runners)

    @property
    def _unreachable(self) -> BackendError:
        return unreachable(self._patience.connect_s)


class ModalTrainer:
    """Jobs on Modal. Their run folders are copied from the Volume into ``runs_dir`` as they grow."""

    def __init__(self, runs_dir: Path, *, app_name: str = APP, patience: Patience = Patience()) -> None:
        self.runs_dir, self._app_name, self._patience = runs_dir.absolute(), app_name, patience
        self._looked: dict[str, float] = {}  # job → when Modal was last asked about it
        self._silence: tuple[float, BackendError] | None = None  # since when Modal gives no answer, and why

    def start_training(self, request: TrainingRequest, *, asked_by: str = "") -> Job:
        """Upload the dataset if it is not there, then have it trained. Raises ``BackendError`` and ``DatasetError``."""
        if request.where != "modal":
            raise RunError(f"Expected a job for Modal, got one for {request.where}.", code="wrong_trainer")
        if request.init is not None:
            raise RunError(
                "Expected training from random weights: on Modal none starts from a model. Fine-tune on this machine.",
                code="init_on_modal",
            )
        absolute = request.model_copy(update={"dataset": request.dataset.absolute()})
        self._bounded(self._ready(absolute))
        key = upload_dataset(absolute.dataset, patience=self._patience)
        return self._spawn(create_job(self.runs_dir, absolute, asked_by=asked_by), key)

    def jobs(self) -> list[Job]:
        """The latest first; where Modal does not answer, as they were last seen, with a message that says so."""
        return [self._seen(job) for job in jobs_in(self.runs_dir, "modal")]

    def follow(self, job_id: str) -> Progress:
        job = self._seen(self._job(job_id))
        return progress_of(job, log=log_tail(job.run))

    def cancel(self, job_id: str) -> Job:
        """End the call and its containers. What was committed stays; ``resume`` goes on."""
        job = self._job(job_id)
        if not job.active:
            return job
        if job.call_id is not None:
            self._bounded(self._end(job), 3 * self._patience.connect_s)
        with job_files(self.runs_dir):
            return save_job(read_job(job.run), state="cancelled", ended_at=_now(), message="Cancelled.")

    def resume(self, job_id: str) -> Job:
        job = self._job(job_id)
        if not job.resumable:
            raise RunError(f"Expected a job that stopped early, {job_id} is {job.state}.", code="not_resumable")
        self._bounded(self._ready(job.request))
        key = upload_dataset(job.request.dataset, patience=self._patience)
        return self._spawn(job, key, epochs_before=progress_of(job).epoch)

    def _job(self, job_id: str) -> Job:
        for job in jobs_in(self.runs_dir, "modal"):
            if job.id == job_id:
                return job
        raise RunError(f"Expected a training job on Modal, found none named {job_id}.", code="no_job")

    def _spawn(self, job: Job, key: str, **changes: Any) -> Job:
        call_id = self._bounded(self._call(job, key))
        with job_files(self.runs_dir):
            asked = {"queued_at": _now(), "started_at": None, "ended_at": None, "message": "", "call_id": call_id}
            return save_job(job, state="queued", **asked, **changes)

    async def _call(self, job: Job, key: str) -> str:
        asked = job.request
        given = {
            "dataset": key,
            "epochs": asked.epochs,
            "settings": "".join(f"{change}\n" for change in asked.settings),
            "run_id": job.id,
        }
        if asked.protocol == "crossval":
            given |= {"seeds": asked.seeds}
        else:
            given |= {"fold": "all" if asked.fold is None else str(asked.fold), "seed": asked.seed}
        return str((await (await self._ready(asked)).spawn.aio(**given)).object_id)

    async def _ready(self, asked: TrainingRequest) -> Any:
        name = "cross_validate" if asked.protocol == "crossval" else "train"
        return await _looked_up(modal.Function.from_name(self._app_name, name), self._patience.connect_s)

    async def _end(self, job: Job) -> None:
        """The call, and those of its members if it is a cross-validation."""
        assert job.call_id is not None
        calls = [job.call_id]
        with contextlib.suppress(FileNotFoundError, NotFoundError):
            held = [part async for part in _volume().read_file.aio(f"{RUNS}/{job.id}/{CALLS}")]
            calls += json.loads(b"".join(held)).values()
        for call_id in calls:
            with contextlib.suppress(NotFoundError):
                await modal.FunctionCall.from_id(call_id).cancel.aio(terminate_containers=True)

    def _seen(self, job: Job) -> Job:
        """``job`` as it is on Modal now or, where Modal does not answer, as it was last seen."""
        if not job.active or job.call_id is None:
            return job
        if self._silence is None or time.monotonic() - self._silence[0] > self._patience.silent_s:
            try:
                job, self._silence = self._observed(job, job.call_id), None
            except BackendError as exc:
                self._silence = (time.monotonic(), exc)
        if self._silence is None:
            return job
        return job.model_copy(update={"message": f"This is how it was last seen. {self._silence[1]}"})

    def _observed(self, job: Job, call_id: str) -> Job:
        """``job`` as it is now, its run folder brought up to date. Raises ``BackendError``."""
        if time.monotonic() - self._looked.get(job.id, -1e9) < self._patience.look_every_s:
            return job
        state, message = self._bounded(_state_of(call_id))
        pull_run(job.id, self.runs_dir, live=state in ACTIVE, patience=self._patience)
        self._looked[job.id] = time.monotonic()
        if state in ACTIVE:
            state = "running" if (job.run / "status.json").exists() else "queued"
        with job_files(self.runs_dir):
            current = read_job(job.run)
            if current.state == state or current.call_id != call_id or not current.active:
                return current
            ended = {} if state in ACTIVE else {"ended_at": _now(), "message": message}
            return save_job(current, state=state, started_at=current.started_at or _now(), **ended)

    def _bounded(self, work: Coroutine[Any, Any, T], seconds: float | None = None) -> T:
        seconds = 2 * self._patience.connect_s if seconds is None else seconds
        return bounded(work, seconds, unreachable(self._patience.connect_s))


async def _state_of(call_id: str) -> tuple[JobState, str]:
    """How the call of a job stands. Raises what says nothing of the job: no token, no connection."""
    call = modal.FunctionCall.from_id(call_id)
    try:
        outcome = await call.get.aio(timeout=0)
    except TimeoutError:
        return "running", ""
    except (NotFoundError, OutputExpiredError):
        return "dead", "Modal does not know its call any more: results are kept for a week."
    except (AuthError, NotConnectedError, PermissionDeniedError):
        raise
    except Exception as exc:
        return "failed", str(translated(exc))
    return ("failed", outcome["message"]) if "error" in outcome else ("finished", "")


def upload_dataset(root: Path, *, patience: Patience = Patience()) -> str:
    """Have the checked dataset at ``root`` on the Volume, once; returns its key there, ``HASH/NAME``."""
    from core.dataset import TABLE, load_dataset

    dataset = load_dataset(root)
    key = f"{dataset.content_hash[:12]}/{root.resolve().name}"
    target = f"{DATASETS}/{key}"

    async def upload() -> None:
        store = await _looked_up(_volume(), patience.connect_s)
        with contextlib.suppress(NotFoundError):
            await store.listdir.aio(f"{target}/{TABLE.as_posix()}")
            return
        async with store.batch_upload.aio(force=True) as batch:
            for clip in dataset.clips:
                batch.put_file(clip.path, f"{target}/audio/{clip.filename}")
        async with store.batch_upload.aio(force=True) as batch:  # last: the table says that all is there
            batch.put_file(root / TABLE, f"{target}/{TABLE.as_posix()}")

    bounded(upload(), patience.upload_s, unreachable(patience.connect_s))
    return key


LIVE = ("config.json", "status.json", "metrics.json", JOB_LOG, "curves.parquet")  # what a run in progress is read by


def pull_run(run_id: str, runs_dir: Path, *, live: bool = False, patience: Patience = Patience()) -> Path:
    """Copy what changed of the run from the Volume to ``runs_dir/RUN_ID``, without checkpoints.

    ``live``: only what tells how far it is. Raises ``BackendError``, and ``RunError`` for a run that does not exist.
    """
    from core.training.runs import write_atomically

    target = runs_dir / run_id

    async def pull() -> bool:
        store = await _looked_up(_volume(), patience.connect_s)
        try:
            entries = await store.listdir.aio(f"{RUNS}/{run_id}", recursive=True)
        except NotFoundError:
            return False
        for entry in entries:
            path = PurePosixPath(entry.path.lstrip("/")).relative_to(f"{RUNS}/{run_id}")
            file = target / path
            told = path.name in LIVE or path.name.startswith("events.out.")
            kept = path.name != CALLS and "checkpoints" not in path.parts and not path.name.startswith(".")
            if entry.type != FileEntryType.FILE or not kept or ".." in path.parts or (live and not told):
                continue
            if path.name != "status.json" and _same(file, entry):
                continue
            data = b"".join([part async for part in store.read_file.aio(entry.path)])
            file.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(file, partial(_write, data))
            os.utime(file, (entry.mtime, entry.mtime))
        return True

    found = bounded(pull(), patience.pull_s, unreachable(patience.connect_s))
    if not found and not live:
        raise RunError(f"Expected the run {run_id} on the Volume {APP!r}, found none.", code="no_run")
    return target


def _write(data: bytes, file: Path) -> None:
    file.write_bytes(data)


def _same(file: Path, entry: Any) -> bool:
    """Whether the copy has the size and the time of what it was copied from."""
    try:
        copied = file.stat()
    except FileNotFoundError:
        return False
    return (copied.st_size, int(copied.st_mtime)) == (entry.size, int(entry.mtime))


def _volume() -> modal.Volume:
    return modal.Volume.from_name(APP, create_if_missing=True, version=2)


async def _looked_up(thing: Any, seconds: float) -> Any:
    """``thing`` as Modal knows it. Raises ``BackendError`` when Modal keeps silent for ``seconds``."""
    try:
        await asyncio.wait_for(thing.hydrate.aio(), seconds)
    except TimeoutError:
        raise unreachable(seconds) from None
    return thing


def bounded(work: Coroutine[Any, Any, T], seconds: float, late: BackendError) -> T:
    """The result of ``work`` within ``seconds``, else ``late``; whatever Modal raises, as a ``BackendError``."""
    try:
        return asyncio.run(asyncio.wait_for(work, seconds))
    except TimeoutError:
        raise late from None
    except EarshotError:
        raise
    except Exception as exc:
        raise translated(exc) from exc


def unreachable(seconds: float) -> BackendError:
    return BackendError(
        f"Expected Modal's servers to answer within {seconds:g} s, heard nothing. Check this machine's connection, "
        "then try again.",
        code="modal_unreachable",
    )


def translated(exc: Exception) -> BackendError:
    """What a person is told: which of Modal's failures it was, and what to do."""
    said = str(exc).strip().split("\n")[0]
    if isinstance(exc, AuthError):
        if "missing" in said.lower():
            return BackendError(
                "Expected a Modal token on this machine, found none. Make one with: modal setup.", code="modal_no_token"
            )
        return BackendError(
            f"Modal refused this machine's token ({said}). Make a new one with: modal setup.", code="modal_wrong_token"
        )
    if isinstance(exc, NotFoundError):
        return BackendError(
            f"Expected Earshot deployed on Modal, found it is not ({said}). Deploy it: modal deploy modal_backend.py.",
            code="modal_not_deployed",
        )
    if isinstance(exc, NotConnectedError):
        return BackendError(
            f"Modal's servers cannot be reached ({said}). Check this machine's connection, then try again.",
            code="modal_unreachable",
        )
    if isinstance(exc, FunctionTimeoutError):
        return BackendError(
            f"The container on Modal did not finish within its own limit ({said}). Try a shorter sound.",
            code="modal_timeout",
        )
    if isinstance(exc, PermissionDeniedError | ResourceExhaustedError):
        return BackendError(
            f"Modal declined: {said}. See limits and billing at modal.com/settings.", code="modal_declined"
        )
    if isinstance(exc, InternalFailure | RemoteError):
        return BackendError(
            f"The container on Modal was stopped before it could answer, as when it is preempted ({said}). Try again.",
            code="modal_preempted",
        )
    if isinstance(exc, ExecutionError | DeserializationError):
        return BackendError(
            f"Modal's answer could not be read ({said}). Deploy this release there: modal deploy modal_backend.py.",
            code="other_release",
        )
    return BackendError(
        f"Earshot's container on Modal failed: {type(exc).__name__}: {said}. Its log: modal app logs {APP}.",
        code="modal_failed",
    )


def _digest(question: Packed) -> str:
    whole = hashlib.sha256(question["sound"])
    whole.update(json.dumps({name: value for name, value in question.items() if name != "sound"}).encode())
    return whole.hexdigest()


def _now() -> datetime:
    return datetime.now(UTC)


# Commands.


@app.local_entrypoint()
def classify(file: str = "") -> None:
    """``modal run modal_backend.py --file dog.wav``: one sound, answered on a GPU without deploying."""
    from core.artifact import read_manifest
    from core.audio import write_wav
    from core.wire import ask_to_classify, unpack_answer

    if file:
        sound = Path(file).read_bytes()
    else:
        manifest = read_manifest(Settings.load().artifact)
        rate_hz = manifest.audio.sample_rate_hz
        sound = write_wav(manifest.probe.waveform(rate_hz), rate_hz)
        print("No --file was given: this is the model's own probe, a rising tone in noise.")
    started = time.perf_counter()
    method: Any = Inference().answer  # takes and gives one; Modal makes the batches
    packed = method.remote(ask_to_classify(sound))
    answer = unpack_answer(packed)
    if isinstance(answer, AudioError):
        raise SystemExit(f"error [{answer.code}]: {answer}")
    ranked = "  ".join(f"{name} {p:.1%}" for name, p in list(answer.probabilities.items())[:3])
    strange = "unlike the sounds it learnt: none of the classes; closest: " if answer.unknown else ""
    waited = f"{time.perf_counter() - started:.1f} s with the start of a container"
    print(f"{strange}{ranked}\n{packed['device']}, {answer.latency_ms:.0f} ms of work, {waited}")


def main(argv: Sequence[str] | None = None) -> int:
    """``upload`` a dataset, ``pull`` a run."""
    import argparse

    parser = argparse.ArgumentParser(prog="python modal_backend.py", description="Earshot's Volume on Modal.")
    commands = parser.add_subparsers(dest="command", required=True)
    upload = commands.add_parser("upload", help="a dataset in ESC-50's layout, for training there")
    upload.add_argument("dataset", type=Path)
    pull = commands.add_parser("pull", help="a run folder into the runs folder here")
    pull.add_argument("run")
    given = parser.parse_args(argv)
    try:
        if given.command == "upload":
            print(upload_dataset(given.dataset))
        else:
            print(pull_run(given.run, Settings.load().runs_dir))
    except EarshotError as exc:
        print(f"error [{exc.code}]: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
