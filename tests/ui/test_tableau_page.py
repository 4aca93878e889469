"""The Tableau page as a person uses it. What the files hold is tested in ``tests/unit/test_tableau.py``."""

from __future__ import annotations

import re
import shlex
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from streamlit.testing.v1 import AppTest

from app import services, state, tableau_export
from core.artifact import read_manifest
from core.cli import main
from core.config import ROOT, SHIPPED_ARTIFACT
from core.record_files import write_records
from core.store import Store
from core.tableau import hyper, schema
from tests.tableau_log import START, fill

OpenApp = Callable[..., AppTest]


def open_page(open_app: OpenApp, folder: Path, *, logged: int = 0, **settings: object) -> AppTest:
    url = f"sqlite:///{folder}/log.sqlite3"
    if logged:
        store = Store.open(url)
        fill(store, logged, read_manifest(SHIPPED_ARTIFACT))
        store.close()
    page = open_app(ARTIFACT=SHIPPED_ARTIFACT, DATABASE_URL=url, RUNS_DIR=folder / "runs", **settings)
    return page.switch_page(str(ROOT / "pages" / "tableau.py")).run()


def words_on(page: AppTest) -> str:
    kinds = (page.title, page.subheader, page.caption, page.markdown, page.error, page.info)
    return "\n".join(element.value for kind in kinds for element in kind)


def labels(page: AppTest) -> list[str]:
    return [button.proto.label for button in page.get("download_button")]


def rows(page: AppTest) -> dict[str, int]:
    table = page.table[0].value
    return {name: int(rows.replace(",", "")) for name, rows in zip(table["Table"], table["Rows"], strict=True)}


def test_the_shipped_run_is_there_at_once_in_every_format(open_app: OpenApp, tmp_path: Path) -> None:
    page = open_page(open_app, tmp_path)
    assert not page.exception
    assert not page.error
    assert [label.split(" (")[0] for label in labels(page)] == [
        "Workbook",
        "Extract",
        "CSV, zipped",
        "One wide CSV",
        "predictions.csv",
    ]
    counted = rows(page)
    assert set(counted) == set(schema.BY_NAME)
    assert counted["predictions"] % 400 == 0
    assert counted["clip_features"] == 11
    assert counted["drift"] > 0  # of the demonstrations
    said = words_on(page)
    assert "It was not opened in Tableau itself" in said
    for tab in (tableau_export.DESKTOP, tableau_export.PUBLIC, tableau_export.CLOUD):
        assert tab.strip().count("\n") == 3
        assert tab.strip() in said
    preview, dictionary = page.dataframe[0].value, page.table[1].value
    assert list(preview) == list(dictionary["Column"])
    assert "Relate it with `class_metrics` by `run_id = run_id` *and* `true_label = label`" in said
    assert "Relate it with `classes` by `true_label = label`, *or* by `predicted_label = label`." in said
    page.selectbox(key=state.TABLEAU_TABLE.name).select("class_metrics").run()
    assert "Relate it with `predictions` by `run_id = run_id` *and* `label = true_label`" in words_on(page)


