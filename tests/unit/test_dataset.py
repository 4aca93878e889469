from pathlib import Path

import pandas as pd
import pytest

from core.dataset import ESC50_CROSSING, load_dataset, sample_clips
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
    assert "one category for each target, but target 0 has 2" in str(error)


def test_one_name_with_two_targets_is_ambiguous(root: Path) -> None:
    rewrite(root, target="9")
    error = failure(root)
    assert error.code == "ambiguous_classes"
    assert "one target for each category, but category class_0 has 2" in str(error)


@pytest.mark.parametrize(("column", "value"), [("fold", "first"), ("target", "dog"), ("fold", "1.5")])
def test_a_fold_or_target_that_is_no_whole_number_is_shown(root: Path, column: str, value: str) -> None:
    rewrite(root, **{column: value})
    assert f"whole numbers in the column {column}" in str(failure(root))


def test_only_the_wrong_numbers_are_shown_and_as_they_stand_in_the_table(root: Path) -> None:
    rewrite(root, fold="1.5")
    assert "in the column fold, got 1.5. Correct" in str(failure(root))
    rewrite(root, fold="9" * 30)
    assert f"got {'9' * 30}" in str(failure(root))


@pytest.mark.parametrize("column", ["fold", "target"])
def test_a_negative_number_is_refused(root: Path, column: str) -> None:
    rewrite(root, **{column: "-1"})
    assert f"have a negative {column}" in str(failure(root))


def test_a_class_may_have_a_name_that_others_take_for_nothing(root: Path) -> None:
    path = root / "meta" / "esc50.csv"
    path.write_text(path.read_text().replace("class_0", "NA").replace("class_1", "null"))
    assert load_dataset(root).class_names == ("NA", "null", "class_2")


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


def fifty(root: Path, sources: list[str]) -> Path:
    """2,000 clips of 50 classes in five folds, whose first and last ones are cut from ``sources`` in turn."""
    rows = [(fold, target, take) for fold in range(1, 6) for target in range(50) for take in "ABCDEFGH"]
    table = pd.DataFrame(rows, columns=["fold", "target", "take"])
    table["src_file"] = [str(1_000_000 + row) for row in range(len(table))]
    for place, source in enumerate(sources):
        table.loc[[place, len(table) - 1 - place], "src_file"] = source
    table["category"] = [f"class_{target}" if target else "dog" for target in table["target"]]
    table["filename"] = [f"{row.fold}-{row.src_file}-{row.take}-{row.target}.wav" for row in table.itertuples()]
    for folder in ("audio", "meta"):
        (root / folder).mkdir(parents=True)
    for name in table["filename"]:
        (root / "audio" / name).touch()
    table.to_csv(root / "meta" / "esc50.csv", index=False)
    return root


def test_the_four_recordings_that_cross_folds_in_esc50_are_accepted_there_alone(root: Path, tmp_path: Path) -> None:
    dataset = load_dataset(fifty(tmp_path / "fifty", sorted(ESC50_CROSSING)))
    assert (dataset.name, len(dataset.clips)) == ("ESC-50", 2_000)
    error = failure(fifty(tmp_path / "more", [*ESC50_CROSSING, "7"]))
    assert (error.code, "but 7 cross folds" in str(error)) == ("leak", True)
    table = pd.read_csv(root / "meta" / "esc50.csv", dtype=object)
    table.loc[[0, len(table) - 1], "src_file"] = "131943"
    table.to_csv(root / "meta" / "esc50.csv", index=False)
    assert failure(root).code == "leak"


def test_clips_that_cannot_be_opened_are_counted_and_named(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked = {clip.filename for clip in load_dataset(root).clips[:2]}
    read_bytes = Path.read_bytes

    def guarded(path: Path) -> bytes:
        if path.name in locked:
            raise PermissionError(13, "Permission denied")
        return read_bytes(path)

    monkeypatch.setattr(Path, "read_bytes", guarded)
    error = failure(root)
    assert error.code == "unreadable_clips"
    assert "2 cannot be opened" in str(error)
    assert all(f"{name} (Permission denied)" in str(error) for name in locked)


def test_a_folder_that_cannot_be_searched_is_told(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def guarded(path: Path) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "is_file", guarded)
    assert str(failure(root)).startswith(f"Expected to read the dataset at {root}, got Permission denied.")


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
    assert len(load_dataset(root, clips_per_class=1).class_names) == 3  # it can be listened to


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


def test_another_dataset_of_the_size_of_esc50_does_not_pass_for_it(tmp_path: Path) -> None:
    table = fifty(tmp_path / "mine", sorted(ESC50_CROSSING)) / "meta" / "esc50.csv"
    table.write_text(table.read_text().replace("dog", "bell"))
    assert failure(tmp_path / "mine").code == "leak"
    rows = pd.read_csv(table)
    rows["src_file"] = range(len(rows))
    rows.to_csv(table, index=False)
    assert load_dataset(tmp_path / "mine").name == "mine"
