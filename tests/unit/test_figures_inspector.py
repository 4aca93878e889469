import numpy as np
import pandas as pd

from core.descriptors import NAMES
from core.diagnostics.descriptors import against
from core.explain import Stage
from core.figures.inspector import MOST_SPREADS, standing_figure, thumbnails_figure


def table(value: float = 0.5) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    others = pd.DataFrame({name: rng.normal(0, 1, 40) for name in NAMES})
    return against(dict.fromkeys(NAMES, value) | {"peak_dbfs": 99.0, "rms_dbfs": np.nan}, others)


def test_every_defined_descriptor_has_a_row_with_its_unit() -> None:
    figure = standing_figure(table(), sound="this sound", others="rain (n = 40)")
    marks = figure.data[-1]
    assert len(marks.y) == len(NAMES) - 1
    assert "Spectral centroid (Hz)" in marks.y
    assert "RMS level (dBFS)" not in marks.y
    assert figure.layout.xaxis.title.text == "Robust sd from the median"
    assert [trace.name for trace in figure.data] == [
        "rain (n = 40), 5th to 95th percentile",
        "rain (n = 40), middle half",
        "this sound",
    ]


def test_what_lies_far_out_stands_at_the_edge_as_an_arrow() -> None:
    marks = standing_figure(table(), sound="s", others="o").data[-1]
    place = list(marks.y).index("Peak level (dBFS)")
    assert marks.x[place] == MOST_SPREADS
    assert marks.marker.symbol[place] == "triangle-right"


def test_a_bar_is_the_class_in_the_same_units_as_the_sound() -> None:
    given = table()
    row = given.set_index("descriptor").loc["crest_factor_db"]
    bars = standing_figure(given, sound="s", others="o").data[0]
    place = list(bars.y).index("Crest factor (dB)")
    spread = (row["value"] - row["p50"]) / row["spreads"]
    np.testing.assert_allclose(bars.x[place : place + 2], [(row[end] - row["p50"]) / spread for end in ("p05", "p95")])


def test_nothing_to_compare_is_said() -> None:
    figure = standing_figure(against({}, pd.DataFrame()), sound="s", others="o")
    assert figure.layout.annotations[0].text == "Nothing to show"
    assert thumbnails_figure((), channels=3, span_s=(0, 1)).layout.annotations[0].text == "Nothing to show"


def test_each_stage_is_a_row_of_its_mean_and_strongest_channels() -> None:
    rng = np.random.default_rng(0)
    stages = [
        Stage(f"stage{n}", rng.random((8, 4, columns)).astype(np.float32), np.zeros((4, columns), np.float32))
        for n, columns in ((1, 500), (2, 30))
    ]
    figure = thumbnails_figure(stages, channels=3, span_s=(2.0, 7.0))
    assert len(figure.data) == 2 * 4
    first, last = figure.data[0], figure.data[-1]
    assert first.z.shape == (4, 120)
    assert last.z.shape == (4, 30)
    np.testing.assert_allclose(first.z.mean(), stages[0].mean_map.mean(), rtol=1e-2)
    assert first.x0 - first.dx / 2 == 2.0
    assert f"channel {stages[1].strongest(3)[-1]}" in last.hovertemplate
