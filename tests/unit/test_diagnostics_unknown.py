import numpy as np
import pytest
from scipy.stats import mannwhitneyu

from core.diagnostics.unknown import aupr, auroc, fpr95, separation


def scores(seed: int = 0, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.normal(0, 1, 200), rng.normal(shift, 1, 150)


def test_auroc_is_the_share_of_pairs_in_the_right_order() -> None:
    known, unknown = scores()
    assert auroc(known, unknown) == pytest.approx(mannwhitneyu(unknown, known).statistic / (200 * 150))


def test_perfect_separation_and_none() -> None:
    known, unknown = np.arange(10.0), np.arange(10.0) + 100
    perfect = separation(known, unknown, rng=np.random.default_rng(0))
    assert (perfect.auroc.value, perfect.aupr.value, perfect.fpr95.value) == pytest.approx((1, 1, 0))
    assert auroc(known, known) == 0.5


def test_fpr95_of_a_hand_computed_case() -> None:
    known = np.arange(1.0, 101.0)  # the smallest score that keeps 95 % of these is 96
    assert fpr95(known, np.array([95.0, 96.0, 97.0, 200.0])) == 0.5


def test_intervals_hold_the_truth_about_as_often_as_they_say() -> None:
    from scipy.stats import norm

    truth = norm.cdf(1 / np.sqrt(2))
    hits = 0
    for seed in range(40):
        interval = separation(*scores(seed), rng=np.random.default_rng(seed), draws=100).auroc
        hits += interval.low <= truth <= interval.high
    assert hits >= 33  # 38 expected


def test_a_sound_that_two_networks_heard_is_one_piece_of_evidence() -> None:
    known, unknown = scores()
    names = [f"clip {i}" for i in range(200)], [f"other {i}" for i in range(150)]
    once = separation(known, unknown, rng=np.random.default_rng(0), clips=names)
    twice = separation(np.tile(known, 2), unknown, rng=np.random.default_rng(0), clips=(names[0] * 2, names[1]))
    assert (twice.n_known, twice.n_unknown) == (200, 150)
    assert twice.auroc == once.auroc
    assert separation(np.tile(known, 2), unknown, rng=np.random.default_rng(0)).n_known == 400


def test_an_empty_side_gives_nan() -> None:
    empty = separation(np.zeros(0), np.ones(3), rng=np.random.default_rng(0))
    assert np.isnan(empty.auroc.value)
    assert (empty.n_known, empty.n_unknown) == (0, 3)


def test_auroc_and_aupr_agree_with_scikit_learn_also_with_ties() -> None:
    from sklearn.metrics import average_precision_score, roc_auc_score

    rng = np.random.default_rng(0)
    for digits in (0, 1, 8):
        known, unknown = rng.normal(0, 1, 90).round(digits), rng.normal(0.7, 1, 60).round(digits)
        truth, scores = np.repeat([0, 1], [90, 60]), np.concatenate([known, unknown])
        assert auroc(known, unknown) == pytest.approx(roc_auc_score(truth, scores))
        assert aupr(known, unknown) == pytest.approx(average_precision_score(truth, scores))
