"""What of two sets of records may be compared at all: answers of one model, confidence on one scale, embeddings of one
network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.calibration import fit_temperature
from core.diagnostics.drift_report import ENOUGH
from core.recordset import TRAINED_ON, RecordSet

SAME_NETWORK = 0.2  # variance of embeddings within a class that folds explain: one network .0 to .1, several .4
FOLDS = 1_000_000  # more than anyone has
FEW = 2  # values on a side, at least, for a test


def comparable_answers(reference: RecordSet, current: RecordSet) -> tuple[str, NDArray[np.bool_] | None]:
    """Why the answers cannot be compared, else nothing; and which current records are clips the model was fitted on."""
    if set(reference.class_names) != set(current.class_names):
        return "the two sides know different classes", None
    if reference.fingerprint and current.fingerprint and reference.fingerprint != current.fingerprint:
        return "the two sides were answered by different models", None
    if not (reference.fingerprint and current.fingerprint):
        return "", None
    held_out = set(reference.table["clip_id"][reference.table["fold"] > 0])
    names = current.table["name"] if "name" in current.table else current.table["clip_id"]
    heard = (names.isin(held_out) | current.table["clip_id"].isin(held_out)) & (current.table["fold"] == 0)
    return "", heard.to_numpy(dtype=bool) if heard.any() else None


def trained_on(records: RecordSet) -> NDArray[np.bool_]:
    """Which records say themselves that the answering network learnt from the very clip."""
    if TRAINED_ON not in records.table:
        return np.zeros(len(records), dtype=bool)
    return records.table[TRAINED_ON].eq(True).fillna(False).to_numpy(dtype=bool)


def said_of_answers(why_not: str, heard: NDArray[np.bool_] | None, fitted: bool) -> Iterator[str]:
    """What of the answers was not compared and why, in words."""
    if fitted and not why_not:
        yield (
            "the model was trained on all clips of both sides, so these compare like with like; it is surer of them "
            "than of new sounds, so no accuracy is estimated"
        )
    if why_not:
        yield f"answers, confidence and unknown rate are not compared: {why_not}"
    if heard is not None:
        yield (
            f"{int(heard.sum()):,} of {len(heard):,} current records are clips that the model was trained on. It is "
            "surer of them than of new sounds, so they are left out of confidence, unknown rate and estimated accuracy."
        )


def on_one_scale(reference: RecordSet, current: RecordSet) -> tuple[RecordSet, RecordSet]:
    """Both at the reference's temperature: records without labels bring none of their own."""
    temperature = _temperature(reference)
    before, now = (
        replace(records, temperatures=np.full(len(records), temperature)) for records in (reference, current)
    )
    return before, now


def _temperature(reference: RecordSet) -> float:
    """The reference's own; one fitted to its labels where it was never scaled, as in files from elsewhere."""
    known = reference.labelled()
    if len(known) >= ENOUGH and (reference.temperatures == 1).all():
        return fit_temperature(known.logits, known.targets)
    return float(np.median(reference.temperatures)) if len(reference) else 1.0


def networks(
    reference: RecordSet, current: RecordSet
) -> tuple[str, tuple[NDArray[np.int64], NDArray[np.int64]] | None]:
    """Why embeddings cannot be compared, else nothing; and which network answered each record, where there are several.

    A network is known by seed and fold; fold 0 is the served one.
    """
    a, b = reference.embedding, current.embedding
    if a is None or b is None:
        return f"no embeddings on the {'reference' if a is None else 'current'} side", None
    if min(len(a), len(b)) < FEW:
        return "too few embeddings", None
    if a.shape[1] != b.shape[1]:
        return f"embeddings of different lengths, {a.shape[1]:,} and {b.shape[1]:,}", None
    if reference.fingerprint and current.fingerprint and reference.fingerprint != current.fingerprint:
        return "the two sides were answered by different models", None
    of = [_network(records) for records in (reference, current)]
    known = [set(network.tolist()) for network in of]
    if not known[1] <= known[0]:
        if _one_network(reference, current, *known):
            return "", None
        return (
            "the networks that answered are different ones: a network was trained for each held-out fold, and the "
            "embeddings of two networks have nothing in common"
        ), None
    codes = pd.factorize(np.concatenate(of))[0]
    return "", (codes[: len(a)], codes[len(a) :])


def _one_network(reference: RecordSet, current: RecordSet, before: set[int], now: set[int]) -> bool:
    """Whether one network embedded everything although folds differ.

    So it is where a side has several folds and these do not explain its embeddings; or where one network's held-out
    clips meet what it answered when it was served.
    """
    if max(len(before), len(now)) > 1:
        several = [side for side, known in ((reference, before), (current, now)) if len(known) > 1]
        return max(map(fold_share, several)) < SAME_NETWORK
    return any(network % FOLDS == 0 for network in before | now)


def _network(records: RecordSet) -> NDArray[np.int64]:
    seed, fold = (pd.to_numeric(records.table[name], errors="coerce").fillna(0) for name in ("seed", "fold"))
    return np.asarray(seed * FOLDS + fold, dtype=np.int64)


def fold_share(records: RecordSet) -> float:
    """Share of the variance of embeddings within each predicted class that folds explain, adjusted for chance.

    Folds of one network share a distribution, and the share is near 0; different networks embed a class in different
    places. 0 with a single fold or too few records.
    """
    network, rows = _network(records), records.embedding
    if rows is None or len(np.unique(network)) < 2:
        return 0.0
    predicted = records.predicted
    cell = pd.factorize(network.astype(np.float64) * len(records.class_names) + predicted)[0]
    n, classes, cells = len(rows), len(np.unique(predicted)), int(cell.max()) + 1
    if n <= cells:
        return 0.0
    within_class, within_cell = _within(rows, predicted) / (n - classes), _within(rows, cell) / (n - cells)
    return 1 - within_cell / within_class if within_class > 0 else 0.0


def _within(rows: NDArray[np.float32], group: NDArray[np.int64]) -> float:
    """Sum of squared distances of rows (N, D) to the mean of their group."""
    index = pd.factorize(group)[0]
    sums = np.zeros((int(index.max()) + 1, rows.shape[1]))
    np.add.at(sums, index, rows)
    counts = np.bincount(index)
    return float(np.square(rows, dtype=np.float64).sum() - (np.square(sums).sum(axis=1) / counts).sum())
