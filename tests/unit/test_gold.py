import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from core import gold as module
from core.artifact import load_artifact
from core.classifier import Classifier
from core.cli import main
from core.config import SHIPPED_ARTIFACT
from core.dataset import GOLD, HARD_PAIR
from core.download import read_checksums
from core.errors import DatasetError
from core.gold import GoldAnswer, GoldRecord, answers, differences, read_gold, write_gold
from core.sources import shipped as held_out

NAMES = [clip.filename for clip in GOLD]
RAIN = GoldAnswer(clip="rain.ogg", label="rain", confidence=0.9, unknown=False)


@pytest.fixture(scope="module")
def shipped() -> Classifier:
    return Classifier.from_artifact(SHIPPED_ARTIFACT)


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The shipped answers, in a file that a test may change."""
    copy = tmp_path / "gold.json"
    shutil.copyfile(module.GOLD_FILE, copy)
    monkeypatch.setattr(module, "GOLD_FILE", copy)
    return copy


def record(*given: GoldAnswer) -> GoldRecord:
    return GoldRecord(fingerprint="f", answers=given)


def changed(**what: object) -> GoldRecord:
    return record(RAIN.model_copy(update=what))


def test_the_shipped_model_answers_the_gold_clips_as_recorded(shipped: Classifier, esc10_dir: Path) -> None:
    moved = differences(read_gold(), answers(shipped, esc10_dir))
    assert not moved, "\n".join([f"{len(moved)} of {len(GOLD)} moved; if that was meant: make gold", *moved])


def test_the_recorded_answers_are_of_the_shipped_artifact_and_of_every_gold_clip() -> None:
    held = read_gold()
    assert held.fingerprint == load_artifact(SHIPPED_ARTIFACT).manifest.fingerprint, "the model changed: make gold"
    assert [answer.clip for answer in held.answers] == NAMES


def test_the_shipped_model_knows_every_gold_clip_even_the_hard_pair() -> None:
    truth = {row["filename"]: row["category"] for row in read_checksums()}
    assert {answer.clip: answer.label for answer in read_gold().answers} == {name: truth[name] for name in NAMES}


def test_networks_that_never_heard_the_gold_clips_know_all_but_the_hard_one_and_are_sure_of_each() -> None:
    records = held_out()
    frame = records.frame()
    given = pd.DataFrame(records.probabilities, columns=list(records.class_names)).groupby(frame["clip_id"]).mean()
    hard, other = HARD_PAIR
    assert all(given.loc[name].max() >= 0.9 for name in NAMES)
    truth = {row["filename"]: row["category"] for row in read_checksums()}
    wrong = {name: given.loc[name].idxmax() for name in NAMES if given.loc[name].idxmax() != truth[name]}
    assert wrong == {hard: truth[other]}


def test_gold_clips_are_eleven_recordings_of_all_classes_and_folds() -> None:
    every = {row["filename"]: row for row in read_checksums()}
    rows = [every[name] for name in NAMES]
    assert len({row["src_file"] for row in rows}) == len(rows) == 11
    assert {row["category"] for row in rows} == {row["category"] for row in every.values()}
    assert {row["fold"] for row in rows} == {"1", "2", "3", "4", "5"}
    assert all(clip.reason.startswith(every[clip.filename]["category"].replace("_", " ")) for clip in GOLD)


def test_the_hard_pair_is_of_two_classes_and_one_fold_so_that_one_network_confused_them() -> None:
    hard, other = (next(row for row in read_checksums() if row["filename"] == name) for name in HARD_PAIR)
    assert set(HARD_PAIR) <= set(NAMES)
    assert hard["fold"] == other["fold"]
    assert (hard["category"], other["category"]) == ("helicopter", "sea_waves")


def test_gold_clips_have_no_quality_warning(shipped: Classifier, esc10_dir: Path) -> None:
    for name in NAMES:
        assert not shipped.predict((esc10_dir / "audio" / name).read_bytes()).quality, name


@pytest.mark.parametrize(
    ("what", "line"),
    [
        ({"label": "sea_waves"}, "rain.ogg: rain 0.9000 → sea_waves 0.9000 (another class)"),
        ({"confidence": 0.8}, "rain.ogg: rain 0.9000 → rain 0.8000 (confidence -0.1000, ± 0.02 allowed)"),
        ({"confidence": 0.9201}, "rain.ogg: rain 0.9000 → rain 0.9201 (confidence +0.0201, ± 0.02 allowed)"),
        ({"unknown": True}, "rain.ogg: rain 0.9000 → rain 0.9000 (unknown) (now unknown)"),
        (
            {"label": "sea_waves", "confidence": 0.3, "unknown": True},
            "rain.ogg: rain 0.9000 → sea_waves 0.3000 (unknown) (another class, now unknown)",
        ),
    ],
    ids=["class", "less sure", "surer", "unknown", "everything"],
)
def test_each_kind_of_change_is_one_readable_line(what: dict[str, object], line: str) -> None:
    assert differences(record(RAIN), changed(**what)) == [line]


def test_what_is_no_longer_unknown_is_told() -> None:
    assert differences(changed(unknown=True), record(RAIN))[0].endswith("(no longer unknown)")


@pytest.mark.parametrize("confidence", [0.88, 0.8801, 0.9, 0.92])
def test_confidence_may_move_by_the_tolerance_either_way(confidence: float) -> None:
    assert differences(record(RAIN), changed(confidence=confidence)) == []


def test_clips_on_one_side_alone_are_told() -> None:
    assert differences(record(), record(RAIN)) == ["rain.ogg: not recorded → rain 0.9000"]
    assert differences(record(RAIN), record()) == ["rain.ogg: rain 0.9000 → not asked"]


def test_a_record_is_read_as_it_was_written(elsewhere: Path) -> None:
    write_gold(record(RAIN))
    assert read_gold() == record(RAIN)


def test_a_missing_or_damaged_record_is_told_with_the_way_out(elsewhere: Path) -> None:
    elsewhere.write_text('{"answers": 3}')
    with pytest.raises(DatasetError, match=r"got ValidationError.*make gold"):
        read_gold()
    elsewhere.unlink()
    with pytest.raises(DatasetError, match="got FileNotFoundError"):
        read_gold()
    assert read_gold(missing_ok=True).answers == ()


def test_clips_that_are_missing_or_altered_are_not_asked(shipped: Classifier, tmp_path: Path) -> None:
    (tmp_path / "audio").mkdir()
    (tmp_path / "audio" / NAMES[1]).write_bytes(b"OggS and something else")
    with pytest.raises(DatasetError) as caught:
        answers(shipped, tmp_path)
    assert caught.value.code == "gold_clips"
    for part in (f"{NAMES[0]} (No such file", f"{NAMES[1]} (another content)", "11 are not there", "--dataset gold"):
        assert part in str(caught.value)


def test_the_command_prints_what_moved_and_fails_until_it_is_recorded(
    esc10_dir: Path, elsewhere: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["gold", "--data", str(esc10_dir)]
    assert main(command) == 0
    assert capsys.readouterr().out == "all 11 gold clips answer as recorded\n"
    held = json.loads(elsewhere.read_text(encoding="utf-8"))
    held["answers"][0]["label"], held["fingerprint"] = "rooster", "0123456789abcdef"
    elsewhere.write_text(json.dumps(held), encoding="utf-8")
    altered = elsewhere.read_text(encoding="utf-8")
    assert main(command) == 1
    shown = capsys.readouterr().out
    assert "recorded with artifact 0123456789ab, asked " in shown
    assert f"{NAMES[0]}: rooster " in shown
    assert elsewhere.read_text(encoding="utf-8") == altered
    assert main([*command, "--record"]) == 0
    assert capsys.readouterr().out == shown
    assert main(command) == 0


def test_the_command_says_what_is_missing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["gold", "--data", str(tmp_path)]) == 1
    assert "error [gold_clips]" in capsys.readouterr().err
