"""Sounds that people give, and what is known about one: the answer, why, how it holds under noise.

Results are keyed by the sha256 of a sound's bytes and the model's fingerprint, never by the samples: Streamlit hashes
large arrays from a sample of their elements.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from pathlib import PurePath
from typing import TYPE_CHECKING

import streamlit as st

from app import theme
from app.services import environment
from core.errors import AudioError, DatasetError
from core.records import Prediction

if TYPE_CHECKING:
    from core.audio import Waveform
    from core.backend import Backend
    from core.dataset import Clip
    from core.diagnostics.duplicates import SharedSound
    from core.diagnostics.noise import NoiseScan
    from core.explain import Explanation


@dataclass(frozen=True)
class Sound:
    """What a person gave: a file's name and bytes. Equal bytes have equal ``digest``s.

    ``truth``: what its dataset says it is, for sample clips.
    """

    name: str
    data: bytes = field(repr=False)
    digest: str
    truth: str | None = None

    @classmethod
    def of(cls, name: str, data: bytes, *, truth: str | None = None) -> Sound:
        return cls(name, data, hashlib.sha256(data).hexdigest(), truth)


def classify(backend: Backend, sound: Sound) -> Prediction:
    """Raises ``AudioError`` for what is not a usable sound."""
    return _classify(backend.name, backend.manifest.fingerprint, sound.digest, _backend=backend, _sound=sound)


@st.cache_resource(max_entries=128, show_spinner=False)
def _classify(name: str, fingerprint: str, digest: str, *, _backend: Backend, _sound: Sound) -> Prediction:
    answer = _backend.classify([_sound.data])[0]
    if isinstance(answer, AudioError):
        raise answer
    return answer


def waveform(backend: Backend, sound: Sound) -> Waveform:
    """The sound as the model hears it."""
    return _waveform(backend.manifest.fingerprint, sound.digest, _backend=backend, _sound=sound)


@st.cache_resource(max_entries=4, show_spinner=False)  # ten minutes at 32 kHz are 77 MB
def _waveform(fingerprint: str, digest: str, *, _backend: Backend, _sound: Sound) -> Waveform:
    from core.audio import decode
    from core.backend import LocalBackend

    if isinstance(_backend, LocalBackend):
        return _backend.waveform(_sound.data)
    return decode(_sound.data, audio=_backend.manifest.audio, limits=environment.settings().limits)


def explanation(
    backend: Backend,
    sound: Sound,
    *,
    label: str | None,
    window: int,
    timeline: bool = False,
    occlusion: bool = False,
) -> Explanation:
    """Why ``label``, or the window's own answer when ``None``."""
    key = (backend.name, backend.manifest.fingerprint, sound.digest, label, window, timeline, occlusion)
    return _explanation(*key, _backend=backend, _sound=sound)


@st.cache_resource(max_entries=24, show_spinner=False)  # about 3 MB each
def _explanation(
    name: str,
    fingerprint: str,
    digest: str,
    label: str | None,
    window: int,
    timeline: bool,
    occlusion: bool,
    *,
    _backend: Backend,
    _sound: Sound,
) -> Explanation:
    return _backend.explain(_sound.data, label=label, window=window, timeline=timeline, occlusion=occlusion)


def picture(backend: Backend, sound: Sound, window: int) -> bytes:
    """The whole result as PNG, explained at ``window``. Safe to call outside a script run, as downloads are."""
    from core.figures.picture import result_picture

    why = explanation(backend, sound, label=None, window=window)
    return result_picture(classify(backend, sound), waveform(backend, sound), why, palette=theme.palette())


def read_sample(clip: Clip) -> Sound:
    """Raises ``DatasetError`` when the clip's file has gone."""
    try:
        return Sound.of(clip.filename, clip.path.read_bytes(), truth=clip.label)
    except OSError as exc:
        raise DatasetError(
            f"Expected the clip {clip.filename} in the dataset, but it cannot be read ({exc.strerror}). "
            "Restore the dataset folder, or choose another clip.",
            code="unreadable_clip",
        ) from exc


def clip_sound(clip_id: str) -> Sound | None:
    """The sound of a record: a clip of the configured dataset, or one kept with the log; else ``None``.

    Raises ``StoreError``.
    """
    clip = dataset_clip(clip_id)
    if clip is not None:
        return clip
    kept = environment.store().sound(clip_id)
    return None if kept is None else Sound.of(clip_id, kept)


def dataset_clip(clip_id: str) -> Sound | None:
    """The clip of that file name in the configured dataset, or ``None``; no name reaches out of its folder."""
    path = environment.settings().data_dir / "audio" / clip_id
    if PurePath(clip_id).name != clip_id or not path.is_file():
        return None
    return Sound.of(clip_id, path.read_bytes())


def noise_scan(backend: Backend, sound: Sound) -> NoiseScan:
    """At which SNR the answer to ``sound`` flips. Raises ``AudioError``."""
    return _noise_scan(backend.manifest.fingerprint, sound.digest, _backend=backend, _sound=sound)


@st.cache_resource(max_entries=64, show_spinner=False)
def _noise_scan(fingerprint: str, digest: str, *, _backend: Backend, _sound: Sound) -> NoiseScan:
    from core.diagnostics.noise import scan_noise

    wave = waveform(_backend, _sound)
    return scan_noise(_backend.classify, wave.samples, wave.sample_rate_hz)


def shared_sound(clip_a: str, clip_b: str) -> SharedSound | None:
    """Whether the waveforms of two clips share stretches; ``None`` where a sound is not here or cannot be read."""
    a, b = clip_sound(clip_a), clip_sound(clip_b)
    return None if a is None or b is None else _shared_sound(a.digest, b.digest, _a=a, _b=b)


@st.cache_resource(max_entries=1_000, show_spinner=False)
def _shared_sound(digest_a: str, digest_b: str, *, _a: Sound, _b: Sound) -> SharedSound | None:
    from core.audio import decode
    from core.config import AudioConfig
    from core.diagnostics.duplicates import shared_sound

    audio, limits = AudioConfig(), environment.settings().limits
    try:
        one, other = (decode(sound.data, audio=audio, limits=limits) for sound in (_a, _b))
    except AudioError:
        return None
    return shared_sound(one.samples, other.samples, audio.sample_rate_hz)
