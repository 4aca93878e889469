"""Is it any of the classes at all? Scores from logits and from the distance to training embeddings; higher is stranger.

msp           1 − max softmax probability        (Hendrycks and Gimpel 2017), the baseline
max_logit     − max logit                        (Hendrycks et al. 2022)
energy        − ln Σ exp(logit)                  (Liu et al. 2020)
knn           cosine distance to the k-th nearest training embedding (Sun et al. 2022)
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
Score = Literal["msp", "max_logit", "energy", "knn", "mahalanobis"]
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
    """Training in the embedding: ``reference`` (M, D), rows of unit length; ``means`` (K, D); ``whiten`` (D, D)."""

    reference: NDArray[np.float32]
    means: NDArray[np.float32]
    whiten: NDArray[np.float32]

    @classmethod
    def fit(cls, embeddings: NDArray[np.float32], targets: NDArray[np.int64]) -> Familiarity:
        """From the embeddings (M, D) of the training clips, unaugmented, and their class indices (M,)."""
        means = np.stack([embeddings[targets == k].mean(axis=0) for k in np.unique(targets)])
        centred = embeddings - means[np.searchsorted(np.unique(targets), targets)]
        precision = LedoitWolf(assume_centered=True).fit(centred.astype(np.float64)).precision_
        values, vectors = np.linalg.eigh(precision)
        whiten = vectors * np.sqrt(np.maximum(values, 0))
        return cls(unit(embeddings), means.astype(np.float32), whiten.astype(np.float32))

    def score(self, name: Score, logits: NDArray[np.float32], embeddings: NDArray[np.float32]) -> Floats:
        """The score ``name`` for logits (N, K) and embeddings (N, D), (N,)."""
        match name:
            case "msp":
                return 1 - softmax(logits).max(axis=1)
            case "max_logit":
                return -logits.max(axis=1).astype(np.float64)
            case "energy":
                return -np.asarray(logsumexp(logits.astype(np.float64), axis=1))
            case "knn":
                return self.knn(embeddings)
            case "mahalanobis":
                return self.mahalanobis(embeddings)

    def scores(self, logits: NDArray[np.float32], embeddings: NDArray[np.float32]) -> dict[Score, Floats]:
        """Every score of ``SCORES``, each (N,)."""
        return {name: self.score(name, logits, embeddings) for name in SCORES}

    def knn(self, embeddings: NDArray[np.float32]) -> Floats:
        distance = 1 - unit(embeddings).astype(np.float64) @ self.reference.T  # (N, M)
        k = min(NEIGHBOURS, len(self.reference))
        return np.asarray(np.partition(distance, k - 1, axis=1)[:, k - 1])

    def mahalanobis(self, embeddings: NDArray[np.float32]) -> Floats:
        offset = (embeddings[:, None, :] - self.means[None]).astype(np.float64)  # (N, K, D)
        return np.asarray(np.square(offset @ self.whiten).sum(axis=2).min(axis=1) ** 0.5)


def unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(length, 1e-12), dtype=np.float32)


def acceptance_threshold(scores: Floats, *, accepted: float = ACCEPTED) -> float:
    """The score that this share of out-of-fold in-distribution clips stays at or under."""
    return float(np.quantile(scores, accepted, method="higher"))
