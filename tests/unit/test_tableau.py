"""The export of the shipped run and of a log with bad names: read back from every format."""

from __future__ import annotations

import io
import json
import math
import os
import re
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
from sklearn.metrics import confusion_matrix
from tableauhyperapi import Connection, HyperProcess, Nullability, TableName, Telemetry

from core.artifact import Manifest, read_manifest
from core.cli import main
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN, Settings
from core.diagnostics.calibration import bin_index, expected_calibration_error
from core.errors import EarshotError, ExportError, RecordsError
from core.record_files import write_records
from core.record_tables import record_set
from core.recordset import RecordSet
from core.sources import of_log, shipped
from core.store import Store
from core.tableau import demonstrations, files, gold_tables, hyper, parts, schema, sources, tables, workbook
from core.tableau.export import Exported, KeptExports, export, formats_of
from core.training.runs import RunFolder
from tests.answers import answers
from tests.tableau_log import BAD_NAMES, START, fill, predictions

LOGGED = 120
RUN = str(json.loads((SHIPPED_RUN / "config.json").read_text(encoding="utf-8"))["run_id"])


@dataclass(frozen=True)
class Whole:
    """One export of everything, and where its records came from."""

    done: Exported
    store: Store
    manifest: Manifest

    def csv(self, name: str) -> pd.DataFrame:
        text = [c.name for c in schema.BY_NAME[name].columns if c.kind == "text"]
        return pd.read_csv(
            self.done.out / "csv" / f"{name}.csv", keep_default_na=False, na_values=[""], dtype=dict.fromkeys(text, str)
        )


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Whole]:
    folder = tmp_path_factory.mktemp("tableau")
    store = Store.open(f"sqlite:///{folder}/log.sqlite3")
    manifest = read_manifest(SHIPPED_ARTIFACT)
    fill(store, LOGGED, manifest)
    given = [parts.of_folder(), parts.of_log(store, manifest, rows=50)]
    done = export(given, folder / "out", gold=gold_tables.recorded())
    yield Whole(done, store, manifest)
    store.close()


@pytest.fixture(scope="module")
def extract(whole: Whole) -> Iterator[Connection]:
    """The .hyper, open for SQL."""
    with (
        HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as process,
        Connection(process.endpoint, str(whole.done.out / hyper.NAME)) as connection,
    ):
        yield connection


def sql(connection: Connection, query: str) -> list[list[object]]:
    return connection.execute_list_query(query.replace("FROM ", 'FROM "Extract".').replace("JOIN ", 'JOIN "Extract".'))


def test_every_table_of_the_extract_has_the_rows_and_types_of_the_schema(whole: Whole, extract: Connection) -> None:
    types = {"text": "TEXT", "integer": "BIG_INT", "real": "DOUBLE", "boolean": "BOOL", "time": "TIMESTAMP_TZ"}
    found = {name.name.unescaped for name in extract.catalog.get_table_names("Extract")}
    assert found == {table.name for table in schema.TABLES}
    for table in schema.TABLES:
        columns = extract.catalog.get_table_definition(TableName("Extract", table.name)).columns
        assert {c.name.unescaped: str(c.type) for c in columns} == {c.name: types[c.kind] for c in table.columns}
        assert sql(extract, f"SELECT COUNT(*) FROM {table.name}") == [[whole.done.rows[table.name]]]
    assert whole.done.rows["predictions"] == len(shipped()) + LOGGED
    assert min(whole.done.rows[name] for name in ("confusion", "mel_bands", "drift", "windows", "feature_maps")) > 0


def test_keys_are_unique_and_references_hold_in_the_extract(extract: Connection) -> None:
    for table in schema.TABLES:
        key = ", ".join(f'"{name}"' for name in table.key)
        distinct = extract.execute_scalar_query(
            f'SELECT COUNT(*) FROM (SELECT DISTINCT {key} FROM "Extract"."{table.name}") AS different'
        )
        assert [[distinct]] == sql(extract, f"SELECT COUNT(*) FROM {table.name}"), table.name
        for reference in table.refers:
            pairs = list(zip(reference.columns, schema.BY_NAME[reference.table].key, strict=True))
            same = " AND ".join(f'a."{own}" = b."{key}"' for own, key in pairs)
            given = " AND ".join(f'a."{own}" IS NOT NULL' for own, _ in pairs)
            lost = sql(
                extract,
                f"SELECT COUNT(*) FROM {table.name} AS a LEFT JOIN {reference.table} AS b ON {same} "
                f'WHERE {given} AND b."{pairs[0][1]}" IS NULL',
            )
            assert lost == [[0]], f"{table.name} → {reference.table} by {reference.columns}"


def test_the_extract_declares_its_keys_and_what_they_refer_to(extract: Connection) -> None:
    """Tableau Server and Cloud draw the relations of an extract from its foreign keys."""
    for table in schema.TABLES:
        columns = extract.catalog.get_table_definition(TableName("Extract", table.name)).columns
        needed = {c.name.unescaped for c in columns if c.nullability is Nullability.NOT_NULLABLE}
        assert set(table.key) <= needed, table.name
    tables = {number: str(name) for number, name in extract.execute_list_query("SELECT oid, relname FROM pg_class")}
    found = extract.execute_list_query("SELECT attrelid, attnum, attname FROM pg_catalog.pg_attribute")
    names = {(table, number): str(name) for table, number, name in found}

    def columns_of(table: object, packed: object) -> tuple[str, ...]:
        numbers = packed[:-1:2] if isinstance(packed, bytes) else b""  # a zero after each, and one at the end
        return tuple(names[table, number] for number in numbers)

    declared = {
        (tables[own], columns_of(own, key), tables.get(other, ""), columns_of(other, other_key))
        for own, other, key, other_key in extract.execute_list_query(
            "SELECT conrelid, confrelid, conkey, confkey FROM pg_catalog.pg_constraint"
        )
    }
    wanted = {(table.name, table.key, "", ()) for table in schema.TABLES} | {
        (table.name, reference.columns, reference.table, schema.BY_NAME[reference.table].key)
        for table in schema.TABLES
        for reference in table.refers
    }
    assert declared == wanted


