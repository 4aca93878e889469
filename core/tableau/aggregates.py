"""Metrics of one part as tables of the star schema. Every number is the app's own, computed by ``core.diagnostics``."""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
import pandas as pd

from core.diagnostics.calibration import reliability
from core.diagnostics.classification import Performance, confused_pairs, confusion_table, performance
from core.diagnostics.drift import compare
from core.diagnostics.drift_report import DriftReport
from core.diagnostics.drift_tables import distribution_table
from core.diagnostics.failures import ranked_errors
from core.diagnostics.measures import calibration_table
from core.diagnostics.selective import risk_coverage_table, selection
from core.recordset import RecordSet

SEED = 0  # of permutations
ALL = "all features"  # the feature under which statistics of the whole comparison stand
EFFECTS = {  # statistic → its unit; those without one have none
    "effect": "standard deviations",
    "null_95": "standard deviations",
    "p": "0–1",
    "p_adjusted": "0–1",
}


def of(run_id: str, records: RecordSet) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and rows of every metric of labelled ``records``, which may be none."""
    measured = performance(records)
    pairs = {"true": "true_label", "predicted": "predicted_label", "n": "answers", "share": "share_of_true"}
    tables = {
        "headline": headline(records, measured),
        "class_metrics": measured.per_class,
        "confusion": confusion_table(records, classes=records.class_names).rename(columns=pairs),
        "confused_pairs": _pairs(confused_pairs(records).rename(columns=pairs)),
        "errors": errors(records),
        "reliability": reliability_of(records),
        "risk_coverage": _steps(risk_coverage_table(records)),
    }
    for name, table in tables.items():
        yield name, table.assign(run_id=run_id)


def headline(records: RecordSet, measured: Performance) -> pd.DataFrame:
    """``metric, unit, value, low, high, n``: what the app's pages say first."""
    rows: list[tuple[str, str, float, float, float, int]] = []
    ranked = selection(records)
    estimates = {name: getattr(measured, name) for name in ("accuracy", "macro_f1", "baseline", "balanced_accuracy")}
    for name, estimate in (estimates | ranked.estimates).items():
        rows.append((name, "0–1", estimate.value, estimate.low, estimate.high, estimate.n))
    for stage, raw in (("", False), ("_raw", True)):
        for row in calibration_table(records, raw=raw).itertuples():
            unit = {"nll": "nats", "brier": "0–2"}.get(row.measure, "0–1")
            rows.append((f"{row.measure}{stage}", unit, row.value, row.low, row.high, row.n))
            if row.measure == "ece":
                floor = (f"ece{stage}_by_chance_95", unit, row.noise_floor_95, math.nan, math.nan, row.n)
                rows.append(floor)
    for name in ("aurc_best", "aurc_random"):
        rows.append((name, "0–1", getattr(ranked, name), math.nan, math.nan, ranked.n))
    return pd.DataFrame(rows, columns=["metric", "unit", "value", "low", "high", "n"])


def errors(records: RecordSet) -> pd.DataFrame:
    """Wrongly answered clips as the app ranks them. ``records`` bear ``prediction_id`` and ``file_name``."""
    ranked = ranked_errors(records)
    shown = records.table[["prediction_id", "file_name"]].iloc[ranked["position"].to_numpy()].reset_index(drop=True)
    return (
        pd.concat([ranked, shown], axis=1)
        .rename(columns={"label": "true_label", "predicted": "predicted_label"})
        .assign(rank=np.arange(1, len(ranked) + 1))
    )


def reliability_of(records: RecordSet) -> pd.DataFrame:
    """Raw and calibrated, the answers of all seeds together as the app draws them."""
    pieces = [reliability(records, raw=stage == "raw").assign(stage=stage) for stage in ("raw", "calibrated")]
    return pd.concat(pieces, ignore_index=True).rename(columns={"low": "bin_low", "high": "bin_high"})


def drift_of(run_id: str, reference: RecordSet, current: RecordSet) -> Iterator[tuple[str, pd.DataFrame]]:
    """``drift`` and ``drift_distribution`` of ``current``, which may be nothing yet, against ``reference``."""
    yield "drift_distribution", distribution_of(run_id, reference, current)
    report = compare(reference, current, rng=np.random.default_rng(SEED), with_embedding=False)
    yield "drift", _long(report).assign(run_id=run_id)


def distribution_of(run_id: str, reference: RecordSet, current: RecordSet) -> pd.DataFrame:
    """Rows of ``drift_distribution``."""
    names = {"set": "data_set", "low": "bin_low", "high": "bin_high"}
    return distribution_table(reference, current).rename(columns=names).assign(run_id=run_id)


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


def _pairs(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(pair=table["true_label"] + " → " + table["predicted_label"], rank=np.arange(1, len(table) + 1))


def _steps(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(step=np.arange(len(table)))
