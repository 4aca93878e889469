"""One clip against others: its descriptors in the distribution of a class, its feature maps at a glance."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go
import torch
from numpy.typing import NDArray
from plotly.subplots import make_subplots

from core.diagnostics.descriptors import SD_OF_IQR
from core.explain import Stage
from core.figures.drift import plain
from core.figures.empty import empty_figure
from core.figures.percent import hundredths

MOST_SPREADS = 6.0  # farther out stands at the edge, as an arrow
ROW_PX = 26
THUMBNAIL_PX, THUMBNAIL_COLUMNS = 88, 120
BANDS = (("p05", "p95", 3, "5th to 95th percentile"), ("p25", "p75", 9, "middle half"))


def standing_figure(table: pd.DataFrame, *, sound: str, others: str) -> go.Figure:
    """Each descriptor of one sound in the distribution of others, in robust standard deviations from their median.

    ``table`` is that of ``core.diagnostics.descriptors.against``; ``sound`` and ``others`` are names for the legend.
    """
    known = table[np.isfinite(table["spreads"])]
    if known.empty:
        return empty_figure()
    spread = (known["p75"] - known["p25"]) / SD_OF_IQR
    names = [f"{plain(str(row.descriptor))} ({row.unit})" for row in known.itertuples()]
    figure = go.Figure()
    for low, high, width, called in BANDS:
        ends = [((known[end] - known["p50"]) / spread).clip(-MOST_SPREADS, MOST_SPREADS) for end in (low, high)]
        figure.add_trace(
            go.Scatter(
                x=np.column_stack([*ends, np.full(len(known), np.nan)]).ravel(),
                y=np.repeat(np.asarray(names, dtype=object), 3),
                mode="lines",
                line={"width": width, "color": "rgba(128,140,150,0.55)"},
                name=f"{others}, {called}",
                hoverinfo="skip",
            )
        )
    shown = known["spreads"].clip(-MOST_SPREADS, MOST_SPREADS)
    symbols = np.select(
        [known["spreads"] > MOST_SPREADS, known["spreads"] < -MOST_SPREADS],
        ["triangle-right", "triangle-left"],
        "diamond",
    )
    figure.add_trace(
        go.Scatter(
            x=shown,
            y=names,
            mode="markers",
            marker={"size": 11, "symbol": symbols.tolist()},
            name=sound,
            customdata=hundredths(known, "below")[["value", "p05", "p50", "p95", "below", "unit"]],
            hovertemplate=(
                "%{y}<br>this sound: %{customdata[0]:.4g} %{customdata[5]}<br>others: median %{customdata[2]:.4g}, "
                "5th to 95th percentile %{customdata[1]:.4g} to %{customdata[3]:.4g}<br>"
                "%{customdata[4]:.0f} % of them lie below<extra></extra>"
            ),
        )
    )
    figure.update_xaxes(
        title_text="Robust sd from the median",
        range=[-MOST_SPREADS - 0.4, MOST_SPREADS + 0.4],
        zeroline=True,
    )
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(
        height=120 + ROW_PX * len(names),
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return figure


def thumbnails_figure(stages: Sequence[Stage], *, channels: int, span_s: tuple[float, float]) -> go.Figure:
    """A row a stage: the mean over its channels, then the ``channels`` that respond most strongly; low pitches below.

    Every picture has its own colour range from 0: it shows where a channel responds, not how strongly.
    """
    if not stages:
        return empty_figure()
    columns = 1 + channels
    titles = ["Mean", *(f"no. {n}" for n in range(1, channels + 1))]
    figure = make_subplots(
        rows=len(stages), cols=columns, column_titles=titles, horizontal_spacing=0.008, vertical_spacing=0.03
    )
    for row, stage in enumerate(stages, start=1):
        pictures = [("mean over all channels", stage.mean_map)]
        pictures += [(f"channel {channel}", stage.maps[channel]) for channel in stage.strongest(channels)]
        for column, (name, values) in enumerate(pictures, start=1):
            figure.add_trace(_thumbnail(name, values, span_s), row=row, col=column)
        shape = " × ".join(map(str, stage.maps.shape))
        name = stage.name.replace("stage", "stage ").capitalize()
        figure.update_yaxes(title_text=f"{name}<br>{shape}", title_font_size=10, row=row, col=1)
    figure.update_xaxes(showticklabels=False, ticks="")
    figure.update_xaxes(
        showticklabels=True, tickangle=0, nticks=2, title_text="Time (s)", title_standoff=2, row=len(stages), col=1
    )
    figure.update_yaxes(showticklabels=False, ticks="")
    figure.update_layout(height=70 + THUMBNAIL_PX * len(stages), margin={"l": 10, "r": 10, "t": 24, "b": 10})
    figure.update_annotations(font_size=11)
    return figure


def _thumbnail(name: str, values: NDArray[np.float32], span_s: tuple[float, float]) -> go.Heatmap:
    small = _narrowed(values)
    step_s = (span_s[1] - span_s[0]) / small.shape[1]
    return go.Heatmap(
        z=small,
        x0=span_s[0] + step_s / 2,
        dx=step_s,
        zmin=0,
        zmax=max(float(small.max()), 1e-9),
        showscale=False,
        hovertemplate=name + "<br>%{x:.2f} s<br>activation %{z:.3f}<extra></extra>",
    )


def _narrowed(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most ``THUMBNAIL_COLUMNS`` columns, each the mean of its neighbours."""
    if values.shape[1] <= THUMBNAIL_COLUMNS:
        return values
    given = torch.from_numpy(np.ascontiguousarray(values))[None]
    return torch.nn.functional.adaptive_avg_pool1d(given, THUMBNAIL_COLUMNS)[0].numpy()