def test_tables_related_as_the_dictionary_says_give_the_numbers_of_their_row(whole: Whole, extract: Connection) -> None:
    """Recall of the fact table's class: by run and class it is the class's own, by either alone a mean of others."""
    said = whole.csv("data_dictionary").set_index(["table_name", "column_name"])["refers_to"]
    relation = next(one for one in said["predictions", "true_label"].split("; ") if one.startswith("class_metrics: "))
    pairs = [pair.split(" = ") for pair in relation.removeprefix("class_metrics: ").split(", ")]
    assert pairs == [["run_id", "run_id"], ["true_label", "label"]]
    on = " AND ".join(f'p."{own}" = m."{key}"' for own, key in pairs)
    found = sql(
        extract,
        "SELECT p.run_id, p.true_label, MIN(m.recall), MAX(m.recall), AVG(CASE WHEN p.correct THEN 1.0 ELSE 0.0 END) "
        f"FROM predictions AS p JOIN class_metrics AS m ON {on} GROUP BY 1, 2",
    )
    assert {run for run, *_ in found} == {RUN, "log"}
    for run, label, low, high, recomputed in found:
        assert low == high == pytest.approx(float(str(recomputed)), abs=1e-6), (run, label)


def test_numbers_stay_within_the_range_of_their_unit(extract: Connection) -> None:
    for table in schema.TABLES:
        for column in table.columns:
            if column.kind in ("integer", "real"):
                low, high = sql(extract, f'SELECT MIN("{column.name}"), MAX("{column.name}") FROM {table.name}')[0]
                if low is not None:
                    assert float(str(low)) >= column.low - 1e-9, f"{table.name}.{column.name}"
                    assert float(str(high)) <= column.high + 1e-9, f"{table.name}.{column.name}"


def app_numbers(records: RecordSet) -> tuple[float, dict[str, float], dict[tuple[str, str], int], float, float]:
    """Accuracy, recall of every class, confusion, and ECE calibrated and raw, as the app's pages show them."""
    known = records.labelled()
    names, parts_by_seed = known.class_names, list(known.by_seed().values())
    counted = confusion_matrix(known.targets, known.predicted, labels=range(len(names)))
    cells = {(names[i], names[j]): int(counted[i, j]) for i in range(len(names)) for j in range(len(names))}
    recall = {name: row[k] / row.sum() for k, (name, row) in enumerate(zip(names, counted, strict=True)) if row.sum()}
    return (
        float(np.mean([part.correct.mean() for part in parts_by_seed])),
        recall,
        cells,
        float(np.mean([expected_calibration_error(part.confidence, part.correct) for part in parts_by_seed])),
        float(np.mean([expected_calibration_error(part.raw_confidence, part.correct) for part in parts_by_seed])),
    )


@pytest.fixture(scope="module")
def expected(whole: Whole) -> dict[str, tuple[float, dict[str, float], dict[tuple[str, str], int], float, float]]:
    run, published = app_numbers(shipped()), RunFolder(SHIPPED_RUN).metrics()
    assert run[0] == pytest.approx(published["accuracy"], abs=1e-9)  # what the README says of it
    assert run[1] == pytest.approx(published["recall"], abs=1e-9)
    assert run[3:] == pytest.approx([published["calibration"][stage]["ece"] for stage in ("after", "before")], abs=1e-6)
    return {RUN: run, "log": app_numbers(of_log(whole.store, whole.manifest))}


@pytest.mark.parametrize("run", [RUN, "log"])
def test_the_numbers_recomputed_from_the_csv_are_the_apps(
    whole: Whole, expected: dict[str, tuple[float, dict, dict, float, float]], run: str
) -> None:
    accuracy, recall, cells, ece, raw_ece = expected[run]
    wide = pd.read_csv(whole.done.out / files.WIDE, keep_default_na=False, na_values=[""])
    for frame in (whole.csv("predictions"), wide):
        known = frame[(frame["run_id"] == run) & frame["true_label"].notna()]
        right = known["correct"].astype(bool)
        assert right.mean() == pytest.approx(accuracy, abs=1e-12)
        assert ((known["true_label"] == known["predicted_label"]) == right).all()
        assert right.groupby(known["true_label"]).mean().to_dict() == pytest.approx(recall, abs=1e-12)
        counted = known.groupby(["true_label", "predicted_label"]).size().to_dict()
        assert {cell: counted.get(cell, 0) for cell in cells} == cells
        for column, wanted in (("confidence", ece), ("raw_confidence", raw_ece)):
            gaps = (right - known[column]).groupby([known["seed"], bin_index(known[column].to_numpy())]).sum()
            assert gaps.abs().sum() / len(known) == pytest.approx(wanted, abs=1e-9)
        assert (known["confidence_bin"] == bin_index(known["confidence"].to_numpy())).all()
    table = whole.csv("confusion").query("run_id == @run")
    assert table.set_index(["true_label", "predicted_label"])["answers"].to_dict() == cells
    headline = whole.csv("headline").query("run_id == @run").set_index("metric")["value"]
    assert headline[["accuracy", "ece", "ece_raw"]].tolist() == pytest.approx([accuracy, ece, raw_ece], abs=1e-12)


