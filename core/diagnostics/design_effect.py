"""How much less sounds of one recording say than as many independent ones: design effects of a two-sample comparison.

Clips cut from one recording are alike, and so are an afternoon's clips of one device. A test that takes each for
evidence of its own finds drift where only the recordings differ. The design effect (Kish 1965) is the variance that a
difference has with recordings drawn whole, over the variance that it would have were all records independent. Divide
the n of a test by it, and the test keeps its level (Rao & Scott 1984). It is measured, not assumed: recordings whose
clips are unlike each other cost nothing, and a recording on both sides cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm

from core.recordset import RecordSet

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
Flags = NDArray[np.bool_]
CUTS = np.linspace(0, 1, 9)[1:-1]  # quantiles of both sides together at which distributions are compared

MOST_RECORDINGS = 4_000  # of the side that has fewer; more would make an estimate that is right to 3 % no better


@dataclass(frozen=True)
class Recordings:
    """Which recording each record of either side is of, counted from 0 over both sides.

    ``alone``: no side holds two records of one recording, so that every design effect is 1.
    """

    reference: Codes
    current: Codes
    alone: bool

    @property
    def counts(self) -> tuple[int, int]:
        """Recordings of either side."""
        before, now = (int(np.count_nonzero(np.bincount(codes))) for codes in (self.reference, self.current))
        return before, now

    def where(self, reference: Flags | slice, current: Flags | slice) -> Recordings:
        """Those of the chosen records."""
        return replace(self, reference=self.reference[reference], current=self.current[current])


def recordings_of(reference: RecordSet, current: RecordSet) -> Recordings:
    """By ``source_group``. One name for all records of both sides names nothing: each is then of its own."""
    sides = [records.table["source_group"] for records in (reference, current)]
    codes = np.asarray(pd.factorize(pd.concat(sides, ignore_index=True))[0], dtype=np.int64)
    if len(codes) and codes.max() == 0:
        codes = np.arange(len(codes))
    a, b = codes[: len(reference)], codes[len(reference) :]
    found = Recordings(a, b, alone=False)
    return replace(found, alone=found.counts == (len(a), len(b)))


def of_distributions(reference: Floats, current: Floats, recordings: Recordings) -> float:
    """Design effect of the difference between two distribution functions, of samples (N,) and (M,)."""
    if recordings.alone:
        return 1.0
    recordings, a, b = _every_so_many(recordings)
    reference, current = reference[a], current[b]
    edges = np.unique(np.quantile(np.concatenate([reference, current]), CUTS))
    return _design_effect(((reference <= edge, current <= edge) for edge in edges), recordings)


def of_mixes(reference: Codes, current: Codes, categories: int, recordings: Recordings) -> float:
    """Design effect of the difference between two mixes of categories 0 … ``categories`` − 1."""
    if recordings.alone:
        return 1.0
    recordings, a, b = _every_so_many(recordings)
    reference, current = reference[a], current[b]
    return _design_effect(((reference == one, current == one) for one in range(categories)), recordings)


def of_rates(recordings: Recordings) -> float:
    """Design effect of the difference between two rates, at its largest: the clips of a recording count as one.

    What is rare may be missing from a side by chance, and then nothing tells how it hangs together.
    """
    if recordings.alone:
        return 1.0
    sizes = [np.bincount(codes).astype(np.float64) for codes in (recordings.reference, recordings.current)]
    return sum(float(np.square(size / size.sum()).sum()) for size in sizes) / sum(1 / size.sum() for size in sizes)


def _every_so_many(recordings: Recordings) -> tuple[Recordings, Flags | slice, Flags | slice]:
    """Of very many recordings the same share of both sides, and whose records these are: the ratio stays the same."""
    step = min(recordings.counts) // MOST_RECORDINGS
    if step < 2:
        return recordings, slice(None), slice(None)
    a, b = (codes % step == 0 for codes in (recordings.reference, recordings.current))
    return recordings.where(a, b), a, b


def _design_effect(flags: Iterable[tuple[Flags, Flags]], recordings: Recordings) -> float:
    """Of the difference between two rates, (N,) and (M,), averaged over ``flags`` by variance; at least 1."""
    sizes, counts = (len(recordings.reference), len(recordings.current)), recordings.counts
    if min(counts) < 2:
        return 1.0
    codes = np.concatenate([recordings.reference, recordings.current])
    scale = [math.sqrt(own / (own - 1)) / n for n, own in zip(sizes, counts, strict=True)]
    together, independent = 0.0, 0.0
    for reference, current in flags:
        before, now = float(reference.mean()), float(current.mean())
        parts = np.concatenate([(before - reference) * scale[0], (current - now) * scale[1]])
        together += float(np.square(np.bincount(codes, weights=parts)).sum())
        independent += before * (1 - before) / (sizes[0] - 1) + now * (1 - now) / (sizes[1] - 1)
    return max(1.0, together / independent) if independent > 0 else 1.0


def corrected(p: float, design_effect: float) -> float:
    """A two-sided p-value of records that are worth fewer: its normal score over the root of the design effect."""
    return p if design_effect == 1 else float(2 * norm.sf(norm.isf(p / 2) / math.sqrt(design_effect)))
