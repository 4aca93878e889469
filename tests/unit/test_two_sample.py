"""Each statistic against an independent implementation, a slow direct version, or a case computed by hand."""

import itertools

import numpy as np
import pytest
from scipy.stats import chi2_contingency, ks_2samp, wasserstein_distance
from statsmodels.stats.multitest import multipletests

from core.diagnostics import two_sample
from core.diagnostics.two_sample import (
    ShiftNull,
    class_mix,
    distances,
    gaussian_kernel,
    holm,
    ks_p,
    mmd_test,
    principal_components,
    psi,
)


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)


@pytest.mark.parametrize("m", [1, 2, 18])
def test_holm_is_that_of_statsmodels(rng: np.random.Generator, m: int) -> None:
    for _ in range(20):
        p = rng.random(m) ** 3
        np.testing.assert_allclose(holm(p), multipletests(p, method="holm")[1])


def test_holm_passes_over_what_was_not_tested() -> None:
    np.testing.assert_allclose(holm(np.array([0.01, np.nan, 0.04])), [0.02, np.nan, 0.04])
    assert holm(np.zeros(0)).size == 0


def test_the_shift_is_scipys_wasserstein_distance_in_standard_deviations(rng: np.random.Generator) -> None:
    a, b = rng.normal(0, 3, 90), rng.normal(1, 3, 70)
    found = ShiftNull(rng=rng).effects(a, b)
    assert found.shift == pytest.approx(wasserstein_distance(a, b) / a.std(ddof=1))


@pytest.mark.parametrize("sizes", [(1, 1), (1, 7), (80, 20), (300, 12_000)])
@pytest.mark.parametrize("decimals", [0, 1, 12])
def test_both_distances_and_the_test_of_the_larger_are_scipys(
    rng: np.random.Generator, sizes: tuple[int, int], decimals: int
) -> None:
    a, b = (np.round(rng.normal(shift, 1, n), decimals) for shift, n in zip((0, 0.1), sizes, strict=True))
    found, expected = distances(a, b), ks_2samp(a, b)
    assert found.ks == pytest.approx(expected.statistic, abs=1e-12)
    assert found.wasserstein == pytest.approx(wasserstein_distance(a, b))
    assert ks_p(found.ks, a, b) == pytest.approx(expected.pvalue)


def test_records_that_are_worth_fewer_never_make_a_test_surer(rng: np.random.Generator) -> None:
    for n in (30, 60, 20_000):
        a, b = rng.normal(size=n), rng.normal(0.3, 1, n)
        found = distances(a, b)
        p = [ks_p(found.ks, a, b, worth) for worth in (1.0, 1.01, 2.0, 5.0)]
        assert p == sorted(p)


@pytest.mark.parametrize("ties", [False, True])
def test_the_permutation_nulls_are_those_of_a_direct_loop(ties: bool) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.normal(0, 2, 60), rng.normal(0.3, 2, 40)
    if ties:
        a, b = np.round(a), np.round(b)
    null = ShiftNull(rng=np.random.default_rng(2), permutations=25)
    found = null.effects(a, b)
    pooled = np.sort(np.concatenate([a, b]))
    shifts, indices = [], []
    for member in np.diff(null._permuted(60, 40)[0], axis=1, prepend=0) == 1:
        x, y = pooled[~member], pooled[member]
        shifts.append(wasserstein_distance(x, y) / a.std(ddof=1))
        edges = two_sample.psi_edges(a)
        p, q = (np.bincount(np.searchsorted(edges, v), minlength=len(edges) + 1) + 0.5 for v in (x, y))
        p, q = p / p.sum(), q / q.sum()
        indices.append(((q - p) * np.log(q / p)).sum())
    assert found.shift_null_95 == pytest.approx(np.quantile(shifts, 0.95))
    assert found.psi_null_95 == pytest.approx(np.quantile(indices, 0.95))


def test_the_null_of_a_thinned_sample_is_that_of_the_whole(rng: np.random.Generator, monkeypatch) -> None:
    a, b = rng.normal(size=2_000), rng.normal(size=2_000)
    whole = ShiftNull(rng=np.random.default_rng(3), permutations=400).effects(a, b)
    monkeypatch.setattr(two_sample, "NULL_ROWS", 500)
    thinned = ShiftNull(rng=np.random.default_rng(3), permutations=400).effects(a, b)
    assert thinned.shift_null_95 == pytest.approx(whole.shift_null_95, rel=0.25)
    assert thinned.psi_null_95 == pytest.approx(whole.psi_null_95, rel=0.25)
    assert (thinned.shift, thinned.psi) == (whole.shift, whole.psi)


