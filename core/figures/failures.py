"""Where a model fails: map of sounds, accuracy of slices, accuracy against noise. Colours are the page's theme's.

Charts that a person clicks carry in ``customdata`` what the click means.
"""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import plotly.graph_objects as go

from core.diagnostics.maps import Ground, SoundMap
from core.diagnostics.noise import NoiseScan
from core.diagnostics.slices import WEAK_RATIO
from core.figures.empty import empty_figure
from core.figures.percent import AXIS, UNIT, hundredths

MAP_PX, BAR_PX, CURVE_PX = 560, 26, 320
POINT_PX = 7
SLICES_SHOWN = 15
AS_RECORDED_DB = 10.0  # clips without added noise stand this far right of the highest SNR
MARGIN = {"l": 10, "r": 10, "t": 10, "b": 10}
GREY = "rgba(128, 128, 128, 0.6)"


def map_figure(drawn: SoundMap, table: pd.DataFrame, colour: pd.Series, called: str) -> go.Figure:
    """A point for each row of ``table`` (``clip_id, label, predicted, confidence, wrong``), crosses where wrong.

    ``colour`` (see ``core.diagnostics.maps.colouring``) holds numbers, drawn on the theme's scale, or categories, of
    which each gets a colour in order. The first entry of a point's ``customdata`` is its row in the set of records.
    The training clips that ``drawn`` was added to, if any, lie behind in grey and carry none.
    """
    if len(drawn.xy) == 0:
        return empty_figure(
            "Fewer than three records: too few for a map" if drawn.ground is None else "No embeddings to draw"
        )
    points = table.assign(x=drawn.xy[:, 0], y=drawn.xy[:, 1], position=drawn.position, colour=colour.to_numpy())
    if pd.api.types.is_numeric_dtype(colour):
        figure = go.Figure(_points(points, "", marker={"color": points["colour"], "coloraxis": "coloraxis"}))
        bar = {"title": {"text": called, "side": "right"}, "thickness": 10, "outlinewidth": 0}
        figure.update_layout(coloraxis={"colorbar": bar})
    else:
        groups = {name: points[points["colour"] == name] for name in colour.cat.categories}
        figure = go.Figure(
            [_points(group, name[:1].upper() + name[1:], marker={}) for name, group in groups.items() if len(group)]
        )
        figure.update_layout(legend={"orientation": "h", "y": -0.1, "x": 0, "itemsizing": "constant"})
    if drawn.ground is not None:
        figure.add_trace(_behind(drawn.ground))
        figure.data = (figure.data[-1], *figure.data[:-1])  # drawn first
    axis = "Principal axis" if drawn.method == "PCA" else "t-SNE axis"
    quiet = {"showticklabels": False, "zeroline": False, "showgrid": False}
    figure.update_xaxes(title_text=f"{axis} 1 (no unit)", **quiet)
    figure.update_yaxes(title_text=f"{axis} 2 (no unit)", **quiet)
    figure.update_layout(height=MAP_PX, margin=MARGIN, hovermode="closest", clickmode="event+select")
    return figure


def _behind(ground: Ground) -> go.Scatter:
    table = ground.table
    return go.Scatter(
        x=ground.xy[:, 0].round(3),
        y=ground.xy[:, 1].round(3),
        mode="markers",
        name=f"Training clips (n = {len(table):,})",
        marker={"size": POINT_PX - 2, "color": GREY, "opacity": 0.5},
        text=[
            f"{clip}<br>training clip: {label}" for clip, label in zip(table["clip_id"], table["label"], strict=True)
        ],
        hovertemplate="%{text}<extra></extra>",
        selected={"marker": {"opacity": 0.5}},
        unselected={"marker": {"opacity": 0.5}},
    )


