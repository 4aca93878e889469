"""Embeddings made comparable by cosine."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def unit_rows(embedding: NDArray[np.float32]) -> NDArray[np.float32]:
    """(N, D) → rows of length 1 whose products are cosines; rows of zeros stay zeros.

    Embeddings that are ≥ 0, as those after a ReLU, are heavy-tailed: a few strong channels would decide alone, so
    their square roots are taken first (Hellinger's kernel), as ``core.unknown`` does.
    """
    rows = np.sqrt(embedding) if embedding.size and embedding.min() >= 0 else embedding
    return np.asarray(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-12), dtype=np.float32)
