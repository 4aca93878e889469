"""How confidence and being right go together. Colours are the page's theme's; empty bins stay empty."""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go
from plotly.subplots import make_subplots

from core.figures.empty import empty_figure
from core.figures.percent import AXIS, QUARTERS, hundredths

NO_DATA = "No record has a true class"
MARGIN = {"l": 10, "r": 24, "t": 10, "b": 10}
GREY = "rgba(128, 128, 128, 0.8)"


def reliability_figure(table: pd.DataFrame) -> go.Figure:
    """Share right in each bin of confidence with its 95 % interval against the diagonal; counts below."""
    filled = table[table["n"] > 0]
    if filled.empty:
        return empty_figure(NO_DATA)
    filled = hundredths(filled, "low", "high", "confidence", "accuracy", "accuracy_low", "accuracy_high")
    figure = make_subplots(rows=2, cols=1, shared_xaxes=True, row_heights=[0.75, 0.25], vertical_spacing=0.06)
    centre, width = (filled["low"] + filled["high"]) / 2, filled["high"] - filled["low"]
    figure.add_trace(
        go.Bar(
            x=centre,
            y=filled["accuracy"],
            width=width * 0.92,
            marker={"opacity": 0.4},
            name="Right, with 95 % interval",
            error_y={
                "type": "data",
                "symmetric": False,
                "array": filled["accuracy_high"] - filled["accuracy"],
                "arrayminus": filled["accuracy"] - filled["accuracy_low"],
                "color": "rgb(128, 128, 128)",
                "thickness": 2,
                "width": 4,
            },
            customdata=filled[["n", "confidence", "accuracy_low", "accuracy_high"]],
            hovertemplate="%{y:.1f} % right (%{customdata[2]:.1f} % to %{customdata[3]:.1f} %)<br>"
            "mean confidence %{customdata[1]:.1f} %<br>n = %{customdata[0]:,}<extra></extra>",
        ),
        row=1,
        col=1,
    )
    diagonal = {"x": [0, 100], "y": [0, 100], "mode": "lines", "name": "Perfect calibration", "hoverinfo": "skip"}
    figure.add_trace(go.Scatter(**diagonal, line={"dash": "dash", "color": GREY}), row=1, col=1)
    n = int(filled["n"].sum())
    counts = {"x": centre, "y": filled["n"], "width": width * 0.92, "showlegend": False, "marker_color": GREY}
    figure.add_trace(go.Bar(**counts, hovertemplate="n = %{y:,}<extra></extra>"), row=2, col=1)
    figure.update_xaxes(range=[0, 100.5], **QUARTERS)
    figure.update_xaxes(title_text="Confidence", row=2, col=1)
    figure.update_yaxes(title_text="Share right", range=[0, 102], row=1, col=1, **AXIS)
    figure.update_yaxes(title_text=f"Answers, n = {n:,}", nticks=3, row=2, col=1)
    figure.update_layout(height=460, margin=MARGIN, legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0})
    return figure


def histogram_figure(table: pd.DataFrame) -> go.Figure:
    """Right and wrong answers by confidence, each as a share of its own kind, so that few wrong ones can be seen."""
    if not (table["right"].sum() + table["wrong"].sum()):
        return empty_figure(NO_DATA)
    figure = go.Figure()
    table = hundredths(table, "low", "high")
    centre, width = (table["low"] + table["high"]) / 2, table["high"] - table["low"]
    for column in ("right", "wrong"):
        total = int(table[column].sum())
        figure.add_trace(
            go.Bar(
                x=centre,
                y=100 * table[column] / max(total, 1),
                width=width * 0.92,
                name=f"{column.capitalize()}, n = {total:,}",
                opacity=0.7,
                customdata=table[[column, "low", "high"]],
                hovertemplate="%{customdata[0]:,} answers at %{customdata[1]:.0f} % to %{customdata[2]:.0f} %<br>"
                "%{y:.1f} % of these<extra></extra>",
            )
        )
    figure.update_xaxes(title_text="Confidence", range=[0, 100.5], **QUARTERS)
    figure.update_yaxes(title_text="Share of right, of wrong", **AXIS)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    figure.update_layout(barmode="overlay", height=320, margin=MARGIN, legend=legend)
    return figure


def risk_coverage_figure(curve: pd.DataFrame, *, coverage: float | None = None) -> go.Figure:
    """Wrong answers among the surest, with their 95 % interval; ``coverage`` marks where a threshold cuts."""
    if curve.empty:
        return empty_figure(NO_DATA)
    figure = go.Figure()
    curve = hundredths(curve, "coverage", "risk", "low", "high")
    band = {
        "x": pd.concat([curve["coverage"], curve["coverage"][::-1]]),
        "y": pd.concat([curve["high"], curve["low"][::-1]]),
    }
    figure.add_trace(
        go.Scatter(
            **band,
            fill="toself",
            mode="none",
            fillcolor="rgba(128, 128, 128, 0.2)",
            name="95 % interval",
            hoverinfo="skip",
        )
    )
    figure.add_trace(
        go.Scatter(
            x=curve["coverage"],
            y=curve["risk"],
            mode="lines",
            name="Wrong among accepted",
            customdata=curve[["threshold", "n"]],
            hovertemplate="%{x:.1f} % accepted (n = %{customdata[1]:,})<br>%{y:.1f} % of these wrong<br>"
            "confidence ≥ %{customdata[0]:.3f}<extra></extra>",
        )
    )
    if coverage:
        figure.add_vline(100 * coverage, line={"dash": "dash", "color": GREY})
    figure.update_xaxes(title_text="Coverage: share accepted", range=[0, 101], **AXIS)
    settled = curve[curve["coverage"] >= 5]
    top = max(float(settled["high"].max()) if len(settled) else 100.0, 1.0) * 1.1
    figure.update_yaxes(title_text="Risk: share wrong", range=[0, min(top, 102)], **AXIS)
    legend = {"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0}
    figure.update_layout(height=340, margin=MARGIN, legend=legend)
    return figure
