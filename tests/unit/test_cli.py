import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from core.cli import main
from core.config import SHIPPED_RUN
from core.errors import StoreError
from core.store import Store
from tests.synthetic_dataset import write_dataset


@pytest.fixture
def sound(tmp_path: Path) -> Path:
    path = tmp_path / "noise.flac"
    soundfile.write(path, np.random.default_rng(0).normal(0, 0.1, 44_100), 44_100)
    return path


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, object]]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_classify_writes_one_json_object_a_file_in_the_order_given(
    sound: Path, untrained_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = sound.with_name("other.wav")
    soundfile.write(other, np.random.default_rng(1).normal(0, 0.1, 20_000), 8_000)
    status = main(["classify", str(sound), str(other), "--json", "--artifact", str(untrained_folder)])
    answers = lines(capsys)
    assert status == 0
    assert [answer["file"] for answer in answers] == [str(sound), str(other)]
    assert set(answers[0]) == {
        "file", "label", "confidence", "unknown", "unknown_score", "probabilities", "duration_s", "latency_ms",
        "quality", "fingerprint",
    }  # fmt: skip
    assert set(answers[0]["probabilities"]) == {"dog", "rain", "rooster"}  # type: ignore[call-overload]
    assert answers[0]["duration_s"] == pytest.approx(1.0, abs=1e-3)


def test_top_k_limits_the_probabilities_listed(
    sound: Path, untrained_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["classify", str(sound), "--json", "--top-k", "2", "--artifact", str(untrained_folder)])
    (answer,) = lines(capsys)
    listed = answer["probabilities"]
    assert isinstance(listed, dict)
    assert len(listed) == 2
    assert next(iter(listed)) == answer["label"]


def test_a_bad_file_is_told_in_its_place_and_stops_no_other(
    sound: Path, untrained_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text, missing = tmp_path / "text.wav", tmp_path / "missing.wav"
    text.write_text("this is a letter, not a sound")
    status = main(
        ["classify", str(text), str(sound), str(missing), str(tmp_path), "--json", "--artifact", str(untrained_folder)]
    )
    answers = lines(capsys)
    assert status == 1
    assert ["error" in answer for answer in answers] == [True, False, True, True]
    assert answers[0]["error"]["code"] == "not_audio"  # type: ignore[index]
    assert answers[2]["error"]["code"] == "unreadable_file"  # type: ignore[index]


def test_a_file_over_the_byte_limit_is_refused_before_it_is_read(
    sound: Path, untrained_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EARSHOT_MAX_BYTES", "100")
    read, opened = Path.read_bytes, []
    monkeypatch.setattr(Path, "read_bytes", lambda self: opened.append(self) or read(self))
    assert main(["classify", str(sound), "--json", "--artifact", str(untrained_folder)]) == 1
    (answer,) = lines(capsys)
    assert answer["error"]["code"] == "too_many_bytes"  # type: ignore[index]
    assert sound not in opened


def test_words_name_the_three_most_probable(
    sound: Path, untrained_folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["classify", str(sound), "--artifact", str(untrained_folder)]) == 0
    text = capsys.readouterr().out
    assert all(name in text for name in ("dog", "rain", "rooster"))
    assert "1.00 s" in text


def test_a_name_moves_no_cursor(sound: Path, untrained_folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    odd = sound.rename(sound.with_name("a\x1b[2J\nb 🐕.flac"))
    bad = odd.with_name("bad\x07.wav")
    bad.write_text("no sound")
    main(["classify", str(odd), str(bad), "--artifact", str(untrained_folder)])
    said = capsys.readouterr().out
    assert "a\\x1b[2J\\nb 🐕.flac\n" in said
    assert "bad\\x07.wav\n" in said
    assert not {"\x1b", "\x07"} & set(said)


@pytest.mark.parametrize("command", ["train", "crossval"])
@pytest.mark.parametrize("name", ["../evil", "a/b", "..", "", "a\\b"])
def test_no_name_of_a_run_leads_out_of_its_folder(
    toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], command: str, name: str
) -> None:
    asked = [command, "--data", str(toy), "--epochs", "1", "--out", str(tmp_path / "runs"), "--run-id", name]
    if name or command == "crossval":  # train makes a name of nothing
        assert main(asked) == 1
        assert "Expected the name of a run" in capsys.readouterr().err
        assert not list(tmp_path.rglob("config.json"))


def test_the_classes_of_a_run_are_its_own(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(SHIPPED_RUN), "--classes", "a,b"]) == 1
    assert "names its own" in capsys.readouterr().err


def test_a_missing_artifact_is_one_clear_line_and_status_1(sound: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify", str(sound), "--artifact", "/nowhere"]) == 1
    assert "error [missing]: Expected a model folder" in capsys.readouterr().err


@pytest.mark.parametrize("value", ["many", "-1"])
def test_a_setting_out_of_range_is_named(
    sound: Path, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EARSHOT_MAX_BYTES", value)
    assert main(["classify", str(sound)]) == 1
    assert "EARSHOT_MAX_BYTES" in capsys.readouterr().err


def test_a_wrong_command_line_is_status_2(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["classify"]) == 2
    assert main(["sing"]) == 2
    assert main(["--help"]) == 0


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    write_dataset(root, n_classes=2, folds=2, per_class_and_fold=2)
    return root


SMALL = [
    "--set", "model.stem_channels=4", "--set", "model.stage_channels=[4,8]", "--set", "augment.crop_s=0.5",
]  # fmt: skip


def test_train_writes_a_run_that_classifies(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["train", "--data", str(toy), "--fold", "2", "--epochs", "1", "--seed", "5", "--out", str(tmp_path)]
    assert main([*asked, "--run-id", "mine", *SMALL]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["run"] == str(tmp_path / "mine")
    assert json.loads((tmp_path / "mine" / "config.json").read_text())["train"]["seed"] == 5
    clip = next((toy / "audio").iterdir())
    assert main(["classify", str(clip), "--artifact", str(tmp_path / "mine" / "artifact")]) == 0
    assert main(["train", "--data", str(toy), "--resume", str(tmp_path / "mine")]) == 0


def test_crossval_repeated_trains_nothing_again(toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["crossval", "--data", str(toy), "--seeds", "1", "--epochs", "1", "--out", str(tmp_path), *SMALL]
    assert main(asked) == 0
    first = capsys.readouterr().out
    assert main(asked) == 0
    assert capsys.readouterr().out == first
    assert json.loads(first)["n"] == 8


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--fold", "9"], "Expected one of the folds 1, 2 or 'all', got '9'"),
        (["--set", "augment.crop=3"], "the name of a training setting, got 'augment.crop=3'"),
        (["--set", "learning_rate=fast"], "learning_rate: .* got 'fast'"),
        (["--set", "learning_rate"], "Expected --set NAME=VALUE"),
    ],
)
def test_a_training_option_out_of_range_is_named(
    toy: Path, tmp_path: Path, extra: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import re

    assert main(["train", "--data", str(toy), "--out", str(tmp_path), *extra]) == 1
    assert re.search(message, capsys.readouterr().err)


def test_with_log_answers_are_written_into_the_store_and_folders_are_walked(
    sound: Path,
    untrained_folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    url = f"sqlite:///{tmp_path / 'log.sqlite3'}"
    monkeypatch.setenv("EARSHOT_DATABASE_URL", url)
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "inner" / "copy.flac").write_bytes(sound.read_bytes())
    (folder / "letter.txt").write_text("not a sound")
    (tmp_path / "empty").mkdir()
    asked = ["classify", "--log", str(sound), str(folder), str(tmp_path / "empty"), "--json"]
    assert main([*asked, "--artifact", str(untrained_folder)]) == 1
    printed = capsys.readouterr()
    answers = [json.loads(line) for line in printed.out.splitlines()]
    assert [answer.get("id") for answer in answers] == [1, 2, None]
    assert answers[2]["error"]["code"] == "unreadable_file"
    assert "1 sound files; 1 other files passed over" in printed.err
    logged = Store.open(url).get(2)
    assert (logged.name, logged.origin, logged.prediction.label) == ("copy.flac", "cli", answers[1]["label"])
    assert Store.open(url).sound(logged.prediction.clip_id) is None
    monkeypatch.setenv("EARSHOT_KEEP_AUDIO", "1")
    assert main(["classify", "--log", str(sound), "--artifact", str(untrained_folder)]) == 0
    assert Store.open(url).sound(logged.prediction.clip_id) == sound.read_bytes()


def test_an_answer_that_cannot_be_logged_is_given_and_stops_no_other(
    sound: Path,
    untrained_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("EARSHOT_DATABASE_URL", f"sqlite:///{tmp_path / 'log.sqlite3'}")
    write, calls = Store.log, []

    def fill_up(store: Store, *given: Any, **more: Any) -> int:
        calls.append(given)
        if len(calls) == 2:
            raise StoreError("The database did not take this: disk full.", code="database")
        return write(store, *given, **more)

    monkeypatch.setattr(Store, "log", fill_up)
    asked = ["classify", "--log", str(sound), str(sound), str(sound), "--artifact", str(untrained_folder)]
    assert main([*asked, "--json"]) == 1
    first, second, third = lines(capsys)
    assert second["log_error"] == {"code": "database", "message": "The database did not take this: disk full."}
    assert second["label"] == first["label"] == third["label"]
    assert ("id" in first, "id" in second, "id" in third) == (True, False, True)
    calls.clear()
    assert main(asked) == 1
    assert "not logged [database]: The database did not take this" in capsys.readouterr().out


def test_a_name_that_is_no_utf_8_is_told_and_logged_as_near_as_can_be(
    sound: Path,
    untrained_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    url = f"sqlite:///{tmp_path / 'log.sqlite3'}"
    monkeypatch.setenv("EARSHOT_DATABASE_URL", url)
    odd, missing = tmp_path / "caf\udce9.flac", tmp_path / "gon\udce9.flac"
    odd.write_bytes(sound.read_bytes())
    assert main(["classify", "--log", str(odd), str(missing), "--json", "--artifact", str(untrained_folder)]) == 1
    named, absent = lines(capsys)
    assert named["file"] == str(tmp_path / "caf\ufffd.flac")
    assert absent["file"] == str(tmp_path / "gon\ufffd.flac")
    assert Store.open(url).get(1).name == "caf\ufffd.flac"


def test_a_pipe_without_end_is_not_read_to_its_end(
    untrained_folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARSHOT_MAX_BYTES", "100000")
    assert main(["classify", "/dev/zero", "--json", "--artifact", str(untrained_folder)]) == 1
    (answer,) = lines(capsys)
    assert answer["error"]["code"] == "too_many_bytes"  # type: ignore[index]


def test_a_log_that_cannot_be_opened_is_told_before_anything_is_answered(
    sound: Path, untrained_folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("EARSHOT_DATABASE_URL", f"sqlite:///{sound}/log.sqlite3")
    assert main(["classify", "--log", str(sound), "--artifact", str(untrained_folder)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "error [database]" in printed.err
