"""Which records a diagnostics page shows: one chooser for all pages, kept over pages and in the URL, ``?records=…``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import streamlit as st

from app import services, state, words
from core.errors import RecordsError

if TYPE_CHECKING:
    from core.recordset import RecordSet

PARAMETER = "records"  # of the URL
UPLOAD = "upload"
UPLOAD_MB = 200  # 100,000 records with embeddings of 256 numbers
COLUMNS = "clip_id, fold, source_group, label, logits and, if at hand, embedding, seed and descriptors"


def records_chosen() -> RecordSet:
    """Draw the chooser and return what it says; the page stops where an upload is still missing.

    The log may be empty, and its labels are those that people gave. Raises ``EarshotError``.
    """
    options = [*services.records.sources(), UPLOAD]
    chosen = _wanted(options)
    state.RECORDS_PICKED.set(chosen)
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.selectbox(
            "Records",
            options,
            format_func=_called,
            key=state.RECORDS_PICKED.name,
            on_change=_pick,
            width=420,
            help="Answers of one model to many sounds. All diagnostics pages show the same ones.",
        )
        facts = st.container()
    records = _uploaded() if chosen == UPLOAD else services.records.read(chosen)
    with facts:
        _about(records)
    return records


def _wanted(options: list[str]) -> str:
    """What the URL says, else what was chosen before; told where it is not to be had."""
    wanted = st.query_params.get(PARAMETER) or state.RECORDS.get()
    if wanted not in options:
        st.warning(
            f"Expected the records {words.literal(wanted)}, but they are not here. The shipped ones are shown instead.",
            icon=":material/warning:",
        )
        wanted = state.RECORDS.default
    _keep(wanted)
    return wanted


def _pick() -> None:
    _keep(state.RECORDS_PICKED.get())


def _keep(chosen: str) -> None:
    state.RECORDS.set(chosen)
    if st.query_params.get(PARAMETER) != chosen:
        st.query_params[PARAMETER] = chosen


def _called(source: str) -> str:
    named = {
        services.records.SHIPPED: "Shipped cross-validation",
        services.records.LOG: "Prediction log",
        UPLOAD: "A Parquet file of mine",
    }
    return named.get(source) or f"Run {source.removeprefix(services.records.RUN)}"


def _uploaded() -> RecordSet:
    file = st.file_uploader(
        f"Parquet with the columns {COLUMNS}",
        type="parquet",
        max_upload_size=UPLOAD_MB,
        key=state.RECORDS_UPLOAD.name,
    )
    if file:
        state.RECORDS_FILE.set(services.records.Upload.of(file.name, file.getvalue()))
    kept = state.RECORDS_FILE.get()
    if kept is None:
        st.info("Give a file: one row an answer, held-out clips of any model.", icon=":material/table:")
        st.stop()
    try:
        return services.records.uploaded(kept)
    except RecordsError as error:
        if error.code != "no_class_names":
            raise
        given = st.text_input(
            "Class names in the order of the logits, with commas between them",
            key=state.RECORDS_CLASSES.name,
            persist_state="session",
        )
        if not given:
            raise
        return services.records.uploaded(kept, tuple(name.strip() for name in given.split(",")))


def _about(records: RecordSet) -> None:
    """How many, of what, and what was left out."""
    seeds = records.table["seed"].nunique()
    counted = [
        f"{words.literal(records.title)}",
        f"{records.n_clips:,} clips" + (f" × {seeds} seeds" if seeds > 1 else ""),
        f"{len(records.class_names)} classes",
    ]
    if unlabelled := len(records) - int(records.is_labelled.sum()):
        counted.append(f"{unlabelled:,} without a true class")
    st.caption(" · ".join(counted), help=f"Model {records.fingerprint}" if records.fingerprint else None)
    for note in records.notes:
        st.warning(words.literal(note) + ".", icon=":material/filter_alt:")
