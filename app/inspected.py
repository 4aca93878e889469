"""Which answer the sample inspector shows: filters, table, previous and next, all of it in the URL and back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import numpy as np
import pandas as pd
import streamlit as st
from numpy.typing import NDArray

from app import components, services, state, words
from app.records_input import PARAMETER as RECORDS
from core.diagnostics.selection import Order, Outcome, Selection, is_right, place_of, positions, true_labels
from core.recordset import RecordSet

TABLE = "inspector_table"
ROWS_SHOWN = 200  # of the table at once: as many as one scrolls through, in no time
ROWS_SEEN, TABLE_PX = 10, 372
OUTCOMES = {"any": "All", "right": "Right", "wrong": "Wrong", "unlabelled": "Not labelled"}
ORDERS = {
    "given": "As recorded",
    "newest": "Newest first",
    "surest": "Surest first",
    "unsurest": "Least sure first",
}
UNKNOWN = {"any": "All", "yes": "Called unknown", "no": "Not called unknown"}
FILTERS = ("true", "predicted", "outcome", "min", "max", "fold", "unknown", "source", "seed", "order")
# Of the URL. "network" is the seed of the answer shown, where "seed" does not filter and several networks answered.
PARAMETERS = (*FILTERS, "clip", "answer", "network")


class Place(NamedTuple):
    """One answer, found again after the records have grown."""

    clip_id: str
    seed: int
    answer: int | None  # id in the prediction log


@dataclass(frozen=True)
class Options:
    """What can be chosen among these records."""

    true: list[str]
    predicted: list[str]
    folds: list[int]
    seeds: list[int]
    outcomes: list[str]
    is_log: bool

    @classmethod
    def of(cls, records: RecordSet) -> Options:
        labels = true_labels(records)
        others = sorted(set(labels.dropna()) - set(records.class_names))
        missing = bool(labels.isna().any())
        return cls(
            true=[*sorted(records.class_names), *others],
            predicted=sorted(records.class_names),
            folds=sorted({int(fold) for fold in records.table["fold"]}),
            seeds=sorted({int(seed) for seed in records.table["seed"]}),
            outcomes=[name for name in OUTCOMES if missing or name != "unlabelled"],
            is_log="id" in records.table,
        )


def wanted(records: RecordSet) -> Selection:
    """Draw the filters, which begin as the URL says, and return what they ask for."""
    options = services.records.computed(Options.of, records)
    _arrive(records, options)
    state.INSPECTOR_TRUE.set([name for name in state.INSPECTOR_TRUE.get() if name in options.true])  # labels may go
    return _filters(options)


def choose(records: RecordSet, selection: Selection) -> int | None:
    """Draw the table and the way through it; return where the answer to show stands, ``None`` where none is."""
    found = services.records.computed(positions, records, selection)
    place = _place(records, found)
    if place is not None:
        _way(records, found, place)
        _table(records, found, place)
    _leave(records, selection, place)
    return place


def _arrive(records: RecordSet, options: Options) -> None:
    """Take over what the URL says, unless the page itself wrote it: after a link, a reload, or the back button."""
    here = _address()
    left = state.INSPECTOR_URL.get()
    still_here = state.INSPECTOR_ORDER.name in st.session_state  # widgets forget when another page is shown
    if here == left and still_here:
        return
    moved = left is not None and still_here and here == left | {RECORDS: here.get(RECORDS, [])}
    given = _Given({} if moved else here)  # what was asked of other records is not asked of these
    state.INSPECTOR_TRUE.set(given.some("true", options.true))
    state.INSPECTOR_PREDICTED.set(given.some("predicted", options.predicted))
    state.INSPECTOR_OUTCOME.set(given.one("outcome", options.outcomes, "any"))
    state.INSPECTOR_CONFIDENCE.set(given.confidence())
    state.INSPECTOR_FOLDS.set([int(fold) for fold in given.some("fold", list(map(str, options.folds)))])
    state.INSPECTOR_UNKNOWN.set(given.one("unknown", list(UNKNOWN), "any"))
    state.INSPECTOR_SOURCE.set(given.text("source"))
    seed = given.one("seed", list(map(str, options.seeds)), "")
    state.INSPECTOR_SEED.set(int(seed) if seed and len(options.seeds) > 1 else None)
    state.INSPECTOR_ORDER.set(given.one("order", list(ORDERS), "newest" if options.is_log else "given"))
    network = given.one("network", list(map(str, options.seeds)), seed)
    state.INSPECTOR_PLACE.set(_asked_for(records, given, int(network) if network else None))
    for trouble in given.troubles:
        st.warning(words.literal(trouble), icon=":material/link_off:")


def _asked_for(records: RecordSet, given: _Given, seed: int | None) -> Place | None:
    clip_id, answer = given.text("clip"), given.text("answer")
    if clip_id is None:
        return None
    number = int(answer) if answer and answer.isdigit() else None
    place = place_of(records, clip_id, seed=seed, answer=number)
    if place is None:
        given.troubles.append(f"Expected the clip {clip_id}, but it is not among these records.")
        return None
    return _named(records, place)


def _address() -> dict[str, list[str]]:
    """Of the URL, what this page reads and writes, and which records it shows."""
    return {name: st.query_params.get_all(name) for name in (*PARAMETERS, RECORDS) if name in st.query_params}


class _Given:
    """Parameters of the URL, read one by one; what they ask for that is not to be had is told in ``troubles``."""

    def __init__(self, parameters: dict[str, list[str]]) -> None:
        self._parameters = parameters
        self.troubles: list[str] = []

    def text(self, name: str) -> str | None:
        return (self._parameters.get(name) or [""])[-1] or None

    def some(self, name: str, options: Sequence[str]) -> list[str]:
        asked = self._parameters.get(name, [])
        missing = [value for value in asked if value not in options]
        if missing:
            self.troubles.append(
                f"The address asks for {name} = {', '.join(missing)}, which these records do not have: left aside."
            )
        return [value for value in asked if value in options]

    def one(self, name: str, options: Sequence[str], default: str) -> str:
        return (self.some(name, options) or [default])[-1]

    def confidence(self) -> tuple[float, float]:
        try:
            low, high = float(self.text("min") or 0), float(self.text("max") or 1)
        except ValueError:
            low, high = 0.0, 1.0
        return (low, high) if 0 <= low <= high <= 1 else (0.0, 1.0)


def _filters(options: Options) -> Selection:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        true = st.multiselect(
            "True class",
            options.true,
            format_func=words.plain,
            key=state.INSPECTOR_TRUE.name,
            placeholder="Any",
            width=240,
        )
        predicted = st.multiselect(
            "Predicted class",
            options.predicted,
            format_func=words.plain,
            key=state.INSPECTOR_PREDICTED.name,
            placeholder="Any",
            width=240,
        )
        outcome = st.segmented_control(
            "Answer",
            options.outcomes,
            format_func=OUTCOMES.__getitem__,
            required=True,
            key=state.INSPECTOR_OUTCOME.name,
        )
        order = st.selectbox(
            "Order", list(ORDERS), format_func=ORDERS.__getitem__, key=state.INSPECTOR_ORDER.name, width=180
        )
        with st.popover("More filters", icon=":material/tune:"):
            more = _more_filters(options)
    return Selection(
        true=tuple(true),
        predicted=tuple(predicted),
        outcome=cast(Outcome, outcome),
        order=cast(Order, order),
        **more,
    )


def _more_filters(options: Options) -> dict[str, Any]:
    confidence = st.slider("Confidence", 0.0, 1.0, step=0.01, key=state.INSPECTOR_CONFIDENCE.name)
    folds = st.multiselect("Held-out fold", options.folds, key=state.INSPECTOR_FOLDS.name, placeholder="Any")
    seed = st.selectbox(
        "Network (seed)",
        [None, *options.seeds],
        format_func=lambda seed: "All" if seed is None else f"Seed {seed}",
        key=state.INSPECTOR_SEED.name,
        disabled=len(options.seeds) == 1,
    )
    unknown = st.selectbox(
        "Unknown sound", list(UNKNOWN), format_func=UNKNOWN.__getitem__, key=state.INSPECTOR_UNKNOWN.name
    )
    source = st.text_input(
        "Source recording",
        key=state.INSPECTOR_SOURCE.name,
        help="The recording that clips were cut from, by its number.",
        placeholder="Any",
    )
    return {
        "confidence": confidence,
        "folds": tuple(folds),
        "seed": seed,
        "unknown": {"any": None, "yes": True, "no": False}[unknown],
        "source": (source or "").strip(),
    }


def _place(records: RecordSet, found: NDArray[np.int64]) -> int | None:
    """The answer chosen, if the filters let it pass; else the first that they do."""
    kept = state.INSPECTOR_PLACE.get()
    if kept is not None:
        place = place_of(records, kept.clip_id, seed=kept.seed, answer=kept.answer)
        if place is not None and place in found:
            return place
    return int(found[0]) if found.size else None


def _named(records: RecordSet, place: int) -> Place:
    row = records.table.iloc[place]
    return Place(str(row["clip_id"]), int(row["seed"]), int(row["id"]) if "id" in row.index else None)


def _way(records: RecordSet, found: NDArray[np.int64], place: int) -> None:
    """Previous and next, with keys."""
    rank = int(np.flatnonzero(found == place)[0])
    with st.container(horizontal=True, vertical_alignment="center"):
        for text, key, step, icon, side in (
            ("Previous", "P", -1, ":material/arrow_back:", "left"),
            ("Next", "N", 1, ":material/arrow_forward:", "right"),
        ):
            st.button(
                text,
                icon=icon,
                icon_position=cast(Any, side),
                shortcut=key,
                key=f"inspector_{text.lower()}",
                on_click=_go,
                args=(_named(records, int(found[(rank + step) % found.size])),),
                disabled=not 0 <= rank + step < found.size,
            )
        st.markdown(f"**{rank + 1:,}** of {found.size:,}")


def _go(place: Place) -> None:
    state.INSPECTOR_PLACE.set(place)


def _table(records: RecordSet, found: NDArray[np.int64], place: int) -> None:
    """The answers around the one shown; a click on a row shows it."""
    rank = int(np.flatnonzero(found == place)[0])
    first = rank // ROWS_SHOWN * ROWS_SHOWN
    shown = found[first : first + ROWS_SHOWN]
    st.session_state[TABLE] = {"selection": {"rows": [rank - first], "columns": [], "cells": []}}
    components.table(
        rows(records, shown),
        height="content" if len(shown) <= ROWS_SEEN else TABLE_PX,
        hide_index=True,
        key=TABLE,
        on_select=lambda: _follow_row([_named(records, int(position)) for position in shown]),
        selection_mode="single-row",
        column_config={
            "confidence": components.share_bar("Confidence", width=120),
            "when": st.column_config.DatetimeColumn("When (UTC)", format="YYYY-MM-DD HH:mm:ss"),
        },
        alt="The answers that pass the filters, one a row; the row chosen is shown beside it.",
    )
    if found.size > ROWS_SHOWN:
        st.caption(f"Rows {first + 1:,} to {first + len(shown):,} of {found.size:,}; previous and next go through all.")


def rows(records: RecordSet, shown: NDArray[np.int64]) -> pd.DataFrame:
    """What the table says of the answers at ``shown``."""
    some = records.take(shown)
    frame, true = some.frame(), true_labels(some)
    right = is_right(some).map({True: "Right", False: "Wrong"}, na_action="ignore").astype(object)
    table = pd.DataFrame(
        {
            "True": true.map(words.plain, na_action="ignore").astype(object).fillna("–"),
            "Predicted": frame["predicted"].map(words.plain),
            "confidence": frame["confidence"],
            "Answer": right.fillna("Not labelled"),
        }
    )
    if frame["unknown"].notna().any():
        table["Unknown"] = frame["unknown"].map({True: "Yes", False: "No"})
    if "id" in frame:
        return table.assign(Name=frame["name"], when=frame["created_at"])
    if records.table["seed"].nunique() > 1:
        table["Seed"] = frame["seed"]
    return table.assign(Fold=frame["fold"], Source=frame["source_group"], Clip=frame["clip_id"])


def _follow_row(places: list[Place]) -> None:
    chosen = st.session_state[TABLE]["selection"]["rows"]
    if chosen:
        state.INSPECTOR_PLACE.set(places[chosen[0]])


def _leave(records: RecordSet, selection: Selection, place: int | None) -> None:
    """Write into the URL what the page shows, so that it can be sent, kept and reloaded."""
    low, high = selection.confidence
    several = records.table["seed"].nunique() > 1
    usual_order = "newest" if "id" in records.table else "given"
    asked: dict[str, Sequence[object]] = {
        "true": selection.true,
        "predicted": selection.predicted,
        "outcome": [selection.outcome] if selection.outcome != "any" else [],
        "min": [f"{low:g}"] if low > 0 else [],
        "max": [f"{high:g}"] if high < 1 else [],
        "fold": selection.folds,
        "unknown": [] if selection.unknown is None else ["yes" if selection.unknown else "no"],
        "source": [selection.source] if selection.source else [],
        "seed": [] if selection.seed is None else [selection.seed],
        "order": [selection.order] if selection.order != usual_order else [],
    }
    if place is not None:
        shown = _named(records, place)
        asked["clip"] = [shown.clip_id]
        asked["answer"] = [] if shown.answer is None else [shown.answer]
        asked["network"] = [shown.seed] if several and selection.seed is None else []
        state.INSPECTOR_PLACE.set(shown)
    written = {name: [str(value) for value in asked[name]] for name in PARAMETERS if asked.get(name)}
    if written != {name: values for name, values in _address().items() if name != RECORDS}:
        others = {name: st.query_params.get_all(name) for name in st.query_params if name not in PARAMETERS}
        st.query_params.from_dict(others | written)
    state.INSPECTOR_URL.set(_address())
