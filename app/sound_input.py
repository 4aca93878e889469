"""Where a sound comes from: a file, the microphone, or the dataset's sample clips."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING

import streamlit as st

from app import services, state, words
from app.services.sounds import Sound

if TYPE_CHECKING:
    from core.dataset import Clip, Dataset

TABS = (":material/upload_file: Upload", ":material/mic: Record", ":material/library_music: Sample clips")
RECORD_HZ = 44_100  # Streamlit's default of 16 kHz would cut away what the model listens to above 8 kHz
PILLS = 12  # more classes than this are easier to find in a list
ESC10_BYTES = 40e6  # the published archive


def sound_input(trained_on: str) -> Sound | None:
    """The sound of the open tab, or ``None`` while there is none.

    ``trained_on``: content hash of the dataset the model was trained on; its clips are marked so.
    """
    upload, record, samples = st.tabs(TABS, key=state.SOURCE.name, on_change="rerun")
    with upload:
        uploaded = _upload()
    with record:
        recorded = _record()
    with samples:
        sample = _sample(trained_on) if samples.open else None
    return sample if samples.open else recorded if record.open else uploaded


def _upload() -> Sound | None:
    given = services.environment.settings()
    file = st.file_uploader(  # of any extension: the content decides
        f"A sound file: wav, flac, ogg, opus, mp3, m4a, webm; up to {words.seconds(given.max_duration_s)}",
        max_upload_size=min(math.ceil(given.max_bytes / 2**20), st.get_option("server.maxUploadSize")),
        key=state.UPLOAD.name,
    )
    return Sound.of(file.name, file.getvalue()) if file else None


def _record() -> Sound | None:
    file = st.audio_input(
        "Press the microphone, then press it again to stop", sample_rate=RECORD_HZ, key=state.RECORDING.name
    )
    st.caption(
        f"Up to {words.seconds(_recordable_s())}. If the recorder asks for permission, allow the microphone in the "
        "browser's address bar and reload. Browsers offer it on https:// and localhost only, and may suppress steady "
        "noise such as rain."
    )
    return Sound.of(file.name, file.getvalue()) if file else None


def _recordable_s() -> float:
    """Browsers record 16 bits a sample, mono."""
    given = services.environment.settings()
    return min(given.max_duration_s, given.max_bytes // (2 * RECORD_HZ))


def _sample(trained_on: str) -> Sound | None:
    dataset = services.datasets.configured()
    if dataset is None:
        offer_download()
        return None
    clip = _choose(dataset)
    if about := " ".join(_about(dataset, trained_on)):
        st.caption(about)
    return services.sounds.read_sample(clip) if clip else None


def _about(dataset: Dataset, trained_on: str) -> Iterator[str]:
    if dataset.content_hash == trained_on:
        yield "The model was trained on clips of this dataset, so they show how it works, not how accurate it is."
    if dataset.name.startswith("ESC-10"):  # or its gold clips
        yield "The clips' authors and licences are listed in core/assets/attribution.csv."


def _choose(dataset: Dataset) -> Clip | None:
    by_class = services.datasets.samples(dataset)
    names, label = sorted(by_class), f"A clip from {dataset.name} of"
    if len(names) > PILLS:
        name = st.selectbox(
            label,
            names,
            index=None,
            format_func=words.plain,
            placeholder=f"Choose or type one of {len(names)} classes",
            key=state.SAMPLE_CLASS.name,
            persist_state="page",
        )
    else:
        name = st.pills(label, names, format_func=words.plain, key=state.SAMPLE_CLASS.name, persist_state="page")
    if name is None:
        return None
    takes = by_class[name]
    take = st.segmented_control(
        "Recording",
        range(len(takes)),
        default=state.SAMPLE_TAKE.default,
        required=True,
        format_func=lambda index: str(index + 1),
        key=f"{state.SAMPLE_TAKE.name}_{name}",
        persist_state="page",
    )
    return takes[take or 0]


def offer_download() -> None:
    """Say that there is no dataset, and fetch ESC-10 at a click."""
    target = services.environment.settings().data_dir
    st.markdown(
        f"There is no dataset at `{target}` yet. ESC-10 has 400 clips of ten classes ({words.megabytes(ESC10_BYTES)}, "
        "[CC BY](https://creativecommons.org/licenses/by/3.0/), K. J. Piczak 2015). "
        "The download is checked against known checksums."
    )
    if st.button("Download ESC-10", icon=":material/download:", key=state.DOWNLOAD.name):
        bar = st.progress(0.0, text="Connecting…")

        def show(done: int, total: int | None) -> None:
            bar.progress(min(done / (total or ESC10_BYTES), 1.0), text=f"Downloading: {words.megabytes(done)}")

        services.datasets.download(show)
        st.rerun()
