import json
from pathlib import Path

import pytest

from core.cli import main
from core.config import ROOT, SHIPPED_ARTIFACT, SHIPPED_RUN
from core.errors import RunError
from core.report import BEGIN, END, results_table, write_results
from core.unknown import SCORES

METRICS = json.loads((SHIPPED_RUN / "metrics.json").read_text(encoding="utf-8"))


def test_the_readme_holds_the_shipped_runs_table() -> None:
    section = (ROOT / "README.md").read_text(encoding="utf-8").partition(BEGIN)[2].partition(END)[0]
    assert section.strip() == results_table(METRICS), "run: python -m core report --readme README.md"


def test_the_shipped_artifact_carries_the_shipped_runs_numbers() -> None:
    manifest = json.loads((SHIPPED_ARTIFACT / "artifact.json").read_text(encoding="utf-8"))
    assert manifest["metrics"] == METRICS
    assert manifest["temperature"] == METRICS["calibration"]["temperature"]


def test_the_metrics_follow_from_the_shipped_records() -> None:
    import pandas as pd

    from core.evaluation import calibrate, pool

    records = pd.read_parquet(SHIPPED_RUN / "oof.parquet")
    names = json.loads((SHIPPED_RUN / "config.json").read_text(encoding="utf-8"))["class_names"]
    assert json.loads(json.dumps(pool(records, names))) == {name: METRICS[name] for name in pool(records, names)}
    assert calibrate(records, names).report["after"] == pytest.approx(METRICS["calibration"]["after"])


def test_the_shipped_recipe_reaches_what_the_readme_promises() -> None:
    assert METRICS["n"] == 400
    assert METRICS["accuracy"] >= 0.92


def test_classes_of_one_recall_stand_by_name_wherever_they_come_from() -> None:
    recall = {"sea_waves": 0.8, "rain": 0.8 - 1e-9, "dog": 0.8, "sneezing": 0.9}
    assert "| dog 80.0 %, rain 80.0 %, sea waves 80.0 % |" in results_table(METRICS | {"recall": recall})


def test_the_command_prints_the_table_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["report"]) == 0
    assert capsys.readouterr().out.startswith(results_table(METRICS))


def test_writing_results_replaces_only_what_stands_between_the_markers(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text(f"# A\n{BEGIN}\nstale\n{END}\nafter\n")
    write_results(readme, METRICS)
    text = readme.read_text()
    assert text.startswith(f"# A\n{BEGIN}\n| measure")
    assert text.endswith(f"|\n{END}\nafter\n")
    assert "stale" not in text


def test_a_document_without_markers_and_metrics_of_another_kind_are_told(tmp_path: Path) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("# A\n")
    with pytest.raises(RunError, match="Expected the lines"):
        write_results(readme, METRICS)
    with pytest.raises(RunError, match="'calibration' is missing"):
        results_table({"n": 0})


def test_unknown_sounds_get_a_row_for_every_score_and_a_column_for_every_kind_measured() -> None:
    def of(value: float) -> dict[str, float]:
        return {"value": value, "low": value - 0.01, "high": value + 0.01}

    measured = {"n_known": 400, "n_unknown": 120, "auroc": of(0.97), "aupr": of(0.9), "fpr95": of(0.1)}
    unknown = {"score": "knn", "accepted": 0.9475, "accepted_wanted": 0.95}
    for kinds in (("far",), ("far", "near", "near_pairs")):
        table = results_table(
            METRICS | {"unknown": unknown | {kind: dict.fromkeys(SCORES, measured) for kind in kinds}}
        )
        section = table[table.index("| unknown sounds") :].splitlines()
        assert "synthesized (n = 120)" in section[0]
        assert {line.count("|") for line in section} == {len(kinds) + 2}
        assert "**distance to training clips (kNN)**" in table
        assert "0.970 (0.960 to 0.980)" in table
        assert "94.8 % of held-out clips, 95.0 % wanted" in section[-1]
