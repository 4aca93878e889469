"""Every measure of calibration beside what chance alone gives a perfectly calibrated model, with bootstrap intervals.

``ece``, ``mce``: top label, 15 equal-width bins (``core.diagnostics.calibration``); ``adaptive_ece``: n^(1/3) bins of
equal mass; ``classwise_ece``: mean over classes of the error of each class's probability over all clips (Nixon et al.
2019), on pooled folds; ``brier`` in [0, 2]; ``nll`` in nats.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.diagnostics.calibration import (
    BINS,
    adaptive_bins,
    adaptive_index,
    bin_index,
    chance_gaps,
    ece_noise_floor,
)
from core.diagnostics.intervals import DRAWS, LEAST_BLOCKS, blocks_of, percentiles, resamples
from core.recordset import RecordSet

Floats = NDArray[np.float64]
MEASURE_COLUMNS = ("measure", "value", "low", "high", "n", "bins", "noise_floor", "noise_floor_95")
MEASURES = ("ece", "mce", "adaptive_ece", "classwise_ece", "brier", "nll")
FIELDS = ("value", "floor", "floor_95", "bins")  # averaged over seeds
Z_95 = 1.6448536269514722  # one-sided


def calibration_table(records: RecordSet, *, raw: bool = False, seed: int = 0, draws: int = DRAWS) -> pd.DataFrame:
    """Every measure of ``MEASURES`` with its 95 % interval and what a perfectly calibrated model scores by chance.

    One row a measure, ``MEASURE_COLUMNS``: means over seeds at the number of clips. ``noise_floor``: expected of a
    model with these probabilities if they were exactly right, and ``noise_floor_95`` what one in twenty such models
    exceeds. Intervals resample source recordings; those of errors of bins are shifted by the bias that resampling adds.
    """
    known = records.labelled()
    rows = {
        measure: [measure, math.nan, math.nan, math.nan, known.n_clips, math.nan, math.nan, math.nan]
        for measure in MEASURES
    }
    if len(known):
        for measure, row in _measured(known, raw=raw, seed=seed, draws=draws):
            rows[measure] = row
    return pd.DataFrame(list(rows.values()), columns=list(MEASURE_COLUMNS)).astype({"n": np.int64})


def _measured(known: RecordSet, *, raw: bool, seed: int, draws: int) -> Iterator[tuple[str, list[object]]]:
    rng = np.random.default_rng([seed, 1])
    block = blocks_of(known.table["source_group"], rng=rng)
    blocks = int(block.max()) + 1
    enough = known.table["source_group"].nunique() >= LEAST_BLOCKS
    weights = resamples(blocks, rng=rng, draws=draws) if enough else None
    seeds = known.table["seed"].to_numpy()
    parts = [
        _Part.of(one.raw_probabilities if raw else one.probabilities, one.targets, block[seeds == number], blocks)
        for number, one in known.by_seed().items()
    ]
    for measure in MEASURES:
        errors = [part.errors(measure, rng=np.random.default_rng(seed), draws=draws) for part in parts]
        value, floor, floor_95, bins = (float(np.mean([getattr(e, name) for e in errors])) for name in FIELDS)
        low = high = math.nan
        if weights is not None:
            drawn = np.mean(
                [error.resampled(weights, part.sizes) for error, part in zip(errors, parts, strict=True)], axis=0
            )
            bias = float(drawn.mean()) - value if measure not in ("brier", "nll") else 0.0
            low, high = (float(bound) for bound in percentiles(drawn))
            low, high = max(min(low - bias, value), 0.0), max(high - bias, value)
        yield measure, [measure, value, low, high, known.n_clips, bins, floor, floor_95]


@dataclass(frozen=True)
class _Error:
    """One measure of one network. ``sums`` (blocks, M): its addends by block; ``kind`` how they become the measure."""

    value: float
    floor: float
    floor_95: float
    bins: float
    sums: Floats
    counts: NDArray[np.float64] | None
    kind: str

    def resampled(self, weights: Floats, sizes: Floats) -> Floats:
        """The measure in every bootstrap sample: (draws,)."""
        total = np.maximum(weights @ sizes, 1)
        sums = weights @ self.sums
        if self.kind == "mean":
            return sums[:, 0] / total
        if self.kind == "sum":
            return np.abs(sums).sum(axis=1) / total
        assert self.counts is not None
        counts = weights @ self.counts
        return np.divide(np.abs(sums), counts, out=np.zeros_like(sums), where=counts > 0).max(axis=1)


@dataclass(frozen=True)
class _Part:
    """The clips of one network: what the measures are made of."""

    probabilities: Floats
    targets: NDArray[np.int64]
    block: NDArray[np.int64]
    blocks: int
    confidence: Floats
    correct: NDArray[np.bool_]
    sizes: Floats

    @classmethod
    def of(cls, probabilities: Floats, targets: NDArray[np.int64], block: NDArray[np.int64], blocks: int) -> _Part:
        sizes = np.bincount(block, minlength=blocks).astype(np.float64)
        correct = probabilities.argmax(axis=1) == targets
        return cls(probabilities, targets, block, blocks, probabilities.max(axis=1), correct, sizes)

    def errors(self, measure: str, *, rng: np.random.Generator, draws: int) -> _Error:
        if measure in ("brier", "nll"):
            return self._mean(*(_brier if measure == "brier" else _nll)(self.probabilities, self.targets))
        if measure == "classwise_ece":
            return self._classwise(rng=rng, draws=draws)
        index, bins = bin_index(self.confidence), BINS
        if measure == "adaptive_ece":
            index, bins = adaptive_index(self.confidence), adaptive_bins(self.confidence.size)
        return self._binned(index, bins, measure, rng=rng, draws=draws)

    def _mean(self, values: Floats, expected: float, variance: float) -> _Error:
        n = values.size
        sums = np.bincount(self.block, values, self.blocks).astype(np.float64)[:, None]
        high = expected + Z_95 * math.sqrt(variance / n)
        return _Error(float(values.mean()), expected, high, math.nan, sums, None, "mean")

    def _binned(
        self, index: NDArray[np.int64], bins: int, measure: str, *, rng: np.random.Generator, draws: int
    ) -> _Error:
        n = self.confidence.size
        count = np.bincount(index, minlength=bins)
        gap = np.abs(np.bincount(index, self.correct - self.confidence, bins))
        sums = self._by_block(index, bins, self.correct - self.confidence)
        counts = self._by_block(index, bins, None)
        if measure == "ece":  # the headline, drawn as everywhere else
            floor, floor_95 = ece_noise_floor(self.confidence, rng=rng)
            return _Error(float(gap.sum() / n), floor, floor_95, bins, sums, None, "sum")
        chance = np.abs(chance_gaps(self.confidence, index, bins, rng=rng, draws=draws))
        if measure == "mce":
            by_chance = (chance / np.maximum(count, 1)).max(axis=1)
            worst = float((gap / np.maximum(count, 1)).max())
            return _Error(
                worst, float(by_chance.mean()), float(np.quantile(by_chance, 0.95)), bins, sums, counts, "max"
            )
        by_chance = chance.sum(axis=1) / n
        high = float(np.quantile(by_chance, 0.95))
        return _Error(float(gap.sum() / n), float(by_chance.mean()), high, bins, sums, None, "sum")

    def _classwise(self, *, rng: np.random.Generator, draws: int) -> _Error:
        """Mean over classes; each class's gaps come by chance independently, which they nearly do for many classes."""
        classes = self.probabilities.shape[1]
        sums, value, chance = [], 0.0, np.zeros(draws)
        for k in range(classes):
            p = np.ascontiguousarray(self.probabilities[:, k])
            index = bin_index(p)
            sums.append(self._by_block(index, BINS, (self.targets == k) - p))
            value += float(np.abs(sums[-1].sum(axis=0)).sum())
            chance += np.abs(chance_gaps(p, index, BINS, rng=rng, draws=draws)).sum(axis=1)
        scale = len(self.targets) * classes
        chance /= scale
        high = float(np.quantile(chance, 0.95))
        return _Error(value / scale, float(chance.mean()), high, BINS, np.hstack(sums) / classes, None, "sum")

    def _by_block(self, index: NDArray[np.int64], bins: int, of: Floats | None) -> Floats:
        """Sums of ``of``, or counts, by block and bin."""
        size = self.blocks * bins
        return np.bincount(self.block * bins + index, of, size).reshape(self.blocks, bins).astype(np.float64)


def _brier(p: Floats, targets: NDArray[np.int64]) -> tuple[Floats, float, float]:
    """Each clip's score, and mean and variance of one clip's if labels were drawn from ``p``."""
    squares = np.einsum("nk,nk->n", p, p)
    cubes = np.einsum("nk,nk,nk->n", p, p, p)
    values = 1 - 2 * p[np.arange(len(p)), targets] + squares
    return values, float((1 - squares).mean()), float((4 * (cubes - squares**2)).mean())


def _nll(p: Floats, targets: NDArray[np.int64]) -> tuple[Floats, float, float]:
    """The same in nats."""
    log = np.log(p.clip(1e-12))
    entropy = -np.einsum("nk,nk->n", p, log)
    second = np.einsum("nk,nk,nk->n", p, log, log)
    return -log[np.arange(len(p)), targets], float(entropy.mean()), float((second - entropy**2).mean())
