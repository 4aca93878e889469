"""Every number of every worksheet, recomputed as Tableau would, is what the app shows.

Three networks answered for one run; another run, a log and the demonstrations stand in the same workbook.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from core.artifact import read_manifest
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN
from core.descriptors import NAMES
from core.diagnostics.calibration import bin_index, confidence_histogram, reliability
from core.diagnostics.classification import Performance, confused_pairs, confusion_table, performance
from core.diagnostics.drift import compare
from core.diagnostics.drift_tables import distribution_table
from core.diagnostics.failures import ranked_errors
from core.diagnostics.measures import calibration_table
from core.diagnostics.selective import risk_coverage_table, selection
from core.drift_demo import recorded_demo
from core.record_files import write_records
from core.recordset import RecordSet
from core.sources import of_log, of_path, shipped
from core.store import Store
from core.tableau import demonstrations, gold_tables, parts, schema
from core.tableau.dashboards import BY_NAME, CLIP_BOARD, SHEETS
from core.tableau.export import export
from tests.tableau_interpreter import Book, opened
from tests.tableau_log import fill

LOGGED = 90
RUNS = ("three", "other", "log")
NOISE = 0.6  # of logits: enough for networks that disagree


@dataclass(frozen=True, eq=False)
class Shown:
    """The workbook, and the records that the app would show the same of."""

    book: Book
    records: dict[str, RecordSet]

    @cache  # noqa: B019 - as long as the module
    def performance(self, run: str) -> Performance:
        return performance(self.records[run])

    def same(self, sheet: str, run: str, expected: pd.DataFrame, key: list[str], *, pane: int = 0) -> None:
        """The marks of ``sheet`` for ``run`` are the rows of ``expected``: as many, and the same numbers."""
        marks = self.book.marks(sheet, pane=pane, Run=run).set_index(key)
        wanted = expected.set_index(key)
        assert len(marks) == len(wanted)
        for name in wanted:
            np.testing.assert_allclose(
                marks[name].astype(float).reindex(wanted.index), wanted[name].astype(float), atol=1e-9, err_msg=name
            )


def run_folder(folder: Path, name: str, *, seeds: int) -> Path:
    """The shipped cross-validation again, as if ``seeds`` networks a fold had answered, each a little otherwise."""
    folder = folder / name
    folder.mkdir()
    config = json.loads((SHIPPED_RUN / "config.json").read_text(encoding="utf-8"))
    (folder / "config.json").write_text(json.dumps(config | {"run_id": name, "seeds": list(range(seeds))}))
    for file in ("metrics.json", "status.json"):
        shutil.copy(SHIPPED_RUN / file, folder)
    one = pd.read_parquet(SHIPPED_RUN / "oof.parquet")
    one = one[one["seed"] == one["seed"].min()]
    rng = np.random.default_rng(len(name))
    networks = [
        one.assign(seed=seed, logits=[row + rng.normal(0, NOISE, len(row)).astype(np.float32) for row in one["logits"]])
        for seed in range(seeds)
    ]
    write_records(folder / "oof.parquet", pd.concat(networks, ignore_index=True), config["class_names"])
    return folder


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shown]:
    folder = tmp_path_factory.mktemp("numbers")
    manifest = read_manifest(SHIPPED_ARTIFACT)
    store = Store.open(f"sqlite:///{folder}/log.sqlite3")
    fill(store, LOGGED, manifest)
    folders = [run_folder(folder, "three", seeds=3), run_folder(folder, "other", seeds=1)]
    given = [*(parts.of_folder(path) for path in folders), parts.of_log(store, manifest)]
    done = export(given, folder / "out", formats=("twbx",), gold=gold_tables.recorded())
    records = {path.name: of_path(path) for path in folders} | {"log": of_log(store, manifest)}
    with opened(done.workbook, folder) as book:
        yield Shown(book, records)
    store.close()


def test_the_runs_disagree_and_the_seeds_do(shown: Shown) -> None:
    """Otherwise an average of what does not belong together would go unseen."""
    three, other = (shown.performance(run) for run in RUNS[:2])
    assert three.seeds == 3
    assert three.accuracy.value != other.accuracy.value
    assert three.accuracy_sd_over_seeds > 0


def test_every_mark_of_a_sheet_over_computed_tables_is_one_row(shown: Shown) -> None:
    for sheet in SHEETS:
        if sheet.table == "predictions" or sheet.name == "Mean spectrum":
            continue
        for run in RUNS:
            for pane in range(3 if sheet.over else 1):
                marks = shown.book.marks(sheet.name, pane=pane, Run=run)
                assert len(marks), f"{sheet.name} is empty for {run}"
                assert (marks["rows_behind"] == 1).all(), f"{sheet.name} takes rows together for {run}"


def test_what_there_is_to_choose_from_never_takes_in_a_demonstration(shown: Shown) -> None:
    assert shown.book.offered["Run"] == list(RUNS)
    assert shown.book.offered["Compared set"][0] == "log"
    assert all(name.startswith("demonstration (") for name in shown.book.offered["Compared set"][1:])
    kept = 'FROM "Extract"."about" AS a LEFT JOIN "Extract"."{}" AS t ON a.run_id = t.run_id WHERE a.kind = '
    for table in schema.TABLES:
        if "run_id" in table.names and table.name not in ("about", "drift", "drift_distribution"):
            kind = f"'{demonstrations.KIND}'"
            found = shown.book.sql(f"SELECT COUNT(t.run_id) {kept.format(table.name)}{kind}")
            assert found == [[0]], table.name


@pytest.mark.parametrize("run", RUNS)
def test_headline(shown: Shown, run: str) -> None:
    records, measured = shown.records[run], shown.performance(run)
    marks = shown.book.marks("Headline", Run=run).set_index("metric").astype(float)
    estimates = {name: getattr(measured, name) for name in ("accuracy", "macro_f1", "baseline", "balanced_accuracy")}
    for name, estimate in (estimates | selection(records).estimates).items():
        found = marks.loc[name, ["value", "low", "high", "n"]].tolist()
        assert found == pytest.approx([estimate.value, estimate.low, estimate.high, estimate.n])
    for stage, raw in (("", False), ("_raw", True)):
        for row in calibration_table(records, raw=raw).itertuples():
            found = marks.loc[f"{row.measure}{stage}", ["value", "low", "high"]].tolist()
            assert found == pytest.approx([row.value, row.low, row.high], nan_ok=True)
    assert marks.loc["aurc_random", "value"] == pytest.approx(selection(records).aurc_random)


@pytest.mark.parametrize("run", RUNS)
def test_recall_by_class(shown: Shown, run: str) -> None:
    table = shown.performance(run).per_class
    wanted = table[["label", "n", "recall", "recall_low", "precision", "f1"]]
    shown.same("Recall by class", run, wanted, ["label"])
    over = wanted.assign(recall_interval=table["recall_high"] - table["recall_low"])
    shown.same("Recall by class", run, over, ["label"], pane=2)
    marks = shown.book.marks("Recall by class", Run=run)["recall"].dropna()
    assert marks.is_monotonic_increasing
    one = shown.book.marks("Recall by class", Run=run, True_class="dog")
    assert one["label"].tolist() == ["dog"]


@pytest.mark.parametrize("run", RUNS)
def test_confusion(shown: Shown, run: str) -> None:
    names = {"true": "true_label", "predicted": "predicted_label", "n": "answers", "share": "share_of_true"}
    wanted = confusion_table(shown.records[run]).rename(columns=names)[list(names.values())]
    shown.same("Confusion", run, wanted, ["true_label", "predicted_label"])
    clicked = shown.book.marks("Confusion", Run=run, clicked={"true_label": "rain"})
    assert len(clicked) == len(shown.records[run].class_names)


@pytest.mark.parametrize("run", RUNS)
def test_reliability(shown: Shown, run: str) -> None:
    wanted = pd.concat(
        reliability(shown.records[run], raw=stage == "raw").assign(stage=stage) for stage in ("raw", "calibrated")
    )[["stage", "bin", "n", "confidence", "accuracy", "accuracy_low", "accuracy_high"]]
    shown.same("Reliability", run, wanted, ["stage", "bin"])
    line = shown.book.marks("Reliability", pane=2, Run=run).groupby("stage")["bin"].nunique()
    assert (line == 15).all()  # one line a stage, joined from bin to bin


@pytest.mark.parametrize("run", RUNS)
def test_confidence_histogram(shown: Shown, run: str) -> None:
    marks = shown.book.marks("Confidence histogram", Run=run)
    said = ["unknown" if right is None else "right" if right else "wrong" for right in marks["correct"].tolist()]
    found = marks.assign(said=said).pivot_table(index="confidence_bin", columns="said", values="prediction_id")
    found = found.reindex(range(15)).fillna(0)
    wanted = confidence_histogram(shown.records[run], bins=15)
    assert found["right"].tolist() == wanted["right"].tolist()
    assert found["wrong"].tolist() == wanted["wrong"].tolist()
    blank = ~shown.records[run].is_labelled
    if blank.any():
        of = bin_index(shown.records[run].confidence[blank])
        assert found["unknown"].tolist() == np.bincount(of, minlength=15).tolist()
    assert marks["prediction_id"].sum() == len(shown.records[run])


@pytest.mark.parametrize("run", RUNS)
def test_risk_and_coverage(shown: Shown, run: str) -> None:
    wanted = risk_coverage_table(shown.records[run])[["coverage", "risk", "threshold", "low", "high", "n"]]
    marks = shown.book.marks("Risk and coverage", Run=run).sort_values("coverage").astype(float)
    assert len(marks) == len(wanted)
    for name in wanted:
        np.testing.assert_allclose(marks[name], wanted[name], atol=1e-9, err_msg=name)


@pytest.mark.parametrize("run", RUNS)
def test_high_confidence_errors(shown: Shown, run: str) -> None:
    wanted = ranked_errors(shown.records[run])
    marks = shown.book.marks("High-confidence errors", Run=run).sort_values("rank")
    assert marks["rank"].tolist() == list(range(1, len(wanted) + 1))
    assert marks["true_label"].tolist() == wanted["label"].tolist()
    assert marks["predicted_label"].tolist() == wanted["predicted"].tolist()
    for name in ("confidence", "true_probability", "error_confidence", "wrong", "networks"):
        np.testing.assert_allclose(marks[name].astype(float), wanted[name].astype(float), err_msg=name)
    if run != "log":
        assert marks["file_name"].tolist() == wanted["clip_id"].tolist()
    assert "[avg:error_confidence:qk]" in shown.book.sheets["High-confidence errors"].findtext("table/cols")
    assert marks["error_confidence"].is_monotonic_decreasing  # what is drawn is what they are ranked by
    first = wanted.iloc[0]
    clicked = {"true_label": first["label"], "predicted_label": first["predicted"]}
    behind = shown.book.marks("High-confidence errors", Run=run, clicked=clicked)
    same = (wanted["label"] == first["label"]) & (wanted["predicted"] == first["predicted"])
    assert len(behind) == same.sum()


@pytest.mark.parametrize("run", RUNS)
def test_confused_pairs(shown: Shown, run: str) -> None:
    names = {"true": "true_label", "predicted": "predicted_label", "n": "answers", "share": "share_of_true"}
    wanted = confused_pairs(shown.records[run]).rename(columns=names)[list(names.values())]
    shown.same("Confused pairs", run, wanted, ["true_label", "predicted_label"])
    assert shown.book.marks("Confused pairs", Run=run)["answers"].is_monotonic_decreasing
    for chosen, column in (("True_class", "true_label"), ("Answered_class", "predicted_label")):
        for label in shown.records[run].class_names:  # none is crowded out by more frequent pairs
            marks = shown.book.marks("Confused pairs", Run=run, **{chosen: label})
            assert marks["answers"].sum() == wanted.query(f"{column} == @label")["answers"].sum()
            errors = shown.book.marks("High-confidence errors", Run=run, **{chosen: label})
            assert set(errors[column]) <= {label}
            assert bool(len(marks)) == bool(len(errors))


@pytest.mark.parametrize("run", RUNS)
def test_accuracy_by_true_class(shown: Shown, run: str) -> None:
    known = shown.records[run].labelled()
    table = shown.performance(run).per_class.query("n > 0")
    answers = known.table["label"].value_counts()
    wanted = pd.DataFrame({"true_label": table["label"], "accuracy": table["recall"]})
    wanted["prediction_id"] = answers.reindex(table["label"]).to_numpy()
    shown.same("Accuracy by true class", run, wanted, ["true_label"])


@pytest.fixture(scope="module")
def compared(shown: Shown) -> dict[str, tuple[RecordSet, RecordSet]]:
    """Reference and current of every set that there is to choose."""
    found = {"log": (shown.records["three"], shown.records["log"])}
    for condition in demonstrations.CONDITIONS:
        found[f"demonstration ({condition})"] = (shipped(), recorded_demo(condition))
    return found


def test_drift_of_every_set_stands_by_itself(shown: Shown, compared: dict[str, tuple[RecordSet, RecordSet]]) -> None:
    assert shown.book.offered["Compared set"] == list(compared)
    for name in compared:
        verdict = shown.book.marks("Drift verdict", Compared_set=name)
        assert verdict["run_id"].tolist() == [name]
        assert verdict["verdict"][0].startswith("Demonstration, not your sounds: ") == (name != "log")
    for name in ("log", list(compared)[1]):
        report = compare(*compared[name], rng=np.random.default_rng(0), with_embedding=False)
        assert shown.book.marks("Drift verdict", Compared_set=name)["verdict"][0].endswith(report.headline())
        effects = shown.book.marks("Drift effects", Compared_set=name).set_index("feature")["value"]
        wanted = report.table().set_index("name")["effect"]
        np.testing.assert_allclose(effects.astype(float).reindex(wanted.index), wanted, atol=1e-9)
        assert len(effects) == len(wanted)
    assert shown.book.marks("Drift effects")["feature"].tolist()  # the default set is not empty


def test_distributions_of_every_set_and_feature_stand_by_themselves(
    shown: Shown, compared: dict[str, tuple[RecordSet, RecordSet]]
) -> None:
    assert set(shown.book.offered["Feature"]) == {*NAMES, "confidence"}
    for name in ("log", list(compared)[1]):
        table = distribution_table(*compared[name])
        for feature in ("spectral_centroid_hz", "confidence"):
            marks = shown.book.marks("Distributions", Compared_set=name, Feature=feature)
            wanted = table[table["feature"] == feature].sort_values(["set", "low"])
            marks = marks.sort_values(["data_set", "bin_low"])
            assert marks["data_set"].tolist() == wanted["set"].tolist()
            for column, of in (("bin_low", "low"), ("share", "share"), ("n", "n")):
                np.testing.assert_allclose(marks[column].astype(float), wanted[of].astype(float), atol=1e-12)
            assert marks.groupby("data_set")["share"].sum().astype(float).tolist() == pytest.approx([1, 1])


def test_sheets_of_one_clip_show_that_clip(shown: Shown) -> None:
    gold = {name: table.to_pandas() for name, table in gold_tables.recorded().items()}
    keys = {
        "Spectrogram": ["band", "time_s"],
        "Class probability over time": ["start_s", "label"],
        "Strongest channels": ["stage", "channel"],
        "Answer": ["clip_name"],
    }
    for clip in (shown.book.offered["Clip"][0], shown.book.offered["Clip"][-1]):
        for sheet, key in keys.items():
            table = gold[BY_NAME[sheet].table].query("clip_id == @clip")
            if sheet == "Strongest channels":
                table = table.query("rank <= 5")
            marks = shown.book.marks(sheet, Clip=clip).set_index(key)
            wanted = table.set_index(key)
            assert len(marks) == len(wanted)
            numbers = [name for name in ("mean_db", "probability", "strength", "confidence") if name in marks]
            for name in numbers:
                np.testing.assert_allclose(marks[name].astype(float).reindex(wanted.index), wanted[name], atol=1e-12)


def test_sheets_of_all_clips_show_each(shown: Shown) -> None:
    gold = {name: table.to_pandas() for name, table in gold_tables.recorded().items()}
    clips = gold["clip_features"].set_index("clip_name")
    shown_of = {"Level": "rms_dbfs", "Brightness": "spectral_centroid_hz", "Bandwidth": "spectral_bandwidth_hz"}
    for sheet, name in shown_of.items():
        marks = shown.book.marks(sheet).set_index("clip_name")
        np.testing.assert_allclose(marks[name].astype(float).reindex(clips.index), clips[name])
        assert len(marks) == 11
    mean = gold["mel_bands"].groupby(["clip_name", "band"])["mean_db"].mean()
    marks = shown.book.marks("Mean spectrum").set_index(["clip_name", "band"])["mean_db"].astype(float)
    np.testing.assert_allclose(marks.reindex(mean.index), mean, atol=1e-9)
    for sheet in CLIP_BOARD:
        assert set(shown.book.marks(sheet)["clip_name"]) == set(clips.index)
        of_class = shown.book.marks(sheet, True_class="dog")
        assert set(of_class["clip_name"]) == set(clips.query("true_label == 'dog'").index)
        one = clips.iloc[3]
        clicked = shown.book.marks(sheet, clicked={"clip_id": one["clip_id"]})
        assert set(clicked["clip_name"]) == {one.name}


def test_every_sheet_is_compared_here(shown: Shown) -> None:
    said = Path(__file__).read_text(encoding="utf-8")
    assert [name for name in shown.book.sheets if f'"{name}"' not in said] == []
