"""Modal's client over a cloud made of dictionaries: what it writes down, and in which order it asks."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.artifact import Artifact, save_artifact
from core.audio import write_wav
from core.errors import BackendError, EarshotError, RunError
from core.jobs import TrainingRequest, create_job, read_job, save_job
from core.remote import failures
from core.remote.backend import ModalBackend
from core.remote.cloud import INFERENCE, Load, Patience, RemoteFile
from core.remote.folders import upload_start
from core.remote.mounted import check_wanted, start_on
from core.remote.trainer import ModalTrainer
from core.training.tuning import starting_artifact
from tests.synthetic_dataset import write_dataset

GOES_ON = object()
PATIENCE = Patience(look_every_s=0, silent_s=0)


class FakeCloud:
    """Calls go on until a test says how they end. ``asked`` is what was asked, in order."""

    def __init__(self) -> None:
        self.numbers = itertools.count()
        self.asked: list[tuple[str, str]] = []
        self.given: dict[str, dict[str, Any]] = {}
        self.calls: dict[str, Any] = {}
        self.volume: dict[str, bytes] = {}
        self.when: dict[str, Callable[[], object]] = {}  # what happens elsewhere while Modal is at something
        self.at = Load(running=0, containers=0)

    def _note(self, what: str, subject: str) -> None:
        self.asked.append((what, subject))
        if what in self.when:
            self.when.pop(what)()

    async def ready(self, function: str) -> None:
        self._note("ready", function)

    async def spawn(self, function: str, *given: Any, **named: Any) -> str:
        call_id = f"fc-{next(self.numbers)}"
        self._note("spawn", function)
        self.calls[call_id], self.given[call_id] = GOES_ON, named
        return call_id

    async def result(self, call_id: str, *, timeout_s: float) -> Any:
        outcome = self.calls[call_id]
        if outcome is GOES_ON:
            raise TimeoutError
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    async def cancel(self, call_id: str) -> None:
        self._note("cancel", call_id)
        if self.calls.get(call_id) is GOES_ON:
            self.calls[call_id] = failures.preempted("cancelled")

    async def load(self, function: str) -> Load:
        return self.at

    async def files(self, folder: str) -> Sequence[RemoteFile] | None:
        found = [RemoteFile(path, len(data), 1e9) for path, data in self.volume.items() if path.startswith(folder)]
        return found or None

    async def read(self, path: str) -> bytes | None:
        return self.volume.get(path)

    async def put(self, files: Mapping[str, Path | bytes]) -> None:
        for path, content in files.items():
            self._note("put", path)
            self.volume[path] = content if isinstance(content, bytes) else content.read_bytes()


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    write_dataset(root, n_classes=2, folds=2, per_class_and_fold=1, duration_s=0.3, sample_rate_hz=16_000)
    return root


@pytest.fixture
def cloud() -> FakeCloud:
    return FakeCloud()


@pytest.fixture
def trainer(cloud: FakeCloud, tmp_path: Path) -> ModalTrainer:
    return another(cloud, tmp_path)


def another(cloud: FakeCloud, tmp_path: Path) -> ModalTrainer:
    """Of another process."""
    return ModalTrainer(tmp_path / "runs", cloud, patience=PATIENCE)


def asked(toy: Path, **changes: object) -> TrainingRequest:
    return TrainingRequest(where="modal", dataset=toy, epochs=2).model_copy(update=changes)


def spawned(cloud: FakeCloud) -> int:
    return sum(what == "spawn" for what, _ in cloud.asked)


def test_a_launch_uploads_once_and_keeps_the_call(cloud: FakeCloud, trainer: ModalTrainer, toy: Path) -> None:
    job = trainer.start_training(asked(toy, seed=3), asked_by="ada")
    assert (job.state, job.call_id, read_job(job.run).call_id) == ("queued", "fc-0", "fc-0")
    given = cloud.given["fc-0"]
    assert (given["run_id"], given["fold"], given["seed"], given["epochs"]) == (job.id, "1", 3, 2)
    assert f"datasets/{given['dataset']}/meta/esc50.csv" == [path for what, path in cloud.asked if what == "put"][-1]
    uploaded = len(cloud.volume)
    trainer.start_training(asked(toy))
    assert len(cloud.volume) == uploaded
    assert len([path for what, path in cloud.asked if what == "put"]) == uploaded


def test_a_launch_that_fails_is_a_failed_job_that_can_be_resumed(
    cloud: FakeCloud, trainer: ModalTrainer, toy: Path
) -> None:
    def fail() -> None:
        raise failures.declined("no GPU is left")

    cloud.when["spawn"] = fail
    with pytest.raises(BackendError, match="no GPU is left"):
        trainer.start_training(asked(toy))
    (job,) = trainer.jobs()
    assert (job.state, job.resumable) == ("failed", True)
    assert "could not be launched. Modal declined" in job.message
    assert trainer.resume(job.id).call_id is not None


def test_two_processes_cannot_resume_one_job_twice(
    cloud: FakeCloud, trainer: ModalTrainer, toy: Path, tmp_path: Path
) -> None:
    job = trainer.start_training(asked(toy))
    trainer.cancel(job.id)
    refused: list[EarshotError] = []

    def resume_elsewhere() -> None:
        with ThreadPoolExecutor() as pool:  # it has an event loop of its own
            error = pool.submit(another(cloud, tmp_path).resume, job.id).exception()
        assert isinstance(error, EarshotError)
        refused.append(error)

    cloud.when["spawn"] = resume_elsewhere
    assert trainer.resume(job.id).state == "queued"
    assert [error.code for error in refused] == ["not_resumable"]
    assert spawned(cloud) == 2


def test_a_job_whose_launcher_was_killed_is_not_queued_for_ever(
    trainer: ModalTrainer, toy: Path, tmp_path: Path
) -> None:
    job = create_job(tmp_path / "runs", asked(toy))
    assert [seen.state for seen in trainer.jobs()] == ["queued"]
    save_job(job, queued_at=job.queued_at - timedelta(seconds=2 * PATIENCE.launch_s))
    (seen,) = trainer.jobs()
    assert (seen.state, seen.resumable) == ("dead", True)
    assert "Resume it" in read_job(job.run).message


def test_cancelling_ends_the_call_before_it_reads_whom_that_had_spawned(
    cloud: FakeCloud, trainer: ModalTrainer, toy: Path, tmp_path: Path
) -> None:
    job = trainer.start_training(asked(toy, protocol="crossval"))
    calls = f"runs/{job.id}/calls.json"
    for member in ("fc-a", "fc-b"):
        cloud.calls[member] = GOES_ON
    cloud.volume[calls] = json.dumps({"fold-1-seed-0": "fc-a"}).encode()

    def spawn_one_more() -> None:
        cloud.volume[calls] = json.dumps({"fold-1-seed-0": "fc-a", "fold-2-seed-0": "fc-b"}).encode()

    cloud.when["cancel"] = spawn_one_more
    assert trainer.cancel(job.id).state == "cancelled"
    assert cloud.asked[-4:] == [
        ("put", f"runs/{job.id}/cancelled"),  # a member that nobody has heard of yet finds it
        ("cancel", "fc-0"),
        ("cancel", "fc-a"),
        ("cancel", "fc-b"),
    ]
    run = tmp_path / "elsewhere"
    run.mkdir()
    check_wanted(run, "fc-0")
    (run / "cancelled").write_bytes(cloud.volume[f"runs/{job.id}/cancelled"])
    with pytest.raises(RunError, match="cancelled"):
        check_wanted(run, "fc-0")
    check_wanted(run, "fc-1")  # resumed: another call


def test_what_had_ended_before_it_could_be_cancelled_is_what_it_ended_as(
    cloud: FakeCloud, trainer: ModalTrainer, toy: Path
) -> None:
    finished, failed = trainer.start_training(asked(toy)), trainer.start_training(asked(toy))
    cloud.calls["fc-0"] = {"run": finished.id}
    cloud.volume[f"runs/{finished.id}/artifact/artifact.json"] = b"{}"
    cloud.calls["fc-1"] = {"run": failed.id, "error": "no_such_fold", "message": "Expected another fold."}
    assert trainer.cancel(finished.id).state == "finished"
    assert (finished.run / "artifact" / "artifact.json").exists()
    ended = trainer.cancel(failed.id)
    assert (ended.state, ended.message) == ("failed", "Expected another fold.")


def test_what_is_cancelled_while_it_is_launched_is_ended(
    cloud: FakeCloud, trainer: ModalTrainer, toy: Path, tmp_path: Path
) -> None:
    def cancel_elsewhere() -> None:
        (job,) = another(cloud, tmp_path).jobs()
        with ThreadPoolExecutor() as pool:
            assert pool.submit(another(cloud, tmp_path).cancel, job.id).result().state == "cancelled"

    cloud.when["spawn"] = cancel_elsewhere
    assert trainer.start_training(asked(toy)).state == "cancelled"
    assert ("cancel", "fc-0") in cloud.asked


@pytest.mark.parametrize(
    ("outcome", "state"),
    [
        (GOES_ON, "queued"),
        ({"run": "a"}, "finished"),
        ({"run": "a", "error": "x", "message": "y"}, "failed"),
        (failures.forgotten(), "dead"),
        (failures.preempted("gone"), "failed"),
        (failures.wrong_token("no"), "queued"),
    ],
)
def test_a_job_is_told_by_its_call(
    cloud: FakeCloud, trainer: ModalTrainer, toy: Path, outcome: Any, state: str
) -> None:
    job = trainer.start_training(asked(toy))
    cloud.calls["fc-0"] = outcome
    cloud.volume[f"runs/{job.id}/config.json"] = b"{}"
    (seen,) = trainer.jobs()
    assert seen.state == state
    assert ("last seen" in seen.message) == (isinstance(outcome, BackendError) and outcome.code == "modal_wrong_token")


@pytest.mark.parametrize(
    ("outcome", "state"),
    [(failures.forgotten(), "dead"), (failures.out_of_time("12 h"), "failed"), ({"run": "r"}, "failed")],
)
def test_a_job_that_ended_before_it_wrote_a_run_folder_is_told_and_stops_no_list(
    cloud: FakeCloud, trainer: ModalTrainer, toy: Path, outcome: Any, state: str
) -> None:
    job = trainer.start_training(asked(toy))
    cloud.calls["fc-0"] = outcome
    (seen,) = trainer.jobs()
    assert seen.state == read_job(job.run).state == state
    assert seen.message


@pytest.fixture
def validated(tmp_path: Path, untrained: Artifact) -> Path:
    """A cross-validation with the networks of two folds."""
    run = tmp_path / "validated"
    for name in (".", "members/fold-1-seed-0", "members/fold-2-seed-0"):
        named = untrained.manifest.model_copy(update={"run_id": name})
        save_artifact(run / name / "artifact", untrained.net, named)
    return run


def test_fine_tuning_starts_there_from_the_same_networks_as_here(
    cloud: FakeCloud, trainer: ModalTrainer, toy: Path, validated: Path, tmp_path: Path
) -> None:
    job = trainer.start_training(asked(toy, protocol="crossval", init=validated))
    key = cloud.given["fc-0"]["init"]
    assert job.id.rpartition("tuned-")[2].startswith("crossval")
    for path, data in cloud.volume.items():
        (tmp_path / "volume" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "volume" / path).write_bytes(data)
    there = start_on(tmp_path / "volume", key)
    assert there is not None
    for member in (None, "fold-1-seed-0", "fold-2-seed-0"):
        mine, its = starting_artifact(validated, member), starting_artifact(there, member)
        for file in mine.iterdir():
            assert (its / file.name).read_bytes() == file.read_bytes()
    uploaded = len([path for what, path in cloud.asked if what == "put"])
    assert upload_start(validated / "artifact", cloud) == key
    assert len([path for what, path in cloud.asked if what == "put"]) == uploaded
    assert start_on(tmp_path, "") is None
    with pytest.raises(RunError, match="upload MODEL"):
        start_on(tmp_path / "volume", "0" * 16)


def test_a_question_that_was_not_answered_in_time_is_asked_once(cloud: FakeCloud, untrained: Artifact) -> None:
    backend = ModalBackend(untrained.manifest, cloud, ModalTrainer(Path(), cloud), patience=PATIENCE)
    sound = write_wav(np.zeros(16_000, dtype=np.float32), 16_000)
    for load, code in ((Load(0, 0), "modal_cold"), (Load(1, 1), "modal_timeout")):
        cloud.at = load
        with pytest.raises(BackendError) as caught:
            backend.classify([sound])
        assert caught.value.code == code
    assert cloud.asked.count(("spawn", INFERENCE)) == 1
    cloud.calls["fc-0"] = {"fingerprint": "f" * 64}
    with pytest.raises(BackendError) as caught:
        backend.classify([sound])
    assert caught.value.code == "modal_other_model"