@pytest.mark.parametrize("run", [RUN, "log"])
def test_the_numbers_recomputed_by_sql_from_the_extract_are_the_apps(
    extract: Connection, expected: dict[str, tuple[float, dict, dict, float, float]], run: str
) -> None:
    accuracy, recall, cells, ece, raw_ece = expected[run]
    known = f"FROM predictions WHERE run_id = '{run}' AND true_label IS NOT NULL"
    right = "AVG(CASE WHEN correct THEN 1.0 ELSE 0.0 END)"
    assert float(str(sql(extract, f"SELECT {right} {known}")[0][0])) == pytest.approx(accuracy, abs=1e-6)
    by_class = sql(extract, f"SELECT true_label, {right} {known} GROUP BY true_label")
    assert {str(name): float(str(value)) for name, value in by_class} == pytest.approx(recall, abs=1e-6)
    counted = sql(extract, f"SELECT true_label, predicted_label, COUNT(*) {known} GROUP BY 1, 2")
    found = {(str(true), str(predicted)): int(str(n)) for true, predicted, n in counted}
    assert {cell: found.get(cell, 0) for cell in cells} == cells
    kept = sql(extract, f"SELECT true_label, predicted_label, answers FROM confusion WHERE run_id = '{run}'")
    assert {(str(true), str(predicted)): int(str(n)) for true, predicted, n in kept} == cells
    bins = sql(
        extract,
        "SELECT confidence_bin, SUM((CASE WHEN correct THEN CAST(1 AS DOUBLE PRECISION) ELSE 0 END) - confidence), "
        f"COUNT(*) {known} GROUP BY seed, confidence_bin",
    )
    total = sum(int(str(n)) for _, _, n in bins)
    assert sum(abs(float(str(gap))) for _, gap, _ in bins) / total == pytest.approx(ece, abs=1e-9)
    raw_bins = sql(
        extract,
        "SELECT SUM((CASE WHEN correct THEN CAST(1 AS DOUBLE PRECISION) ELSE 0 END) - raw_confidence) "
        f"{known} GROUP BY seed, raw_confidence_bin",
    )
    assert sum(abs(float(str(gap))) for (gap,) in raw_bins) / total == pytest.approx(raw_ece, abs=1e-9)
    if run == "log":  # one network answered, so that pooling the answers changes nothing
        for stage, wanted in (("calibrated", ece), ("raw", raw_ece)):
            table = sql(
                extract,
                "SELECT SUM(n * ABS(accuracy - confidence)) / SUM(n) FROM reliability "
                f"WHERE run_id = '{run}' AND stage = '{stage}' AND n > 0",
            )
            assert float(str(table[0][0])) == pytest.approx(wanted, abs=1e-9)


def test_csv_is_plain_utf8_with_iso_times_and_snake_case(whole: Whole) -> None:
    for path in [*(whole.done.out / "csv").iterdir(), whole.done.out / files.WIDE]:
        data = path.read_bytes()
        text = data.decode("utf-8")
        header = text.partition("\n")[0].split(",")
        assert not data.startswith(b"\xef\xbb\xbf")
        assert b"\r" not in data
        assert all(re.fullmatch(r"[a-z][a-z0-9_]*", name) for name in header), path.name
        assert len(set(header)) == len(header)
        name = path.stem
        if name in schema.BY_NAME:
            assert header == list(schema.BY_NAME[name].names)
            assert text.count("\n") == whole.done.rows[name] + 1  # one line a row, whatever the names
    log = whole.csv("predictions").query("run_id == 'log'")
    assert log["created_at"].str.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ").all()
    assert log["created_at"].iloc[1] == (START + timedelta(minutes=1)).strftime("%Y-%m-%dT%H:%M:%SZ")
    raw = (whole.done.out / "csv" / "predictions.csv").read_text(encoding="utf-8")
    assert {"TRUE", "FALSE"} >= set(re.findall(r'"(TRUE|FALSE|true|false|True|False)"', raw))


def test_the_zip_holds_the_same_csv_as_the_folder(whole: Whole) -> None:
    with zipfile.ZipFile(whole.done.out / files.ZIP) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == [f"{table.name}.csv" for table in schema.TABLES]
        for name in archive.namelist():
            assert archive.read(name) == (whole.done.out / "csv" / name).read_bytes()


def test_csv_comes_back_through_pandas_as_it_was(whole: Whole) -> None:
    records = of_log(whole.store, whole.manifest)
    back, frame = whole.csv("predictions").query("run_id == 'log'").reset_index(drop=True), records.frame()
    np.testing.assert_array_equal(back["confidence"], frame["confidence"])
    np.testing.assert_array_equal(back["rms_dbfs"], frame["rms_dbfs"])
    assert back["loudness_lufs"].isna().tolist() == frame["loudness_lufs"].isna().tolist()
    assert back["true_label"].fillna("").tolist() == frame["label"].fillna("").tolist()
    assert back["unknown"].astype(bool).tolist() == frame["unknown"].astype(bool).tolist()
    assert back["quality_clipped"].astype(bool).sum() == math.ceil(LOGGED / 7)
    assert back["correct"].isna().tolist() == frame["label"].isna().tolist()


def test_no_text_of_a_file_is_a_formula_or_breaks_a_line(whole: Whole, extract: Connection) -> None:
    named = whole.csv("predictions").query("run_id == 'log'")["file_name"].iloc[: len(BAD_NAMES)].tolist()
    assert named[0] == "'=cmd|'/C calc'!A0.wav"
    assert named[1] == BAD_NAMES[1]  # quotes survive
    assert named[2] == "two␊lines␍␊.wav"
    assert named[3] == BAD_NAMES[3]
    assert [name[0] for name in (named[4], named[5], named[7])] == ["'", "'", "'"]
    texts = []
    for table in schema.TABLES:
        for column in (c.name for c in table.columns if c.kind == "text"):
            texts += sql(extract, f'SELECT "{column}" FROM {table.name} WHERE "{column}" IS NOT NULL')
    every = {str(text) for (text,) in texts}
    assert "'=cmd|'/C calc'!A0.wav" in every  # the same text in every format
    assert not {text for text in every if re.match(r"\s*[=+\-@＝＋－＠]", text) or re.search(r"[\x00-\x1f]", text)}


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("=1+1", "'=1+1"),
        ("  =1+1", "'  =1+1"),
        ("-5", "'-5"),
        ("＝1", "'＝1"),
        ("\u00a0@x", "'\u00a0@x"),
        ("\t=1", "␉=1"),
        ("a\nb\x00c\x7f", "a␊b␀c␡"),
        ("a\u2028b", "a␤b"),
        ("rain", "rain"),
        ("", None),
        (None, None),
    ],
)
def test_text_is_made_safe(given: str | None, safe: str | None) -> None:
    assert schema.safe_text(pa.array([given], pa.string())).to_pylist() == [safe]


