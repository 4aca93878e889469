"""Everything that the pages Performance and Calibration measure, of any records, as one JSON object and as text.

The headline calibration (``ece``, ``nll``, ``brier``, …) is of the probabilities as answered: a run's after
temperature, each fold scaled by that of the others; a file's as they stand; ``confidence`` says which. Thresholds,
tiers and conformal sets are on the same scale. ``calibration`` has both sides, ``before`` and ``after`` one
temperature. Undefined numbers are ``null``.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
import pandas as pd

from core.diagnostics.calibration import class_calibration, reliability
from core.diagnostics.classification import confused_pairs, performance
from core.diagnostics.conformal import class_coverage, conformal_table, set_sizes
from core.diagnostics.measures import calibration_table
from core.diagnostics.selective import (
    TARGETS,
    class_thresholds,
    confidence_tiers,
    selection,
    threshold_table,
)
from core.recordset import RecordSet, scale_in_words, temperature_scaled
from core.shares import in_percent

PAIRS = 20  # of the commonest confusions
TOO_FEW, NO_INTERVAL = "too few recordings", "no interval"
CLASS_TARGET = 0.95  # wanted precision of the thresholds by class
MEASURE_NAMES = {
    "ece": "ECE, top label, 15 equal-width bins",
    "mce": "MCE, the worst of these bins",
    "adaptive_ece": "adaptive ECE, bins of equal mass",
    "classwise_ece": "classwise ECE",
    "brier": "Brier score (0 to 2)",
    "nll": "negative log-likelihood (nats)",
}


def summary(records: RecordSet, *, seed: int = 0) -> dict[str, Any]:
    """Plain numbers, lists and dictionaries: ready for ``json.dumps``."""
    known = records.labelled()
    measured = performance(known, seed=seed)
    sides = {"before": calibration_table(known, raw=True, seed=seed)}
    scaled = temperature_scaled(known)
    sides["after"] = calibration_table(scaled, seed=seed)
    headline = "after" if scaled is known else "before"
    headlines = {row["measure"]: row for row in _rows(sides[headline])}
    folds = np.unique(known.table["fold"]).tolist()
    found = {
        "title": records.title,
        "fingerprint": records.fingerprint,
        "class_names": list(records.class_names),
        "n": measured.n,
        "answers": len(known),
        "unlabelled": len(records) - len(known),
        "seeds": measured.seeds,
        "folds": folds,
        "sources": measured.sources,
        "notes": [*records.notes, *_repeats(known)],
        "confidence": scale_in_words(known),
        "accuracy": asdict(measured.accuracy),
        "accuracy_sd_over_seeds": measured.accuracy_sd_over_seeds,
        "macro_f1": measured.macro_f1.value,
        "macro_f1_interval": asdict(measured.macro_f1),
        "balanced_accuracy": asdict(measured.balanced_accuracy),
        "baseline": {"always": measured.commonest, **asdict(measured.baseline)},
        "per_class": _rows(measured.per_class),
        "per_fold": _rows(measured.per_fold),
        "confused_pairs": _rows(confused_pairs(known, most=PAIRS)),
        **{name: headlines[name] for name in ("ece", "mce", "adaptive_ece", "classwise_ece")},
        **{name: headlines[name]["value"] for name in ("nll", "brier")},
        "calibration": {
            "headline": headline,
            "temperatures": _temperatures(scaled),
            **{side: {row["measure"]: row for row in _rows(table)} for side, table in sides.items()},
        },
        "reliability": _rows(reliability(known)),
        "class_calibration": _rows(class_calibration(known, seed=seed)),
        "selective": asdict(selection(known)),
        "thresholds": _reached(threshold_table(known, targets=TARGETS)),
        "class_thresholds": _reached(class_thresholds(known, target=CLASS_TARGET)),
        "tiers": _rows(confidence_tiers(known)),
        "conformal": _rows(conformal_table(known)),
        "conformal_sizes": _rows(set_sizes(known)),
        "conformal_classes": _rows(class_coverage(known)),
        "method": {
            "level": 0.95,
            "shares": "Wilson, at the number of clips",
            "bins": "right-closed; Clopper–Pearson within bins",
            "others": "bootstrap of source recordings",
            "draws": measured.bootstrap_draws,
            "seed": measured.bootstrap_seed,
        },
    }
    return dict(_plain(found))


def _repeats(known: RecordSet) -> Iterator[str]:
    """What makes records of one clip doubtful."""
    table = known.table
    if table["clip_id"].is_unique:
        return
    several = int((table.groupby("clip_id", sort=False)["label"].nunique() > 1).sum())
    if several:
        yield f"{several:,} clips have different labels in different records"


def _rows(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Each row by column; counts of bins are whole numbers."""
    rows = [dict(zip(table.columns, row, strict=True)) for row in table.itertuples(index=False, name=None)]
    return [row | {"bins": int(row["bins"])} if row.get("bins", np.nan) == row.get("bins") else row for row in rows]


