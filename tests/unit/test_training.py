import dataclasses
import io
import logging
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors import SafetensorError
from safetensors.numpy import load_file
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from core.artifact import load_artifact
from core.augment import Bank
from core.config import ROOT, AugmentConfig, ModelConfig, TrainConfig
from core.dataset import SHARED_AUDIO, Dataset, load_dataset
from core.errors import DatasetError, RunError
from core.evaluation import calibrate, pool, summarise
from core.quality import assess
from core.training import loop
from core.training.crossval import CrossvalConfig, cross_validate, members_of
from core.training.curves import read_curves
from core.training.data import EpochShuffle, decode_clips, trim
from core.training.members import Means, Progress, complete_members, epoch_bar
from core.training.runs import RunConfig, RunFolder, write_atomically
from tests.synthetic_dataset import write_dataset

TINY = ModelConfig(stem_channels=8, stage_channels=(8, 16))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("toy")
    write_dataset(root, n_classes=3, folds=3, per_class_and_fold=4)
    return load_dataset(root)


def ask(dataset: Dataset, run_id: str = "a-run", fold: int | None = 1, **changes: object) -> RunConfig:
    settings = TrainConfig(
        epochs=4, batch_size=8, learning_rate=5e-3, model=TINY, augment=AugmentConfig(crop_s=0.5)
    ).model_copy(update=changes)
    return RunConfig(
        run_id=run_id,
        dataset=dataset.name,
        dataset_hash=dataset.content_hash,
        class_names=dataset.class_names,
        fold=fold,
        train=settings,
        code_version="0",
    )


def cross_validation(
    dataset: Dataset,
    *,
    epochs: int,
    folds: int | None = None,
    seeds: tuple[int, ...] = (0,),
    left_out: tuple[tuple[str, ...], ...] = (),
) -> CrossvalConfig:
    """Of the first ``folds`` of ``dataset``, or all."""
    asked = ask(dataset, "cv", epochs=epochs).model_dump(exclude={"fold", "left_out"})
    return CrossvalConfig(folds=dataset.folds[:folds], seeds=seeds, left_out=left_out, left_out_epochs=1, **asked)


def learning(dataset: Dataset) -> RunConfig:
    """Long enough, and clean enough, for a tiny network to learn in 120 steps on any processor."""
    mild = AugmentConfig(crop_s=0.5, crop_spread=1, reverb_p=0, overdrive_p=0, low_pass_p=0, noise_p=0, outlier_p=0)
    return ask(dataset, epochs=20, batch_size=4, augment=mild)


