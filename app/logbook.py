"""The prediction log as pages use it: every answer is written once, and a person confirms or corrects it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import streamlit as st

from app import components, links, services, state, words
from app.services.sounds import Sound
from core.errors import EarshotError, StoreError
from core.records import NONE_OF_THE_CLASSES, Prediction, none_of_the

if TYPE_CHECKING:
    from core.artifact import Manifest
    from core.store import LoggedPrediction


def logged_answer(sound: Sound, prediction: Prediction, manifest: Manifest) -> None:
    """Log an answer of the Classify page, say so, and ask whether it is right. The page goes on without a log."""
    try:
        record = services.environment.store().get(log_once(sound, prediction, manifest))
    except EarshotError as error:
        st.warning(f"This answer was not logged. {words.literal(str(error))}", icon=":material/cloud_off:")
        return
    with st.container(horizontal=True, vertical_alignment="center"):
        with st.popover("Right or wrong?", icon=":material/rate_review:"):
            confirm_or_correct(record, manifest.class_names)
        links.inspector(clip=record.prediction.clip_id, answer=record.id, records=services.records.LOG).show(
            "Inspect", icon=":material/manage_search:", help=_what_is_kept(record)
        )
    if record.label is not None:
        st.caption(f":material/check: You said: {said(record.label, manifest.class_names)}.")


def log_once(sound: Sound, prediction: Prediction, manifest: Manifest) -> int:
    """The id of this answer in the log; it is written the first time that this session meets it.

    Raises ``StoreError``.
    """
    known = state.LOGGED.get()
    answer = (services.environment.settings().database, sound.digest, prediction.fingerprint)
    if answer in known:
        return known[answer]
    store = services.environment.store()
    asked_now = prediction.model_copy(update={"created_at": datetime.now(UTC)})  # an equal sound may have been cached
    kept = sound.data if services.environment.settings().keep_audio else None
    number = store.log(asked_now, manifest, name=sound.name, origin="app", sound=kept)
    state.LOGGED.set(known | {answer: number})
    return number


def confirm_or_correct(record: LoggedPrediction, class_names: Sequence[str]) -> None:
    """Ask what the sound is; the answer is stored at once, and the page drawn anew."""
    answer = record.prediction.label
    place = str(record.id)
    if not record.prediction.unknown:
        st.button(
            f"It is {words.plain(answer).lower()}",
            icon=":material/check:",
            key=state.CONFIRM.of(place).name,
            on_click=_store_label,
            args=(record.id, answer),
            disabled=record.label == answer,
        )
    st.selectbox(
        "It is something else",
        [*sorted(class_names), NONE_OF_THE_CLASSES],
        index=None,
        format_func=lambda name: said(name, class_names),
        placeholder="Choose, or type a name of your own",
        accept_new_options=True,
        key=state.CORRECTION.of(place).name,
        on_change=_store_chosen,
        args=(record.id, state.CORRECTION.of(place), tuple(class_names)),
    )
    if (trouble := state.CORRECTION_ERROR.get()) is not None:
        components.error_box(trouble)
        state.CORRECTION_ERROR.set(None)


def said(label: str, class_names: Sequence[str]) -> str:
    """A person's label as people read it."""
    if label == NONE_OF_THE_CLASSES and label not in class_names:
        return none_of_the(len(class_names))
    return words.plain(label) if label in class_names else label


def as_class(text: str, class_names: Sequence[str]) -> str:
    """``Crying baby`` → ``crying_baby``, whatever its case; what is no class stays as it is."""
    plain = {words.plain(name).casefold(): name for name in class_names}
    return plain.get(" ".join(text.replace("_", " ").split()).casefold(), text)


def _store_chosen(prediction_id: int, chosen: state.Key[str | None], class_names: tuple[str, ...]) -> None:
    if label := chosen.get():
        _store_label(prediction_id, as_class(label, class_names))


def _store_label(prediction_id: int, label: str) -> None:
    """A callback: it runs before the page and cannot draw, so an error waits for the page."""
    try:
        services.environment.store().correct(prediction_id, label)
    except StoreError as error:
        state.CORRECTION_ERROR.set(error)


def _what_is_kept(record: LoggedPrediction) -> str:
    kept = "with its sound" if services.environment.settings().keep_audio else "without its sound"
    return f"Open answer {record.id} of the prediction log. It is kept {kept}."
