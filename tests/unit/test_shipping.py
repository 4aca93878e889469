import shutil
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from core import cli
from core.artifact import load_artifact
from core.errors import RunError
from core.record_files import read_records
from core.training.curves import read_curves
from core.training.runs import RunFolder
from core.training.shipping import restore, ship
from tests.synthetic_dataset import write_dataset

SMALL = [
    part
    for setting in ("model.stem_channels=8", "model.stage_channels=[8,16]", "augment.crop_s=0.5", "batch_size=8")
    for part in ("--set", setting)
]
LEFT_OUT = "class_0"


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("toy")
    write_dataset(folder, n_classes=3, folds=2, per_class_and_fold=2)
    return folder


@pytest.fixture(scope="module")
def run(toy: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("runs")
    asked = ["crossval", "--data", str(toy), "--seeds", "1", "--epochs", "1", "--out", str(out), "--run-id", "cv"]
    assert cli.main([*asked, "--leave-out", LEFT_OUT, *SMALL]) == 0
    return RunFolder(out / "cv")


def test_what_is_shipped_answers_as_the_run_and_leaves_the_members_weights_behind(
    run: RunFolder, tmp_path: Path
) -> None:
    ship(run, to_run=tmp_path / "run", to_artifact=tmp_path / "artifact")
    shipped = RunFolder(tmp_path / "run")
    assert shipped.metrics() == run.metrics()
    assert load_artifact(tmp_path / "artifact").manifest == load_artifact(run.artifact).manifest
    assert not list((tmp_path / "run").rglob("*.safetensors"))
    assert set(read_curves(shipped.path)["member"]) == {member.path.name for member in run.members()}


def test_members_get_their_tables_back_from_the_runs_own(run: RunFolder, tmp_path: Path) -> None:
    ship(run, to_run=tmp_path / "run", to_artifact=tmp_path / "artifact")
    assert not list((tmp_path / "run" / "members").rglob("*.parquet"))
    restore(tmp_path / "cv", from_run=tmp_path / "run", from_artifact=tmp_path / "artifact")
    measured = [member for member in run.members() if member.config().fold is not None]
    assert [bool(member.config().left_out) for member in measured] == [False, False, True]
    for member in measured:
        back = RunFolder(tmp_path / "cv" / "members" / member.path.name)
        pd.testing.assert_frame_equal(pd.read_parquet(back.unknown), pd.read_parquet(member.unknown))
        if not member.config().left_out:
            pd.testing.assert_frame_equal(back.records(), member.records())
            pd.testing.assert_frame_equal(pd.read_parquet(back.robustness), pd.read_parquet(member.robustness))
            assert read_records(back.oof).class_names == read_records(member.oof).class_names


def test_members_keep_their_own_tables_where_the_run_has_none_of_all(run: RunFolder, tmp_path: Path) -> None:
    tuned = RunFolder(tmp_path / "tuned")
    shutil.copytree(run.path, tuned.path)
    for table in (tuned.unknown, tuned.robustness):  # of a tuned run that could measure some members alone
        table.unlink()
    ship(tuned, to_run=tmp_path / "run", to_artifact=tmp_path / "artifact")
    restore(tmp_path / "cv", from_run=tmp_path / "run", from_artifact=tmp_path / "artifact")
    for member in run.members():
        back = RunFolder(tmp_path / "cv" / "members" / member.path.name)
        for name in ("oof.parquet", "unknown.parquet", "robustness.parquet"):
            assert (back.path / name).exists() == (member.path / name).exists(), (member.path.name, name)


def test_a_restoring_that_was_broken_off_leaves_no_folder_behind(
    run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(run, to_run=tmp_path / "run", to_artifact=tmp_path / "artifact")

    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("core.training.shipping.write_table", full)
    with pytest.raises(OSError, match="No space left"):
        restore(tmp_path / "runs" / "cv", from_run=tmp_path / "run", from_artifact=tmp_path / "artifact")
    assert not list((tmp_path / "runs").iterdir())


def test_shipping_again_replaces_what_was_shipped(run: RunFolder, tmp_path: Path) -> None:
    for _ in range(2):
        ship(run, to_run=tmp_path / "run", to_artifact=tmp_path / "artifact")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["artifact", "run"]


def test_an_unfinished_cross_validation_is_not_shipped(run: RunFolder, tmp_path: Path) -> None:
    broken = RunFolder(tmp_path / "broken")
    shutil.copytree(run.path, broken.path)
    broken.write_status("failed", 1, 2)
    with pytest.raises(RunError, match="finished"):
        ship(broken, to_run=tmp_path / "run", to_artifact=tmp_path / "artifact")
    assert not (tmp_path / "run").exists()


def test_a_shipped_cross_validation_goes_on_with_another_seed_without_training_the_first_again(
    run: RunFolder, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ship(run, to_run=tmp_path / "run", to_artifact=tmp_path / "artifact")
    restore(tmp_path / "runs" / "cv", from_run=tmp_path / "run", from_artifact=tmp_path / "artifact")
    asked = ["crossval", "--data", str(toy), "--seeds", "2", "--epochs", "1", "--out", str(tmp_path / "runs")]
    answer = CliRunner().invoke(cli.app, [*asked, "--run-id", "cv", "--leave-out", LEFT_OUT, *SMALL])
    assert answer.exit_code == 0, answer.output
    grown = RunFolder(tmp_path / "runs" / "cv")
    trained_now = {path.parent.name for path in (grown.path / "members").glob("*/events.out.*")}
    assert trained_now == {"fold-1-seed-1", "fold-2-seed-1"}
    ship(grown, to_run=tmp_path / "run", to_artifact=tmp_path / "artifact")
    assert set(read_curves(tmp_path / "run")["member"]) == {member.path.name for member in grown.members()}


def test_another_cross_validation_is_refused_before_anything_is_restored(
    run: RunFolder, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cli, "SHIPPED_RUN", run.path)
    asked = ["crossval", "--data", str(toy), "--from-shipped", "--out", str(tmp_path / "runs"), "--run-id", "other"]
    answer = CliRunner().invoke(cli.app, [*asked, "--epochs", "3", *SMALL])
    assert isinstance(answer.exception, RunError)
    assert answer.exception.code == "other_run"
    assert not (tmp_path / "runs").exists()


def test_nothing_is_restored_over_a_run_that_exists(run: RunFolder, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="holds something"):
        restore(run.path, from_run=run.path, from_artifact=run.artifact)
