"""Maps: what they keep, and that they never mix networks."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.spatial.distance import pdist
from sklearn.decomposition import PCA
from sklearn.manifold import trustworthiness

from core.diagnostics import maps
from core.diagnostics.maps import ANSWERS, added_to, ground, network, place, sound_map, spaces
from core.diagnostics.neighbours import unit_rows
from core.recordset import RecordSet
from tests.answers import answers


def test_spaces_are_the_answers_and_each_network() -> None:
    assert spaces(answers(seeds=2, folds=2)) == [
        ANSWERS,
        *(network(fold, seed) for seed in (0, 1) for fold in (1, 2)),
    ]
    assert spaces(answers(embedded=False)) == [ANSWERS]


def test_pca_is_the_best_projection_onto_two_axes() -> None:
    records = answers()
    drawn = sound_map(records)
    centred = records.logits - records.logits.mean(axis=1, keepdims=True)
    centred = centred - centred.mean(axis=0)
    u, s, _ = np.linalg.svd(centred, full_matrices=False)
    np.testing.assert_allclose(pdist(drawn.xy), pdist(u[:, :2] * s[:2]), rtol=1e-4)
    assert drawn.kept == pytest.approx((s[:2] ** 2).sum() / (s**2).sum())
    assert drawn.position.tolist() == list(range(200))


def test_a_networks_map_has_its_clips_only() -> None:
    records = answers(seeds=2)
    drawn = sound_map(records, network(2, 1))
    table = records.table.iloc[drawn.position]
    assert set(zip(table["fold"], table["seed"], strict=True)) == {(2, 1)}
    assert drawn.n == len(drawn.position) == 40


def test_tsne_keeps_neighbours_and_is_the_same_every_time() -> None:
    records = answers(120)
    drawn, again = (sound_map(records, ANSWERS, "t-SNE") for _ in range(2))
    np.testing.assert_array_equal(drawn.xy, again.xy)
    centred = records.logits - records.logits.mean(axis=1, keepdims=True)
    assert trustworthiness(centred[drawn.position], drawn.xy) > 0.9
    assert not drawn.placed.any()


def test_a_large_set_is_drawn_as_a_sample_that_keeps_errors_and_places_the_rest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(maps, "DRAWN", 150)
    monkeypatch.setattr(maps, "FITTED", 100)
    records = answers(600, accuracy=0.95)
    drawn = sound_map(records, ANSWERS, "t-SNE")
    assert (drawn.n, len(drawn.xy), int(drawn.placed.sum())) == (600, 150, 50)
    assert set(np.flatnonzero(~records.correct)) <= set(drawn.position)
    assert np.isfinite(drawn.xy).all()
    assert len(set(drawn.position)) == 150


def test_points_are_placed_among_their_neighbours() -> None:
    among = np.array([[0.0, 0], [1, 0], [0, 1], [50, 50]])
    xy = np.array([[0.0, 0], [10, 0], [0, 10], [99, 99]])
    np.testing.assert_allclose(place(among[[1]], among, xy), xy[[1]], atol=1e-6)
    middle = place(np.array([[0.5, 0.5]]), among, xy)
    np.testing.assert_allclose(middle, [[10 / 3, 10 / 3]])


@pytest.mark.parametrize("method", maps.METHODS)
def test_too_few_records_make_an_empty_map(method: maps.Method) -> None:
    drawn = sound_map(answers().take(np.arange(2)), ANSWERS, method)
    assert drawn.xy.shape == (0, 2)
    assert drawn.n == 2


def test_equal_records_make_a_map_of_one_place() -> None:
    equal = answers().take(np.zeros(5, dtype=np.int64))
    drawn = sound_map(equal)
    np.testing.assert_allclose(drawn.xy, 0, atol=1e-9)
    assert drawn.kept == 0
    assert (sound_map(equal, ANSWERS, "t-SNE").xy == 0).all()


def test_three_clips_of_two_classes_are_enough_for_a_map() -> None:
    few = answers(3, classes=2)
    assert np.isfinite(sound_map(few, ANSWERS, "t-SNE").xy).all()


def training(records: RecordSet) -> pd.DataFrame:
    """The embeddings of ``records`` as an artifact keeps its training clips."""
    assert records.embedding is not None
    return records.table[["clip_id", "label"]].assign(embedding=list(records.embedding))


@pytest.mark.parametrize("method", maps.METHODS)
def test_a_training_clip_that_is_answered_again_falls_on_itself(method: maps.Method) -> None:
    records = answers(60)
    known = ground(training(records), method)
    assert known is not None
    drawn = added_to(known, records.take(np.arange(5, 25)), method)
    np.testing.assert_allclose(drawn.xy, known.xy[5:25], atol=1e-4)
    assert drawn.space == maps.TRAINING
    assert drawn.placed.all()
    assert drawn.ground is known


def test_new_points_do_not_move_the_map_and_pca_is_that_of_the_training_clips() -> None:
    records, new = answers(60), answers(50, rng_seed=1)
    known = ground(training(records), "PCA")
    assert known is not None
    assert records.embedding is not None
    assert new.embedding is not None
    theirs = PCA(2).fit(unit_rows(records.embedding).astype(np.float64))
    mapped = theirs.transform(unit_rows(new.embedding).astype(np.float64))
    np.testing.assert_allclose(np.abs(added_to(known, new, "PCA").xy), np.abs(mapped), atol=1e-5)
    assert known.kept == pytest.approx(theirs.explained_variance_ratio_.sum())


def test_embeddings_that_are_not_finite_are_left_off_the_map() -> None:
    records = answers(20)
    assert records.embedding is not None
    broken = records.embedding.copy()
    broken[3] = np.nan
    known = ground(training(records), "PCA")
    assert known is not None
    drawn = added_to(known, replace(records, embedding=broken), "PCA")
    assert drawn.n == len(drawn.xy) == 19
    assert 3 not in drawn.position


def test_two_training_clips_make_no_map() -> None:
    assert ground(training(answers(2)), "PCA") is None
