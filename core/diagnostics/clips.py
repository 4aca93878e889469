"""One row a sound. Several networks that answer for one clip are one piece of evidence, not several."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.recordset import RecordSet

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Clips:
    """M sounds with a known true class, each with what all its networks said.

    ``table`` has M rows, indexed 0 … M − 1: the frame of the record in which each clip's error is the most confident,
    or of its first record where every network was right. ``position`` (M,) is where that record stands in the set.
    ``probabilities`` (M, K) are means over networks; ``wrong`` of ``networks`` (M,) erred; ``error_confidence`` (M,)
    is the mean over networks of the confidence in a wrong answer, where a right answer counts 0.
    """

    class_names: tuple[str, ...]
    table: pd.DataFrame
    position: NDArray[np.int64]
    targets: NDArray[np.int64]
    probabilities: Floats
    networks: NDArray[np.int64]
    wrong: NDArray[np.int64]
    error_confidence: Floats

    def __len__(self) -> int:
        return len(self.table)

    @property
    def right(self) -> Floats:
        """Share of each clip's networks that were right, (M,): 0 or 1 where there is one network."""
        return 1 - self.wrong / self.networks

    @property
    def accuracy(self) -> float:
        """Mean over clips; nan without any."""
        return float(self.right.mean()) if len(self) else float("nan")


def labelled_clips(records: RecordSet) -> Clips:
    """The clips of ``records`` whose true class is known, in order of first appearance."""
    known = np.flatnonzero(records.is_labelled)
    several = records.table["seed"].nunique() > 1
    identity = records.table["clip_id"].to_numpy()[known]
    code = pd.factorize(identity)[0] if several else np.arange(known.size)
    count = int(code.max()) + 1 if code.size else 0
    wrong = ~records.correct[known]
    sureness = np.where(wrong, records.confidence[known], 0.0)
    surest = np.lexsort((np.arange(known.size), -sureness, code))  # of each clip the surest error, else its first
    shown = surest[np.searchsorted(code[surest], np.arange(count))]
    networks = np.bincount(code, minlength=count)
    probabilities = records.probabilities[known]
    if several:
        order = np.argsort(code, kind="stable")
        starts = np.searchsorted(code[order], np.arange(count))
        probabilities = np.add.reduceat(probabilities[order], starts) / networks[:, None] if count else probabilities
    position = known[shown]
    return Clips(
        class_names=records.class_names,
        table=records.frame().iloc[position].reset_index(drop=True),
        position=np.asarray(position, dtype=np.int64),
        targets=records.targets[position],
        probabilities=probabilities,
        networks=np.asarray(networks, dtype=np.int64),
        wrong=np.bincount(code, weights=wrong, minlength=count).round().astype(np.int64),
        error_confidence=np.bincount(code, weights=sureness, minlength=count) / np.maximum(networks, 1),
    )
