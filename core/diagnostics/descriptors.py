"""Where one sound stands among others, descriptor by descriptor."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from core.descriptors import DESCRIPTORS

COLUMNS = ("descriptor", "unit", "meaning", "value", "n", "p05", "p25", "p50", "p75", "p95", "below", "spreads")
QUANTILES = {"p05": 0.05, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p95": 0.95}
SD_OF_IQR = 1.349  # interquartile range of a normal distribution with standard deviation 1
FEWEST = 5  # fewer sounds have no distribution


def against(values: Mapping[str, float], others: pd.DataFrame) -> pd.DataFrame:
    """Each descriptor of one sound against its distribution over ``others``; one row a descriptor, with ``COLUMNS``.

    ``others`` has a column a descriptor, one row a sound. ``below`` is the share of them that lies under the value;
    ``spreads`` its distance from their median in robust standard deviations, interquartile range / 1.349. All of these
    are nan where the value is undefined or fewer than ``FEWEST`` sounds have one; the spread, where they do not differ.
    """
    rows = []
    for descriptor in DESCRIPTORS:
        value = float(values.get(descriptor.name, np.nan))
        column = others[descriptor.name].to_numpy(dtype=np.float64) if descriptor.name in others else np.empty(0)
        known = column[np.isfinite(column)]
        rows.append(descriptor._asdict() | {"value": value, "n": known.size} | _standing(value, known))
    return pd.DataFrame(rows).rename(columns={"name": "descriptor"})[list(COLUMNS)]


def _standing(value: float, known: np.ndarray) -> dict[str, float]:
    if known.size < FEWEST:
        return dict.fromkeys([*QUANTILES, "below", "spreads"], np.nan)
    quantiles = dict(zip(QUANTILES, np.quantile(known, list(QUANTILES.values())).tolist(), strict=True))
    spread = (quantiles["p75"] - quantiles["p25"]) / SD_OF_IQR
    return quantiles | {
        "below": float((known < value).mean()) if np.isfinite(value) else np.nan,
        "spreads": (value - quantiles["p50"]) / spread if spread > 0 else np.nan,
    }
