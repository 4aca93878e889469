"""The Performance page: on the shipped run, on nothing, on one class, on fifty, on a broken run."""

import io
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from streamlit.testing.v1 import AppTest

from app import services
from core.artifact import fingerprint_of
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN
from core.diagnostics.classification import confused_pairs, performance
from core.record_files import write_records
from core.report import SCORE_NAMES
from core.sources import shipped

Open = Callable[..., AppTest]


def answers(classes: int, n: int = 200, *, one_class: bool = False) -> tuple[pd.DataFrame, list[str]]:
    rng = np.random.default_rng(0)
    names = [f"class_{k:02}" for k in range(classes)]
    true = np.zeros(n, dtype=int) if one_class else rng.integers(0, classes, n)
    logits = rng.normal(0, 1, (n, classes))
    logits[np.arange(n), true] += 2.5
    table = pd.DataFrame(
        {
            "clip_id": [f"c{i}" for i in range(n)],
            "fold": np.arange(n) % 5 + 1,
            "source_group": [f"s{i // 2}" for i in range(n)],
            "label": [names[k] for k in true],
            "logits": list(logits.astype(np.float32)),
        }
    )
    return table, names


@pytest.fixture
def open_page(open_app: Open, tmp_path: Path) -> Open:
    """A page on the shipped run, on a run of the records given, or on another source."""

    def start(page: str, records: tuple[pd.DataFrame, list[str]] | None = None, source: str = "shipped") -> AppTest:
        if records is not None:
            folder, source = tmp_path / "runs" / "mine", "run:mine"
            folder.mkdir(parents=True)
            (folder / "config.json").write_text(json.dumps({"class_names": records[1]}), encoding="utf-8")
            write_records(folder / "oof.parquet", *records)
        app = open_app()
        app.query_params["records"] = source
        return app.switch_page(f"../pages/{page}.py").run()

    return start


def said(app: AppTest) -> str:
    assert not app.exception, app.exception
    kinds = ("markdown", "caption", "subheader", "error", "warning", "info")
    return "\n".join(element.value for kind in kinds for element in app.get(kind)).replace("\\", "")


def test_the_shipped_run_is_measured(open_page: Open) -> None:
    app = open_page("performance")
    text = said(app)
    metrics = json.loads((SHIPPED_RUN / "metrics.json").read_text(encoding="utf-8"))
    assert [metric.label for metric in app.metric] == ["Accuracy", "Macro-F1", "Naive baseline", "Weakest fold"]
    assert app.metric[0].value.startswith(f"{100 * metrics['accuracy']:.1f}")
    assert metrics["protocol"] in text
    assert len(app.get("vega_lite_chart")) == 1
    assert len(app.dataframe) == 2
    assert not app.error


def test_a_click_on_a_cell_opens_the_inspector_with_those_clips(open_page: Open) -> None:
    app = open_page("performance")
    worst = confused_pairs(shipped()).iloc[0]
    chosen = {"selection": {"cell": [{"true": worst["true"], "predicted": worst["predicted"]}]}}
    app.session_state["performance_confusion"] = chosen
    app.run()
    assert not app.exception
    assert app.title[0].value == "Sample inspector"
    assert app.query_params["true"] in (worst["true"], [worst["true"]])


def test_nothing_logged_is_told(open_page: Open) -> None:
    for page in ("performance", "calibration"):
        assert "No answers yet" in said(open_page(page, source="log"))


@pytest.mark.parametrize("page", ["performance", "calibration"])
def test_one_class_and_fifty_are_drawn(page: str, open_page: Open, tmp_path: Path) -> None:
    app = open_page(page, answers(10, one_class=True))
    assert said(app)
    assert not app.error
    shutil.rmtree(tmp_path / "runs")
    app = open_page(page, answers(50, 1_000))
    assert said(app)
    assert not app.error
    assert len(app.multiselect) == (page == "performance")


