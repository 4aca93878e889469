"""Which clips fail: ranked errors, confusions to hear, doubtful labels, shared recordings. Each draws one section."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import streamlit as st

from app import components, links, services, state, words

if TYPE_CHECKING:
    import pandas as pd

    from core.diagnostics.failures import SureErrors
    from core.recordset import RecordSet

SHOWN = 500  # rows of a table; nobody scrolls through more
TAKES = 10  # wrong clips of one confusion to choose from
MANY = 20_000  # clips from which copies are looked for only when asked
COMPARED = 40  # pairs whose waveforms one click compares
CLASSES = ("label", "predicted", "suggested", "label_a", "label_b")  # columns of class names
ANY = ""  # no filter
CLIP = st.column_config.TextColumn("Clip", pinned=True)
NOBODY_KNOWS = "None of these sounds has a true class, so nothing here can be right or wrong. Say what some are first."


def labelled(records: RecordSet) -> bool:
    """Whether any record can be right or wrong; says so where none can."""
    if records.is_labelled.any():
        return True
    components.empty_state(NOBODY_KNOWS)
    return False


def errors(records: RecordSet) -> None:
    """The errors, the most confident first; a click on one opens it in the inspector."""
    from core.diagnostics.failures import ranked_errors, sure_errors

    if not labelled(records):
        return
    table = services.records.computed(ranked_errors, records)
    st.markdown(_errors_in_words(len(table), records, services.records.computed(sure_errors, records)))
    if table.empty:
        components.empty_state("No clip was answered wrongly.")
        return
    shown = _filtered(table)
    several = bool((table["networks"] > 1).any())
    clip_table(
        shown.head(SHOWN),
        key="failures_errors",
        columns={
            "clip_id": CLIP,
            "label": st.column_config.TextColumn("True class"),
            "predicted": st.column_config.TextColumn("Predicted"),
            "error_confidence" if several else "confidence": components.share_bar("Confidence", width=132),
            "true_probability": components.share_bar("True class got", width=132),
            **(
                {"wrong": st.column_config.NumberColumn(f"Wrong, of {table['networks'].max()}", help="Networks.")}
                if several
                else {}
            ),
            "fold": st.column_config.NumberColumn("Fold", width=56),
            "source_group": st.column_config.TextColumn("Recording", width=88),
        },
        alt="Wrongly answered clips, the most confident first.",
    )
    of = (
        " Confidence is the mean over networks of that in wrong answers; a right one counts nothing." if several else ""
    )
    st.caption(
        f"{_counted(len(shown), SHOWN)} Ranked by confidence.{of} Click a row to see and hear it in the inspector."
    )


def _errors_in_words(wrong: int, records: RecordSet, sure: SureErrors) -> str:
    known = int(records.is_labelled.sum()) if records.n_clips == len(records) else records.labelled().n_clips
    said = f"**{wrong:,} of {known:,} clips** are answered wrongly"
    said += " by at least one network. " if records.table["seed"].nunique() > 1 else ". "
    if not sure.sure:
        return said + f"No answer has a confidence of {words.percent(sure.at)} or more."
    return said + (
        f"Of {sure.sure:,} answers with a confidence of {words.percent(sure.at)} or more, **{sure.wrong:,} are "
        f"wrong**: {words.tenth(sure.share)}, 95 % interval {words.tenth(sure.low)} to {words.tenth(sure.high)}."
    )


def _filtered(table: pd.DataFrame) -> pd.DataFrame:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        true = _class_filter("True class", table["label"], state.FAILURES_TRUE)
        answer = _class_filter("Predicted class", table["predicted"], state.FAILURES_ANSWER)
    kept = (table["label"] == true) | (true == ANY)
    return table[kept & ((table["predicted"] == answer) | (answer == ANY))]


def _class_filter(label: str, column: pd.Series[Any], key: state.Key[str]) -> str:
    names = sorted(column.unique())
    if key.get() not in names:
        key.set(ANY)
    return str(
        st.selectbox(
            label,
            [ANY, *names],
            format_func=lambda name: words.plain(name) or "Any class",
            key=key.name,
            width=240,
            persist_state="page",
        )
    )


def confusions(records: RecordSet) -> None:
    """The pairs of classes that are confused, and one to hear: the wrong clip between two typical right ones."""
    from core.diagnostics.failures import confusions as confused

    if not labelled(records):
        return
    pairs = services.records.computed(confused, records)
    if pairs.empty:
        components.empty_state("No two classes are confused.")
        return
    components.table(
        plain_classes(with_interval(pairs.head(SHOWN))),
        hide_index=True,
        height="content" if len(pairs) <= 6 else 250,
        column_order=["label", "predicted", "clips", "n", "share", "interval", "confidence"],
        column_config={
            "label": st.column_config.TextColumn("True class"),
            "predicted": st.column_config.TextColumn("Predicted"),
            "clips": st.column_config.NumberColumn(
                "Clips", format="%.4g", help="A mean where several networks answered."
            ),
            "n": st.column_config.NumberColumn("Of", format="%.4g", help="Clips of the true class."),
            "share": components.share_bar("Share"),
            "interval": st.column_config.TextColumn("95 % interval"),
            "confidence": components.share("Mean confidence"),
        },
        alt="Pairs of classes that were confused, the most frequent first.",
    )
    names = {f"{row.label}/{row.predicted}": row for row in pairs.head(SHOWN).itertuples()}
    chosen = st.selectbox(
        "Hear a confusion",
        list(names),
        format_func=lambda pair: _pair(str(names[pair].label), str(names[pair].predicted)),
        key=state.FAILURES_PAIR.name,
        width=420,
        persist_state="page",
    )
    _side_by_side(records, str(names[chosen].label), str(names[chosen].predicted))


def _pair(label: str, predicted: str) -> str:
    return f"{words.plain(label)} taken for {words.plain(predicted).lower()}"


def _side_by_side(records: RecordSet, label: str, predicted: str) -> None:
    from core.diagnostics.failures import confused_clips, typical_clip

    wrong = services.records.computed(confused_clips, records, label, predicted)
    take = 0
    if len(wrong) > 1:
        take = st.segmented_control(
            "Wrong clip, the surest first",
            range(min(len(wrong), TAKES)),
            default=0,
            required=True,
            format_func=lambda index: str(index + 1),
            key=f"{state.FAILURES_TAKE.name}_{label}_{predicted}",
        )
    like = int(wrong[take or 0])
    typical = {name: services.records.computed(typical_clip, records, name, like=like) for name in (label, predicted)}
    heard = [
        (f"A typical {words.plain(label).lower()}", typical[label]),
        (f"{words.plain(label)}, taken for {words.plain(predicted).lower()}", like),
        (f"A typical {words.plain(predicted).lower()}", typical[predicted]),
    ]
    for (title, position), column in zip(heard, st.columns(3, border=True), strict=True):
        with column:
            st.markdown(f"**{words.literal(title)}**")
            if position is None:
                st.caption("None of its clips was recognised.")
            else:
                clip_card(records, position)
    st.caption(
        "Typical are clips that the same network, which heard none of the three, got right: those nearest the middle "
        "of all it got right of their class."
    )


def clip_card(records: RecordSet, position: int) -> None:
    """One record: its sound, what it is, what was answered, and the way to the inspector."""
    row = records.table.iloc[position]
    clip, confidence = str(row["clip_id"]), float(records.confidence[position])
    clip_player(clip)
    answer = words.plain(records.class_names[int(records.predicted[position])]).lower()
    st.caption(f"{words.literal(clip)}  \nAnswer: {answer}, {words.percent(confidence)}")
    links.inspector(clip=clip, seed=int(row["seed"])).show("Inspect", icon=":material/manage_search:")


def clip_player(clip: str) -> None:
    """The sound of a record, or why there is none."""
    sound = services.sounds.clip_sound(clip)
    if sound is None:
        st.caption(
            ":material/volume_off: Its sound is not here.",
            help="Sounds come from the dataset in EARSHOT_DATA_DIR, and from the log where EARSHOT_KEEP_AUDIO is on.",
        )
    else:
        st.audio(sound.data, alt=f"Player of {clip}")


def clip_table(
    shown: pd.DataFrame, *, key: str, columns: dict[str, Any], alt: str, row_height: int | None = None
) -> None:
    """Clips as a table; a click on a row opens the clip in the inspector."""
    event: Any = components.table(
        plain_classes(shown),
        hide_index=True,
        height="content" if len(shown) <= 10 else 390,
        row_height=row_height,
        key=key,
        on_select="rerun",
        selection_mode="single-cell",
        column_order=list(columns),
        column_config=columns,
        alt=alt,
    )
    if picked := [row for row, _ in event["selection"]["cells"] if row < len(shown)]:
        row = shown.iloc[picked[0]]
        links.inspector(clip=str(row["clip_id"]), seed=int(row["seed"])).follow()


def plain_classes(table: pd.DataFrame) -> pd.DataFrame:
    """The table with its class names as people read them."""
    found = [column for column in CLASSES if column in table]
    return table.assign(**{column: table[column].map(words.plain, na_action="ignore") for column in found})


def with_interval(table: pd.DataFrame) -> pd.DataFrame:
    """The table with ``low`` and ``high`` as one column to read."""
    return table.assign(interval=[words.between(a, b) for a, b in zip(table["low"], table["high"], strict=True)])


def doubtful_labels(records: RecordSet) -> None:
    """Clips whose label may be wrong, with what speaks against it."""
    from core.diagnostics.label_issues import label_issues

    if not labelled(records):
        return
    issues = services.records.computed(label_issues, records)
    st.subheader("Labels to check", anchor=False)
    if issues.table.empty:
        components.empty_state(f"No label of {issues.n:,} clips stands out.")
        return
    st.markdown(
        f"**{issues.found:,} of {issues.n:,} labels** may be wrong, or the clips are odd: only listening tells. "
        "Found by confident learning (cleanlab) from the answers of networks that never heard the clip; nearest are "
        "clips of other recordings, in the embedding of such a network."
    )
    clip_table(
        issues.table,
        key="failures_labels",
        columns={
            "clip_id": CLIP,
            "label": st.column_config.TextColumn("Labelled"),
            "suggested": st.column_config.TextColumn("More likely"),
            "probability": components.share_bar("How likely"),
            "why": st.column_config.TextColumn("Why", width="large"),
        },
        alt="Clips whose label may be wrong, with the reason.",
        row_height=components.TWO_LINES_PX,
    )
    st.caption(f"{_counted(issues.found, len(issues.table))} The least likely label first. Click a row to inspect it.")


def near_duplicates(records: RecordSet) -> None:
    """Pairs from different recordings that may be the same sound, compared by their waveforms on request."""
    from core.diagnostics.duplicates import near_duplicates as pairs_of

    st.subheader("The same sound twice", anchor=False)
    if records.n_clips > MANY and not _asked_for_pairs(records):
        return
    pairs = services.records.computed(pairs_of, records)
    if pairs.empty:
        components.empty_state("No two clips of different recordings can be compared.")
        return
    st.markdown(
        f"**{len(pairs):,} pairs** of clips from different recordings are each other's nearest. Most only sound alike; "
        "their waveforms tell which are the same sound."
    )
    waveforms = _waveforms_compared(pairs)
    pairs = pairs.assign(waveforms=[waveforms.get((row.clip_a, row.clip_b), "") for row in pairs.itertuples()])
    pairs = pairs.sort_values("waveforms", key=lambda said: ~said.str.startswith("same"), kind="stable")
    components.table(
        plain_classes(pairs),
        hide_index=True,
        height=340,
        row_height=components.TWO_LINES_PX,
        column_order=["clip_a", "label_a", "clip_b", "label_b", *(["waveforms"] if waveforms else []), "why"],
        column_config={
            "clip_a": st.column_config.TextColumn("Clip"),
            "label_a": st.column_config.TextColumn("Labelled"),
            "clip_b": st.column_config.TextColumn("Other clip"),
            "label_b": st.column_config.TextColumn("Labelled "),
            "waveforms": st.column_config.TextColumn("Waveforms"),
            "why": st.column_config.TextColumn("Why", width=350),
        },
        alt="Pairs of clips that may be the same sound, the closest first.",
    )
    st.caption(
        "Nearest by acoustic descriptors over all clips, or by the embedding of the one network that heard neither. "
        "Copies in one fold count twice; copies in different folds flatter the accuracy."
    )
    named = [f"{row.clip_a} and {row.clip_b}" for row in pairs.itertuples()]
    chosen = st.selectbox(
        "Hear a pair", range(len(pairs)), format_func=lambda i: named[i], width=420, key=state.FAILURES_TWO.name
    )
    row = pairs.iloc[chosen]
    for side, column in zip("ab", st.columns(2, border=True), strict=True):
        with column:
            clip_player(row[f"clip_{side}"])
            label = (
                words.plain(str(row[f"label_{side}"])) if row[f"label_{side}"] == row[f"label_{side}"] else "no label"
            )
            st.caption(f"{words.literal(row[f'clip_{side}'])}  \n{label}, fold {row[f'fold_{side}']}")
            links.inspector(clip=row[f"clip_{side}"]).show("Inspect", icon=":material/manage_search:")


def _asked_for_pairs(records: RecordSet) -> bool:
    """Whether a person wants a large set searched, which takes a while."""
    return st.toggle(
        f"Search {records.n_clips:,} clips for copies; this takes about {records.n_clips / 2_000:.0f} s",
        key=state.FAILURES_SEARCHED.name,
        persist_state="session",
    )


def _waveforms_compared(pairs: pd.DataFrame) -> dict[tuple[str, str], str]:
    """What the waveforms of the closest pairs say, once a person asked; empty before."""
    first = pairs.head(COMPARED)
    asked = state.FAILURES_COMPARED.get()
    if st.button(
        f"Compare the waveforms of the first {len(first)}",
        icon=":material/compare_arrows:",
        key="failures_compare",
        help="Looks for stretches of one clip in the other, at any shift and level; about a tenth of a second a pair.",
    ):
        asked = True
        state.FAILURES_COMPARED.set(True)
    if not asked:
        return {}
    with st.spinner("Comparing waveforms…", show_time=True):
        return {(row.clip_a, row.clip_b): _shared(row.clip_a, row.clip_b) for row in first.itertuples()}


def _shared(a: str, b: str) -> str:
    found = services.sounds.shared_sound(a, b)
    if found is None:
        return "no sound here"
    agreeing = f"{found.agreeing} of {found.stretches} stretches of ¼ s agree"
    return f"same sound: {agreeing}, {found.lag_s:+.2f} s apart" if found.same else f"different: {agreeing}"


def _counted(found: int, shown: int) -> str:
    return f"{found:,} clips." if found <= shown else f"The first {shown:,} of {found:,} clips."
