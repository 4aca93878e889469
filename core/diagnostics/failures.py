"""Which clips a model gets wrong, how sure it was, and what it takes for what.

One row is one clip. Where several networks answered for it, ``wrong`` of ``networks`` erred; the answer shown is the
most confident wrong one, and clips are ranked by the mean confidence in wrong answers, a right answer counting 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.diagnostics.clips import labelled_clips
from core.diagnostics.intervals import wilson
from core.recordset import RecordSet

SURE = 0.9  # confidence from which an error is a confident one
ERROR_COLUMNS = (
    "clip_id",
    "seed",
    "fold",
    "source_group",
    "label",
    "predicted",
    "confidence",
    "true_probability",
    "wrong",
    "networks",
    "error_confidence",
    "position",
)
CONFUSION_COLUMNS = ("label", "predicted", "clips", "n", "share", "low", "high", "confidence")


@dataclass(frozen=True)
class SureErrors:
    """``wrong`` of ``sure`` answers at or above ``at`` were wrong; their share with its interval at ``n`` clips.

    ``share`` is nan where no answer was that sure.
    """

    at: float
    sure: int
    wrong: int
    share: float
    low: float
    high: float


def ranked_errors(records: RecordSet) -> pd.DataFrame:
    """Every clip that at least one network got wrong, the most confident first: ``ERROR_COLUMNS``.

    ``position`` is the row of the shown answer in ``records``.
    """
    clips = labelled_clips(records)
    facts = {"wrong": clips.wrong, "networks": clips.networks, "error_confidence": clips.error_confidence}
    table = clips.table.assign(**facts, position=clips.position)[list(ERROR_COLUMNS)]
    erred = table[clips.wrong > 0]
    return erred.sort_values(["error_confidence", "clip_id"], ascending=[False, True]).reset_index(drop=True)


def sure_errors(records: RecordSet, at: float = SURE) -> SureErrors:
    """How often the model was wrong when it was sure; several networks give one mean, at the number of clips."""
    known = records.labelled()
    networks = max(known.table["seed"].nunique(), 1)
    sure = known.confidence >= at
    n, wrong = int(sure.sum()), int((sure & ~known.correct).sum())
    low, high = wilson(wrong / networks, n / networks)
    return SureErrors(at, n, wrong, wrong / n if n else float("nan"), float(low), float(high))


def confusions(records: RecordSet) -> pd.DataFrame:
    """Every pair of classes that was confused, the most frequent first: ``CONFUSION_COLUMNS``.

    ``clips`` of the ``n`` clips of class ``label`` were called ``predicted``, a mean over networks; ``share`` is
    clips / n with its interval at n; ``confidence`` is the mean confidence of these wrong answers.
    """
    known = records.labelled()
    classes = len(known.class_names)
    networks = max(known.table["seed"].nunique(), 1)
    cell = known.targets * classes + known.predicted
    count = np.bincount(cell, minlength=classes**2)
    sureness = np.bincount(cell, weights=known.confidence, minlength=classes**2)
    support = np.bincount(known.targets, minlength=classes) / networks
    wrong = np.flatnonzero((count > 0) & (np.arange(classes**2) // classes != np.arange(classes**2) % classes))
    true, predicted = np.divmod(wrong, classes)
    clips, n = count[wrong] / networks, support[true]
    low, high = wilson(clips, n)
    names = np.asarray(known.class_names, dtype=object)
    facts = (names[true], names[predicted], clips, n, clips / n, low, high, sureness[wrong] / count[wrong])
    table = pd.DataFrame(dict(zip(CONFUSION_COLUMNS, facts, strict=True)))
    return table.sort_values(["clips", "confidence"], ascending=False, kind="stable").reset_index(drop=True)


def confused_clips(records: RecordSet, label: str, predicted: str) -> NDArray[np.int64]:
    """Positions of the answers ``predicted`` to clips of ``label``, the most confident first; one a clip."""
    true, answer = records.class_names.index(label), records.class_names.index(predicted)
    found = np.flatnonzero((records.targets == true) & (records.predicted == answer))
    found = found[np.argsort(-records.confidence[found], kind="stable")]
    if records.table["seed"].nunique() > 1:
        found = found[~records.table["clip_id"].iloc[found].duplicated().to_numpy()]
    return found


def typical_clip(records: RecordSet, label: str, *, like: int) -> int | None:
    """Position of the clip of ``label`` that is the most typical to the network that answered record ``like``.

    Of the clips it got right, the one nearest their mean embedding: embeddings of one network compare, those of
    different networks do not. Logits where there are no embeddings; any network where this one got none right;
    ``None`` where all did.
    """
    table = records.table
    right = records.correct & (records.targets == records.class_names.index(label))
    same = ((table["fold"] == table["fold"].iloc[like]) & (table["seed"] == table["seed"].iloc[like])).to_numpy()
    for candidates in (np.flatnonzero(right & same), np.flatnonzero(right)):
        if candidates.size:
            vectors = (records.logits if records.embedding is None else records.embedding)[candidates]
            vectors = vectors.astype(np.float64)
            distance = np.linalg.norm(vectors - vectors.mean(axis=0), axis=1)
            return int(candidates[distance.argmin()])
    return None
