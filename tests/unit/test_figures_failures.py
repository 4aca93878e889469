"""Figures of the Failure modes page: axes, intervals, what a click carries, and empty data."""

import math

import numpy as np
import pandas as pd
import pytest

from core.config import SHIPPED_RUN
from core.diagnostics.maps import COLOURS, MISSING, OTHER, added_to, colouring, ground, sound_map
from core.diagnostics.noise import NoiseScan, condition_table, snr_curve
from core.diagnostics.slices import slice_table
from core.figures.failures import conditions_figure, map_figure, scan_figure, slices_figure, snr_figure
from core.recordset import RecordSet
from tests.answers import answers


def drawn(records: RecordSet, column: str) -> tuple[object, pd.DataFrame, pd.Series]:
    points = sound_map(records)
    table = records.frame().iloc[points.position].assign(wrong=~records.correct[points.position])
    return points, table, colouring(table[column])


def test_the_map_has_every_record_once_and_a_click_tells_which() -> None:
    records = answers()
    figure = map_figure(*drawn(records, "label"), called="True class")
    assert [trace.name for trace in figure.data] == [f"Class {k}" for k in range(4)]
    rows = np.concatenate([trace.customdata[:, 0] for trace in figure.data]).astype(int)
    assert sorted(rows) == list(range(200))
    for trace in figure.data:
        wrong = ~records.correct[trace.customdata[:, 0].astype(int)]
        assert (np.asarray(trace.marker.symbol) == np.where(wrong, "x", "circle")).all()
    assert "no unit" in figure.layout.xaxis.title.text


def test_training_clips_lie_behind_in_grey_and_cannot_be_clicked() -> None:
    records = answers(40)
    assert records.embedding is not None
    known = ground(records.table.assign(embedding=list(records.embedding)), "PCA")
    assert known is not None
    points = added_to(known, records.take(np.arange(10)), "PCA")
    table = records.frame().head(10).assign(wrong=False)
    figure = map_figure(points, table, colouring(table["label"]), called="True class")
    assert figure.data[0].name == "Training clips (n = 40)"
    assert figure.data[0].customdata is None
    assert sum(len(trace.x) for trace in figure.data[1:]) == 10


def test_numbers_colour_the_map_by_a_scale() -> None:
    figure = map_figure(*drawn(answers(), "confidence"), called="Confidence")
    assert len(figure.data) == 1
    assert figure.layout.coloraxis.colorbar.title.text == "Confidence"
    np.testing.assert_allclose(np.sort(figure.data[0].marker.color), np.sort(answers().confidence))


def test_colours_are_as_many_as_eyes_tell_apart() -> None:
    many = colouring(pd.Series([f"r{i // 2}" for i in range(60)]))
    assert len(many.cat.categories) == COLOURS
    assert many.cat.categories[-1] == OTHER
    assert (many == OTHER).sum() == 60 - 2 * (COLOURS - 1)
    flags = colouring(pd.Series([True, None, False], dtype="boolean"))
    assert set(flags) == {"True", "False", MISSING}
    assert colouring(pd.Series([1, 2, 3])).dtype == "category"  # folds
    assert colouring(pd.Series(range(50))).dtype == float
    days = pd.Series(pd.to_datetime(["2026-01-01T10:00Z", "2026-01-01T11:00Z", "2026-01-02T00:00Z"]))
    assert list(colouring(days)) == ["2026-01-01", "2026-01-01", "2026-01-02"]


def test_slices_show_their_intervals_and_the_line_of_the_rule() -> None:
    table = slice_table(answers(accuracy=0.7))
    figure = slices_figure(table, average=0.75)
    slices = [trace for trace in figure.data if trace.mode == "markers"]
    assert sum(len(trace.x) for trace in slices) == min(15, len(table))
    assert [trace.name for trace in figure.data if trace.mode == "lines"] == [
        "average 75\N{NO-BREAK SPACE}%",
        "weak below 60\N{NO-BREAK SPACE}%",
    ]
    trace = figure.data[0]
    np.testing.assert_allclose(trace.x + trace.error_x.array, trace.customdata[:, 4].astype(float))
    assert [shape.x0 for shape in figure.layout.shapes] == pytest.approx([75, 60])


def test_noise_rises_to_the_right_and_recordings_stand_left_of_it() -> None:
    robustness = pd.read_parquet(SHIPPED_RUN / "robustness.parquet")
    figure = snr_figure(snr_curve(robustness))
    assert figure.layout.xaxis.autorange == "reversed"
    assert list(figure.layout.xaxis.ticktext) == ["as recorded", "20", "10", "0"]
    assert list(figure.data[0].x) == [30, 20, 10, 0]
    every = conditions_figure(condition_table(robustness))
    assert len(every.data[0].x) == robustness["condition"].nunique()


def test_a_scan_marks_the_first_flip_and_lost_answers() -> None:
    table = pd.DataFrame(
        {
            "draw": [0, 0, 1, 1],
            "snr_db": [10.0, 5.0, 10.0, 5.0],
            "predicted": ["dog", "rain", "dog", "dog"],
            "confidence": [0.9, 0.6, 0.9, 0.8],
            "probability": [0.9, 0.4, 0.9, 0.8],
        }
    )
    scan = NoiseScan("dog", 0.99, (5.0, math.nan), table, lowest_db=5.0, scanned_s=5.0)
    figure = scan_figure(scan)
    assert [list(trace.marker.symbol) for trace in figure.data] == [["circle", "circle-open"], ["circle", "circle"]]
    assert figure.layout.shapes[0].x0 == 5.0
    assert "Probability of dog" in figure.layout.yaxis.title.text


def test_nothing_to_draw_says_so() -> None:
    none = answers().take(np.zeros(200, dtype=bool))
    robustness = pd.read_parquet(SHIPPED_RUN / "robustness.parquet").head(0)
    for figure in (
        map_figure(*drawn(none, "label"), called="True class"),
        slices_figure(slice_table(none), average=math.nan),
        snr_figure(snr_curve(robustness)),
        conditions_figure(condition_table(robustness)),
    ):
        assert not figure.data
        assert figure.layout.annotations[0].text
