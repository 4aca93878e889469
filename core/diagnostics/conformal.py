"""Sets of classes that hold the truth as often as promised: how often they really do, and how large they are.

LAC sets (Sadinle et al. 2019, ``core.calibration``). Each fold's quantile is fitted on the other folds. Records of one
fold, such as a log, are judged with the quantile that their model carries; without one there is nothing to say.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import beta

from core.calibration import quantile_of
from core.diagnostics.intervals import wilson
from core.recordset import RecordSet

Floats = NDArray[np.float64]
WANTED = 0.9
LEVELS = (0.8, 0.9, 0.95, 0.99)
CONFORMAL_COLUMNS = ("wanted", "coverage", "low", "high", "n", "mean_size", "singles", "expected_low", "expected_high")
SIZE_COLUMNS = ("size", "n", "share", "coverage")
CLASS_COLUMNS = ("label", "n", "coverage", "low", "high", "mean_size")
CHUNK = 50_000  # records at once: bounds memory


@dataclass(frozen=True)
class Sets:
    """Of N records: whether each one's set holds its true class, and how many classes it has."""

    held: NDArray[np.bool_]
    size: NDArray[np.int64]


def conformal_table(records: RecordSet, *, levels: Sequence[float] = LEVELS) -> pd.DataFrame:
    """One row a wanted coverage, ``CONFORMAL_COLUMNS``: what the sets held, at the number of clips.

    ``singles``: share of sets of one class. ``expected_…``: between them lies the realised coverage of nine in ten
    quantiles fitted on as many clips, by luck of the fit alone.
    """
    known = records.labelled()
    judged = judge(known, levels=levels)
    rows = [_level(known, wanted, judged.get(wanted)) for wanted in levels]
    return pd.DataFrame(rows, columns=list(CONFORMAL_COLUMNS)).astype({"n": np.int64})


def _level(known: RecordSet, wanted: float, sets: Sets | None) -> tuple[float, ...]:
    n = known.n_clips
    if sets is None:
        return (wanted, *[math.nan] * 3, n, *[math.nan] * 4)
    coverage = float(sets.held.mean())
    low, high = wilson(coverage * n, n)
    folds = known.table["fold"].nunique()
    fitted = round(n * (folds - 1) / folds)
    index = math.floor((fitted + 1) * (1 - wanted))
    spread = beta.ppf([0.05, 0.95], fitted + 1 - index, index) if folds > 1 and index > 0 else (math.nan, math.nan)
    bounds = (min(float(low), coverage), max(float(high), coverage))
    singles = float((sets.size == 1).mean())
    return (wanted, coverage, *bounds, n, float(sets.size.mean()), singles, *map(float, spread))


def judge(known: RecordSet, *, levels: Sequence[float]) -> dict[float, Sets]:
    """The sets of labelled records at each wanted coverage; levels without a quantile to judge with are left out."""
    quantiles = _quantiles(known, levels)
    rows, sizes = np.arange(len(known)), {wanted: np.zeros(len(known), dtype=np.int64) for wanted in quantiles}
    held = {wanted: np.zeros(len(known), dtype=bool) for wanted in quantiles}
    for start in range(0, len(known), CHUNK):
        part = rows[start : start + CHUNK]
        p, targets = known.probabilities[part], known.targets[part]
        scores, top = 1 - p, p == p.max(axis=1, keepdims=True)
        for wanted, quantile in quantiles.items():
            members = top | (scores <= quantile[part, None])  # as core.calibration.prediction_set
            sizes[wanted][part] = members.sum(axis=1)
            held[wanted][part] = members[part - start, targets]
    return {wanted: Sets(held[wanted], sizes[wanted]) for wanted in quantiles}


def _quantiles(known: RecordSet, levels: Sequence[float]) -> dict[float, Floats]:
    """Each record's quantile, (N,), at each level."""
    folds = known.table["fold"].to_numpy()
    found = np.unique(folds)
    if not len(known):
        return {}
    if len(found) < 2:
        carried = known.conformal_quantile
        return {} if carried is None or WANTED not in levels else {WANTED: np.full(len(known), carried)}
    quantiles = {wanted: np.zeros(len(known)) for wanted in levels}
    for fold in found:
        others = folds != fold
        scores = np.sort(1 - known.probabilities[others, known.targets[others]])
        for wanted in levels:
            quantiles[wanted][~others] = quantile_of(scores, wanted)
    return quantiles


def set_sizes(records: RecordSet, *, wanted: float = WANTED) -> pd.DataFrame:
    """How many sets have each size and how often these hold the truth, ``SIZE_COLUMNS``."""
    known = records.labelled()
    sets = judge(known, levels=[wanted]).get(wanted)
    if sets is None:
        return pd.DataFrame(columns=list(SIZE_COLUMNS))
    n, covered = np.bincount(sets.size), np.bincount(sets.size, sets.held)
    some = np.flatnonzero(n)
    columns = (some, n[some], n[some] / len(known), covered[some] / n[some])
    return pd.DataFrame(dict(zip(SIZE_COLUMNS, columns, strict=True)))


def class_coverage(records: RecordSet, *, wanted: float = WANTED) -> pd.DataFrame:
    """The promise is kept on average only: coverage by true class, ``CLASS_COLUMNS``, Wilson's intervals."""
    known = records.labelled()
    sets = judge(known, levels=[wanted]).get(wanted)
    if sets is None:
        return pd.DataFrame(columns=list(CLASS_COLUMNS))
    classes = len(known.class_names)
    answers = np.bincount(known.targets, minlength=classes)
    n = np.rint(answers * known.n_clips / len(known))
    coverage, mean_size = (
        np.divide(np.bincount(known.targets, of, classes), answers, out=np.full(classes, np.nan), where=answers > 0)
        for of in (sets.held, sets.size)
    )
    low, high = wilson(coverage * n, n)
    bounds = (np.fmin(low, coverage), np.fmax(high, coverage))
    columns = (list(known.class_names), n.astype(np.int64), coverage, *bounds, mean_size)
    return pd.DataFrame(dict(zip(CLASS_COLUMNS, columns, strict=True)))
