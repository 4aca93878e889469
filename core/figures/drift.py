"""Drift, drawn: how far each descriptor moved, distributions overlaid, the class mix, and the verdict day by day.

Colours are left to the page's theme: the reference has its first, the current records its second.
"""

from __future__ import annotations

import pandas as pd
import plotly.graph_objects as go

from core.diagnostics.drift_report import ClassDrift, DriftReport, FeatureDrift
from core.figures.empty import empty_figure
from core.figures.percent import AXIS, hundredths

PANEL_PX = 270
# Streamlit's own stand-ins for the first two colours of the page's theme, also where one side is missing.
COLOURS = ("#000001", "#000002")
GREY = "rgb(128, 128, 128)"  # stands out from light and dark pages
ROW_PX = 24
CLASSES_SHOWN = 15
LARGE = 0.2  # standard deviations
REFERENCE, CURRENT = "Reference", "Current"
VERDICTS = {"not_enough_data": "Not enough data", "no_drift": "No drift", "drift": "Drift"}
NAMES = {
    "rms_dbfs": "RMS level",
    "peak_dbfs": "Peak level",
    "loudness_lufs": "Loudness",
    "crest_factor_db": "Crest factor",
    "spectral_centroid_hz": "Spectral centroid",
    "spectral_bandwidth_hz": "Spectral bandwidth",
    "spectral_rolloff_hz": "Spectral rolloff",
    "spectral_flatness": "Spectral flatness",
    "zero_crossing_rate": "Zero crossings",
    "active_fraction": "Active fraction",
    "confidence": "Confidence",
}


def plain(name: str) -> str:
    """``mel_band_3_db`` → ``Mel band 3``."""
    return NAMES.get(name) or name.removesuffix("_db").replace("_", " ").capitalize()


def effects_figure(report: DriftReport) -> go.Figure:
    """Effect of every feature as a bar, with what chance stays under; the largest on top."""
    rows = [*report.features, *([report.confidence] if report.confidence else [])]
    if not rows:
        return empty_figure("No descriptor stands on both sides")
    rows = sorted(rows, key=lambda row: row.effect)
    names = [plain(row.name) for row in rows]
    figure = go.Figure()
    for flag, label in ((True, "Flagged"), (False, "Not flagged")):
        chosen = [row for row in rows if row.flag is flag]
        if chosen:
            figure.add_bar(
                x=[row.effect for row in chosen],
                y=[plain(row.name) for row in chosen],
                orientation="h",
                name=label,
                opacity=1.0 if flag else 0.45,
                customdata=[_facts(row) for row in chosen],
                hovertemplate="%{y}: %{x:.2f} sd<br>KS %{customdata[0]}, Holm p %{customdata[1]}"
                "<br>median %{customdata[2]} → %{customdata[3]}<extra></extra>",
            )
    figure.add_scatter(
        x=[row.null_95 for row in rows],
        y=names,
        mode="markers",
        marker={"symbol": "line-ns", "size": 14, "line": {"width": 2, "color": GREY}},
        name="Chance alone, 95 %",
        hovertemplate="%{y}: chance stays under %{x:.2f} sd 95 times in 100<extra></extra>",
    )
    figure.add_vline(LARGE, line_dash="dot", line_width=1.5, line_color=GREY)
    figure.update_xaxes(title_text="Effect (sd of the reference)", rangemode="tozero")
    figure.update_yaxes(categoryorder="array", categoryarray=names, automargin=True)
    figure.update_layout(
        height=130 + ROW_PX * len(rows),
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
        bargap=0.3,
    )
    return figure


def _facts(row: FeatureDrift) -> list[str]:
    return [
        f"{row.statistic:.2f}",
        f"{row.p_adjusted:.2g}",
        f"{row.median_reference:,.4g}",
        f"{row.median_current:,.4g} {row.unit}",
    ]


