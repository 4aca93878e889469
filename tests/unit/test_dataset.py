from pathlib import Path

import pandas as pd
import pytest

from core.dataset import load_dataset, sample_clips
from core.errors import DatasetError
from tests.synthetic_dataset import write_dataset


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_dataset(tmp_path, n_classes=3, folds=2, per_class_and_fold=2, duration_s=0.3)
    return tmp_path


def rewrite(root: Path, **columns: object) -> pd.DataFrame:
    """Change columns of the table; values are single ones for the first line, or whole columns."""
    path = root / "meta" / "esc50.csv"
    table = pd.read_csv(path, dtype=object)
    for name, value in columns.items():
        if isinstance(value, list):
            table[name] = value
        else:
            table.loc[0, name] = value
    table.to_csv(path, index=False)
    return table


def failure(root: Path) -> DatasetError:
    with pytest.raises(DatasetError) as caught:
        load_dataset(root)
    return caught.value


def test_clips_know_their_fold_class_and_recording(root: Path) -> None:
    dataset = load_dataset(root)
    assert dataset.class_names == ("class_0", "class_1", "class_2")
    assert dataset.folds == (1, 2)
    assert len(dataset.clips) == 12
    first = dataset.clips[0]
    assert (first.fold, first.label, first.target, first.source_group) == (1, "class_0", 0, "101")
    assert first.path.is_file()


def test_classes_are_numbered_by_rising_target_whatever_the_tables_order(root: Path) -> None:
    table = pd.read_csv(root / "meta" / "esc50.csv")
    table["target"] = table["target"].map({0: 40, 1: 3, 2: 12})
    table.sample(frac=1, random_state=0).to_csv(root / "meta" / "esc50.csv", index=False)
    dataset = load_dataset(root)
    assert dataset.class_names == ("class_1", "class_2", "class_0")
    assert {clip.target for clip in dataset.clips if clip.label == "class_0"} == {2}


def test_the_hash_changes_with_a_byte_a_label_or_a_fold_and_not_with_the_order(root: Path) -> None:
    original = load_dataset(root).content_hash
    table = pd.read_csv(root / "meta" / "esc50.csv")
    table[::-1].to_csv(root / "meta" / "esc50.csv", index=False)
    assert load_dataset(root).content_hash == original
    clip = load_dataset(root).clips[0].path
    clip.write_bytes(clip.read_bytes() + b"\0")
    assert load_dataset(root).content_hash != original


@pytest.mark.parametrize("missing", ["", "meta", "meta/esc50.csv"])
def test_a_folder_without_the_table_says_what_belongs_there(root: Path, missing: str) -> None:
    error = failure(root / "nowhere" if not missing else root.parent)
    assert error.code == "no_dataset"
    assert "python -m core download" in str(error)


def test_missing_columns_are_named_with_those_that_are_there(root: Path) -> None:
    path = root / "meta" / "esc50.csv"
    pd.read_csv(path).rename(columns={"category": "class", "fold": "split"}).to_csv(path, index=False)
    error = failure(root)
    assert error.code == "missing_columns"
    assert "fold, category missing" in str(error)
    assert "split" in str(error)


@pytest.mark.parametrize("text", ["", "\0\0\0", "filename,fold,target,category,src_file,take\n"])
def test_a_table_of_nothing_is_refused(root: Path, text: str) -> None:
    (root / "meta" / "esc50.csv").write_text(text)
    assert str(failure(root)).startswith("Expected")


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "sub/clip.wav", ".hidden.wav"])
def test_a_file_name_that_leads_elsewhere_is_refused(root: Path, name: str) -> None:
    rewrite(root, filename=name)
    assert "not plain file names" in str(failure(root))


def test_a_clip_listed_twice_is_named(root: Path) -> None:
    table = pd.read_csv(root / "meta" / "esc50.csv")
    pd.concat([table, table[:1]]).to_csv(root / "meta" / "esc50.csv", index=False)
    error = failure(root)
    assert "listed more than once" in str(error)
    assert table["filename"][0] in str(error)


def test_one_target_with_two_names_is_ambiguous(root: Path) -> None:
    rewrite(root, category="class_9")
    error = failure(root)
    assert error.code == "ambiguous_classes"


@pytest.mark.parametrize(("column", "value"), [("fold", "first"), ("target", "dog"), ("fold", "1.5")])
def test_a_fold_or_target_that_is_no_whole_number_is_shown(root: Path, column: str, value: str) -> None:
    rewrite(root, **{column: value})
    assert f"whole numbers in the column {column}" in str(failure(root))


def test_an_empty_cell_is_not_guessed(root: Path) -> None:
    rewrite(root, category=None)
    assert "have an empty column" in str(failure(root))


def test_a_recording_in_two_folds_is_a_leak(root: Path) -> None:
    table = pd.read_csv(root / "meta" / "esc50.csv")
    table["src_file"] = [7 if row in (0, len(table) - 1) else value for row, value in enumerate(table["src_file"])]
    table.to_csv(root / "meta" / "esc50.csv", index=False)
    error = failure(root)
    assert error.code == "leak"
    assert "7 cross folds" in str(error)


def test_missing_clips_are_counted_and_the_first_are_named(root: Path) -> None:
    gone = [clip.path for clip in load_dataset(root).clips[:7]]
    for path in gone:
        path.unlink()
    error = failure(root)
    assert error.code == "missing_clips"
    assert "12 clips" in str(error)
    assert "7 are missing" in str(error)
    assert gone[0].name in str(error)
    assert "…" in str(error)


def test_a_class_with_one_clip_cannot_be_evaluated(root: Path) -> None:
    table = pd.read_csv(root / "meta" / "esc50.csv")
    keep = table[(table["target"] != 0) | (table.index == 0)]
    keep.to_csv(root / "meta" / "esc50.csv", index=False)
    assert failure(root).code == "too_few_clips"


def test_one_class_is_nothing_to_tell_apart(root: Path) -> None:
    table = pd.read_csv(root / "meta" / "esc50.csv")
    table[table["target"] == 1].to_csv(root / "meta" / "esc50.csv", index=False)
    assert failure(root).code == "one_class"


def test_samples_come_from_other_recordings_and_folds(root: Path) -> None:
    chosen = sample_clips(load_dataset(root), per_class=2)
    assert [clip.label for clip in chosen] == ["class_0", "class_0", "class_1", "class_1", "class_2", "class_2"]
    for first, second in zip(chosen[::2], chosen[1::2], strict=True):
        assert first.fold != second.fold
        assert first.source_group != second.source_group


def test_the_published_set_is_recognised_by_its_size(esc10_dir: Path) -> None:
    dataset = load_dataset(esc10_dir)
    assert dataset.name == "ESC-10"
    assert dataset.folds == (1, 2, 3, 4, 5)
    assert {len([clip for clip in dataset.clips if clip.target == k]) for k in range(10)} == {40}
    assert len({clip.source_group for clip in sample_clips(dataset, per_class=4)}) == 40
