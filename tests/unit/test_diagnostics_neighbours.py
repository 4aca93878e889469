import numpy as np
import pandas as pd
import pytest
from sklearn.neighbors import NearestNeighbors

from core.diagnostics.neighbours import COLUMNS, nearest


def known(count: int) -> pd.DataFrame:
    names = [f"c{i}" for i in range(count)]
    return pd.DataFrame(
        {"clip_id": names, "label": "dog", "fold": 1, "source_group": [f"s{i // 2}" for i in range(count)]}
    )


def test_neighbours_are_scikit_learns() -> None:
    rng = np.random.default_rng(0)
    table, embeddings = known(30), rng.random((30, 8), np.float32)
    query = rng.random(8, np.float32)
    oracle = NearestNeighbors(n_neighbors=5, metric="cosine").fit(np.sqrt(embeddings))
    distance, position = oracle.kneighbors(np.sqrt(query)[None])
    found = nearest(query, table, embeddings, k=5)
    assert tuple(found.columns) == COLUMNS
    assert found["clip_id"].tolist() == [f"c{i}" for i in position[0]]
    np.testing.assert_allclose(found["distance"], distance[0], atol=1e-6)


def test_the_clip_itself_is_left_out_and_its_recording_marked() -> None:
    embeddings = np.random.default_rng(0).random((6, 4), np.float32)
    found = nearest(embeddings[2], known(6), embeddings, k=10, clip_id="c2", source_group="s1")
    assert len(found) == 5
    assert "c2" not in set(found["clip_id"])
    assert found.loc[found["same_recording"], "clip_id"].tolist() == ["c3"]
    assert found["distance"].is_monotonic_increasing


@pytest.mark.parametrize("count", [0, 1])
def test_where_nothing_else_is_known_nothing_is_found(count: int) -> None:
    found = nearest(np.ones(4, np.float32), known(count), np.ones((count, 4), np.float32), k=3, clip_id="c0")
    assert len(found) == 0
    assert tuple(found.columns) == COLUMNS
