"""What was heard and why, for exploring: waveform, mel spectrogram, Grad-CAM, timeline, confidence, feature maps.

Colours are left to the page's theme, except for the Grad-CAM outline, which has to stand out from any colour scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from core.audio import Waveform
from core.explain import Stage
from core.records import WindowPrediction

ENVELOPE_COLUMNS = 2_000  # waveform extremes drawn; more than any screen shows
TICKS_HZ = (100, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
CAM_LEVELS = (0.3, 0.6, 0.9)
CAM_COLOURS = ("#ffb000", "#fe6100", "#dc267f")  # IBM's colour-blind-safe amber, orange, magenta: weak to strong
SHOWN_DB = 80.0  # dynamic range of the colour scale
MAPS_A_ROW = 3
TIMELINE_PX, LEGEND_LINES, LEGEND_LINE_PX = 520, 6, 20  # on a phone each class has its own line of the legend
BAR_PX, MANY_BARS, NARROW_BAR_PX = 36, 10, 22  # of many bars, each gets what its label needs
NO_DATA = "Nothing to show"


def sound_figure(
    wave: Waveform,
    log_mel_db: NDArray[np.float32],
    mel_hz: NDArray[np.float64],
    hop_s: float,
    *,
    start_s: float = 0.0,
    end_s: float | None = None,
    cam: NDArray[np.float32] | None = None,
    windows: Sequence[WindowPrediction] = (),
    class_names: Sequence[str] = (),
    shown_classes: Sequence[str] = (),
) -> go.Figure:
    """Waveform, mel spectrogram (F, T) and, for several ``windows``, class probabilities, on one time axis in seconds.

    ``cam`` (F', T') in [0, 1] covers ``start_s`` to ``end_s`` and is outlined over the mel at ``CAM_LEVELS``.
    """
    timeline = len(windows) > 1
    heights = [0.22, 0.5, 0.28] if timeline else [0.3, 0.7]
    figure = make_subplots(rows=len(heights), cols=1, shared_xaxes=True, row_heights=heights, vertical_spacing=0.05)
    _add_waveform(figure, wave)
    _add_mel(figure, log_mel_db, mel_hz, hop_s)
    if cam is not None:
        _add_cam(figure, cam, log_mel_db.shape[0], start_s, wave.duration_s if end_s is None else end_s)
    if timeline:
        _add_timeline(figure, windows, class_names, shown_classes)
        figure.add_vrect(start_s, end_s, row=1, col=1, opacity=0.15, line_width=0, fillcolor="grey")
    figure.update_xaxes(range=[0, wave.duration_s], minallowed=0, maxallowed=wave.duration_s)
    figure.update_xaxes(title_text="Time (s)", row=len(heights), col=1)
    figure.update_layout(
        height=TIMELINE_PX + LEGEND_LINE_PX * max(LEGEND_LINES, len(shown_classes)) if timeline else 470,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        hovermode="closest",
        legend={"orientation": "h", "y": -0.14, "x": 0},
    )
    return figure


def envelope(samples: NDArray[np.float32], columns: int = ENVELOPE_COLUMNS) -> tuple[NDArray[np.int64], ...]:
    """Least and greatest sample of each of at most ``columns`` stretches: (first sample of each, least, greatest)."""
    starts = np.unique(np.linspace(0, samples.size, min(columns, samples.size), endpoint=False).astype(np.int64))
    return starts, np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)


def _add_waveform(figure: go.Figure, wave: Waveform) -> None:
    starts, least, greatest = envelope(wave.samples)
    time_s = np.repeat(starts / wave.sample_rate_hz, 2).astype(np.float32)
    extremes = np.stack([least, greatest], axis=1).ravel()
    figure.add_trace(
        go.Scatter(
            x=time_s,
            y=extremes,
            mode="lines",
            line={"width": 1},
            showlegend=False,
            hovertemplate="%{x:.2f} s<br>%{y:.3f} of full scale<extra></extra>",
        ),
        row=1,
        col=1,
    )
    loudest = max(float(np.abs(wave.samples).max()) * 1.05, 1e-4)
    figure.update_yaxes(title_text="Amplitude", range=[-loudest, loudest], nticks=5, row=1, col=1)


def _add_mel(figure: go.Figure, log_mel_db: NDArray[np.float32], mel_hz: NDArray[np.float64], hop_s: float) -> None:
    bands, columns = log_mel_db.shape
    loudest = float(log_mel_db.max())
    hover = np.broadcast_to(np.round(mel_hz).astype(np.int16)[:, None], (bands, columns)).copy()
    figure.add_trace(
        go.Heatmap(
            z=log_mel_db.astype(np.float32),
            x=(np.arange(columns) * hop_s).astype(np.float32),
            y=np.arange(bands),
            customdata=hover,
            zmin=loudest - SHOWN_DB,
            zmax=loudest,
            colorbar={"title": "dB", "thickness": 10, "len": 0.5, "y": 0.35, "outlinewidth": 0},
            hovertemplate="%{x:.2f} s<br>%{customdata:,} Hz<br>%{z:.1f} dB<extra></extra>",
        ),
        row=2,
        col=1,
    )
    ticks = [hz for hz in TICKS_HZ if mel_hz[0] <= hz <= mel_hz[-1]]
    figure.update_yaxes(
        title_text="Frequency (Hz)",
        tickvals=mel_rows(ticks, mel_hz),
        ticktext=[f"{hz / 1000:g}k" if hz >= 1000 else str(hz) for hz in ticks],
        range=[-0.5, bands - 0.5],
        row=2,
        col=1,
    )


def mel_rows(hz: Sequence[float], mel_hz: NDArray[np.float64]) -> list[float]:
    """Where frequencies lie between the rows of a mel spectrogram: row f is ``mel_hz[f]``."""
    return [float(row) for row in np.interp(hz, mel_hz, np.arange(mel_hz.size))]


def _add_cam(figure: go.Figure, cam: NDArray[np.float32], bands: int, start_s: float, end_s: float) -> None:
    smooth = enlarged(cam, bands, 4 * cam.shape[1])
    if smooth.max() < CAM_LEVELS[0]:
        return
    for level, colour in zip(CAM_LEVELS, CAM_COLOURS, strict=True):
        figure.add_trace(
            go.Contour(
                z=smooth,
                x=np.linspace(start_s, end_s, smooth.shape[1], dtype=np.float32),
                y=np.arange(bands),
                contours={"start": level, "end": level, "size": 1, "coloring": "none"},
                line={"color": colour, "width": 2},
                name=f"Looked here ≥ {level:.0%}",
                showlegend=False,
                showscale=False,
                hoverinfo="skip",
            ),
            row=2,
            col=1,
        )


def enlarged(cam: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """``cam`` (F', T') brought to (rows, columns), bilinearly."""
    given = torch.from_numpy(np.ascontiguousarray(cam))[None, None]
    return torch.nn.functional.interpolate(given, (rows, columns), mode="bilinear", align_corners=False)[0, 0].numpy()


def _add_timeline(
    figure: go.Figure, windows: Sequence[WindowPrediction], class_names: Sequence[str], shown: Sequence[str]
) -> None:
    centre_s = [(window.start_s + window.end_s) / 2 for window in windows]
    for name in shown:
        index = list(class_names).index(name)
        figure.add_trace(
            go.Scatter(
                x=centre_s,
                y=[round(window.probabilities[index], 4) for window in windows],
                mode="lines+markers",
                name=name.replace("_", " "),
                marker_symbol=["circle-open" if window.unknown else "circle" for window in windows],
                hovertemplate="%{x:.1f} s<br>%{y:.1%}%{customdata}<extra>" + name.replace("_", " ") + "</extra>",
                customdata=["<br>none of the classes" if window.unknown else "" for window in windows],
            ),
            row=3,
            col=1,
        )
    figure.update_yaxes(title_text="Probability", range=[-0.03, 1.03], tickformat=".0%", nticks=4, row=3, col=1)


def confidence_figure(probabilities: Mapping[str, float], *, top_k: int) -> go.Figure:
    """The ``top_k`` most probable classes as bars, the first on top."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])[:top_k]
    if not ranked:
        return empty()
    names = [name.replace("_", " ").capitalize() for name, _ in ranked]
    values = [value for _, value in ranked]
    figure = go.Figure(
        go.Bar(
            x=values,
            y=names,
            orientation="h",
            text=[percent(value) for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.2%}<extra></extra>",
        )
    )
    figure.update_xaxes(range=[0, 1.3], tickvals=[0, 0.25, 0.5, 0.75, 1], tickformat=".0%", title_text="Confidence")
    figure.update_yaxes(autorange="reversed", automargin=True)
    bar_px = BAR_PX if len(ranked) <= MANY_BARS else NARROW_BAR_PX
    figure.update_layout(height=90 + bar_px * len(ranked), margin={"l": 10, "r": 10, "t": 10, "b": 10}, bargap=0.35)
    return figure


