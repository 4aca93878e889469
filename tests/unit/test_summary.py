import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import accuracy_score, f1_score, log_loss

from core import loadtest
from core.cli import main
from core.config import SHIPPED_RUN
from core.loadtest import report_costs, write_made_up
from core.sources import of_path, shipped
from core.summary import summary, summary_text


def test_the_report_of_the_shipped_run_agrees_with_its_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    metrics = json.loads((SHIPPED_RUN / "metrics.json").read_text(encoding="utf-8"))
    assert found["run"] == metrics
    assert found["accuracy"]["value"] == pytest.approx(metrics["accuracy"])
    assert (found["accuracy"]["low"], found["accuracy"]["high"]) == pytest.approx(
        (metrics["accuracy_low"], metrics["accuracy_high"])
    )
    assert found["macro_f1"] == pytest.approx(metrics["macro_f1"])
    after = metrics["calibration"]["after"]
    assert found["calibration"]["headline"] == "after"
    assert found["confidence"].startswith("after temperature, each fold's fitted on the other folds")
    for name in ("ece", "mce"):
        assert found[name]["value"] == pytest.approx(after[name])
    assert (found["nll"], found["brier"]) == pytest.approx((after["nll"], after["brier"]))
    assert found["ece"]["noise_floor_95"] == pytest.approx(after["noise_floor_95"])
    assert (found["ece"]["bins"], found["ece"]["n"], len(found["per_class"])) == (15, metrics["n"], 10)
    coverage = next(row for row in found["conformal"] if row["wanted"] == 0.9)
    assert coverage["coverage"] == pytest.approx(metrics["calibration"]["conformal_coverage"])


def elsewhere(folder: Path, n: int = 300) -> Path:
    """A file as anyone could have made it."""
    rng = np.random.default_rng(0)
    logits = rng.normal(size=(n, 3))
    table = pd.DataFrame(
        {
            "clip_id": np.arange(n),
            "fold": np.arange(n) % 4,
            "source_group": np.arange(n) // 3,
            "label": np.array(["x", "y", "z"])[(logits + rng.gumbel(size=logits.shape)).argmax(axis=1)],
            "logits": list(logits),
        }
    )
    table.to_parquet(folder / "r.parquet")
    return folder / "r.parquet"


def test_a_file_made_elsewhere_is_judged_as_it_stands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = elsewhere(tmp_path)
    assert main(["report", str(file), "--json", "--classes", "x,y,z"]) == 0
    found = json.loads(capsys.readouterr().out)
    table = pd.read_parquet(file)
    logits = np.stack(table["logits"].to_list())
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    predicted = np.array(["x", "y", "z"])[logits.argmax(axis=1)]
    assert found["accuracy"]["value"] == pytest.approx(accuracy_score(table["label"], predicted))
    assert found["macro_f1"] == pytest.approx(f1_score(table["label"], predicted, average="macro"))
    assert found["nll"] == pytest.approx(log_loss(table["label"], p), rel=1e-5)
    assert (found["calibration"]["headline"], found["sources"]) == ("before", 100)
    assert found["confidence"] == "as answered, at temperature 1"
    assert "run" not in found


def test_the_text_has_every_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(elsewhere(tmp_path))]) == 0
    text = capsys.readouterr().out
    for word in ("accuracy", "macro-F1", "| x |", "always", "ECE", "AURC", "wanted precision", "conformal"):
        assert word in text, word


@pytest.mark.parametrize("columns", [{"label": None}, {"label": "x"}, {"fold": 0}])
def test_odd_records_are_reported_too(columns: dict[str, object], tmp_path: Path) -> None:
    file = elsewhere(tmp_path, 40)
    pd.read_parquet(file).assign(**columns).to_parquet(file)
    found = summary(of_path(file, class_names=("x", "y", "z")))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert summary_text(found)
    assert found["n"] == (0 if columns == {"label": None} else 40)


def test_repeated_clips_and_labels_that_differ_are_told(tmp_path: Path) -> None:
    file = elsewhere(tmp_path, 40)
    once = pd.read_parquet(file)
    assert summary(of_path(file, class_names=("x", "y", "z")))["notes"] == []
    again = once.head(10).assign(label="x")
    pd.concat([once, again]).to_parquet(file)
    notes = summary(of_path(file, class_names=("x", "y", "z")))["notes"]
    assert "10 of 50 labelled records answer for a clip that the same network answered already" in notes[0]
    differ = int((once["label"].head(10) != "x").sum())
    assert notes[1] == f"{differ} clips have different labels in different records"


def test_one_clip_is_reported() -> None:
    found = summary(shipped().take(np.array([0])))
    assert (found["n"], found["accuracy"]["n"]) == (1, 1)
    assert summary_text(found)


def test_errors_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report", str(tmp_path / "nothing.parquet")]) == 1
    assert "found nothing at" in capsys.readouterr().err
    assert main(["report", str(elsewhere(tmp_path)), "--classes", "x,y"]) == 1
    assert "Expected 2 logits a record" in capsys.readouterr().err


def test_the_load_test_reports_made_up_records(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(loadtest, "PARTS", (1.0,))
    write_made_up(tmp_path / "m.parquet", 500, classes=4)
    records = of_path(tmp_path / "m.parquet")
    assert (len(records), records.class_names[0], records.notes) == (500, "class_000", ())
    assert records.confidence.mean() == pytest.approx(records.correct.mean(), abs=0.08)
    last = list(report_costs(40, classes=3))[-1]
    assert last.records == 40
    assert last.peak_mb > 50
