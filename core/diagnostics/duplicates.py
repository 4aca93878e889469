"""Clips of different recordings that may be the same sound: a leak if they lie in different folds.

Candidates are pairs that are each other's nearest clip from another recording, by acoustic descriptors over all clips,
or by the embedding of the one network that both were held out of, where it answered for at most ``EMBEDDED``;
embeddings of different networks do not compare.
Every clip has a nearest one, so most candidates only sound alike. Where the sounds are at hand, ``shared_sound`` tells:
it looks for stretches of the one waveform in the other. Of ESC-10's 79,651 pairs of different recordings it finds three
that share audio, with 4, 8 and 20 agreeing stretches, one of them across folds; none of the other 5,997 pairs with the
highest phase correlation has three. The candidates hold all three (``test_diagnostics_duplicates.py``).

Nothing of size N × N is built: a tree over N clips of at most 18 descriptors is asked for ``NEAREST`` neighbours each,
in memory that grows with N (20,000 clips: 2 s of one core). Embeddings, of more dimensions than a tree can prune, are
compared up to ``EMBEDDED`` a network.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import scipy.fft
import soxr
from numpy.typing import NDArray
from scipy.spatial import KDTree

from core.descriptors import NAMES
from core.diagnostics.clips import Floats
from core.diagnostics.neighbours import unit_rows
from core.recordset import RecordSet

COLUMNS = ("clip_a", "clip_b", "label_a", "label_b", "fold_a", "fold_b", "distance", "closer_than", "by", "why")
NEAREST = 6  # clips of the same recording may be nearer than the one looked for
COMPARED_PAIRS = 20_000  # random pairs that a distance is held against
SHOWN = 200
EMBEDDED = 2_000  # answers of one network up to which embeddings are compared; descriptors have fewer dimensions
SAME_DISTANCE = 0.02  # of descriptors, in interquartile ranges: not told apart by them
COMPARE_HZ = 8_000
STRETCH_S = 0.25
ALIKE = 0.5  # correlation of one stretch from which it agrees
SOUNDING = 1e-4  # of the loudest stretch's energy: hum and dither under it are alike everywhere
STRETCHES = 3  # agreeing at one lag from which two clips share audio
FLOOR = 1e-3  # of the loudest bin: quieter ones carry no phase worth hearing


@dataclass(frozen=True)
class SharedSound:
    """``agreeing`` of ``stretches`` of ¼ s correlate at one lag; ``lag_s`` is where the second begins in the first."""

    agreeing: int
    stretches: int
    lag_s: float

    @property
    def same(self) -> bool:
        return self.agreeing >= STRETCHES


def near_duplicates(records: RecordSet) -> pd.DataFrame:
    """Candidate pairs from different recordings, the closest first, at most ``SHOWN``: ``COLUMNS``.

    ``distance`` is in the measure ``by``: the root mean square over descriptors of differences in interquartile
    ranges, or 1 − cosine of embeddings. ``closer_than`` is the share of random pairs that lie farther apart in it.
    """
    first = _first_of_each(records)
    found = [*_by_descriptors(records, first), *_by_embedding(records)]
    table = pd.DataFrame(found, columns=["a", "b", "distance", "closer_than", "by"])
    table = table.sort_values(["closer_than", "distance"], ascending=[False, True], kind="stable")
    clip = records.table["clip_id"].to_numpy()
    pair = [tuple(sorted((clip[a], clip[b]))) for a, b in zip(table["a"], table["b"], strict=True)]
    table = table[~pd.Series(pair, index=table.index, dtype=object).duplicated()].head(SHOWN)
    for side in "ab":
        rows = records.table.iloc[table[side].to_numpy(dtype=np.int64)]
        for name in ("clip", "label", "fold"):
            table[f"{name}_{side}"] = rows["clip_id" if name == "clip" else name].to_numpy()
    table["why"] = [_why(row) for row in table.itertuples()]
    return table[list(COLUMNS)].reset_index(drop=True)


def _first_of_each(records: RecordSet) -> NDArray[np.int64]:
    """Position of the first record of every clip."""
    return np.flatnonzero(~records.table["clip_id"].duplicated().to_numpy())


def _by_descriptors(records: RecordSet, rows: NDArray[np.int64]) -> Iterator[tuple[int, int, float, float, str]]:
    names = [name for name in NAMES if name in records.table]
    if not names or rows.size < 2:
        return
    points = scaled_descriptors(records.table[names].iloc[rows].to_numpy(dtype=np.float64, na_value=np.nan))
    yield from _nearest_pairs(points, rows, records, "descriptors")


def scaled_descriptors(values: Floats) -> Floats:
    """(N, D) in interquartile ranges from the median, over √D: distances are root mean squares. Undefined is median.

    A descriptor without a range says nothing and is left out.
    """
    defined = np.isfinite(values).any(axis=0)
    values = values[:, defined]
    middle = np.nanmedian(np.where(np.isfinite(values), values, np.nan), axis=0)
    filled = np.where(np.isfinite(values), values, middle)
    low, high = np.quantile(filled, [0.25, 0.75], axis=0)
    varied = high > low
    scaled = (filled[:, varied] - middle[varied]) / (high - low)[varied]
    return np.asarray(scaled / np.sqrt(max(scaled.shape[1], 1)), dtype=np.float64)


def _by_embedding(records: RecordSet) -> Iterator[tuple[int, int, float, float, str]]:
    if records.embedding is None:
        return
    for _, of_network in records.table.groupby(["fold", "seed"], sort=True):
        rows = of_network.index.to_numpy(dtype=np.int64)
        rows = rows[~of_network["clip_id"].duplicated().to_numpy()]
        if 1 < rows.size <= EMBEDDED:
            unit = unit_rows(records.embedding[rows])
            yield from _nearest_pairs(unit.astype(np.float64), rows, records, "embedding")


def _nearest_pairs(
    points: Floats, rows: NDArray[np.int64], records: RecordSet, by: str
) -> Iterator[tuple[int, int, float, float, str]]:
    """Pairs of ``rows`` from different recordings that are mutually nearest, or not told apart at all."""
    if points.shape[1] == 0:
        return
    group = pd.factorize(records.table["source_group"].iloc[rows])[0]
    distance, index = KDTree(points).query(points, k=min(NEAREST, len(points)))
    foreign = group[index] != group[:, None]
    has_one = foreign.any(axis=1)
    column = foreign.argmax(axis=1)
    every = np.arange(len(points))
    nearest = np.where(has_one, index[every, column], -1)
    apart = np.where(has_one, distance[every, column], np.inf)
    mutual = has_one & (nearest[nearest] == every)
    alike = has_one & (apart <= SAME_DISTANCE)
    measured = (lambda d: d) if by == "descriptors" else (lambda d: d**2 / 2)  # |u − v|² = 2 (1 − cos)
    random = measured(_random_distances(points))
    for a in np.flatnonzero(mutual & (every < nearest) | alike & ~mutual).tolist():
        d = float(measured(apart[a]))
        yield int(rows[a]), int(rows[nearest[a]]), d, float((random > d).mean()), by


def _random_distances(points: Floats) -> Floats:
    rng = np.random.default_rng(0)
    a, b = rng.integers(len(points), size=(2, COMPARED_PAIRS))
    return np.asarray(np.linalg.norm(points[a[a != b]] - points[b[a != b]], axis=1))


def _why(row: Any) -> str:
    """``different folds; by descriptors, closer than 99.98% of pairs``."""
    across = ["different folds"] if row.fold_a != row.fold_b else []
    both = pd.notna(row.label_a) and pd.notna(row.label_b)
    differ = ["different labels"] if both and row.label_a != row.label_b else []
    share = "all" if row.closer_than == 1 else f"{100 * row.closer_than:.2f} % of"
    return "; ".join([*across, *differ, f"by {row.by}, closer than {share} random pairs"])


def shared_sound(a: NDArray[np.float32], b: NDArray[np.float32], sample_rate_hz: int) -> SharedSound:
    """Look for stretches of ``b`` in ``a``, at whatever shift, level or polarity.

    The lag is where the phase correlation of the whole clips peaks (Knapp and Carter 1976, PHAT); there, every ¼ s of
    the overlap is correlated by itself, so that one loud click cannot speak for the rest. Below 4 kHz.
    """
    a, b = (soxr.resample(wave, sample_rate_hz, COMPARE_HZ) for wave in (a, b))
    size = scipy.fft.next_fast_len(a.size + b.size)
    peak = int(np.abs(scipy.fft.irfft(_whitened(a, size) * np.conj(_whitened(b, size)), size)).argmax())
    lag = peak if peak < a.size else peak - size
    start, end = max(0, -lag), min(b.size, a.size - lag)
    length = round(STRETCH_S * COMPARE_HZ)
    stretches = max(0, end - start) // length
    shape = (stretches, length)
    x = a[start + lag :][: stretches * length].reshape(shape).astype(np.float64)
    y = b[start:][: stretches * length].reshape(shape).astype(np.float64)
    of_x, of_y = (x**2).sum(axis=1), (y**2).sum(axis=1)
    correlation = np.abs((x * y).sum(axis=1)) / np.sqrt(np.maximum(of_x * of_y, 1e-18))
    sounding = np.minimum(of_x / max(of_x.max(initial=0), 1e-9), of_y / max(of_y.max(initial=0), 1e-9)) >= SOUNDING
    return SharedSound(int((sounding & (correlation >= ALIKE)).sum()), stretches, lag / COMPARE_HZ)


def _whitened(wave: NDArray[np.float32], size: int) -> NDArray[np.complex64]:
    spectrum = scipy.fft.rfft(wave, size)
    level = np.abs(spectrum)
    return np.asarray(spectrum / np.maximum(level, FLOOR * level.max() + 1e-12), dtype=np.complex64)
