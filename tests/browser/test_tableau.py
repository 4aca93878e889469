"""The Tableau page in a real browser: click through it, download every format, look at what arrived."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from playwright.sync_api import Browser, Page, expect
from tableaudocumentapi import Workbook

from core.tableau import files, hyper, lint, schema, workbook
from tests.browser.serving import ANSWER_MS, choose, settle


def opened(page: Page) -> Page:
    page.get_by_test_id("stSidebarNavLink").filter(has_text="Tableau export").click()
    expect(page.get_by_role("heading", name="Tableau export")).to_be_visible(timeout=ANSWER_MS)
    expect(page.get_by_role("heading", name="How to open it")).to_be_visible(timeout=ANSWER_MS)
    settle(page)
    return page


def fetched(page: Page, label: str) -> tuple[str, Path]:
    with page.expect_download(timeout=ANSWER_MS) as started:
        page.get_by_test_id("stDownloadButton").get_by_role("button").filter(has_text=label).first.click()
    return started.value.suggested_filename, Path(started.value.path())


def test_every_format_arrives_whole(page: Page, tmp_path: Path) -> None:
    opened(page)

    name, path = fetched(page, "CSV, zipped")
    assert name == files.ZIP
    with zipfile.ZipFile(path) as archive:
        tables = {entry.removesuffix(".csv"): pd.read_csv(archive.open(entry)) for entry in archive.namelist()}
    assert set(tables) == set(schema.BY_NAME)
    facts = tables["predictions"]
    accuracy = facts["correct"].groupby(facts["seed"]).mean().mean()
    assert accuracy == pytest.approx(tables["headline"].set_index("metric").loc["accuracy", "value"])

    name, path = fetched(page, "One wide CSV")
    assert name == files.WIDE
    assert len(pd.read_csv(path)) == len(facts)

    name, path = fetched(page, "Extract")
    assert name == hyper.NAME
    assert path.read_bytes().startswith(b"Hyper")
    extract = path.read_bytes()

    name, path = fetched(page, "Workbook")
    assert name == workbook.NAME
    book = tmp_path / name
    book.write_bytes(path.read_bytes())
    assert lint.faults(book, columns={table.name: set(table.names) for table in schema.TABLES}) == []
    assert len(Workbook(str(book)).dashboards) == 6
    with zipfile.ZipFile(book) as archive:
        assert archive.read(workbook.PACKAGED) == extract

    table = page.get_by_test_id("stSelectbox").filter(has_text="Table").last.locator("input")
    choose(table, "class_metrics", typed="class_metrics")
    settle(page)
    name, path = fetched(page, "class_metrics.csv")
    assert name == "class_metrics.csv"
    pd.testing.assert_frame_equal(pd.read_csv(io.BytesIO(path.read_bytes())), tables["class_metrics"])
    page.get_by_role("tab", name="Dictionary").click()
    for tab in ("Tableau Public", "Tableau Cloud or Server", "Tableau Desktop"):
        page.get_by_role("tab", name=tab).click()
        settle(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_the_tableau_page_does_not_scroll_sideways(browser: Browser, server: str, scheme: str, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    page = context.new_page()
    page.goto(f"{server}/tableau")
    expect(page.get_by_role("heading", name="How to open it")).to_be_visible(timeout=ANSWER_MS)
    settle(page)
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    main = page.get_by_test_id("stMain").evaluate("element => element.scrollWidth - element.clientWidth")
    assert (wide, main) == (0, 0)
    context.close()
