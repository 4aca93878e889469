"""Many sounds answered at once, as records: files that people give, and clips degraded on purpose."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, TypeVar

import streamlit as st

from app.services import environment
from core.errors import AudioError
from core.records import Prediction

if TYPE_CHECKING:
    from core.backend import Backend
    from core.dataset import Dataset
    from core.drift_demo import Degrading
    from core.recordset import RecordSet

T = TypeVar("T")
AT_ONCE = 8  # sounds between two signs of progress
REFUSED = {  # codes of ``AudioError`` in plain words
    "not_audio": "files that are no sounds",
    "corrupt": "damaged sounds",
    "empty_file": "empty or damaged files",
    "too_short": "sounds under 0.25 s",
    "too_long": "sounds that are too long",
}


@dataclass(frozen=True)
class HeardFiles:
    """Records of the files that are sounds, out of ``n_names``, and why the others are not, counted."""

    records: RecordSet
    n_names: int
    left_out: tuple[tuple[str, int], ...]


def files(
    backend: Backend, files: Sequence[tuple[str, bytes]], digest: str, progress: Callable[[int, int], None]
) -> HeardFiles:
    """Answers to the sounds among ``files`` and in the zips among them; the same files are heard once.

    Raises ``RecordsError`` for a zip that cannot be opened, ``LimitError`` for too much.
    """
    from core.dropped import of_upload

    kept = _files(backend.manifest.fingerprint, digest)
    if not kept:
        found = of_upload(files, max_bytes=environment.settings().max_bytes)
        sounds = ((file.name, file.read()) for file in found.files)
        answers, refused = _hear(backend, sounds, len(found.files), progress)
        left_out = tuple((Counter(dict(found.left_out)) + refused).most_common())
        kept.append(HeardFiles(_as_records(answers, backend, f"{len(answers):,} sounds"), found.n_names, left_out))
    return kept[0]


@st.cache_resource(max_entries=4, show_spinner=False)
def _files(fingerprint: str, digest: str) -> list[HeardFiles]:
    """A place for one result, filled outside: what draws progress cannot be cached."""
    return []


def degraded(
    backend: Backend, dataset: Dataset, degrading: Degrading, progress: Callable[[int, int], None]
) -> RecordSet:
    """The demo's clips, degraded now and answered by the model that answers here; the same are heard once."""
    from core.audio import decode
    from core.drift_demo import degraded_sound, demo_clips
    from core.recordset import TRAINED_ON

    def waveform_of(data: bytes) -> tuple[Any, int]:
        wave = decode(data, audio=backend.manifest.audio, limits=environment.settings().limits)
        return wave.samples, wave.sample_rate_hz

    kept = _degraded(backend.manifest.fingerprint, dataset.content_hash, degrading)
    if not kept:
        clips = demo_clips(dataset)
        sounds = ((clip.filename, degraded_sound(clip, degrading, waveform_of)) for clip in clips)
        answers, _ = _hear(backend, sounds, len(clips), progress)
        heard = _as_records(answers, backend, "degraded clips")
        known = demo_reference()
        if known.fingerprint == heard.fingerprint:
            heard.table[TRAINED_ON] = heard.table["name"].isin(known.table["clip_id"])
        kept.append(heard)
    return kept[0]


@st.cache_resource(max_entries=8, show_spinner=False)
def _degraded(fingerprint: str, dataset_hash: str, degrading: Degrading) -> list[RecordSet]:
    """A place for one result, as above."""
    return []


@st.cache_resource(max_entries=8, show_spinner=False)
def demo(condition: str) -> RecordSet:
    """Clips degraded on purpose, as the shipped model answered them. Raises ``RecordsError``."""
    from core.drift_demo import recorded_demo

    return recorded_demo(condition)


@st.cache_resource(max_entries=1, show_spinner=False)
def demo_reference() -> RecordSet:
    """All clips of the demo as recorded, answered by the same model."""
    from core.drift_demo import recorded_reference

    return recorded_reference()


def _as_records(answers: Sequence[tuple[str, Prediction]], backend: Backend, title: str) -> RecordSet:
    from core.sources import of_answers

    return of_answers(answers, backend.manifest, title=title)


def _hear(
    backend: Backend, sounds: Iterable[tuple[str, bytes]], total: int, progress: Callable[[int, int], None]
) -> tuple[list[tuple[str, Prediction]], Counter[str]]:
    """Answers in order, a few sounds at a time; what is no usable sound is counted by reason."""
    answers: list[tuple[str, Prediction]] = []
    refused: Counter[str] = Counter()
    for done, batch in enumerate(batched(sounds, AT_ONCE)):
        progress(done * AT_ONCE, total)
        for (name, _), answer in zip(batch, backend.classify([data for _, data in batch]), strict=True):
            if isinstance(answer, AudioError):
                refused[REFUSED.get(answer.code, f"sounds that cannot be heard ({answer.code})")] += 1
            else:
                answers.append((name, answer))
    progress(total, total)
    return answers, refused


def batched(things: Iterable[T], size: int) -> Iterator[list[T]]:
    """Lists of ``size`` in order, the last one shorter."""
    rest = iter(things)
    while batch := list(islice(rest, size)):
        yield batch
