"""Why: what the model heard, where it looked, what its layers responded to. Fragments: a choice redraws only them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING

import streamlit as st

from app import services, state, words
from app.components import NO_TOOLS, errors_shown
from app.services import Sound
from core.records import Prediction

if TYPE_CHECKING:
    from core.audio import Waveform
    from core.backend import Backend
    from core.explain import Explanation, Stage

TIMELINE_CLASSES = 6  # lines that are told apart at a glance
TIMELINE_LEADERS = 10  # where so many lead in turn: as many as the palette has colours
CHANNELS_SHOWN = 8
CHANNELS_AT_MOST = 16
CHART = "classify_heard"
OWN_ANSWER = ""  # the choice "whatever this stretch answers"


def clearest_window(prediction: Prediction, class_names: Sequence[str]) -> int:
    """The window most sure of the answer, from 0: the most telling one to explain first."""
    answer = class_names.index(prediction.label)
    return max(range(len(prediction.windows)), key=lambda index: prediction.windows[index].probabilities[answer])


def timeline_classes(prediction: Prediction, class_names: Sequence[str]) -> list[str]:
    """The answer, the classes that lead somewhere, then the next most probable ones."""
    leading = list(dict.fromkeys([prediction.label, *words.leaders(prediction, class_names)]))
    ranked = list(dict.fromkeys([*leading, *prediction.probabilities]))
    return ranked[: min(max(TIMELINE_CLASSES, len(leading)), TIMELINE_LEADERS)]


@st.fragment
def heard(backend: Backend, sound: Sound, prediction: Prediction, wave: Waveform) -> None:
    """Waveform, mel spectrogram and where the network looked; for long audio the answer over time."""
    st.subheader("What it heard, and where it looked", anchor=False)
    with errors_shown():
        chosen = state.WINDOW.of(sound.digest)
        window = _choose_window(chosen, prediction, backend.manifest.class_names)
        label, show_cam = _choose_class(sound, backend.manifest.class_names)
        with st.spinner("Looking where it looked…"):
            why = services.explanation(backend, sound, label=label, window=window)
        _sound_figure(chosen, prediction, wave, why, backend.manifest.class_names, show_cam=show_cam)
        feature_maps(sound, why)


def _choose_window(chosen: state.Key[int], prediction: Prediction, class_names: Sequence[str]) -> int:
    windows = prediction.windows
    if len(windows) == 1:
        return 0
    chosen.start_with(clearest_window(prediction, class_names))
    return int(
        st.select_slider(
            "Stretch to explain",
            range(len(windows)),
            format_func=lambda index: words.span(windows[index].start_s, windows[index].end_s),
            key=chosen.name,
            help="Or click a point of the probability lines below.",
        )
    )


def _choose_class(sound: Sound, class_names: Sequence[str]) -> tuple[str | None, bool]:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        label = st.selectbox(
            "Class to explain",
            [OWN_ANSWER, *sorted(class_names)],
            format_func=lambda name: words.plain(name) or "The answer",
            key=state.EXPLAINED.of(sound.digest).name,
            width=240,
        )
        show_cam = st.toggle("Show where it looked", value=state.SHOW_CAM.default, key=state.SHOW_CAM.name)
    return label or None, show_cam


def _sound_figure(
    chosen: state.Key[int],
    prediction: Prediction,
    wave: Waveform,
    why: Explanation,
    class_names: Sequence[str],
    *,
    show_cam: bool,
) -> None:
    from core.figures.audio import sound_figure

    windows = prediction.windows if len(prediction.windows) > 1 else ()
    st.plotly_chart(
        sound_figure(
            wave,
            why.log_mel,
            why.mel_hz,
            why.hop_s,
            start_s=why.start_s,
            end_s=why.end_s,
            cam=why.stages[-1].cam if show_cam else None,
            windows=windows,
            class_names=class_names,
            shown_classes=timeline_classes(prediction, class_names),
        ),
        key=CHART,
        on_select=partial(_follow_click, chosen) if windows else "ignore",
        selection_mode="points",
        alt=f"Waveform and mel spectrogram on one time axis; {why.start_s:g} to {why.end_s:g} s are explained.",
    )
    st.caption(" ".join(_how_to_read(why, show_cam=show_cam, windows=len(windows))))


def _follow_click(chosen: state.Key[int]) -> None:
    """A click on the timeline chooses the stretch: its points are the windows."""
    points = st.session_state[CHART]["selection"]["points"]
    if points:
        chosen.set(points[0]["point_index"])


def _how_to_read(why: Explanation, *, show_cam: bool, windows: int) -> Iterator[str]:
    yield "Colour gives the level of each pitch at each moment, low pitches at the bottom; the tools above it zoom."
    label = words.plain(why.label).lower()
    if show_cam and why.stages[-1].cam.any():
        yield f"Outlined, from amber to magenta, is what spoke more and more for {label} (Grad-CAM at the last stage)."
    elif show_cam:
        yield f"Nothing in this stretch spoke for {label} (Grad-CAM at the last stage), so nothing is outlined."
    if windows > 1:
        yield (
            f"The lines are the probability of each class, one point for each of {windows} stretches; the explained "
            "one is shaded. The answer is from the mean over all of them."
        )


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