def _points(points: pd.DataFrame, name: str, *, marker: dict[str, object]) -> go.Scatter:
    ordered = points.sort_values("wrong", kind="stable")  # crosses on top, and a circle in the legend
    size = {"size": np.where(ordered["wrong"], POINT_PX + 3, POINT_PX)}
    marker = {key: ordered["colour"] if key == "color" else value for key, value in marker.items()}
    return go.Scatter(
        x=ordered["x"].round(3),
        y=ordered["y"].round(3),
        mode="markers",
        name=name,
        showlegend=bool(name),
        marker=marker | size | {"symbol": np.where(ordered["wrong"], "x", "circle"), "opacity": 0.8},
        customdata=hundredths(ordered, "confidence")[
            ["position", "clip_id", "label", "predicted", "confidence"]
        ].to_numpy(),
        hovertemplate=(
            "%{customdata[1]}<br>true: %{customdata[2]}<br>answer: %{customdata[3]} (%{customdata[4]:.0f} %)"
            "<extra></extra>"
        ),
        selected={"marker": {"opacity": 0.8}},
        unselected={"marker": {"opacity": 0.8}},
    )


def slices_figure(table: pd.DataFrame, average: float) -> go.Figure:
    """Accuracy and interval of the weakest slices, beside the average and the line of the rule, by verdict."""
    if table.empty:
        return empty_figure("No slice has enough labelled clips")
    shown = hundredths(table.head(SLICES_SHOWN), "accuracy", "low", "high")
    names = [f"{row.slice} (n = {row.n:,})" for row in shown.itertuples()]
    figure = go.Figure()
    for verdict, group in shown.assign(name=names).groupby("verdict", sort=False):
        figure.add_trace(
            go.Scatter(
                x=group["accuracy"],
                y=group["name"],
                mode="markers",
                name=str(verdict) or "not weak",
                marker={"size": 10, "symbol": "circle" if verdict else "circle-open"},
                error_x=_interval(group),
                customdata=group[["family", "slice", "rule", "low", "high"]].to_numpy(),
                hovertemplate=(
                    "%{customdata[2]}<br>%{x:.1f} % (%{customdata[3]:.1f} % to %{customdata[4]:.1f} %)<extra></extra>"
                ),
            )
        )
    for at, called, dash in ((100 * average, "average", "solid"), (100 * WEAK_RATIO * average, "weak below", "dash")):
        line = {"color": GREY, "width": 1.5, "dash": dash}
        figure.add_vline(at, line=line)
        figure.add_trace(go.Scatter(x=[None], y=[names[0]], mode="lines", line=line, name=f"{called} {at:.0f}{UNIT}"))
    figure.update_xaxes(title_text="Accuracy, with 95 % interval", **AXIS, range=[-2, 105])
    figure.update_yaxes(autorange="reversed", automargin=True, categoryorder="array", categoryarray=names)
    figure.update_layout(
        height=130 + BAR_PX * len(shown),
        margin=MARGIN | {"t": 30},
        legend={"orientation": "h", "y": 1.06, "yanchor": "bottom", "x": 0},
        hovermode="closest",
    )
    return figure


def snr_figure(curve: pd.DataFrame) -> go.Figure:
    """Accuracy and interval against SNR, from rows of ``snr_db, accuracy, low, high``; noise rises to the right."""
    noisy = curve[np.isfinite(curve["snr_db"])]
    if noisy.empty:
        return empty_figure("No answers under noise")
    curve = hundredths(curve, "accuracy", "low", "high")
    clean_at = noisy["snr_db"].max() + AS_RECORDED_DB
    x = curve["snr_db"].replace(math.inf, clean_at)
    figure = go.Figure(
        go.Scatter(
            x=x,
            y=curve["accuracy"],
            mode="lines+markers",
            marker={"size": 9},
            error_y=_interval(curve),
            customdata=curve[["condition", "low", "high", "n"]].to_numpy(),
            hovertemplate=(
                "%{customdata[0]}<br>%{y:.1f} % (%{customdata[1]:.1f} % to %{customdata[2]:.1f} %)<br>"
                "n = %{customdata[3]:,}<extra></extra>"
            ),
            showlegend=False,
        )
    )
    ticks = {clean_at: "as recorded"} if np.isinf(curve["snr_db"]).any() else {}
    ticks |= {db: f"{db:g}" for db in noisy["snr_db"]}
    figure.update_xaxes(
        title_text="Signal-to-noise ratio (dB)",
        autorange="reversed",
        tickvals=list(ticks),
        ticktext=list(ticks.values()),
    )
    figure.update_yaxes(title_text="Accuracy", **AXIS, range=[0, 103])
    figure.update_layout(height=CURVE_PX, margin=MARGIN)
    return figure


