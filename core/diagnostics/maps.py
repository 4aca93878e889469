"""Maps: every clip a point, near those that a network finds alike.

Embeddings of different folds and seeds come from different networks, whose axes have nothing to do with each other:
one map of all of them would show the networks, not the sounds. So there are two kinds of map.

answers           logits after temperature, less their mean over classes: an axis for each class, the same for every
                  network
fold F, seed S    the embedding of one network, of the clips it was held out of
training          the embedding of the served network, of the clips it was trained on; what it answered since is added
                  to this map, which does not move

PCA keeps distances and shows how much of the spread it leaves out; t-SNE keeps neighbours, and its distances between
groups mean nothing (van der Maaten and Hinton 2008). Large sets are drawn as a sample, and t-SNE is fitted on part of
it; the other points are placed: projected on the axes of a PCA, put among their nearest fitted neighbours in t-SNE.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.spatial import KDTree

from core.diagnostics.clips import Floats
from core.diagnostics.neighbours import unit_rows
from core.recordset import RecordSet

Method = Literal["PCA", "t-SNE"]
METHODS: tuple[Method, ...] = ("PCA", "t-SNE")
ANSWERS = "answers"
TRAINING = "training"
DRAWN = 3_000  # points a browser draws and hovers over without delay
FITTED = 800  # points t-SNE is fitted on; about six seconds of one core
PERPLEXITY = 30.0  # scikit-learn's default
NEIGHBOURS = 3  # that a placed point is put among
FEWEST = 3  # points that make a map
SEED = 0
COLOURS = 10  # that the palette has and eyes tell apart
OTHER, MISSING = "(other)", "(not known)"


@dataclass(frozen=True)
class Ground:
    """Training clips as points ``xy`` (M, 2) of a map, ``table`` (M rows: ``clip_id, label``) says which.

    ``vectors`` (M, D) is what they were drawn from. Of a PCA: ``middle`` (D,), ``axes`` (D, 2), and the share of the
    variance of the training clips that these hold; for t-SNE zeros and nan.
    """

    table: pd.DataFrame
    vectors: Floats
    xy: Floats
    middle: Floats
    axes: Floats
    kept: float


@dataclass(frozen=True)
class SoundMap:
    """M of the ``n`` records of a space as points ``xy`` (M, 2); ``position`` (M,) is their row in the set.

    ``placed`` (M,): not part of what t-SNE was fitted on. ``kept`` is the share of the variance that the two axes of a
    PCA hold, nan for t-SNE. Without enough records M = 0. ``ground``: the training clips that the points were added to.
    """

    space: str
    method: Method
    n: int
    position: NDArray[np.int64]
    xy: Floats
    placed: NDArray[np.bool_]
    kept: float
    ground: Ground | None = None


def spaces(records: RecordSet) -> list[str]:
    """What can be drawn: the answers of all networks, then the embedding of each network."""
    if records.embedding is None:
        return [ANSWERS]
    networks = records.table[["fold", "seed"]].drop_duplicates().sort_values(["seed", "fold"])
    return [ANSWERS, *(network(fold, seed) for fold, seed in networks.itertuples(index=False))]


def network(fold: int, seed: int) -> str:
    """The name of one network's space."""
    return f"fold {fold}, seed {seed}"


def sound_map(records: RecordSet, space: str = ANSWERS, method: Method = "PCA") -> SoundMap:
    """Draw one space. The same records give the same map: every random choice is seeded."""
    rows, vectors = _vectors(records, space)
    drawn = _sample(records, rows)
    position, points = rows[drawn], vectors[drawn]
    if position.size < FEWEST:
        empty = np.zeros(0, dtype=np.int64)
        return SoundMap(space, method, rows.size, empty, np.zeros((0, 2)), empty.astype(bool), float("nan"))
    if method == "PCA":
        middle, axes, kept = _pca(points)
        return SoundMap(space, method, rows.size, position, (points - middle) @ axes, np.zeros(len(points), bool), kept)
    xy, placed = _tsne_of_part(points)
    return SoundMap(space, method, rows.size, position, xy, placed, float("nan"))


def ground(reference: pd.DataFrame, method: Method, *, drawn: Floats | None = None) -> Ground | None:
    """The map of the training clips of an artifact's ``reference``; ``None`` where they are too few.

    ``drawn``: their t-SNE, where it was kept.
    """
    if len(reference) < FEWEST:
        return None
    vectors = unit_rows(np.stack(reference["embedding"].to_list()).astype(np.float32)).astype(np.float64)
    table = pd.DataFrame({name: reference.get(name, "") for name in ("clip_id", "label")}).reset_index(drop=True)
    if method == "PCA":
        middle, axes, kept = _pca(vectors)
        return Ground(table, vectors, (vectors - middle) @ axes, middle, axes, kept)
    xy = _tsne_of_part(vectors)[0] if drawn is None else drawn
    width = vectors.shape[1]
    return Ground(table, vectors, xy, np.zeros(width), np.zeros((width, 2)), float("nan"))


def added_to(ground: Ground, records: RecordSet, method: Method) -> SoundMap:
    """The embeddings of ``records``, by the network of ``ground``, as points of its map, which they do not change.

    PCA projects them on the axes of the training clips; t-SNE puts each at the mean of its ``NEIGHBOURS`` nearest
    training clips by cosine, weighted by inverse distance.
    """
    assert records.embedding is not None, "only records of the same network are added"
    rows = np.flatnonzero(np.isfinite(records.embedding).all(axis=1))
    position = rows[_sample(records, rows)]
    points = unit_rows(records.embedding[position]).astype(np.float64)
    if method == "PCA":
        xy = (points - ground.middle) @ ground.axes
    else:
        xy = place(points, ground.vectors, ground.xy) if len(points) else np.zeros((0, 2))
    return SoundMap(TRAINING, method, rows.size, position, xy, np.ones(len(points), bool), ground.kept, ground)


