"""How much less sounds of one recording say than as many independent ones: design effects of a two-sample comparison.

Clips cut from one recording are alike, and so are an afternoon's clips of one device. A test that takes each for
evidence of its own finds drift where only the recordings differ. The design effect (Kish 1965) is the variance that a
difference has with recordings drawn whole, over the variance that it would have were all records independent. Divide
the n of a test by it, and the test keeps its level (Rao & Scott 1984). A test of shares also takes from both sides what
they have in common: there each side counts for as many records as it is worth itself. All is measured, not assumed:
recordings whose clips are unlike each other cost nothing, and a recording on both sides cancels.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

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
    found = _variances(((reference <= edge, current <= edge) for edge in edges), recordings)
    independent = sum(found.independent) if found else 0.0
    return max(1.0, found.together / independent) if found and independent > 0 else 1.0


def worth_of_mixes(reference: Codes, current: Codes, categories: int, recordings: Recordings) -> tuple[float, float]:
    """How many independent records each side is worth in a mix of categories 0 … ``categories`` − 1.

    Each side has its own: with one design effect for both, a test would take the shares that they have in common from
    the side that holds more clips, however few its recordings. A recording on both sides makes both worth more.
    """
    sizes, least = (len(reference), len(current)), worth_of_rates(recordings)
    if recordings.alone:
        return least
    recordings, a, b = _every_so_many(recordings)
    reference, current = reference[a], current[b]
    found = _variances(((reference == one, current == one) for one in range(categories)), recordings)
    if found is None:
        return least
    shared = found.together / sum(found.apart) if sum(found.apart) > 0 else 1.0
    before, now = (
        min(n, max(few, n * alone / (shared * apart))) if shared * apart > 0 else few
        for n, few, apart, alone in zip(sizes, least, found.apart, found.independent, strict=True)
    )
    return before, now


def worth_of_rates(recordings: Recordings) -> tuple[float, float]:
    """How many independent records each side is worth at least: the clips of a recording count as one (Kish 1965).

    What is rare may be missing from a side by chance, and then nothing tells how it hangs together.
    """
    sizes = [np.bincount(codes).astype(np.float64) for codes in (recordings.reference, recordings.current)]
    before, now = (float(size.sum() ** 2 / np.square(size).sum()) if size.any() else 0.0 for size in sizes)
    return before, now


def _every_so_many(recordings: Recordings) -> tuple[Recordings, Flags | slice, Flags | slice]:
    """Of very many recordings the same share of both sides, and whose records these are: the ratio stays the same."""
    step = min(recordings.counts) // MOST_RECORDINGS
    if step < 2:
        return recordings, slice(None), slice(None)
    a, b = (codes % step == 0 for codes in (recordings.reference, recordings.current))
    return recordings.where(a, b), a, b


@dataclass(frozen=True)
class _Variances:
    """Of a difference between two rates, summed over several: with recordings drawn whole, of both sides ``together``
    and of each as if the sides shared none; and of each with all records ``independent``."""

    together: float
    apart: tuple[float, float]
    independent: tuple[float, float]


def _variances(flags: Iterable[tuple[Flags, Flags]], recordings: Recordings) -> _Variances | None:
    """Of the difference between the rates of ``flags``, (N,) and (M,) each; none where a side is of one recording."""
    sizes, counts = (len(recordings.reference), len(recordings.current)), recordings.counts
    if min(counts) < 2:
        return None
    codes = np.concatenate([recordings.reference, recordings.current])
    scale = [math.sqrt(own / (own - 1)) / n for n, own in zip(sizes, counts, strict=True)]
    together, apart, independent = 0.0, np.zeros(2), np.zeros(2)
    for reference, current in flags:
        before, now = float(reference.mean()), float(current.mean())
        parts = [np.asarray((before - reference) * scale[0]), np.asarray((current - now) * scale[1])]
        together += _by_recording(codes, np.concatenate(parts))
        apart += [_by_recording(recordings.reference, parts[0]), _by_recording(recordings.current, parts[1])]
        independent += [before * (1 - before) / (sizes[0] - 1), now * (1 - now) / (sizes[1] - 1)]
    return _Variances(together, (apart[0], apart[1]), (independent[0], independent[1]))


def _by_recording(codes: Codes, parts: Floats) -> float:
    return float(np.square(np.bincount(codes, weights=parts)).sum())
