"""How well a score tells unknown sounds from known ones: AUROC, AUPR and FPR95, with bootstrap intervals."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import rankdata

from core.diagnostics.intervals import resamples

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


def separation(
    known: Floats,
    unknown: Floats,
    *,
    rng: np.random.Generator,
    draws: int = 500,
    clips: tuple[Sequence[str], Sequence[str]] | None = None,
) -> Separation:
    """Compare scores of known and unknown sounds (higher is stranger). nan where either side is empty.

    ``clips`` name the sound behind each score where one may have several, of different networks: n then counts sounds,
    and the bootstrap draws sounds with all their scores.
    """
    measures: dict[str, Callable[[Floats, Floats], float]] = {"auroc": auroc, "aupr": aupr, "fpr95": fpr95}
    block = [pd.factorize(np.asarray(side))[0] for side in clips or (np.arange(known.size), np.arange(unknown.size))]
    n_known, n_unknown = (int(side.max(initial=-1)) + 1 for side in block)
    if not known.size or not unknown.size:
        empty = Interval(math.nan, math.nan, math.nan)
        return Separation(n_known, n_unknown, empty, empty, empty)
    resampled = {name: np.empty(draws) for name in measures}
    drawn = [resamples(n, rng=rng, draws=draws).astype(np.int64) for n in (n_known, n_unknown)]
    for draw in range(draws):
        a, b = (np.repeat(side, of[draw][at]) for side, of, at in zip((known, unknown), drawn, block, strict=True))
        for name, measure in measures.items():
            resampled[name][draw] = measure(a, b)
    intervals = {
        name: Interval(measure(known, unknown), *(float(q) for q in np.quantile(resampled[name], [0.025, 0.975])))
        for name, measure in measures.items()
    }
    return Separation(n_known, n_unknown, **intervals)


def auroc(known: Floats, unknown: Floats) -> float:
    """Mann and Whitney's U over all pairs: how often an unknown sound scores higher; ties count half."""
    ranks = rankdata(np.concatenate([unknown, known]))[: unknown.size].sum()
    return float((ranks - unknown.size * (unknown.size + 1) / 2) / (unknown.size * known.size))


def aupr(known: Floats, unknown: Floats) -> float:
    """Average precision: the mean over unknown sounds of the precision at the score of each."""
    scores = np.concatenate([unknown, known])
    order = np.argsort(-scores, kind="stable")
    last = np.flatnonzero(np.diff(scores[order], append=np.nan))  # of each run of equal scores
    found = np.cumsum(order < unknown.size)[last]
    return float((np.diff(found, prepend=0) * found / (last + 1)).sum() / unknown.size)


def fpr95(known: Floats, unknown: Floats) -> float:
    """Share of ``unknown`` at or under the score that 95 % of ``known`` stay at or under."""
    return float(np.mean(unknown <= np.quantile(known, 0.95, method="higher")))
