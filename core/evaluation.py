"""Held-out clips → records: the same columns whichever run, fold or backend they come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import f1_score, recall_score

from core.audio import Waveform
from core.calibration import (
    apply_temperatures,
    conformal_quantile,
    fit_temperature,
    negative_log_likelihood,
    nested_temperatures,
    prediction_set,
)
from core.config import AudioConfig
from core.dataset import Clip
from core.descriptors import describe
from core.diagnostics.calibration import calibration_scores
from core.diagnostics.intervals import share
from core.excerpts import excerpts
from core.inference import infer, softmax
from core.model import AudioResNet
from core.quality import assess
from core.robustness import CONDITIONS, degraded

COVERAGE = 0.9  # of conformal sets
ROBUSTNESS_COLUMNS = ("clip_id", "fold", "seed", "condition", "correct")
# Descriptors follow.
CLIP_COLUMNS = ("clip_id", "fold", "source_group", "label", "seed", "duration_s", "quality", "logits", "embedding")


def evaluate(
    net: AudioResNet, clips: Sequence[Clip], waves: Sequence[Waveform], audio: AudioConfig, *, seed: int
) -> pd.DataFrame:
    """One row a clip: ``CLIP_COLUMNS``, then every descriptor. ``net`` is in eval mode and never saw the clips."""
    rows = [_record(net, clip, wave, audio, seed) for clip, wave in zip(clips, waves, strict=True)]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(CLIP_COLUMNS))


def _record(net: AudioResNet, clip: Clip, wave: Waveform, audio: AudioConfig, seed: int) -> dict[str, Any]:
    answer = infer(net, wave.samples, audio)
    return {
        "clip_id": clip.filename,
        "fold": clip.fold,
        "source_group": clip.source_group,
        "label": clip.label,
        "seed": seed,
        "duration_s": wave.duration_s,
        "quality": " ".join(warning.code for warning in assess(wave)),
        "logits": answer.logits,
        "embedding": answer.embedding,
        **describe(wave.samples, wave.sample_rate_hz),
    }


def reference_of(
    net: AudioResNet, clips: Sequence[Clip], waves: Sequence[Waveform], audio: AudioConfig
) -> pd.DataFrame:
    """What an artifact remembers of the clips it was trained on: ``core.artifact.REFERENCE_COLUMNS``, descriptors."""
    records = evaluate(net, clips, waves, audio, seed=0).drop(columns=["seed", "duration_s", "quality", "logits"])
    heard = [[infer(net, part, audio).embedding for part in excerpts(wave)] for wave in waves]
    records.insert(records.columns.get_loc("embedding") + 1, "excerpts", [np.concatenate(parts) for parts in heard])
    return records


def answer_degraded(
    net: AudioResNet, clips: Sequence[Clip], waves: Sequence[Waveform], audio: AudioConfig, *, seed: int
) -> pd.DataFrame:
    """Every clip under every condition of ``core.robustness``: one row each, ``ROBUSTNESS_COLUMNS``."""
    rows = []
    for condition in CONDITIONS:
        sounds = degraded(condition, [wave.samples for wave in waves], audio.sample_rate_hz)
        for clip, sound in zip(clips, sounds, strict=True):
            predicted = int(infer(net, sound, audio).logits.argmax())
            rows.append((clip.filename, clip.fold, seed, condition, clip.target == predicted))
    return pd.DataFrame(rows, columns=list(ROBUSTNESS_COLUMNS))


def summarise_robustness(answers: pd.DataFrame) -> dict[str, dict[str, float]]:
    """Accuracy under each condition, pooled over folds and seeds; Wilson's 95 % interval at the number of clips."""
    n = int(answers["clip_id"].nunique())
    summary = {}
    for condition, group in answers.groupby("condition", sort=False):
        right = share(float(group["correct"].mean()), n)
        summary[str(condition)] = {"accuracy": right.value, "low": right.low, "high": right.high, "n": n}
    return summary


@dataclass(frozen=True)
class Calibration:
    """What is fitted on all out-of-fold records, and how much it helps where it was not."""

    temperature: float
    conformal_quantile: float
    report: dict[str, Any]


def calibrate(records: pd.DataFrame, class_names: Sequence[str]) -> Calibration:
    """Fit temperature and conformal quantile on ``records`` of every fold and seed, and measure both honestly.

    ``report`` compares scores before and after, each record scaled by the temperature of the *other* folds, as means
    over seeds at the number of clips; and the realised coverage of conformal sets fitted on the other folds.
    """
    true, logits = _true(records, class_names), _logits(records)
    folds, seeds = records["fold"].to_numpy(), records["seed"].to_numpy()
    by_fold = nested_temperatures(logits, true, folds)
    before, after = softmax(logits), apply_temperatures(logits, folds, by_fold)
    temperature = fit_temperature(logits, true)
    covered, sizes = _nested_coverage(after, true, folds)
    report = {
        "temperature": temperature,
        "temperature_by_fold": {str(fold): value for fold, value in by_fold.items()},
        "before": _mean_scores(before, true, seeds),
        "after": _mean_scores(after, true, seeds),
        "conformal_target": COVERAGE,
        "conformal_coverage": float(covered.mean()),
        "conformal_mean_size": float(sizes.mean()),
    }
    return Calibration(temperature, conformal_quantile(softmax(logits, temperature), true, coverage=COVERAGE), report)


