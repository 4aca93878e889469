"""Maps kept beside the records they were drawn from."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from core.artifact import read_reference
from core.atlas import COLUMNS, MAPS, draw_maps, kept_map, kept_training
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN
from core.diagnostics.maps import ANSWERS, ground, sound_map, spaces
from core.sources import shipped
from tests.answers import answers


def test_a_kept_map_is_the_one_that_would_be_drawn(tmp_path: Path) -> None:
    records = answers(60, folds=2)
    assert kept_map(tmp_path, records, ANSWERS) is None
    table = draw_maps(tmp_path, records)
    assert tuple(table.columns) == COLUMNS
    for space in spaces(records):
        kept, drawn = kept_map(tmp_path, records, space), sound_map(records, space, "t-SNE")
        assert kept is not None
        np.testing.assert_allclose(kept.xy, drawn.xy, rtol=1e-5)
        assert kept.position.tolist() == drawn.position.tolist()
        assert (kept.n, kept.space, kept.method) == (drawn.n, space, "t-SNE")


def test_maps_of_other_records_and_damaged_ones_are_not_shown(tmp_path: Path) -> None:
    records = answers(30, embedded=False)
    draw_maps(tmp_path, records)
    other = replace(records, logits=records.logits + 1)
    assert kept_map(tmp_path, other, ANSWERS) is None
    assert kept_map(tmp_path, records, "fold 9, seed 9") is None
    (tmp_path / MAPS).write_bytes(b"no Parquet")
    assert kept_map(tmp_path, records, ANSWERS) is None


def test_the_shipped_run_comes_with_its_maps() -> None:
    records = shipped()
    assert all(kept_map(SHIPPED_RUN, records, space) is not None for space in spaces(records))


def test_the_map_of_the_training_clips_is_kept_beside_them(tmp_path: Path) -> None:
    records, trained = answers(20, embedded=False), answers(40)
    assert trained.embedding is not None
    reference = trained.table[["clip_id", "label"]].assign(embedding=list(trained.embedding))
    assert kept_training(tmp_path, reference) is None
    draw_maps(tmp_path, records, reference)
    known, kept = ground(reference, "t-SNE"), kept_training(tmp_path, reference)
    assert known is not None
    assert kept is not None
    np.testing.assert_allclose(kept, known.xy, rtol=1e-5)
    assert kept_training(tmp_path, reference.head(39)) is None
    assert kept_map(tmp_path, records, ANSWERS) is not None


def test_the_shipped_model_comes_with_the_map_of_its_training_clips() -> None:
    reference = read_reference(SHIPPED_ARTIFACT)
    assert reference is not None
    assert kept_training(SHIPPED_RUN, reference) is not None
