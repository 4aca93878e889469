"""How far confidence and correctness lie apart, and how far they would by chance.

Headline: top-label expected calibration error over 15 equal-width bins, L1, weighted by count. Bins are right-closed,
(a, b], and the first also holds 0; scikit-learn and torchmetrics differ from each other here, so the rule is stated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.calibration import negative_log_likelihood
from core.diagnostics.intervals import DRAWS, exact
from core.recordset import RecordSet

Floats = NDArray[np.float64]
BINS = 15
RELIABILITY_COLUMNS = ("bin", "low", "high", "n", "confidence", "accuracy", "accuracy_low", "accuracy_high")
CLASS_COLUMNS = (
    "label",
    "n",
    "share",
    "mean_probability",
    "ece",
    "noise_floor_95",
    "n_predicted",
    "confidence",
    "precision",
)
HISTOGRAM_COLUMNS = ("low", "high", "right", "wrong")
ONE_BY_ONE = 5_000  # up to so many clips, chance is simulated clip by clip
FEW = 200  # up to so many clips in a bin, the bin is
RARE = 25.0  # a sum of many unlikely events with less variance is taken as Poisson's, with more as normal


@dataclass(frozen=True)
class CalibrationScores:
    """``ece``, ``mce`` in [0, 1]; ``brier`` in [0, 2]; ``nll`` in nats; the floors are what chance alone gives at n."""

    n: int
    bins: int
    ece: float
    mce: float
    brier: float
    nll: float
    noise_floor: float
    noise_floor_95: float


def bin_index(confidence: Floats, bins: int = BINS) -> NDArray[np.int64]:
    """Right-closed equal-width bins of [0, 1], counted from 0. Exact edges k / bins fall into bin k − 1."""
    edges = np.linspace(0, 1, bins + 1)
    return np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)


def reliability_table(
    confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS, *, answers_per_clip: float = 1.0
) -> pd.DataFrame:
    """One row a bin, ``RELIABILITY_COLUMNS``. Empty bins have n = 0 and nan, never 0. Intervals are exact, 95 %.

    Where several networks answer for each clip, ``n`` counts answers and the intervals count clips.
    """
    index = bin_index(confidence, bins)
    n = np.bincount(index, minlength=bins)
    right = np.bincount(index, weights=correct, minlength=bins)
    total = np.bincount(index, weights=confidence, minlength=bins)
    clips = np.maximum(np.rint(n / answers_per_clip), n > 0)
    low, high = exact(np.minimum(np.rint(right / answers_per_clip), clips), clips)
    some = n > 0
    mean, accuracy = (np.divide(part, n, out=np.full(bins, np.nan), where=some) for part in (total, right))
    edges = np.arange(bins + 1) / bins
    columns = (
        np.arange(bins),
        edges[:-1],
        edges[1:],
        n,
        mean,
        accuracy,
        np.fmin(low, accuracy),
        np.fmax(high, accuracy),
    )
    return pd.DataFrame(dict(zip(RELIABILITY_COLUMNS, columns, strict=True)))


def bin_gaps(confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> tuple[Floats, Floats]:
    """Weight n_b / n and |accuracy − confidence| of every non-empty bin."""
    index = bin_index(confidence, bins)
    count = np.bincount(index, minlength=bins)
    gap = np.bincount(index, weights=correct - confidence, minlength=bins)
    filled = count > 0
    return count[filled] / max(confidence.size, 1), np.abs(gap[filled]) / count[filled]


def expected_calibration_error(confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """Σ_b n_b / n · |accuracy_b − confidence_b| (Naeini et al. 2015). nan without records."""
    if confidence.size == 0:
        return math.nan
    weight, gap = bin_gaps(confidence, correct, bins)
    return float((weight * gap).sum())


def maximum_calibration_error(confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> float:
    """The largest bin gap, however few clips are in that bin. nan without records."""
    return float(bin_gaps(confidence, correct, bins)[1].max()) if confidence.size else math.nan


def brier_score(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Mean over clips of Σ_k (p_k − 1[k = true])², in [0, 2] (Brier 1950). nan without records."""
    if len(targets) == 0:
        return math.nan
    return float(((probabilities - np.eye(probabilities.shape[1])[targets]) ** 2).sum(axis=1).mean())


def ece_noise_floor(
    confidence: Floats, bins: int = BINS, *, rng: np.random.Generator, draws: int = 1_000
) -> tuple[float, float]:
    """ECE of a *perfectly calibrated* model with these confidences: mean and 95th percentile over ``draws``.

    Correctness is redrawn as Bernoulli(confidence). An ECE under the second number is not distinguishable from perfect.
    """
    if confidence.size == 0:
        return math.nan, math.nan
    index = bin_index(confidence, bins)
    if confidence.size > ONE_BY_ONE:
        gaps = chance_gaps(confidence, index, bins, rng=rng, draws=draws)
    else:
        gaps = np.zeros((draws, bins))
        for draw in range(draws):
            correct = rng.random(confidence.size) < confidence
            gaps[draw] = np.bincount(index, weights=correct - confidence, minlength=bins)
    errors = np.abs(gaps).sum(axis=1) / confidence.size
    return float(errors.mean()), float(np.quantile(errors, 0.95))


