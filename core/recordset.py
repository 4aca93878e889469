"""Many answers of one model, ready for diagnostics: one type for held-out clips, logs and foreign files.

``core.record_tables`` makes records of a table and checks it, ``core.record_files`` reads and writes them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.calibration import nested_temperatures
from core.inference import softmax
from core.unknown import UnknownRule

Floats = NDArray[np.float64]
TRAINED_ON = "trained_on"  # column: whether the answering network learnt from the very clip
UNLABELLED = -1
MOST_TO_FIT = 20_000  # records that a temperature is fitted on: its standard error is then under 1 %
# What diagnostics add to a record; ``frame`` has these columns, then descriptors and whatever else came with it.
FRAME_COLUMNS = (
    "clip_id",
    "fold",
    "seed",
    "source_group",
    "label",
    "predicted",
    "correct",
    "confidence",
    "raw_confidence",
    "true_probability",
    "entropy",
    "margin",
    "unknown",
    "unknown_score",
)


@dataclass(frozen=True)
class RecordSet:
    """N answers of one model over K classes.

    ``table`` has N rows, indexed 0 … N − 1, of everything but logits and embeddings; ``label`` is missing where nobody
    knows. ``logits`` (N, K) are raw; ``temperatures`` (N,) divide them, each fitted without the record's own fold.
    ``notes`` say in words what was left out while reading and why.
    """

    title: str
    class_names: tuple[str, ...]
    table: pd.DataFrame
    logits: NDArray[np.float32]
    embedding: NDArray[np.float32] | None
    temperatures: Floats
    unknown_rule: UnknownRule | None = None
    conformal_quantile: float | None = None
    fingerprint: str = ""
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.table)

    def take(self, chosen: NDArray[np.bool_] | NDArray[np.int64]) -> RecordSet:
        """The records at ``chosen`` (a mask or positions), in that order; what was computed of them is kept."""
        taken = replace(
            self,
            table=self.table.loc[chosen].reset_index(drop=True)
            if chosen.dtype == bool
            else self.table.iloc[chosen].reset_index(drop=True),
            logits=self.logits[chosen],
            embedding=None if self.embedding is None else self.embedding[chosen],
            temperatures=self.temperatures[chosen],
        )
        for name in ("raw_probabilities", "probabilities", "targets"):
            if name in self.__dict__:
                taken.__dict__[name] = self.__dict__[name][chosen]
        return taken

    def labelled(self) -> RecordSet:
        """Only the records whose true class is known."""
        return self if self.is_labelled.all() else self.take(self.is_labelled)

    def by_seed(self) -> dict[int, RecordSet]:
        """One set for each network that answered; the same clips in each."""
        seeds = self.table["seed"].to_numpy()
        found = np.unique(seeds).tolist()
        return {int(found[0]): self} if len(found) == 1 else {int(seed): self.take(seeds == seed) for seed in found}

    @property
    def n_clips(self) -> int:
        """Different sounds; several seeds that answer for one clip are one piece of evidence."""
        return int(self.table["clip_id"].nunique()) if self.table["seed"].nunique() > 1 else len(self)

    @cached_property
    def digest(self) -> str:
        """Of everything that diagnostics read: equal records have equal digests. What caches know records by."""
        facts = hashlib.sha256(repr((self.title, self.class_names, self.fingerprint, self.conformal_quantile)).encode())
        facts.update(repr(tuple(self.table.columns)).encode())
        facts.update(pd.util.hash_pandas_object(self.table, index=False).to_numpy().tobytes())
        for array in (self.logits, self.embedding, self.temperatures):
            if array is not None:
                facts.update(np.ascontiguousarray(array).data)
        return facts.hexdigest()

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """True class indices (N,); ``UNLABELLED`` where nobody knows."""
        return np.asarray(pd.Categorical(self.table["label"], categories=list(self.class_names)).codes, dtype=np.int64)

    @cached_property
    def is_labelled(self) -> NDArray[np.bool_]:
        return self.targets != UNLABELLED

    @cached_property
    def is_scaled(self) -> bool:
        """Whether answers are given after a temperature."""
        return bool((self.temperatures != 1).any())

    @cached_property
    def raw_probabilities(self) -> Floats:
        """(N, K), before temperature."""
        return softmax(self.logits)

    @cached_property
    def probabilities(self) -> Floats:
        """(N, K), after temperature."""
        if not self.is_scaled:
            return self.raw_probabilities
        return softmax(np.asarray(self.logits / self.temperatures[:, None]))

    @cached_property
    def predicted(self) -> NDArray[np.int64]:
        """Most probable class (N,)."""
        return np.asarray(self.logits.argmax(axis=1), dtype=np.int64) if len(self) else np.zeros(0, dtype=np.int64)

    @cached_property
    def correct(self) -> NDArray[np.bool_]:
        """(N,); False where the true class is not known: ask ``labelled()`` first."""
        return np.asarray(self.predicted == self.targets)

    @cached_property
    def confidence(self) -> Floats:
        """Top probability after temperature, (N,)."""
        return self.probabilities.max(axis=1) if len(self) else np.zeros(0)

    @cached_property
    def raw_confidence(self) -> Floats:
        """Top probability before temperature, (N,)."""
        return self.raw_probabilities.max(axis=1) if len(self) else np.zeros(0)

    def frame(self) -> pd.DataFrame:
        """One row a record: ``FRAME_COLUMNS``, then descriptors and everything else of ``table``.

        ``entropy`` in nats; ``correct`` and ``true_probability`` are missing where the true class is not known.
        Computed once; what a caller changes is its own copy.
        """
        return self._frame.copy(deep=False)  # pandas copies on write

    @cached_property
    def _frame(self) -> pd.DataFrame:
        p = self.probabilities
        ordered = np.sort(p, axis=1)
        names = np.asarray(self.class_names, dtype=object)
        rows = np.arange(len(self))
        known = self.is_labelled
        added = pd.DataFrame(
            {
                "predicted": names[self.predicted],
                "correct": pd.arrays.BooleanArray(self.correct.copy(), ~known),
                "confidence": self.confidence,
                "raw_confidence": self.raw_confidence,
                "true_probability": np.where(known, p[rows, self.targets], np.nan),
                "entropy": -(p * np.log(p.clip(1e-300))).sum(axis=1),
                "margin": ordered[:, -1] - ordered[:, -2],
            }
        )
        table = self.table.drop(columns=[c for c in added if c in self.table])
        whole = pd.concat([table, added], axis=1)
        for column in FRAME_COLUMNS:
            if column not in whole:
                whole[column] = pd.NA
        rest = [column for column in whole if column not in FRAME_COLUMNS]
        return whole[[*FRAME_COLUMNS, *rest]]


def with_nested_temperatures(records: RecordSet) -> RecordSet:
    """Each record scaled by the temperature of the *other* folds; unchanged where there is a single fold."""
    folds = records.table["fold"].to_numpy()
    known = records.labelled()
    if len(np.unique(known.table["fold"])) < 2:
        return records
    if len(known) > MOST_TO_FIT:
        known = known.take(np.random.default_rng(0).choice(len(known), MOST_TO_FIT, replace=False))
    by_fold = nested_temperatures(known.logits, known.targets, known.table["fold"].to_numpy())
    found, inverse = np.unique(folds, return_inverse=True)
    return replace(records, temperatures=np.array([by_fold.get(int(fold), 1.0) for fold in found])[inverse])


def temperature_scaled(records: RecordSet) -> RecordSet:
    """As answered where that is with a temperature; else each fold scaled by one fitted on the others."""
    return records if records.is_scaled else with_nested_temperatures(records)


def unscaled(records: RecordSet) -> RecordSet:
    """The same at temperature 1, without the conformal quantile, which was fitted on another scale."""
    if not records.is_scaled:
        return records
    return replace(records, temperatures=np.ones(len(records)), conformal_quantile=None)


def scale_in_words(records: RecordSet) -> str:
    """On which scale the confidence of these records is."""
    if not records.is_scaled:
        return "as answered, at temperature 1"
    found = np.unique(records.temperatures)
    if len(found) == 1:
        return f"after the temperature {found[0]:.2f}"
    return f"after temperature, each fold's fitted on the other folds ({found[0]:.2f} to {found[-1]:.2f})"
