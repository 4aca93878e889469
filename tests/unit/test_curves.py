import re
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from core.training.curves import CONFUSION_TAG, read_confusions, read_curves, stamp, write_curves


def write(folder: Path, losses: dict[int, float], *, purge: int | None = None) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with SummaryWriter(str(folder), purge_step=purge) as board:
        for epoch, loss in losses.items():
            board.add_scalar("train/loss", loss, epoch)
            board.add_tensor(CONFUSION_TAG, torch.tensor([[epoch, 0], [1, 2]], dtype=torch.int32), epoch)
        board.add_hparams({"epochs": 2}, {"final/accuracy": 0.5}, run_name=".")


def test_a_runs_scalars_are_one_row_an_epoch_and_metric(tmp_path: Path) -> None:
    write(tmp_path / "a-run", {1: 0.5, 2: 0.25})
    curves = read_curves(tmp_path / "a-run")
    assert curves.to_numpy().tolist() == [["a-run", 1, "train/loss", 0.5], ["a-run", 2, "train/loss", 0.25]]


def test_an_epoch_that_a_resumed_run_repeats_is_there_once_with_its_last_value(tmp_path: Path) -> None:
    write(tmp_path, {1: 0.5, 2: 0.25, 3: 0.125})
    for events in tmp_path.glob("events.out.*"):  # an earlier second: TensorBoard reads files in order of their names,
        events.rename(tmp_path / re.sub(r"tfevents\.\d+", "tfevents.1000000000", events.name))  # and 10 sorts before 9
    write(tmp_path, {2: 0.75}, purge=2)
    curves = read_curves(tmp_path)
    assert dict(zip(curves["epoch"], curves["value"], strict=True)) == {1: 0.5, 2: 0.75}


def test_counts_of_held_out_clips_are_sparse(tmp_path: Path) -> None:
    write(tmp_path / "a-run", {4: 1.0})
    counts = read_confusions(tmp_path / "a-run")
    assert counts.drop(columns="member").to_numpy().tolist() == [[4, 0, 0, 4], [4, 1, 0, 1], [4, 1, 1, 2]]


def test_members_of_a_cross_validation_are_told_apart_and_kept_without_their_events(tmp_path: Path) -> None:
    for name in ("fold-1-seed-0", "fold-2-seed-0"):
        write(tmp_path / "members" / name, {1: 0.5})
    curves, confusions, before = read_curves(tmp_path), read_confusions(tmp_path), stamp(tmp_path)
    assert sorted(set(curves["member"])) == ["fold-1-seed-0", "fold-2-seed-0"]
    write_curves(tmp_path)
    assert stamp(tmp_path) != before
    for events in tmp_path.glob("members/*/events.out.*"):
        events.unlink()
    assert read_curves(tmp_path).equals(curves)
    assert read_confusions(tmp_path).equals(confusions)


def test_a_folder_without_events_gives_empty_tables(tmp_path: Path) -> None:
    assert read_curves(tmp_path).empty
    assert read_confusions(tmp_path).empty
    write_curves(tmp_path)
    assert read_curves(tmp_path).empty
    assert np.array_equal(read_curves(tmp_path).columns, ["member", "epoch", "metric", "value"])
