"""What turns logits into probabilities and sets that can be believed: one temperature, one conformal quantile.

Both are fitted on out-of-fold logits. For a reported fold they are fitted on the other folds (``nested_temperatures``).
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from core.inference import softmax

Floats = NDArray[np.float64]
TEMPERATURE_RANGE = (0.05, 20.0)  # mixup-trained networks are often under-confident: both sides of 1 must be open


def negative_log_likelihood(probabilities: Floats, targets: NDArray[np.int64]) -> float:
    """Mean of −ln p(true class), nats. (N, K) and (N,) → scalar; nan when N = 0."""
    if len(targets) == 0:
        return math.nan
    return float(-np.log(probabilities[np.arange(len(targets)), targets].clip(1e-12)).mean())


def fit_temperature(logits: NDArray[np.float32], targets: NDArray[np.int64]) -> float:
    """T > 0 that minimises the negative log-likelihood of softmax(logits / T) (Guo et al. 2017).

    ``logits`` (N, K), ``targets`` (N,) class indices. The likelihood has one optimum in T, so a bounded line search
    over ln T finds it. Raises ``ValueError`` when there is nothing to fit on.
    """
    if len(targets) == 0:
        raise ValueError("Expected at least one record to fit a temperature on, got none.")
    low, high = (math.log(bound) for bound in TEMPERATURE_RANGE)

    def loss(log_temperature: float) -> float:
        return negative_log_likelihood(softmax(logits, math.exp(log_temperature)), targets)

    return math.exp(float(minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-5}).x))


def nested_temperatures(
    logits: NDArray[np.float32], targets: NDArray[np.int64], folds: NDArray[np.int64]
) -> dict[int, float]:
    """For each fold the temperature fitted on all the others, so that no reported clip takes part in its own fit."""
    return {
        int(fold): fit_temperature(logits[folds != fold], targets[folds != fold]) for fold in np.unique(folds).tolist()
    }


def apply_temperatures(logits: NDArray[np.float32], folds: NDArray[np.int64], by_fold: dict[int, float]) -> Floats:
    """Probabilities (N, K) with each row's own fold temperature."""
    temperature = np.array([by_fold[int(fold)] for fold in folds])[:, None]
    return softmax(np.asarray(logits / temperature))


def conformal_quantile(probabilities: Floats, targets: NDArray[np.int64], *, coverage: float = 0.9) -> float:
    """LAC quantile q̂ (Sadinle et al. 2019): the ⌈(n + 1) · coverage⌉-th smallest of 1 − p(true class).

    The set {k: 1 − p_k ≤ q̂} then holds the truth with probability ≥ ``coverage`` for exchangeable data. With fewer
    clips than the coverage needs the quantile is 1: the set of every class.
    """
    return quantile_of(np.sort(1 - probabilities[np.arange(len(targets)), targets]), coverage)


def quantile_of(scores: Floats, coverage: float) -> float:
    """The same from the scores 1 − p(true class), which rise."""
    rank = math.ceil((len(scores) + 1) * coverage)
    return 1.0 if rank > len(scores) else float(scores[rank - 1])


def prediction_set(probabilities: Floats, quantile: float) -> NDArray[np.bool_]:
    """(…, K) → membership (…, K). The most probable class is always a member, so that no set is empty."""
    members = 1 - probabilities <= quantile
    return np.asarray(members | (probabilities == probabilities.max(axis=-1, keepdims=True)))
