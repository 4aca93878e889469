"""Which known sounds lie nearest to one in the embedding of a network."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.unknown import alike

COLUMNS = ("clip_id", "label", "fold", "source_group", "distance", "same_recording")


def nearest(
    embedding: NDArray[np.float32],
    known: pd.DataFrame,
    embeddings: NDArray[np.float32],
    *,
    k: int,
    clip_id: str = "",
    source_group: str = "",
) -> pd.DataFrame:
    """The ``k`` rows of ``known`` nearest to ``embedding`` (D,), nearest first, with ``COLUMNS``.

    ``known`` has clip_id, label, fold and source_group, its ``embeddings`` (M, D) of the same network. ``distance`` is
    1 − cosine between square roots, as in ``core.unknown``: 0 is the same, 1 has nothing in common. ``clip_id`` itself
    is left out; clips of the recording ``source_group`` are marked, they are no independent evidence.
    """
    distance = 1 - alike(embeddings).astype(np.float64) @ alike(embedding[None])[0]
    others = np.flatnonzero(known["clip_id"].to_numpy() != clip_id)
    chosen = others[np.argsort(distance[others], kind="stable")[:k]]
    found = known.iloc[chosen][["clip_id", "label", "fold", "source_group"]].reset_index(drop=True)
    found["distance"] = distance[chosen].clip(0)
    found["same_recording"] = (found["source_group"].astype("str") == source_group) & (source_group != "")
    return found[list(COLUMNS)]
