import numpy as np
import plotly.graph_objects as go
import pytest

from core.audio import Waveform
from core.explain import Stage
from core.figures.audio import (
    confidence_figure,
    enlarged,
    envelope,
    feature_map_figure,
    mel_rows,
    percent,
    sound_figure,
)
from core.records import SourceFacts, WindowPrediction

RATE = 32_000
MEL_HZ = np.linspace(50, 14_000, 64)


def wave(duration_s: float) -> Waveform:
    samples = np.random.default_rng(0).normal(0, 0.1, round(duration_s * RATE)).astype(np.float32)
    source = SourceFacts(
        container="wav",
        codec="pcm_16",
        sample_rate_hz=RATE,
        channels=1,
        duration_s=duration_s,
        peak=float(np.abs(samples).max()),
        longest_clipped_run=0,
        downmix_loss_db=0,
        truncated=False,
    )
    return Waveform(samples, RATE, source)


def log_mel(columns: int) -> np.ndarray:
    return np.random.default_rng(1).normal(-30, 10, (64, columns)).astype(np.float32)


def traces(figure: go.Figure, kind: type) -> list[go.Figure]:
    return [trace for trace in figure.data if isinstance(trace, kind)]


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
    figure = sound_figure(wave(1), log_mel(101), MEL_HZ, 0.01)
    for position, text in zip(figure.layout.yaxis2.tickvals, figure.layout.yaxis2.ticktext, strict=True):
        hz = float(text.replace("k", "")) * (1_000 if "k" in text else 1)
        assert np.interp(position, np.arange(64), MEL_HZ) == pytest.approx(hz, rel=1e-6)


def test_waveform_and_mel_share_one_time_axis_as_long_as_the_sound() -> None:
    figure = sound_figure(wave(3), log_mel(301), MEL_HZ, 0.01)
    assert figure.layout.xaxis.matches == "x2"
    assert tuple(figure.layout.xaxis2.range) == (0, 3)
    assert figure.layout.xaxis2.title.text == "Time (s)"
    assert figure.layout.yaxis2.title.text == "Frequency (Hz)"
    (heat,) = traces(figure, go.Heatmap)
    assert float(heat.x[-1]) == pytest.approx(3.0)
    assert heat.z.shape == (64, 301)


def test_grad_cam_is_outlined_where_it_is_highest_and_inside_its_window() -> None:
    cam = np.zeros((4, 10), dtype=np.float32)
    cam[1, 7] = 1
    figure = sound_figure(wave(12), log_mel(1_201), MEL_HZ, 0.01, start_s=5, end_s=10, cam=cam)
    contours = traces(figure, go.Contour)
    assert len(contours) == 3
    z = np.asarray(contours[0].z)
    row, column = np.unravel_index(z.argmax(), z.shape)
    assert contours[0].x[column] == pytest.approx(8.75, abs=0.3)  # the middle of column 7 of 10, over 5 to 10 s
    assert row == pytest.approx(24, abs=8)  # the second of four rows, of 64
    assert (float(contours[0].x[0]), float(contours[0].x[-1])) == (5, 10)


def test_a_grad_cam_of_nothing_draws_nothing() -> None:
    figure = sound_figure(wave(1), log_mel(101), MEL_HZ, 0.01, cam=np.zeros((4, 10), dtype=np.float32))
    assert not traces(figure, go.Contour)


def test_several_windows_become_a_timeline_of_the_classes_asked_for() -> None:
    windows = [
        WindowPrediction(start_s=0, end_s=5, probabilities=(0.7, 0.2, 0.1)),
        WindowPrediction(start_s=2.5, end_s=7.5, probabilities=(0.1, 0.8, 0.1)),
    ]
    figure = sound_figure(
        wave(11), log_mel(1_101), MEL_HZ, 0.01, end_s=5, windows=windows, class_names=("dog", "sea_waves", "rain"),
        shown_classes=("sea_waves", "dog"),
    )  # fmt: skip
    lines = [trace for trace in traces(figure, go.Scatter) if trace.name]
    assert [line.name for line in lines] == ["sea waves", "dog"]
    assert list(lines[0].x) == [2.5, 5.0]
    assert list(lines[0].y) == [0.2, 0.8]


def test_ten_minutes_stay_light() -> None:
    figure = sound_figure(wave(600), log_mel(2_000), MEL_HZ, 0.3)
    assert len(figure.to_json()) < 3_000_000


def test_digital_silence_is_drawn() -> None:
    silent = wave(1)
    quiet = Waveform(np.zeros_like(silent.samples), RATE, silent.source)
    figure = sound_figure(quiet, np.full((64, 101), -100, dtype=np.float32), MEL_HZ, 0.01)
    low, high = figure.layout.yaxis.range
    assert low < 0 < high


def test_confidence_bars_are_most_probable_first_and_no_more_than_asked() -> None:
    figure = confidence_figure({"dog": 0.1, "sea_waves": 0.7, "rain": 0.2}, top_k=2)
    (bars,) = figure.data
    assert list(bars.y) == ["Sea waves", "Rain"]
    assert list(bars.x) == [0.7, 0.2]
    assert list(bars.text) == ["70.0%", "20.0%"]


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.0%"),
        (1e-6, "< 0.1%"),
        (0.0005, "0.1%"),
        (0.5, "50.0%"),
        (0.9994, "99.9%"),
        (0.99999, "> 99.9%"),
        (1, "100.0%"),
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
