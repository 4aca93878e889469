import json
from pathlib import Path

import pandas as pd
import pytest

from core.config import TrainConfig
from core.errors import RunError
from core.training.runs import RunConfig, RunFolder, new_run_id, write_atomically

CONFIG = RunConfig(
    run_id="a", dataset="toy", dataset_hash="0", class_names=("x", "y"), fold=1, train=TrainConfig(), code_version="0"
)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "a")
    folder.begin(CONFIG)
    return folder


def test_a_run_reads_back_what_was_asked_and_how_far_it_is(run: RunFolder) -> None:
    run.write_status("running", 3, 10, {"val/accuracy": 0.5})
    assert run.config() == CONFIG
    assert (run.status().state, run.status().epoch) == ("running", 3)
    assert not run.finished()


def test_the_same_configuration_may_begin_again_and_another_may_not(run: RunFolder) -> None:
    run.begin(CONFIG)
    with pytest.raises(RunError, match=r"fold, train differ.*Choose another --out"):
        run.begin(CONFIG.model_copy(update={"fold": 2, "train": TrainConfig(epochs=7)}))
    assert run.config() == CONFIG


def test_a_folder_that_holds_something_else_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(RunError, match=r"Expected a run folder with config\.json"):
        RunFolder(tmp_path).begin(CONFIG)
    assert [path.name for path in tmp_path.iterdir()] == ["letter.txt"]


def test_a_missing_run_is_told_by_what_was_looked_for(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"found none at .*nowhere") as caught:
        RunFolder(tmp_path / "nowhere").status()
    assert caught.value.code == "no_run"


def test_a_failure_keeps_the_epoch_it_reached(run: RunFolder) -> None:
    run.write_status("running", 3, 10, {"val/accuracy": 0.5})
    run.mark_failed(ValueError("odd"))
    status = run.status()
    assert (status.state, status.epoch, status.message) == ("failed", 3, "ValueError: odd")
    assert status.metrics == {"val/accuracy": 0.5}


def test_records_keep_their_arrays(run: RunFolder) -> None:
    run.write_oof(pd.DataFrame({"clip_id": ["a"], "logits": [[1.0, 2.0]]}))
    assert run.records()["logits"].iloc[0].tolist() == [1.0, 2.0]


def test_a_write_that_breaks_leaves_the_old_file_and_no_litter(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    path.write_text("{}")

    def half(part: Path) -> None:
        part.write_text("{")
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space"):
        write_atomically(path, half)
    assert json.loads(path.read_text()) == {}
    assert [entry.name for entry in tmp_path.iterdir()] == ["numbers.json"]


def test_run_ids_sort_by_time_and_carry_a_name() -> None:
    assert new_run_id("fold-1").endswith("-fold-1")
    assert new_run_id("b")[:8].isdigit()
