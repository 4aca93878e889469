"""What was answered and why, for exploring: confidence, feature maps; and what waveforms and spectrograms are drawn of.

Colours are left to the page's theme, except for Grad-CAM's, which have to stand out from any colour scale.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from core.explain import Stage
from core.figures.empty import empty_figure
from core.figures.percent import QUARTERS
from core.shares import percent

ENVELOPE_COLUMNS = 2_000  # waveform extremes drawn; more than any screen shows
TICKS_HZ = (100, 500, 1_000, 2_000, 5_000, 10_000, 20_000)
CAM_LEVELS = (0.3, 0.6, 0.9)
CAM_COLOURS = ("#ffb000", "#fe6100", "#dc267f")  # IBM's colour-blind-safe amber, orange, magenta: weak to strong
SHOWN_DB = 80.0  # dynamic range of the colour scale
MAPS_A_ROW = 3
BAR_PX, MANY_BARS, NARROW_BAR_PX = 36, 10, 22  # of many bars, each gets what its label needs


def envelope(samples: NDArray[np.float32], columns: int = ENVELOPE_COLUMNS) -> tuple[NDArray[np.int64], ...]:
    """Least and greatest sample of each of at most ``columns`` stretches: (first sample of each, least, greatest)."""
    starts = np.unique(np.linspace(0, samples.size, min(columns, samples.size), endpoint=False).astype(np.int64))
    return starts, np.minimum.reduceat(samples, starts), np.maximum.reduceat(samples, starts)


def mel_rows(hz: Sequence[float], mel_hz: NDArray[np.float64]) -> list[float]:
    """Where frequencies lie between the rows of a mel spectrogram: row f is ``mel_hz[f]``."""
    return [float(row) for row in np.interp(hz, mel_hz, np.arange(mel_hz.size))]


def enlarged(cam: NDArray[np.float32], rows: int, columns: int) -> NDArray[np.float32]:
    """``cam`` (F', T') brought to (rows, columns), bilinearly."""
    given = torch.from_numpy(np.ascontiguousarray(cam))[None, None]
    return torch.nn.functional.interpolate(given, (rows, columns), mode="bilinear", align_corners=False)[0, 0].numpy()


def confidence_figure(probabilities: Mapping[str, float], *, top_k: int) -> go.Figure:
    """The ``top_k`` most probable classes as bars, the first on top."""
    ranked = sorted(probabilities.items(), key=lambda item: -item[1])[:top_k]
    if not ranked:
        return empty_figure()
    names = [name.replace("_", " ").capitalize() for name, _ in ranked]
    values = [value for _, value in ranked]
    figure = go.Figure(
        go.Bar(
            x=[100 * value for value in values],
            y=names,
            orientation="h",
            text=[percent(value) for value in values],
            textposition="outside",
            cliponaxis=False,
            hovertemplate="%{y}: %{x:.2f} %<extra></extra>",
        )
    )
    figure.update_xaxes(range=[0, 130], **QUARTERS, title_text="Confidence")
    figure.update_yaxes(autorange="reversed", automargin=True)
    bar_px = BAR_PX if len(ranked) <= MANY_BARS else NARROW_BAR_PX
    figure.update_layout(height=90 + bar_px * len(ranked), margin={"l": 10, "r": 10, "t": 10, "b": 10}, bargap=0.35)
    return figure


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
