"""The whole result as one picture, for a report or a message: matplotlib, no global state."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from numpy.typing import NDArray

from core import __version__
from core.audio import Waveform
from core.explain import Explanation, Stage
from core.figures.audio import CAM_COLOURS, CAM_LEVELS, SHOWN_DB, TICKS_HZ, enlarged, envelope, mel_rows
from core.records import Prediction, none_of_the
from core.shares import percent

SIZE_INCHES, DPI = (10.67, 8.0), 150  # 1600 × 1200 pixels
PALETTE = ("#4477aa", "#222222")  # bars and lines, text
SEQUENTIAL = "magma"
MOST_MAPS = 8  # of a stage: more would be too small to see


def result_picture(
    prediction: Prediction,
    wave: Waveform,
    explanation: Explanation,
    *,
    top_k: int = 5,
    palette: Sequence[str] | None = None,
) -> bytes:
    """PNG of 1600 × 1200 pixels: answer, confidence, waveform, mel with Grad-CAM, the mean map of every stage."""
    colour, text = (*(palette or ()), *PALETTE)[0], PALETTE[1]
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.05, 0.98, 0.86), h_pad=0.05, w_pad=0.05)
    figure = Figure(figsize=SIZE_INCHES, dpi=DPI, layout=layout, facecolor="white")
    top, middle, bottom = figure.subfigures(3, 1, height_ratios=[1, 1.9, 1.1])  # type: ignore[misc]
    left, right = top.subplots(1, 2)
    _draw_waveform(left, wave, colour)
    _draw_confidence(right, prediction, top_k, colour)
    _draw_mel(middle.subplots(), explanation, wave.duration_s)
    for axes, stage in zip(bottom.subplots(1, len(explanation.stages)), explanation.stages, strict=True):
        _draw_stage(axes, stage, explanation)
    figure.text(0.015, 0.945, _title(prediction), fontsize=20, weight="bold", color=text)
    figure.text(0.015, 0.918, _subtitle(prediction), fontsize=9, color="#555555")
    figure.text(0.015, 0.015, _footer(prediction), fontsize=7.5, color="#555555")
    return _png(figure)


def explanation_picture(explanation: Explanation, *, maps: int = 4) -> bytes:
    """PNG: mel with Grad-CAM, then a row a stage: Grad-CAM, the mean map and the ``maps`` strongest feature maps."""
    stages, maps = explanation.stages, min(maps, MOST_MAPS)
    columns, rows = 2 + maps, len(stages)
    layout = ConstrainedLayoutEngine(rect=(0.01, 0.01, 0.98, 0.98), h_pad=0.04, w_pad=0.04)
    size_inches = (max(8.0, 1.8 * columns), 3.2 + 1.5 * rows)
    figure = Figure(figsize=size_inches, dpi=100, layout=layout, facecolor="white")
    top, bottom = figure.subfigures(2, 1, height_ratios=[3.2, 1.5 * rows])  # type: ignore[misc]
    _draw_mel(top.subplots(), explanation, explanation.hop_s * explanation.log_mel.shape[1])
    for row, stage in zip(bottom.subplots(rows, columns, squeeze=False), stages, strict=True):
        _draw_values(row[0], stage.cam, f"{_stage_name(stage)}: Grad-CAM", explanation)
        _draw_stage(row[1], stage, explanation)
        strongest = stage.strongest(maps)
        for axes, channel in zip(row[2:], strongest, strict=False):
            _draw_values(axes, stage.maps[channel], f"{_stage_name(stage)}: map {channel}", explanation)
        for axes in row[2 + len(strongest) :]:
            axes.set_axis_off()
    return _png(figure)


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    FigureCanvasAgg(figure).print_png(buffer)
    return buffer.getvalue()


def _draw_waveform(axes: Axes, wave: Waveform, colour: str) -> None:
    starts, least, greatest = envelope(wave.samples)
    axes.fill_between(starts / wave.sample_rate_hz, least, greatest, color=colour, linewidth=0.4)
    axes.set_xlim(0, wave.duration_s)
    axes.set_title("Waveform", fontsize=9, loc="left")
    axes.set_xlabel("Time (s)", fontsize=8)
    axes.set_ylabel("Amplitude (full scale)", fontsize=8)
    axes.tick_params(labelsize=7)


def _draw_confidence(axes: Axes, prediction: Prediction, top_k: int, colour: str) -> None:
    ranked = list(prediction.probabilities.items())[:top_k]
    bars = axes.barh([_capital(name) for name, _ in ranked], [p for _, p in ranked], color=colour)
    axes.bar_label(bars, [percent(p) for _, p in ranked], padding=3, fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, 1.15)
    axes.set_xticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    axes.set_title("Confidence", fontsize=9, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_mel(axes: Axes, explanation: Explanation, duration_s: float) -> None:
    bands = explanation.log_mel.shape[0]
    loudest = float(explanation.log_mel.max())
    image = axes.imshow(
        explanation.log_mel,
        origin="lower",
        aspect="auto",
        cmap=SEQUENTIAL,
        vmin=loudest - SHOWN_DB,
        vmax=loudest,
        extent=(0, duration_s, -0.5, bands - 0.5),
    )
    cam = explanation.stages[-1].cam
    if cam.max() > 0:
        smooth = enlarged(cam, bands, 8 * cam.shape[1])
        span_s = np.linspace(explanation.start_s, explanation.end_s, smooth.shape[1])
        axes.contour(span_s, np.arange(bands), smooth, levels=CAM_LEVELS, colors=CAM_COLOURS, linewidths=1.2)
    ticks = [hz for hz in TICKS_HZ if explanation.mel_hz[0] <= hz <= explanation.mel_hz[-1]]
    axes.set_yticks(mel_rows(ticks, explanation.mel_hz), [f"{hz:,}" for hz in ticks])
    axes.set_xlim(0, duration_s)
    axes.set_xlabel("Time (s)", fontsize=8)
    axes.set_ylabel("Frequency (Hz)", fontsize=8)
    axes.tick_params(labelsize=7)
    looked = f"Mel spectrogram, with what spoke for {_capital(explanation.label).lower()} outlined (Grad-CAM)"
    axes.set_title(looked, fontsize=9, loc="left")
    colourbar = axes.figure.colorbar(image, ax=axes, pad=0.01, aspect=30)
    colourbar.set_label("dB", fontsize=8)
    colourbar.ax.tick_params(labelsize=7)


def _draw_stage(axes: Axes, stage: Stage, explanation: Explanation) -> None:
    _draw_values(axes, stage.mean_map, f"{_stage_name(stage)}: mean of {len(stage.maps)}", explanation)


def _draw_values(axes: Axes, values: NDArray[np.float32], title: str, explanation: Explanation) -> None:
    """``values`` (F', T') over the window that was explained."""
    extent = (explanation.start_s, explanation.end_s, -0.5, len(values) - 0.5)
    axes.imshow(values, origin="lower", aspect="auto", cmap=SEQUENTIAL, extent=extent)
    axes.set_title(title, fontsize=8)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.set_xlabel("Time (s)", fontsize=7)


def _stage_name(stage: Stage) -> str:
    return stage.name.replace("stage", "stage ")


def _title(prediction: Prediction) -> str:
    closest = _capital(prediction.label)
    return f"{none_of_the(len(prediction.probabilities))} · closest: {closest}" if prediction.unknown else closest


def _subtitle(prediction: Prediction) -> str:
    others = ", ".join(warning.code.replace("_", " ") for warning in prediction.quality)
    note = f" · recording: {others}" if others else ""
    sure = f"{percent(prediction.confidence)} confident"
    if prediction.unknown:
        sure = f"{percent(prediction.confidence)} for the closest, if it had to choose"
    return (
        f"{sure} · margin {100 * prediction.margin:.1f} points · "
        f"entropy {prediction.entropy:.2f} nats · {prediction.duration_s:.2f} s{note}"
    )


def _footer(prediction: Prediction) -> str:
    return (
        f"Earshot {__version__} · model {prediction.fingerprint[:12]} · sound {prediction.clip_id} · "
        f"{prediction.created_at:%Y-%m-%d %H:%M} UTC · {prediction.backend}"
    )


def _capital(name: str) -> str:
    return name.replace("_", " ").capitalize()
