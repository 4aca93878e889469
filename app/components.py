"""Pieces that pages are made of. Each draws one thing from values it is given."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import streamlit as st

from app import services, state, words
from app.services.sounds import Sound
from core.errors import BackendError, EarshotError
from core.figures.percent import hundredths
from core.records import Prediction, SourceFacts, none_of_the
from core.shares import SPACE

if TYPE_CHECKING:
    import pandas as pd

    from core.artifact import Manifest
    from core.audio import Waveform
    from core.jobs import Where

SHARES = f"%.1f{SPACE}%%"  # of hundredths: the browser's own percentages know no space
NO_TOOLS = {"displayModeBar": False}  # of charts with nothing to zoom into
PLACES: dict[Where, str] = {"local": "This machine", "modal": "Modal"}
TOP_KS = (3, 5, 10, 20)
NAMED = 12  # more classes than this are a list to open, not a sentence to read
# Containers and codecs that current Chrome, Firefox and Safari all play. Others are played as the model hears them.
PLAYABLE = {  # container → MIME type and the codecs that every browser has
    "mp3": ("audio/mpeg", {"mp3"}),
    "mp4": ("audio/mp4", {"aac", "mp3"}),
    "flac": ("audio/flac", {"pcm_s8", "pcm_16", "pcm_24"}),
    "ogg": ("audio/ogg", {"vorbis", "opus"}),
    "webm": ("audio/webm", {"vorbis", "opus"}),
    "wav": ("audio/wav", {"pcm_u8", "pcm_16"}),
}
PLAYABLE_RATES_HZ = range(8_000, 96_001)
TWO_LINES_PX = 66  # of a row whose text wraps; Streamlit wraps it where a row is higher than 4 rem


def share(name: str, **given: Any) -> Any:
    """A column of shares as ``98.8 %``; to be shown by ``table``."""
    return st.column_config.NumberColumn(name, format=SHARES, **given)


def share_bar(name: str, **given: Any) -> Any:
    """As ``share``, with a bar."""
    return st.column_config.ProgressColumn(name, format=SHARES, min_value=0, max_value=100, **given)


def table(data: pd.DataFrame, *, column_config: Mapping[str, Any], **given: Any) -> Any:
    """``st.dataframe`` of data whose columns of ``share`` and ``share_bar`` are in [0, 1]."""
    shares = [
        name
        for name, column in column_config.items()
        if name in data and isinstance(column, dict) and (column.get("type_config") or {}).get("format") == SHARES
    ]
    return st.dataframe(hundredths(data, *shares), column_config=dict(column_config), **given)


@contextmanager
def errors_shown() -> Iterator[None]:
    """The one boundary for Earshot's own errors: told in a box, then the page goes on behind the block."""
    try:
        yield
    except BackendError as error:
        error_box(error)
        if services.answering.where() != "local":
            _other_ways()
    except EarshotError as error:
        error_box(error)


def _other_ways() -> None:
    """What to do where the chosen backend does not answer: nothing is answered elsewhere unless someone says so."""
    with st.container(horizontal=True):
        st.button(
            "Answer on this machine instead",
            icon=":material/computer:",
            type="primary",
            on_click=state.BACKEND.set,
            args=("local",),
            key=state.ANSWER_HERE.name,
        )
        st.button("Ask Modal again", icon=":material/refresh:", key=state.ASK_AGAIN.name)


def backend_choice() -> None:
    """Where sounds are answered from now on, in this browser."""
    state.BACKEND.start_with(services.environment.settings().backend)
    st.segmented_control(
        "Answered by",
        list(PLACES),
        required=True,
        format_func=PLACES.__getitem__,
        key=state.BACKEND.name,
        persist_state="session",
        help="Modal answers on a GPU of theirs once Earshot is deployed there (see the README). Sounds are sent to it.",
    )


def error_box(error: EarshotError) -> None:
    """The error's own sentence: what was expected, what came, what to do."""
    st.error(words.literal(str(error)), icon=":material/error:")


def empty_state(message: str) -> None:
    """A quiet line where results will be."""
    st.space("medium")
    st.caption(f":material/graphic_eq: {message}", text_alignment="center")


def known_sounds(manifest: Manifest) -> None:
    """Which sounds the model knows, and what becomes of others."""
    every = ", ".join(sorted(words.plain(name).lower() for name in manifest.class_names))
    count, others = len(manifest.class_names), words.other_sounds(manifest)
    if count <= NAMED:
        st.caption(f"Earshot knows {count} sounds: {every}. {others}")
        return
    st.caption(f"Earshot knows {count} sounds. {others}")
    with st.popover(f"All {count} sounds", type="tertiary"):
        st.caption(f"{words.literal(every)}.")


