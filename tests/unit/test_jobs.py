"""Training jobs as real processes on a tiny dataset. Waits are generous: machines are slow and busy."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from core.errors import RunError
from core.jobs import (
    Job,
    JobState,
    Progress,
    TrainingRequest,
    create_job,
    ended_state,
    job_files,
    jobs_in,
    progress_of,
    read_job,
    save_job,
)
from core.local_jobs import LocalTrainer, _run_next
from core.processes import Process, alive, end_group, members
from core.training.runs import JOB_LOG, RunConfig, RunFolder
from tests.synthetic_dataset import write_dataset

WAIT_S = 180.0
TINY = ("model.stem_channels=4", "model.stage_channels=[4,8]", "augment.crop_s=0.3", "batch_size=8")


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("toy")
    write_dataset(root, n_classes=2, folds=2, per_class_and_fold=2, duration_s=0.5, sample_rate_hz=16_000)
    return root


def asked(toy: Path, **changes: object) -> TrainingRequest:
    return TrainingRequest(dataset=toy, epochs=2, augmentation="off", changes=TINY).model_copy(update=changes)


def wait_for(trainer: LocalTrainer, job_id: str, done: Callable[[Progress], bool]) -> Progress:
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        progress = trainer.follow(job_id)
        if done(progress):
            return progress
        time.sleep(0.1)
    raise AssertionError(f"{job_id} is {progress.job.state}: {progress.log}")


def is_(*states: JobState) -> Callable[[Progress], bool]:
    return lambda progress: progress.job.state in states


def test_a_job_trains_to_its_end_while_the_next_waits_and_a_third_is_cancelled(toy: Path, tmp_path: Path) -> None:
    trainer = LocalTrainer(tmp_path / "runs")
    first = trainer.start_training(asked(toy), asked_by="admin")
    second = trainer.start_training(asked(toy, epochs=500, seed=1))
    third = trainer.start_training(asked(toy, seed=2))
    assert trainer.cancel(third.id).state == "cancelled"
    running = wait_for(trainer, first.id, is_("running"))
    assert running.job.process is not None
    assert running.job.process.pid != os.getpid()
    assert [job.state for job in trainer.jobs() if job.id == second.id] == ["queued"]

    ended = wait_for(LocalTrainer(tmp_path / "runs"), first.id, lambda progress: not progress.job.active)
    assert (ended.job.state, ended.job.asked_by, ended.epoch, ended.epochs) == ("finished", "admin", 2, 2)
    assert {"train/loss", "val/accuracy", "learning_rate"} <= set(ended.metrics)
    assert any(line.startswith("epoch 2/2") for line in ended.log)
    assert (first.run / "artifact" / "artifact.json").exists()

    going = wait_for(trainer, second.id, lambda progress: progress.epoch >= 3)
    assert going.eta_s is not None
    process = going.job.process
    assert process is not None
    cancelled = trainer.cancel(second.id)
    assert cancelled.state == "cancelled"
    assert not alive(process)
    assert not third.run.joinpath("config.json").exists()

    assert RunFolder(second.run).checkpoint.exists()
    resumed = trainer.resume(second.id)
    assert resumed.state == "queued"
    reached = wait_for(trainer, second.id, lambda progress: progress.epoch > progress.job.epochs_before > 0)
    assert reached.job.process is not None
    os.killpg(reached.job.process.pid, signal.SIGKILL)
    dead = wait_for(trainer, second.id, lambda progress: not progress.job.active)
    assert (dead.job.state, dead.job.resumable) == ("dead", True)
    assert "ended without a word" in dead.job.message


def test_a_failed_job_says_the_trainings_own_words_of_its_last_start(toy: Path, tmp_path: Path) -> None:
    job = create_job(tmp_path, asked(toy))
    log = job.run / JOB_LOG
    log.write_text("error [no_such_fold]: Expected one of the folds 1, 2, got '9'.\n")
    assert ended_state(job) == ("failed", "Expected one of the folds 1, 2, got '9'.")
    state, message = ended_state(save_job(job, log_start=log.stat().st_size))
    assert (state, message.partition(",")[0]) == ("dead", "Its process ended without a word")


def test_a_running_job_without_its_process_is_dead_not_running_for_ever(toy: Path, tmp_path: Path) -> None:
    job = create_job(tmp_path, asked(toy))
    recycled = Process(pid=os.getpid(), started="another process of the same id")
    save_job(job, state="running", process=recycled)
    assert LocalTrainer(tmp_path).follow(job.id).job.state == "dead"
    assert read_job(job.run).state == "dead"


def test_a_running_job_whose_run_finished_is_finished(toy: Path, tmp_path: Path) -> None:
    job = create_job(tmp_path, asked(toy))
    save_job(job, state="running", process=Process(pid=2**22 - 1, started="0@"))
    folder = RunFolder(job.run)
    folder.begin(config_of(job, toy))
    folder.write_status("finished", 2, 2)
    assert [seen.state for seen in LocalTrainer(tmp_path).jobs()] == ["finished"]


def config_of(job: Job, toy: Path) -> RunConfig:
    return RunConfig(
        run_id=job.id,
        dataset="toy",
        dataset_hash="",
        class_names=("a", "b"),
        fold=1,
        train=job.request.train_config(),
        code_version="0",
    )


def test_the_turn_is_kept_by_whoever_inherited_it(tmp_path: Path) -> None:
    from core.local_jobs import _try_turn

    turn = _try_turn(tmp_path)
    assert turn is not None
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=(turn,))
    os.close(turn)
    assert _try_turn(tmp_path) is None
    child.communicate(b"\n")
    free = _try_turn(tmp_path)
    assert free is not None
    os.close(free)


def test_jobs_start_in_the_order_they_were_asked_for(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", shutil.which("false"))  # a training that fails at once
    asked_for = [create_job(tmp_path, asked(toy, seed=seed)).id for seed in range(3)]
    turn = os.open(tmp_path / "turn", os.O_CREAT | os.O_RDWR)
    started = []
    while _run_next(tmp_path, turn):
        started.append(max(jobs_in(tmp_path), key=lambda job: job.started_at.timestamp() if job.started_at else 0).id)
    os.close(turn)
    assert started == asked_for
    assert {job.state for job in jobs_in(tmp_path)} == {"failed"}


def test_two_jobs_of_the_same_second_get_folders_of_their_own(toy: Path, tmp_path: Path) -> None:
    jobs = [create_job(tmp_path, asked(toy)) for _ in range(3)]
    assert len({job.run for job in jobs}) == 3


def test_a_process_is_known_by_its_id_and_its_start() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    process = Process.of(child.pid)
    assert alive(process)
    assert not alive(process.model_copy(update={"started": "1"}))
    assert child.stdin is not None
    child.stdin.close()
    deadline = time.monotonic() + WAIT_S
    while alive(process) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(process)  # though nobody has asked for its exit status yet
    child.wait()


STUBBORN = """
import os, signal, sys, time
if os.fork() == 0:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print(os.getpid(), flush=True)
time.sleep(600)
"""


def test_a_child_that_will_not_end_is_killed_though_its_parent_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    parent = subprocess.Popen([sys.executable, "-c", STUBBORN], stdout=subprocess.PIPE, start_new_session=True)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    try:
        process = Process.of(parent.pid)
        assert set(members(parent.pid)) == {parent.pid, child}
        monkeypatch.setattr("core.processes.END_S", 2.0)
        end_group(process)
        assert members(parent.pid) == []
        assert not alive(Process.of(child))
    finally:
        parent.kill()
        parent.wait()
        parent.stdout.close()


def test_a_job_that_finished_before_it_could_be_cancelled_is_finished(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = create_job(tmp_path, asked(toy))
    me = Process.of(os.getpid())
    save_job(job, state="running", process=me)
    folder = RunFolder(job.run)
    folder.begin(config_of(job, toy))
    monkeypatch.setattr("core.local_jobs.end_group", lambda _: folder.write_status("finished", 2, 2))
    assert LocalTrainer(tmp_path).cancel(job.id).state == "finished"
    assert read_job(job.run).state == "finished"


def test_a_job_that_cannot_be_ended_can_be_cancelled_once_more(
    toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = create_job(tmp_path, asked(toy))
    save_job(job, state="running", process=Process.of(os.getpid()))

    def stays(_: Process) -> None:
        assert read_job(job.run).process is not None  # should this server die now, it is still known whom to end
        raise RunError("Expected all processes of the job to end", code="not_ended")

    with monkeypatch.context() as patch:
        patch.setattr("core.local_jobs.end_group", stays)
        with pytest.raises(RunError, match="to end"):
            LocalTrainer(tmp_path).cancel(job.id)
    assert read_job(job.run).state == "running"
    ended = []
    monkeypatch.setattr("core.local_jobs.end_group", ended.append)
    for left_by_a_dead_server in (False, True):
        if left_by_a_dead_server:
            save_job(read_job(job.run), state="cancelled", process=Process.of(os.getpid()))
        assert LocalTrainer(tmp_path).cancel(job.id).state == "cancelled"
        assert read_job(job.run).process is None
    assert len(ended) == 2


def test_a_request_says_the_command_that_anyone_could_type(toy: Path, tmp_path: Path) -> None:
    fold = asked(toy, fold=None, seed=3).command(tmp_path / "run")
    assert fold[:3] == ["train", "--data", str(toy)]
    assert fold[-4:] == ["--fold", "all", "--seed", "3"]
    folds = asked(toy, protocol="crossval", seeds=2).command(tmp_path / "run")
    assert folds[0] == "crossval"
    assert folds[-2:] == ["--seeds", "2"]


def test_without_augmentation_nothing_is_random_but_the_crop(toy: Path) -> None:
    augment = asked(toy).train_config().augment
    assert {getattr(augment, name) for name in type(augment).model_fields if name.endswith("_p")} == {0}
    assert (augment.stretch, augment.gain_db, augment.time_masks, augment.frequency_masks) == (1, 0, 0, 0)


def test_a_cross_validation_counts_the_epochs_of_all_its_members(toy: Path, tmp_path: Path) -> None:
    job = create_job(tmp_path, asked(toy, protocol="crossval", epochs=10))
    assert (progress_of(job).epoch, progress_of(job).epochs) == (0, 10)
    RunFolder(job.run).write_status("running", 0, 3)
    assert (progress_of(job).epoch, progress_of(job).epochs) == (0, 30)
    for fold, state, epoch in ((1, "finished", 10), (2, "running", 4)):
        member = RunFolder(job.run / "members" / f"fold-{fold}-seed-0")
        member.begin(config_of(job, toy))
        member.write_status(state, epoch, 10, {"train/loss": 0.5 / fold})
    progress = progress_of(job)
    assert (progress.epoch, progress.epochs, progress.stage) == (14, 30, "fold-2-seed-0, 1 of 3 networks done")
    assert progress.metrics == {"train/loss": 0.25}


@pytest.mark.parametrize("name", ["../elsewhere", ".hidden", "nothing"])
def test_only_jobs_have_names(tmp_path: Path, name: str) -> None:
    with pytest.raises(RunError):
        LocalTrainer(tmp_path).follow(name)


def test_a_request_that_names_no_setting_or_no_dataset_is_refused(toy: Path, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="found none"):
        LocalTrainer(tmp_path).start_training(asked(tmp_path))
    with pytest.raises(RunError, match="--set NAME=VALUE"):
        LocalTrainer(tmp_path).start_training(asked(toy, changes=("speed=1",)))
    assert jobs_in(tmp_path) == []


def test_changing_job_files_is_for_one_at_a_time(tmp_path: Path) -> None:
    script = f"from pathlib import Path; from core.jobs import job_files\nwith job_files(Path({str(tmp_path)!r})): pass"
    with job_files(tmp_path):
        other = subprocess.Popen([sys.executable, "-c", script])
        with pytest.raises(subprocess.TimeoutExpired):
            other.wait(timeout=1)
    assert other.wait(timeout=WAIT_S) == 0
