"""Answers of a pretended model, for tests of what diagnostics say about them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from core.record_tables import record_set
from core.recordset import RecordSet


def answers(
    clips: int = 200,
    *,
    classes: int = 4,
    seeds: int = 1,
    accuracy: float = 0.8,
    folds: int = 5,
    embedded: bool = True,
    rng_seed: int = 0,
    **columns: object,
) -> RecordSet:
    """``clips`` of ``classes`` in turn, two from each recording, answered by ``seeds`` networks a fold.

    Columns replace what is made up, and must be as long as ``clips × seeds``.
    """
    rng = np.random.default_rng(rng_seed)
    n, names = clips * seeds, tuple(f"class_{k}" for k in range(classes))
    index = np.tile(np.arange(clips), seeds)
    target = index % classes
    said = np.where(rng.random(n) < accuracy, target, rng.integers(classes, size=n))
    logits = rng.normal(size=(n, classes)).astype(np.float32)
    logits[np.arange(n), said] += 3
    table = pd.DataFrame(
        {
            "clip_id": [f"clip{i}.wav" for i in index],
            "fold": index % folds + 1,
            "source_group": [f"recording{i // 2}" for i in index],
            "label": [names[k] for k in target],
            "seed": np.repeat(np.arange(seeds), clips),
            "rms_dbfs": np.tile(rng.normal(-20, 5, clips), seeds),
            "spectral_centroid_hz": np.tile(rng.uniform(500, 8_000, clips), seeds),
        }
    ).assign(**columns)
    centres = rng.random((classes, 8)) * 5
    embedding = (centres[said] + rng.random((n, 8))).astype(np.float32) if embedded else None
    return record_set(table, title="pretended", class_names=names, logits=logits, embedding=embedding, temperature=1.0)
