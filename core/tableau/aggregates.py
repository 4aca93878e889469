"""Metrics of one part as tables of the star schema. Every number is the app's own, computed by ``core.diagnostics``."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from core.diagnostics.calibration import reliability_table
from core.recordset import RecordSet


def of(run_id: str, records: RecordSet) -> Iterator[tuple[str, pd.DataFrame]]:
    """Name and rows of every aggregate of labelled ``records``, which may be none."""
    yield "reliability", reliability(records).assign(run_id=run_id)


def reliability(records: RecordSet) -> pd.DataFrame:
    """Each seed for itself, raw and calibrated."""
    pieces = [
        reliability_table(confidence, one.correct).assign(seed=seed, stage=stage)
        for seed, one in sorted(seeds_of(records).items())
        for stage, confidence in (("raw", one.raw_confidence), ("calibrated", one.confidence))
    ]
    return pd.concat(pieces, ignore_index=True).rename(columns={"low": "bin_low", "high": "bin_high"})


def seeds_of(records: RecordSet) -> dict[int, RecordSet]:
    """``by_seed``, also of no records at all."""
    return records.by_seed() if len(records) else {0: records}
