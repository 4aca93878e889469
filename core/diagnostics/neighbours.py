"""Embeddings made comparable by cosine, and which known sounds lie nearest to one."""

from __future__ import annotations

import numpy as np
import pandas as pd
from numpy.typing import NDArray

COLUMNS = ("clip_id", "label", "fold", "source_group", "distance", "same_recording")


def unit_rows(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) → rows of length 1 whose products are cosines; rows of zeros stay zeros.

    Embeddings that are ≥ 0, as those after a ReLU, are heavy-tailed: a few strong channels would decide alone, so
    their square roots are taken first (Hellinger's kernel), as ``core.unknown`` does.
    """
    rows = np.sqrt(embedding) if embedding.size and embedding.min() >= 0 else embedding
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)


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
    1 − cosine of their ``unit_rows``: 0 is the same, 1 has nothing in common. ``clip_id`` itself
    is left out; clips of the recording ``source_group`` are marked, they are no independent evidence.
    """
    distance = 1 - unit_rows(embeddings).astype(np.float64) @ unit_rows(embedding[None])[0]
    others = np.flatnonzero(known["clip_id"].to_numpy() != clip_id)
    chosen = others[np.argsort(distance[others], kind="stable")[:k]]
    found = known.iloc[chosen][["clip_id", "label", "fold", "source_group"]].reset_index(drop=True)
    found["distance"] = distance[chosen].clip(0)
    found["same_recording"] = (found["source_group"].astype("str") == source_group) & (source_group != "")
    return found[list(COLUMNS)]