def prediction_card(sound: Sound, prediction: Prediction, class_names: Sequence[str]) -> None:
    """The answer, how sure it is, and how far ahead, in words."""
    truth = f" · labelled {words.plain(sound.truth).lower()}" if sound.truth else ""
    st.caption(
        f"{words.literal(sound.name)} · {words.seconds(prediction.duration_s)}{truth}",
        help=words.source(prediction.source),
    )
    if prediction.unknown:
        st.header(none_of_the(len(class_names)), anchor=False)
        remarks = [words.strangeness_in_words(prediction)]
    else:
        st.header(words.plain(prediction.label), anchor=False)
        st.markdown(f"**{words.percent(prediction.confidence)}** confidence")
        remarks = [words.margin_in_words(prediction), words.entropy_in_words(prediction)]
    turns = words.leaders_in_words(words.leaders(prediction, class_names))
    notes = [*remarks, turns, words.unknown_stretches(prediction)]
    st.markdown("  \n".join(note for note in notes if note))


@st.fragment
def confidence_bars(prediction: Prediction) -> None:
    """The most probable classes; a person chooses how many."""
    from core.figures.audio import confidence_figure

    classes = len(prediction.probabilities)
    options = [k for k in TOP_KS if k < classes] + [classes]
    top_k = st.segmented_control(
        "Classes shown",
        options,
        default=min(state.TOP_K.default, classes),
        required=True,
        format_func=lambda k: f"All {k}" if k == classes else f"Top {k}",
        key=state.TOP_K.name,
        persist_state="session",
    )
    st.plotly_chart(
        confidence_figure(prediction.probabilities, top_k=top_k or classes),
        key="classify_bars",
        config=NO_TOOLS,
        alt=f"Bars of the most probable classes; {words.plain(prediction.label)} leads.",
    )
    if prediction.unknown:
        st.caption("As if the sound were one of its classes: together they make 100 % whatever the sound is.")
    else:
        st.caption("Each bar is the probability of one class; all classes together make 100 %.")


def quality_warnings(prediction: Prediction) -> None:
    """What about the recording makes the answer less trustworthy."""
    for warning in prediction.quality:
        st.warning(words.literal(warning.message), icon=":material/warning:")


def playable(sound: Sound, prediction: Prediction, wave: Waveform) -> tuple[bytes, str]:
    """Bytes that browsers play, and their MIME type."""
    from core.audio import write_wav

    kind = browser_format(prediction.source)
    return (sound.data, kind) if kind else (write_wav(wave.samples, wave.sample_rate_hz), "audio/wav")


def browser_format(source: SourceFacts) -> str | None:
    """The MIME type under which browsers play such a file, or ``None``."""
    if source.channels > 2 or source.sample_rate_hz not in PLAYABLE_RATES_HZ:
        return None
    kind, codecs = PLAYABLE.get(source.container, ("", set()))
    return kind if source.codec in codecs else None


def downloads(sound: Sound, prediction: Prediction, picture: Callable[[], bytes]) -> None:
    """The result as JSON for machines and as a picture for people, which is drawn when it is asked for."""
    stem = PurePath(sound.name).stem or "sound"
    with st.container(horizontal=True):
        st.download_button(
            "JSON",
            result_json(sound, prediction),
            file_name=f"{stem}.earshot.json",
            mime="application/json",
            icon=":material/data_object:",
            on_click="ignore",
            key="classify_json",
            help="Every number of the answer: probabilities, logits, embedding, windows and descriptors.",
        )
        st.download_button(
            "Picture",
            picture,
            file_name=f"{stem}.earshot.png",
            mime="image/png",
            icon=":material/image:",
            on_click="ignore",
            key="classify_png",
            help="The whole result on one page, as PNG.",
        )


def result_json(sound: Sound, prediction: Prediction) -> str:
    """The record of the answer, with the file's name in front."""
    return json.dumps({"file": sound.name} | prediction.model_dump(mode="json"), indent=2, ensure_ascii=False)


def provenance(prediction: Prediction) -> None:
    """Who answered, where, how fast, with which model."""
    st.caption(
        f"Answered {words.place(prediction)} · model {prediction.fingerprint[:12]}",
        help=f"Fingerprint of the model: {prediction.fingerprint}",
    )
