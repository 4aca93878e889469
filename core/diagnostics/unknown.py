"""How well a score tells unknown sounds from known ones: AUROC, AUPR and FPR95, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import average_precision_score, roc_auc_score

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Interval:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True)
class Separation:
    """``auroc`` 0.5 is chance; ``aupr`` has the unknown as positive; ``fpr95`` is the share of unknown sounds that pass
    where 95 % of known ones are accepted."""

    n_known: int
    n_unknown: int
    auroc: Interval
    aupr: Interval
    fpr95: Interval


def separation(known: Floats, unknown: Floats, *, rng: np.random.Generator, draws: int = 500) -> Separation:
    """Compare scores of known and unknown sounds (higher is stranger). nan where either side is empty."""
    measures: dict[str, Callable[[Floats, Floats], float]] = {"auroc": auroc, "aupr": aupr, "fpr95": fpr95}
    if not known.size or not unknown.size:
        empty = Interval(math.nan, math.nan, math.nan)
        return Separation(known.size, unknown.size, empty, empty, empty)
    resampled = {name: np.empty(draws) for name in measures}
    for draw in range(draws):
        a, b = rng.choice(known, known.size), rng.choice(unknown, unknown.size)
        for name, measure in measures.items():
            resampled[name][draw] = measure(a, b)
    intervals = {
        name: Interval(measure(known, unknown), *(float(q) for q in np.quantile(resampled[name], [0.025, 0.975])))
        for name, measure in measures.items()
    }
    return Separation(known.size, unknown.size, **intervals)


def auroc(known: Floats, unknown: Floats) -> float:
    return float(roc_auc_score(_is_unknown(known, unknown), np.concatenate([known, unknown])))


def aupr(known: Floats, unknown: Floats) -> float:
    return float(average_precision_score(_is_unknown(known, unknown), np.concatenate([known, unknown])))


def fpr95(known: Floats, unknown: Floats) -> float:
    """Share of ``unknown`` at or under the score that 95 % of ``known`` stay at or under."""
    return float(np.mean(unknown <= np.quantile(known, 0.95, method="higher")))


def _is_unknown(known: Floats, unknown: Floats) -> NDArray[np.int64]:
    return np.repeat([0, 1], [known.size, unknown.size])
