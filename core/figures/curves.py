"""Training curves and confusion by epoch, for exploring. Colours are the page's theme's.

Held-out curves are dashed. Of several networks the line is their mean and the band spans the lowest to the highest.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.figures.empty import empty_figure
from core.figures.percent import AXIS, hundredths

CURVES = {  # title of the axis → metrics drawn on it, with what they are called
    "Loss (nats)": {"train/loss": "training", "val/loss": "held out"},
    "Accuracy": {"train/accuracy": "training", "val/accuracy": "held out"},
    "Learning rate": {"learning_rate": "learning rate"},
}
HOVER = {"Loss (nats)": "%{y:.3f}", "Accuracy": "%{y:.1f} %", "Learning rate": "%{y:.2e}"}
DASHED = {"held out"}
HEIGHT_PX = 300
FEW_EPOCHS = 10  # so few are drawn as points, too
CELL_PX, LABELLED_CELLS = 30, 15  # more classes than this: names and counts only on hover
UNLABELLED_PX = 560
NO_DATA = "No epoch is recorded here"


def curve_figure(curves: pd.DataFrame, axis: str) -> go.Figure:
    """One of ``CURVES`` over epochs, from rows of ``member, epoch, metric, value``."""
    shares = axis == "Accuracy"
    curves = hundredths(curves, "value") if shares else curves
    tables = {
        called: curves[curves["metric"] == metric].groupby("epoch")["value"].agg(["mean", "min", "max", "size"])
        for metric, called in CURVES[axis].items()
    }
    tables = {called: by_epoch for called, by_epoch in tables.items() if len(by_epoch)}
    if not tables:
        return empty_figure(NO_DATA)
    bands = [_band(by_epoch) for by_epoch in tables.values() if by_epoch["size"].max() > 1]
    # Lines come first: traces take the theme's colours in turn.
    figure = go.Figure([*(_line(by_epoch, called, axis) for called, by_epoch in tables.items()), *bands])
    figure.update_xaxes(title_text="Epoch", rangemode="tozero")
    figure.update_yaxes(title_text=axis, rangemode="tozero", **(AXIS if shares else {}))
    if axis == "Learning rate":
        figure.update_yaxes(exponentformat="power", nticks=5)
    figure.update_layout(
        height=HEIGHT_PX,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        hovermode="x unified",
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
        showlegend=len(CURVES[axis]) > 1,
    )
    return figure


def _line(by_epoch: pd.DataFrame, called: str, axis: str) -> go.Scatter:
    return go.Scatter(
        x=by_epoch.index,
        y=by_epoch["mean"],
        mode="lines+markers" if len(by_epoch) < FEW_EPOCHS else "lines",
        name=called,
        line={"width": 2, "dash": "dash" if called in DASHED else "solid"},
        hovertemplate=HOVER[axis],
    )


def _band(by_epoch: pd.DataFrame) -> go.Scatter:
    epochs = by_epoch.index.to_numpy()
    return go.Scatter(
        x=np.concatenate([epochs, epochs[::-1]]),
        y=np.concatenate([by_epoch["max"].to_numpy(), by_epoch["min"].to_numpy()[::-1]]),
        fill="toself",
        fillcolor="rgba(128, 128, 128, 0.2)",
        mode="none",
        hoverinfo="skip",
        showlegend=False,
    )


def confusion_by_epoch_figure(counts: pd.DataFrame, class_names: Sequence[str]) -> go.Figure:
    """Held-out clips of one epoch, from rows of ``true, predicted, n``: rows true, columns predicted."""
    if counts.empty:
        return empty_figure("No held-out clip was answered yet")
    size = len(class_names)
    matrix = np.zeros((size, size), dtype=int)
    np.add.at(matrix, (counts["true"].to_numpy(dtype=int), counts["predicted"].to_numpy(dtype=int)), counts["n"])
    names = [name.replace("_", " ").capitalize() for name in class_names]
    labelled = size <= LABELLED_CELLS
    figure = go.Figure(
        go.Heatmap(
            z=matrix,
            x=names,
            y=names,
            coloraxis="coloraxis",
            text=np.where(matrix > 0, matrix.astype(str), "") if labelled else None,
            texttemplate="%{text}" if labelled else None,
            hovertemplate="true %{y}<br>predicted %{x}<br>%{z} clips<extra></extra>",
        )
    )
    axis = {"automargin": True, "showgrid": False, "ticks": "", "showticklabels": labelled}
    figure.update_yaxes(title_text="True class", autorange="reversed", **axis)
    figure.update_xaxes(title_text="Predicted class", tickangle=-60, **axis)
    bar = {"title": "Clips", "thickness": 10, "outlinewidth": 0, "tickformat": "d", "nticks": 4}
    figure.update_layout(
        height=190 + CELL_PX * max(6, size) if labelled else UNLABELLED_PX,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        coloraxis={"colorbar": bar, "cmin": 0, "showscale": not labelled},
    )
    return figure
