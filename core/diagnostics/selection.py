"""Some of many answers, chosen by what is known about each, in an order of interest."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.recordset import RecordSet

Outcome = Literal["any", "right", "wrong", "unlabelled"]
Order = Literal["given", "newest", "surest", "unsurest"]


@dataclass(frozen=True)
class Selection:
    """What is wanted of an answer; what is empty or ``None`` allows all.

    ``true`` may also name labels that are none of the classes; ``confidence`` is a range with both ends; ``source`` is
    the recording a clip was cut from.
    """

    true: tuple[str, ...] = ()
    predicted: tuple[str, ...] = ()
    outcome: Outcome = "any"
    confidence: tuple[float, float] = (0.0, 1.0)
    folds: tuple[int, ...] = ()
    unknown: bool | None = None
    source: str = ""
    seed: int | None = None
    order: Order = "given"


def true_labels(records: RecordSet) -> pd.Series[str]:
    """What each sound is, also where that is none of the classes; missing where nobody knows."""
    label = records.table["label"]
    return label.fillna(records.table["other_label"]) if "other_label" in records.table else label


def is_right(records: RecordSet) -> pd.Series[bool]:
    """Whether each answer is right; missing where nobody knows what the sound is.

    A sound that is none of the classes is answered rightly by calling it unknown.
    """
    true = true_labels(records)
    right = pd.Series(records.correct, index=true.index, dtype="boolean")
    if "unknown" in records.table:
        called = records.table["unknown"].astype("boolean").fillna(False)
        right = right.where(pd.Series(records.is_labelled, index=true.index), called)
    return right.mask(true.isna())


def positions(records: RecordSet, selection: Selection) -> NDArray[np.int64]:
    """Where in ``records`` the wanted answers stand, in the wanted order."""
    found = np.flatnonzero(_mask(records, selection))
    match selection.order:
        case "newest":
            return found[::-1]
        case "surest":
            return found[np.argsort(-records.confidence[found], kind="stable")]
        case "unsurest":
            return found[np.argsort(records.confidence[found], kind="stable")]
        case _:
            return found


def _mask(records: RecordSet, wanted: Selection) -> NDArray[np.bool_]:
    table, chosen = records.table, np.ones(len(records), dtype=bool)
    if wanted.true:
        chosen &= true_labels(records).isin(wanted.true).to_numpy()
    if wanted.predicted:
        chosen &= np.isin(records.predicted, [records.class_names.index(name) for name in wanted.predicted])
    if wanted.outcome != "any":
        right = is_right(records)
        asked = {"right": right.fillna(False), "wrong": ~right.fillna(True), "unlabelled": right.isna()}
        chosen &= asked[wanted.outcome].to_numpy(dtype=bool)
    low, high = wanted.confidence
    chosen &= (records.confidence >= low) & (records.confidence <= high)
    if wanted.folds:
        chosen &= table["fold"].isin(wanted.folds).to_numpy()
    if wanted.unknown is not None and "unknown" in table:
        chosen &= table["unknown"].fillna(False).to_numpy(dtype=bool) == wanted.unknown
    if wanted.source:
        chosen &= (table["source_group"] == wanted.source).to_numpy()
    if wanted.seed is not None:
        chosen &= (table["seed"] == wanted.seed).to_numpy()
    return chosen


def place_of(records: RecordSet, clip_id: str, *, seed: int | None = None, answer: int | None = None) -> int | None:
    """Where an answer stands: of the log by its id, else of a clip by the network's seed; ``None`` where it is not.

    Without either the newest answer for the clip counts.
    """
    table = records.table
    found = (table["clip_id"] == clip_id).to_numpy()
    if answer is not None and "id" in table:
        found = found & (table["id"] == answer).to_numpy()
    elif seed is not None:
        found = found & (table["seed"] == seed).to_numpy()
    places = np.flatnonzero(found)
    if not places.size:
        return None
    return int(places[-1] if "id" in table else places[0])