def _reached(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Only the thresholds that exist."""
    return _rows(table[table["threshold"].notna()])


def _temperatures(records: RecordSet) -> dict[str, float]:
    """By fold."""
    first = records.table["fold"].drop_duplicates()
    return {str(fold): float(records.temperatures[row]) for row, fold in sorted(first.items(), key=lambda of: of[1])}


def _plain(value: Any) -> Any:
    """NumPy's numbers as Python's, and ``None`` for what is not defined."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    if isinstance(value, (bool, np.bool_)):
        return bool(value)
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if math.isfinite(value) else None
    return value


def summary_text(found: Mapping[str, Any]) -> str:
    """The same as Markdown tables."""
    if not found["n"]:
        return f"{_heading(found)}\n\nNo record has a true class: there is nothing to measure."
    tables = [
        _table(["measure", "value", "95 % interval"], _headlines(found)),
        _table(["fold", "n", "accuracy", "95 % interval", "macro-F1"], [_fold(row) for row in found["per_fold"]]),
        _table(
            ["class", "n", "precision", "recall", "F1"],
            [
                [_name(row["label"]), row["n"], *(_spread(row, m) for m in ("precision", "recall", "f1"))]
                for row in found["per_class"]
            ],
        ),
        _table(
            ["taken for", "…", "answers", "of the class", "95 % interval"],
            [
                [_name(r["true"]), _name(r["predicted"]), r["n"], _percent(r["share"]), _between(r)]
                for r in found["confused_pairs"]
            ],
        ),
        _table(
            [
                f"calibration, n = {found['n']:,}",
                "before temperature",
                "after",
                "a perfect model, after: expected, 95 %",
            ],
            [_measure(found, name) for name in MEASURE_NAMES],
        ),
        _table(
            [
                "wanted precision",
                "confidence at least",
                "accepted",
                "right of these",
                "95 % interval",
                "by the other folds",
            ],
            [_threshold(row) for row in found["thresholds"]],
        ),
        _table(
            ["confidence", "answers", "right of these", "95 % interval"],
            [_tier(row) for row in found["tiers"] if row["n"]],
        ),
        _table(
            ["conformal sets, wanted", "held the truth", "95 % interval", "classes each", "single"],
            [
                [
                    _percent(r["wanted"]),
                    _percent(r["coverage"]),
                    _between(r),
                    f"{r['mean_size']:.2f}",
                    _percent(r["singles"]),
                ]
                for r in found["conformal"]
                if r["coverage"] is not None
            ],
        ),
    ]
    return "\n\n".join([_heading(found), *(table for table in tables if table)])


def _heading(found: Mapping[str, Any]) -> str:
    facts = [f"{found['n']:,} clips", f"{len(found['class_names'])} classes", f"{found['sources']:,} source recordings"]
    facts += [f"{len(found['folds'])} folds", f"{found['seeds']} seeds"]
    notes = [f"Note: {note}." for note in found["notes"]]
    unlabelled = [f"Note: {found['unlabelled']:,} records have no true class."] if found["unlabelled"] else []
    scale = [f"Confidence, thresholds, conformal sets and the headline ECE: {found['confidence']}."]
    return "\n".join([f"{found['title']}: {', '.join(facts)}", *(scale if found["n"] else []), *notes, *unlabelled])


def _headlines(found: Mapping[str, Any]) -> list[list[str]]:
    accuracy, f1, base, ranked = found["accuracy"], found["macro_f1_interval"], found["baseline"], found["selective"]
    balanced = found["balanced_accuracy"]
    after, method = found["calibration"][found["calibration"]["headline"]], found["method"]
    known = f1["low"] is not None
    drawn = f"{_numbers(f1)} ({method['draws']:,} draws, seed {method['seed']})" if known else TOO_FEW
    return [
        ["accuracy", f"{_percent(accuracy['value'])} (n = {accuracy['n']:,})", _between(accuracy)],
        [f"always “{_name(base['always'])}”", _percent(base["value"]), _between(base)],
        ["macro-F1", _number(f1["value"]), drawn],
        ["balanced accuracy", _percent(balanced["value"]), _between(balanced) if known else TOO_FEW],
        [MEASURE_NAMES["ece"], _number(after["ece"]["value"]), _numbers(after["ece"])],
        ["area under risk–coverage (AURC)", _fine(ranked["aurc"]["value"]), _fines(ranked["aurc"])],
        ["… best possible, by chance", f"{_fine(ranked['aurc_best'])}, {_fine(ranked['aurc_random'])}", ""],
        ["AUGRC", _fine(ranked["augrc"]["value"]), _fines(ranked["augrc"])],
        ["coverage at 5 % risk", _percent(ranked["cov_at_risk"]["value"]), _between(ranked["cov_at_risk"])],
        ["risk at 80 % coverage", _percent(ranked["risk_at_cov"]["value"]), _between(ranked["risk_at_cov"])],
    ]


def _fold(row: Mapping[str, Any]) -> list[str]:
    return [str(row["fold"]), f"{row['n']:,}", _percent(row["accuracy"]), _between(row), _number(row["macro_f1"])]


def _measure(found: Mapping[str, Any], name: str) -> list[str]:
    before, after = (found["calibration"][side][name] for side in ("before", "after"))
    sides = [f"{_number(side['value'])} ({_numbers(side)})" for side in (before, after)]
    return [MEASURE_NAMES[name], *sides, f"{_number(after['noise_floor'])}, {_number(after['noise_floor_95'])}"]


def _threshold(row: Mapping[str, Any]) -> list[str]:
    accepted = f"{_percent(row['coverage'])} (n = {row['n']:,})"
    outside = f"{_percent(row['held_out_precision'])} of {_percent(row['held_out_coverage'])}"
    return [
        _percent(row["target"]),
        _number(row["threshold"]),
        accepted,
        _percent(row["precision"]),
        _between(row),
        outside,
    ]


def _tier(row: Mapping[str, Any]) -> list[str]:
    between = f"{_percent(row['precision_low'])} to {_percent(row['precision_high'])}"
    return [f"{row['low']:.1f} to {row['high']:.1f}", f"{row['n']:,}", _percent(row["precision"]), between]


def _table(heads: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    if not rows:
        return ""
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def _spread(row: Mapping[str, Any], measure: str) -> str:
    if row[measure] is None:
        return "not defined"
    return f"{_percent(row[measure])} ({_percent(row[f'{measure}_low'])} to {_percent(row[f'{measure}_high'])})"


def _between(of: Mapping[str, Any]) -> str:
    if of["low"] is None:
        return NO_INTERVAL
    return f"{_percent(of['low'])} to {_percent(of['high'])}"


def _numbers(of: Mapping[str, Any]) -> str:
    return f"{_number(of['low'])} to {_number(of['high'])}"


def _fine(value: float | None) -> str:
    return "–" if value is None else f"{value:.4f}"


def _fines(of: Mapping[str, Any]) -> str:
    return NO_INTERVAL if of["low"] is None else f"{_fine(of['low'])} to {_fine(of['high'])}"


def _percent(value: float | None) -> str:
    return "–" if value is None else in_percent(value)


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _name(label: str) -> str:
    return label.replace("_", " ").replace("|", "\\|")
