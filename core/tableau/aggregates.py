"""Metrics of one part as tables of the star schema. Every number is the app's own, computed by ``core.diagnostics``."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from core.diagnostics.calibration import calibration_scores, reliability_table
from core.diagnostics.drift import compare
from core.diagnostics.drift_report import DriftReport
from core.diagnostics.drift_tables import distribution_table
from core.diagnostics.intervals import wilson
from core.recordset import RecordSet

SEED = 0  # of permutations and of chance
CURVE_POINTS = 400  # of a drawn curve
ALL = "all features"  # the feature under which statistics of the whole comparison stand
EFFECTS = {  # statistic → its unit; those without one have none
    "effect": "standard deviations",
    "null_95": "standard deviations",
    "p": "0–1",
    "p_adjusted": "0–1",
}


def of(run_id: str, records: RecordSet) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and rows of every metric of labelled ``records``, which may be none."""
    counts = confusion_counts(records)
    tables = {
        "headline": headline(records),
        "class_metrics": class_metrics(records, counts),
        "confusion": confusion(records, counts),
        "confused_pairs": confused_pairs(records, counts),
        "reliability": reliability_of(records),
        "risk_coverage": risk_coverage(records),
    }
    for name, table in tables.items():
        yield name, table.assign(run_id=run_id)


def parts_of(records: RecordSet) -> dict[int, RecordSet]:
    """``by_seed``, also of no records at all."""
    return dict(sorted(records.by_seed().items())) if len(records) else {0: records}


def confusion_counts(records: RecordSet) -> NDArray[np.int64]:
    """(K, K) answers by true and predicted class, over all seeds."""
    classes = len(records.class_names)
    cells = records.targets * classes + records.predicted
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def headline(records: RecordSet) -> pd.DataFrame:
    """``metric, unit, value, low, high, n``: means over seeds, at the number of clips."""
    parts, n = list(parts_of(records).values()), records.n_clips if len(records) else 0
    accuracy = float(np.mean([part.correct.mean() for part in parts])) if n else math.nan
    low, high = wilson(accuracy * n, n)
    rows = [("accuracy", "0–1", accuracy, float(low), float(high), n)]
    units = {"ece": "0–1", "mce": "0–1", "brier": "0–2", "nll": "nats", "noise_floor_95": "0–1"}
    for stage, raw in (("", False), ("_raw", True)):
        scores = [
            calibration_scores(
                part.raw_probabilities if raw else part.probabilities, part.targets, rng=np.random.default_rng(SEED)
            )
            for part in parts
        ]
        for name, unit in units.items():
            value = float(np.mean([getattr(score, name) for score in scores]))
            rows.append((f"{name}{stage}", unit, value, math.nan, math.nan, n))
    return pd.DataFrame(rows, columns=["metric", "unit", "value", "low", "high", "n"])


def class_metrics(records: RecordSet, counts: NDArray[np.int64]) -> pd.DataFrame:
    """Per class: recall, precision, F1, with Wilson's intervals at the number of clips."""
    seeds = len(parts_of(records))
    right, true, predicted = (part / seeds for part in (np.diagonal(counts), counts.sum(axis=1), counts.sum(axis=0)))
    table = pd.DataFrame({"label": records.class_names, "n": np.rint(true).astype(np.int64), "n_predicted": predicted})
    for measure, of_all in (("recall", true), ("precision", predicted)):
        table[measure] = _ratio(right, of_all)
        table[f"{measure}_low"], table[f"{measure}_high"] = wilson(right, of_all)
    table["f1"] = _ratio(2 * right, true + predicted)
    return table.assign(f1_low=math.nan, f1_high=math.nan)


def confusion(records: RecordSet, counts: NDArray[np.int64]) -> pd.DataFrame:
    """Every pair of classes, zero cells included."""
    names, k = records.class_names, len(records.class_names)
    table = pd.DataFrame({"true_label": np.repeat(names, k), "predicted_label": np.tile(names, k)})
    return table.assign(answers=counts.ravel(), share_of_true=_ratio(counts.ravel(), counts.sum(axis=1).repeat(k)))


