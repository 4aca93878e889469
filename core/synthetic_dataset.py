"""A dataset in ESC-50's layout, made from nothing: to try training, evaluation and the pages without a download.

    python -m core synthesize --to DIR

A class is a timbre with a rhythm: ten timbres times five rhythms make fifty. Every recording draws its own pitch, rate
and level within its class, and is cut into takes, as ESC-50's clips are cut from Freesound's.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

import numpy as np
import scipy.signal
from numpy.typing import NDArray

from core.audio import write_wav
from core.dataset import TABLE
from core.errors import DatasetError

RATE_HZ = 44_100  # as ESC-50
FOLDS = 5
TAKES = 2  # clips cut from one recording, at most
FIRST_SOURCE = 100_001
LEVEL_DBFS = (-20.0, -1.0)  # peak of a recording
NOISE_DB = (-50.0, -30.0)  # of the background, re that peak
COLUMNS = ("filename", "fold", "target", "category", "esc10", "src_file", "take")

Signal = NDArray[np.float64]
Part = Callable[[Signal, np.random.Generator], Signal]  # times in seconds → samples


def low_hum(time_s: Signal, rng: np.random.Generator) -> Signal:
    return _harmonics(time_s, rng.uniform(90, 120), range(1, 7))


def reed(time_s: Signal, rng: np.random.Generator) -> Signal:
    return np.asarray(scipy.signal.sawtooth(2 * np.pi * rng.uniform(240, 310) * time_s))


def bell(time_s: Signal, rng: np.random.Generator) -> Signal:
    return _harmonics(time_s, rng.uniform(500, 620), (1, 2.76, 5.4, 8.93))  # modes of a free bar: not harmonic


def whistle(time_s: Signal, rng: np.random.Generator) -> Signal:
    return _harmonics(time_s, rng.uniform(1_900, 2_400), [1])


def beep(time_s: Signal, rng: np.random.Generator) -> Signal:
    return _harmonics(time_s, rng.uniform(4_200, 5_200), [1])


def siren(time_s: Signal, rng: np.random.Generator) -> Signal:
    """A tone that wanders over an octave."""
    turns = np.sin(2 * np.pi * (rng.uniform(1.5, 2) * time_s + rng.random()))
    hz = rng.uniform(800, 1_000) * 2 ** (0.5 * turns)
    return np.asarray(np.sin(2 * np.pi * np.cumsum(hz) * (time_s[1] - time_s[0])))


def rumble(time_s: Signal, rng: np.random.Generator) -> Signal:
    return _noise(time_s, rng, 40, rng.uniform(150, 220))


def band_noise(time_s: Signal, rng: np.random.Generator) -> Signal:
    centre_hz = rng.uniform(800, 1_100)
    return _noise(time_s, rng, centre_hz / 1.4, centre_hz * 1.4)


def high_hiss(time_s: Signal, rng: np.random.Generator) -> Signal:
    return _noise(time_s, rng, rng.uniform(5_000, 6_500), 15_000)


def crackle(time_s: Signal, rng: np.random.Generator) -> Signal:
    """Short bursts of white noise, forty to eighty a second."""
    hits = (rng.random(time_s.size) < rng.uniform(40, 80) * (time_s[1] - time_s[0])) * rng.uniform(0.3, 1, time_s.size)
    tail = np.exp(-np.arange(90) / 20) * rng.standard_normal(90)
    return np.asarray(scipy.signal.fftconvolve(hits, tail)[: time_s.size])


def steady(time_s: Signal, rng: np.random.Generator) -> Signal:
    return np.ones_like(time_s)


def pulsing(time_s: Signal, rng: np.random.Generator) -> Signal:
    """On and off, two to three times a second."""
    return np.asarray(1 / (1 + np.exp(-20 * np.sin(2 * np.pi * (rng.uniform(2.2, 3) * time_s + rng.random())))))


def fluttering(time_s: Signal, rng: np.random.Generator) -> Signal:
    """Up and down, nine to thirteen times a second."""
    return np.asarray(0.52 + 0.48 * np.sin(2 * np.pi * (rng.uniform(9, 13) * time_s + rng.random())))


def swelling(time_s: Signal, rng: np.random.Generator) -> Signal:
    """From 40 dB below to full level, then again."""
    return np.asarray(10 ** (-2 * (1 - _phase(time_s, rng))))


def struck(time_s: Signal, rng: np.random.Generator) -> Signal:
    """At full level at once, then down by 40 dB, then again."""
    return np.asarray(10 ** (-2 * _phase(time_s, rng)))


TIMBRES: tuple[Part, ...] = (low_hum, reed, bell, whistle, beep, siren, rumble, band_noise, high_hiss, crackle)
RHYTHMS: tuple[Part, ...] = (steady, pulsing, fluttering, swelling, struck)
# target → name and how it is made; ten timbres of one rhythm, then of the next: any number of classes from two on is
# varied in what it sounds like
CLASSES: Mapping[str, tuple[Part, Part]] = {
    f"{rhythm.__name__}_{timbre.__name__}": (timbre, rhythm) for rhythm, timbre in product(RHYTHMS, TIMBRES)
}


def write_dataset(
    root: Path, *, classes: int = len(CLASSES), clips_per_fold: int = 2, seconds: float = 2.0, seed: int = 0
) -> None:
    """Write 5 · ``classes`` · ``clips_per_fold`` clips of 16-bit wav and their table into ``root``, new or empty.

    The table comes last, so a folder that was left half written is never taken for a dataset. Equal arguments give
    equal bytes. Raises ``DatasetError`` for numbers out of range, a folder in use and a disk that cannot be written.
    """
    if not 2 <= classes <= len(CLASSES) or clips_per_fold < 1 or not 0.25 <= seconds <= 60:
        raise DatasetError(
            f"Expected 2 to {len(CLASSES)} classes, at least 1 clip a fold and 0.25 to 60 seconds, got {classes}, "
            f"{clips_per_fold} and {seconds:g}. Choose within these.",
            code="out_of_range",
        )
    try:
        if root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise DatasetError(f"Expected a new or an empty folder, {root} is in use. Name another.", code="in_the_way")
        (root / "audio").mkdir(parents=True)
        (root / TABLE).parent.mkdir()
        table = io.StringIO()
        writer = csv.writer(table, lineterminator="\n")
        writer.writerow(COLUMNS)
        for row, samples in _clips(classes, clips_per_fold, seconds, seed):
            (root / "audio" / str(row[0])).write_bytes(write_wav(samples.astype(np.float32), RATE_HZ))
            writer.writerow(row)
        (root / TABLE).write_text(table.getvalue(), encoding="utf-8")
    except OSError as exc:
        raise DatasetError(
            f"Expected to write a dataset into {root}, got {exc.strerror or exc}. Remove what is there, then free "
            "space or choose another folder.",
            code="disk",
        ) from exc


def _clips(classes: int, clips_per_fold: int, seconds: float, seed: int) -> Iterator[tuple[list[object], Signal]]:
    """Every clip as its line of the table and its samples; takes of one recording follow each other."""
    source = FIRST_SOURCE
    for fold, (target, name) in product(range(1, FOLDS + 1), enumerate(list(CLASSES)[:classes])):
        for first in range(0, clips_per_fold, TAKES):
            rng = np.random.default_rng([seed, fold, target, first])
            takes = min(TAKES, clips_per_fold - first)
            for letter, samples in zip("AB", np.split(_recording(name, takes, seconds, rng), takes), strict=False):
                yield [f"{fold}-{source}-{letter}-{target}.wav", fold, target, name, False, source, letter], samples
            source += 1


def _recording(name: str, takes: int, seconds: float, rng: np.random.Generator) -> Signal:
    timbre, rhythm = CLASSES[name]
    time_s = np.arange(takes * round(seconds * RATE_HZ)) / RATE_HZ
    sound = timbre(time_s, rng) * rhythm(time_s, rng)
    sound = sound / np.abs(sound).max() + 10 ** (rng.uniform(*NOISE_DB) / 20) * rng.standard_normal(time_s.size)
    return np.asarray(sound / np.abs(sound).max() * 10 ** (rng.uniform(*LEVEL_DBFS) / 20))


def _harmonics(time_s: Signal, hz: float, ratios: Iterable[float]) -> Signal:
    return np.asarray(sum(np.sin(2 * np.pi * hz * ratio * time_s) / ratio for ratio in ratios))


def _noise(time_s: Signal, rng: np.random.Generator, low_hz: float, high_hz: float) -> Signal:
    band = scipy.signal.butter(4, (low_hz, high_hz), "bandpass", fs=RATE_HZ, output="sos")
    return np.asarray(scipy.signal.sosfilt(band, rng.standard_normal(time_s.size)))


def _phase(time_s: Signal, rng: np.random.Generator) -> Signal:
    """0 to 1, a little more than once a second."""
    return np.asarray((rng.uniform(1.1, 1.5) * time_s + rng.random()) % 1)