@pytest.fixture(scope="module")
def finished(dataset: Dataset, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    folder = RunFolder(tmp_path_factory.mktemp("runs") / "a-run")
    loop.train(learning(dataset), dataset, folder)
    return folder


def weights(folder: RunFolder) -> dict[str, np.ndarray]:
    return load_file(folder.artifact / "model.safetensors")


def same_weights(a: RunFolder, b: RunFolder) -> bool:
    one, two = weights(a), weights(b)
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def test_a_run_learns_sounds_that_can_be_told_apart(finished: RunFolder) -> None:
    assert finished.metrics()["accuracy"] >= 0.9


def test_records_are_the_held_out_clips_and_no_others(finished: RunFolder, dataset: Dataset) -> None:
    records = finished.records()
    held_out = {clip.filename for clip in dataset.clips if clip.fold == 1}
    assert set(records["clip_id"]) == held_out
    assert set(records["fold"]) == {1}
    assert all(len(row) == 3 for row in records["logits"])
    assert all(len(row) == 16 for row in records["embedding"])
    assert "rms_dbfs" in records.columns


def test_the_artifact_answers_the_held_out_clips_exactly_as_recorded(finished: RunFolder, dataset: Dataset) -> None:
    from core.classifier import Classifier

    classifier = Classifier.from_artifact(finished.artifact)
    by_name = {clip.filename: clip for clip in dataset.clips}
    for row in finished.records().itertuples():
        prediction = classifier.predict(by_name[row.clip_id].path.read_bytes())
        assert np.array_equal(np.array(prediction.logits, dtype=np.float32), row.logits)
        assert np.array_equal(np.array(prediction.embedding, dtype=np.float32), row.embedding)


def test_tensorboard_gets_curves_pictures_and_hyper_parameters(finished: RunFolder) -> None:
    events = EventAccumulator(str(finished.path)).Reload()
    scalars = set(events.Tags()["scalars"])
    assert {
        "train/loss",
        "train/accuracy",
        "val/loss",
        "val/accuracy",
        "train/gradient_norm",
        "learning_rate",
    } <= scalars
    assert [event.step for event in events.Scalars("val/accuracy")] == list(range(1, 21))
    assert "val/confusion" in events.Tags()["images"]
    assert "train/example_1" in events.Tags()["images"]
    assert "_hparams_/experiment" in events.summary_metadata


def test_the_learning_rate_rises_to_its_maximum_and_falls_to_nothing(finished: RunFolder) -> None:
    rates = [event.value for event in EventAccumulator(str(finished.path)).Reload().Scalars("learning_rate")]
    assert max(rates) == pytest.approx(5e-3, rel=0.1)
    assert rates.index(max(rates)) <= 2
    assert rates[-1] < 5e-3 / 100


def test_status_says_finished_with_the_last_numbers(finished: RunFolder) -> None:
    status = finished.status()
    assert (status.state, status.epoch, status.epochs) == ("finished", 20, 20)
    assert "val/accuracy" in status.metrics


def test_a_finished_run_is_not_trained_again(finished: RunFolder, dataset: Dataset) -> None:
    before = (finished.artifact / "artifact.json").stat().st_mtime_ns
    loop.train(learning(dataset), dataset, finished)
    assert (finished.artifact / "artifact.json").stat().st_mtime_ns == before


class Killed(BaseException):
    """Ends a training as no error of its own would."""


def whole_and_killed(
    dataset: Dataset,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    place: object,
    name: str,
    kill: object,
    **changes: float,
) -> tuple[RunFolder, RunFolder]:
    """A run that went through, and one that ``kill``, in place of ``name``, ended."""
    whole, broken = RunFolder(folder / "whole"), RunFolder(folder / "broken")
    loop.train(ask(dataset, **changes), dataset, whole)
    with monkeypatch.context() as patch:
        patch.setattr(place, name, kill)
        with pytest.raises(Killed):
            loop.train(ask(dataset, **changes), dataset, broken)
    return whole, broken


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}], ids=["plain", "ema"])
def test_a_run_killed_after_an_epoch_and_resumed_ends_with_the_same_weights(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, float]
) -> None:
    def kill(self: loop.Classification) -> None:
        if self.current_epoch == 2:
            raise Killed

    place, name = loop.Classification, "on_train_epoch_start"
    whole, broken = whole_and_killed(dataset, tmp_path, monkeypatch, place, name, kill, **changes)
    assert broken.status().state == "failed"
    loop.train(ask(dataset, **changes), dataset, broken)
    assert same_weights(whole, broken)
    curves = read_curves(broken.path)
    assert curves[curves["metric"] == "train/loss"]["epoch"].tolist() == [1, 2, 3, 4]


@pytest.mark.parametrize("changes", [{}, {"ema_decay": 0.9}], ids=["plain", "ema"])
def test_a_run_killed_after_its_last_epoch_ends_with_the_same_weights(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, changes: dict[str, float]
) -> None:
    """Nothing is left to train then, and what Lightning does at the end of training is not done again."""

    def kill(*_: object, **__: object) -> None:
        raise Killed

    whole, broken = whole_and_killed(dataset, tmp_path, monkeypatch, loop, "evaluate", kill, **changes)
    loop.train(ask(dataset, **changes), dataset, broken)
    assert same_weights(whole, broken)
    pd.testing.assert_frame_equal(whole.records(), broken.records())
    assert broken.status().metrics.keys() == whole.status().metrics.keys()
    assert broken.status().metrics["train/loss"] == whole.status().metrics["train/loss"]


