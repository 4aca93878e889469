import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, mahalanobis
from sklearn.covariance import LedoitWolf

from core.unknown import NEIGHBOURS, SCORES, Familiarity, acceptance_threshold, unit


@pytest.fixture
def training() -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    targets = np.repeat(np.arange(4), 30)
    centres = rng.normal(0, 3, (4, 16))
    embeddings = np.abs(centres[targets] + rng.normal(0, 1, (120, 16)))  # after ReLU and pooling nothing is negative
    return embeddings.astype(np.float32), targets


def fitted(embeddings: np.ndarray, targets: np.ndarray) -> Familiarity:
    """With two excerpts of each clip, fainter than it."""
    return Familiarity.fit(embeddings, np.stack([0.9 * embeddings, 0.8 * embeddings], axis=1), targets)


def test_every_score_is_higher_for_what_training_never_saw(training: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, targets = training
    familiarity = fitted(embeddings, targets)
    head = np.stack([embeddings[targets == k].mean(axis=0) for k in range(4)])
    strange = np.abs(np.random.default_rng(1).normal(0, 1, (50, 16))).astype(np.float32) * 0.5
    known = familiarity.scores(embeddings @ head.T, embeddings)
    unknown = familiarity.scores(strange @ head.T, strange)
    assert set(known) == set(SCORES)
    for name in SCORES:
        assert np.median(unknown[name]) > np.median(known[name]), name


def test_knn_is_the_cosine_distance_of_roots_to_the_kth_neighbour(training: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, targets = training
    query = np.abs(np.random.default_rng(2).normal(0, 1, (7, 16))).astype(np.float32)
    expected = np.sort(cdist(np.sqrt(query), np.sqrt(embeddings), "cosine"), axis=1)[:, NEIGHBOURS - 1]
    np.testing.assert_allclose(fitted(embeddings, targets).knn(query), expected, atol=1e-6)


def test_mahalanobis_agrees_with_scipy(training: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, targets = training
    means = np.stack([embeddings[targets == k].mean(axis=0) for k in range(4)])
    precision = LedoitWolf(assume_centered=True).fit(embeddings - means[targets]).precision_
    query = np.random.default_rng(2).normal(0, 1, (5, 16)).astype(np.float32)
    expected = [min(mahalanobis(row, mean, precision) for mean in means) for row in query]
    np.testing.assert_allclose(fitted(embeddings, targets).score("mahalanobis", query, query), expected, rtol=1e-4)


def test_energy_agrees_with_torch(training: tuple[np.ndarray, np.ndarray]) -> None:
    logits = np.random.default_rng(3).normal(0, 4, (6, 4)).astype(np.float32)
    scores = fitted(*training).scores(logits, training[0][:6])
    np.testing.assert_allclose(
        scores["energy"], -torch.logsumexp(torch.from_numpy(logits), 1).numpy(), rtol=1e-5, atol=1e-5
    )


def test_the_relative_distance_is_that_to_the_nearest_class_less_that_to_all(
    training: tuple[np.ndarray, np.ndarray],
) -> None:
    embeddings, targets = training
    parts = np.random.default_rng(5).uniform(0.5, 1, (120, 2, 1)).astype(np.float32) * embeddings[:, None]
    rows, of_rows = np.sqrt(np.vstack([embeddings, parts[:, 0], parts[:, 1]])), np.tile(targets, 3)
    means = np.stack([rows[of_rows == k].mean(axis=0) for k in range(4)])
    within = LedoitWolf(assume_centered=True).fit(rows - means[of_rows]).precision_
    overall = LedoitWolf(assume_centered=True).fit(rows - rows.mean(axis=0)).precision_
    query = np.abs(np.random.default_rng(2).normal(0, 1, (5, 16))).astype(np.float32)
    expected = [
        min(mahalanobis(row, mean, within) for mean in means) ** 2 - mahalanobis(row, rows.mean(axis=0), overall) ** 2
        for row in np.sqrt(query)
    ]
    got = Familiarity.fit(embeddings, parts, targets).score("relative", query @ means.T, query)
    np.testing.assert_allclose(got, expected, rtol=1e-3, atol=1e-3)


def test_the_combined_score_is_a_share_of_doubt_and_some_distance(training: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, targets = training
    familiarity = fitted(embeddings, targets)
    undecided, sure = np.zeros((1, 4), np.float32), np.array([[50, 0, 0, 0]], np.float32)
    one = embeddings[:1]
    doubt = familiarity.score("combined", undecided, one) - familiarity.score("combined", sure, one)
    assert doubt[0] == pytest.approx(1)
    between = embeddings.mean(axis=0, keepdims=True)  # like sound in general, like no class
    for logits in (undecided, sure):
        nearer, farther = (familiarity.score("combined", logits, rows)[0] for rows in (one, between))
        assert farther > nearer


def test_more_dimensions_than_clips_are_no_obstacle() -> None:
    rng = np.random.default_rng(4)
    embeddings, targets = rng.normal(0, 1, (20, 64)).astype(np.float32), np.repeat([0, 1], 10)
    assert np.isfinite(fitted(embeddings, targets).score("mahalanobis", embeddings, embeddings)).all()


def test_the_order_of_training_clips_does_not_matter(training: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, targets = training
    order = np.random.default_rng(5).permutation(len(targets))
    one, two = fitted(embeddings, targets), fitted(embeddings[order], targets[order])
    np.testing.assert_allclose(one.knn(embeddings), two.knn(embeddings), atol=1e-6)
    for name in ("mahalanobis", "relative"):
        of_one, of_two = (familiarity.score(name, embeddings, embeddings) for familiarity in (one, two))
        np.testing.assert_allclose(of_one, of_two, rtol=1e-3, atol=1e-3)


def test_the_threshold_accepts_the_share_it_promises() -> None:
    scores = np.random.default_rng(6).normal(0, 1, 400)
    assert np.mean(scores <= acceptance_threshold(scores)) == pytest.approx(0.95, abs=1.01 / 400)


def test_unit_rows_have_length_one_and_zeros_stay() -> None:
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]])
