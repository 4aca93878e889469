import json
import re
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


def test_what_is_shipped_follows_from_the_shipped_tables() -> None:
    """Robustness, unknown sounds, and every rule that the artifact answers by."""
    import numpy as np
    import pandas as pd

    from core.evaluation import calibrate, summarise_robustness
    from core.openset import fit_rule, summarise_open_set

    records, degraded, strangers = (
        pd.read_parquet(SHIPPED_RUN / f"{name}.parquet") for name in ("oof", "robustness", "unknown")
    )
    manifest = json.loads((SHIPPED_ARTIFACT / "artifact.json").read_text(encoding="utf-8"))
    assert json.loads(json.dumps(summarise_robustness(degraded))) == METRICS["robustness"]
    unknown = json.loads(json.dumps(summarise_open_set(strangers, rng=np.random.default_rng(0))))
    assert unknown.keys() == METRICS["unknown"].keys()
    for name, value in unknown.items():
        assert value == METRICS["unknown"][name], name
    assert manifest["unknown"] == fit_rule(strangers).model_dump()
    calibration = calibrate(records, manifest["class_names"])
    assert manifest["conformal_quantile"] == pytest.approx(calibration.conformal_quantile, abs=1e-9)
    assert manifest["temperature"] == pytest.approx(calibration.temperature, abs=1e-6)


def test_what_is_told_of_groups_begins_with_those_that_do_least_well() -> None:
    unknown = METRICS["unknown"]
    table = results_table(METRICS)
    worst = min(unknown["near_by_class"], key=unknown["near_by_class"].get)
    assert f"| {worst.replace('_', ' ')} {unknown['near_by_class'][worst]:.3f}, " in table
    refused = min(unknown["accepted_by_class"], key=lambda name: unknown["accepted_by_class"][name]["value"])
    assert f"| … of the classes accepted least | {refused.replace('_', ' ')} " in table
    earlier = {name: value for name, value in unknown.items() if not name.endswith(("flagged", "accepted_by_class"))}
    assert "called unknown" not in results_table(METRICS | {"unknown": earlier})  # of an earlier release


def test_the_readmes_table_of_aims_says_what_was_reached() -> None:
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    table = readme.partition("| aim | reached |")[2][:2_000]
    rows = dict(re.findall(r"^\| ([^|]+) \| ([^|]+) \|$", table, re.MULTILINE))
    unknown = METRICS["unknown"]
    accuracy = rows["96.0 % pooled, one network a fold (people: 95.7 %)"]
    assert accuracy.startswith("**missed**: ") == (METRICS["accuracy"] < 0.96)
    assert f"{100 * METRICS['accuracy']:.1f} %" in accuracy
    assert f"{unknown['far']['combined']['auroc']['value']:.3f}" in rows["synthesized sounds of no class, AUROC 0.95"]
    assert f"{unknown['near']['combined']['auroc']['value']:.3f}" in rows["left-out classes, AUROC 0.85"]
    helicopter = unknown["accepted_by_class"]["helicopter"]["value"]
    assert f"{100 * helicopter:.1f} % of helicopters" in rows["95 % ± 2 of known clips accepted"]
    after = METRICS["calibration"]["after"]
    assert (
        f"{after['ece']:.3f} of {after['noise_floor_95']:.3f}"
        in rows["ECE after temperature within a perfect model's 95 %"]
    )


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
    groups = {"far_by_source": {"tone": 0.9}, "near_by_class": {"dog": 0.8}, "near_pairs_by_class": {"dog+rain": 0.7}}
    unknown = {"score": "knn", "accepted": 0.9475, "accepted_wanted": 0.95, **groups}
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