def test_an_export_that_went_away_under_an_open_page_is_made_again(
    open_app: OpenApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only a few exports are kept, for everyone: another visitor's choices push one out, or somebody tidies /tmp."""
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    page = open_page(open_app, tmp_path)
    counted = rows(page)
    assert len(list(temporary.glob("earshot-tableau-*"))) == 1
    for folder in temporary.iterdir():
        shutil.rmtree(folder)
    page.selectbox(key=state.TABLEAU_TABLE.name).select("confusion").run()
    assert not page.exception
    assert not page.error
    assert rows(page) == counted
    assert "share_of_true" in page.dataframe[0].value
    for folder in temporary.iterdir():
        shutil.rmtree(folder)
    choice = services.tableau.choice((services.records.SHIPPED,), None, None, hyper.VERSION)
    assert services.tableau.file(choice, "confusion.csv").startswith(b"run_id,true_label")


def test_the_preview_shows_text_as_it_stands_in_the_file(tmp_path: Path) -> None:
    (tmp_path / "classes.csv").write_text('label,class_name,class_index\n"007","1e3",0\n"NA",,1\n')
    head = services.tableau.csv_head(tmp_path / "classes.csv", 5)
    assert head["label"].tolist() == ["007", "NA"]
    assert head["class_name"].iloc[0] == "1e3"
    assert head["class_name"].isna().tolist() == [False, True]
    assert head["class_index"].tolist() == [0, 1]


def test_a_window_of_the_log_comes_with_its_drift(open_app: OpenApp, tmp_path: Path) -> None:
    page = open_page(open_app, tmp_path, logged=60)
    before, demonstrated = rows(page)["predictions"], rows(page)["drift"]
    page.selectbox(key=state.TABLEAU_WINDOW.name).select("All of it").run()
    assert not page.exception
    assert not page.error
    assert rows(page)["predictions"] == before + 60
    assert rows(page)["drift"] > demonstrated
    page.multiselect(key=state.TABLEAU_RUNS.name).set_value([]).run()
    assert rows(page)["predictions"] == 60
    page.selectbox(key=state.TABLEAU_WINDOW.name).select(None).run()
    assert "Choose a run or a window" in words_on(page)
    assert not labels(page)


def test_an_empty_log_is_no_error(open_app: OpenApp, tmp_path: Path) -> None:
    page = open_page(open_app, tmp_path)
    page.multiselect(key=state.TABLEAU_RUNS.name).set_value([])
    page.selectbox(key=state.TABLEAU_WINDOW.name).select("Last day").run()
    assert not page.exception
    assert not page.error
    assert rows(page)["predictions"] == 0


def test_a_damaged_run_is_told_and_the_page_goes_on(open_app: OpenApp, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "broken"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"run_id": "broken", "class_names": ["a", "b"]}')
    (folder / "oof.parquet").write_bytes(b"no parquet")
    page = open_page(open_app, tmp_path)
    page.multiselect(key=state.TABLEAU_RUNS.name).set_value([f"{services.records.RUN}broken"]).run()
    assert not page.exception
    assert "cannot be read" in page.error[0].value


def test_a_run_of_other_classes_is_told_beside_the_shipped_one(open_app: OpenApp, tmp_path: Path) -> None:
    from tests.answers import answers

    given = answers(20)
    folder = tmp_path / "runs" / "other"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"run_id": "other", "class_names": ["class_0","class_1","class_2","class_3"]}')
    table = given.table.assign(logits=list(given.logits), embedding=list(given.embedding))
    write_records(folder / "oof.parquet", table, given.class_names)
    page = open_page(open_app, tmp_path)
    page.multiselect(key=state.TABLEAU_RUNS.name).set_value(
        [services.records.SHIPPED, f"{services.records.RUN}other"]
    ).run()
    assert "Export them one at a time" in page.error[0].value
    page.multiselect(key=state.TABLEAU_RUNS.name).set_value([f"{services.records.RUN}other"]).run()
    assert not page.error
    assert rows(page)["predictions"] == 20


def test_without_a_hyper_library_csv_is_complete(
    open_app: OpenApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hyper, "available", lambda: False)
    page = open_page(open_app, tmp_path)
    assert not page.error
    assert "There is no Hyper library for this machine" in words_on(page)
    assert [label.split(" (")[0] for label in labels(page)] == ["CSV, zipped", "One wide CSV", "predictions.csv"]


def test_more_than_a_page_hands_out_goes_to_the_command_of_what_was_chosen(
    open_app: OpenApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tableau_export, "MOST", 5)
    page = open_page(open_app, tmp_path, logged=60)
    assert "`python -m core tableau --out DIR`" in words_on(page)
    assert not labels(page)
    page.selectbox(key=state.TABLEAU_WINDOW.name).select("All of it").run()
    assert "`python -m core tableau --out DIR --log-since all`" in words_on(page)
    page.multiselect(key=state.TABLEAU_RUNS.name).set_value([]).run()
    assert "`python -m core tableau --out DIR --no-run --log-since all`" in words_on(page)
    said = services.tableau.command(services.tableau.Choice(("run/my run",), "Last day", START, "0", None))
    assert shlex.split(said)[-4:] == ["--log-since", "2026-11-01T00:00", "--hyper-version", "0"]


def test_a_command_that_the_page_gives_exports_what_was_chosen(
    open_app: OpenApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    page = open_page(open_app, tmp_path, logged=60)
    page.multiselect(key=state.TABLEAU_RUNS.name).set_value([])
    page.selectbox(key=state.TABLEAU_WINDOW.name).select("All of it").run()
    shown = rows(page)
    monkeypatch.setattr(tableau_export, "MOST", 5)
    page.run()
    said = next(info.value for info in page.info if "python -m core" in info.value)
    words = shlex.split(re.search("`python -m core (.*)`", said)[1].replace("DIR", str(tmp_path / "out")))  # type: ignore[index]
    assert main([*words, "--formats", "csv"]) == 0
    counted = {path.stem: len(pd.read_csv(path)) for path in (tmp_path / "out" / "csv").iterdir()}
    assert counted == shown