def test_class_names_that_look_like_formulas_still_match_over_tables(tmp_path: Path) -> None:
    given = answers(40)
    names = ("=evil", "class_1", 'quo"te', "new\nline")
    label = given.table["label"].map(dict(zip(given.class_names, names, strict=True)))
    records = record_set(
        given.table.assign(label=label), title="=t", class_names=names, logits=given.logits, temperature=1.0
    )
    star = tables.build([parts.of_records(records)], tmp_path / "facts.parquet")
    classes = set(star.small["classes"]["label"].to_pylist())
    assert classes == {"'=evil", "class_1", 'quo"te', "new␊line"}
    facts = star.head("predictions")
    assert set(facts["true_label"]) <= classes
    assert set(facts["predicted_label"]) <= classes
    assert set(star.small["confusion"]["true_label"].to_pylist()) == classes
    assert set(facts["run_id"]) == {"'=t"} == set(star.small["about"]["run_id"].to_pylist())


def test_every_column_is_in_the_dictionary_with_type_and_meaning(whole: Whole) -> None:
    said = whole.csv("data_dictionary").set_index(["table_name", "column_name"])
    for table in (*schema.TABLES, schema.WIDE):
        folder = whole.done.out / ("" if table is schema.WIDE else "csv")
        header = (folder / f"{table.name}.csv").read_text(encoding="utf-8").partition("\n")[0]
        for name in header.split(","):
            row = said.loc[(table.name, name)]
            assert row["meaning"], f"{table.name}.{name}"
            assert row["type"] in schema.ARROW
    units = said["unit"].notna()
    assert units[said["type"] == "real"].mean() > 0.9
    assert len(said) == sum(len(table.columns) for table in (*schema.TABLES, schema.WIDE))


@pytest.mark.parametrize(("table", "column"), [("headline", "metric"), ("drift", "statistic")])
def test_every_name_that_stands_in_a_long_table_is_explained(whole: Whole, table: str, column: str) -> None:
    said = set(re.findall(r"\w+", schema.BY_NAME[table].column(column).meaning))
    found = {name.removesuffix("_raw") for name in whole.csv(table)[column].str.replace("_raw_", "_")}
    assert {name for name in found if not name.startswith("cause_")} <= said


def test_the_same_records_give_the_same_bytes_of_all_but_the_extract(tmp_path: Path) -> None:
    def made(folder: str) -> dict[str, bytes]:
        given = [parts.of_records(answers(60, seeds=3))]
        done = export(given, tmp_path / folder, gold=gold_tables.recorded())
        return {path.relative_to(done.out).as_posix(): path.read_bytes() for path in done.files}

    first, second = made("a"), made("b")
    assert list(first) == list(second)
    differ = {name for name in first if first[name] != second[name]}
    assert differ <= {hyper.NAME, workbook.NAME}
    with (
        zipfile.ZipFile(io.BytesIO(first[workbook.NAME])) as one,
        zipfile.ZipFile(io.BytesIO(second[workbook.NAME])) as other,
    ):
        assert one.namelist() == other.namelist() == [workbook.TWB, workbook.PACKAGED]
        assert one.read(workbook.TWB) == other.read(workbook.TWB)
        assert [info.date_time for info in one.infolist()] == [files.EPOCH] * 2
        assert one.read(workbook.PACKAGED) == first[hyper.NAME]
        assert other.read(workbook.PACKAGED) == second[hyper.NAME]


def test_the_same_records_give_the_same_rows_of_the_extract(tmp_path: Path) -> None:
    star = tables.build(
        [parts.of_records(answers(60, seeds=3))], tmp_path / "facts.parquet", gold=gold_tables.recorded()
    )
    for name in ("a", "b"):
        hyper.write_hyper(star, tmp_path / f"{name}.hyper")
    with (
        HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters={"log_config": ""}) as process,
        Connection(process.endpoint) as connection,
    ):
        for name in ("a", "b"):
            connection.catalog.attach_database(str(tmp_path / f"{name}.hyper"), alias=name)
        for table in schema.TABLES:
            columns = [
                [(str(c.name), str(c.type)) for c in connection.catalog.get_table_definition(place).columns]
                for place in (TableName(name, "Extract", table.name) for name in ("a", "b"))
            ]
            assert columns[0] == columns[1]
            one, other = (f'SELECT * FROM "{name}"."Extract"."{table.name}"' for name in ("a", "b"))
            for more, less in ((one, other), (other, one)):
                assert connection.execute_scalar_query(f"SELECT COUNT(*) FROM ({more} EXCEPT ALL {less}) AS x") == 0
            counted = connection.execute_scalar_query(f"SELECT COUNT(*) FROM ({one}) AS x")
            assert counted == star.rows(table.name)


def test_three_seeds_are_means_over_seeds_at_the_number_of_clips(tmp_path: Path) -> None:
    records = answers(60, seeds=3)
    star = tables.build([parts.of_records(records)], tmp_path / "facts.parquet")
    headline = star.small["headline"].to_pandas().set_index("metric")
    facts = star.head("predictions", 1000)
    assert headline.loc["accuracy", "n"] == 60
    by_seed = facts["correct"].astype(bool).groupby(facts["seed"])
    assert by_seed.mean().mean() == pytest.approx(headline.loc["accuracy", "value"])
    assert star.rows("predictions") == 180
    assert facts["prediction_id"].is_unique
    gaps = [
        abs((one["correct"].astype(bool) - one["confidence"]).groupby(one["confidence_bin"]).sum()).sum() / len(one)
        for _, one in facts.groupby("seed")
    ]
    assert np.mean(gaps) == pytest.approx(headline.loc["ece", "value"])


def test_unlabelled_records_have_answers_and_no_metrics(tmp_path: Path) -> None:
    records = answers(30)
    blank = record_set(
        records.table.assign(label=None),
        title="blank",
        class_names=records.class_names,
        logits=records.logits,
        temperature=1.0,
    )
    done = export([parts.of_records(blank)], tmp_path, formats=("csv",))
    headline = pd.read_csv(tmp_path / "csv" / "headline.csv")
    assert (headline["n"] == 0).all()
    assert headline[["value", "low", "high"]].isna().all(axis=None)
    confusion = pd.read_csv(tmp_path / "csv" / "confusion.csv")
    assert (confusion["answers"] == 0).all()
    assert len(confusion) == 16
    assert confusion["share_of_true"].isna().all()
    assert done.rows["predictions"] == 30
    assert pd.read_csv(tmp_path / "csv" / "predictions.csv")["correct"].isna().all()