def chance_gaps(
    probability: Floats, index: NDArray[np.int64], bins: int, *, rng: np.random.Generator, draws: int
) -> Floats:
    """Σ (event − probability) in every bin when events happen exactly that often: (draws, bins).

    Bins of few clips are simulated clip by clip, the others by the sum's own distribution, so that the cost grows with
    the clips and not with clips times draws.
    """
    count = np.bincount(index, minlength=bins)
    total = np.bincount(index, probability, bins)
    variance = np.maximum(total - np.bincount(index, probability**2, bins), 0)
    gaps = np.zeros((draws, bins))
    for b in np.flatnonzero(count):
        if count[b] <= FEW:
            part = probability[index == b]
            gaps[:, b] = (rng.random((draws, part.size)) < part).sum(axis=1) - total[b]
        elif variance[b] >= RARE:
            gaps[:, b] = rng.normal(0, math.sqrt(variance[b]), draws)
        elif total[b] < count[b] / 2:
            gaps[:, b] = rng.poisson(total[b], draws) - total[b]
        else:
            unlikely = count[b] - total[b]
            gaps[:, b] = unlikely - rng.poisson(unlikely, draws)
    return gaps


def calibration_scores(
    probabilities: Floats, targets: NDArray[np.int64], *, rng: np.random.Generator, bins: int = BINS
) -> CalibrationScores:
    """Every calibration number of (N, K) probabilities against (N,) class indices."""
    confidence = probabilities.max(axis=1) if len(targets) else np.zeros(0)
    correct = probabilities.argmax(axis=1) == targets if len(targets) else np.zeros(0, dtype=bool)
    floor, floor_95 = ece_noise_floor(confidence, bins, rng=rng)
    return CalibrationScores(
        n=len(targets),
        bins=bins,
        ece=expected_calibration_error(confidence, correct, bins),
        mce=maximum_calibration_error(confidence, correct, bins),
        brier=brier_score(probabilities, targets),
        nll=negative_log_likelihood(probabilities, targets),
        noise_floor=floor,
        noise_floor_95=floor_95,
    )


def adaptive_bins(n: int) -> int:
    """How many bins of equal mass ``n`` clips allow: n^(1/3), rounded."""
    return max(1, round(n ** (1 / 3)))


def adaptive_index(confidence: Floats) -> NDArray[np.int64]:
    """Bins of equal mass by rank. Equal confidences share a bin, that of their middle rank."""
    n = confidence.size
    _, inverse, count = np.unique(confidence, return_inverse=True, return_counts=True)
    middle = np.cumsum(count) - (count + 1) / 2  # rank from 0
    return np.minimum((middle * adaptive_bins(n) / max(n, 1)).astype(np.int64), adaptive_bins(n) - 1)[inverse]


def reliability(records: RecordSet, *, raw: bool = False, bins: int = BINS) -> pd.DataFrame:
    """``reliability_table`` of the records whose true class is known; ``raw``: before temperature."""
    known = records.labelled()
    confidence = known.raw_confidence if raw else known.confidence
    per_clip = len(known) / max(known.n_clips, 1)
    return reliability_table(confidence, known.correct, bins, answers_per_clip=max(per_clip, 1.0))


def confidence_histogram(records: RecordSet, *, raw: bool = False, bins: int = 20) -> pd.DataFrame:
    """Right and wrong answers by confidence, ``HISTOGRAM_COLUMNS``; bins as in ``bin_index``."""
    known = records.labelled()
    index = bin_index(known.raw_confidence if raw else known.confidence, bins)
    right = np.bincount(index[known.correct], minlength=bins)
    wrong = np.bincount(index[~known.correct], minlength=bins)
    edges = np.arange(bins + 1) / bins
    return pd.DataFrame(dict(zip(HISTOGRAM_COLUMNS, (edges[:-1], edges[1:], right, wrong), strict=True)))


def class_calibration(records: RecordSet, *, raw: bool = False, seed: int = 0, draws: int = DRAWS) -> pd.DataFrame:
    """One row a class, ``CLASS_COLUMNS``: how far its probability is off over all clips, and when it is the answer.

    ``share`` of clips that are of the class against ``mean_probability``: the class is called too seldom or too often.
    ``precision`` against ``confidence`` of the ``n_predicted`` answers that name it: they claim too little or too much.
    All over pooled folds and seeds.
    """
    known = records.labelled()
    p = known.raw_probabilities if raw else known.probabilities
    classes, n = len(known.class_names), len(known)
    rng, seeds = np.random.default_rng(seed), max(len(known) / max(known.n_clips, 1), 1)
    errors, floors = np.full(classes, np.nan), np.full(classes, np.nan)
    for k in range(classes if n else 0):
        of = np.ascontiguousarray(p[:, k])
        index = bin_index(of)
        errors[k] = np.abs(np.bincount(index, (known.targets == k) - of, BINS)).sum() / n
        chance = np.abs(chance_gaps(of, index, BINS, rng=rng, draws=draws)).sum(axis=1) / n * math.sqrt(seeds)
        floors[k] = np.quantile(chance, 0.95)
    true, answered = (np.bincount(of, minlength=classes) for of in (known.targets, known.predicted))
    right = np.bincount(known.targets[known.correct], minlength=classes)
    sure = np.bincount(known.predicted, p.max(axis=1) if n else None, classes)
    table = pd.DataFrame({"label": list(known.class_names), "n": np.rint(true / seeds).astype(np.int64)})
    table["share"] = true / n if n else math.nan
    table["mean_probability"] = p.mean(axis=0) if n else math.nan
    table["ece"], table["noise_floor_95"] = errors, floors
    table["n_predicted"] = answered / seeds
    table["confidence"] = np.divide(sure, answered, out=np.full(classes, np.nan), where=answered > 0)
    table["precision"] = np.divide(right, answered, out=np.full(classes, np.nan), where=answered > 0)
    return table[list(CLASS_COLUMNS)]
