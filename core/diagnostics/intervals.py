"""Intervals of shares, for whole columns at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

Floats = NDArray[np.float64]
Z_95 = float(norm.ppf(0.975))


def wilson(right: ArrayLike, n: ArrayLike) -> tuple[Any, Any]:
    """Lower and upper end of Wilson's 95 % interval for ``right`` of ``n`` (Wilson 1927); nan where n = 0.

    ``right`` may be a mean over networks, as 38.3 of 40 clips: the interval is at the number of clips.
    """
    of = np.asarray(n, dtype=np.float64)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.asarray(right, dtype=np.float64) / of
        centre = p + Z_95**2 / (2 * of)
        half = Z_95 * np.sqrt(p * (1 - p) / of + Z_95**2 / (4 * of**2))
        scale = 1 + Z_95**2 / of
        low, high = (centre - half) / scale, (centre + half) / scale
    return low.clip(0, 1), high.clip(0, 1)