def percent(value: float) -> str:
    """One decimal, and never a rounded 0 or 100: nothing is certain."""
    if 0 < value < 0.0005:
        return "< 0.1%"
    if 0.9995 <= value < 1:
        return "> 99.9%"
    return f"{value:.1%}"


def feature_map_figure(stage: Stage, *, channels: Sequence[int], span_s: tuple[float, float]) -> go.Figure:
    """The mean over all channels, then each of ``channels``.

    Single channels share one colour range; the mean, which is weaker, has its own.
    """
    maps = [(f"mean of<br>{len(stage.maps)} channels", stage.mean_map, "coloraxis")]
    maps += [(f"channel {c}<br>mean {stage.strength[c]:.2f}", stage.maps[c], "coloraxis2") for c in channels]
    rows = math.ceil(len(maps) / MAPS_A_ROW)
    figure = make_subplots(
        rows=rows,
        cols=min(MAPS_A_ROW, len(maps)),
        subplot_titles=[title for title, _, _ in maps],
        horizontal_spacing=0.04,
        vertical_spacing=0.36 / rows,  # two lines of title and the ticks of the row above
    )
    for position, (_, values, axis) in enumerate(maps):
        row, column = position // MAPS_A_ROW + 1, position % MAPS_A_ROW + 1
        figure.add_trace(_map(values, span_s, axis), row=row, col=column)
        if column == 1:
            figure.update_yaxes(title_text="Mel height", row=row, col=column)
        if position + MAPS_A_ROW >= len(maps):
            figure.update_xaxes(title_text="Time (s)", row=row, col=column)
    figure.update_yaxes(showticklabels=False)
    hidden = {"showscale": False, "cmin": 0}
    figure.update_layout(
        height=70 + 190 * rows, margin={"l": 10, "r": 10, "t": 40, "b": 10}, coloraxis=hidden, coloraxis2=hidden
    )
    figure.update_annotations(font_size=11)  # three titles stand side by side on a phone
    return figure


def _map(values: NDArray[np.float32], span_s: tuple[float, float], axis: str) -> go.Heatmap:
    step_s = (span_s[1] - span_s[0]) / values.shape[1]
    return go.Heatmap(
        z=values,
        x0=span_s[0] + step_s / 2,
        dx=step_s,
        coloraxis=axis,
        hovertemplate="%{x:.2f} s<br>row %{y}<br>activation %{z:.3f}<extra></extra>",
    )


def empty() -> go.Figure:
    figure = go.Figure()
    figure.add_annotation(text=NO_DATA, showarrow=False)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(height=120, margin={"l": 10, "r": 10, "t": 10, "b": 10})
    return figure
