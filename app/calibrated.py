"""How far confidence can be trusted, and what is gained by answering only when sure. Each draws one section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app import components, services, state, words

if TYPE_CHECKING:
    from core.recordset import RecordSet

SIDES = {"after": "After temperature", "before": "Before"}
GIVEN = {"before": "As answered", "after": "After a temperature"}
MEASURES = {
    "ece": "ECE, 15 bins",
    "mce": "MCE, worst bin",
    "adaptive_ece": "Adaptive ECE",
    "classwise_ece": "Classwise ECE",
    "brier": "Brier score, 0 to 2",
    "nll": "NLL, nats",
}


def on_scale(records: RecordSet) -> RecordSet:
    """The records on the scale that a person chose for the whole page, and which one it is, in words."""
    from core.recordset import scale_in_words

    names, key = (SIDES, state.CALIBRATION_SIDE) if records.is_scaled else (GIVEN, state.CALIBRATION_GIVEN)
    after, before = services.records.scaled(records), services.records.unscaled(records)
    chosen = before
    if after.is_scaled:
        side = st.segmented_control(
            "Confidence",
            list(names),
            default=key.default,
            required=True,
            format_func=names.__getitem__,
            key=key.name,
            persist_state="session",
            help="After: logits are divided by a temperature; that of a fold is fitted on the other folds. The other "
            "pages show confidence as answered.",
        )
        chosen = after if side == "after" else before
    st.caption(f"All confidence on this page is **{words.literal(scale_in_words(chosen))}**.")
    return chosen


def reliability(records: RecordSet) -> None:
    """The diagram and the histogram."""
    from core.diagnostics.calibration import confidence_histogram, reliability
    from core.figures.calibration import histogram_figure, reliability_figure

    left, right = st.columns([3, 2])
    with left:
        st.subheader("Reliability", anchor=False)
        table = services.records.computed(reliability, records)
        st.plotly_chart(
            reliability_figure(table),
            key="calibration_reliability",
            config=components.NO_TOOLS,
            alt="Share of right answers in each bin of confidence, with the number of answers below.",
        )
        st.caption(
            "Bars on the dashed line: confidence says how often the answer is right. Below it: too sure; above: too "
            "modest. Whiskers are exact 95 % intervals; bins without answers stay empty."
        )
    with right:
        st.subheader("Right and wrong answers", anchor=False)
        histogram = services.records.computed(confidence_histogram, records)
        st.plotly_chart(
            histogram_figure(histogram),
            key="calibration_histogram",
            config=components.NO_TOOLS,
            alt="Confidence of right and of wrong answers.",
        )
        st.caption(
            "The further right answers stand to the right of wrong ones, the better confidence tells them apart."
        )


def measures(records: RecordSet, chosen: RecordSet) -> None:
    """Every measure before and after, with its interval and what chance gives a perfect model.

    The sentence and the floors are those of ``chosen``, the records on the page's scale.
    """
    from core.diagnostics.measures import calibration_table

    st.subheader("Measures", anchor=False)
    of = services.records.scaled(records)
    before, after = (services.records.computed(calibration_table, of, raw=raw) for raw in (True, False))
    own = after if chosen.is_scaled else before
    ece = own.iloc[0]
    verdict = "no further from perfect than chance" if ece["value"] <= ece["noise_floor_95"] else "**more than chance**"
    st.markdown(
        f"Confidence and being right lie **{ece['value']:.3f}** apart on average (ECE, n = {int(ece['n']):,}); a "
        f"perfectly calibrated model scores up to {ece['noise_floor_95']:.3f} on so many clips. That is {verdict}."
    )
    shown = after[["measure"]].assign(
        measure=after["measure"].map(MEASURES),
        before=_spread(before),
        after=_spread(after),
        floor=[f"{a:.3f} (up to {b:.3f})" for a, b in zip(own["noise_floor"], own["noise_floor_95"], strict=True)],
        n=after["n"],
    )
    components.table(
        shown,
        hide_index=True,
        column_config={
            "measure": st.column_config.TextColumn("Measure", pinned=True),
            "before": "Before (95 %)",
            "after": "After (95 %)",
            "floor": "A perfect model",
            "n": st.column_config.NumberColumn("Clips"),
        },
        alt="Measures of calibration before and after temperature.",
    )
    st.caption(
        "Lower is better. Even a perfect model does not score 0 on so few clips: beside each measure stands "
        "what it scores, and what it stays under 95 times in 100. Bins are right-closed; intervals resample source "
        "recordings."
    )


def by_class(records: RecordSet) -> None:
    """Whether each class is called too often, and whether answers that name it are too sure."""
    from core.diagnostics.calibration import class_calibration

    st.subheader("Classes", anchor=False)
    table = services.records.computed(class_calibration, records)
    _table(
        table.assign(label=table["label"].map(words.plain)),
        {
            "label": st.column_config.TextColumn("Class", pinned=True),
            "n": "Clips",
            "ece": st.column_config.NumberColumn("ECE", format="%.3f", help="Of the probability of this class."),
            "noise_floor_95": st.column_config.NumberColumn(
                "Perfect", format="%.3f", help="A perfect model has up to this ECE on so few clips."
            ),
            "confidence": components.share_bar("Confidence"),
            "precision": components.share_bar("Right"),
            "mean_probability": components.share("Mean probability"),
            "share": components.share("Share of clips"),
        },
        "Calibration of each class.",
    )
    st.caption(
        "Confidence and right: of answers that name the class. Where confidence lies above, the class is "
        "claimed too boldly. All folds pooled."
    )


def accepting(records: RecordSet) -> None:
    """The slider: what answering only above a threshold gains and costs."""
    from core.diagnostics.selective import acceptance, risk_coverage_table, selection
    from core.figures.calibration import risk_coverage_figure

    st.subheader("Answer only when sure", anchor=False)
    threshold = st.slider(
        "Accept answers with a confidence of at least",
        0.0,
        1.0,
        state.THRESHOLD.default,
        0.01,
        key=state.THRESHOLD.name,
        persist_state="session",
    )
    found = services.records.computed(acceptance, records, threshold)
    right = found.precision
    kept = (
        f"**{words.tenth(right.value)} of these are right** (95 % interval {words.tenth(right.low)} to "
        f"{words.tenth(right.high)})"
        if found.accepted
        else "nothing is left to be right"
    )
    st.markdown(
        f"**{words.tenth(found.coverage)}** of {found.n:,} answers are accepted ({found.accepted:,}): {kept}. Wrong "
        f"answers avoided: **{found.avoided:,}**, left: {found.wrong:,}. The price: **{found.lost:,}** "
        "right answers given up."
    )
    ranked = services.records.computed(selection, records)
    st.plotly_chart(
        risk_coverage_figure(services.records.computed(risk_coverage_table, records), coverage=found.coverage),
        key="calibration_risk",
        config=components.NO_TOOLS,
        alt="Share of wrong answers against the share of answers accepted.",
    )
    st.caption(
        "The surest answers come first: the lower the curve on the left, the better confidence ranks. "
        f"n = {ranked.n:,} clips. With 95 % intervals: AURC {words.finely(ranked.aurc)}, "
        f"at best {ranked.aurc_best:.4f}, by chance {ranked.aurc_random:.4f}; AUGRC {words.finely(ranked.augrc)}; "
        f"coverage at 5 % risk {words.spread(ranked.cov_at_risk)}; risk at 80 % coverage "
        f"{words.spread(ranked.risk_at_cov)}."
    )


def thresholds(records: RecordSet) -> None:
    """Where to cut for a wanted precision, and how often answers of each confidence are right."""
    from core.diagnostics.selective import confidence_tiers, threshold_table

    left, right = st.columns([7, 5])
    with left:
        st.subheader("Threshold for a precision", anchor=False)
        table = services.records.computed(threshold_table, records)
        table = table[table["threshold"].notna()]
        if table.empty:
            components.empty_state("No threshold reaches 85 % on these clips.")
        else:
            _table(
                table.assign(interval=_between(table["low"], table["high"])),
                {
                    "target": components.share("Wanted"),
                    "threshold": st.column_config.NumberColumn(
                        "From", format="%.3f", help="Confidence from which answers are accepted."
                    ),
                    "coverage": components.share("Accepted"),
                    "precision": components.share("Right"),
                    "interval": "95 % interval",
                    "held_out_precision": components.share("Held out"),
                },
                "Thresholds by wanted precision.",
            )
        st.caption(
            "Precisions that no threshold reaches are left out; 0 accepts every answer. The last column takes each "
            "fold's threshold from the other folds, so it is not flattered."
        )
    with right:
        st.subheader("Worth of a confidence", anchor=False)
        tiers = services.records.computed(confidence_tiers, records)
        tiers = tiers[tiers["n"] > 0]
        ranges = [f"{low:.1f} to {high:.1f}" for low, high in zip(tiers["low"], tiers["high"], strict=True)]
        _table(
            tiers.assign(range=ranges, interval=_between(tiers["precision_low"], tiers["precision_high"])),
            {"range": "Confidence", "n": "n", "precision": components.share("Right"), "interval": "95 % interval"},
            "Share of right answers by range of confidence.",
        )
        first = tiers.iloc[0]
        st.caption(
            f"Of {int(first['n']):,} answers at {first['low']:.1f} or more, "
            f"{words.tenth(first['precision'])} were right."
        )


def conformal(records: RecordSet) -> None:
    """Whether sets of classes hold the truth as often as promised, and how large they are."""
    from core.diagnostics.conformal import conformal_table, set_sizes

    st.subheader("Sets that hold the truth", anchor=False)
    table = services.records.computed(conformal_table, records)
    table = table[table["coverage"].notna()]
    if table.empty:
        components.empty_state("Sets are fitted on other folds, and these records have one fold only.")
        return
    _table(
        table.assign(
            interval=_between(table["low"], table["high"]),
            luck=_between(table["expected_low"], table["expected_high"]),
        ),
        {
            "wanted": components.share("Wanted"),
            "coverage": components.share("Held the truth"),
            "interval": "95 % interval",
            "luck": "By luck of the fit",
            "mean_size": st.column_config.NumberColumn("Classes each", format="%.2f"),
            "singles": components.share("Of one class"),
        },
        "Realised coverage of conformal sets.",
    )
    st.caption(
        "Instead of one answer, every class that cannot be ruled out. Each fold's rule is fitted on the other "
        "folds; with so few clips the realised coverage may lie anywhere in the fourth column by luck of the fit. "
        "Where one class is nearly always right, the set of it alone holds the truth more often than wanted."
    )
    sizes = services.records.computed(set_sizes, records)
    if not sizes.empty:
        _table(
            sizes,
            {
                "size": "Classes in a set",
                "n": "Sets",
                "share": components.share("Share"),
                "coverage": components.share("Held the truth"),
            },
            "How large the sets are at 90 %.",
        )
        st.caption(f"Set sizes where 90 % are wanted; n = {int(sizes['n'].sum()):,} answers.")


def _table(table: Any, columns: dict[str, Any], alt: str) -> None:
    components.table(table, hide_index=True, column_order=list(columns), column_config=columns, alt=alt)


def _between(low: Any, high: Any) -> list[str]:
    pairs = zip(low, high, strict=True)
    return [words.between(a, b) if a == a else "–" for a, b in pairs]


def _spread(table: Any) -> list[str]:
    rows = zip(table["value"], table["low"], table["high"], strict=True)
    return [f"{value:.3f} ({low:.3f} to {high:.3f})" if low == low else f"{value:.3f}" for value, low, high in rows]