def test_psi_of_a_case_by_hand() -> None:
    reference = np.arange(1.0, 11.0)  # one value in each of ten bins
    current = np.full(5, 100.0)  # all in the last
    p, q = np.full(10, 1.5 / 15), np.r_[np.full(9, 0.5 / 10), 5.5 / 10]
    assert psi(reference, current) == pytest.approx(((q - p) * np.log(q / p)).sum())
    assert psi(reference, reference) == 0


def test_what_does_not_vary_has_no_effect_and_a_change_of_it_has_one(rng: np.random.Generator) -> None:
    still = np.full(60, 0.3)
    assert ShiftNull(rng=rng).effects(still, still).shift == 0
    assert ShiftNull(rng=rng).effects(still, still + 1).shift > 1
    assert np.isfinite(ShiftNull(rng=rng).effects(np.array([1.0]), np.array([2.0])).shift)


def test_the_class_mix_is_scipys_chi2_where_counts_allow(rng: np.random.Generator) -> None:
    a, b = np.array([40, 30, 30, 0]), np.array([20, 30, 10, 0])
    expected = chi2_contingency([a[:3], b[:3]], correction=False)
    found = class_mix(a, b, rng=rng)
    assert (found.method, found.statistic, found.p) == (
        "chi2",
        pytest.approx(expected.statistic),
        pytest.approx(expected.pvalue),
    )
    assert found.distance == pytest.approx(np.abs(a / 100 - b / 60).max())


def test_the_class_mix_of_small_counts_is_the_exact_permutation_test(rng: np.random.Generator) -> None:
    a, b = np.array([3, 0, 1]), np.array([0, 3, 0])
    labels = np.repeat([0, 1, 2], a + b)
    observed = chi2_contingency([a, b], correction=False).statistic
    as_far = []
    for chosen in itertools.combinations(range(len(labels)), 3):
        of = np.bincount(labels[list(chosen)], minlength=3)
        as_far.append(chi2_contingency([a + b - of, of], correction=False).statistic >= observed - 1e-9)
    found = class_mix(a, b, rng=rng)
    assert found.method == "permutation"
    assert found.p == pytest.approx(np.mean(as_far), abs=0.02)


def test_one_class_on_both_sides_is_no_change(rng: np.random.Generator) -> None:
    found = class_mix(np.array([60, 0]), np.array([80, 0]), rng=rng)
    assert (found.p, found.distance, found.statistic) == (1.0, 0.0, 0.0)


def slow_mmd2(a: np.ndarray, b: np.ndarray, variance: float) -> float:
    def k(x: np.ndarray, y: np.ndarray) -> float:
        return float(np.exp(-((x - y) ** 2).sum() / (2 * variance)))

    within_a = np.mean([k(x, y) for x, y in itertools.permutations(a, 2)])
    within_b = np.mean([k(x, y) for x, y in itertools.permutations(b, 2)])
    across = np.mean([k(x, y) for x in a for y in b])
    return float(within_a + within_b - 2 * across)


def test_mmd_is_that_of_a_slow_direct_version(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=(20, 5)).astype(np.float32), rng.normal(0.7, 1, size=(14, 5)).astype(np.float32)
    pooled = np.concatenate([a, b]).astype(np.float64)
    distances = [((x - y) ** 2).sum() for x, y in itertools.combinations(pooled, 2)]
    found = mmd_test(a, b, rng=rng)
    assert found.mmd2 == pytest.approx(slow_mmd2(a, b, float(np.median(distances))), abs=1e-5)
    assert (found.n_reference, found.n_current) == (20, 14)


def test_mmd_is_quiet_without_drift_and_finds_a_shift(rng: np.random.Generator) -> None:
    draws = [mmd_test(*rng.normal(size=(2, 60, 8)).astype(np.float32), rng=rng, permutations=99).p for _ in range(60)]
    assert np.mean(np.array(draws) <= 0.05) <= 0.15
    a, b = rng.normal(size=(100, 40)).astype(np.float32), rng.normal(0.5, 1, size=(60, 40)).astype(np.float32)
    found = mmd_test(a, b, rng=rng)
    assert found.p == pytest.approx(1 / 201)
    assert found.mmd2 > found.null_95


