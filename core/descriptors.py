"""What a sound is like, in numbers that people and drift tests can follow. One short-time spectrum serves them all.

Spectral descriptors are means over the frames that carry sound (within ``ACTIVE_DB`` of the loudest), so that padding
does not move them. Where a descriptor has no meaning (silence) it is nan, never 0.
"""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import NamedTuple

import librosa
import numpy as np
import pyloudnorm
import scipy.fft
from numpy.typing import NDArray

FRAME, HOP = 2048, 1024  # samples; at 32 kHz 64 ms and 32 ms
ACTIVE_DB = 60.0
ROLLOFF = 0.85  # share of the magnitude below the rolloff; librosa's default
FLATNESS_FLOOR = 1e-10  # power; librosa's default
FRAMES_AT_ONCE = 64  # fits the processor's cache, and bounds memory on long audio
MEL_BANDS = 8  # broad: an octave or so each
LOUDNESS_BLOCK_S = 0.4  # ITU-R BS.1770: shorter sounds have no loudness
QUIETEST_POWER = 1e-20


class Descriptor(NamedTuple):
    name: str
    unit: str
    meaning: str


DESCRIPTORS = (
    Descriptor("rms_dbfs", "dBFS", "level of the whole clip; a full-scale square wave is 0"),
    Descriptor("peak_dbfs", "dBFS", "largest absolute sample"),
    Descriptor("loudness_lufs", "LUFS", "integrated loudness, ITU-R BS.1770-4"),
    Descriptor("crest_factor_db", "dB", "peak over RMS: clicks are high, steady noise is low"),
    Descriptor("spectral_centroid_hz", "Hz", "centre of gravity of the magnitude spectrum: brightness"),
    Descriptor("spectral_bandwidth_hz", "Hz", "spread of the magnitude spectrum around its centroid"),
    Descriptor("spectral_rolloff_hz", "Hz", "frequency below which 85 % of the magnitude lies"),
    Descriptor("spectral_flatness", "0–1", "geometric over arithmetic mean of the power spectrum: 1 noise, 0 tone"),
    Descriptor("zero_crossing_rate", "0–1", "share of neighbouring samples of opposite sign"),
    Descriptor("active_fraction", "0–1", "share of frames within 60 dB of the loudest"),
    *(
        Descriptor(
            f"mel_band_{band}_db", "dB", f"mean power in the {band}. of {MEL_BANDS} equal mel bands, low to high"
        )
        for band in range(1, MEL_BANDS + 1)
    ),
)
NAMES = tuple(descriptor.name for descriptor in DESCRIPTORS)


def describe(samples: NDArray[np.float32], sample_rate_hz: int) -> dict[str, float]:
    """Every entry of ``DESCRIPTORS`` for ``samples`` (N,), N ≥ 1, |samples| ≤ 2³²."""
    values = _levels(samples, sample_rate_hz)
    values |= _spectral(_frame_spectra(samples, sample_rate_hz))
    return {name: values.get(name, math.nan) for name in NAMES}


def spreads(samples: NDArray[np.float32], sample_rate_hz: int) -> dict[str, float]:
    """How much ``samples`` (N,) change over time, among the frames that carry sound; nan where none does.

    ``centroid_spread_hz`` and ``rms_spread_db`` are standard deviations of a frame's spectral centroid and level.
    """
    frames = _frame_spectra(samples, sample_rate_hz)
    loudest = frames.energy.max()
    if loudest <= QUIETEST_POWER:
        return {"centroid_spread_hz": math.nan, "rms_spread_db": math.nan}
    active = frames.energy > loudest * 10 ** (-ACTIVE_DB / 10)
    return {
        "centroid_spread_hz": float(frames.centroid_hz[active].std()),
        "rms_spread_db": float((10 * np.log10(frames.energy[active])).std()),
    }


def _levels(samples: NDArray[np.float32], sample_rate_hz: int) -> dict[str, float]:
    peak = float(np.abs(samples).max())
    if peak == 0:
        return {}
    rms = peak * math.sqrt(np.mean(np.square(samples / peak, dtype=np.float64)))  # scaled: no square underflows
    values = {
        "rms_dbfs": 20 * math.log10(rms),
        "peak_dbfs": 20 * math.log10(peak),
        "loudness_lufs": _loudness(samples, sample_rate_hz),
        "crest_factor_db": 20 * math.log10(peak / rms),
    }
    if samples.size > 1:
        negative = samples < 0  # not the sign bit: resampled silence holds zeros of either sign
        values["zero_crossing_rate"] = float(np.mean(negative[1:] != negative[:-1]))
    return values


