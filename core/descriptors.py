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
ROLLOFF = 0.85  # share of energy below the rolloff; librosa's default
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
    """Every entry of ``DESCRIPTORS`` for ``samples`` (N,), N ≥ 1."""
    rms, peak = float(np.sqrt(np.mean(np.square(samples, dtype=np.float64)))), float(np.abs(samples).max())
    values = {
        "rms_dbfs": _decibel(rms),
        "peak_dbfs": _decibel(peak),
        "loudness_lufs": _loudness(samples, sample_rate_hz),
        "crest_factor_db": _decibel(peak / rms) if rms > 0 else math.nan,
        "zero_crossing_rate": float(np.mean(np.signbit(samples[1:]) != np.signbit(samples[:-1])))
        if samples.size > 1 and peak > 0
        else math.nan,
    }
    values |= _spectral(_power_frames(samples), sample_rate_hz)
    return {name: values.get(name, math.nan) for name in NAMES}


def _decibel(amplitude: float) -> float:
    return 20 * math.log10(amplitude) if amplitude > 0 else math.nan


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


def _power_frames(samples: NDArray[np.float32]) -> NDArray[np.float32]:
    """Hann-windowed power spectra, (T, FRAME / 2 + 1); a shorter sound is one zero-padded frame."""
    padded = np.pad(samples, (0, max(0, FRAME - samples.size)))
    frames = np.lib.stride_tricks.sliding_window_view(padded, FRAME)[::HOP]
    spectrum = scipy.fft.rfft(frames * _window(), axis=1)
    return np.asarray(spectrum.real**2 + spectrum.imag**2)


@lru_cache(maxsize=1)
def _window() -> NDArray[np.float32]:
    return np.hanning(FRAME + 1)[:-1].astype(np.float32)


def _spectral(power: NDArray[np.float32], sample_rate_hz: int) -> dict[str, float]:
    energy = power.sum(axis=1)
    if energy.max() <= QUIETEST_POWER:
        return {"active_fraction": 0.0}
    active = energy > energy.max() * 10 ** (-ACTIVE_DB / 10)
    power = power[active]
    magnitude = np.sqrt(power)
    share = magnitude / magnitude.sum(axis=1, keepdims=True)
    hz = np.linspace(0, sample_rate_hz / 2, power.shape[1], dtype=np.float32)
    centroid = share @ hz
    variance = np.maximum(share @ hz**2 - centroid**2, 0)
    below = (np.cumsum(share, axis=1) < ROLLOFF).sum(axis=1)
    geometric = np.exp(np.log(np.maximum(power, 1e-10)).mean(axis=1))
    bands = power.mean(axis=0) @ _mel_bands(sample_rate_hz) / FRAME
    return {
        "spectral_centroid_hz": float(centroid.mean()),
        "spectral_bandwidth_hz": float(np.sqrt(variance).mean()),
        "spectral_rolloff_hz": float(hz[np.minimum(below, hz.size - 1)].mean()),
        "spectral_flatness": float((geometric / np.maximum(power, 1e-10).mean(axis=1)).mean()),
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
