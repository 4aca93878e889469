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
import io
import json
import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from core.errors import AudioError, BackendError, EarshotError, RunError
from core.remote import failures
from core.remote.cloud import CALLS, GPU, RUNS, Load, Patience, RemoteFile
from core.remote.mounted import changes_in, check_wanted, dataset_on, outcome_of, start_on, text_of
from core.training.runs import RunFolder, write_text

if TYPE_CHECKING:
    from fastapi import FastAPI

    from core.artifact import Manifest
    from core.remote.backend import ModalBackend
    from core.remote.trainer import ModalTrainer
    from core.wire import Packed

log = logging.getLogger(__name__)

APP = "earshot"
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
API_CONCURRENCY = 64  # requests at once in a container of the API, each in a thread that waits
API_TIMEOUT_S = 150  # Modal cuts HTTP requests there
API_ANSWER_S = 135.0
COMMIT_EVERY_S = float(os.environ.get("EARSHOT_COMMIT_EVERY_S", "10"))  # so much training, and an epoch, may be lost
HERE = Path(__file__).resolve().parent
HOME = "/root"  # in a container: where this file lies, and core/ beside it
SERVED = HERE / "served"  # in a container: the artifact
MOUNT = Path("/earshot")  # in a container: the Volume
SECRET = "earshot"
LOG_ENDS = f"EARSHOT_DATABASE_URL is not in the secret {SECRET!r}: the log of answers ends with this container."

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
        return answer_all(self.classifier, questions, backend="modal", device=self.device, cold=cold)


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
    notes = [] if "EARSHOT_DATABASE_URL" in os.environ else [LOG_ENDS]
    for note in notes:
        log.warning(note)
    backend = connect(read_manifest(SERVED), settings.runs_dir, answer_s=API_ANSWER_S)
    return create_api(backend, store=Store.open(settings.database), settings=api_settings(settings), notes=notes)


def api_settings(settings: Settings) -> Settings:
    """For an API whose threads only wait for ``Inference``: one for each request that Modal lets in, so that requests
    meet in batches, and as long as a container may take to start.
    """
    return settings.model_copy(update={"api_workers": API_CONCURRENCY, "api_timeout_s": API_ANSWER_S + 5})


# Training. Every function may be killed at any moment and called again with the same arguments: it goes on.

TRAINING: dict[str, Any] = {
    "cpu": CORES,
    "memory": TRAINING_MEMORY_MIB,
    "volumes": {str(MOUNT): volume},
    "startup_timeout": STARTUP_TIMEOUT_S,
    "retries": modal.Retries(max_retries=3, initial_delay=1.0),
}


@app.function(gpu=GPU, timeout=TRAINING_TIMEOUT_S, single_use_containers=True, **TRAINING)
def train(
    dataset: str = "",
    fold: str = "1",
    epochs: int = EPOCHS,
    seed: int = 0,
    settings: str = "",
    run_id: str = "",
    init: str = "",
) -> dict[str, str]:
    """Train one network into runs/RUN_ID of the Volume.

    ``dataset``: as ``upload`` printed it; may be left out while there is one. ``settings``: NAME=VALUE, separated by
    spaces. ``init``: the model to start from, as ``upload`` printed it. An error of ours is an answer and no crash,
    which Modal would try again.
    """
    from core.training.loop import train as run_training
    from core.training.runs import RunConfig, fold_named, new_run_id, origin_of, train_config
    from core.training.tuning import build_of, started_from

    volume.reload()
    run = RunFolder(MOUNT / RUNS / (run_id or new_run_id(f"fold-{fold}-seed-{seed}")))
    with outcome_of(run, volume.commit) as outcome:
        clips, start = dataset_on(MOUNT, dataset), start_on(MOUNT, init)
        config = RunConfig(
            run_id=run.path.name,
            fold=fold_named(fold, clips.folds),
            train=train_config(changes_in(settings), epochs=epochs, seed=seed, **build_of(start)),
            **started_from(start),
            **origin_of(clips),
        )
        run_training(config, clips, run, once_saved=Commits())
    return outcome


@app.function(
    gpu=GPU,
    timeout=TRAINING_TIMEOUT_S,
    max_containers=TRAINERS_AT_ONCE,
    scaledown_window=10,  # ready for the next network at once, and gone soon
    **TRAINING,
)
def train_member(dataset: str, run_id: str, member: str, of_call: str = "") -> dict[str, str]:
    """Train and measure one network of the cross-validation ``run_id``, unless the call that asked was cancelled."""
    from core.training.crossval import CrossvalConfig, members_of
    from core.training.data import decode_clips
    from core.training.members import complete_member, is_complete

    volume.reload()
    run = RunFolder(MOUNT / RUNS / run_id)
    with outcome_of(RunFolder(run.path / "members" / member), volume.commit) as outcome:
        check_wanted(run.path, of_call)
        config = CrossvalConfig.model_validate_json((run.path / "config.json").read_text(encoding="utf-8"))
        asked = next(asked for asked in members_of(config) if asked.run_id == member)
        if not is_complete(asked, run):
            clips = dataset_on(MOUNT, dataset)
            complete_member(asked, clips, run, decode_clips(clips.clips, config.train.audio), once_saved=Commits())
    return outcome


