"""Why: what a network heard, where it looked, what its layers responded to. For Classify and the sample inspector."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import streamlit as st

from app import components, services, state, words
from app.components import NO_TOOLS
from app.player import Overlay, Timeline, cursor_player
from app.services.sounds import Sound
from core.records import Prediction, WindowPrediction

if TYPE_CHECKING:
    from core.backend import Backend
    from core.explain import Explanation, Stage

LINES = 5  # of the timeline: told apart at a glance
LINES_AT_MOST = 10  # where so many lead in turn: as many as the palette has colours
CHANNELS_SHOWN = 8
CHANNELS_AT_MOST = 16
OWN_ANSWER = ""  # the choice "whatever this stretch answers"
OVERLAYS = {"cam": "Grad-CAM", "occlusion": "Occlusion", "off": "Off"}


def clearest_window(prediction: Prediction, class_names: Sequence[str]) -> int:
    """The window most sure of the answer, from 0: the most telling one to explain first."""
    answer = class_names.index(prediction.label)
    return max(range(len(prediction.windows)), key=lambda index: prediction.windows[index].probabilities[answer])


def timeline_classes(
    windows: Sequence[WindowPrediction], class_names: Sequence[str], first: Sequence[str], rest: Sequence[str]
) -> list[str]:
    """``first``, the classes that lead somewhere, the longest lead first, then ``rest`` as far as there is room."""
    led = Counter(class_names[int(np.argmax(window.probabilities))] for window in windows)
    leading = [name for name, _ in led.most_common()]
    telling = [name for name in dict.fromkeys([*first, *leading]) if name in class_names]
    ranked = list(dict.fromkeys([*telling, *rest]))
    return ranked[: min(max(LINES, len(telling)), LINES_AT_MOST)]


@st.fragment
def heard(backend: Backend, sound: Sound, prediction: Prediction) -> None:
    """What the model that answered heard, and why; for the Classify page."""
    st.subheader("What it heard, and why", anchor=False)
    with components.errors_shown():
        first = [name for name in (prediction.label, sound.truth) if name is not None]
        feature_maps(sound, player(backend, sound, prediction, key="classify_player", digest=sound.digest, first=first))


def player(
    backend: Backend,
    sound: Sound,
    prediction: Prediction,
    *,
    key: str,
    digest: str,
    first: Sequence[str],
    said: Sequence[str] = (),
) -> Explanation:
    """Waveform, mel spectrogram with where the network looked, and probabilities under one cursor, played.

    ``first``: the classes that matter here, named first. ``digest``: what choices are kept by. ``said``: sentences
    before those on how to read it. Raises ``EarshotError``.
    """
    names = backend.manifest.class_names
    label, overlay, window = _choices(prediction, names, first, digest)
    with st.spinner("Looking where it looked…"):
        why = services.sounds.explanation(
            backend,
            sound,
            label=label,
            window=window,
            timeline=len(prediction.windows) == 1,
            occlusion=overlay == "occlusion",
        )
    wave = services.sounds.waveform(backend, sound)
    audio, mime = components.playable(sound, prediction, wave)
    several = len(prediction.windows) > 1
    windows = prediction.windows if several else why.timeline
    shown = timeline_classes(windows, names, [*first, why.label], list(prediction.probabilities))
    cursor_player(
        sound.name,
        audio,
        mime,
        wave,
        why.log_mel,
        why.mel_hz,
        why.hop_s,
        key=key,
        overlay=_overlay(why, overlay),
        timeline=Timeline(windows, names, shown),
        shade=(why.start_s, why.end_s) if several else None,
        on_stretch=partial(_follow, key, digest) if several else None,
    )
    if audio is not sound.data:
        said = [*said, "Browsers cannot play this format, so you hear it as the model does: mono, at its rate."]
    st.caption(" ".join([*said, *_how_to_read(why, overlay, len(prediction.windows))]))
    return why


def _choices(
    prediction: Prediction, class_names: Sequence[str], first: Sequence[str], digest: str
) -> tuple[str | None, str, int]:
    """Class to explain (``None``: the stretch's own answer), what lies over the spectrogram, and the stretch."""
    likely = [name for name in dict.fromkeys(first) if name in class_names]
    several = len(prediction.windows) > 1
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = st.selectbox(
            "Class to explain",
            [*([OWN_ANSWER] if several else []), *likely, *sorted(set(class_names) - set(likely))],
            format_func=lambda name: words.plain(name) or "What the stretch answers",
            key=state.EXPLAINED.of(digest).name,
            width=240,
        )
        overlay = st.segmented_control(
            "Where it looked",
            list(OVERLAYS),
            format_func=OVERLAYS.__getitem__,
            default=state.OVERLAY.default,
            required=True,
            key=state.OVERLAY.name,
            persist_state="session",
            help="Grad-CAM reads it off the gradients, at once. Occlusion silences patches and asks again: seconds.",
        )
    window = _stretch(prediction, class_names, digest) if several else 0
    return label or None, str(overlay), window


def _stretch(prediction: Prediction, class_names: Sequence[str], digest: str) -> int:
    windows, chosen = prediction.windows, state.WINDOW.of(digest)
    chosen.start_with(clearest_window(prediction, class_names))
    return int(
        st.select_slider(
            "Stretch to explain",
            range(len(windows)),
            format_func=lambda index: words.span(windows[index].start_s, windows[index].end_s),
            key=chosen.name,
            help="Or double-click the probability lines below.",
        )
    )


def _follow(key: str, digest: str) -> None:
    """A double click on the player chooses the stretch nearest to it."""
    stretch = st.session_state[key]["stretch"]
    if stretch is not None:
        state.WINDOW.of(digest).set(int(stretch))


def _overlay(why: Explanation, overlay: str) -> Overlay | None:
    if overlay == "occlusion" and why.occlusion is not None:
        return Overlay(why.occlusion.map, why.start_s, why.end_s)
    return Overlay(why.stages[-1].cam, why.start_s, why.end_s) if overlay == "cam" else None


def _how_to_read(why: Explanation, overlay: str, windows: int) -> Iterator[str]:
    label = words.plain(why.label).lower()
    if overlay == "cam" and why.stages[-1].cam.any():
        yield f"Amber to magenta is what spoke more and more for {label}."
    elif overlay == "cam":
        yield f"Nothing in this stretch spoke for {label}, so nothing is coloured."
    if overlay == "occlusion" and (found := why.occlusion) is not None:
        yield (
            f"Amber to magenta is what {label} rests on: {found.patches} patches were silenced one by one. Without the "
            f"most telling one, at {words.span(*found.least_s)}, its probability goes from "
            f"{words.percent(found.probability)} to {words.percent(found.least)}."
        )
    if windows == 1:
        yield "Each point of the lines hears one second alone, so it is less sure than the answer from the whole."
    else:
        yield (
            f"Each point of the lines is one of {windows} stretches, and the answer the mean over them; the explained "
            "stretch is shaded."
        )
    yield "Click or drag to move the cursor; the space bar plays."


@st.fragment
def feature_maps(sound: Sound, why: Explanation) -> None:
    """What each stage of the network responded to: the mean over channels and single channels."""
    from core.figures.audio import feature_map_figure

    st.subheader("What the layers responded to", anchor=False)
    stage = _choose_stage(why)
    channels = _choose_channels(sound, why, stage)
    st.plotly_chart(
        feature_map_figure(stage, channels=channels, span_s=(why.start_s, why.end_s)),
        key="classify_maps",
        config=NO_TOOLS,
        alt=f"Feature maps of {plain_stage(stage.name)}: the mean over all channels and {len(channels)} single ones.",
    )
    st.caption(
        "The more a colour stands out from the page, the stronger the response there. Early stages follow edges of the "
        "spectrogram, later ones whole events, on a coarser grid (channels × frequency × time)."
    )


def _choose_stage(why: Explanation) -> Stage:
    name = st.segmented_control(
        "Stage",
        [stage.name for stage in why.stages],
        default=why.stages[-1].name,
        required=True,
        format_func=lambda name: stage_in_words(why.stage(name)),
        key=state.STAGE.name,
        persist_state="session",
    )
    return why.stage(name or why.stages[-1].name)


def _choose_channels(sound: Sound, why: Explanation, stage: Stage) -> list[int]:
    strongest = stage.strongest(len(stage.strength))
    return st.multiselect(
        "Channels",
        strongest,
        default=strongest[:CHANNELS_SHOWN],
        format_func=lambda channel: f"Channel {channel}",
        max_selections=CHANNELS_AT_MOST,
        key=f"{state.CHANNELS.of(sound.digest).name}_{stage.name}_{why.start_s:g}",
        help="Strongest first, by mean activation.",
        persist_state="page",
    )


def plain_stage(name: str) -> str:
    """``stage3`` → ``stage 3``."""
    return name.replace("stage", "stage ")


def stage_in_words(stage: Stage) -> str:
    """``stage 3 · 128 × 8 × 63``."""
    return f"{plain_stage(stage.name)} · {' × '.join(map(str, stage.maps.shape))}".capitalize()
