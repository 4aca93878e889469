"""Which classes are taken for which, and how sure accuracies are. Colours are the page's theme's.

The confusion matrix is an Altair chart: its cells can be clicked, which Plotly's heat maps cannot.
"""

from __future__ import annotations

import math
from typing import Any, Literal

import altair as alt
import pandas as pd
import plotly.graph_objects as go

from core.diagnostics.classification import OTHER
from core.figures.empty import empty_figure
from core.figures.percent import AXIS, UNIT, hundredths

Shown = Literal["counts", "shares", "errors"]
CELL = "cell"  # name of the selection: a click gives the cell's true and predicted class
FEW_CLASSES, CELL_PX, SMALL_CELL_PX, ROW_PX = 14, 38, 24, 26
PLAIN = "upper(slice(datum.value, 0, 1)) + replace(slice(datum.value, 1), /_/g, ' ')"  # of class names on an axis
MARGIN = {"l": 10, "r": 10, "t": 10, "b": 10}


def confusion_figure(table: pd.DataFrame, *, shown: Shown = "counts", dark: bool = False) -> alt.LayerChart:
    """A cell for every pair of ``core.diagnostics.classification.confusion_table``, in its order.

    ``errors`` leaves the diagonal empty, ``OTHER``'s too. ``dark``: the page is; numbers stand out from their cells.
    """
    cells = table.assign(value=table["share"] if shown == "shares" else table["n"].astype(float))
    cells["right"] = (cells["true"] == cells["predicted"]) & (cells["true"] != OTHER)
    if shown == "errors":
        cells.loc[cells["true"] == cells["predicted"], "value"] = math.nan
    highest = cells["value"].max()
    top = float(highest) if highest > 0 else 1.0
    cells["strong"] = cells["value"] > top * 0.3  # the scale is of square roots
    cells["said"] = [_said(value, shown) for value in cells["value"]]
    cells["per_cent"] = [f"{100 * share:.1f}{UNIT}" if share == share else "–" for share in table["share"]]
    order = list(dict.fromkeys(table["true"]))
    few = len(order) <= FEW_CLASSES
    side = CELL_PX if few else SMALL_CELL_PX
    axis: dict[str, Any] = {"labelExpr": PLAIN, "labelLimit": 130, "labelOverlap": False}
    base = alt.Chart(cells).encode(
        x=alt.X(
            "predicted:N",
            sort=order,
            title="Predicted class",
            axis=alt.Axis(labelAngle=-60 if few else -90, **axis | {"labelOverlap": not few}),
        ),
        y=alt.Y("true:N", sort=order, title="True class", axis=alt.Axis(**axis)),
        tooltip=[
            alt.Tooltip("true:N", title="True class"),
            alt.Tooltip("predicted:N", title="Predicted class"),
            alt.Tooltip("n:Q", title="Answers", format=",d"),
            alt.Tooltip("of:Q", title="of the true class's", format=",d"),
            alt.Tooltip("per_cent:N", title="Share of them"),
        ],
    )
    scale = alt.Scale(type="sqrt", domain=[0, top])
    click = alt.selection_point(name=CELL, fields=["true", "predicted"], empty=False)
    rectangles = (
        base.mark_rect(stroke="grey", strokeOpacity=0.25, cursor="pointer")
        .encode(color=alt.Color("value:Q", scale=scale, legend=None))
        .add_params(click)
    )
    on_strong, on_weak = ("#0f161c", "#e6edf2") if dark else ("#ffffff", "#1c2733")
    numbers = base.mark_text(fontSize=12 if few else 9, cursor="pointer").encode(
        text="said:N", color=alt.condition("datum.strong", alt.value(on_strong), alt.value(on_weak))
    )
    return alt.LayerChart(layer=[rectangles, numbers]).properties(height=side * len(order) + 110, width="container")


def _said(value: float, shown: Shown) -> str:
    """Nothing in empty cells."""
    if math.isnan(value) or value == 0:
        return ""
    if shown != "shares":
        return f"{value:,.0f}"
    return f"{100 * value:.0f}" if value >= 0.005 else "<1"


def interval_figure(
    table: pd.DataFrame,
    *,
    name: str,
    value: str,
    low: str,
    high: str,
    title: str,
    beside: str | None = None,
) -> go.Figure:
    """A point with its 95 % interval for each row, the first on top; values are shares.

    ``beside``: another share of each row, without an interval, as an open diamond.
    """
    table = table.dropna(subset=[value])
    if table.empty:
        return empty_figure()
    table = hundredths(table, value, low, high)
    names = [str(item).replace("_", " ").capitalize() for item in table[name]]
    figure = go.Figure(
        go.Scatter(
            x=table[value],
            y=names,
            mode="markers",
            marker={"size": 9},
            error_x={
                "type": "data",
                "symmetric": False,
                "array": table[high] - table[value],
                "arrayminus": table[value] - table[low],
                "thickness": 1.5,
                "width": 3,
            },
            customdata=table[[low, high, "n"]],
            hovertemplate="%{y}: %{x:.1f} %<br>%{customdata[0]:.1f} % to %{customdata[1]:.1f} %<br>"
            "n = %{customdata[2]:,}<extra></extra>",
        )
    )
    lowest = float(table[low].min())
    if beside is not None:
        lowest = min(lowest, 100 * float(table[beside].min()))
        figure.add_scatter(
            x=100 * table[beside],
            customdata=table[beside],
            y=names,
            mode="markers",
            marker={"size": 11, "symbol": "diamond-open", "line": {"width": 2}},
            hovertemplate=f"%{{y}}: {beside.replace('_', ' ')} %{{customdata:.3f}}<extra></extra>",
            showlegend=False,
        )
        figure.update_traces(showlegend=False)
    least = max(10 * math.floor(lowest / 10) - 2, -2)
    figure.update_xaxes(title_text=title, range=[least, 102], **AXIS)
    figure.update_yaxes(autorange="reversed", automargin=True, type="category")
    figure.update_layout(height=70 + ROW_PX * max(len(table), 3), margin=MARGIN)
    return figure
