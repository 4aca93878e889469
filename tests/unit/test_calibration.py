import numpy as np
import pytest
import torch
from sklearn.metrics import log_loss

from core.calibration import (
    apply_temperatures,
    conformal_quantile,
    fit_temperature,
    negative_log_likelihood,
    nested_temperatures,
    prediction_set,
)
from core.inference import softmax


def drawn(n: int, *, sharpness: float, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Logits whose true temperature is ``sharpness``: targets are drawn from softmax(logits / sharpness)."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 3, (n, 5)).astype(np.float32)
    probabilities = softmax(logits, sharpness)
    return logits, np.array([rng.choice(5, p=row) for row in probabilities])


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_that_made_the_data_is_found(temperature: float) -> None:
    assert fit_temperature(*drawn(20_000, sharpness=temperature)) == pytest.approx(temperature, rel=0.05)


def test_the_fitted_temperature_agrees_with_lbfgs() -> None:
    logits, targets = drawn(500, sharpness=2.0)
    log_t = torch.zeros((), requires_grad=True)
    optimizer = torch.optim.LBFGS([log_t], max_iter=100, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        loss = torch.nn.functional.cross_entropy(torch.from_numpy(logits) / log_t.exp(), torch.from_numpy(targets))
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(logits, targets) == pytest.approx(float(log_t.detach().exp()), rel=1e-3)


def test_a_fold_takes_no_part_in_its_own_temperature() -> None:
    logits, targets = drawn(300, sharpness=1.5)
    folds = np.repeat([1, 2, 3], 100)
    before = nested_temperatures(logits, targets, folds)
    spoiled = logits.copy()
    spoiled[folds == 2] *= 7
    after = nested_temperatures(spoiled, targets, folds)
    assert after[2] == before[2]
    assert after[1] != before[1]


def test_each_row_is_divided_by_its_own_folds_temperature() -> None:
    logits, _ = drawn(4, sharpness=1.0)
    rows = apply_temperatures(logits, np.array([1, 1, 2, 2]), {1: 1.0, 2: 2.0})
    np.testing.assert_allclose(rows[:2], softmax(logits[:2]), rtol=1e-6)
    np.testing.assert_allclose(rows[2:], softmax(logits[2:], 2.0), rtol=1e-6)


def test_likelihood_agrees_with_scikit_learn_and_is_nan_for_nothing() -> None:
    logits, targets = drawn(200, sharpness=1.0)
    probabilities = softmax(logits)
    expected = log_loss(targets, probabilities, labels=range(5))
    assert negative_log_likelihood(probabilities, targets) == pytest.approx(expected)
    assert np.isnan(negative_log_likelihood(np.zeros((0, 5)), np.zeros(0, dtype=int)))


def test_nothing_to_fit_on_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one record"):
        fit_temperature(np.zeros((0, 3), dtype=np.float32), np.zeros(0, dtype=int))


def test_conformal_sets_cover_new_data_as_promised() -> None:
    covered = []
    for seed in range(200):
        logits, targets = drawn(200, sharpness=1.0, seed=seed)
        probabilities = softmax(logits)
        quantile = conformal_quantile(probabilities[:100], targets[:100], coverage=0.9)
        members = prediction_set(probabilities[100:], quantile)
        covered.append(members[np.arange(100), targets[100:]].mean())
    assert np.mean(covered) == pytest.approx(0.905, abs=0.01)


def test_the_conformal_quantile_is_the_order_statistic_of_the_definition() -> None:
    probabilities = np.array([[p, 1 - p] for p in np.linspace(0.05, 0.95, 19)])
    targets = np.zeros(19, dtype=int)
    # 20 · 0.9 = 18th smallest of 1 − p = 0.05, 0.10, …, 0.95
    assert conformal_quantile(probabilities, targets, coverage=0.9) == pytest.approx(0.90)


def test_too_few_clips_for_the_coverage_give_the_set_of_all_classes() -> None:
    probabilities = softmax(drawn(5, sharpness=1.0)[0])
    quantile = conformal_quantile(probabilities, np.zeros(5, dtype=int), coverage=0.9)
    assert quantile == 1
    assert prediction_set(probabilities, quantile).all()


def test_no_prediction_set_is_empty() -> None:
    assert prediction_set(np.full((1, 10), 0.1), 0.01).sum() >= 1
