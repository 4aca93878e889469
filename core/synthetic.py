"""Sounds that are none of the classes, made from nothing: what a detector of unknown sounds must at least notice."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

import numpy as np
import scipy.signal
from numpy.typing import NDArray

Samples = NDArray[np.float32]
PEAK = 0.5
FORMANTS_HZ = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480))  # Peterson and Barney 1952


def tone(rate: int, seconds: float, rng: np.random.Generator) -> Samples:
    """A steady tone, 100 Hz to 8 kHz, with up to four harmonics."""
    hz = _log_uniform(rng, 100, 8_000)
    time_s = _time(rate, seconds)
    partials = [
        np.sin(2 * np.pi * hz * k * time_s) / k for k in range(1, int(rng.integers(1, 5)) + 1) if hz * k < rate / 2
    ]
    return _scaled(np.sum(partials, axis=0))


def sweep(rate: int, seconds: float, rng: np.random.Generator) -> Samples:
    """A sweep between two frequencies, up or down, linear or logarithmic."""
    low, high = _log_uniform(rng, 60, 800), _log_uniform(rng, 1_500, 14_000)
    start, end = (low, high) if rng.random() < 0.5 else (high, low)
    method = "linear" if rng.random() < 0.5 else "logarithmic"
    return _scaled(scipy.signal.chirp(_time(rate, seconds), start, seconds, end, method=method))


def coloured_noise(rate: int, seconds: float, rng: np.random.Generator) -> Samples:
    """Steady noise whose power falls as f^0 (white) to f^−3."""
    spectrum = np.fft.rfft(rng.standard_normal(round(rate * seconds)))
    hz = np.fft.rfftfreq(round(rate * seconds), 1 / rate)
    return _scaled(np.fft.irfft(spectrum * np.maximum(hz, 20) ** (-rng.uniform(0, 3) / 2)))


def clicks(rate: int, seconds: float, rng: np.random.Generator) -> Samples:
    """Single-sample clicks at random times, 1 to 30 a second."""
    out = np.zeros(round(rate * seconds))
    out[rng.integers(0, out.size, max(1, int(seconds * rng.uniform(1, 30))))] = rng.choice([-1.0, 1.0])
    return _scaled(out)


def silence(rate: int, seconds: float, rng: np.random.Generator) -> Samples:
    """The noise of an input with nothing plugged in: −70 to −95 dBFS."""
    level = 10 ** (rng.uniform(-95, -70) / 20)
    return np.asarray(level * rng.standard_normal(round(rate * seconds)), dtype=np.float32)


def speech_like(rate: int, seconds: float, rng: np.random.Generator) -> Samples:
    """A pulse train of wandering pitch through vowel formants, in syllables: the rhythm and spectrum of speech."""
    time_s = _time(rate, seconds)
    pitch = rng.uniform(90, 240) * 2 ** (0.15 * np.sin(2 * np.pi * rng.uniform(0.4, 1.2) * time_s + rng.uniform(0, 6)))
    source = scipy.signal.sawtooth(2 * np.pi * np.cumsum(pitch) / rate) + 0.05 * rng.standard_normal(time_s.size)
    vowels = [_vowel(source, rate, formants) for formants in FORMANTS_HZ]
    syllable = (time_s * rng.uniform(3, 5)).astype(int)
    choice = rng.integers(0, len(vowels), syllable.max() + 1)[syllable]
    envelope = np.sin(np.pi * ((time_s * (syllable.max() + 1) / seconds) % 1)) ** 0.5
    return _scaled(np.choose(choice, vowels) * envelope)


FAR: Mapping[str, Callable[[int, float, np.random.Generator], Samples]] = {
    "tone": tone,
    "sweep": sweep,
    "coloured noise": coloured_noise,
    "clicks": clicks,
    "silence": silence,
    "speech-like": speech_like,
}


def far_sounds(each: int, sample_rate_hz: int, *, seconds: float = 5.0, seed: int = 0) -> Iterator[tuple[str, Samples]]:
    """``each`` sounds of every kind, as (kind, samples); sound i of a kind is the same whatever ``each`` is."""
    for kind, (name, make) in enumerate(FAR.items()):
        for i in range(each):
            yield name, make(sample_rate_hz, seconds, np.random.default_rng([seed, kind, i]))


def _vowel(source: NDArray[np.float64], rate: int, formants_hz: tuple[int, ...]) -> NDArray[np.float64]:
    out = source
    for hz in formants_hz:
        b, a = scipy.signal.iirpeak(hz, Q=hz / 90, fs=rate)
        out = out + 4 * scipy.signal.lfilter(b, a, source)
    return np.asarray(out - source)


def _time(rate: int, seconds: float) -> NDArray[np.float64]:
    return np.arange(round(rate * seconds)) / rate


def _log_uniform(rng: np.random.Generator, low: float, high: float) -> float:
    return float(np.exp(rng.uniform(np.log(low), np.log(high))))


def _scaled(sound: NDArray[np.float64]) -> Samples:
    return np.asarray(PEAK * sound / max(float(np.abs(sound).max()), 1e-12), dtype=np.float32)