def distribution_figure(table: pd.DataFrame, feature: str) -> go.Figure:
    """Histogram of one feature of ``distribution_table``, reference and current overlaid."""
    bins = hundredths(table[table["feature"] == feature], "share")
    if bins.empty:
        return empty_figure(f"{plain(feature)} was not measured")
    figure = go.Figure()
    for side, label in (("reference", REFERENCE), ("current", CURRENT)):
        _add_steps(figure, bins[bins["set"] == side], label)
    unit = str(bins["unit"].iloc[0])
    figure.update_xaxes(title_text=f"{plain(feature)} ({unit})" if unit else plain(feature), nticks=6)
    figure.update_yaxes(title_text="Share of sounds", **AXIS, rangemode="tozero", nticks=4)
    figure.update_layout(
        height=PANEL_PX,
        margin={"l": 10, "r": 10, "t": 10, "b": 10},
        legend={"orientation": "h", "y": 1.02, "yanchor": "bottom", "x": 0},
    )
    return figure


def _add_steps(figure: go.Figure, bins: pd.DataFrame, label: str) -> None:
    if bins.empty or not int(bins["n_set"].iloc[0]):
        return
    edges = [*bins["low"], bins["high"].iloc[-1]]
    figure.add_trace(
        go.Scatter(
            x=edges,
            y=[*bins["share"], bins["share"].iloc[-1]],
            mode="lines",
            line={
                "shape": "hv",
                "width": 2,
                "dash": "solid" if label == REFERENCE else "dot",
                "color": COLOURS[label == CURRENT],
            },
            fill="tozeroy",
            name=f"{label} (n = {int(bins['n_set'].iloc[0]):,})",
            hovertemplate=f"{label}: from %{{x:.4g}} on, %{{y:.1f}} %<extra></extra>",
        )
    )


def classes_figure(mix: ClassDrift, n_reference: int, n_current: int) -> go.Figure:
    """Share of answers of each class on both sides; of many classes those that changed most."""
    moved = sorted(mix.shares, key=lambda share: -abs(share.current - share.reference))[:CLASSES_SHOWN]
    if not moved or not (n_reference and n_current):
        return empty_figure("No answers on one side")
    moved = sorted(moved, key=lambda share: share.reference + share.current)
    names = [share.name.replace("_", " ").capitalize() for share in moved]
    figure = go.Figure()
    for label, n, values in (
        (REFERENCE, n_reference, [100 * share.reference for share in moved]),
        (CURRENT, n_current, [100 * share.current for share in moved]),
    ):
        figure.add_bar(
            x=values,
            y=names,
            orientation="h",
            name=f"{label} (n = {n:,})",
            hovertemplate=f"%{{y}}, {label.lower()}: %{{x:.1f}} %<extra></extra>",
        )
    figure.update_xaxes(title_text="Share of answers", **AXIS, rangemode="tozero")
    figure.update_yaxes(automargin=True)
    figure.update_layout(
        barmode="group",
        height=120 + 1.6 * ROW_PX * len(moved),
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0, "traceorder": "reversed"},
    )
    return figure


def days_figure(days: pd.DataFrame) -> go.Figure:
    """Records of each day, coloured by its verdict; the causes stand in what the pointer shows."""
    if days.empty:
        return empty_figure("The records bear no dates")
    figure = go.Figure()
    for verdict, label in VERDICTS.items():
        chosen = days[days["verdict"] == verdict]
        if len(chosen):
            figure.add_bar(
                x=chosen["day"],
                y=chosen["n"],
                name=label,
                text=[f"{n:,}" for n in chosen["n"]],
                customdata=[[causes or "nothing flagged", label] for causes in chosen["causes"]],
                hovertemplate="%{x|%Y-%m-%d}, n = %{y:,}: %{customdata[1]}<br>%{customdata[0]}<extra></extra>",
            )
    figure.update_xaxes(title_text="Day (UTC)", tickformat="%Y-%m-%d")
    figure.update_yaxes(title_text="Records", rangemode="tozero")
    figure.update_layout(
        height=280,
        barmode="overlay",
        margin={"l": 10, "r": 10, "t": 40, "b": 10},
        legend={"orientation": "h", "y": 1.0, "yanchor": "bottom", "x": 0},
    )
    return figure