def confused_pairs(records: RecordSet, counts: NDArray[np.int64]) -> pd.DataFrame:
    """Wrong cells that are not zero, the most frequent first."""
    k, seeds = len(records.class_names), len(parts_of(records))
    table = confusion(records, counts)
    sure = np.bincount(records.targets * k + records.predicted, records.confidence, k * k)
    of_true = counts.sum(axis=1).repeat(k)
    table["low"], table["high"] = wilson(table["answers"] / seeds, of_true / seeds)
    table = table.assign(back=counts.T.ravel(), confidence=_ratio(sure, counts.ravel()))
    wrong = (table["true_label"] != table["predicted_label"]) & (table["answers"] > 0)
    table = table[wrong].sort_values("answers", ascending=False, kind="stable", ignore_index=True)
    return table.assign(pair=table["true_label"] + " → " + table["predicted_label"], rank=np.arange(1, len(table) + 1))


def reliability_of(records: RecordSet) -> pd.DataFrame:
    """Each seed for itself, raw and calibrated."""
    pieces = [
        reliability_table(confidence, one.correct).assign(seed=seed, stage=stage)
        for seed, one in parts_of(records).items()
        for stage, confidence in (("raw", one.raw_confidence), ("calibrated", one.confidence))
    ]
    return pd.concat(pieces, ignore_index=True).rename(columns={"low": "bin_low", "high": "bin_high"})


def risk_coverage(records: RecordSet) -> pd.DataFrame:
    """The error among the most confident answers, at ``CURVE_POINTS`` thresholds or fewer; seeds are pooled."""
    order = np.argsort(-records.confidence, kind="stable")
    threshold = records.confidence[order]
    last = np.flatnonzero(np.r_[np.diff(threshold) != 0, True]) if order.size else np.zeros(0, dtype=np.int64)
    chosen = last[np.unique(np.linspace(0, last.size - 1, CURVE_POINTS).astype(np.int64))] if last.size else last
    n, wrong = chosen + 1, np.cumsum(~records.correct[order])[chosen]
    per_clip = len(parts_of(records))
    low, high = wilson(wrong / per_clip, n / per_clip)
    table = pd.DataFrame({"threshold": threshold[chosen], "coverage": n / max(order.size, 1), "n": n})
    return table.assign(risk=wrong / n, low=low, high=high, step=np.arange(len(table)))


def _ratio(part: ArrayLike, whole: ArrayLike) -> NDArray[np.float64]:
    """nan where ``whole`` is 0."""
    of_all = np.asarray(whole, dtype=np.float64)
    return np.divide(np.asarray(part, dtype=np.float64), of_all, out=np.full(of_all.shape, np.nan), where=of_all > 0)


def drift_of(run_id: str, reference: RecordSet, current: RecordSet) -> Iterator[tuple[str, pd.DataFrame]]:
    """``drift`` and ``drift_distribution`` of ``current`` against ``reference``; the first is empty where it is."""
    distribution = distribution_table(reference, current)
    names = {"set": "data_set", "low": "bin_low", "high": "bin_high"}
    yield "drift_distribution", distribution.rename(columns=names).assign(run_id=run_id)
    if len(current):
        report = compare(reference, current, rng=np.random.default_rng(SEED), with_embedding=False)
        yield "drift", _long(report).assign(run_id=run_id)


def _long(report: DriftReport) -> pd.DataFrame:
    """Feature × statistic."""
    rows: list[tuple[str, str, str, float, str]] = []
    sides = {"n_reference": report.n_reference, "n_current": report.n_current}
    rows += [(ALL, name, "sounds", float(n), report.verdict) for name, n in sides.items()]
    rows.append((ALL, "verdict", "", math.nan, report.headline()))
    rows += [(ALL, f"cause_{number}", "", math.nan, cause) for number, cause in enumerate(report.causes, start=1)]
    for feature in report.table().itertuples():
        said = report.verdict if report.verdict == "not_enough_data" else "drift" if feature.flag else "no_drift"
        for statistic in ("statistic", "p", "p_adjusted", "effect", "null_95", "psi", "psi_null_95"):
            rows.append((feature.name, statistic, EFFECTS.get(statistic, ""), getattr(feature, statistic), said))
        for statistic in ("median_reference", "median_current", "median_shift"):
            rows.append((feature.name, statistic, feature.unit, getattr(feature, statistic), said))
    return pd.DataFrame(rows, columns=["feature", "statistic", "unit", "value", "verdict"])
