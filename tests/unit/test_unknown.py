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
    """With a head that answers by the class means."""
    head = np.stack([embeddings[targets == k].mean(axis=0) for k in np.unique(targets)])
    return Familiarity.fit(embeddings, embeddings @ head.T, targets)


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
    np.testing.assert_allclose(fitted(embeddings, targets).mahalanobis(query), expected, rtol=1e-4)


def test_energy_agrees_with_torch(training: tuple[np.ndarray, np.ndarray]) -> None:
    logits = np.random.default_rng(3).normal(0, 4, (6, 4)).astype(np.float32)
    scores = fitted(*training).scores(logits, training[0][:6])
    np.testing.assert_allclose(
        scores["energy"], -torch.logsumexp(torch.from_numpy(logits), 1).numpy(), rtol=1e-5, atol=1e-5
    )


def test_either_notices_what_is_far_and_what_no_class_claims(training: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, targets = training
    familiarity = fitted(embeddings, targets)
    head = np.stack([embeddings[targets == k].mean(axis=0) for k in range(4)])
    usual = np.median(familiarity.score("either", embeddings @ head.T, embeddings))
    elsewhere = np.eye(16, dtype=np.float32)[:1] * 50  # loud in one channel alone: a strong answer, far from all clips
    faint = embeddings[:1] / 50  # in the direction of a training clip, but hardly there
    for strange in (elsewhere, faint):
        assert familiarity.score("either", strange @ head.T, strange)[0] > usual + 1
    assert familiarity.knn(faint)[0] == pytest.approx(familiarity.knn(embeddings[:1])[0], abs=1e-6)


def test_more_dimensions_than_clips_are_no_obstacle() -> None:
    rng = np.random.default_rng(4)
    embeddings, targets = rng.normal(0, 1, (20, 64)).astype(np.float32), np.repeat([0, 1], 10)
    assert np.isfinite(fitted(embeddings, targets).mahalanobis(embeddings)).all()


def test_the_order_of_training_clips_does_not_matter(training: tuple[np.ndarray, np.ndarray]) -> None:
    embeddings, targets = training
    order = np.random.default_rng(5).permutation(len(targets))
    one, two = fitted(embeddings, targets), fitted(embeddings[order], targets[order])
    np.testing.assert_allclose(one.knn(embeddings), two.knn(embeddings), atol=1e-6)
    np.testing.assert_allclose(one.mahalanobis(embeddings), two.mahalanobis(embeddings), rtol=1e-3)


def test_the_threshold_accepts_the_share_it_promises() -> None:
    scores = np.random.default_rng(6).normal(0, 1, 400)
    assert np.mean(scores <= acceptance_threshold(scores)) == pytest.approx(0.95, abs=1.01 / 400)


def test_unit_rows_have_length_one_and_zeros_stay() -> None:
    rows = unit(np.array([[3.0, 4.0], [0.0, 0.0]], dtype=np.float32))
    np.testing.assert_allclose(rows, [[0.6, 0.8], [0, 0]])
