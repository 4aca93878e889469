"""How sure a measured number is: 95 % intervals of shares in closed form, of everything else by resampling recordings.

Clips cut from one recording are not independent, so whole source recordings are resampled. More than ``MOST_BLOCKS``
of them are first dealt at random into that many blocks; the spread between blocks of independent recordings is the same
as between the recordings, and the cost no longer grows with their number.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaincinv

Floats = NDArray[np.float64]
LEVEL = 0.95
Z = 1.959963984540054  # normal quantile of (1 + LEVEL) / 2
DRAWS = 1_000
MOST_BLOCKS = 2_000  # a standard error from this many is itself right to 2 %
LEAST_BLOCKS = 8  # a bootstrap of fewer recordings says nothing


@dataclass(frozen=True)
class Estimate:
    """A measured number with its 95 % interval; ``n`` clips stand behind it. ``nan``: not defined."""

    value: float
    low: float
    high: float
    n: int


def wilson(successes: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """Wilson's interval of a share (Wilson 1927), elementwise; nan where n = 0. Keeps its level for few clips.

    ``successes`` of a mean over seeds need not be whole: rounded, they would be the interval of another share.
    """
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(n > 0, k / n, np.nan)
        centre = (p + Z**2 / (2 * n)) / (1 + Z**2 / n)
        half = Z / (1 + Z**2 / n) * np.sqrt(p * (1 - p) / n + Z**2 / (4 * n**2))
    return np.where(k == 0, np.minimum(p, 0), np.clip(centre - half, 0, 1)), np.where(
        (k == n) & (n > 0), 1.0, np.clip(centre + half, 0, 1)
    )


def exact(successes: ArrayLike, n: ArrayLike) -> tuple[Floats, Floats]:
    """Clopper–Pearson's interval of a share, elementwise; nan where n = 0. Never narrower than it should be."""
    k, n = np.asarray(successes, dtype=np.float64), np.asarray(n, dtype=np.float64)
    tail = (1 - LEVEL) / 2
    with np.errstate(invalid="ignore"):
        low = np.where(k > 0, betaincinv(np.maximum(k, 1), n - k + 1, tail), 0.0)
        high = np.where(k < n, betaincinv(k + 1, np.maximum(n - k, 1), 1 - tail), 1.0)
    return np.where(n > 0, low, np.nan), np.where(n > 0, high, np.nan)


def share(value: float, n: int) -> Estimate:
    """A share of ``n`` clips with Wilson's interval; a mean over seeds counts each clip once."""
    if n == 0 or math.isnan(value):
        return Estimate(math.nan, math.nan, math.nan, n)
    low, high = wilson(value * n, n)
    return Estimate(value, min(float(low), value), max(float(high), value), n)


def blocks_of(groups: Sequence[str] | pd.Series[str], *, rng: np.random.Generator) -> NDArray[np.int64]:
    """Which block each record is resampled with, counted from 0: its source recording, or one of ``MOST_BLOCKS``."""
    codes, names = pd.factorize(pd.Series(groups))
    if len(names) <= MOST_BLOCKS:
        return np.asarray(codes, dtype=np.int64)
    return np.asarray(rng.permutation(len(names))[codes] % MOST_BLOCKS, dtype=np.int64)


def resamples(blocks: int, *, rng: np.random.Generator, draws: int = DRAWS) -> Floats:
    """How often each of ``blocks`` is in each bootstrap sample: (draws, blocks)."""
    return rng.multinomial(blocks, np.full(blocks, 1 / blocks), size=draws).astype(np.float64)


def percentiles(resampled: Floats) -> tuple[Floats, Floats]:
    """95 % bootstrap interval along the first axis, over the draws in which the number is defined."""
    enough = np.isfinite(resampled).mean(axis=0) > 0.5
    low, high = np.nanquantile(np.where(enough, resampled, 0.0), [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return np.where(enough, low, np.nan), np.where(enough, high, np.nan)