def _nested_coverage(
    probabilities: NDArray[np.float64], true: NDArray[np.int64], folds: NDArray[np.int64]
) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Whether each record's set holds its class, and the set's size; each quantile is fitted on the other folds."""
    members = np.zeros(probabilities.shape, dtype=bool)
    for fold in np.unique(folds):
        quantile = conformal_quantile(probabilities[folds != fold], true[folds != fold], coverage=COVERAGE)
        members[folds == fold] = prediction_set(probabilities[folds == fold], quantile)
    return members[np.arange(len(true)), true], members.sum(axis=1)


def _mean_scores(
    probabilities: NDArray[np.float64], true: NDArray[np.int64], seeds: NDArray[np.int64]
) -> dict[str, float]:
    of_seeds = [
        asdict(calibration_scores(probabilities[seeds == seed], true[seeds == seed], rng=np.random.default_rng(0)))
        for seed in np.unique(seeds)
    ]
    return {name: float(np.mean([scores[name] for scores in of_seeds])) for name in of_seeds[0]}


def pool(records: pd.DataFrame, class_names: Sequence[str]) -> dict[str, Any]:
    """Pooled out-of-fold metrics, and how far folds and seeds lie apart.

    The headline is the mean over seeds of the pooled accuracy; its interval is Wilson's at the number of clips, because
    seeds answer for the same clips and add no evidence about new ones.
    """
    by_seed = {seed: summarise(group, class_names) for seed, group in records.groupby("seed")}
    by_fold = {fold: summarise(group, class_names)["accuracy"] for fold, group in records.groupby("fold")}
    n = int(records["clip_id"].nunique())
    ensemble = {"ensemble": _ensemble(records, class_names)} if len(by_seed) > 1 else {}
    accuracy = share(float(np.mean([pooled["accuracy"] for pooled in by_seed.values()])), n)
    recalls = pd.DataFrame([pooled["recall"] for pooled in by_seed.values()]).mean()
    return {
        "n": n,
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "accuracy_sd_over_seeds": _sd([pooled["accuracy"] for pooled in by_seed.values()]),
        "accuracy_sd_over_folds": _sd(list(by_fold.values())),
        "accuracy_by_fold": {str(fold): value for fold, value in by_fold.items()},
        "macro_f1": float(np.mean([pooled["macro_f1"] for pooled in by_seed.values()])),
        "recall": {str(name): float(value) for name, value in recalls.items()},
        "seeds": {str(seed): pooled for seed, pooled in by_seed.items()},
        **ensemble,
    }


def _ensemble(records: pd.DataFrame, class_names: Sequence[str]) -> dict[str, Any]:
    """The seeds' networks asked together, their probabilities averaged: as much work as there are networks."""
    of_network = pd.Series(list(softmax(_logits(records))), index=records.index)
    mean = of_network.groupby(records["clip_id"], sort=False).agg(lambda rows: np.mean(list(rows), axis=0))
    clips = records.drop_duplicates("clip_id").assign(logits=np.log(np.stack(mean.to_list())).tolist())
    kept = ("n", "accuracy", "accuracy_low", "accuracy_high", "nll")
    told = summarise(clips, class_names)
    return {"networks": int(records["seed"].nunique())} | {name: told[name] for name in kept}


def _sd(values: Sequence[float]) -> float | None:
    return float(np.std(values, ddof=1)) if len(values) > 1 else None


def _true(records: pd.DataFrame, class_names: Sequence[str]) -> NDArray[np.int64]:
    index = {name: position for position, name in enumerate(class_names)}
    return np.asarray(records["label"].map(index), dtype=np.int64)


def _logits(records: pd.DataFrame) -> NDArray[np.float32]:
    return np.stack(records["logits"].to_list()).astype(np.float32)


def summarise(records: pd.DataFrame, class_names: Sequence[str]) -> dict[str, Any]:
    """Accuracy with its Wilson 95 % interval, macro-F1, recall of each class, NLL in nats, and n.

    Everything but ``n`` is absent where there are no records: a run on all folds has no held-out clips.
    """
    n = len(records)
    if n == 0:
        return {"n": 0}
    true, logits = _true(records, class_names), _logits(records)
    predicted = logits.argmax(axis=1)
    accuracy = share(float((predicted == true).mean()), n)
    present = sorted(set(true.tolist()))
    recalls = recall_score(true, predicted, labels=present, average=None)
    return {
        "n": n,
        "accuracy": accuracy.value,
        "accuracy_low": accuracy.low,
        "accuracy_high": accuracy.high,
        "macro_f1": float(f1_score(true, predicted, labels=present, average="macro")),
        "nll": negative_log_likelihood(softmax(logits), true),
        "recall": {class_names[k]: float(recall) for k, recall in zip(present, recalls, strict=True)},
    }
