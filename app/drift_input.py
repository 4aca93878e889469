"""What the Drift page compares: a window of the log, sounds dropped in, or the demo; and what they are held against."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from datetime import date
from typing import TYPE_CHECKING, Any, Never

import pandas as pd
import streamlit as st

from app import services, state, words
from core.errors import EarshotError

if TYPE_CHECKING:
    from core.recordset import RecordSet

LOG, FILES, DEMO = "log", "files", "demo"
SOURCES = {DEMO: "Demo", LOG: "Prediction log", FILES: "Folder or zip"}
EARLIER = "earlier"  # the reference is the log before the window
UPLOAD_MB = 200
EDGES_KHZ = (0.0, 2.0, 3.0, 4.0, 6.0, 8.0, 10.0)  # 0: no limit
SNRS_DB = (0.0, 20.0, 10.0, 5.0, 0.1)


def pair_chosen() -> tuple[RecordSet, RecordSet]:
    """(reference, current) as chosen; the page stops where nothing is there to compare. Raises ``EarshotError``."""
    source = st.segmented_control(
        "Current sounds",
        list(SOURCES),
        default=LOG if services.environment.store().version()[0] else DEMO,
        required=True,
        format_func=SOURCES.__getitem__,
        key=state.DRIFT_SOURCE.name,
        bind="query-params",
        persist_state="session",
    )
    if source == LOG:
        return _from_log()
    if source == FILES:
        return services.records.read(_reference()), _from_files()
    return _from_demo()


def _reference(*, with_log: bool = False) -> str:
    """A source of records, or ``EARLIER``."""
    options = [source for source in services.records.sources() if source != services.records.LOG]
    own = services.records.own_run()
    chosen = st.selectbox(
        "Held against",
        options + ([EARLIER] if with_log else []),
        index=options.index(own),
        format_func=_called,
        key=state.DRIFT_REFERENCE.name,
        width=420,
        help="Held-out clips of the cross-validation: what a model was fitted on looks unlike anything new.",
    )
    return str(chosen)


def _called(source: str) -> str:
    named = {
        services.records.SHIPPED: "Held-out clips, shipped cross-validation",
        EARLIER: "The log before this window",
    }
    return named.get(source) or f"Held-out clips of run {source.removeprefix(services.records.RUN)}"


def _from_log() -> tuple[RecordSet, RecordSet]:
    log = services.records.read(services.records.LOG)
    if not len(log):
        _stop("The log holds no answer of this model yet. Classify some sounds, or see the demo.")
    days = pd.to_datetime(log.table["created_at"], utc=True)
    first, last = days.min().date(), days.max().date()
    with st.container(horizontal=True, vertical_alignment="bottom"):
        given = st.date_input(
            "From and to (UTC days)",
            (first, last),
            min_value=first,
            max_value=last,
            format="YYYY-MM-DD",
            key=f"{state.DRIFT_DAYS.name}_{first}_{last}",
            width=280,
        )
        source = _reference(with_log=True)
    begin, end = _span(given)
    current = services.records.computed(within_days, log, begin, end)
    if source == EARLIER:
        return services.records.computed(within_days, log, date.min, begin, False), current
    return services.records.read(source), current


def within_days(log: RecordSet, first: date, last: date, including: bool = True) -> RecordSet:
    """Records from ``first`` to ``last``, UTC; without the last day where not ``including`` it."""
    day = pd.to_datetime(log.table["created_at"], utc=True).dt.date
    until = day <= last if including else day < last
    return log.take(((day >= first) & until).to_numpy(dtype=bool))


def _span(given: Any) -> tuple[date, date]:
    """A range is half chosen while only its first day is clicked."""
    days = given if isinstance(given, tuple) else (given,)
    if not days:
        _stop("Choose the first and the last day.")
    return days[0], days[-1]


def _from_files() -> RecordSet:
    given = services.environment.settings()
    kind = st.segmented_control(
        "What to drop in",
        ["Files or zips", "A folder"],
        default="Files or zips",
        required=True,
        key=state.DRIFT_FOLDER.name,
        label_visibility="collapsed",
    )
    files = st.file_uploader(
        "Sounds in any format, or zips of them" if kind != "A folder" else "A folder of sounds",
        accept_multiple_files="directory" if kind == "A folder" else True,
        max_upload_size=UPLOAD_MB,
        key=f"{state.DRIFT_UPLOAD.name}_{kind}",
        help="Heard by the model that answers here, and not kept. At most 1,000 sounds are heard; of more, as many "
        f"spread evenly over all. A single sound: up to {given.max_bytes / 2**20:.0f} MB.",
    )
    if not files:
        _stop("Drop a folder or a zip of recordings: they are compared with the held-out clips.")
    backend = services.answering.backend()
    digest = hashlib.sha256()
    sent = [(file.name, file.getvalue()) for file in files]
    for name, data in sent:
        digest.update(hashlib.sha256(name.encode() + b"\0" + data).digest())
    heard = services.hearing.files(backend, sent, digest.hexdigest(), _progress("Listening"))
    _told(heard.n_names, len(heard.records), heard.left_out)
    return heard.records


def _told(n_names: int, heard: int, left_out: Sequence[tuple[str, int]]) -> None:
    st.caption(f"{heard:,} of {n_names:,} files are sounds and were heard.")
    if left_out:
        reasons = "; ".join(f"{count:,} {words.literal(reason)}" for reason, count in left_out)
        st.warning(f"Left out: {reasons}.", icon=":material/filter_alt:")


def _progress(doing: str) -> Any:
    bar = st.empty()

    def show(done: int, total: int) -> None:
        if done >= total:
            bar.empty()
        else:
            bar.progress(done / max(total, 1), text=f"{doing}: {done:,} of {total:,} sounds")

    return show


def _from_demo() -> tuple[RecordSet, RecordSet]:
    from core.drift_demo import PRESETS

    st.caption(
        "200 clips of the reference, degraded on purpose. What would you see if the microphone were exchanged, moved "
        "away, or put beside a fan? One model answered both sides, and was trained on these clips as recorded."
    )
    own = "your own choice"
    dataset = services.datasets.configured()
    condition = st.pills(
        "What happens to the sounds",
        [*PRESETS, *([own] if dataset else [])],
        format_func=lambda name: name[:1].upper() + name[1:],
        key=state.DRIFT_DEMO.name,
        bind="query-params",
        persist_state="session",
    )
    if condition is None:
        _stop("Choose what happens to the sounds: the verdict appears here.")
    if condition == own and dataset:
        return _against_its_own(_degraded_here(dataset))
    return services.hearing.demo_reference(), services.hearing.demo(condition)


def _against_its_own(degraded: RecordSet) -> tuple[RecordSet, RecordSet]:
    """Beside the same clips as recorded where the shipped model answered, else beside the held-out clips."""
    from core.recordset import TRAINED_ON

    known = TRAINED_ON in degraded.table and len(degraded) and degraded.table[TRAINED_ON].all()
    return services.hearing.demo_reference() if known else services.records.read(services.records.SHIPPED), degraded


def _degraded_here(dataset: Any) -> RecordSet:
    from core.drift_demo import Degrading

    with st.form(state.DRIFT_OWN.name, border=False), st.container(horizontal=True, vertical_alignment="bottom"):
        edge_khz = st.selectbox(
            "Nothing above", EDGES_KHZ, index=5, format_func=lambda khz: f"{khz:g} kHz" if khz else "(no limit)"
        )
        gain_db = st.number_input("Gain (dB)", -60.0, 20.0, -14.0, step=1.0)
        snr_db = st.number_input("Noise, dB under the sound (60: none)", -10.0, 60.0, 60.0, step=1.0)
        asked = st.form_submit_button("Degrade and listen", icon=":material/play_arrow:")
    degrading = Degrading(edge_khz * 1000 or None, gain_db, snr_db if snr_db < 60 else None)
    if asked:
        state.DRIFT_DEGRADING.set(degrading)
    chosen = state.DRIFT_DEGRADING.get()
    if chosen is None:
        _stop("Set what happens to the sounds, then let them be heard: that takes some seconds.")
    return services.hearing.degraded(
        services.answering.backend(), dataset, chosen, _progress("Degrading and listening")
    )


def _stop(message: str) -> Never:
    from app.components import empty_state

    empty_state(message)
    st.stop()
    raise EarshotError(message)  # never reached; st.stop is not known to end