def test_a_training_that_was_killed_outright_ends_as_one_that_was_not(tmp_path: Path) -> None:
    write_dataset(tmp_path / "toy", n_classes=2, folds=2, per_class_and_fold=2)
    asked = ["train", "--data", str(tmp_path / "toy"), "--epochs", "30", "--out", str(tmp_path)]
    asked += ["--set", "model.stem_channels=8", "--set", "model.stage_channels=[8,16]", "--set", "augment.crop_s=0.3"]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "core", *asked]
    killed, whole = RunFolder(tmp_path / "killed"), RunFolder(tmp_path / "whole")
    training = subprocess.Popen([*command, "--run-id", "killed"], cwd=ROOT, env=environment, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not killed.checkpoint.exists() or killed.status().epoch < 3:
        assert training.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    training.kill()
    training.wait()
    assert killed.status().state == "running"
    assert killed.status().epoch < 30
    resume = ["train", "--data", str(tmp_path / "toy"), "--resume", str(killed.path)]
    for then in ([sys.executable, "-m", "core", *resume], [*command, "--run-id", "whole"]):
        subprocess.run(then, cwd=ROOT, env=environment, check=True, capture_output=True)
    assert same_weights(killed, whole)
    pd.testing.assert_frame_equal(killed.records(), whole.records())
    timed = {"minutes", "hardware"}
    assert all(killed.metrics()[name] == value for name, value in whole.metrics().items() if name not in timed)


@pytest.mark.slow
def test_two_devices_share_an_epoch_and_leave_one_run(dataset: Dataset, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "pair")
    loop.train(ask(dataset, epochs=2), dataset, run, devices=2)
    assert run.status().state == "finished"
    assert set(run.records()["clip_id"]) == {clip.filename for clip in dataset.clips if clip.fold == 1}
    losses = EventAccumulator(str(run.path)).Reload().Scalars("train/loss")
    assert [event.step for event in losses] == [1, 2]
    load_artifact(run.artifact)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others(dataset: Dataset, tmp_path: Path) -> None:
    runs = [RunFolder(tmp_path / name) for name in ("a", "b", "c")]
    for run, seed in zip(runs, (0, 0, 1), strict=True):
        loop.train(ask(dataset, epochs=1, seed=seed), dataset, run)
    assert same_weights(runs[0], runs[1])
    assert not same_weights(runs[0], runs[2])


def test_training_on_all_folds_holds_nothing_out_and_still_ships(dataset: Dataset, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "all")
    loop.train(ask(dataset, fold=None, epochs=1), dataset, run)
    assert run.metrics()["n"] == 0
    assert len(run.records()) == 0
    assert load_artifact(run.artifact).manifest.class_names == dataset.class_names


def test_a_folder_of_another_configuration_is_not_overwritten(finished: RunFolder, dataset: Dataset) -> None:
    with pytest.raises(RunError, match="train differ") as caught:
        loop.train(ask(dataset, epochs=3), dataset, finished)
    assert caught.value.code == "other_run"


def test_two_writers_cannot_share_a_run_folder(dataset: Dataset, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "shared")
    run.begin(ask(dataset))
    with run.lock(), pytest.raises(RunError, match="another process"):
        loop.train(ask(dataset), dataset, run)


def test_a_run_that_breaks_says_why_in_its_status(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(loop, "fit", full)
    run = RunFolder(tmp_path / "full")
    with pytest.raises(RunError, match="No space left"):
        loop.train(ask(dataset), dataset, run)
    assert run.status().state == "failed"
    assert "No space left" in run.status().message


def no_space(*_: object, **__: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_disk_that_fills_up_while_a_checkpoint_is_written_costs_one_epoch(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, whole = RunFolder(tmp_path / "full"), RunFolder(tmp_path / "whole")
    saved: list[Path] = []

    def fills_up(path: Path, write: object) -> None:
        if len(saved) == 2:
            (path.parent / f".{path.name}.torn").write_bytes(b"half a checkpoint")
            no_space()
        saved.append(path)
        write_atomically(path, write)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr(loop, "write_atomically", fills_up)
        with pytest.raises(RunError, match=r"No space left on device.*Free space") as caught:
            loop.train(ask(dataset), dataset, run)
    assert caught.value.code == "disk"
    assert run.status().state == "failed"
    assert torch.load(run.checkpoint, weights_only=True)["epoch"] == 1
    loop.train(ask(dataset), dataset, run)
    loop.train(ask(dataset), dataset, whole)
    assert same_weights(run, whole)


def test_a_disk_too_full_for_the_weights_is_told_as_that_and_training_is_kept(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunFolder(tmp_path / "full")

    def full(*_: object) -> None:
        raise SafetensorError("IoError(Os { code: 28, message: No space left on device })")

    with monkeypatch.context() as patch:
        patch.setattr("core.artifact.save_file", full)
        with pytest.raises(RunError, match="No space left") as caught:
            loop.train(ask(dataset, epochs=1), dataset, run)
    assert caught.value.code == "disk"
    monkeypatch.setattr(loop.Classification, "training_step", lambda *_: pytest.fail("trained again"))
    loop.train(ask(dataset, epochs=1), dataset, run)
    assert run.status().state == "finished"


def test_a_cross_validation_that_finds_the_disk_full_says_so_and_keeps_its_members(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cross_validation(dataset, epochs=1, folds=2)
    folder = RunFolder(tmp_path / "cv")
    with monkeypatch.context() as patch:
        patch.setattr("core.training.crossval.write_table", no_space)
        with pytest.raises(RunError, match="No space left") as caught:
            cross_validate(config, dataset, folder)
    assert caught.value.code == "disk"
    assert folder.status().state == "failed"
    monkeypatch.setattr("core.training.members.train", lambda *_, **__: pytest.fail("trained again"))
    cross_validate(config, dataset, folder)
    assert folder.status().state == "finished"


def test_a_run_does_not_go_on_with_another_dataset(dataset: Dataset, tmp_path: Path) -> None:
    write_dataset(tmp_path / "other", n_classes=3, folds=3, per_class_and_fold=4, seed=1)
    other = load_dataset(tmp_path / "other")
    assert other.class_names == dataset.class_names
    run = RunFolder(tmp_path / "run")
    run.begin(ask(dataset))
    with pytest.raises(RunError, match="Expected the dataset that a-run was asked for") as caught:
        loop.train(run.config(), other, run)
    assert caught.value.code == "other_dataset"
    assert not run.checkpoint.exists()


def test_a_class_that_no_other_fold_has_is_refused_before_anything_is_trained(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone = [clip for clip in dataset.clips if clip.label != dataset.class_names[0] or clip.fold == 2]
    lacking = dataclasses.replace(dataset, clips=tuple(alone))
    with pytest.raises(RunError, match="outside fold 2 to learn from, class_0 has none"):
        loop.split(lacking.clips, ask(lacking, fold=2))
    loop.split(lacking.clips, ask(lacking, fold=1))
    monkeypatch.setattr("core.training.members.train", lambda *_, **__: pytest.fail("trained"))
    config = cross_validation(lacking, epochs=1)
    with pytest.raises(RunError, match="class_0 has none"):
        cross_validate(config, lacking, RunFolder(tmp_path / "cv"))


def test_what_a_killed_writer_left_does_not_make_a_folder_anothers(dataset: Dataset, tmp_path: Path) -> None:
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    (run.path / ".config.json.x1").write_text("{")
    (run.path / ".lock").touch()
    run.begin(ask(dataset))
    assert run.config() == ask(dataset)


def test_the_time_of_a_resumed_run_is_that_of_all_its_epochs() -> None:
    assert loop._minutes(epochs_s=90, fitting_s=30, measuring_s=30) == 2.0
    assert loop._minutes(epochs_s=0, fitting_s=30, measuring_s=30) == 1.0  # trained in processes of its own
    journal = loop.Journal.__new__(loop.Journal)
    journal.load_state_dict({"trained_s": 90.0})
    assert journal.state_dict() == {"trained_s": 90.0}


def test_unreadable_clips_are_listed_and_counted(tmp_path: Path) -> None:
    write_dataset(tmp_path, n_classes=2, folds=2, per_class_and_fold=1)
    broken = load_dataset(tmp_path)
    for clip in broken.clips[:2]:
        clip.path.write_bytes(b"not a sound at all, not one bit")
    with pytest.raises(DatasetError, match=r"2 could not be decoded") as caught:
        decode_clips(broken.clips, TrainConfig().audio)
    assert all(clip.filename in str(caught.value) for clip in broken.clips[:2])


def test_each_epoch_sees_every_clip_once_in_its_own_order() -> None:
    sampler = EpochShuffle(50, seed=3)
    orders = []
    for epoch in (0, 1, 0):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    assert sorted(orders[0]) == list(range(50))
    assert orders[0] == orders[2] != orders[1]


def test_trimming_cuts_digital_silence_only_at_the_ends() -> None:
    sound = np.array([0, 5e-5, 0.1, 0, 0, -0.2, 0], dtype=np.float32)
    np.testing.assert_array_equal(trim(sound), sound[2:6])
    np.testing.assert_array_equal(trim(np.zeros(4, dtype=np.float32)), np.zeros(4))


def test_cross_validation_can_be_broken_off_and_repeated(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    config = cross_validation(dataset, epochs=1, seeds=(0, 1), left_out=(dataset.class_names[:1],))
    folder = RunFolder(tmp_path / "cv")
    trained: list[str] = []
    original = loop.train

    def third_time_unlucky(config: RunConfig, *args: object, **kwargs: object) -> None:
        if len(trained) == 3:
            raise KeyboardInterrupt
        trained.append(config.run_id)
        original(config, *args, **kwargs)  # type: ignore[arg-type]

    with monkeypatch.context() as patch:
        patch.setattr("core.training.members.train", third_time_unlucky)
        with pytest.raises(KeyboardInterrupt):
            cross_validate(config, dataset, folder)
    with caplog.at_level(logging.INFO):
        cross_validate(config, dataset, folder)
    retrained = [name for name in trained for record in caplog.records if f"{name} | accuracy" in record.getMessage()]
    assert not retrained
    records = folder.records()
    assert len(records) == 2 * len(dataset.clips)
    assert records.groupby("seed")["clip_id"].nunique().tolist() == [len(dataset.clips)] * 2
    metrics = folder.metrics()
    assert metrics["n"] == len(dataset.clips)
    assert "no epoch selected on held-out clips; 1 epoch for networks" in metrics["protocol"]
    assert "; 10 % of what a network learns from are synthesized sounds of no class" in metrics["protocol"]
    assert metrics["accuracy"] == pytest.approx(np.mean([m["accuracy"] for m in metrics["seeds"].values()]))
    shipped = load_artifact(folder.artifact).manifest
    assert shipped.run_id == "fold-all-seed-0"
    assert shipped.metrics["accuracy"] == metrics["accuracy"]
    assert shipped.temperature == metrics["calibration"]["temperature"]
    assert shipped.conformal_quantile is not None
    assert metrics["robustness"]["as recorded"]["accuracy"] == pytest.approx(metrics["accuracy"])
    assert metrics["robustness"]["1 s crop"]["n"] == metrics["n"]
    assert shipped.unknown is not None
    with caplog.at_level(logging.INFO):
        cross_validate(config.model_copy(update={"seeds": (0, 1, 2)}), dataset, folder)
    assert folder.records()["seed"].nunique() == 3
    with pytest.raises(RunError, match="seeds differ"):
        cross_validate(config, dataset, folder)
    reference = load_artifact(folder.artifact).reference
    assert reference is not None
    assert reference["clip_id"].tolist() == [clip.filename for clip in dataset.clips]
    without = [clip for clip in dataset.clips if clip.label == dataset.class_names[0]]
    scores = pd.read_parquet(folder.unknown)
    assert set(scores.loc[scores["kind"] == "near", "clip_id"]) == {clip.filename for clip in without}
    assert dataset.class_names[0] not in set(scores.loc[scores["left_out"] != "", "source"]) - {without[0].label}
    assert metrics["unknown"]["near"]["knn"]["n_unknown"] == len(without)
    assert metrics["unknown"]["accepted"] == pytest.approx(0.95, abs=0.1)


def test_a_network_that_is_left_alone_is_trained_on_the_threads_it_began_with(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cross_validation(dataset, epochs=1, folds=2)
    folder = RunFolder(tmp_path / "cv")
    members = list(members_of(config))
    missing = []
    monkeypatch.setattr("core.training.members.is_complete", lambda member, _: member is not members[0])
    monkeypatch.setattr("core.training.members._complete_at_once", lambda left, *_: missing.append(left))
    folder.begin(config)
    complete_members(members, dataset, folder, Means(jobs=2))
    assert missing == [members[:1]]


@pytest.mark.slow
def test_a_cross_validation_that_was_killed_outright_ends_as_one_that_was_not(tmp_path: Path) -> None:
    write_dataset(tmp_path / "toy", n_classes=2, folds=2, per_class_and_fold=2)
    asked = ["crossval", "--data", str(tmp_path / "toy"), "--seeds", "1", "--epochs", "6", "--jobs", "2"]
    asked += ["--set", "model.stem_channels=8", "--set", "model.stage_channels=[8,16]", "--set", "augment.crop_s=0.3"]
    command = [sys.executable, "-m", "core", *asked, "--run-id", "cv", "--out"]
    killed, whole = (RunFolder(tmp_path / name / "cv") for name in ("killed", "whole"))
    training = subprocess.Popen([*command, str(killed.path.parent)], cwd=ROOT, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    first = RunFolder(killed.path / "members" / "fold-1-seed-0")
    while (status := first.status_if_any()) is None or status.epoch < 2:
        assert training.poll() is None, "it ended before it could be killed"
        assert time.monotonic() < deadline
        time.sleep(0.005)
    training.kill()
    training.wait()
    assert not first.finished()
    for run in (killed, whole):
        subprocess.run([*command, str(run.path.parent)], cwd=ROOT, check=True, capture_output=True)
    for one, other in zip(killed.members(), whole.members(), strict=True):
        assert same_weights(one, other)
    pd.testing.assert_frame_equal(killed.records(), whole.records())
    timed = {"minutes", "hardware"}
    assert all(killed.metrics()[name] == value for name, value in whole.metrics().items() if name not in timed)
    assert (killed.artifact / "model.safetensors").read_bytes() == (whole.artifact / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_members_trained_at_once_are_those_trained_one_by_one(dataset: Dataset, tmp_path: Path) -> None:
    config = cross_validation(dataset, epochs=1, folds=2)
    together, alone = RunFolder(tmp_path / "together"), RunFolder(tmp_path / "alone")
    cross_validate(config, dataset, together, means=Means(jobs=2))
    cross_validate(config, dataset, alone)
    for one, other in zip(together.members(), alone.members(), strict=True):
        assert same_weights(one, other)
    pd.testing.assert_frame_equal(together.records(), alone.records())


def test_a_cross_validation_whose_members_lost_their_weights_is_still_complete(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = cross_validation(dataset, epochs=1, folds=2)
    folder = RunFolder(tmp_path / "cv")
    cross_validate(config, dataset, folder)
    for member in folder.members():
        if member.config().fold is not None:
            shutil.rmtree(member.artifact)
    monkeypatch.setattr("core.training.members.train", lambda *_, **__: pytest.fail("trained again"))
    cross_validate(config, dataset, folder)


@pytest.mark.slow
def test_where_one_member_fails_the_others_stop_and_none_is_begun(dataset: Dataset, tmp_path: Path) -> None:
    config = cross_validation(dataset, epochs=5_000)
    folder = RunFolder(tmp_path / "cv")
    (folder.path / "members").mkdir(parents=True)
    (folder.path / "members" / "fold-2-seed-0").write_text("no folder")
    (folder.path / "config.json").write_text(config.model_dump_json())
    with pytest.raises(RunError, match="fold-2-seed-0"):
        cross_validate(config, dataset, folder, means=Means(jobs=2))
    assert folder.status().state == "failed"
    first = RunFolder(folder.path / "members" / "fold-1-seed-0")
    assert "Another network" in first.status().message
    assert first.status().epoch < 5_000
    assert not (folder.path / "members" / "fold-all-seed-0").exists()


def test_on_a_terminal_one_bar_tells_how_many_epochs_are_left_and_how_long_they_take(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    monkeypatch.setattr("core.training.members.LOOK_S", 0.01)
    folder, members = RunFolder(tmp_path), [ask(dataset, name) for name in ("one", "two")]
    for member, epoch in zip(members, (1, 0), strict=True):
        run = RunFolder(tmp_path / "members" / member.run_id)
        run.begin(member)
        run.write_status("running", epoch, 4)
    monkeypatch.setattr(sys, "stderr", Terminal())
    with epoch_bar(members, folder):
        time.sleep(0.2)
        RunFolder(tmp_path / "members" / "two").write_status("running", 4, 4)
        time.sleep(0.2)
    told = sys.stderr.getvalue()  # type: ignore[attr-defined]
    assert "2 networks" in told
    assert "1/8" in told
    assert "5/8" in told
    assert re.search(r"5/8 \[\d\d:\d\d<\d\d:\d\d", told), told
    monkeypatch.setattr(sys, "stderr", io.StringIO())
    with epoch_bar(members, folder):
        pass
    assert not sys.stderr.getvalue()  # type: ignore[attr-defined]


def test_the_rest_of_a_cross_validation_is_told_in_epochs(monkeypatch: pytest.MonkeyPatch) -> None:
    progress = Progress([100, 100, 25], members=5)
    assert progress.place == "2/5"
    progress.finish(100)
    assert (progress.done, progress.place) == (3, "3/5")
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 40 * 60)
    assert progress.left == "about 50 min left"  # 125 epochs, where 100 took 40


def test_a_left_out_class_is_neither_trained_on_nor_held_out(dataset: Dataset) -> None:
    first, *rest = dataset.class_names
    config = ask(dataset).model_copy(update={"class_names": tuple(rest), "left_out": (first,)})
    kept, held_out = loop.split(dataset.clips, config)
    assert {dataset.clips[i].label for i in kept + held_out} == set(rest)
    assert {dataset.clips[i].fold for i in held_out} == {1}
    assert not {dataset.clips[i].source_group for i in kept} & {dataset.clips[i].source_group for i in held_out}


def test_a_fold_record_is_never_from_a_model_that_saw_its_source(finished: RunFolder, dataset: Dataset) -> None:
    kept, _ = loop.split(dataset.clips, finished.config())
    assert kept
    assert not {dataset.clips[i].source_group for i in kept} & set(finished.records()["source_group"])


def test_a_recording_that_crosses_folds_is_left_out_of_training(
    dataset: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held_out = next(clip for clip in dataset.clips if clip.fold == 1)
    crossing = [
        dataclasses.replace(clip, source_group=held_out.source_group) if index == len(dataset.clips) - 1 else clip
        for index, clip in enumerate(dataset.clips)
    ]
    sizes = []
    monkeypatch.setattr(loop, "fit", lambda module, data, *_, **__: sizes.append(data.bank.targets.numel()))
    monkeypatch.setattr(loop.Journal, "close", lambda *_: None)
    loop.train(ask(dataset), dataclasses.replace(dataset, clips=tuple(crossing)), RunFolder(tmp_path / "run"))
    assert sizes == [len(dataset.clips) * 2 // 3 - 1]


def test_a_clip_that_shares_audio_with_a_held_out_one_is_left_out_of_training(dataset: Dataset) -> None:
    one, other = SHARED_AUDIO[-1]
    held_out = next(i for i, clip in enumerate(dataset.clips) if clip.fold == 1)
    elsewhere = next(i for i, clip in enumerate(dataset.clips) if clip.fold == 2)
    names = {held_out: one, elsewhere: other}
    clips = [dataclasses.replace(clip, filename=names.get(i, clip.filename)) for i, clip in enumerate(dataset.clips)]
    assert elsewhere in loop.split(dataset.clips, ask(dataset))[0]
    kept, held = loop.split(clips, ask(dataset))
    assert elsewhere not in kept
    assert held_out in held
    assert held_out not in loop.split(clips, ask(dataset, fold=2))[0]


def test_records_say_how_long_each_clip_is_and_what_it_was_warned_of(finished: RunFolder, dataset: Dataset) -> None:
    records = finished.records().set_index("clip_id")
    clips = [clip for clip in dataset.clips if clip.fold == 1]
    for clip, wave in zip(clips, decode_clips(clips, TrainConfig().audio), strict=True):
        assert records.loc[clip.filename, "duration_s"] == wave.duration_s
        assert records.loc[clip.filename, "quality"].split() == [warning.code for warning in assess(wave)]


def test_summaries_agree_with_a_hand_count() -> None:
    logits = [np.array(row, dtype=np.float32) for row in ([2, 0], [2, 0], [0, 2], [0, 2])]
    records = pd.DataFrame({"label": ["a", "a", "a", "b"], "logits": logits})
    summary = summarise(records, ("a", "b"))
    assert (summary["n"], summary["accuracy"]) == (4, 0.75)
    assert summary["recall"] == {"a": pytest.approx(2 / 3), "b": 1.0}
    assert summary["macro_f1"] == pytest.approx((0.8 + 2 / 3) / 2)
    assert summary["nll"] == pytest.approx((3 * np.log1p(np.exp(-2)) + np.log1p(np.exp(2))) / 4, rel=1e-6)
    assert summary["accuracy_low"] == pytest.approx(0.3006, abs=1e-3)  # Wilson, 3 of 4
    assert summary["accuracy_high"] == pytest.approx(0.9544, abs=1e-3)


def test_aggregates_average_seeds_but_count_clips_once() -> None:
    right, wrong = np.array([2.0, 0.0], dtype=np.float32), np.array([0.0, 2.0], dtype=np.float32)
    records = pd.DataFrame(
        {
            "clip_id": ["x", "y", "x", "y"],
            "fold": [1, 2, 1, 2],
            "seed": [0, 0, 1, 1],
            "label": ["a"] * 4,
            "logits": [right, right, right, wrong],
        }
    )
    pooled = pool(records, ("a", "b"))
    assert (pooled["n"], pooled["accuracy"]) == (2, 0.75)
    assert pooled["accuracy_by_fold"] == {"1": 1.0, "2": 0.5}
    assert pooled["accuracy_sd_over_seeds"] == pytest.approx(np.std([1, 0.5], ddof=1))


def test_an_ensemble_averages_the_probabilities_of_the_seeds_of_each_clip() -> None:
    logits = [[4.0, 0.0], [1.0, 0.0], [-1.0, 0.0], [0.0, 3.0]]  # y: one seed wrong and sure, the other right and unsure
    records = pd.DataFrame(
        {"clip_id": ["x", "y", "x", "y"], "fold": 1, "seed": [0, 0, 1, 1], "label": "a"}
        | {"logits": [np.array(row, dtype=np.float32) for row in logits]}
    )
    told = pool(records.sample(frac=1, random_state=0), ("a", "b"))["ensemble"]
    p = [(1 / (1 + np.exp(-4)) + 1 / (1 + np.exp(1))) / 2, (1 / (1 + np.exp(-1)) + 1 / (1 + np.exp(3))) / 2]
    assert (told["networks"], told["n"], told["accuracy"]) == (2, 2, 0.5)
    assert told["nll"] == pytest.approx(-np.mean(np.log(p)))
    assert "ensemble" not in pool(records[records["seed"] == 0], ("a", "b"))


def test_calibration_is_measured_on_folds_that_took_no_part_in_it() -> None:
    rng = np.random.default_rng(0)
    rows = []
    for fold in (1, 2, 3):
        for clip in range(60):
            logits = rng.normal(0, 3, 3).astype(np.float32)
            p = np.exp(logits / 2) / np.exp(logits / 2).sum()  # the true temperature is 2
            rows.append((f"{fold}-{clip}", fold, 0, "abc"[rng.choice(3, p=p)], logits))
    records = pd.DataFrame(rows, columns=["clip_id", "fold", "seed", "label", "logits"])
    fitted = calibrate(records, ("a", "b", "c"))
    assert fitted.temperature == pytest.approx(2, rel=0.25)
    assert fitted.report["after"]["nll"] < fitted.report["before"]["nll"]
    assert fitted.report["after"]["n"] == 180
    assert fitted.report["conformal_coverage"] == pytest.approx(0.9, abs=0.06)
    louder = [row * (9 if fold == 2 else 1) for row, fold in zip(records["logits"], records["fold"], strict=True)]
    spoiled = records.assign(logits=louder)
    again = calibrate(spoiled, ("a", "b", "c")).report["temperature_by_fold"]
    assert again["2"] == fitted.report["temperature_by_fold"]["2"]


def test_a_bank_keeps_its_labels_where_parameters_are_drawn() -> None:
    bank = Bank(torch.zeros(2, 8), torch.tensor([8, 8]), torch.tensor([0, 1])).to(torch.device("meta"))
    assert bank.samples.device.type == "meta"
    assert bank.targets.device.type == "cpu"