def conditions_figure(table: pd.DataFrame) -> go.Figure:
    """Accuracy and interval under every condition, the clips as recorded on top and as a line."""
    if table.empty:
        return empty_figure("No answers under degradation")
    table = hundredths(table, "accuracy", "low", "high")
    figure = go.Figure(
        go.Scatter(
            x=table["accuracy"],
            y=table["condition"],
            mode="markers",
            marker={"size": 10},
            error_x=_interval(table),
            customdata=table[["low", "high", "n"]].to_numpy(),
            hovertemplate=(
                "%{y}<br>%{x:.1f} % (%{customdata[0]:.1f} % to %{customdata[1]:.1f} %)<br>n = %{customdata[2]:,}"
                "<extra></extra>"
            ),
            showlegend=False,
        )
    )
    clean = table.loc[np.isinf(table["snr_db"]), "accuracy"]
    if len(clean):
        figure.add_vline(float(clean.iloc[0]), line={"color": GREY, "width": 1.5})
    figure.update_xaxes(title_text="Accuracy, with 95 % interval", **AXIS, range=[0, 103])
    figure.update_yaxes(autorange="reversed", automargin=True)
    figure.update_layout(height=CURVE_PX, margin=MARGIN, hovermode="closest")
    return figure


def scan_figure(scan: NoiseScan) -> go.Figure:
    """Probability of the clip's answer as noise rises to the right: a line a draw of noise, open where it is lost."""
    figure = go.Figure()
    label = scan.label.replace("_", " ")
    for draw, group in hundredths(scan.table, "probability", "confidence").groupby("draw", sort=True):
        held = group["predicted"] == scan.label
        figure.add_trace(
            go.Scatter(
                x=group["snr_db"],
                y=group["probability"].round(2),
                mode="lines+markers",
                name=f"noise {int(str(draw)) + 1}",
                marker={"symbol": np.where(held, "circle", "circle-open"), "size": 8},
                customdata=group[["predicted", "confidence"]].to_numpy(),
                hovertemplate=(
                    f"%{{x:.1f}} dB<br>{label} %{{y:.1f}} %<br>answer: %{{customdata[0]}} (%{{customdata[1]:.0f}} %)"
                    "<extra></extra>"
                ),
            )
        )
    for flip in scan.flipped[:1]:
        figure.add_vline(
            flip, line={"color": GREY, "width": 1.5, "dash": "dash"}, annotation_text=f"first flip, {flip:.0f} dB"
        )
    figure.update_xaxes(title_text="Signal-to-noise ratio (dB)", autorange="reversed")
    figure.update_yaxes(title_text=f"Probability of {label}", **AXIS, range=[-3, 103])
    figure.update_layout(
        height=CURVE_PX, margin=MARGIN | {"t": 30}, legend={"orientation": "h", "y": 1.06, "yanchor": "bottom", "x": 0}
    )
    return figure


def _interval(table: pd.DataFrame) -> dict[str, object]:
    """Error bars from ``low`` to ``high`` around ``accuracy``."""
    above, below = table["high"] - table["accuracy"], table["accuracy"] - table["low"]
    return {"type": "data", "symmetric": False, "array": above, "arrayminus": below, "thickness": 1.5}
