"""What the world does to recordings: named degradations, and how accuracy holds up under each.

Each is a pure function of (samples, rate, rng). They are applied to held-out clips of models that never saw them; none
of them is what training draws from, though noise and band limits are of the same kind.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Mapping, Sequence

import av
import numpy as np
import scipy.signal
from numpy.typing import NDArray

from core.audio import decode
from core.config import AudioConfig

Samples = NDArray[np.float32]
Degradation = Callable[[Samples, int, np.random.Generator], Samples]

FILTER_ORDER = 10
CROP_S = 1.0
OVERDRIVE_DB = 20.0


def unchanged(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    return samples


def add_noise(snr_db: float) -> Degradation:
    """White noise ``snr_db`` under the clip's mean power."""

    def degrade(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
        level = np.sqrt(np.mean(np.square(samples, dtype=np.float64))) * 10 ** (-snr_db / 20)
        return (samples + level * rng.standard_normal(samples.size)).astype(np.float32)

    return degrade


def low_pass(edge_hz: float) -> Degradation:
    """Nothing above ``edge_hz``: a Butterworth filter of order ``FILTER_ORDER``."""

    def degrade(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
        sections = scipy.signal.butter(FILTER_ORDER, edge_hz, fs=sample_rate_hz, output="sos")
        return np.asarray(scipy.signal.sosfilt(sections, samples), dtype=np.float32)

    return degrade


def gain(gain_db: float) -> Degradation:
    """A level that float samples hold without clipping."""

    def degrade(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
        return (samples * 10 ** (gain_db / 20)).astype(np.float32)

    return degrade


def clip(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """Peak brought to full scale, then driven ``OVERDRIVE_DB`` past it."""
    peak = max(float(np.abs(samples).max()), 1e-9)
    return np.clip(samples / peak * 10 ** (OVERDRIVE_DB / 20), -1, 1).astype(np.float32)


def crop(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
    """One second of what is not digital silence, anywhere."""
    length = min(round(CROP_S * sample_rate_hz), samples.size)
    sounding = np.flatnonzero(np.abs(samples) > 1e-4)
    first, last = (int(sounding[0]), int(sounding[-1])) if sounding.size else (0, samples.size)
    highest = max(first, min(last, samples.size) - length)
    start = min(int(rng.integers(first, highest + 1)), samples.size - length)
    return samples[start : start + length]


def mp3(bit_rate: int) -> Degradation:
    """Through an MP3 encoder and back through the front door."""

    def degrade(samples: Samples, sample_rate_hz: int, rng: np.random.Generator) -> Samples:
        data = encode_mp3(samples, sample_rate_hz, bit_rate)
        return decode(data, audio=AudioConfig(sample_rate_hz=sample_rate_hz)).samples

    return degrade


def encode_mp3(samples: Samples, sample_rate_hz: int, bit_rate: int) -> bytes:
    """Mono MP3 at a constant ``bit_rate`` in bits per second; ``sample_rate_hz`` is one that MP3 knows."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp3") as container:
        stream = container.add_stream("libmp3lame", rate=sample_rate_hz, layout="mono")
        stream.bit_rate = bit_rate
        frame = av.AudioFrame.from_ndarray(np.clip(samples, -1, 1)[None], format="fltp", layout="mono")
        frame.sample_rate = sample_rate_hz
        fit = av.AudioResampler(format="fltp", layout="mono", rate=sample_rate_hz, frame_size=1152)
        for part in [*fit.resample(frame), *fit.resample(None)]:
            container.mux(stream.encode(part))
        container.mux(stream.encode(None))
    return buffer.getvalue()


CONDITIONS: Mapping[str, Degradation] = {
    "as recorded": unchanged,
    "white noise, 20 dB SNR": add_noise(20),
    "white noise, 10 dB SNR": add_noise(10),
    "white noise, 0 dB SNR": add_noise(0),
    "low-pass 8 kHz": low_pass(8_000),
    "low-pass 4 kHz": low_pass(4_000),
    "20 dB louder": gain(20),
    "20 dB quieter": gain(-20),
    "clipped (20 dB overdrive)": clip,
    "MP3, 64 kbit/s": mp3(64_000),
    "1 s crop": crop,
}

# Signal-to-noise ratio of the conditions that are noise, and of none at all.
SNRS_DB: Mapping[str, float] = {"as recorded": math.inf} | {f"white noise, {snr} dB SNR": snr for snr in (20, 10, 0)}


def degraded(name: str, sounds: Sequence[Samples], sample_rate_hz: int, *, seed: int = 0) -> list[Samples]:
    """Every sound under the condition ``name``; sound i sees the same random numbers whatever the others are."""
    degrade = CONDITIONS[name]
    return [degrade(sound, sample_rate_hz, np.random.default_rng([seed, i])) for i, sound in enumerate(sounds)]
