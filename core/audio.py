"""The front door: bytes → Waveform. Everything after it may trust its input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from core.records import SourceFacts


@dataclass(frozen=True)
class Waveform:
    """Mono audio at the model's rate.

    ``samples``: (N,) float32, finite, full scale ±1 (float files may exceed it); ``source``: facts about the file.
    """

    samples: NDArray[np.float32]
    sample_rate_hz: int
    source: SourceFacts

    @property
    def duration_s(self) -> float:
        return self.samples.size / self.sample_rate_hz
