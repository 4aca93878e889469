"""Do two samples come from one population? Tests and effect sizes, each effect with what chance alone gives at these n.

Effects grow by chance when samples are small: with no drift at all, 50 clips against 1,600 show a Wasserstein distance
of .1 standard deviations nearly always. So every effect comes with the 95th percentile of its permutation null.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2, ks_2samp, kstwo

Floats = NDArray[np.float64]
Codes = NDArray[np.int64]
PERMUTATIONS = 200
PSI_BINS = 10
NULL_ROWS = 1_500  # a side; larger samples are thinned for the null alone, which is then scaled to their size
CLASS_DRAWS = 2_000
ENOUGH_EXPECTED = 5.0  # in every cell, for the chi² approximation (Cochran 1954)
KERNEL_ROWS = 1_000  # a side, in the kernel: memory and time grow with the square
COMPONENTS = 32
BANDWIDTH_ROWS = 500
EXACT_ROWS = 10_000  # a side, at most, for the exact distribution of the Kolmogorov–Smirnov statistic, as in SciPy


def holm(p: Floats) -> Floats:
    """Holm's step-down adjusted p-values (Holm 1979); nan stays nan and does not count."""
    adjusted = np.full(len(p), math.nan)
    tested = np.flatnonzero(np.isfinite(p))
    order = tested[np.argsort(p[tested], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
    return adjusted


@dataclass(frozen=True)
class Distances:
    """Between two distribution functions: ``ks``, the largest; ``wasserstein``, the area, in the values' unit."""

    ks: float
    wasserstein: float


def distances(reference: Floats, current: Floats) -> Distances:
    """Of finite samples (N,) and (M,), at least one value each; quickest where both are sorted."""
    n, m = len(reference), len(current)
    pooled = np.sort(np.concatenate([reference, current]), kind="stable")  # merges sorted runs
    below = np.searchsorted(np.sort(reference), pooled, side="right")
    apart = np.abs(below / n - (np.arange(1, n + m + 1) - below) / m)
    gaps = np.diff(pooled)
    last = np.append(gaps > 0, True)  # of equal values; between them the functions have no value
    return Distances(ks=float(apart[last].max()), wasserstein=float(apart[:-1] @ gaps))


def ks_p(statistic: float, reference: Floats, current: Floats, design_effect: float = 1.0) -> float:
    """Two-sided p of a Kolmogorov–Smirnov ``statistic``; ``design_effect`` records are worth one.

    Exact for up to ``EXACT_ROWS`` values a side; never surer than with all records independent.
    """
    n, m = len(reference), len(current)
    pairs = n * m / (n + m) / design_effect
    p = float(kstwo.sf(statistic, max(1, round(pairs))))
    if max(n, m) > EXACT_ROWS:
        return p
    exact = float(ks_2samp(reference, current).pvalue)
    return max(p, exact) if design_effect > 1 else exact


@dataclass(frozen=True)
class Effects:
    """``shift``: Wasserstein distance over the reference's standard deviation. ``psi``: population stability index.

    ``ks``: the Kolmogorov–Smirnov statistic, for a test by ``ks_p``.
    """

    ks: float
    shift: float
    shift_null_95: float
    psi: float
    psi_null_95: float


class ShiftNull:
    """Effects with their permutation nulls. Keeps the permutations: descriptors of one pair share them."""

    def __init__(self, *, rng: np.random.Generator, permutations: int = PERMUTATIONS) -> None:
        self._rng, self._permutations = rng, permutations
        self._known: dict[tuple[int, int], tuple[NDArray[np.int32], Floats]] = {}

    def effects(self, reference: Floats, current: Floats, design_effect: float = 1.0) -> Effects:
        """Of finite samples (N,) and (M,), at least one value each; ``design_effect`` records are worth one."""
        apart = distances(reference, current)
        spread = _spread(reference, current)
        a, b = self._thinned(reference), self._thinned(current)
        rate = (1 / len(reference) + 1 / len(current)) / (1 / len(a) + 1 / len(b))  # both nulls are functions of it
        rate *= design_effect
        shift_null, psi_null = self._nulls(a, b)
        return Effects(
            ks=apart.ks,
            shift=apart.wasserstein / spread,
            shift_null_95=float(np.quantile(shift_null, 0.95)) / spread * math.sqrt(rate),
            psi=psi(reference, current),
            psi_null_95=float(np.quantile(psi_null, 0.95)) * rate,
        )

    def _thinned(self, values: Floats) -> Floats:
        return values if len(values) <= NULL_ROWS else self._rng.choice(values, NULL_ROWS, replace=False)

    def _nulls(self, a: Floats, b: Floats) -> tuple[Floats, Floats]:
        """Wasserstein distance and PSI of every permutation, (P,). Both need only who is current, in sorted order."""
        pooled = np.sort(np.concatenate([a, b]))
        ahead, apart = self._permuted(len(a), len(b))
        ends = np.searchsorted(pooled, psi_edges(a), side="right")
        counts = np.diff(np.hstack([np.zeros((len(ahead), 1)), _at(ahead, ends), ahead[:, -1:]]), axis=1)
        sizes = np.diff([0, *ends, len(pooled)])
        return np.asarray(apart @ np.diff(pooled)), _psi(sizes - counts, counts)

    def _permuted(self, n: int, m: int) -> tuple[NDArray[np.int32], Floats]:
        """Of every permutation, how many of the pooled values up to each are current, (P, N + M); and how far the two
        distribution functions lie apart after each but the last, (P, N + M − 1). Neither needs the values."""
        if (n, m) not in self._known:
            one = np.arange(n + m) >= n
            members = self._rng.permuted(np.tile(one, (self._permutations, 1)), axis=1)
            ahead = np.cumsum(members, axis=1, dtype=np.int32)
            below_b, below_a = ahead / m, (np.arange(1, n + m + 1) - ahead) / n
            self._known[n, m] = ahead, np.abs(below_b - below_a)[:, :-1]
        return self._known[n, m]


def _at(ahead: NDArray[np.int32], ends: NDArray[np.int64]) -> Floats:
    """``ahead`` just before each of ``ends``; 0 before the first value."""
    return np.where(ends > 0, ahead[:, np.maximum(ends, 1) - 1], 0).astype(np.float64)


def _spread(reference: Floats, current: Floats) -> float:
    """Standard deviation of the reference; of both together where the reference does not vary; else 1."""
    for values in (reference, np.concatenate([reference, current])):
        spread = float(values.std(ddof=1)) if len(values) > 1 else 0.0
        if spread > 1e-12 * max(1.0, float(np.abs(values).max())):
            return spread
    return 1.0


def psi_edges(reference: Floats) -> Floats:
    """Inner edges of ``PSI_BINS`` bins with equal shares of the reference; fewer where values repeat."""
    return np.unique(np.quantile(reference, np.linspace(0, 1, PSI_BINS + 1)[1:-1]))


def psi(reference: Floats, current: Floats) -> float:
    """Σ (q − p) ln(q / p) over right-closed bins of equal reference shares, half a count added to every bin.

    PSI values do not compare across tools, whose bins and floors differ.
    """
    edges = psi_edges(reference)
    counts = [
        np.bincount(np.searchsorted(edges, x, side="left"), minlength=len(edges) + 1) for x in (reference, current)
    ]
    return float(_psi(counts[0][None].astype(np.float64), counts[1][None].astype(np.float64))[0])


def _psi(reference: Floats, current: Floats) -> Floats:
    """Of counts (P, bins)."""
    p, q = ((counts + 0.5) / (counts + 0.5).sum(axis=1, keepdims=True) for counts in (reference, current))
    return np.asarray(((q - p) * np.log(q / p)).sum(axis=1))


@dataclass(frozen=True)
class ClassTest:
    """``distance``: L∞, the largest change of a share. ``method``: chi2, or permutation where counts are small."""

    statistic: float
    p: float
    method: str
    distance: float
    distance_null_95: float


def class_mix(
    reference: NDArray[np.int64],
    current: NDArray[np.int64],
    *,
    rng: np.random.Generator,
    worth: tuple[float, float] | None = None,
) -> ClassTest:
    """Compare two vectors of class counts (K,), neither empty. The statistic is Pearson's chi² either way.

    ``worth``: how many independent records each side's are worth; the test is of so many, with the same shares (to
    whole records), as surveys do with effective sample sizes.
    """
    shares = [counts / counts.sum() for counts in (reference, current)]
    if worth is not None:
        reference, current = (_so_many(share, size) for share, size in zip(shares, worth, strict=True))
    present = (reference + current) > 0
    a, b = reference[present], current[present]
    n, m = int(a.sum()), int(b.sum())
    draws = rng.multivariate_hypergeometric(a + b, m, size=CLASS_DRAWS, method="marginals")  # relabelled at random
    by_chance = np.abs(draws / m - (a + b - draws) / n).max(axis=1)
    expected = (a + b) * m / (n + m)
    statistic = float(_chi2(b[None], expected, n, m)[0])
    if len(a) < 2:
        p, method = 1.0, "permutation"
    elif min(expected.min(), (a + b - expected).min()) >= ENOUGH_EXPECTED:
        p, method = float(chi2.sf(statistic, len(a) - 1)), "chi2"
    else:
        as_far = int((_chi2(draws, expected, n, m) >= statistic * (1 - 1e-12)).sum())
        p, method = (1 + as_far) / (1 + CLASS_DRAWS), "permutation"
    return ClassTest(
        statistic=statistic,
        p=p,
        method=method,
        distance=float(np.abs(shares[1] - shares[0]).max()),
        distance_null_95=float(np.quantile(by_chance, 0.95)),
    )


def _so_many(shares: Floats, size: float) -> NDArray[np.int64]:
    """Counts of about ``size`` records with these shares (K,): at least one of the commonest."""
    counts = np.rint(shares * size).astype(np.int64)
    counts[shares.argmax()] = max(1, counts[shares.argmax()])
    return counts


def _chi2(current: NDArray[np.int64], expected: Floats, n: int, m: int) -> Floats:
    """Pearson's statistic of the 2 × K table for each row of ``current`` (P, K), whose expectation is ``expected``."""
    return np.asarray((np.square(current - expected) / expected).sum(axis=-1) * (n + m) / n)


@dataclass(frozen=True)
class KernelTest:
    """``mmd2``: unbiased squared maximum mean discrepancy; slightly negative values are chance."""

    mmd2: float
    p: float
    null_95: float
    n_reference: int
    n_current: int


def mmd_test(
    reference: NDArray[np.float32],
    current: NDArray[np.float32],
    *,
    rng: np.random.Generator,
    permutations: int = PERMUTATIONS,
    strata: tuple[Codes, Codes] | None = None,
    groups: tuple[Codes, Codes] | None = None,
) -> KernelTest:
    """Maximum mean discrepancy (Gretton et al. 2012) of embeddings (N, D) and (M, D), by permutation.

    Gaussian kernel of median bandwidth on the first ``COMPONENTS`` principal components of both together, at most
    ``KERNEL_ROWS`` rows a side. Rows trade places only within their stratum, such as the network that answered; rows
    of one side and group, such as a recording, only together.
    """
    keep = [_some(len(rows), rng) for rows in (reference, current)]
    pooled = np.concatenate([reference[keep[0]], current[keep[1]]])
    n, m = len(keep[0]), len(keep[1])
    kernel = gaussian_kernel(principal_components(pooled), rng=rng)
    np.fill_diagonal(kernel, 0)
    is_current = np.arange(n + m) >= n
    stratum = np.zeros(n + m, dtype=np.int64) if strata is None else _kept(strata, keep)
    unit = np.arange(n + m) if groups is None else _units(_kept(groups, keep), stratum, is_current)
    first = np.unique(unit, return_index=True)[1]
    permuted = _permuted(is_current[first], stratum[first], permutations, rng)[unit]
    members = np.concatenate([is_current[:, None], permuted], axis=1)
    values = _mmd2(kernel, members.astype(np.float32))
    as_far = int((values[1:] >= values[0]).sum())
    return KernelTest(
        mmd2=float(values[0]),
        p=(1 + as_far) / (1 + permutations),
        null_95=float(np.quantile(values[1:], 0.95)),
        n_reference=n,
        n_current=m,
    )


def _kept(codes: tuple[Codes, Codes], keep: Sequence[Codes]) -> Codes:
    return np.concatenate([of[kept] for of, kept in zip(codes, keep, strict=True)])


def _units(*codes: NDArray[Any]) -> Codes:
    """Rows that agree in all of ``codes`` (N,) share a number, counted from 0."""
    return np.asarray(np.unique(np.stack(codes), axis=1, return_inverse=True)[1], dtype=np.int64).reshape(-1)


def _some(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    return np.arange(n) if n <= KERNEL_ROWS else np.sort(rng.choice(n, KERNEL_ROWS, replace=False))


def _permuted(
    members: NDArray[np.bool_], stratum: NDArray[np.int64], permutations: int, rng: np.random.Generator
) -> NDArray[np.bool_]:
    """(N + M, P): who is current, exchanged at random within each stratum."""
    permuted = np.empty((permutations, len(members)), dtype=bool)
    for value in np.unique(stratum):
        inside = stratum == value
        permuted[:, inside] = rng.permuted(np.tile(members[inside], (permutations, 1)), axis=1)
    return permuted.T


def _mmd2(kernel: NDArray[np.float32], members: NDArray[np.float32]) -> Floats:
    """Unbiased MMD² for each column of ``members`` (N + M, P); ``kernel`` has a zero diagonal. Needs N, M ≥ 2.

    Where units differ in size, so do N and M between columns.
    """
    m = members.sum(axis=0, dtype=np.float64)
    n = len(kernel) - m
    reached = (kernel @ members).astype(np.float64)  # (N + M, P)
    both = (reached * members).sum(axis=0)
    across = reached.sum(axis=0) - both
    neither = kernel.sum(dtype=np.float64) - 2 * across - both
    pairs = [np.maximum(count, 1) for count in (n * (n - 1), m * (m - 1), n * m)]  # 0 with a few large units alone
    return np.asarray(neither / pairs[0] + both / pairs[1] - 2 * across / pairs[2])


def principal_components(rows: NDArray[np.float32], components: int = COMPONENTS) -> Floats:
    """Rows (N, D) on their first principal axes, centred: (N, min(components, D))."""
    centred = rows.astype(np.float64) - rows.mean(axis=0, dtype=np.float64)
    if rows.shape[1] <= components:
        return centred
    _, axes = np.linalg.eigh(centred.T @ centred)  # ascending
    return np.asarray(centred @ axes[:, ::-1][:, :components])


def gaussian_kernel(rows: Floats, *, rng: np.random.Generator) -> NDArray[np.float32]:
    """exp(−d² / 2σ²) between all rows (N, N); σ is the median distance between rows (of ``BANDWIDTH_ROWS`` of them)."""
    length = np.square(rows).sum(axis=1)
    squared = length[:, None] + length[None] - 2 * rows @ rows.T
    some = rng.choice(len(rows), min(BANDWIDTH_ROWS, len(rows)), replace=False)
    pairs = squared[np.ix_(some, some)][np.triu_indices(len(some), k=1)]
    variance = float(np.median(pairs)) if pairs.size else 0.0
    return np.exp(np.maximum(squared, 0) / (-2 * variance if variance > 0 else -2.0)).astype(np.float32)
