import numpy as np
import pytest

from core.explain import Stage
from core.figures.audio import (
    confidence_figure,
    enlarged,
    envelope,
    feature_map_figure,
    mel_rows,
    percent,
)

MEL_HZ = np.linspace(50, 14_000, 64)


def test_the_envelope_holds_the_true_extremes_of_every_stretch() -> None:
    samples = np.random.default_rng(0).normal(0, 1, 12_345).astype(np.float32)
    starts, least, greatest = envelope(samples, columns=100)
    for start, end, low, high in zip(starts, [*starts[1:], samples.size], least, greatest, strict=True):
        assert (low, high) == (samples[start:end].min(), samples[start:end].max())
    assert len(starts) == 100


def test_a_sound_shorter_than_the_screen_is_drawn_whole() -> None:
    samples = np.arange(7, dtype=np.float32)
    starts, least, greatest = envelope(samples)
    np.testing.assert_array_equal(least, samples)
    np.testing.assert_array_equal(greatest, samples)
    assert starts.tolist() == list(range(7))


def test_frequency_ticks_sit_on_the_rows_they_name() -> None:
    assert mel_rows([MEL_HZ[0], MEL_HZ[10], MEL_HZ[63]], MEL_HZ) == pytest.approx([0, 10, 63])


def test_confidence_bars_are_most_probable_first_and_no_more_than_asked() -> None:
    figure = confidence_figure({"dog": 0.1, "sea_waves": 0.7, "rain": 0.2}, top_k=2)
    (bars,) = figure.data
    assert list(bars.y) == ["Sea waves", "Rain"]
    assert list(bars.x) == pytest.approx([70, 20])
    assert figure.layout.xaxis.ticktext[1] == "25\N{NO-BREAK SPACE}%"
    assert list(bars.text) == ["70.0\N{NO-BREAK SPACE}%", "20.0\N{NO-BREAK SPACE}%"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0\N{NO-BREAK SPACE}%"),
        (1e-6, "<\N{NO-BREAK SPACE}0.1\N{NO-BREAK SPACE}%"),
        (0.0005, "0.1\N{NO-BREAK SPACE}%"),
        (0.5, "50.0\N{NO-BREAK SPACE}%"),
        (0.9994, "99.9\N{NO-BREAK SPACE}%"),
        (0.99999, ">\N{NO-BREAK SPACE}99.9\N{NO-BREAK SPACE}%"),
        (1, "100.0\N{NO-BREAK SPACE}%"),
    ],
)
def test_a_confidence_is_never_rounded_to_certainty(value: float, text: str) -> None:
    assert percent(value) == text


def test_no_classes_give_a_figure_that_says_so() -> None:
    assert "Nothing" in confidence_figure({}, top_k=3).layout.annotations[0].text


def test_feature_maps_show_the_mean_first_and_then_the_channels_asked_for() -> None:
    maps = np.random.default_rng(0).random((8, 4, 10)).astype(np.float32)
    stage = Stage("stage4", maps, np.zeros((4, 10), dtype=np.float32))
    figure = feature_map_figure(stage, channels=[5, 2], span_s=(5.0, 10.0))
    mean, five, two = figure.data
    np.testing.assert_allclose(mean.z, maps.mean(axis=0))
    np.testing.assert_array_equal(five.z, maps[5])
    np.testing.assert_array_equal(two.z, maps[2])
    assert (mean.x0, mean.dx) == (5.25, 0.5)
    assert next(title.text for title in figure.layout.annotations) == "mean of<br>8 channels"
    assert five.coloraxis == two.coloraxis != mean.coloraxis


def test_enlarging_keeps_the_place_of_the_peak() -> None:
    cam = np.zeros((4, 10), dtype=np.float32)
    cam[2, 3] = 1
    row, column = np.unravel_index(enlarged(cam, 64, 100).argmax(), (64, 100))
    assert row == pytest.approx(2.5 * 16, abs=8)
    assert column == pytest.approx(3.5 * 10, abs=5)
