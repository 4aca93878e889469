"""Modal as a person uses it: deploy, ask, train, cancel, lose a machine. Their client and container code are real.

What the stand-in does not show: that images build, GPUs, prices, and how long a start takes there.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from core.artifact import Manifest, read_manifest
from core.audio import write_wav
from core.config import ROOT, SHIPPED_ARTIFACT
from core.errors import BackendError, RunError
from core.jobs import Progress, TrainingRequest
from core.records import Prediction
from core.training.runs import RunFolder
from tests.modal_standin import API_KEY, PROXY, command, containers, environment, held, kill, preempt, until
from tests.synthetic_dataset import write_dataset

modal_backend = pytest.importorskip("modal_backend")
pytestmark = pytest.mark.slow

PATIENT = modal_backend.Patience(connect_s=60, answer_s=240, look_every_s=0, silent_s=0)
TINY = ("model.stem_channels=8", "model.stage_channels=[8, 16]", "augment.crop_s=0.5", "batch_size=4")


@pytest.fixture(scope="module")
def manifest() -> Manifest:
    return read_manifest(SHIPPED_ARTIFACT)


@pytest.fixture
def backend(on_modal: Any, manifest: Manifest, tmp_path: Path) -> Any:
    return modal_backend.connect(manifest, tmp_path / "runs", patience=PATIENT)


def hasty(manifest: Manifest, runs: Path, **patience: float) -> Any:
    given = {"connect_s": 30.0, "answer_s": 30.0, "silent_s": 0.0} | patience
    return modal_backend.connect(manifest, runs, patience=modal_backend.Patience(**given))


def noise(seconds: float, seed: int) -> bytes:
    return write_wav(np.random.default_rng(seed).normal(0, 0.1, round(seconds * 32_000)).astype(np.float32), 32_000)


def code_of(backend: Any, sound: bytes) -> tuple[str, str]:
    with pytest.raises(BackendError) as caught:
        backend.classify([sound])
    return caught.value.code, str(caught.value)


# What was deployed.


def test_inference_is_defined_as_the_server_received_it(modal_server: Any) -> None:
    spec = modal_server.spec("earshot", "Inference")
    assert (spec["gpu"], spec["memory_snapshot"], spec["is_class"]) == ("A10", True, True)
    assert (spec["timeout"], spec["startup_timeout"], spec["scaledown_window"]) == (120, 600, 120)
    assert (spec["max_containers"], spec["min_containers"], spec["batch"]) == (4, 0, (16, 20))
    assert spec["retries"] == {"n": 1, "initial_ms": 0, "backoff": 2.0}
    assert spec["secrets"] == []
    assert spec["volumes"] == {}


def test_the_image_is_built_from_the_pinned_requirements(modal_server: Any) -> None:
    spec = modal_server.spec("earshot", "train")
    assert spec["image"][0].startswith("FROM python:3.11")
    assert any("uv pip install" in line for line in spec["image"])
    (received,) = (
        text for name, text in modal_server.image_context_files(spec["image_id"]).items() if "requirements" in name
    )
    assert received == (ROOT / "requirements.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("function", "gpu", "timeout", "single_use"),
    [("train", "A10", 43_200, True), ("train_member", "A10", 43_200, False), ("cross_validate", None, 86_400, True)],
)
def test_training_is_defined_as_the_server_received_it(
    modal_server: Any, function: str, gpu: str | None, timeout: int, single_use: bool
) -> None:
    spec = modal_server.spec("earshot", function)
    assert (spec["gpu"], spec["timeout"], spec["single_use"]) == (gpu, timeout, single_use)
    assert spec["volumes"] == {"/earshot": ("earshot", False)}
    assert spec["retries"]["n"] == 3
    assert spec["startup_timeout"] == 600


def test_containers_get_the_domain_and_the_model_and_nothing_else(modal_server: Any) -> None:
    files = set(modal_server.spec("earshot", "Inference")["files"])
    files |= set(_image_files(modal_server, "Inference"))
    inside = {name.removeprefix(f"{modal_backend.HOME}/") for name in files}
    assert {"modal_backend.py", "core/classifier.py", "core/assets/attribution.csv"} <= inside
    assert {"served/artifact.json", "served/model.safetensors"} <= inside
    assert not [name for name in inside if name.startswith(("app/", "pages/", "tests/", ".")) or "__pycache__" in name]


def _image_files(server: Any, function: str) -> list[str]:
    spec = server.spec("earshot", function)
    return [file.filename for mount in server._image_mounts(spec["image_id"]) for file in server.mounts[mount]]


def test_the_api_is_behind_proxy_tokens_and_the_key(on_modal: Any, backend: Any) -> None:
    spec = on_modal.spec("earshot", "api")
    assert spec["web"]["requires_proxy_auth"]
    assert spec["max_concurrent_inputs"] == 64
    assert [name for name, _ in spec["secrets"]] == ["earshot"]
    address = on_modal._web_url(on_modal.app_layouts[on_modal.app_names["earshot"]][0]["api"])
    sound, proxy = noise(1, seed=1), {"Modal-Key": PROXY[0], "Modal-Secret": PROXY[1]}
    (expected,) = backend.classify([sound])
    with httpx.Client(base_url=address, timeout=240) as client:

        def ask(headers: dict[str, str]) -> httpx.Response:
            return client.post("v1/classify", content=sound, headers={"content-type": "audio/wav"} | headers)

        assert ask({}).status_code == 401
        refused = ask(proxy)
        assert (refused.status_code, refused.json()["error"]["code"]) == (401, "unauthorized")
        answer = ask(proxy | {"x-api-key": API_KEY})
        lives = client.get("healthz", headers=proxy).json()
    assert answer.status_code == 200, answer.text
    assert answer.json()["prediction"]["label"] == expected.label
    assert "the log of answers ends with this container" in lives["notes"][0]  # no database is in the secret


# Asking.


def test_answers_say_where_they_were_made(backend: Any) -> None:
    first, again = backend.classify([noise(1, seed=2)]), backend.classify([noise(1, seed=3)])
    for (answer,) in (first, again):
        assert isinstance(answer, Prediction)
        assert answer.backend == "modal"
        assert answer.place is not None
        assert answer.place.device
        assert answer.place.round_trip_ms > answer.latency_ms
    assert not again[0].place.cold
    assert backend.health().ready


def test_many_sounds_are_answered_in_order_and_a_bad_one_stops_no_other(backend: Any) -> None:
    sounds = [noise(1, seed=4), b"nothing of the sort", noise(2, seed=5)]
    good, bad, other = backend.classify(sounds)
    assert (good.duration_s, other.duration_s) == (1, 2)
    assert bad.code == "not_audio" or "Expected" in str(bad)
    assert backend.classify([]) == []


def test_it_explains(backend: Any) -> None:
    why = backend.explain(noise(2, seed=6), label="rain", timeline=True)
    assert why.label == "rain"
    assert why.stages[-1].cam.ndim == 2
    with pytest.raises(Exception, match="Expected one of"):
        backend.explain(noise(2, seed=6), label="cuckoo")


# Each failure, told as itself.


def test_a_cold_start_is_told_and_the_question_is_not_lost(on_modal: Any, manifest: Manifest, tmp_path: Path) -> None:
    for task in containers(on_modal, "Inference.*"):
        kill(on_modal, task)
    impatient, sound = hasty(manifest, tmp_path, answer_s=0.05), noise(1, seed=7)
    code, said = code_of(impatient, sound)
    assert code == "modal_cold"
    assert "starting a container" in said
    asked = len(on_modal.requests("FunctionMap"))
    impatient._patience = PATIENT
    (answer,) = impatient.classify([sound])
    assert answer.place.cold
    assert len(on_modal.requests("FunctionMap")) == asked  # the same call


def test_a_late_answer_and_a_lost_container_are_told_apart(on_modal: Any, manifest: Manifest, tmp_path: Path) -> None:
    modal_backend.connect(manifest, tmp_path, patience=PATIENT).classify([noise(1, seed=8)])  # warm
    impatient, long = hasty(manifest, tmp_path, answer_s=2.0), noise(400, seed=9)
    (busy,) = containers(on_modal, "Inference.*")
    with held(busy):
        code, said = code_of(impatient, long)
    assert code == "modal_timeout", said
    kill(on_modal, busy)
    impatient._patience = PATIENT
    code, said = code_of(impatient, long)
    assert code == "modal_preempted", said


def test_another_model_is_refused(on_modal: Any, manifest: Manifest, tmp_path: Path) -> None:
    other = hasty(manifest.model_copy(update={"fingerprint": "f" * 64}), tmp_path, answer_s=240)
    code, said = code_of(other, noise(1, seed=10))
    assert code == "modal_other_model"
    assert "modal deploy" in said


@pytest.mark.parametrize(
    ("changed", "code", "said"),
    [
        ({"MODAL_TOKEN_ID": None, "MODAL_TOKEN_SECRET": None}, "modal_no_token", "modal setup"),
        ({"MODAL_TOKEN_SECRET": "as-wrong"}, "modal_wrong_token", "refused this machine's token"),
        ({"MODAL_SERVER_URL": "http://127.0.0.1:9"}, "modal_unreachable", "connection"),
    ],
)
def test_who_cannot_ask_is_told_why(
    on_modal: Any, manifest: Manifest, tmp_path: Path, changed: dict[str, str | None], code: str, said: str
) -> None:
    with environment(changed):
        backend = hasty(manifest, tmp_path, connect_s=5)
        got, sentence = code_of(backend, noise(1, seed=11))
        health = backend.health()
    assert got == code
    assert said in sentence
    assert not health.ready
    assert health.message == sentence


def test_what_is_not_deployed_is_told(on_modal: Any, manifest: Manifest, tmp_path: Path) -> None:
    backend = modal_backend.connect(manifest, tmp_path, app_name="nowhere", patience=PATIENT)
    code, said = code_of(backend, noise(1, seed=12))
    assert code == "modal_not_deployed"
    assert "modal deploy modal_backend.py" in said
    with pytest.raises(BackendError, match="modal deploy"):
        backend.trainer.start_training(TrainingRequest(where="modal", dataset=tmp_path))


# Training.


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny") / "tiny"
    write_dataset(folder, folds=2)
    return folder


def asked(dataset: Path, epochs: int) -> TrainingRequest:
    return TrainingRequest(where="modal", dataset=dataset, epochs=epochs, changes=TINY, augmentation="off")


def ended(backend: Any, job_id: str) -> Progress:
    def look() -> Progress | None:
        progress: Progress = backend.trainer.follow(job_id)
        return None if progress.job.active else progress

    return until(look)


def epochs_told(log: Sequence[str]) -> list[int]:
    return [int(found[1]) for line in log if (found := re.match(r"epoch (\d+)/", line))]


def test_a_job_that_is_cancelled_resumed_and_preempted_ends_as_one(on_modal: Any, backend: Any, tiny: Path) -> None:
    job = backend.trainer.start_training(asked(tiny, epochs=8), asked_by="someone")
    assert (job.state, job.asked_by) == ("queued", "someone")
    kept = on_modal.volume_path("earshot") / "runs" / job.id / "checkpoints" / "last.ckpt"

    until(kept.exists)
    assert backend.trainer.follow(job.id).job.state == "running"
    cancelled = backend.trainer.cancel(job.id)
    assert cancelled.state == "cancelled"
    until(lambda: not containers(on_modal, "train"))
    assert [seen.state for seen in backend.trainer.jobs()] == ["cancelled"]

    before = kept.stat().st_mtime_ns
    assert backend.trainer.resume(job.id).state == "queued"
    until(lambda: kept.stat().st_mtime_ns > before)
    preempt(on_modal, containers(on_modal, "train")[0])

    progress = ended(backend, job.id)
    assert (progress.job.state, progress.epoch) == ("finished", 8), progress
    told = epochs_told((job.run / "job.log").read_text().splitlines())
    assert sorted(set(told)) == list(range(1, 9))
    assert told.count(1) == 1  # it went on and did not begin again
    run = RunFolder(job.run)
    assert run.status().state == "finished"
    assert read_manifest(run.artifact).run_id == job.id
    assert list(job.run.glob("events.out.*"))
    assert not (job.run / "checkpoints").exists()  # stays on the Volume


def test_a_cross_validation_is_fanned_out_and_outlives_whoever_waits_for_it(
    on_modal: Any, backend: Any, tiny: Path
) -> None:
    request = asked(tiny, epochs=1).model_copy(update={"protocol": "crossval", "seeds": 1})
    job = backend.trainer.start_training(request)
    calls = on_modal.volume_path("earshot") / "runs" / job.id / "calls.json"
    members = {"fold-1-seed-0", "fold-2-seed-0", "fold-all-seed-0"}
    until(lambda: calls.exists() and set(json.loads(calls.read_text())) == members)
    spawned = calls.read_text()
    preempt(on_modal, containers(on_modal, "cross_validate")[0])
    progress = ended(backend, job.id)
    assert (progress.job.state, progress.epoch) == ("finished", 3), progress
    assert calls.read_text() == spawned  # each was trained once
    assert {run.parent.name for run in job.run.glob("members/*/metrics.json")} == members
    found = RunFolder(job.run)
    assert found.metrics()["n"] == len(found.records())
    assert set(found.records()["fold"]) == {1, 2}
    assert read_manifest(found.artifact).temperature > 0
    assert not (job.run / "calls.json").exists()

    changes = ("augment.crop_s=0.5", "batch_size=4")  # the build is the one of the model it starts from
    tuning = asked(tiny, epochs=1).model_copy(update={"init": found.path, "changes": changes})
    tuned = backend.trainer.start_training(tuning)
    assert ended(backend, tuned.id).job.state == "finished"
    assert RunFolder(tuned.run).metrics()["start"]["fingerprint"] == read_manifest(found.artifact).fingerprint


def test_a_run_that_cannot_be_is_an_answer_and_not_tried_again(backend: Any, on_modal: Any, tiny: Path) -> None:
    calls = len(on_modal.tasks)
    job = backend.trainer.start_training(asked(tiny, epochs=2).model_copy(update={"fold": 7}))
    progress = ended(backend, job.id)
    assert progress.job.state == "failed"
    assert "Expected one of the folds 1, 2 or 'all'" in progress.job.message
    assert len(on_modal.tasks) == calls + 1


def test_jobs_stay_as_they_were_last_seen_while_modal_is_silent(on_modal: Any, backend: Any, tiny: Path) -> None:
    job = backend.trainer.start_training(asked(tiny, epochs=10_000))
    with environment({"MODAL_TOKEN_SECRET": "as-wrong"}):
        (seen,) = backend.trainer.jobs()
        assert seen.state == "queued"
        assert "last seen" in seen.message
        assert "token" in backend.trainer.follow(job.id).job.message
        with pytest.raises(BackendError):
            backend.trainer.cancel(job.id)
    assert backend.trainer.cancel(job.id).state == "cancelled"
    with pytest.raises(RunError, match="not_a_job"):
        backend.trainer.follow("not_a_job")


def test_the_commands_of_the_readme(on_modal: Any, tiny: Path, tmp_path: Path) -> None:
    key = command(on_modal, "modal_backend.py", "upload", str(tiny)).strip().splitlines()[-1]
    assert key.endswith("/tiny")
    sound = tmp_path / "noise.wav"
    sound.write_bytes(noise(1, seed=13))
    assert "ms of work" in command(on_modal, "-m", "modal", "run", "modal_backend.py", "--file", str(sound))
    run = ["-m", "modal", "run", "modal_backend.py::train", "--dataset", key, "--epochs", "2", "--run-id", "typed"]
    assert "epoch 2/2" in command(on_modal, *run, "--settings", " ".join(TINY).replace(", ", ","))
    command(on_modal, "modal_backend.py", "pull", "typed", EARSHOT_RUNS_DIR=str(tmp_path))
    assert RunFolder(tmp_path / "typed").status().state == "finished"
    assert json.loads((tmp_path / "typed" / "config.json").read_text())["dataset"] == "tiny"
