"""Records as others write them: whole, damaged, foreign."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from scipy.special import softmax

from core.errors import RecordsError
from core.record_files import read_records, write_records
from core.record_tables import record_set
from core.recordset import FRAME_COLUMNS, RecordSet

NAMES = ("dog", "rain", "wind")


def table(n: int = 30, **columns: Any) -> pd.DataFrame:
    rng = np.random.default_rng(0)
    plain = pd.DataFrame(
        {
            "clip_id": [f"clip{i}" for i in range(n)],
            "fold": np.arange(n) % 5 + 1,
            "source_group": [f"source{i // 2}" for i in range(n)],
            "label": [NAMES[i % 3] for i in range(n)],
            "logits": list(rng.normal(size=(n, 3)).astype(np.float32)),
            "embedding": list(rng.normal(size=(n, 4)).astype(np.float32)),
        }
    )
    return plain.assign(**columns)


def records(given: pd.DataFrame | None = None, **facts: Any) -> RecordSet:
    return record_set(table() if given is None else given, title="toy", class_names=NAMES, **facts)


def test_probabilities_and_what_follows_are_those_of_the_logits() -> None:
    ours = records(temperature=0.5)
    logits = np.stack(table()["logits"].to_list())
    np.testing.assert_allclose(ours.probabilities, softmax(logits / 0.5, axis=1), rtol=1e-5)
    np.testing.assert_allclose(ours.raw_probabilities, softmax(logits, axis=1), rtol=1e-5)
    assert ours.predicted.tolist() == logits.argmax(axis=1).tolist()
    assert ours.targets.tolist() == [i % 3 for i in range(30)]
    assert (ours.correct == (ours.predicted == ours.targets)).all()
    np.testing.assert_allclose(ours.confidence, ours.probabilities.max(axis=1))
    assert ours.embedding is not None
    assert ours.embedding.shape == (30, 4)


def test_the_frame_has_one_row_a_record_and_knows_what_it_does_not_know() -> None:
    given = table(label=["dog", None, *[NAMES[i % 3] for i in range(2, 30)]], rms_dbfs=np.arange(30.0))
    frame = records(given).frame()
    assert tuple(frame.columns[: len(FRAME_COLUMNS)]) == FRAME_COLUMNS
    assert frame["rms_dbfs"].tolist() == list(range(30))
    assert frame["correct"].isna().tolist() == [False, True, *[False] * 28]
    assert frame["true_probability"].isna().sum() == 1
    p = records(given).probabilities
    np.testing.assert_allclose(frame["entropy"], -(p * np.log(p)).sum(axis=1))
    np.testing.assert_allclose(frame["margin"], np.sort(p)[:, -1] - np.sort(p)[:, -2])


def test_a_changed_frame_is_the_callers_own() -> None:
    ours = records()
    mine = ours.frame()
    mine["confidence"] = 0.0
    assert (ours.frame()["confidence"] > 0).all()


def test_taking_some_takes_them_everywhere() -> None:
    ours = records()
    before = ours.take(np.array([4, 2]))  # nothing computed yet
    _ = ours.probabilities, ours.targets
    for some in (before, ours.take(np.array([4, 2]))):
        assert some.table["clip_id"].tolist() == ["clip4", "clip2"]
        np.testing.assert_array_equal(some.probabilities, ours.probabilities[[4, 2]])
        np.testing.assert_array_equal(some.targets, ours.targets[[4, 2]])
        assert some.table.index.tolist() == [0, 1]
    mask = ours.confidence > np.median(ours.confidence)
    assert ours.take(mask).table["clip_id"].tolist() == ours.table["clip_id"][mask].tolist()


def test_equal_records_have_equal_digests_and_others_do_not() -> None:
    ours = records()
    assert ours.digest == records().digest == ours.take(np.arange(30)).digest
    changed = [records(temperature=2.0), ours.take(np.arange(29)), records(table(label="dog")), records(table(a=1))]
    assert len({ours.digest, *(other.digest for other in changed)}) == 5


def test_several_seeds_are_one_piece_of_evidence_a_clip() -> None:
    ours = records(pd.concat([table(seed=0), table(seed=7)], ignore_index=True))
    assert (len(ours), ours.n_clips) == (60, 30)
    assert {seed: len(part) for seed, part in ours.by_seed().items()} == {0: 30, 7: 30}


def test_each_fold_is_scaled_by_the_temperature_of_the_others() -> None:
    ours = records()
    by_fold = {fold: set(ours.temperatures[ours.table["fold"] == fold]) for fold in range(1, 6)}
    assert all(len(values) == 1 for values in by_fold.values())
    assert len(set.union(*by_fold.values())) == 5
    assert (records(table(fold=1)).temperatures == 1).all()


@pytest.mark.parametrize("name", ["clip_id", "fold", "source_group", "label", "logits"])
def test_a_missing_column_is_named(name: str, tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=f"but {name} is missing. Found: ") as told:
        records(table().drop(columns=name))
    assert told.value.code == "missing_columns"
    table().drop(columns=name).to_parquet(tmp_path / "r.parquet")
    for names in (NAMES, None):
        with pytest.raises(RecordsError, match=f"but {name} is missing. Found: "):  # and not what follows from it
            read_records(tmp_path / "r.parquet", class_names=names)


@pytest.mark.parametrize(("embedding", "told"), [(None, 0), ("text", 1), ([[]] * 30, 1)])
def test_a_column_of_no_embeddings_costs_no_record(embedding: object, told: int, tmp_path: Path) -> None:
    table(embedding=embedding).to_parquet(tmp_path / "r.parquet")
    ours = read_records(tmp_path / "r.parquet")
    assert (len(ours), ours.embedding) == (30, None)
    assert len(ours.notes) == told


def test_columns_nobody_asked_for_are_kept_and_a_missing_embedding_is_none() -> None:
    ours = records(table(weather="sunny").drop(columns="embedding"))
    assert ours.embedding is None
    assert (ours.frame()["weather"] == "sunny").all()


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        ({"logits": [[1.0, 2.0], *[[1.0, 2.0, 3.0]] * 29]}, "whose logits are not 3 numbers"),
        ({"logits": [None, *[[1.0, 2.0, 3.0]] * 29]}, "whose logits are not 3 numbers"),
        ({"logits": [["a", "b", "c"], *[[1.0, 2.0, 3.0]] * 29]}, "whose logits are not 3 numbers"),
        ({"logits": [[np.nan, 0.0, 1.0], *[[1.0, 2.0, 3.0]] * 29]}, "with logits that are not finite"),
        ({"logits": [[1e300, 0.0, 1.0], *[[1.0, 2.0, 3.0]] * 29]}, "with logits that are not finite"),
        ({"label": ["cat", *["dog"] * 29]}, "with a label that is no class"),
        ({"fold": [1.5, *[2.0] * 29]}, "with a fold that is no whole number"),
        ({"seed": ["x", *["0"] * 29]}, "with a seed that is no whole number"),
        ({"embedding": [[1.0] * 5, *[[0.0] * 4] * 29]}, "with an embedding of another length"),
    ],
)
def test_a_record_that_cannot_be_used_is_left_out_counted_and_told(
    columns: dict[str, Any], said: str, tmp_path: Path
) -> None:
    given = table(**columns)
    if "embedding" in columns:
        given["embedding"] = given["embedding"].iloc[::-1].to_list()  # the first row says how long they are
        said_of = records(given)
        assert "clip29" not in set(said_of.table["clip_id"])
    else:
        said_of = records(given)
        assert "clip0" not in set(said_of.table["clip_id"])
    assert len(said_of) == 29
    assert said_of.notes == (f"1 of 30 records left out {said}" + (", one a class" if "numbers" in said else ""),)
    assert np.isfinite(said_of.probabilities).all()


def test_a_record_is_counted_once_and_what_is_left_is_used() -> None:
    given = table(logits=[[np.nan] * 3, [1.0], *[[1.0, 2.0, 3.0]] * 28], label=["dog", "dog", "cat", *["dog"] * 27])
    ours = records(given)
    assert len(ours) == 27
    assert [note.split()[0] for note in ours.notes] == ["1", "1", "1"]


def test_columns_of_lists_are_left_aside_and_told(tmp_path: Path) -> None:
    table(tags=[[1, 2]] * 30, facts=[{"a": 1}] * 30).to_parquet(tmp_path / "r.parquet")
    found = read_records(tmp_path / "r.parquet", class_names=NAMES)
    assert not {"tags", "facts"} & set(found.table)
    assert any("tags, facts" in note for note in found.notes)
    assert found.digest
    assert len(found.frame()) == 30


def test_numbers_and_flags_that_came_as_text_are_read_and_others_are_missing_and_counted() -> None:
    told = ["yes", "no", "True", "0", "maybe"] * 6
    found = records(table(rms_dbfs=["-20.5", "loud"] * 15, unknown=told, duration_s=[5] * 30))
    assert found.table["rms_dbfs"].tolist()[::2] == [-20.5] * 15
    assert found.table["rms_dbfs"].isna().sum() == 15
    assert found.table["unknown"].tolist()[:4] == [True, False, True, False]
    assert found.table["unknown"].isna().sum() == 6
    assert any("15 of 30 values of rms_dbfs" in note for note in found.notes)
    assert any("6 of 30 values of unknown" in note for note in found.notes)


def test_a_file_is_not_taken_for_the_log_because_it_numbers_its_rows(tmp_path: Path) -> None:
    table(id=np.arange(30)).to_parquet(tmp_path / "r.parquet")
    found = read_records(tmp_path / "r.parquet", class_names=NAMES)
    assert "id" not in found.table
    assert any("the column id is left aside" in note for note in found.notes)


def test_a_clip_that_one_network_answered_twice_is_told_wherever_records_are_shown() -> None:
    assert not any("again" in note for note in records().notes)
    twice = records(pd.concat([table(), table().head(3)], ignore_index=True))
    assert any("3 of 33 labelled records answer for a clip that the same network answered" in n for n in twice.notes)


def test_an_embedding_that_is_not_finite_costs_its_record() -> None:
    embedding = list(np.ones((30, 4), dtype=np.float32))
    embedding[7] = np.full(4, np.nan, dtype=np.float32)
    found = records(table(embedding=embedding))
    assert len(found) == 29
    assert any("with an embedding that is not finite" in note for note in found.notes)


def test_records_of_which_none_can_be_used_are_an_error_that_says_why() -> None:
    with pytest.raises(RecordsError, match="None of the 30 records can be used: 30 of 30 records left out with logits"):
        records(table(logits=[[np.nan] * 3] * 30))


def test_empty_folds_and_labels_are_allowed() -> None:
    ours = records(table(fold=None, label=["", None, " ", *["dog"] * 27]))
    assert (ours.table["fold"] == 0).all()
    assert ours.is_labelled.tolist() == [False] * 3 + [True] * 27
    assert len(ours.labelled()) == 27
    assert ours.notes == ()


def test_no_records_are_fine(tmp_path: Path) -> None:
    for empty in (records(table(0)), records(table()).take(np.zeros(30, dtype=bool))):
        assert (len(empty), empty.n_clips, empty.by_seed().keys()) == (0, 0, empty.by_seed().keys())
        assert empty.frame().empty
        assert empty.probabilities.shape == (0, 3)
    write_records(tmp_path / "r.parquet", table(0), NAMES)
    assert len(read_records(tmp_path / "r.parquet")) == 0


def test_one_clip_and_one_class_are_fine() -> None:
    one = records(table(1))
    assert (len(one), one.n_clips, one.frame().shape[0]) == (1, 1, 1)
    same = records(table(label="dog"))
    assert set(same.targets) == {0}


def test_what_is_written_is_read_with_its_class_names(tmp_path: Path) -> None:
    order = ("wind", "dog", "rain")
    write_records(tmp_path / "r.parquet", table(), order)
    ours = read_records(tmp_path / "r.parquet")
    assert ours.class_names == order
    assert read_records((tmp_path / "r.parquet").read_bytes()).class_names == order
    assert ours.digest == read_records(tmp_path / "r.parquet").digest
    assert read_records(tmp_path / "r.parquet", with_embedding=False).embedding is None


@pytest.mark.parametrize("kind", ["list", "large_list", "fixed", "float64"])
def test_a_file_made_elsewhere_by_plain_means_is_read(kind: str, tmp_path: Path) -> None:
    given = table()
    columns = pa.Table.from_pandas(given, preserve_index=False)
    types = {
        "list": pa.list_(pa.float32()),
        "large_list": pa.large_list(pa.float32()),
        "fixed": pa.list_(pa.float32(), 3),
        "float64": pa.list_(pa.float64()),
    }
    logits = pa.array([row.astype(float).tolist() for row in given["logits"]], type=types[kind])
    columns = columns.set_column(columns.schema.get_field_index("logits"), "logits", logits)
    pq.write_table(columns.replace_schema_metadata(None), tmp_path / "r.parquet", row_group_size=7)
    ours = read_records(tmp_path / "r.parquet")
    assert ours.class_names == NAMES  # the sorted labels: as many as logits
    np.testing.assert_allclose(ours.logits, np.stack(given["logits"].to_list()))


def test_without_names_or_a_label_of_every_class_they_are_asked_for(tmp_path: Path) -> None:
    table(label="dog").to_parquet(tmp_path / "r.parquet")
    with pytest.raises(RecordsError, match="Expected the names of 3 classes") as told:
        read_records(tmp_path / "r.parquet")
    assert told.value.code == "no_class_names"
    assert len(read_records(tmp_path / "r.parquet", class_names=NAMES)) == 30
    assert read_records(tmp_path / "r.parquet", fallback_names=NAMES).class_names == NAMES


def test_of_logits_of_two_lengths_those_that_have_names_are_read_and_the_others_are_counted(tmp_path: Path) -> None:
    given = table()
    given["logits"] = [row[: 3 - i % 2] for i, row in enumerate(given["logits"])]  # three or two, fifteen times each
    given.to_parquet(tmp_path / "r.parquet")
    found = read_records(tmp_path / "r.parquet", fallback_names=NAMES)
    assert len(found) == 15
    assert found.notes == ("15 of 30 records left out whose logits are not 3 numbers, one a class",)
    given.assign(label="dog").to_parquet(tmp_path / "r.parquet")
    with pytest.raises(RecordsError, match=r"logits of several lengths, [23] in 15 records and [23] in 15 records"):
        read_records(tmp_path / "r.parquet")


def test_a_few_labels_of_no_class_do_not_hide_whose_classes_these_are(tmp_path: Path) -> None:
    table(label=[*["dog", "rain"] * 14, "cat", "cow"]).to_parquet(tmp_path / "r.parquet")
    read = read_records(tmp_path / "r.parquet", fallback_names=NAMES)
    assert read.class_names == NAMES
    assert len(read) == 28
    assert any("2 of 30 records" in note for note in read.notes)
    with pytest.raises(RecordsError, match="Expected the names of 3 classes"):
        read_records(tmp_path / "r.parquet", fallback_names=("cat", "cow", "sheep"))


def test_names_for_another_number_of_classes_are_refused(tmp_path: Path) -> None:
    table().to_parquet(tmp_path / "r.parquet")
    with pytest.raises(RecordsError, match=r"Expected 2 logits a record.*got 3"):
        read_records(tmp_path / "r.parquet", class_names=("dog", "rain"))
    with pytest.raises(RecordsError, match="at least two different class names"):
        read_records(tmp_path / "r.parquet", class_names=("dog", "dog", "rain"))


@pytest.mark.parametrize("stored", [b"{", b"3", b"[1, 2, 3]"])
def test_names_in_the_file_that_are_no_names_are_told(stored: bytes, tmp_path: Path) -> None:
    columns = pa.Table.from_pandas(table(), preserve_index=False)
    pq.write_table(columns.replace_schema_metadata({b"class_names": stored}), tmp_path / "r.parquet")
    with pytest.raises(RecordsError, match="Expected a JSON list of names"):
        read_records(tmp_path / "r.parquet")


def test_a_file_that_is_no_parquet_is_told(tmp_path: Path) -> None:
    (tmp_path / "r.parquet").write_text("clip_id,fold\n")
    with pytest.raises(RecordsError, match="it cannot be read") as told:
        read_records(tmp_path / "r.parquet")
    assert told.value.code == "unreadable_records"
    with pytest.raises(RecordsError, match="it cannot be read"):
        read_records(b"PAR1 and nothing else")


@pytest.mark.parametrize("order", [NAMES, NAMES[::-1]], ids=["sorted", "the caller's"])
def test_where_two_orders_of_classes_fit_the_one_that_agrees_with_the_labels_is_taken(
    order: tuple[str, ...], tmp_path: Path
) -> None:
    right = [np.eye(3, dtype=np.float32)[order.index(NAMES[i % 3])] for i in range(30)]
    table(logits=right).to_parquet(tmp_path / "r.parquet")
    read = read_records(tmp_path / "r.parquet", fallback_names=NAMES[::-1])
    assert read.class_names == order
    assert read.correct.all()


def test_labels_that_are_numbers_are_sorted_as_numbers(tmp_path: Path) -> None:
    labels = np.arange(36) % 12
    table(36, label=labels, logits=list(np.eye(12, dtype=np.float32)[labels])).to_parquet(tmp_path / "r.parquet")
    assert read_records(tmp_path / "r.parquet").correct.all()


def test_a_clip_without_a_source_is_its_own() -> None:
    for nothing in (None, ""):
        given = records(table(source_group=[nothing] * 30))
        assert given.table["source_group"].tolist() == given.table["clip_id"].tolist()


def test_one_odd_embedding_costs_its_own_record_alone() -> None:
    rows = table()
    rows.at[0, "embedding"] = np.zeros(7, dtype=np.float32)
    assert len(records(rows)) == 29