def _tsne_of_part(points: Floats) -> tuple[Floats, NDArray[np.bool_]]:
    """The first ``FITTED`` of ``points`` (N, D) by t-SNE, the others placed among them; which these are."""
    fitted = np.arange(len(points)) < FITTED
    xy = np.empty((len(points), 2))
    xy[fitted] = _tsne(points[fitted])
    if not fitted.all():
        xy[~fitted] = place(points[~fitted], points[fitted], xy[fitted])
    return xy, ~fitted


def place(points: Floats, among: Floats, xy: Floats) -> Floats:
    """Put ``points`` (M, D) into a map that has ``among`` (N, D) at ``xy`` (N, 2).

    Each goes to the mean of its ``NEIGHBOURS`` nearest, weighted by inverse distance; a point of the map to its place.
    """
    distance, index = KDTree(among).query(points, k=min(NEIGHBOURS, len(among)))
    distance, index = distance.reshape(len(points), -1), index.reshape(len(points), -1)
    weight = 1 / np.maximum(distance, 1e-9)
    return np.asarray((xy[index] * weight[:, :, None]).sum(axis=1) / weight.sum(axis=1)[:, None])


def colouring(column: pd.Series[Any]) -> pd.Series[Any]:
    """What points are coloured by: numbers as they are; names, flags and a few whole numbers as categories.

    At most ``COLOURS`` categories, the most frequent ones; all others are ``OTHER``. Missing names are ``MISSING``.
    """
    if pd.api.types.is_datetime64_any_dtype(column):
        column = column.dt.strftime("%Y-%m-%d")
    few = column.nunique() <= COLOURS
    if (
        pd.api.types.is_numeric_dtype(column)
        and not pd.api.types.is_bool_dtype(column)
        and not (few and pd.api.types.is_integer_dtype(column))
    ):
        return pd.Series(column.to_numpy(dtype=np.float64, na_value=np.nan), index=column.index)
    said = column.astype(object).where(column.notna(), MISSING).map(lambda value: str(value).replace("_", " "))
    counts = said.value_counts()
    kept = counts.index if len(counts) <= COLOURS else counts.index[: COLOURS - 1]
    names = said.where(said.isin(kept), OTHER)
    return pd.Series(
        pd.Categorical(names, categories=[*sorted(kept), *([OTHER] if len(kept) < len(counts) else [])]),
        index=column.index,
    )


def _vectors(records: RecordSet, space: str) -> tuple[NDArray[np.int64], Floats]:
    """Rows of a space, and their vectors."""
    if space == ANSWERS:
        scaled = records.logits / records.temperatures[:, None]
        return np.arange(len(records)), np.asarray(scaled - scaled.mean(axis=1, keepdims=True), dtype=np.float64)
    assert records.embedding is not None, "spaces() names networks only where there are embeddings"
    table = records.table
    fold, seed = next(of for of in {*zip(table["fold"], table["seed"], strict=True)} if network(*of) == space)
    rows = np.flatnonzero(((table["fold"] == fold) & (table["seed"] == seed)).to_numpy())
    return rows, unit_rows(records.embedding[rows]).astype(np.float64)


def _sample(records: RecordSet, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """At most ``DRAWN`` of ``rows``, as positions among them, in random order: errors first, up to half of the map."""
    if rows.size <= DRAWN:
        return np.arange(rows.size)
    order = np.random.default_rng(SEED).permutation(rows.size)
    wrong = (~records.correct & records.is_labelled)[rows[order]]
    errors, others = order[wrong][: DRAWN // 2], order[~wrong]
    chosen = np.concatenate([errors, others[: DRAWN - errors.size]])
    return np.random.default_rng(SEED).permutation(chosen)


def _pca(points: Floats) -> tuple[Floats, Floats, float]:
    """Middle (D,), the two directions of largest variance (D, 2), and the share of it they hold; 0 where none is."""
    middle = points.mean(axis=0)
    centred = points - middle
    variances, directions = np.linalg.eigh(centred.T @ centred)  # rising
    total = variances.clip(0).sum()
    axes = directions[:, [-1, -2]]
    kept = float(variances[-2:].clip(0).sum() / total) if total > 0 else 0.0
    return middle, axes * _signs(centred @ axes), kept


def _tsne(points: Floats) -> Floats:
    from sklearn.manifold import TSNE  # takes a moment to import, and PCA does without

    if np.ptp(points, axis=0).max() == 0:  # one place: nothing to start from
        return np.zeros((len(points), 2))
    perplexity = min(PERPLEXITY, (len(points) - 1) / 3)
    fitted = TSNE(perplexity=perplexity, init="pca", random_state=SEED).fit_transform(points.astype(np.float32))
    return _turned(fitted)


def _turned(xy: Floats) -> Floats:
    return np.asarray(xy * _signs(xy), dtype=np.float64)


def _signs(xy: Floats) -> Floats:
    """Signs of axes are arbitrary: the farthest point of each is on the positive side."""
    farthest = xy[np.abs(xy).argmax(axis=0), np.arange(2)]
    return np.where(farthest < 0, -1.0, 1.0)
