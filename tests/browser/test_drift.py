"""The drift demo as a newcomer meets it, and a zip dropped in: only a browser sends files so."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from urllib.parse import urljoin

from playwright.sync_api import Page, expect

from tests.browser.serving import ANSWER_MS, settle, upload


def test_the_demo_raises_its_alarm_and_names_the_cause(page: Page, server: str) -> None:
    page.goto(urljoin(server, "drift"))
    page.get_by_role("radio", name="Demo").click(timeout=ANSWER_MS)
    page.get_by_role("radio", name="Far away").click(timeout=ANSWER_MS)  # single pills are radio buttons
    alarm = page.get_by_test_id("stAlert")
    expect(alarm).to_contain_text("Drift, 200 current records against 400", timeout=ANSWER_MS)
    expect(alarm).to_contain_text("14 dB quieter")
    expect(alarm).to_contain_text("Nothing above 8 kHz")
    settle(page)
    expect(page.get_by_test_id("stPlotlyChart").nth(2)).to_be_visible()
    wide = page.get_by_test_id("stMain").evaluate("element => element.scrollWidth - element.clientWidth")
    assert wide == 0
    page.reload()  # the choice stands in the URL
    expect(alarm).to_contain_text("14 dB quieter", timeout=ANSWER_MS)


def test_a_zip_dropped_in_is_heard_and_what_is_no_sound_is_counted(page: Page, server: str, clip_path: Path) -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.write(clip_path, "a.ogg")
        archive.writestr("../escape.ogg", clip_path.read_bytes())
        archive.writestr("notes.txt", "no sound")
    page.goto(urljoin(server, "drift"))
    page.get_by_role("radio", name="Folder or zip").click(timeout=ANSWER_MS)
    expect(page.get_by_test_id("stFileUploader")).to_be_visible(timeout=ANSWER_MS)
    settle(page)
    upload(page, "sounds.zip", file.getvalue())
    expect(page.get_by_text("1 of 3 files are sounds and were heard.")).to_be_visible(timeout=ANSWER_MS)
    expect(page.get_by_text("Not enough data: 1 current record,")).to_be_visible(timeout=ANSWER_MS)
