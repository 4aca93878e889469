"""Drift as tidy tables: how each number of the sounds is distributed, and what the verdict was day by day."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.descriptors import NAMES
from core.diagnostics.causes import UNITS
from core.diagnostics.drift import ALPHA, compare, finite_values, one_row_a_clip
from core.diagnostics.drift_report import ENOUGH
from core.diagnostics.two_sample import PERMUTATIONS
from core.recordset import RecordSet

Floats = NDArray[np.float64]
DISTRIBUTION_COLUMNS = ("feature", "unit", "set", "bin", "low", "high", "n", "share", "n_set")
BINS = 30
TAIL = 0.005  # of both sets together, beyond the outer edges: what lies there counts into the outer bins
DAY_COLUMNS = (
    "day",
    "n",
    "verdict",
    "indicative",
    "flagged",
    "causes",
    "confidence",
    "unknown_rate",
    "accuracy_estimate",
)


def distribution_table(reference: RecordSet, current: RecordSet, *, bins: int = BINS) -> pd.DataFrame:
    """One row a feature, set and bin, ``DISTRIBUTION_COLUMNS``; every descriptor that either set has, and confidence.

    ``set`` is reference or current; both share the bins, which are equally wide and right-closed. ``n`` is a count,
    ``share`` the part of the ``n_set`` defined values of that set (nan where it has none).
    """
    sides = {"reference": one_row_a_clip(reference), "current": one_row_a_clip(current)}
    tables = [_of_feature(name, sides, bins) for name in (*NAMES, "confidence")]
    filled = [table for table in tables if len(table)]
    return pd.concat(filled, ignore_index=True) if filled else pd.DataFrame(columns=list(DISTRIBUTION_COLUMNS))


def _of_feature(name: str, sides: dict[str, RecordSet], bins: int) -> pd.DataFrame:
    values = {side: finite_values(records, name) for side, records in sides.items()}
    pooled = np.concatenate(list(values.values()))
    if not pooled.size:
        return pd.DataFrame(columns=list(DISTRIBUTION_COLUMNS))
    edges = _edges(pooled, bins)
    tables = []
    for side, given in values.items():
        inside = np.searchsorted(edges[1:-1], given, side="left")
        n = np.bincount(inside, minlength=bins)
        share = n / given.size if given.size else np.full(bins, math.nan)
        tables.append(
            pd.DataFrame(
                {
                    "feature": name,
                    "unit": UNITS[name],
                    "set": side,
                    "bin": np.arange(bins),
                    "low": edges[:-1],
                    "high": edges[1:],
                    "n": n,
                    "share": share,
                    "n_set": given.size,
                }
            )
        )
    return pd.concat(tables, ignore_index=True)


def _edges(pooled: Floats, bins: int) -> Floats:
    low, high = np.quantile(pooled, [TAIL, 1 - TAIL])
    if high <= low:
        low, high = low - 0.5, high + 0.5
    return np.linspace(low, high, bins + 1)


DAYS_AT_MOST = 31  # a day takes about 0.07 s, and a year of them would not be read


def day_count(records: RecordSet) -> int:
    """Days (UTC) that the records span with at least one answer each; ``over_time`` judges the latest of them."""
    return int(_days(records).nunique()) if "created_at" in records.table else 0


def _days(records: RecordSet) -> pd.Series[pd.Timestamp]:
    return pd.to_datetime(records.table["created_at"], utc=True, errors="coerce").dt.floor("D")


def over_time(
    reference: RecordSet,
    current: RecordSet,
    *,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
) -> pd.DataFrame:
    """One row a day (UTC) of ``created_at``, ``DAY_COLUMNS``: each day's verdict with its n, oldest first.

    The days that have enough records share one ``ALPHA``, so that many quiet days make no alarm. Embeddings are left
    to the whole window. The latest ``DAYS_AT_MOST`` days; empty where records bear no time.
    """
    empty = pd.DataFrame(columns=list(DAY_COLUMNS))
    if "created_at" not in current.table or not len(current):
        return empty
    days = _days(current)
    counts = days.value_counts().sort_index().tail(DAYS_AT_MOST)
    judged = max(1, int((counts >= ENOUGH).sum()))
    rows = [
        _day(day, reference, current.take((days == day).to_numpy(dtype=bool)), rng, permutations, ALPHA / judged)
        for day in sorted(counts.index)
    ]
    return pd.DataFrame(rows, columns=list(DAY_COLUMNS)) if rows else empty


def _day(
    day: pd.Timestamp,
    reference: RecordSet,
    current: RecordSet,
    rng: np.random.Generator,
    permutations: int,
    alpha: float,
) -> tuple[object, ...]:
    report = compare(reference, current, rng=rng, permutations=permutations, alpha=alpha, with_embedding=False)
    return (
        day,
        len(current),
        report.verdict,
        report.indicative,
        sum(feature.flag for feature in report.features),
        "; ".join(report.causes),
        float(current.confidence.mean()),
        report.unknown.current,
        report.accuracy_estimate.value if report.accuracy_estimate else math.nan,
    )
