"""Everything works for fifty classes as it does for ten: trained, evaluated and served by the commands a user runs."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.artifact import Artifact, load_artifact
from core.classifier import Classifier
from core.cli import main
from core.dataset import Dataset, load_dataset
from core.evaluation import answer_degraded, calibrate, pool, summarise_robustness
from core.explain import explain
from core.openset import far_trials, fit_rule, score_open_set, summarise_open_set
from core.report import results_table
from core.training.data import decode_clips
from core.training.runs import RunFolder
from core.unknown import SCORES

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def dataset(fifty_dir: Path) -> Dataset:
    return load_dataset(fifty_dir)


@pytest.fixture(scope="module")
def artifact(fifty_run: RunFolder) -> Artifact:
    """Loaded again: its fingerprint fits and its probe answers as it did."""
    return load_artifact(fifty_run.artifact)


@pytest.fixture(scope="module")
def uneven(fifty_run: RunFolder) -> pd.DataFrame:
    """The held-out records as if of five folds, each of which lacks thirty classes; one class has no clip at all."""
    records = fifty_run.records()
    target = records["label"].map({name: k for k, name in enumerate(sorted(set(records["label"])))})
    fold = (target + np.where(target.duplicated(), 1, 2)) % 5 + 1
    return records.assign(fold=fold)[target > 0].reset_index(drop=True)


def test_fifty_classes_are_learnt_far_beyond_chance(fifty_run: RunFolder) -> None:
    metrics = fifty_run.metrics()
    assert metrics["n"] == 100
    assert metrics["accuracy"] > 0.5  # measured 0.72; chance is 0.02
    assert metrics["accuracy_low"] < metrics["accuracy"] < metrics["accuracy_high"]
    assert metrics["macro_f1"] > 0.5
    assert metrics["nll"] < np.log(50) / 2
    assert len(metrics["recall"]) == 50


def test_every_record_has_fifty_logits(fifty_run: RunFolder, dataset: Dataset) -> None:
    records = fifty_run.records()
    assert set(records["clip_id"]) == {clip.filename for clip in dataset.clips if clip.fold == 1}
    assert {np.shape(row) for row in records["logits"]} == {(50,)}
    assert all(np.isfinite(row).all() for row in records["logits"])


def test_the_artifact_names_the_classes_in_the_datasets_order(artifact: Artifact, dataset: Dataset) -> None:
    assert artifact.manifest.class_names == dataset.class_names
    assert artifact.manifest.dataset_hash == dataset.content_hash
    assert len(artifact.reference) == 400


def test_pooled_metrics_hold_where_folds_lack_classes(uneven: pd.DataFrame, dataset: Dataset) -> None:
    assert uneven.groupby("fold")["label"].nunique().max() == 20
    pooled = pool(uneven, dataset.class_names)
    assert pooled["n"] == 98
    assert len(pooled["recall"]) == 49
    assert all(0 <= value <= 1 for value in pooled["recall"].values())
    assert set(pooled["accuracy_by_fold"]) == set("12345")


def test_calibration_helps_where_folds_lack_classes(uneven: pd.DataFrame, dataset: Dataset) -> None:
    fitted = calibrate(uneven, dataset.class_names)
    assert 0.05 < fitted.temperature < 20
    assert 0 < fitted.conformal_quantile <= 1
    assert fitted.report["after"]["nll"] <= fitted.report["before"]["nll"] + 0.05
    assert 0.8 <= fitted.report["conformal_coverage"] <= 1
    assert 1 <= fitted.report["conformal_mean_size"] < 25


def test_all_that_a_cross_validation_measures_fits_into_the_report(
    fifty_run: RunFolder, artifact: Artifact, dataset: Dataset, uneven: pd.DataFrame
) -> None:
    clips = [clip for clip in dataset.clips if clip.fold == 1][::20]
    audio = artifact.manifest.audio
    degraded = answer_degraded(artifact.net, clips, decode_clips(clips, audio), audio, seed=0)
    robustness = summarise_robustness(degraded)
    assert {row["n"] for row in robustness.values()} == {len(clips)}

    trials = list(far_trials(audio.sample_rate_hz, seed=0))[::12]
    scores = score_open_set(artifact, uneven, trials)
    assert np.isfinite(scores[list(SCORES)].to_numpy()).all()
    assert np.isfinite(fit_rule(scores).threshold)

    metrics = pool(uneven, dataset.class_names) | {
        "calibration": calibrate(uneven, dataset.class_names).report,
        "robustness": robustness,
        "unknown": summarise_open_set(scores, rng=np.random.default_rng(0)),
        "protocol": "one fold",
        "hardware": "any",
        "minutes": 1.0,
    }
    assert "(n = 98, one seed)" in results_table(json.loads(json.dumps(metrics)))


def test_the_command_answers_with_fifty_probabilities(
    fifty_run: RunFolder, dataset: Dataset, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EARSHOT_ARTIFACT", str(fifty_run.artifact))
    record = fifty_run.records().iloc[0]
    clip = next(clip for clip in dataset.clips if clip.filename == record["clip_id"])
    assert main(["classify", str(clip.path), "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert set(answer["probabilities"]) == set(dataset.class_names)
    assert sum(answer["probabilities"].values()) == pytest.approx(1)
    assert answer["label"] == dataset.class_names[int(np.argmax(record["logits"]))]
    assert main(["classify", str(clip.path)]) == 0
    assert answer["label"] in capsys.readouterr().out


def test_any_of_fifty_classes_can_be_explained(fifty_run: RunFolder, dataset: Dataset) -> None:
    classifier = Classifier.from_artifact(fifty_run.artifact)
    samples = classifier.decode(dataset.clips[-1].path.read_bytes()).samples
    for label in (None, dataset.class_names[0], dataset.class_names[-1]):
        why = explain(classifier, samples, label=label)
        assert why.label == label or label is None
        assert all(np.isfinite(stage.cam).all() for stage in why.stages)
