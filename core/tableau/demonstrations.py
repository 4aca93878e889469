"""Sounds degraded on purpose beside the shipped run, so that the drift tables hold something before any log does.

They are the Drift page's demo, and are called a demonstration wherever they stand: in ``drift``,
``drift_distribution`` and ``about``, and in no table that a metric is computed from.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache

import pandas as pd

from core import __version__
from core.config import SHIPPED_RUN
from core.drift_demo import recorded_demo
from core.errors import RecordsError
from core.recordset import RecordSet
from core.sources import of_run
from core.tableau import aggregates
from core.tableau.parts import unlike

KIND = "demonstration"
CONDITIONS = (
    "far away: 14 dB quieter, nothing above 8 kHz",
    "noise: 10 dB under the sound",
    "as recorded",
)
Tables = tuple[tuple[str, pd.DataFrame], ...]


@dataclass(frozen=True)
class Demonstration:
    """Rows of the drift tables, and the one row of ``about``."""

    tables: Tables
    about: pd.DataFrame


def of(class_names: Sequence[str], taken: set[str]) -> list[Demonstration]:
    """Every demonstration, under names that are not ``taken``; none for classes that are not the shipped model's."""
    found = _compared()
    if not found or tuple(class_names) != found[0][0].class_names:
        return []
    return [_named(records, tables, unlike(records.title, taken)) for records, tables in found]


@lru_cache(maxsize=1)
def _compared() -> tuple[tuple[RecordSet, Tables], ...]:
    """The shipped files alone say what this is, so once a process is enough."""
    reference = of_run(SHIPPED_RUN, with_embedding=False)
    try:
        shown = [replace(recorded_demo(condition), title=f"{KIND} ({condition})") for condition in CONDITIONS]
    except RecordsError:  # a model was shipped for which none was recorded
        return ()
    return tuple((records, tuple(aggregates.drift_of(records.title, reference, records))) for records in shown)


def _named(records: RecordSet, tables: Tables, run_id: str) -> Demonstration:
    facts = {
        "run_id": run_id,
        "kind": KIND,
        "protocol": "sounds degraded on purpose, answered by the shipped model and held against its cross-validation",
        "dataset": "ESC-10",
        "fingerprint": records.fingerprint,
        "n_answers": 0,
        "n_labelled": 0,
        "n_clips": 0,
        "n_classes": len(records.class_names),
        "n_seeds": 1,
        "temperature": float(records.temperatures.mean()),
        "created_at": pd.NaT,
        "notes": f"{len(records)} sounds, in the tables drift and drift_distribution alone: no metric counts them",
        "earshot_version": __version__,
    }
    return Demonstration(tuple((name, _told(table, run_id)) for name, table in tables), pd.DataFrame([facts]))


def _told(table: pd.DataFrame, run_id: str) -> pd.DataFrame:
    """With its name, and a verdict that says what it is of."""
    named = table.assign(run_id=run_id)
    if "verdict" in named:
        whole = named["statistic"] == "verdict"
        named["verdict"] = named["verdict"].where(~whole, "Demonstration, not your sounds: " + named["verdict"])
    return named