def test_rows_trade_places_only_within_their_stratum(rng: np.random.Generator) -> None:
    """Two networks that embed far apart, answering for unequal shares of the two sides: no drift within either."""
    far = 50.0
    a = np.concatenate([rng.normal(0, 1, (80, 4)), rng.normal(far, 1, (20, 4))]).astype(np.float32)
    b = np.concatenate([rng.normal(0, 1, (20, 4)), rng.normal(far, 1, (80, 4))]).astype(np.float32)
    strata = np.repeat([0, 1], [80, 20]), np.repeat([0, 1], [20, 80])
    assert mmd_test(a, b, rng=rng).p < 0.01
    assert mmd_test(a, b, rng=rng, strata=strata).p > 0.01


def test_rows_of_one_recording_trade_places_together(rng: np.random.Generator) -> None:
    """Ten recordings of eight clips against as many others: no drift, though every recording has a place of its own."""
    rows = (rng.normal(size=(20, 4)).repeat(8, axis=0) + rng.normal(0, 0.1, (160, 4))).astype(np.float32)
    groups = np.arange(10).repeat(8), np.arange(10, 20).repeat(8)
    assert mmd_test(rows[:80], rows[80:], rng=rng).p < 0.01
    assert mmd_test(rows[:80], rows[80:], rng=rng, groups=groups).p > 0.05
    alone = np.arange(80), np.arange(80, 160)
    by_row = [mmd_test(rows[:80], rows[80:], rng=np.random.default_rng(1), groups=of) for of in (None, alone)]
    assert by_row[0].mmd2 == pytest.approx(by_row[1].mmd2)
    assert np.isfinite(mmd_test(rows[:8], rows[80:88], rng=rng, groups=(np.zeros(8, int), np.ones(8, int))).p)


def test_records_that_are_worth_fewer_have_a_wider_null(rng: np.random.Generator) -> None:
    a, b = rng.normal(size=90), rng.normal(size=70)
    whole, quarter = (ShiftNull(rng=np.random.default_rng(1)).effects(a, b, worth) for worth in (1.0, 4.0))
    assert quarter.shift_null_95 == pytest.approx(2 * whole.shift_null_95)
    assert (quarter.shift, quarter.psi_null_95) == (whole.shift, pytest.approx(4 * whole.psi_null_95))
    counts = np.array([40, 30, 30]), np.array([20, 30, 10])
    mixes = [class_mix(*counts, rng=np.random.default_rng(1), worth=worth) for worth in (None, (50.0, 30.0))]
    halves = chi2_contingency([[20, 15, 15], [10, 15, 5]], correction=False)
    assert (mixes[1].statistic, mixes[1].p) == (pytest.approx(halves.statistic), pytest.approx(halves.pvalue))
    assert mixes[1].distance == mixes[0].distance
    assert mixes[1].distance_null_95 > mixes[0].distance_null_95


def test_a_mix_that_is_worth_next_to_nothing_is_compared_all_the_same(rng: np.random.Generator) -> None:
    found = class_mix(np.full(10, 4), np.full(10, 6), rng=rng, worth=(1.0, 1.0))
    assert (found.distance, found.p) == (0.0, 1.0)


def test_many_rows_are_thinned_and_the_number_is_told(rng: np.random.Generator, monkeypatch) -> None:
    monkeypatch.setattr(two_sample, "KERNEL_ROWS", 30)
    found = mmd_test(*rng.normal(size=(2, 100, 3)).astype(np.float32), rng=rng)
    assert (found.n_reference, found.n_current) == (30, 30)


def test_principal_components_keep_distances_and_identical_rows_make_a_kernel(rng: np.random.Generator) -> None:
    flat = (rng.normal(size=(50, 3)) @ rng.normal(size=(3, 64))).astype(np.float32)
    kept = principal_components(flat)
    assert kept.shape == (50, 32)
    np.testing.assert_allclose(np.linalg.norm(kept[0] - kept[1]), np.linalg.norm(flat[0] - flat[1]), rtol=1e-4)
    np.testing.assert_array_equal(gaussian_kernel(np.ones((4, 2)), rng=rng), 1)
