"""Training that starts from a finished model: what it takes over, and what still counts as held out."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from core.artifact import Artifact, load_artifact, save_artifact
from core.cli import main
from core.dataset import Dataset, load_dataset
from core.errors import RunError
from core.model import AudioResNet
from core.training.runs import RunFolder
from core.training.tuning import adopt, heard_by, load_start, pooled, starting_artifact
from core.unknown import UnknownRule
from tests.synthetic_dataset import write_dataset

QUICK = ("--epochs", "1", "--set", "augment.crop_s=0.3", "--set", "batch_size=8", "--set", "learning_rate=1e-4")


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Dataset:
    root = tmp_path_factory.mktemp("toy")
    write_dataset(root, n_classes=3, folds=2, per_class_and_fold=2, duration_s=0.5, sample_rate_hz=16_000)
    return load_dataset(root)


@pytest.fixture(scope="module")
def start(dataset: Dataset, untrained: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that heard every clip but the first of each fold, calibrated somehow."""
    folder = tmp_path_factory.mktemp("start") / "artifact"
    first = {next(clip.filename for clip in dataset.clips if clip.fold == fold) for fold in dataset.folds}
    heard = [clip for clip in dataset.clips if clip.filename not in first]
    reference = pd.DataFrame(
        {
            "clip_id": [clip.filename for clip in heard],
            "fold": [clip.fold for clip in heard],
            "source_group": [clip.source_group for clip in heard],
            "label": [clip.label for clip in heard],
            "embedding": list(np.random.default_rng(0).random((len(heard), 16), np.float32)),
            "excerpts": list(np.random.default_rng(1).random((len(heard), 48), np.float32)),
        }
    )
    facts = untrained.manifest.model_copy(
        update={
            "class_names": dataset.class_names,
            "temperature": 0.5,
            "conformal_quantile": 0.7,
            "unknown": UnknownRule(score="knn", threshold=0.4),
        }
    )
    save_artifact(folder, untrained.net, facts, reference)
    return folder


def net_of(start: Artifact, classes: int) -> AudioResNet:
    manifest = start.manifest
    return AudioResNet(classes, manifest.audio, manifest.features, manifest.model)


def test_a_class_that_both_know_keeps_its_weights_and_a_new_one_starts_as_drawn(untrained: Artifact) -> None:
    net = net_of(untrained, 3)
    drawn = net.head.weight.detach().clone()
    adopt(net, untrained, ("rooster", "kettle", "dog"))
    assert torch.equal(net.head.weight[0], untrained.net.head.weight[2])
    assert torch.equal(net.head.weight[1], drawn[1])
    assert torch.equal(net.head.bias[2], untrained.net.head.bias[0])
    assert all(
        torch.equal(value, untrained.net.state_dict()[name])
        for name, value in net.state_dict().items()
        if not name.startswith("head.")
    )


def test_only_clips_that_the_starting_model_never_heard_count_as_held_out(
    dataset: Dataset, start: Path, tmp_path: Path
) -> None:
    asked = ["train", "--data", str(dataset.root), "--fold", "1", "--init", str(start), "--out", str(tmp_path)]
    assert main([*asked, "--run-id", "tuned", *QUICK]) == 0
    run = RunFolder(tmp_path / "tuned")
    assert run.config().started_from == load_artifact(start).manifest.fingerprint
    assert run.config().train.model == load_artifact(start).manifest.model
    new = {clip.filename for clip in dataset.clips if clip.fold == 1} - heard_by(load_artifact(start), dataset.clips)
    assert len(new) == 1
    assert set(run.records()["clip_id"]) == new
    metrics = run.metrics()
    assert metrics["n"] == 1
    assert (metrics["start"]["new"]["n"], metrics["start"]["heard"]["n"]) == (1, 5)
    assert 0 <= metrics["start"]["heard"]["before"] <= 1
    tuned, before = load_artifact(run.artifact).net.state_dict(), load_artifact(start).net.state_dict()
    moved = max(float((tuned[name] - before[name]).abs().max()) for name in tuned if name.endswith("weight"))
    assert 0 < moved < 0.05


def test_a_clip_of_a_recording_or_of_audio_that_the_starting_model_knows_is_not_new(
    dataset: Dataset, start: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = load_artifact(start)
    (new,) = {clip for clip in dataset.clips if clip.fold == 1} - {
        clip for clip in dataset.clips if clip.filename in heard_by(artifact, dataset.clips)
    }
    known = next(clip for clip in dataset.clips if clip.filename in heard_by(artifact, dataset.clips))
    other_take = dataclasses.replace(new, source_group=known.source_group)
    assert new.filename not in heard_by(artifact, [new])
    assert new.filename in heard_by(artifact, [other_take])
    monkeypatch.setattr("core.dataset.SHARED_AUDIO", (frozenset({new.filename, known.filename}),))
    assert new.filename in heard_by(artifact, [new])


def test_a_cross_validation_from_a_lone_model_keeps_its_calibration_and_pools_what_is_new(
    dataset: Dataset, start: Path, tmp_path: Path
) -> None:
    asked = ["crossval", "--data", str(dataset.root), "--seeds", "1", "--init", str(start), "--out", str(tmp_path)]
    for _ in range(2):  # repeated, it finds everything done
        assert main([*asked, "--run-id", "tuned", *QUICK]) == 0
    run = RunFolder(tmp_path / "tuned")
    metrics = run.metrics()
    assert (metrics["n"], metrics["start"]["new"]["n"], metrics["start"]["heard"]["n"]) == (2, 2, 10)
    assert len(run.records()) == 2
    shipped, carried = load_artifact(run.artifact).manifest, load_artifact(start).manifest
    assert (shipped.temperature, shipped.conformal_quantile, shipped.unknown) == (0.5, 0.7, carried.unknown)
    assert json.loads((run.path / "config.json").read_text())["started_from"] == carried.fingerprint


def test_each_fold_starts_from_its_namesake_where_there_is_one(tmp_path: Path) -> None:
    for place in ("artifact", "members/fold-1-seed-0/artifact"):
        (tmp_path / place).mkdir(parents=True)
        (tmp_path / place / "artifact.json").write_text("{}")
    for init in (tmp_path, tmp_path / "artifact"):
        assert starting_artifact(init) == tmp_path / "artifact"
        assert starting_artifact(init, "fold-1-seed-0") == tmp_path / "members" / "fold-1-seed-0" / "artifact"
        assert starting_artifact(init, "fold-2-seed-0") == tmp_path / "artifact"


def test_another_build_or_an_unknown_past_is_refused(
    dataset: Dataset, start: Path, untrained_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = ["train", "--data", str(dataset.root), "--out", str(tmp_path), *QUICK]
    assert main([*asked, "--run-id", "a", "--init", str(start), "--set", "model.stem_channels=4"]) == 1
    assert "of the same build" in capsys.readouterr().err
    assert main([*asked, "--run-id", "b", "--init", str(untrained_folder)]) == 1
    assert "does not say which clips it was trained on" in capsys.readouterr().err
    with pytest.raises(RunError):
        load_start(RunFolder(tmp_path / "b").config())


def test_shares_of_folds_are_pooled_by_their_numbers_of_clips() -> None:
    def member(n: int, before: float | None) -> dict[str, dict[str, float | None]]:
        return {kind: {"n": n, "before": before, "after": before} for kind in ("new", "heard")}

    whole = pooled([member(1, 1.0), member(3, 0.0), member(0, None)])
    assert whole["new"] == {"n": 4, "before": 0.25, "after": 0.25}
    assert pooled([member(0, None)])["heard"] == {"n": 0, "before": None, "after": None}
