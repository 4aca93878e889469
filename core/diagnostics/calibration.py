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
from scipy.stats import binomtest

from core.calibration import negative_log_likelihood

Floats = NDArray[np.float64]
BINS = 15
RELIABILITY_COLUMNS = ("bin", "low", "high", "n", "confidence", "accuracy", "accuracy_low", "accuracy_high")


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


def reliability_table(confidence: Floats, correct: NDArray[np.bool_], bins: int = BINS) -> pd.DataFrame:
    """One row a bin, ``RELIABILITY_COLUMNS``. Empty bins have n = 0 and nan, never 0. Intervals are exact, 95 %."""
    index = bin_index(confidence, bins)
    rows = [_bin_row(b, bins, confidence[index == b], correct[index == b]) for b in range(bins)]
    return pd.DataFrame(rows, columns=list(RELIABILITY_COLUMNS))


def _bin_row(b: int, bins: int, confidence: Floats, correct: NDArray[np.bool_]) -> tuple[float, ...]:
    n = confidence.size
    if n == 0:
        return (b, b / bins, (b + 1) / bins, 0, *[math.nan] * 4)
    interval = binomtest(int(correct.sum()), n).proportion_ci(0.95, method="exact")
    return (b, b / bins, (b + 1) / bins, n, confidence.mean(), correct.mean(), interval.low, interval.high)


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
    gaps = np.zeros((draws, bins))
    for draw in range(draws):
        correct = rng.random(confidence.size) < confidence
        gaps[draw] = np.bincount(index, weights=correct - confidence, minlength=bins)
    errors = np.abs(gaps).sum(axis=1) / confidence.size
    return float(errors.mean()), float(np.quantile(errors, 0.95))


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
