"""How well the answers do: headline, confusions, classes, folds, and a comparison. Each draws one section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app import components, links, services, state, words

if TYPE_CHECKING:
    import pandas as pd

    from core.diagnostics.intervals import Estimate
    from core.figures.performance import Shown
    from core.recordset import RecordSet

SHOWN: dict[Shown, str] = {"counts": "Counts", "shares": "Share of true class", "errors": "Errors only"}
PAIRS = 100  # rows; nobody reads more
FOLDS_NAMED = 10
NOBODY_KNOWS = "None of these answers has a true class, so none can be right or wrong. Say what some sounds are first."


def labelled(records: RecordSet) -> bool:
    """Whether anything can be measured; says so where nothing can."""
    if len(records) and records.is_labelled.any():
        return True
    components.empty_state(NOBODY_KNOWS if len(records) else "No answers yet: classify some sounds, or choose others.")
    return False


def interval(of: Estimate) -> str:
    """``92.7 % to 96.9 %``."""
    return f"{words.tenth(of.low)} to {words.tenth(of.high)}"


def headline(records: RecordSet) -> None:
    """Accuracy, macro-F1 and the naive baseline with intervals; how they were measured."""
    from core.diagnostics.classification import performance

    found = services.records.computed(performance, records)
    columns = st.columns(4)
    with columns[0]:
        st.metric("Accuracy", words.tenth(found.accuracy.value), border=True)
        st.caption(f"95 % interval {interval(found.accuracy)}, n = {found.n:,} clips")
    with columns[1]:
        st.metric("Macro-F1", f"{found.macro_f1.value:.3f}", border=True)
        st.caption(words.decimals(found.macro_f1))
    with columns[2]:
        st.metric("Naive baseline", words.tenth(found.baseline.value), border=True)
        st.caption(f"Always answering {words.plain(found.commonest).lower()}")
    with columns[3]:
        folds = found.per_fold["accuracy"]
        st.metric("Weakest fold", words.tenth(folds.min()), border=True)
        best = f"The best of {len(folds)} reaches {words.tenth(folds.max())}; n ≥"
        told = f"{best} {int(found.per_fold['n'].min()):,} each" if len(folds) > 1 else "Only one was held out"
        st.caption(told)
    spread = f"; accuracy differs between seeds by a standard deviation of {words.tenth(found.accuracy_sd_over_seeds)}"
    protocol = services.records.protocol(records, state.RECORDS.get())
    st.caption(
        f"**Protocol:** {protocol}{spread if found.seeds > 1 else ''}. Shares have Wilson's intervals; F1 is "
        f"bootstrapped over {found.sources:,} source recordings "
        f"({found.bootstrap_draws:,} draws, seed {found.bootstrap_seed})."
    )


def confusions(records: RecordSet) -> None:
    """The matrix; a click on a cell opens the inspector with the clips in it."""
    from core.diagnostics.classification import MANY_CLASSES, OTHER, confusion_table, most_confused
    from core.families import by_family
    from core.figures.performance import CELL, confusion_figure

    st.subheader("Confusion matrix", anchor=False)
    shown = st.segmented_control(
        "Cells show",
        list(SHOWN),
        default="counts",
        required=True,
        format_func=SHOWN.__getitem__,
        key=state.CONFUSION_SHOWN.name,
        persist_state="session",
    )
    classes: tuple[str, ...] | None = None
    if len(records.class_names) > MANY_CLASSES:
        picked = st.multiselect(
            "Classes shown; the others are taken together",
            by_family(records.class_names),
            default=list(services.records.computed(most_confused, records)),
            format_func=words.plain,
            key=state.CONFUSION_CLASSES.of(records.digest).name,
        )
        classes = tuple(name for name in by_family(records.class_names) if name in picked)
    table = services.records.computed(confusion_table, records, classes=classes)
    chart: Any = st.altair_chart  # its types know no names of selections
    event = chart(
        confusion_figure(table, shown=shown, dark=st.context.theme.type == "dark"),
        key="performance_confusion",
        on_select="rerun",
        selection_mode=CELL,
        width="stretch",
        alt=f"Confusion matrix of {len(records.class_names)} classes; the pairs below list its errors.",
    )
    st.caption(
        f"A row is a true class, a column a predicted one; n = {int(table['n'].sum()):,} answers"
        f"{', in per cent of the row' if shown == 'shares' else ''}. Classes stand by family. "
        "Click a cell to hear the clips in it."
    )
    cells = event["selection"].get(CELL, [])
    if not cells:
        return
    true, predicted = cells[0]["true"], cells[0]["predicted"]
    if OTHER in (true, predicted):
        st.info("Several classes are taken together in this cell. Show them above to open their clips.")
        return
    count = int(table.loc[(table["true"] == true) & (table["predicted"] == predicted), "n"].sum())
    if count == 0:
        st.info(f"No {words.plain(true).lower()} was taken for {words.plain(predicted).lower()}.")
        return
    links.inspector(true=true, predicted=predicted).follow()


def pairs(records: RecordSet) -> None:
    """The confusions by number; a click on a row opens their clips."""
    from core.diagnostics.classification import confused_pairs

    st.subheader("Most confused pairs", anchor=False)
    table = services.records.computed(confused_pairs, records, most=PAIRS)
    if table.empty:
        components.empty_state("No answer is wrong.")
        return
    event: Any = components.table(
        _plainly(table, "true", "predicted").assign(interval=_intervals(table, "low", "high")),
        hide_index=True,
        key="performance_pairs",
        on_select="rerun",
        selection_mode="single-row",
        column_order=["true", "predicted", "n", "share", "interval", "back", "confidence"],
        column_config={
            "true": st.column_config.TextColumn("True class", pinned=True, width=120),
            "predicted": st.column_config.TextColumn("Predicted", width=120),
            "n": st.column_config.NumberColumn("n", help="Answers.", width=48),
            "share": components.share("Share", help="Of the true class.", width=72),
            "interval": st.column_config.TextColumn("95 % interval", width=110),
            "back": st.column_config.NumberColumn("Back", help="The other way round.", width=64),
            "confidence": components.share_bar("Mean confidence", width=120),
        },
        alt="Pairs of classes by how often the first was taken for the second.",
    )
    st.caption("Pairs often confused both ways sound alike; one way only, one class draws the other in. Click a row.")
    rows = event["selection"]["rows"]
    if rows:
        row = table.iloc[rows[0]]
        links.inspector(true=row["true"], predicted=row["predicted"]).follow()


def classes(records: RecordSet) -> None:
    """The sortable table of classes."""
    from core.diagnostics.classification import performance

    st.subheader("Classes", anchor=False)
    table = services.records.computed(performance, records).per_class
    shown = _plainly(table, "label")
    for measure in ("precision", "recall", "f1"):
        shown[f"{measure}_interval"] = _intervals(table, f"{measure}_low", f"{measure}_high")
    config: dict[str, Any] = {
        "label": st.column_config.TextColumn("Class", pinned=True),
        "n": st.column_config.NumberColumn("Clips"),
    }
    for measure, name in (("precision", "Precision"), ("recall", "Recall"), ("f1", "F1")):
        config[measure] = components.share_bar(name, width=92)
        config[f"{measure}_interval"] = st.column_config.TextColumn("95 % interval")
    components.table(
        shown, hide_index=True, column_order=list(config), column_config=config, alt="Every class with intervals."
    )
    st.caption(
        "Recall: how many of the class's clips are recognised; precision: how many answers that name it are right. "
        "Click a heading to sort. With few clips an interval is wide: 7 of 8 may be anything from 53 % to 98 %."
    )


def folds(records: RecordSet) -> None:
    """Accuracy of each fold with its interval, and its macro-F1."""
    from core.diagnostics.classification import performance
    from core.figures.performance import interval_figure

    st.subheader("Folds", anchor=False)
    table = services.records.computed(performance, records).per_fold
    figure = interval_figure(
        table.assign(fold="fold " + table["fold"].astype(str)),
        name="fold",
        value="accuracy",
        low="low",
        high="high",
        title="Accuracy, 95 % interval; macro-F1",
        beside="macro_f1",
    )
    st.plotly_chart(
        figure,
        key="performance_folds",
        config=components.NO_TOOLS,
        alt="Accuracy and macro-F1 of each held-out fold.",
    )
    st.caption(
        f"Points: accuracy with its interval; diamonds: macro-F1 ({_per_fold(table)}). n = {int(table['n'].sum()):,} "
        "clips. Where intervals overlap widely, luck explains the difference."
    )


def _per_fold(table: pd.DataFrame) -> str:
    """``0.975, 0.924, …`` in the order of the folds; of many folds the range."""
    values = table["macro_f1"]
    if len(values) > FOLDS_NAMED:
        return f"{values.min():.3f} to {values.max():.3f}"
    return ", ".join(f"{value:.3f}" for value in values)


def comparison(records: RecordSet) -> None:
    """Another source of records on the same clips, with a paired test."""
    st.subheader("Compare with another run", anchor=False)
    others = [
        source for source in services.records.sources() if source not in (services.records.LOG, state.RECORDS.get())
    ]
    if not others:
        components.empty_state(
            "There is no other run here. Train one, and it can be compared on the clips both held out."
        )
        return
    other = st.selectbox(
        "Compare with",
        others,
        index=None,
        placeholder="Choose a run",
        key=state.COMPARED_WITH.name,
        format_func=_called,
    )
    if other is None:
        return
    found = services.records.comparison(records, services.records.read(other))
    columns = st.columns(3)
    for column, name, of in zip(
        columns, ("These", _called(other), "Difference"), (found.a, found.b, found.difference), strict=True
    ):
        with column:
            st.metric(name, words.tenth(of.value), border=True)
            st.caption(f"95 % interval {interval(of)}")
    decided = "more than luck explains" if found.p < 0.05 else "no more than luck explains"
    st.markdown(
        f"On the {found.n:,} clips that both answered, {found.only_a:g} are right here alone and {found.only_b:g} "
        f"there alone: **{decided}** (p = {found.p:.2g}, {found.test})."
    )
    components.table(
        _plainly(found.per_class, "label"),
        hide_index=True,
        column_config={
            "label": "Class",
            "n": "Clips",
            "a": components.share_bar("Recall here"),
            "b": components.share_bar("Recall there"),
            "difference": components.share("Difference"),
            "only_a": "Right here alone",
            "only_b": "Right there alone",
        },
        alt="Recall of each class in both.",
    )


def _called(source: str) -> str:
    return (
        "Shipped cross-validation"
        if source == services.records.SHIPPED
        else f"Run {source.removeprefix(services.records.RUN)}"
    )


def _plainly(table: pd.DataFrame, *columns: str) -> pd.DataFrame:
    return table.assign(**{column: table[column].map(words.plain) for column in columns})


def _intervals(table: pd.DataFrame, low: str, high: str) -> list[str]:
    pairs = zip(table[low], table[high], strict=True)
    return [words.between(a, b) if a == a else "not defined" for a, b in pairs]
