"""Intervals against statsmodels, and by simulation: they hold the truth about as often as they say."""

import numpy as np
import pandas as pd
import pytest
from statsmodels.stats.proportion import proportion_confint

from core.diagnostics import intervals
from core.diagnostics.intervals import MOST_BLOCKS, blocks_of, exact, percentiles, resamples, share, wilson

COUNTS = [(0, 1), (1, 1), (0, 8), (7, 8), (8, 8), (36, 40), (40, 40), (381, 400), (500_000, 1_000_000)]


@pytest.mark.parametrize(("right", "n"), COUNTS)
def test_intervals_of_shares_are_those_of_statsmodels(right: int, n: int) -> None:
    assert np.ravel(wilson(right, n)) == pytest.approx(proportion_confint(right, n, method="wilson"), abs=1e-12)
    assert np.ravel(exact(right, n)) == pytest.approx(proportion_confint(right, n, method="beta"), abs=1e-9)


def test_nothing_has_no_interval_and_arrays_work_as_numbers_do() -> None:
    for interval in (wilson, exact):
        low, high = interval([0, 7], [0, 8])
        assert np.isnan([low[0], high[0]]).all()
        assert (low[1], high[1]) == interval(7, 8)
    assert np.isnan(share(np.nan, 0).low)


def test_seven_of_eight_is_almost_anything() -> None:
    assert share(7 / 8, 8).low == pytest.approx(0.529, abs=1e-3)
    assert share(7 / 8, 8).high == pytest.approx(0.978, abs=1e-3)


@pytest.mark.parametrize(("value", "n"), [(0.954166, 400), (1 / 3, 1 / 3), (0.5, 7.5)])
def test_a_mean_over_seeds_has_its_own_interval_and_not_that_of_a_whole_number_of_clips(value: float, n: float) -> None:
    """At the ends of Wilson's interval the share is 1.96 standard errors, of that end, away."""
    low, high = (float(end) for end in wilson(value * n, n))
    assert low < value < high
    for end in (low, high):
        assert (value - end) ** 2 * n == pytest.approx(intervals.Z**2 * end * (1 - end), abs=1e-12)
    if n == 400:
        assert share(value, n).low != share(0.955833, n).low


@pytest.mark.parametrize("p", [0.6, 0.95])
@pytest.mark.parametrize("n", [8, 40, 400])
def test_intervals_of_shares_cover(p: float, n: int) -> None:
    """Exactly, over every possible count: Wilson at least 91 % anywhere and 95 % on average, exact never under 95 %."""
    from scipy.stats import binom

    k = np.arange(n + 1)
    chance = binom.pmf(k, n, p)
    covered = {
        interval: chance[(interval(k, n)[0] <= p) & (p <= interval(k, n)[1])].sum() for interval in (wilson, exact)
    }
    assert covered[wilson] > 0.91
    assert covered[exact] >= 0.95


def test_recordings_are_resampled_whole_and_many_of_them_in_blocks() -> None:
    rng = np.random.default_rng(0)
    assert blocks_of(["a", "b", "a", "c"], rng=rng).tolist() == [0, 1, 0, 2]
    many = np.repeat(np.arange(3 * MOST_BLOCKS + 1), 2).astype(str)
    block = blocks_of(many, rng=rng)
    assert (block[::2] == block[1::2]).all()
    assert set(np.bincount(block)) == {6, 8}  # three recordings of two clips, or four
    weights = resamples(50, rng=rng, draws=20)
    assert weights.shape == (20, 50)
    assert (weights.sum(axis=1) == 50).all()


def test_blocks_spread_as_single_recordings_do(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    groups = pd.Series(np.repeat(np.arange(1_500), 2).astype(str))
    values = np.repeat(rng.normal(size=1_500), 2) + rng.normal(size=3_000)

    def spread(most: int) -> float:
        monkeypatch.setattr(intervals, "MOST_BLOCKS", most)
        block = blocks_of(groups, rng=np.random.default_rng(1))
        blocks = int(block.max()) + 1
        weights = resamples(blocks, rng=np.random.default_rng(2))
        means = (weights @ np.bincount(block, values)) / (weights @ np.bincount(block))
        return float(means.std())

    assert spread(500) == pytest.approx(spread(2_000), rel=0.1)


def test_percentiles_leave_out_draws_in_which_nothing_is_defined() -> None:
    drawn = np.array([[1.0, np.nan], [2.0, np.nan], [np.nan, np.nan], [3.0, 1.0]])
    low, high = percentiles(drawn)
    assert (low[0], high[0]) == pytest.approx((1.05, 2.95))
    assert np.isnan([low[1], high[1]]).all()
