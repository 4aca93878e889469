"""What an answer rests on, by experiment: silence one patch of the spectrogram after the other and ask again.

Occlusion sensitivity (Zeiler and Fergus 2014). Unlike Grad-CAM it needs no gradients and has a unit: the fall of the
class's log-odds, in nats, when a patch is replaced by the clip's mean level, which the network knows from the masks
that it was trained with.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.model import AudioResNet

PATCH_BANDS = 16  # of mel; half a patch from one to the next
PATCH_S = 0.5
MOST_PATCHES_LONG = 10  # a longer sound gets longer patches, so that an answer takes seconds at most
MASKED = 0.0  # what core.augment's masks put in
PATCHES_AT_ONCE = 16


@dataclass(frozen=True)
class Occlusion:
    """``evidence`` (F, T): mean fall of the class's log-odds over the patches that cover a bin, nats; < 0: against it.

    ``probability`` is that of the class with the whole sound, ``least`` with the most telling patch silenced, which
    covers ``least_s``, in seconds of the sound, and the mel rows ``least_rows``, ends excluded. ``patches``: how many
    were tried.
    """

    evidence: NDArray[np.float32]
    probability: float
    least: float
    least_s: tuple[float, float]
    least_rows: tuple[int, int]
    patches: int

    @property
    def map(self) -> NDArray[np.float32]:
        """What speaks for the class, scaled so that its maximum is 1; all 0 where nothing does. (F, T)"""
        positive = np.maximum(self.evidence, 0)
        return np.asarray(positive / max(float(positive.max()), 1e-12), dtype=np.float32)


@torch.inference_mode()
def occlude(
    net: AudioResNet,
    features: Tensor,
    target: int,
    *,
    temperature: float,
    column_s: float,
    span_s: tuple[float, float] = (0.0, math.inf),
) -> Occlusion:
    """Silence patches of ``features`` (1, 1, F, T), the output of ``net.front_end``, and watch class ``target``.

    ``column_s``: seconds from one column to the next; ``span_s``: where in the sound the columns begin and end.
    """
    bands, columns = features.shape[2:]
    high, wide = patch_size(bands, columns, column_s)
    patches = [(rows, times) for rows in _spans(bands, high) for times in _spans(columns, wide)]
    whole = log_odds(net.classify(features).logits, target, temperature)[0]
    falls = torch.cat(
        [
            whole - log_odds(net.classify(_silenced(features, part)).logits, target, temperature)
            for part in _batches(patches)
        ]
    )
    total, covered = torch.zeros(bands, columns), torch.zeros(bands, columns)
    for (rows, times), fall in zip(patches, falls.cpu(), strict=True):
        total[slice(*rows), slice(*times)] += fall
        covered[slice(*rows), slice(*times)] += 1
    rows, times = patches[int(falls.argmax())]
    return Occlusion(
        evidence=(total / covered).numpy().astype(np.float32),
        probability=float(torch.sigmoid(whole)),
        least=float(torch.sigmoid(whole - falls.max())),
        least_s=(span_s[0] + times[0] * column_s, min(span_s[0] + times[1] * column_s, span_s[1])),
        least_rows=rows,
        patches=len(patches),
    )


def patch_size(bands: int, columns: int, column_s: float) -> tuple[int, int]:
    """Height and width of a patch, in mel rows and columns; even, so that half of it is a step."""
    wide = max(PATCH_S / column_s, columns / MOST_PATCHES_LONG)
    return _even(min(PATCH_BANDS, bands)), _even(min(wide, columns))


def log_odds(logits: Tensor, target: int, temperature: float) -> Tensor:
    """ln p / (1 − p) of class ``target`` for logits (B, K), (B,); it does not saturate as the probability does."""
    scaled = logits.double() / temperature
    others = torch.cat([scaled[:, :target], scaled[:, target + 1 :]], dim=1)
    return scaled[:, target] - others.logsumexp(dim=1)


def _even(size: float) -> int:
    return max(2, 2 * round(size / 2))


def _spans(size: int, patch: int) -> list[tuple[int, int]]:
    """Every half patch a patch begins; the last ends with the axis."""
    step = patch // 2
    count = max(0, math.ceil((size - patch) / step)) + 1
    return [(start, min(start + patch, size)) for start in range(0, count * step, step)]


Patch = tuple[tuple[int, int], tuple[int, int]]


def _batches(patches: list[Patch]) -> Iterator[list[Patch]]:
    for start in range(0, len(patches), PATCHES_AT_ONCE):
        yield patches[start : start + PATCHES_AT_ONCE]


def _silenced(features: Tensor, patches: list[Patch]) -> Tensor:
    """A copy of ``features`` for each of ``patches``, masked there: (P, 1, F, T)."""
    copies = features.repeat(len(patches), 1, 1, 1)
    for copy, (rows, times) in zip(copies, patches, strict=True):
        copy[:, slice(*rows), slice(*times)] = MASKED
    return copies