@pytest.mark.parametrize("page", ["performance", "calibration"])
def test_a_corrupt_run_is_told(page: str, open_page: Open, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "mine"
    shutil.copytree(SHIPPED_RUN, folder)
    (folder / "oof.parquet").write_bytes(b"nothing")
    assert "it cannot be read" in said(open_page(page, source="run:mine"))


def test_two_runs_are_compared(open_page: Open, tmp_path: Path) -> None:
    shutil.copytree(SHIPPED_RUN, tmp_path / "runs" / "again")
    app = open_page("performance")
    app.selectbox(key="performance_compared").select("run:again").run()
    assert "no more than luck explains" in said(app)


def test_the_threshold_says_what_it_costs(open_page: Open) -> None:
    app = open_page("calibration")
    assert not app.error
    assert len(app.get("plotly_chart")) == 3
    app.slider(key="calibration_threshold").set_value(0.0).run()
    assert "100.0" in said(app)
    app.slider(key="calibration_threshold").set_value(0.95).run()
    text = said(app)
    assert "given up" in text
    assert not app.exception


def test_folds_show_their_macro_f1_beside_their_accuracy(open_page: Open) -> None:
    text = said(open_page("performance"))
    first = performance(shipped()).per_fold["macro_f1"].iloc[0]
    assert f"diamonds: macro-F1 ({first:.3f}, " in text


def test_an_upload_has_one_scale_for_the_whole_page_and_says_which(open_page: Open) -> None:
    table, names = answers(4, 400)
    table["logits"] = [3 * logits for logits in table["logits"]]  # three times too sure
    file = io.BytesIO()
    columns = pa.Table.from_pandas(table).replace_schema_metadata({"class_names": json.dumps(names)})
    pq.write_table(columns, file)
    app = open_page("calibration", source="upload")
    app.file_uploader(key="records_upload").upload("mine.parquet", file.getvalue()).run()
    assert "All confidence on this page is **as answered, at temperature 1**" in said(app)
    assert app.segmented_control(key="calibration_given").value == "before"
    before = said(app)
    app.segmented_control(key="calibration_given").set_value("after").run()
    text = said(app)
    assert "after temperature, each fold's fitted on the other folds" in text
    for sentence in ("answers are accepted", "right answers given up"):  # the slider is on the same scale
        line = next(line for line in before.splitlines() if sentence in line)
        assert line not in text


def test_an_upload_is_never_told_by_the_protocol_of_a_run_of_that_name(
    open_page: Open, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EARSHOT_RUNS_DIR", str(tmp_path / "runs"))
    shutil.copytree(SHIPPED_RUN, tmp_path / "runs" / "upload")
    metrics = json.loads((SHIPPED_RUN / "metrics.json").read_text(encoding="utf-8"))
    assert services.records.protocol(shipped(), "run:upload") == metrics["protocol"]
    assert services.records.protocol(shipped(), "upload") == "5 folds; nothing more is known"


def card(open_app: Open, artifact: Path) -> str:
    app = open_app(ARTIFACT=artifact)
    return said(app.switch_page("../pages/model_card.py").run())


def facts_of(folder: Path, source: Path, **changes: object) -> Path:
    """The artifact of ``source`` with other facts; its weights stay behind, since the card reads none."""
    folder.mkdir()
    content = json.loads((source / "artifact.json").read_text(encoding="utf-8")) | changes
    text = json.dumps(content | {"fingerprint": fingerprint_of(content)})
    (folder / "artifact.json").write_text(text, encoding="utf-8")
    return folder


def test_the_model_card_says_what_the_model_is(open_page: Open) -> None:
    app = open_page("model_card")
    text = said(app)
    for word in ("toy", "dog", "Fingerprint", "10.1145/2733373.2806390", "has not been evaluated"):
        assert word in text, word
    assert "share audio" not in text


def test_the_card_of_the_shipped_model_has_its_numbers_and_what_flatters_them(open_app: Open) -> None:
    text = card(open_app, SHIPPED_ARTIFACT)
    metrics = json.loads((SHIPPED_RUN / "metrics.json").read_text(encoding="utf-8"))
    assert f"**{100 * metrics['accuracy']:.1f}" in text
    assert "3-151080-A-20.ogg with 5-151085-A-20.ogg" in text
    assert "did not learn from the other" in text
    assert f"| **{SCORE_NAMES[metrics['unknown']['score']].capitalize()}" in text
    assert "chosen on these same folds" in text


def test_the_card_of_fifty_classes_names_them_all(open_app: Open, artifact: Path, tmp_path: Path) -> None:
    names = [f"class_{k:02}" for k in range(50)]
    text = card(open_app, facts_of(tmp_path / "fifty", artifact, class_names=names))
    assert "tells 50 sounds apart" in text
    assert "class 49" in text


def test_the_card_of_a_model_without_two_classes_says_what_is_wrong(
    open_app: Open, artifact: Path, tmp_path: Path
) -> None:
    assert "class_names" in card(open_app, facts_of(tmp_path / "one", artifact, class_names=["dog"]))


def test_the_card_of_no_model_and_of_an_altered_one_says_what_to_do(
    open_app: Open, artifact: Path, tmp_path: Path
) -> None:
    assert "cannot be read" in card(open_app, tmp_path / "gone")
    folder = facts_of(tmp_path / "altered", artifact)
    text = (folder / "artifact.json").read_text(encoding="utf-8")
    (folder / "artifact.json").write_text(text.replace("toy", "joy"), encoding="utf-8")
    assert "is not what was saved" in card(open_app, folder)
