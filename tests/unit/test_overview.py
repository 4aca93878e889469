from pathlib import Path

import pytest

from core.config import SHIPPED_RUN, TrainConfig
from core.jobs import Job, TrainingRequest, create_job
from core.training.overview import run_facts, runs_in
from core.training.runs import RunConfig, RunFolder


def begun(path: Path, **changes: object) -> RunFolder:
    folder = RunFolder(path)
    config = RunConfig(
        run_id=path.name,
        dataset="toy",
        dataset_hash="",
        class_names=("a", "b"),
        fold=1,
        train=TrainConfig(epochs=4),
        code_version="0",
    )
    folder.begin(config.model_copy(update=changes))
    return folder


def queued(runs: Path, toy: Path) -> Job:
    return create_job(runs, TrainingRequest(dataset=toy / "toy", protocol="crossval", seeds=2, epochs=7))


def test_the_shipped_run_says_what_it_measured() -> None:
    facts = run_facts(SHIPPED_RUN)
    assert (facts.state, facts.dataset, facts.n) == ("finished", "ESC-10", 400)
    assert facts.accuracy is not None
    assert facts.low is not None
    assert facts.low < facts.accuracy
    assert facts.protocol.startswith("cross-validation, 5 folds, ")


def test_runs_are_listed_with_what_moved_last_first_and_other_folders_are_passed_over(tmp_path: Path) -> None:
    begun(tmp_path / "z").write_status("finished", 4, 4)
    begun(tmp_path / "a", fold=None).write_status("finished", 4, 4)
    (tmp_path / "letters").mkdir()
    job = queued(tmp_path, tmp_path)
    runs = runs_in(tmp_path)
    assert [(run.name, run.state) for run in runs] == [(job.id, "queued"), ("a", "finished"), ("z", "finished")]
    assert [run.protocol for run in runs] == ["cross-validation, 2 seeds", "all clips", "fold 1 held out"]
    assert [run.epochs for run in runs] == [7, 4, 4]


def test_a_run_that_says_it_goes_on_while_no_process_holds_it_is_dead(tmp_path: Path) -> None:
    folder = begun(tmp_path / "a")
    folder.write_status("running", 2, 4)
    with folder.lock():
        assert run_facts(folder.path).state == "running"
    dead = run_facts(folder.path)
    assert (dead.state, dead.message) == ("dead", "Its process ended without a word after epoch 2 of 4.")


@pytest.mark.parametrize("content", ["", "[]", '{"train": {}}'])
def test_a_damaged_folder_is_a_line_not_an_error(tmp_path: Path, content: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "config.json").write_text(content)
    (facts,) = runs_in(tmp_path)
    assert (facts.name, facts.state, facts.accuracy) == ("a", "dead", None)
