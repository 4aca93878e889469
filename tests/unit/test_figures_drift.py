import numpy as np
import pandas as pd
import pytest

from core.diagnostics.drift import compare
from core.diagnostics.drift_report import DriftReport
from core.diagnostics.drift_tables import DAY_COLUMNS, distribution_table
from core.drift_demo import recorded_demo
from core.figures.drift import classes_figure, days_figure, distribution_figure, effects_figure, plain
from core.recordset import RecordSet
from core.sources import shipped


@pytest.fixture(scope="module")
def pair() -> tuple[RecordSet, RecordSet]:
    return shipped(), recorded_demo("gain: 14 dB quieter")


@pytest.fixture(scope="module")
def report(pair: tuple[RecordSet, RecordSet]) -> DriftReport:
    return compare(*pair, rng=np.random.default_rng(0), with_embedding=False)


def test_every_descriptor_is_a_bar_with_what_chance_gives(report: DriftReport) -> None:
    figure = effects_figure(report)
    flagged, others, chance = figure.data
    assert len(flagged.x) + len(others.x) == len(chance.x) == 18
    assert plain("loudness_lufs") in flagged.y
    assert figure.layout.xaxis.title.text == "Effect (sd of the reference)"


def test_distributions_are_overlaid_with_their_n(pair: tuple[RecordSet, RecordSet]) -> None:
    table = distribution_table(*pair)
    figure = distribution_figure(table, "loudness_lufs")
    assert [trace.name for trace in figure.data] == ["Reference (n = 400)", "Current (n = 200)"]
    assert figure.layout.xaxis.title.text == "Loudness (LUFS)"
    assert not distribution_figure(table, "nonsense").data


def test_the_class_mix_shows_both_sides(report: DriftReport) -> None:
    figure = classes_figure(report.classes, report.n_reference, report.n_current)
    assert [len(trace.x) for trace in figure.data] == [10, 10]
    assert sum(figure.data[0].x) == pytest.approx(100)


def test_days_are_coloured_by_verdict() -> None:
    rows = [
        (pd.Timestamp("2026-01-01", tz="UTC"), 10, "not_enough_data", False, 0, "", 0.9, 0.1, 0.9),
        (pd.Timestamp("2026-01-02", tz="UTC"), 300, "drift", False, 3, "14 dB quieter", 0.9, 0.1, 0.9),
    ]
    figure = days_figure(pd.DataFrame(rows, columns=list(DAY_COLUMNS)))
    assert [trace.name for trace in figure.data] == ["Not enough data", "Drift"]
    assert figure.data[1].customdata[0][0] == "14 dB quieter"


def test_nothing_to_show_is_said(pair: tuple[RecordSet, RecordSet]) -> None:
    none = pair[0].take(np.zeros(0, dtype=np.int64))
    report = compare(none, none, rng=np.random.default_rng(0))
    for figure in (
        effects_figure(report),
        classes_figure(report.classes, 0, 0),
        days_figure(pd.DataFrame(columns=list(DAY_COLUMNS))),
        distribution_figure(distribution_table(none, none), "rms_dbfs"),
    ):
        assert figure.layout.annotations[0].text
