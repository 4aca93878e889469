"""The Training page as a person reads it."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from streamlit.testing.v1 import AppTest
from torch.utils.tensorboard import SummaryWriter

from app import state
from core.config import ROOT, TrainConfig
from core.training.curves import CONFUSION_TAG
from core.training.runs import RunConfig, RunFolder

OpenApp = Callable[..., AppTest]


def open_training(open_app: OpenApp, runs_dir: Path, **query: str) -> AppTest:
    page = open_app(RUNS_DIR=runs_dir)
    for name, value in query.items():
        page.query_params[name] = value
    return page.switch_page(str(ROOT / "pages" / "training.py")).run()


def trained(path: Path, *, epochs: int = 3) -> RunFolder:
    folder = RunFolder(path)
    folder.begin(
        RunConfig(
            run_id=path.name,
            dataset="toy",
            dataset_hash="",
            class_names=("dog", "rain"),
            fold=1,
            train=TrainConfig(epochs=epochs),
            code_version="0",
        )
    )
    with SummaryWriter(str(path)) as board:
        for epoch in range(1, epochs + 1):
            board.add_scalar("train/loss", 1 / epoch, epoch)
            board.add_tensor(CONFUSION_TAG, torch.tensor([[epoch, 0], [1, 2]], dtype=torch.int32), epoch)
    folder.write_metrics({"n": 6, "accuracy": 5 / 6, "accuracy_low": 0.4, "accuracy_high": 0.95})
    folder.write_status("finished", epochs, epochs)
    return folder


def words_on(page: AppTest) -> str:
    return "\n".join(element.value for kind in (page.title, page.caption, page.code, page.error) for element in kind)


def test_without_runs_the_shipped_one_is_there(open_app: OpenApp, tmp_path: Path) -> None:
    page = open_training(open_app, tmp_path / "none")
    assert not page.exception
    assert not page.error
    assert "ESC-10 · cross-validation, 5 folds" in words_on(page)


def test_a_run_has_curves_confusion_by_epoch_and_the_command_for_tensorboard(open_app: OpenApp, tmp_path: Path) -> None:
    trained(tmp_path / "mine")
    page = open_training(open_app, tmp_path)
    assert not page.exception
    assert "Finished · toy · fold 1 held out · 3 epochs" in words_on(page)
    assert len(page.get("plotly_chart")) == 4
    assert f"tensorboard --logdir {tmp_path / 'mine'}" in words_on(page)
    assert "6 held-out clips after epoch 3, 83" in words_on(page)
    page = page.select_slider(key=state.CURVES_EPOCH.of("training").name).set_value(1).run()
    assert "4 held-out clips after epoch 1, 75" in words_on(page)


def test_a_run_named_in_the_url_is_shown_and_a_wrong_name_is_not_an_error(open_app: OpenApp, tmp_path: Path) -> None:
    trained(tmp_path / "mine")
    assert "ESC-10" in words_on(open_training(open_app, tmp_path, run="shipped"))
    page = open_training(open_app, tmp_path, run="nothing")
    assert not page.exception
    assert "toy" in words_on(page)


def test_networks_with_classes_left_out_stand_apart_under_their_own_classes(open_app: OpenApp, tmp_path: Path) -> None:
    page = open_training(open_app, tmp_path / "none")
    assert "more networks had classes left out" in words_on(page)
    page = page.selectbox(key=state.CURVES_MEMBER.of("training").name).set_value("without-dog").run()
    assert not page.exception
    assert "72 held-out clips" in words_on(page)
    matrix = json.loads(page.get("plotly_chart")[-1].proto.spec)["data"][0]
    assert len(matrix["y"]) == 9
    assert "Dog" not in matrix["y"]
