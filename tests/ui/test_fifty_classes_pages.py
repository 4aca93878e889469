"""Every page on a cross-validation of fifty classes, made by the command a user runs, and on the model it made."""

from collections.abc import Callable
from pathlib import Path

import pytest
from streamlit.testing.v1 import AppTest

from app import state
from core import cli
from core.config import ROOT
from core.dataset import load_dataset
from core.training.runs import RunFolder
from tests.synthetic_dataset import write_dataset

pytestmark = pytest.mark.slow
PAGES = sorted(path.stem for path in (ROOT / "pages").glob("*.py"))
SMALL = ("model.stem_channels=8", "model.stage_channels=[8,16]", "augment.crop_s=0.3", "batch_size=20")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fifty")
    write_dataset(folder, n_classes=50, folds=2, per_class_and_fold=1, duration_s=0.5, sample_rate_hz=16_000)
    return folder


@pytest.fixture(scope="module")
def run(data: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    out = tmp_path_factory.mktemp("runs")
    asked = ["crossval", "--data", str(data), "--seeds", "1", "--epochs", "1", "--out", str(out), "--run-id", "fifty"]
    left_out = ["--leave-out", "class_7", "--leave-out-epochs", "1"]
    assert cli.main([*asked, *left_out, *(part for setting in SMALL for part in ("--set", setting))]) == 0
    return RunFolder(out / "fifty")


def test_a_cross_validation_of_fifty_classes_measures_them_all(run: RunFolder, data: Path) -> None:
    metrics, names = run.metrics(), load_dataset(data).class_names
    assert len(names) == 50
    assert metrics["n"] == 100
    assert set(metrics["recall"]) == set(names)
    assert metrics["unknown"]["near"]["combined"]["n_unknown"] == 2
    assert metrics["calibration"]["after"]["nll"] > 0


@pytest.mark.parametrize("name", PAGES)
def test_every_page_opens_on_fifty_classes(
    name: str, run: RunFolder, data: Path, open_app: Callable[..., AppTest]
) -> None:
    token = "a token of twenty letters"
    page = open_app(ARTIFACT=run.artifact, DATA_DIR=data, RUNS_DIR=run.path.parent, ADMIN_TOKEN=token)
    page.query_params["records"] = "run:fifty"
    page = page.switch_page(f"../pages/{name}.py").run()
    if name == "admin":
        page.text_input(key=state.TOKEN.name).set_value(token)
        page = page.button(key="admin_sign_in_button").click().run()
    assert not page.exception
    assert not page.error
    kinds = (page.title, page.subheader, page.markdown, page.caption, page.metric)
    assert len([element for kind in kinds for element in kind]) > 3
