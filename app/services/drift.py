"""Comparisons of two sets of records, each made once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

if TYPE_CHECKING:
    from pandas import DataFrame

    from core.diagnostics.drift_report import DriftReport
    from core.recordset import RecordSet


def report(reference: RecordSet, current: RecordSet) -> DriftReport:
    """The comparison, the same for equal records."""
    return _report(reference.digest, current.digest, _pair=(reference, current))


@st.cache_resource(max_entries=32, show_spinner="Comparing…")
def _report(reference: str, current: str, *, _pair: tuple[RecordSet, RecordSet]) -> DriftReport:
    import numpy as np

    from core.diagnostics.drift import compare

    return compare(*_pair, rng=np.random.default_rng(0))


def distributions(reference: RecordSet, current: RecordSet) -> DataFrame:
    """One row a descriptor, set and bin. Do not change it."""
    return _distributions(reference.digest, current.digest, _pair=(reference, current))


@st.cache_resource(max_entries=16, show_spinner=False)
def _distributions(reference: str, current: str, *, _pair: tuple[RecordSet, RecordSet]) -> DataFrame:
    from core.diagnostics.drift_tables import distribution_table

    return distribution_table(*_pair)


def days(reference: RecordSet, current: RecordSet) -> DataFrame:
    """One row a day with its verdict. Do not change it."""
    return _days(reference.digest, current.digest, _pair=(reference, current))


@st.cache_resource(max_entries=16, show_spinner="Comparing day by day…")
def _days(reference: str, current: str, *, _pair: tuple[RecordSet, RecordSet]) -> DataFrame:
    import numpy as np

    from core.diagnostics.drift_tables import over_time

    return over_time(*_pair, rng=np.random.default_rng(0))