@app.function(timeout=FAN_OUT_TIMEOUT_S, single_use_containers=True, **TRAINING)
def cross_validate(
    dataset: str = "",
    seeds: int = 3,
    epochs: int = EPOCHS,
    settings: str = "",
    leave_out: str = "",
    run_id: str = "",
    init: str = "",
) -> dict[str, str]:
    """Train every fold and seed, each on a GPU of its own, then one model on all folds.

    ``leave_out``: as ``python -m core crossval --leave-out`` takes it, separated by spaces. ``init``: the model, or the
    cross-validation, to start from, as ``upload`` printed it.
    """
    from core.training.crossval import CrossvalConfig, left_out_named, members_of
    from core.training.crossval import cross_validate as pool
    from core.training.runs import new_run_id, origin_of, train_config
    from core.training.tuning import build_of, started_from

    volume.reload()
    run = RunFolder(MOUNT / RUNS / (run_id or new_run_id("crossval")))
    with outcome_of(run, volume.commit) as outcome:
        clips, start = dataset_on(MOUNT, dataset), start_on(MOUNT, init)
        config = CrossvalConfig(
            run_id=run.path.name,
            folds=clips.folds,
            seeds=tuple(range(seeds)),
            left_out=left_out_named(leave_out.split(), clips.class_names),
            left_out_epochs=max(1, epochs // 4),
            train=train_config(changes_in(settings), epochs=epochs, **build_of(start)),
            **(started_from(start) | ({"init": start} if start else {})),
            **origin_of(clips),
        )
        run.begin(config, may_grow=("seeds", "left_out"))
        fan_out(run, [member.run_id for member in members_of(config)], dataset)
    if "error" not in outcome:
        volume.reload()  # what the members wrote; no file may be open
        with outcome_of(run, volume.commit) as outcome:
            pool(config, clips, run)
    return outcome


def fan_out(run: RunFolder, names: Sequence[str], dataset: str) -> None:
    """Have every member trained that is not, and wait for all. Raises the first error once none trains any more.

    ``calls.json`` holds each member's call: after a preemption they are waited for and not trained twice, and whoever
    cancels the run cancels them.
    """
    calls: dict[str, str] = json.loads(text_of(run.path / CALLS) or "{}")
    for name in names:
        if name not in calls or _failed(calls[name]):
            calls[name] = train_member.spawn(
                dataset, run.path.name, name, modal.current_function_call_id() or ""
            ).object_id
            write_text(run.path / CALLS, json.dumps(calls, indent=2))
            volume.commit()
    run.write_status("running", 0, len(names), message="training")
    volume.commit()
    failed = []
    for name in names:
        try:
            outcome = modal.FunctionCall.from_id(calls[name]).get()
        except Exception as exc:
            outcome = {"message": str(exc)}
        if "message" in outcome:
            failed.append(f"{name}: {outcome['message']}")
    if failed:
        raise RunError(f"{len(failed)} of {len(names)} networks failed. {failed[0]}", code="member_failed")


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


# The client: this machine's side. What it does is in core/remote; here is how Modal is spoken to.


class OnModal:
    """Modal as ``core.remote.cloud.Cloud`` has it. Nothing of Modal's own, errors included, leaves this class."""

    def __init__(self, app_name: str = APP, *, connect_s: float = Patience().connect_s) -> None:
        self._app_name, self._connect_s = app_name, connect_s

    async def ready(self, function: str) -> None:
        await self._function(function)

    async def spawn(self, function: str, *given: Any, **named: Any) -> str:
        called = await self._function(function)
        with _told():
            return str((await called.spawn.aio(*given, **named)).object_id)

    async def result(self, call_id: str, *, timeout_s: float) -> Any:
        with _told(missing=failures.forgotten):
            return await modal.FunctionCall.from_id(call_id).get.aio(timeout=timeout_s)

    async def cancel(self, call_id: str) -> None:
        with _told(), contextlib.suppress(NotFoundError):
            await modal.FunctionCall.from_id(call_id).cancel.aio(terminate_containers=True)

    async def load(self, function: str) -> Load:
        called = await self._function(function)
        with _told():
            stats = await called.get_current_stats.aio()
        return Load(running=stats.num_running_inputs, containers=stats.num_total_runners)

    async def files(self, folder: str) -> list[RemoteFile] | None:
        store = await self._looked_up(_volume())
        with _told(), contextlib.suppress(FileNotFoundError, NotFoundError):
            found = await store.listdir.aio(folder, recursive=True)
            return [RemoteFile(of.path, of.size, of.mtime) for of in found if of.type == FileEntryType.FILE]
        return None

    async def read(self, path: str) -> bytes | None:
        with _told(), contextlib.suppress(FileNotFoundError, NotFoundError):
            return b"".join([part async for part in _volume().read_file.aio(path)])
        return None

    async def put(self, files: Mapping[str, Path | bytes]) -> None:
        store = await self._looked_up(_volume())
        with _told():
            async with store.batch_upload.aio(force=True) as batch:
                for path, content in files.items():
                    batch.put_file(io.BytesIO(content) if isinstance(content, bytes) else content, path)

    async def _function(self, name: str) -> Any:
        """A deployed function or, ``Class.method``, a method."""
        owner, _, method = name.partition(".")
        if method:
            return await self._looked_up(getattr(modal.Cls.from_name(self._app_name, owner)(), method))
        return await self._looked_up(modal.Function.from_name(self._app_name, name))

    async def _looked_up(self, thing: Any) -> Any:
        """``thing`` as Modal knows it, within the time that a person is kept waiting for Modal to be there."""
        with _told():
            try:
                await asyncio.wait_for(thing.hydrate.aio(), self._connect_s)
            except TimeoutError:
                raise failures.unreachable(self._connect_s) from None
        return thing


def connect(
    manifest: Manifest,
    runs_dir: Path,
    *,
    app_name: str = APP,
    patience: Patience = Patience(),
    answer_s: float | None = None,
) -> ModalBackend:
    """The backend that asks Modal; nothing is asked yet. ``answer_s``: of ``patience``, where another is wanted."""
    from core.remote.backend import ModalBackend

    patience = patience if answer_s is None else replace(patience, answer_s=answer_s)
    cloud = OnModal(app_name, connect_s=patience.connect_s)
    return ModalBackend(manifest, cloud, trainer(runs_dir, app_name=app_name, patience=patience), patience=patience)


def trainer(runs_dir: Path, *, app_name: str = APP, patience: Patience = Patience()) -> ModalTrainer:
    """The trainer of the same."""
    from core.remote.trainer import ModalTrainer

    return ModalTrainer(runs_dir, OnModal(app_name, connect_s=patience.connect_s), patience=patience)


def _volume() -> modal.Volume:
    return modal.Volume.from_name(APP, create_if_missing=True, version=2)


@contextmanager
def _told(missing: Callable[[], BackendError] | None = None) -> Iterator[None]:
    """Whatever Modal raises, as the failure it is. ``missing``: what it is that Modal does not find."""
    try:
        yield
    except (EarshotError, TimeoutError):
        raise
    except Exception as exc:
        if missing is not None and isinstance(exc, NotFoundError | OutputExpiredError):
            raise missing() from exc
        raise _failure(exc) from exc


def _failure(exc: Exception) -> BackendError:
    said = str(exc).strip().split("\n")[0]
    if isinstance(exc, AuthError):
        return failures.no_token() if "missing" in said.lower() else failures.wrong_token(said)
    for kinds, told in FAILURES.items():
        if isinstance(exc, kinds):
            return told(said)
    return failures.failed(type(exc).__name__, said, APP)


FAILURES: dict[tuple[type[Exception], ...], Callable[[str], BackendError]] = {
    (NotFoundError,): failures.not_deployed,
    (NotConnectedError,): failures.not_connected,
    (FunctionTimeoutError,): failures.out_of_time,
    (PermissionDeniedError, ResourceExhaustedError): failures.declined,
    (InternalFailure, RemoteError): failures.preempted,
    (ExecutionError, DeserializationError): failures.unreadable,
}


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
    """``upload`` a dataset or a model, ``pull`` a run."""
    import argparse

    from core.remote.folders import pull_run, upload_dataset, upload_start

    parser = argparse.ArgumentParser(prog="python modal_backend.py", description="Earshot's Volume on Modal.")
    commands = parser.add_subparsers(dest="command", required=True)
    upload = commands.add_parser(
        "upload", help="a dataset in ESC-50's layout, for training there; or a model or run to start from"
    )
    upload.add_argument("folder", type=Path)
    pull = commands.add_parser("pull", help="a run folder into the runs folder here")
    pull.add_argument("run")
    given = parser.parse_args(argv)
    cloud = OnModal()
    try:
        if given.command == "pull":
            print(pull_run(given.run, Settings.load().runs_dir, cloud))
        elif any((given.folder / name).exists() for name in ("artifact.json", "artifact")):
            print(upload_start(given.folder, cloud))
        else:
            print(upload_dataset(given.folder, cloud))
    except EarshotError as exc:
        print(f"error [{exc.code}]: {exc}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