def test_an_empty_log_exports_as_empty_tables(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/log.sqlite3")
    done = export([parts.of_log(store, read_manifest(SHIPPED_ARTIFACT))], tmp_path / "out")
    store.close()
    assert done.rows["predictions"] == 0
    about = pd.read_csv(tmp_path / "out" / "csv" / "about.csv")
    assert about["kind"].tolist() == ["log"] + ["demonstration"] * len(demonstrations.CONDITIONS)
    assert (about[["n_answers", "n_labelled", "n_clips"]] == 0).all(axis=None)
    verdicts = pd.read_csv(tmp_path / "out" / "csv" / "drift.csv").query("statistic == 'verdict'").set_index("run_id")
    assert set(verdicts.index) == set(about["run_id"])
    assert verdicts.loc["log", "verdict"].startswith("Not enough data: 0 current records")
    assert done.workbook.exists()


def test_a_window_of_the_log_is_what_was_asked_for(whole: Whole) -> None:
    since, until = START + timedelta(minutes=10), START + timedelta(minutes=15)
    part = parts.of_log(whole.store, whole.manifest, since=since, until=until)
    assert part.n == 5
    records = [records for records in part.chunks() if len(records)]
    assert sum(map(len, records)) == 5
    assert records[0].table["created_at"].min() == since


def test_runs_of_other_classes_do_not_go_into_one_export(tmp_path: Path) -> None:
    with pytest.raises(RecordsError, match=r"same classes.*--no-run"):
        tables.build([parts.of_folder(), parts.of_records(answers(20))], tmp_path / "facts.parquet")
    with pytest.raises(RecordsError, match="Choose one"):
        tables.build([], tmp_path / "facts.parquet")
    alone = tables.build([parts.of_records(answers(20))], tmp_path / "facts.parquet", gold=gold_tables.recorded())
    assert alone.rows("clip_features") == 0  # their classes are not these


def test_two_runs_of_one_name_stay_apart(tmp_path: Path) -> None:
    star = tables.build(
        [parts.of_records(answers(20), run_id="a"), parts.of_records(answers(20, rng_seed=1), run_id="a")],
        tmp_path / "facts.parquet",
    )
    assert star.small["about"]["run_id"].to_pylist() == ["a", "a (2)"]
    assert star.head("predictions")["prediction_id"].is_unique


def test_a_run_that_is_named_as_a_second_one_stays_apart_too(tmp_path: Path) -> None:
    names = ("a", "a (2)", "a", "a", "=b", "=b")
    given = [parts.of_records(answers(8, rng_seed=seed), run_id=name) for seed, name in enumerate(names)]
    star = tables.build(given, tmp_path / "facts.parquet")
    assert star.small["about"]["run_id"].to_pylist() == ["a", "a (2)", "a (3)", "a (4)", "'=b", "'=b (2)"]


def test_class_names_that_come_out_the_same_are_refused(tmp_path: Path) -> None:
    given = answers(8)
    names = ("=a", "'=a", "b", "c")
    table = given.table.assign(label=given.table["label"].map(dict(zip(given.class_names, names, strict=True))))
    records = record_set(table, title="t", class_names=names, logits=given.logits, temperature=1.0)
    with pytest.raises(RecordsError, match="Rename one"):
        tables.build([parts.of_records(records)], tmp_path / "facts.parquet")


def test_answers_keep_ids_of_their_own_where_a_file_holds_a_clip_twice(tmp_path: Path) -> None:
    given = answers(9)
    clips = ["c", "c", "c/1", "c/0", "a\nb", "a␊b", "d", "e", "f"]
    records = record_set(
        given.table.assign(clip_id=clips),
        title="t",
        class_names=given.class_names,
        logits=given.logits,
        temperature=1.0,
    )
    star = tables.build([parts.of_records(records)], tmp_path / "facts.parquet")
    assert star.head("predictions")["prediction_id"].is_unique
    shown = star.head("errors")["prediction_id"]
    assert set(shown) <= set(star.head("predictions")["prediction_id"])


def test_a_demonstration_stands_in_the_drift_tables_alone(whole: Whole) -> None:
    about = whole.csv("about").set_index("run_id")
    shown = about[about["kind"] == "demonstration"]
    assert len(shown) == len(demonstrations.CONDITIONS)
    assert (shown[["n_answers", "n_labelled", "n_clips"]] == 0).all(axis=None)
    for table in schema.TABLES:
        if "run_id" in table.names and table.name not in ("about", "drift", "drift_distribution"):
            assert not set(whole.csv(table.name)["run_id"]) & set(shown.index), table.name
    said = whole.csv("drift").query("statistic == 'verdict'").set_index("run_id")["verdict"]
    assert said[shown.index].str.startswith("Demonstration, not your sounds: ").all()
    assert not said["log"].startswith("Demonstration")


def test_no_run_is_told(tmp_path: Path) -> None:
    with pytest.raises(EarshotError, match="found nothing"):
        sources.parts([tmp_path / "none"], None, Settings.load())


@pytest.mark.parametrize("text", ["xlsx", "", "csv,pdf"])
def test_an_unknown_format_is_told(text: str) -> None:
    with pytest.raises(ExportError, match="csv, hyper, twbx"):
        formats_of(text)


def test_times_are_utc_and_wrong_ones_told() -> None:
    assert sources.moment("2026-11-01") == START
    assert sources.moment("2026-11-01T01:00+01:00") == START
    assert sources.moment("all") is None
    with pytest.raises(ExportError, match="2026-11-01"):
        sources.moment("yesterday")


@pytest.mark.parametrize("name", ["predictions.csv", "earshot.hyper", "earshot.twbx", files.ZIP, files.WIDE])
def test_a_full_disk_leaves_no_half_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """The rename never happens where the last byte did not reach the disk."""
    real, failed = os.fsync, []

    def full(number: int) -> None:
        target = Path(f"/proc/self/fd/{number}").readlink()
        if target.name.startswith(f".{Path(name).stem}-") and target.suffix == Path(name).suffix:
            failed.append(target)
            raise OSError(28, "No space left on device")
        real(number)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(ExportError, match="No space left on device") as told:
        export([parts.of_records(answers(20))], tmp_path)
    assert told.value.code == "disk_full"
    assert failed
    left = {path.name for path in tmp_path.rglob("*") if path.is_file()}
    assert name not in left
    assert not {path for path in left if path.startswith(".")}
    assert not list(tmp_path.glob(".earshot-*"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_disk_that_fills_while_writing_is_told(tmp_path: Path) -> None:
    (tmp_path / "old.csv").write_text("kept")

    def write() -> None:
        with files.whole(tmp_path / "old.csv") as beside:
            beside.unlink()
            beside.symlink_to("/dev/full")
            with beside.open("wb", buffering=0) as file:
                file.write(b"x")

    with pytest.raises(ExportError, match="No space left"):
        write()
    assert (tmp_path / "old.csv").read_text() == "kept"
    assert [path.name for path in tmp_path.iterdir()] == ["old.csv"]


def test_where_hyper_cannot_be_written_the_rest_can(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyper, "available", lambda: False)
    given = [parts.of_records(answers(20))]
    with pytest.raises(ExportError, match="no wheel"):
        export(given, tmp_path / "a")
    assert (tmp_path / "a" / files.ZIP).exists()
    assert export(given, tmp_path / "b", formats=("csv",)).files


@pytest.mark.parametrize("version", ["0", "4"])
def test_the_extract_is_of_the_version_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    star = tables.build([parts.of_records(answers(20))], tmp_path / "facts.parquet")
    hyper.write_hyper(star, tmp_path / "a.hyper", version=version)
    head = (tmp_path / "a.hyper").read_bytes()[:16]
    assert head.startswith(b"Hyper")
    assert head[10] == int(version)
    assert not list((tmp_path / "here").iterdir())  # Hyper would leave a log in the folder it is started from


def test_another_hyper_version_is_refused(tmp_path: Path) -> None:
    star = tables.build([parts.of_records(answers(20))], tmp_path / "facts.parquet")
    with pytest.raises(ExportError, match="0, 2, 3, 4"):
        hyper.write_hyper(star, tmp_path / "a.hyper", version="9")


def test_gold_tables_are_of_the_shipped_model_and_whole() -> None:
    held = gold_tables.recorded()
    fingerprint = read_manifest(SHIPPED_ARTIFACT).fingerprint
    assert gold_tables.fingerprint(held) == fingerprint, "the model changed: make gold"
    assert held["clip_features"].num_rows == 11
    windows = held["windows"].to_pandas()
    np.testing.assert_allclose(windows.groupby(["clip_id", "start_s"])["probability"].sum(), 1, atol=1e-4)
    mel = held["mel_bands"].to_pandas()
    assert mel["clip_id"].nunique() == 11
    assert mel["frequency_hz"].between(40, 15_000).all()


@pytest.mark.parametrize("before", ["", " ", "\u2003", "\u202f", "\u200b", "\u00ad", "\ufeff"])
def test_no_space_hides_a_formula(before: str) -> None:
    assert schema.safe_text(pa.array([f"{before}=1+1"])).to_pylist() == [f"'{before}=1+1"]


def test_thumbnails_and_sounds_are_written_once_and_named_safely(tmp_path: Path) -> None:
    from core.audio import write_wav
    from core.tableau.media import MediaFolder

    asked = []
    wave = write_wav(np.random.default_rng(0).normal(0, 0.1, 16_000).astype(np.float32), 32_000)

    def read(clip_id: str) -> bytes | None:
        asked.append(clip_id)
        sounds = {"clip0.wav": wave, "../evil name": wave, "../evil_name": wave, "clip1.wav": b"no sound"}
        return sounds.get(clip_id)

    media = MediaFolder(tmp_path, read, base_url="https://example.org/e/")
    assert media.paths("clip0.wav") == (
        "https://example.org/e/thumbnails/clip0.png",
        "https://example.org/e/audio/clip0.wav",
    )
    assert media.paths("clip0.wav") == media.paths("clip0.wav")
    assert asked.count("clip0.wav") == 1
    assert media.paths("clip1.wav") == (None, None)
    assert media.paths("clip2.wav") == (None, None)
    evil, other = media.paths("../evil name")[0], media.paths("../evil_name")[0]
    assert evil is not None
    assert evil.startswith("https://example.org/e/thumbnails/.._evil_name-")
    assert evil != other
    assert (tmp_path / "thumbnails" / "clip0.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "audio" / "clip0.wav").read_bytes() == wave
    star = tables.build([parts.of_records(answers(4))], tmp_path / "facts.parquet", media=media)
    shown = star.head("predictions")
    assert shown["thumbnail_path"].notna().tolist() == [True, False, False, False]


def test_sounds_that_are_no_class_are_kept_and_counted_once(tmp_path: Path) -> None:
    manifest = read_manifest(SHIPPED_ARTIFACT)
    store = Store.open(f"sqlite:///{tmp_path}/log.sqlite3")
    fill(store, 30, manifest)
    for number in (2, 13, 25):
        store.correct(number, "=a door")
    star = tables.build([parts.of_log(store, manifest, rows=10)], tmp_path / "facts.parquet")
    store.close()
    about = star.head("about").iloc[0]
    assert about["notes"].startswith("3 of 30 records labelled as none of the classes")
    facts = star.head("predictions")
    assert facts["other_label"].dropna().tolist() == ["'=a door"] * 3
    assert facts["true_label"].notna().sum() == about["n_labelled"] == 3
    assert facts.loc[facts["other_label"].notna(), "correct"].isna().all()


def test_the_wide_file_holds_every_answer_with_its_run(whole: Whole) -> None:
    wide = pd.read_csv(io.BytesIO((whole.done.out / files.WIDE).read_bytes()), keep_default_na=False, na_values=[""])
    assert len(wide) == len(shipped()) + LOGGED
    assert set(wide["run_kind"]) == {"cross-validation", "log"}
    dogs = wide[wide["true_label"] == "crying_baby"]
    assert set(dogs["true_class_name"]) == {"Crying baby"}
    assert list(schema.WIDE.names) == list(wide)


def made_in(calls: list[Path]) -> Callable[[Path], Exported]:
    def make(out: Path) -> Exported:
        calls.append(out)
        (out / "a.csv").write_text(f"made {len(calls)}")
        return Exported(out, (out / "a.csv",), {}, {"a.csv": 6})

    return make


def test_few_exports_are_kept_and_what_is_gone_is_made_again() -> None:
    kept, calls = KeptExports(most=2), []
    for key in ("a", "b", "a"):
        kept.of(key, made_in(calls))
    assert len(calls) == 2
    kept.of("c", made_in(calls))
    assert [folder.exists() for folder in calls] == [True, False, True]  # b was asked for least lately
    assert kept.read("b", made_in(calls), lambda done: done.file("a.csv").read_text()) == "made 4"
    (calls[-1] / "a.csv").unlink()
    assert kept.read("b", made_in(calls), lambda done: done.file("a.csv").read_text()) == "made 5"
    assert not calls[3].exists()
    kept.close()
    assert not any(folder.exists() for folder in calls)


@pytest.fixture
def small_run(tmp_path: Path) -> Path:
    """A file of records, for the command."""
    given = answers(20)
    path = tmp_path / "small.parquet"
    write_records(path, given.table.assign(logits=list(given.logits)), given.class_names)
    return path


def test_the_command_says_what_it_wrote(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["tableau", "--run", str(small_run), "--out", str(tmp_path / "out"), "--formats", "csv"]) == 0
    said = capsys.readouterr().out
    assert "small: 20 answers, 20 labelled" in said
    assert str(tmp_path / "out" / files.WIDE) in said


@pytest.mark.parametrize(
    ("options", "says"),
    [
        (["--publish"], "EARSHOT_TABLEAU_SERVER"),
        (["--publish", "--formats", "csv"], "Add twbx to --formats"),
        (["--hyper-version", "9"], "0, 2, 3, 4"),
        (["--formats", "pdf"], "csv, hyper, twbx"),
        (["--log-since", "yesterday"], "2026-11-01"),
        (["--no-run"], "Leave one out"),
        (["--run", "nowhere"], "found nothing at nowhere"),
        (["--base-url", "example.org"], "https://example.org/earshot"),
    ],
)
def test_what_cannot_be_exported_is_refused_before_any_work(
    small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], says: str
) -> None:
    out = tmp_path / "out"
    assert main(["tableau", "--run", str(small_run), "--out", str(out), *options]) == 1
    assert says in capsys.readouterr().err
    assert not out.exists()


def log_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: int) -> None:
    """The command reads a log of ``rows`` answers."""
    url = f"sqlite:///{tmp_path}/log.sqlite3"
    store = Store.open(url)
    fill(store, rows, read_manifest(SHIPPED_ARTIFACT))
    store.close()
    monkeypatch.setenv("EARSHOT_DATABASE_URL", url)
    monkeypatch.setenv("EARSHOT_ARTIFACT", str(SHIPPED_ARTIFACT))


def test_the_command_exports_the_log_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    log_of(tmp_path, monkeypatch, 12)
    out = tmp_path / "out"
    assert main(["tableau", "--no-run", "--log-since", "all", "--out", str(out), "--formats", "csv"]) == 0
    assert set(pd.read_csv(out / "csv" / "predictions.csv")["run_id"]) == {"log"}
    assert "log: 12 answers" in capsys.readouterr().out


def test_what_the_workbook_does_without_is_told(tmp_path: Path) -> None:
    done = export([parts.of_records(answers(20))], tmp_path, gold=gold_tables.recorded())
    assert done.said[-1].startswith("The workbook leaves out Drift, Sample inspector, Eleven sounds: ")
    assert len(export([parts.of_records(answers(20))], tmp_path, formats=("csv",)).said) == 1


def other_classes() -> list[parts.Part]:
    return [parts.of_records(answers(20)), parts.of_records(answers(20, classes=3))]


@pytest.mark.parametrize("given", [list, other_classes], ids=["nothing", "other classes"])
def test_a_refused_export_leaves_no_folder_behind(tmp_path: Path, given: Callable[[], list[parts.Part]]) -> None:
    with pytest.raises(RecordsError):
        export(given(), tmp_path / "new" / "deep", formats=("csv",))
    assert not list(tmp_path.iterdir())
    own = tmp_path / "mine"  # which somebody made, and may want
    own.mkdir()
    with pytest.raises(RecordsError):
        export(given(), own, formats=("csv",))
    assert [path.name for path in tmp_path.rglob("*")] == ["mine"]


def test_where_nothing_could_be_written_no_folder_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(number: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    given = [parts.of_records(answers(20))]
    for out in (tmp_path / "new", tmp_path):
        with pytest.raises(ExportError, match="No space left on device"):
            export(given, out, formats=("csv",))
        assert not list(tmp_path.iterdir())


def test_a_format_that_cannot_be_written_leaves_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hyper, "available", lambda: False)
    with pytest.raises(ExportError, match="no wheel"):
        export([parts.of_records(answers(20))], tmp_path / "new", formats=("hyper",))
    assert not list(tmp_path.iterdir())


def test_a_file_in_place_of_the_folder_is_told_and_kept(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    for out in (tmp_path / "out", tmp_path / "out" / "deep"):
        with pytest.raises(ExportError, match="Name another"):
            export([parts.of_records(answers(20))], out, formats=("csv",))
    assert (tmp_path / "out").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1


def test_answers_of_other_models_are_counted_and_told(tmp_path: Path) -> None:
    manifest = read_manifest(SHIPPED_ARTIFACT)
    store = Store.open(f"sqlite:///{tmp_path}/log.sqlite3")
    fill(store, 12, manifest)
    fill(store, 5, manifest.model_copy(update={"fingerprint": "f" * 64}))
    window = parts.of_log(store, manifest, since=START + timedelta(minutes=3))
    assert window.notes == ("2 answers of other models in this window are left out",)
    done = export([parts.of_log(store, manifest)], tmp_path / "out", formats=("csv",))
    store.close()
    about = pd.read_csv(tmp_path / "out" / "csv" / "about.csv").set_index("run_id")
    assert about.loc["log", "notes"] == "5 answers of other models in this window are left out"
    assert done.said == (
        f"log: 12 answers by the model {manifest.fingerprint[:12]}, 2 labelled; "
        "5 answers of other models in this window are left out",
    )


def file_with(tmp_path: Path, **columns: object) -> Path:
    """A file of 20 records that holds ``columns`` beside its own."""
    given = answers(20)
    path = tmp_path / "mine.parquet"
    write_records(path, given.table.assign(logits=list(given.logits), **columns), given.class_names)
    return path


@pytest.mark.parametrize("name", sorted(set(schema.PREDICTIONS.names) - {"clip_id", "fold", "seed"}))
@pytest.mark.parametrize("value", ["theirs", 0.25])
def test_a_column_of_a_file_that_is_named_as_one_of_ours_changes_no_answer(
    tmp_path: Path, name: str, value: object
) -> None:
    plain = tables.build([parts.of_folder(file_with(tmp_path))], tmp_path / "plain.parquet").head("predictions")
    star = tables.build([parts.of_folder(file_with(tmp_path, **{name: value}))], tmp_path / "facts.parquet")
    found = star.head("predictions")
    answered = ["true_label", "predicted_label", "correct", "confidence", "entropy_nats", "confidence_bin", "margin"]
    pd.testing.assert_frame_equal(found[answered], plain[answered])
    assert found["run_id"].tolist() == plain["run_id"].tolist()
    notes = str(star.small["about"]["notes"][0])
    if name in tables.COMPUTED:
        assert name in notes
        pd.testing.assert_series_equal(found[name], plain[name])


def test_times_of_a_file_are_kept_however_they_are_written(tmp_path: Path) -> None:
    moments = ["2026-11-03T10:00:00Z", "2026-11-03 12:30", "yesterday", None] * 5
    for given in (moments, [pd.Timestamp(moments[0])] * 20):
        star = tables.build([parts.of_folder(file_with(tmp_path, created_at=given))], tmp_path / "facts.parquet")
        found = star.head("predictions")["created_at"]
        assert found[0] == pd.Timestamp("2026-11-03T10:00:00Z")
        about = star.small["about"].to_pandas().iloc[0]
        assert about["created_at"] == found.max()
        if given is moments:
            assert found.isna().sum() == 10
            assert "5 of 20 values of created_at are not understood" in about["notes"]
    for no_time in (1.5, "now", "today"):  # seconds, days, since when? And what was now, is not any more
        star = tables.build([parts.of_folder(file_with(tmp_path, created_at=no_time))], tmp_path / "facts.parquet")
        assert star.head("predictions")["created_at"].isna().all()
        assert "20 of 20 values of created_at are not understood" in str(star.small["about"]["notes"][0])
        assert star.small["about"]["created_at"].to_pylist() == [None]


def test_where_a_file_does_not_say_how_its_answers_came_about_nothing_is_invented(tmp_path: Path) -> None:
    star = tables.build([parts.of_folder(file_with(tmp_path))], tmp_path / "facts.parquet")
    assert star.head("predictions")["origin"].isna().all()
    star = tables.build([parts.of_folder(file_with(tmp_path, origin="phone"))], tmp_path / "facts.parquet")
    assert set(star.head("predictions")["origin"]) == {"phone"}
    run = tables.build([parts.of_folder()], tmp_path / "facts.parquet")
    assert set(run.head("predictions")["origin"]) == {"held-out"}


def test_records_without_a_clip_id_are_left_out_and_told(tmp_path: Path) -> None:
    given = answers(20)
    for nothing in ("", None):
        clips = [nothing, *given.table["clip_id"][1:]]
        path = tmp_path / "mine.parquet"
        table = given.table.assign(logits=list(given.logits), clip_id=clips)
        write_records(path, table, given.class_names)
        done = export([parts.of_folder(path)], tmp_path / "out")
        assert done.rows["predictions"] == 19
        assert "1 of 20 records left out without a clip_id" in done.said[0]


def test_a_key_that_is_missing_is_an_error_and_no_end_of_the_process(tmp_path: Path) -> None:
    star = tables.build([parts.of_records(answers(20))], tmp_path / "facts.parquet")
    curves = pa.Table.from_pylist([{"run_id": None, "member": "m", "epoch": 1, "metric": "loss", "value": 1.0}])
    broken = replace(star, small=star.small | {"training_curves": curves.cast(schema.TRAINING_CURVES.arrow)})
    with pytest.raises(ExportError, match="run_id in every row of training_curves") as told:
        hyper.write_hyper(broken, tmp_path / "out" / hyper.NAME)
    assert told.value.code == "missing_key"
    assert not (tmp_path / "out").exists()


def test_a_class_without_a_name_is_refused() -> None:
    given = answers(8)
    label = given.table["label"].replace("class_1", "")
    names = ("class_0", "", "class_2", "class_3")
    with pytest.raises(RecordsError, match="none of them empty"):
        record_set(given.table.assign(label=label), title="t", class_names=names, logits=given.logits)


def test_a_sound_that_was_logged_again_is_one_clip(tmp_path: Path) -> None:
    manifest = read_manifest(SHIPPED_ARTIFACT)
    store = Store.open(f"sqlite:///{tmp_path}/log.sqlite3")
    for name, answer, _ in predictions(12, manifest):
        (number,) = store.log_all([(name, answer.model_copy(update={"clip_id": "0" * 16}))], manifest, origin="api")
        store.correct(number, manifest.class_names[0])
    star = tables.build([parts.of_log(store, manifest)], tmp_path / "facts.parquet")
    store.close()
    about = star.small["about"].to_pandas().iloc[0]
    assert about[["n_answers", "n_labelled", "n_clips"]].tolist() == [12, 12, 1]


@pytest.mark.parametrize(
    ("given", "safe"),
    [
        ("x;=cmd|'/C calc'!A0;.wav", "x;'=cmd|'/C calc'!A0;.wav"),
        ("a; -1;@b", "a;' -1;'@b"),
        ("=1;=2", "'=1;'=2"),
        ("a;b", "a;b"),
        ('x;"=1+1";y', 'x;\'"=1+1";y'),
        ('say "hello"; "you"', 'say "hello"; "you"'),
        ("a-b;c=d", "a-b;c=d"),
    ],
)
def test_no_semicolon_begins_a_formula(given: str, safe: str) -> None:
    """Where a comma is the decimal sign, spreadsheets part cells at semicolons."""
    assert schema.safe_text(pa.array([given])).to_pylist() == [safe]
