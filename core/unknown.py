"""Is it any of the classes at all? Scores from logits and from the distance to training embeddings; higher is stranger.

msp           1 − max softmax probability        (Hendrycks and Gimpel 2017), the baseline
max_logit     − max logit                        (Hendrycks et al. 2022)
energy        − ln Σ exp(logit)                  (Liu et al. 2020)
knn           cosine distance to the k-th nearest training clip (Sun et al. 2022), between square roots of embeddings:
              they are ≥ 0 and heavy-tailed, and a few strong channels would decide alone (Hellinger's kernel)
mahalanobis   distance to the nearest class mean under a shared, shrunk covariance (Lee et al. 2018;
              shrinkage by Ledoit and Wolf 2004, because D is near the number of clips)
relative      the squared distance to the nearest class mean less that to the mean of all (Ren et al. 2021), between
              square roots of embeddings; fitted on the training clips and their loudest parts (``core.excerpts``), so
              that a short sound is not strange for being short
combined      entropy / ln K + 0.08 · relative, the latter in standard deviations from the median training clip: a sound
              is strange when no class claims it alone, or when it is less like its class than like sound in general
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import scipy.stats
from numpy.typing import NDArray
from pydantic import Field
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

from core.config import Frozen
from core.inference import softmax

Floats = NDArray[np.float64]
Score = Literal["msp", "max_logit", "energy", "knn", "mahalanobis", "relative", "combined"]
SCORES: tuple[Score, ...] = get_args(Score)
NEIGHBOURS = 5  # a class has 32 to 40 training clips
RELATIVE_WEIGHT = 0.08  # chosen on left-out classes, synthesized sounds and excerpts: see EXPERIMENTS.md
ACCEPTED = 0.95  # share of known sounds that a threshold lets pass


class UnknownRule(Frozen):
    """A sound whose ``score`` exceeds ``threshold`` is none of the classes; ``accepted`` of known sounds pass."""

    score: Score
    threshold: float
    accepted: float = Field(ACCEPTED, gt=0, lt=1)


@dataclass(frozen=True)
class Clusters:
    """Gaussians of one shape: ``means`` (K, D) and ``whiten`` (D, D), which makes their covariance the identity."""

    means: NDArray[np.float32]
    whiten: NDArray[np.float32]

    @classmethod
    def fit(cls, rows: NDArray[np.float32], groups: NDArray[np.int64]) -> Clusters:
        """One cluster for each value of ``groups`` (M,) of ``rows`` (M, D); their covariance is shared and shrunk."""
        found, index = np.unique(groups, return_inverse=True)
        means = np.stack([rows[groups == k].mean(axis=0) for k in found])
        precision = LedoitWolf(assume_centered=True).fit((rows - means[index]).astype(np.float64)).precision_
        values, vectors = np.linalg.eigh(precision)
        whiten = vectors * np.sqrt(np.maximum(values, 0))
        return cls(means.astype(np.float32), whiten.astype(np.float32))

    def squared_distance(self, rows: NDArray[np.float32]) -> Floats:
        """Mahalanobis, of each row (N, D) to the nearest mean, (N,)."""
        nearest = np.full(len(rows), np.inf)
        for mean in self.means:  # (N, K, D) at once would not fit for long logs
            offset = (rows - mean).astype(np.float64) @ self.whiten
            nearest = np.minimum(nearest, np.square(offset).sum(axis=1))
        return nearest


@dataclass(frozen=True)
class Familiarity:
    """Training in the embedding: what a sound is compared with.

    ``reference`` (M, D): unit rows of square roots; ``classes`` of embeddings; ``rooted`` classes and ``anything``, one
    cluster, of square roots of embeddings with excerpts; ``relative_scale``: median and standard deviation of their
    relative distance.
    """

    reference: NDArray[np.float32]
    classes: Clusters
    rooted: Clusters
    anything: Clusters
    relative_scale: tuple[float, float]

    @classmethod
    def fit(
        cls, embeddings: NDArray[np.float32], excerpts: NDArray[np.float32], targets: NDArray[np.int64]
    ) -> Familiarity:
        """From the training clips, unaugmented: embeddings (M, D), those of E excerpts each (M, E, D), classes (M,)."""
        every = _roots(np.concatenate([embeddings[:, None], excerpts], axis=1))  # (M, 1 + E, D)
        rows, of_rows = every.reshape(-1, every.shape[2]), np.repeat(targets, every.shape[1])
        rooted, anything = Clusters.fit(rows, of_rows), Clusters.fit(rows, np.zeros_like(of_rows))
        relative = rooted.squared_distance(rows) - anything.squared_distance(rows)
        scale = float(np.median(relative)), max(float(relative.std()), 1e-9)
        return cls(unit(_roots(embeddings)), Clusters.fit(embeddings, targets), rooted, anything, scale)

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
                return np.sqrt(self.classes.squared_distance(embeddings))
            case "relative":
                return self.relative(embeddings)
            case "combined":
                median, spread = self.relative_scale
                return _entropy(logits) + RELATIVE_WEIGHT * (self.relative(embeddings) - median) / spread

    def scores(self, logits: NDArray[np.float32], embeddings: NDArray[np.float32]) -> dict[Score, Floats]:
        """Every score of ``SCORES``, each (N,)."""
        return {name: self.score(name, logits, embeddings) for name in SCORES}

    def knn(self, embeddings: NDArray[np.float32]) -> Floats:
        return _kth_distance(unit(_roots(embeddings)), self.reference, NEIGHBOURS)

    def relative(self, embeddings: NDArray[np.float32]) -> Floats:
        rows = _roots(embeddings)
        return self.rooted.squared_distance(rows) - self.anything.squared_distance(rows)


def _roots(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.sqrt(np.maximum(embeddings, 0))


def _energy(logits: NDArray[np.float32]) -> Floats:
    return -np.asarray(logsumexp(logits.astype(np.float64), axis=1))


def _entropy(logits: NDArray[np.float32]) -> Floats:
    """Of the softmax, as a share of the most it can be, (N,)."""
    return np.asarray(scipy.stats.entropy(softmax(logits), axis=1) / np.log(logits.shape[1]))


def _kth_distance(queries: NDArray[np.float32], reference: NDArray[np.float32], k: int) -> Floats:
    """Cosine distance of unit rows (N, D) to the k-th nearest of unit rows (M, D), (N,)."""
    distance = 1 - queries.astype(np.float64) @ reference.T  # (N, M)
    position = min(k, len(reference)) - 1
    return np.asarray(np.partition(distance, position, axis=1)[:, position])


def unit(embeddings: NDArray[np.float32]) -> NDArray[np.float32]:
    """Rows of length 1; a row of zeros stays."""
    length = np.linalg.norm(embeddings, axis=1, keepdims=True)
    return np.asarray(embeddings / np.maximum(length, 1e-12), dtype=np.float32)


def acceptance_threshold(scores: Floats, *, accepted: float = ACCEPTED) -> float:
    """The score that this share of out-of-fold in-distribution clips stays at or under."""
    return float(np.quantile(scores, accepted, method="higher"))