def _loudness(samples: NDArray[np.float32], sample_rate_hz: int) -> float:
    if samples.size < LOUDNESS_BLOCK_S * sample_rate_hz:
        return math.nan
    with warnings.catch_warnings(), np.errstate(divide="ignore", invalid="ignore"):
        warnings.simplefilter("ignore")  # log of zero for silence, which ends as nan below
        value = float(_meter(sample_rate_hz).integrated_loudness(samples.astype(np.float64)))
    return value if math.isfinite(value) else math.nan


@lru_cache(maxsize=8)
def _meter(sample_rate_hz: int) -> pyloudnorm.Meter:
    return pyloudnorm.Meter(sample_rate_hz, block_size=LOUDNESS_BLOCK_S)


class _Spectra(NamedTuple):
    """One value a frame, (T,), but ``bands`` (T, ``MEL_BANDS``)."""

    energy: NDArray[np.float32]
    centroid_hz: NDArray[np.float32]
    bandwidth_hz: NDArray[np.float32]
    rolloff_hz: NDArray[np.float32]
    flatness: NDArray[np.float32]
    bands: NDArray[np.float32]


def _frame_spectra(samples: NDArray[np.float32], sample_rate_hz: int) -> _Spectra:
    """Measures of Hann-windowed frames; a shorter sound is one zero-padded frame."""
    padded = np.pad(samples, (0, max(0, FRAME - samples.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    chunks = [
        _measure(frames[start : start + FRAMES_AT_ONCE], sample_rate_hz)
        for start in range(0, len(frames), FRAMES_AT_ONCE)
    ]
    return _Spectra(*(np.concatenate(column) for column in zip(*chunks, strict=True)))


def _measure(frames: NDArray[np.float32], sample_rate_hz: int) -> _Spectra:
    spectrum = scipy.fft.rfft(frames * _window(), axis=1)
    power = np.square(spectrum.real) + np.square(spectrum.imag)  # (T, FRAME / 2 + 1)
    energy = power.sum(axis=1)
    magnitude = np.sqrt(power)
    total = np.maximum(magnitude.sum(axis=1), np.finfo(np.float32).tiny)
    hz = np.linspace(0, sample_rate_hz / 2, power.shape[1], dtype=np.float32)
    centroid = magnitude @ hz / total
    deviation = hz - centroid[:, None]  # taken before squaring: E[f²] − E[f]² loses narrow spectra in float32
    variance = np.einsum("tf,tf,tf->t", magnitude, deviation, deviation) / total
    below = np.cumsum(magnitude, axis=1) < ROLLOFF * total[:, None]
    rolloff = np.minimum(np.count_nonzero(below, axis=1), hz.size - 1)
    floored = np.maximum(power, FLATNESS_FLOOR)
    return _Spectra(
        energy=energy,
        centroid_hz=centroid,
        bandwidth_hz=np.sqrt(variance),
        rolloff_hz=hz[rolloff],
        flatness=np.exp(np.log(floored).mean(axis=1)) / floored.mean(axis=1),
        bands=power @ _mel_bands(sample_rate_hz) / FRAME,
    )


@lru_cache(maxsize=1)
def _window() -> NDArray[np.float32]:
    return np.hanning(FRAME + 1)[:-1].astype(np.float32)


def _spectral(frames: _Spectra) -> dict[str, float]:
    """Means over the frames that carry sound."""
    loudest = frames.energy.max()
    if loudest <= QUIETEST_POWER:
        return {"active_fraction": 0.0}
    active = frames.energy > loudest * 10 ** (-ACTIVE_DB / 10)
    bands = frames.bands[active].mean(axis=0)
    return {
        "spectral_centroid_hz": float(frames.centroid_hz[active].mean()),
        "spectral_bandwidth_hz": float(frames.bandwidth_hz[active].mean()),
        "spectral_rolloff_hz": float(frames.rolloff_hz[active].mean()),
        "spectral_flatness": float(frames.flatness[active].mean()),
        "active_fraction": float(active.mean()),
        **{f"mel_band_{band}_db": 10 * math.log10(max(level, 1e-12)) for band, level in enumerate(bands, start=1)},
    }


@lru_cache(maxsize=8)
def _mel_bands(sample_rate_hz: int) -> NDArray[np.float32]:
    """Means over ``MEL_BANDS`` stretches of equal mel width, 0 Hz to half the rate: (bins, bands)."""
    edges = librosa.mel_frequencies(MEL_BANDS + 1, fmin=0, fmax=sample_rate_hz / 2)
    hz = np.linspace(0, sample_rate_hz / 2, FRAME // 2 + 1)
    member = (hz[:, None] >= edges[:-1]) & (hz[:, None] < edges[1:])
    member[-1, -1] = True
    return np.asarray(member / member.sum(axis=0), dtype=np.float32)
