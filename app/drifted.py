"""A drift report on the page: verdict and causes, tests, effects, distributions, class mix, days."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING

import streamlit as st

from app import components, services, state, words
from app.components import NO_TOOLS

if TYPE_CHECKING:
    from core.diagnostics.drift_report import DriftReport
    from core.recordset import RecordSet

SHOWN = 4  # descriptors whose distributions are open at first


def verdict(report: DriftReport) -> None:
    """The sentence, and what it rests on."""
    text = f"**{report.headline()}**"
    causes = "".join(f"\n- {words.literal(cause[:1].upper() + cause[1:])}" for cause in report.causes)
    if report.verdict == "not_enough_data":
        st.info(text, icon=":material/hourglass_empty:")
    elif report.verdict == "no_drift":
        st.success(text, icon=":material/check_circle:")
    elif report.indicative:
        st.warning(text + causes, icon=":material/trending_up:")
    else:
        st.error(text + causes, icon=":material/trending_up:")
    if report.verdict != "not_enough_data":
        st.caption(
            "Without any drift about one comparison in thirty raises an alarm. Sounds of one recording are alike, and "
            "count for as many as they are worth. With under 200 records or 100 recordings small drifts are missed: a "
            "verdict is then called indicative."
        )


def tests(report: DriftReport) -> None:
    """One number each: estimated accuracy, confidence, unknown sounds, class mix, embedding."""
    with st.container(horizontal=True):
        _accuracy(report)
        if (confidence := report.confidence) is not None:
            st.metric(
                "Median confidence",
                words.tenth(confidence.median_current),
                f"reference {words.tenth(confidence.median_reference)}",
                delta_color="off",
                delta_arrow="off",
                border=True,
                help=f"Kolmogorov–Smirnov p {confidence.p:.2g}, effect {confidence.effect:.2f} sd"
                + _flagged(confidence.flag),
            )
        if not math.isnan(report.unknown.current):
            st.metric(
                "Unknown sounds",
                words.percent(report.unknown.current),
                "" if math.isnan(report.unknown.reference) else f"reference {words.percent(report.unknown.reference)}",
                delta_color="off",
                delta_arrow="off",
                border=True,
                help=report.unknown.reason or f"Fisher's exact p {report.unknown.p:.2g}{_flagged(report.unknown.flag)}",
            )
        st.metric(
            "Largest change in class mix",
            "–" if report.classes.reason else _points(report.classes.distance),
            report.classes.reason or f"chance {report.classes.null_95 * 100:.0f}{_flagged(report.classes.flag)}",
            delta_color="off",
            delta_arrow="off",
            border=True,
            help=f"Test: {report.classes.method or 'none'}, p {report.classes.p:.2g}",
        )
        far = report.embedding
        st.metric(
            "Embedding MMD²",
            "Not compared" if far.reason else f"{far.mmd:.2g}".replace("-", "−"),
            "see the notes" if far.reason else f"chance {far.null_95:.2g}{_flagged(far.flag)}",
            delta_color="off",
            delta_arrow="off",
            border=True,
            help=far.reason or f"Permutation p {far.p:.2g}, {far.n_reference:,} and {far.n_current:,} sounds",
        )


def _accuracy(report: DriftReport) -> None:
    estimate = report.accuracy_estimate
    if estimate is None:
        return
    st.metric(
        "Estimated accuracy",
        words.percent(estimate.value),
        f"{words.percent(estimate.low)} to {words.percent(estimate.high)}, n = {estimate.n:,}",
        delta_color="off",
        delta_arrow="off",
        border=True,
        help=f"Mean calibrated top probability, no labels needed. {estimate.validity}",
    )


def _points(difference: float) -> str:
    points = round(difference * 100)
    return f"{points} point{'s' * (points != 1)}"


def _flagged(flag: bool) -> str:
    return ", flagged" if flag else ""


def effects(report: DriftReport) -> None:
    """How far each number of the sounds moved, against chance."""
    from core.figures.drift import effects_figure, plain

    st.subheader("What moved", anchor=False)
    table = report.table()
    st.plotly_chart(
        effects_figure(report),
        key="drift_effects",
        config=NO_TOOLS,
        alt="Bars of the effect of every descriptor, with what chance alone gives.",
    )
    st.caption(
        f"{report.n_current:,} current records against {report.n_reference:,}. Each bar says how far a descriptor "
        "moved (Wasserstein distance); the stroke is what chance alone stays under 95 times in 100. Flagged is what "
        "passes the stroke, the dotted line at 0.2 and, after Holm's correction, p < 0.05."
    )
    with st.expander("All numbers", icon=":material/table:"):
        components.table(
            table.assign(name=table["name"].map(plain)),
            hide_index=True,
            alt="Every descriptor with its test, effects and medians.",
            column_config={
                "name": st.column_config.TextColumn("Descriptor", pinned=True),
                "unit": "Unit",
                "flag": "Flagged",
                "p": st.column_config.NumberColumn("p", format="%.3g"),
                "p_adjusted": st.column_config.NumberColumn("p (Holm)", format="%.3g"),
                "statistic": st.column_config.NumberColumn("KS", format="%.3f"),
                "effect": st.column_config.NumberColumn("Effect", format="%.3f"),
                "null_95": st.column_config.NumberColumn("Effect by chance", format="%.3f"),
                "psi": st.column_config.NumberColumn("PSI", format="%.3f"),
                "psi_null_95": st.column_config.NumberColumn("PSI by chance", format="%.3f"),
                "median_reference": st.column_config.NumberColumn("Median, reference", format="%.4g"),
                "median_current": st.column_config.NumberColumn("Median, current", format="%.4g"),
                "median_shift": st.column_config.NumberColumn("Median shift", format="%.4g"),
                "n_reference": "n, reference",
                "n_current": "n, current",
                "design_effect": st.column_config.NumberColumn("Records worth one", format="%.2f"),
            },
        )
        st.caption(
            "KS: two-sample Kolmogorov–Smirnov. Effect: Wasserstein distance over the reference's standard deviation. "
            "PSI: ten bins of equal reference share; its values do not compare with those of other tools. Records "
            "worth one: how many say as much as one independent record (design effect); 1 where every sound is of "
            "another recording."
        )


@st.fragment
def distributions(reference: RecordSet, current: RecordSet, report: DriftReport) -> None:
    """Reference and current overlaid, for the descriptors a person chooses."""
    from core.figures.drift import distribution_figure, plain

    st.subheader("Distributions", anchor=False)
    ranked = sorted(report.table().itertuples(), key=lambda row: (not row.flag, -row.effect))
    names = [str(row.name) for row in ranked]
    chosen = st.multiselect(
        "Descriptors",
        names,
        default=names[:SHOWN],
        format_func=plain,
        key=f"{state.DRIFT_FEATURES.of(current.digest).name}_{reference.digest[:12]}",
        help="Those that moved most come first.",
    )
    table = services.drift.distributions(reference, current)
    for start in range(0, len(chosen), 2):
        for name, column in zip(chosen[start : start + 2], st.columns(2), strict=False):
            column.plotly_chart(
                distribution_figure(table, name),
                key=f"drift_distribution_{name}",
                config=NO_TOOLS,
                alt=f"Histogram of {plain(name)}, reference and current overlaid.",
            )
    st.caption(
        "Each chart shows which share of the sounds has which value, the reference solid and the current records "
        "dotted: where the two outlines part, the sounds differ. Values beyond the edges count into the outer bins."
    )


def classes(report: DriftReport) -> None:
    """Which answers became more, which fewer."""
    from core.figures.drift import classes_figure

    st.subheader("What was answered", anchor=False)
    st.plotly_chart(
        classes_figure(report.classes, report.n_reference, report.n_current),
        key="drift_classes",
        config=NO_TOOLS,
        alt="Share of answers of each class, reference and current.",
    )
    st.caption(
        "Each pair of bars is one class: its share of the reference's answers and of the current ones. A reference "
        "that was recorded class by class is even; real places are not, and that alone is a change of the mix."
    )


@st.fragment
def where(current: RecordSet) -> None:
    """The current sounds on the map of the clips that their network was trained on."""
    from app.failure_patterns import on_training_in_words
    from core.diagnostics.maps import METHODS, colouring
    from core.figures.failures import map_figure

    if current.embedding is None:
        return
    st.subheader("Where they lie", anchor=False)
    if services.maps.trained_on(current) is None:
        st.caption(
            "No map: the training clips of the model that answered these sounds are not here, and embeddings of two "
            "networks have nothing in common."
        )
        return
    method = st.segmented_control(
        "Drawn by", METHODS, default=METHODS[0], required=True, key=state.DRIFT_MAP.name, persist_state="page"
    )
    with st.spinner("Drawing the map…"):
        drawn = services.maps.on_training(current, method)
    if drawn is None:
        st.caption("No map: the model has too few training clips.")
        return
    shown = current.frame().iloc[drawn.position].assign(wrong=False)
    shown["clip_id"] = shown["name"] if "name" in shown else shown["clip_id"]
    shown["label"] = shown["label"].fillna("not known")
    st.plotly_chart(
        map_figure(drawn, shown, colouring(shown["predicted"]), "Answer"),
        key="drift_map",
        alt=f"Map of {len(drawn.xy):,} current sounds among the training clips by {drawn.method}, coloured by answer.",
    )
    many = f"{len(drawn.xy):,} of {drawn.n:,}" if len(drawn.xy) < drawn.n else f"{drawn.n:,}"
    st.caption(
        " ".join(
            [f"{many} current sounds, coloured by answer.", *on_training_in_words(drawn)]
            + ["Sounds away from all grey points are unlike what the network learnt."] * (drawn.method == "PCA")
        )
    )


def days(reference: RecordSet, current: RecordSet) -> None:
    """The verdict day by day, where the records span days."""
    from core.diagnostics.drift_tables import day_count
    from core.figures.drift import days_figure

    table = services.drift.days(reference, current)
    if len(table) < 2:
        return
    st.subheader("Day by day", anchor=False)
    st.plotly_chart(
        days_figure(table), key="drift_days", config=NO_TOOLS, alt="Records of each day, coloured by the day's verdict."
    )
    every = services.records.computed(day_count, current)
    cut = f"Only the latest {len(table)} of {every:,} days are judged one by one. " if every > len(table) else ""
    st.caption(
        f"{cut}Each bar is one day's records, coloured by their verdict alone; the pointer shows the causes. The days "
        "share one level of significance, so that many quiet days make no alarm."
    )
    components.table(
        table,
        hide_index=True,
        alt="Each day's verdict with its n and causes.",
        column_config={
            "day": st.column_config.DateColumn("Day (UTC)", format="YYYY-MM-DD", pinned=True),
            "n": "Records",
            "verdict": "Verdict",
            "indicative": "Indicative",
            "flagged": "Flagged",
            "causes": "Causes",
            "confidence": components.share("Mean confidence"),
            "unknown_rate": components.share("Unknown"),
            "accuracy_estimate": components.share("Estimated accuracy"),
        },
    )


def notes(report: DriftReport) -> None:
    """What was left out and why, and the whole report for machines."""
    said = list(report.notes)
    if report.embedding.reason:
        said.append(f"embeddings are not compared: {report.embedding.reason}")
    if report.unknown.reason and "different" not in report.unknown.reason:
        said.append(f"unknown rates are not compared: {report.unknown.reason}")
    if said:
        st.caption("Notes:\n" + "\n".join(f"- {words.literal(note[:1].upper() + note[1:])}" for note in said))
    st.download_button(
        "JSON",
        json.dumps(report.as_json(), indent=2, ensure_ascii=False),
        file_name="drift.json",
        mime="application/json",
        icon=":material/data_object:",
        on_click="ignore",
        key=state.DRIFT_JSON.name,
        help="Every number of this comparison, as `python -m core drift --json` writes it.",
    )
