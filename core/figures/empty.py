"""What a chart is where there is nothing to draw: the reason, and no axes."""

from __future__ import annotations

import plotly.graph_objects as go

NOTHING = "Nothing to show"


def empty_figure(text: str = NOTHING) -> go.Figure:
    figure = go.Figure()
    figure.add_annotation(text=text, showarrow=False)
    figure.update_xaxes(visible=False)
    figure.update_yaxes(visible=False)
    figure.update_layout(height=120, margin={"l": 10, "r": 10, "t": 10, "b": 10})
    return figure
