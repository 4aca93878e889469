"""The loudest parts of a sound: people bring short recordings, and whole clips alone do not tell how those look."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from core.audio import Waveform

EXCERPTS_S = (2.0, 1.0, 0.5)
HOP_S = 0.025  # between the places where the loudest part is looked for


def excerpts(wave: Waveform) -> list[NDArray[np.float32]]:
    """The loudest ``EXCERPTS_S`` of ``wave``; all of it where that is shorter."""
    rate = wave.sample_rate_hz
    return [loudest_part(wave.samples, round(seconds * rate), round(HOP_S * rate)) for seconds in EXCERPTS_S]


def loudest_part(samples: NDArray[np.float32], length: int, hop: int) -> NDArray[np.float32]:
    """``length`` samples of (N,) with the most energy, started at a multiple of ``hop``; all of it if that is less."""
    energy = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    starts = np.arange(0, max(samples.size - length, 0) + 1, hop)
    start = int(starts[np.argmax(energy[np.minimum(starts + length, samples.size)] - energy[starts])])
    return samples[start : start + length]
