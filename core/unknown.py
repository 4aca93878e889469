"""Is it any of the classes at all? Scores from logits and from the distance to training embeddings; higher is stranger.

msp           1 − max softmax probability        (Hendrycks and Gimpel 2017), the baseline
max_logit     − max logit                        (Hendrycks et al. 2022)
energy        − ln Σ exp(logit)                  (Liu et al. 2020)
knn           cosine distance to the k-th nearest training clip (Sun et al. 2022), between square roots of embeddings:
              they are ≥ 0 and heavy-tailed, and a few strong channels would decide alone (Hellinger's kernel)
either        the larger of knn and energy, each in standard deviations from the median training clip: a sound is
              strange when it lies far from the training clips or when no class claims it
mahalanobis   distance to the nearest class mean under a shared, shrunk covariance (Lee et al. 2018;
              shrinkage by Ledoit and Wolf 2004, because D is near the number of clips)
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from core.config import Frozen
from core.inference import softmax

Floats = NDArray[np.float64]
Score = Literal["msp", "max_logit", "energy", "knn", "mahalanobis", "either"]
SCORES: tuple[Score, ...] = get_args(Score)
NEIGHBOURS = 5  # a class has 32 to 40 training clips
ACCEPTED = 0.95  # share of known sounds that a threshold lets pass


class UnknownRule(Frozen):
    """A sound whose ``score`` exceeds ``threshold`` is none of the classes; ``accepted`` of known sounds pass."""

    score: Score
    threshold: float
    accepted: float = Field(ACCEPTED, gt=0, lt=1)


@dataclass(frozen=True)
class Familiarity:
    """Training in the embedding: ``reference`` (M, D), unit rows of square roots; ``means`` (K, D); ``whiten`` (D, D).

    ``knn_scale`` and ``energy_scale`` are median and standard deviation over the training clips, each clip compared
    with the others.
    """

    reference: NDArray[np.float32]
    means: NDArray[np.float32]
    whiten: NDArray[np.float32]
    knn_scale: tuple[float, float]
    energy_scale: tuple[float, float]

    @classmethod
    def fit(
        cls, embeddings: NDArray[np.float32], logits: NDArray[np.float32], targets: NDArray[np.int64]
    ) -> Familiarity:
        """From the embeddings (M, D) and logits (M, K) of the training clips, unaugmented, and their classes (M,)."""
        means = np.stack([embeddings[targets == k].mean(axis=0) for k in np.unique(targets)])
        centred = embeddings - means[np.searchsorted(np.unique(targets), targets)]
        precision = LedoitWolf(assume_centered=True).fit(centred.astype(np.float64)).precision_
        values, vectors = np.linalg.eigh(precision)
        whiten = vectors * np.sqrt(np.maximum(values, 0))
        reference = unit(_roots(embeddings))
        others = _kth_distance(reference, reference, NEIGHBOURS + 1)  # the nearest of each clip is itself
        return cls(
            reference, means.astype(np.float32), whiten.astype(np.float32), _scale(others), _scale(_energy(logits))
        )

    def score(self, name: Score, logits: NDArray[np.float32], embeddings: NDArray[np.float32]) -> Floats:
        """The score ``name`` for logits (N, K) and embeddings (N, D), (N,)."""
        match name:
            case "msp":
                return 1 - softmax(logits).max(axis=1)
            case "max_logit":
                return -logits.max(axis=1).astype(np.float64)
            case "energy":
                return _energy(logits)
            case "knn":
                return self.knn(embeddings)
            case "mahalanobis":
                return self.mahalanobis(embeddings)
            case "either":
                far, weak = (self.knn(embeddings), self.knn_scale), (_energy(logits), self.energy_scale)
                return np.maximum(*((value - median) / spread for value, (median, spread) in (far, weak)))

    def scores(self, logits: NDArray[np.float32], embeddings: NDArray[np.float32]) -> dict[Score, Floats]:
        """Every score of ``SCORES``, each (N,)."""
        return {name: self.score(name, logits, embeddings) for name in SCORES}

    def knn(self, embeddings: NDArray[np.float32]) -> Floats:
        return _kth_distance(unit(_roots(embeddings)), self.reference, NEIGHBOURS)

    def mahalanobis(self, embeddings: NDArray[np.float32]) -> Floats:
        offset = (embeddings[:, None, :] - self.means[None]).astype(np.float64)  # (N, K, D)
        return np.asarray(np.square(offset @ self.whiten).sum(axis=2).min(axis=1) ** 0.5)


def _roots(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sqrt(np.maximum(embeddings, 0))


def _energy(logits: NDArray[np.float32]) -> Floats:
    return -np.asarray(logsumexp(logits.astype(np.float64), axis=1))


def _kth_distance(queries: NDArray[np.float32], reference: NDArray[np.float32], k: int) -> Floats:
    """Cosine distance of unit rows (N, D) to the k-th nearest of unit rows (M, D), (N,)."""
    distance = 1 - queries.astype(np.float64) @ reference.T  # (N, M)
    position = min(k, len(reference)) - 1
    return np.asarray(np.partition(distance, position, axis=1)[:, position])


def _scale(values: Floats) -> tuple[float, float]:
    return float(np.median(values)), max(float(values.std()), 1e-9)


def unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(length, 1e-12), dtype=np.float32)


def acceptance_threshold(scores: Floats, *, accepted: float = ACCEPTED) -> float:
    """The score that this share of out-of-fold in-distribution clips stays at or under."""
    return float(np.quantile(scores, accepted, method="higher"))
