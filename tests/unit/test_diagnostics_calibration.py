import numpy as np
import pytest
import torch
from torchmetrics.functional.classification import multiclass_calibration_error

from core.diagnostics.calibration import (
    RELIABILITY_COLUMNS,
    bin_index,
    brier_score,
    calibration_scores,
    ece_noise_floor,
    expected_calibration_error,
    maximum_calibration_error,
    reliability_table,
)


def answers(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(6, 0.4), n)
    return probabilities, rng.integers(0, 6, n)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("norm", ["l1", "max"])
def test_ece_and_mce_agree_with_torchmetrics(seed: int, norm: str) -> None:
    probabilities, targets = answers(500, seed)
    ours = (expected_calibration_error if norm == "l1" else maximum_calibration_error)(
        probabilities.max(axis=1), probabilities.argmax(axis=1) == targets
    )
    oracle = multiclass_calibration_error(
        torch.from_numpy(probabilities), torch.from_numpy(targets), num_classes=6, n_bins=15, norm=norm
    )
    assert ours == pytest.approx(float(oracle), abs=1e-6)


def test_an_edge_belongs_to_the_bin_below_it() -> None:
    edges = np.linspace(0, 1, 16)
    assert bin_index(edges).tolist() == [0, *range(15)]
    assert bin_index(np.nextafter(edges[1:-1], 1)).tolist() == list(range(1, 15))


def test_ece_of_a_hand_computed_case() -> None:
    # Two bins hold clips: three at 0.9 (two right), one at 0.5 (right): 3/4 · |2/3 − 0.9| + 1/4 · |1 − 0.5|
    confidence, correct = np.array([0.9, 0.9, 0.9, 0.5]), np.array([True, True, False, True])
    assert expected_calibration_error(confidence, correct) == pytest.approx(0.75 * 0.7 / 3 + 0.125)
    assert maximum_calibration_error(confidence, correct) == pytest.approx(0.5)


def test_the_table_keeps_every_bin_and_leaves_empty_ones_empty() -> None:
    table = reliability_table(np.array([0.95, 0.96, 1.0]), np.array([True, True, True]))
    assert tuple(table.columns) == RELIABILITY_COLUMNS
    assert table["n"].tolist() == [0] * 14 + [3]
    assert table.loc[:13, ["confidence", "accuracy", "accuracy_low", "accuracy_high"]].isna().all(axis=None)
    last = table.iloc[-1]
    assert last["accuracy_high"] == 1
    assert 0.2 < last["accuracy_low"] < 0.4  # Clopper–Pearson for 3 of 3: 0.292


def test_brier_of_certainty_and_of_ignorance() -> None:
    targets = np.array([0, 1])
    assert brier_score(np.eye(2), targets) == 0
    assert brier_score(np.eye(2)[::-1], targets) == 2
    assert brier_score(np.full((2, 2), 0.5), targets) == 0.5


def test_the_noise_floor_is_what_a_calibrated_model_scores() -> None:
    rng = np.random.default_rng(1)
    confidence = rng.uniform(0.3, 1.0, 400)
    mean, high = ece_noise_floor(confidence, rng=np.random.default_rng(2))
    seen = [expected_calibration_error(confidence, rng.random(400) < confidence) for _ in range(500)]
    assert mean == pytest.approx(np.mean(seen), rel=0.05)
    assert np.mean(np.array(seen) > high) == pytest.approx(0.05, abs=0.03)


def test_the_noise_floor_falls_with_the_number_of_clips() -> None:
    floors = [ece_noise_floor(np.full(n, 0.8), rng=np.random.default_rng(0), draws=200)[0] for n in (50, 500, 5_000)]
    assert floors[0] > floors[1] > floors[2]


def test_the_order_of_clips_does_not_matter() -> None:
    probabilities, targets = answers(300)
    order = np.random.default_rng(3).permutation(300)
    one = calibration_scores(probabilities, targets, rng=np.random.default_rng(0))
    two = calibration_scores(probabilities[order], targets[order], rng=np.random.default_rng(0))
    assert (one.ece, one.brier, one.nll) == pytest.approx((two.ece, two.brier, two.nll))


def test_nothing_gives_nan_and_not_zero() -> None:
    scores = calibration_scores(np.zeros((0, 3)), np.zeros(0, dtype=int), rng=np.random.default_rng(0))
    assert scores.n == 0
    assert all(np.isnan(value) for value in (scores.ece, scores.mce, scores.brier, scores.nll, scores.noise_floor))
