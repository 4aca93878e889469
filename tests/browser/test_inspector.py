"""The sample inspector in a real browser: links, keys, reload, the cursor, and labels that outlive the server."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from app import words
from core.diagnostics.classification import confused_pairs
from core.sources import shipped
from core.store import Store
from tests.browser.serving import ANSWER_MS, choose, serve, settle, upload

WORST = confused_pairs(shipped()).iloc[0]  # of the shipped answers, whichever these are


def shown(page: Page) -> dict[str, list[str]]:
    """What the address says."""
    return parse_qs(urlparse(page.url).query)


def player(page: Page) -> Locator:
    position = page.get_by_role("slider", name="Position in")
    expect(position).to_be_visible(timeout=ANSWER_MS)
    return position


@pytest.fixture
def inspector(page: Page) -> Page:
    """Opened as a click on the cell of the commonest confusion does."""
    page.goto(f"{page.url.split('?')[0].rstrip('/')}/inspector?true={WORST['true']}&predicted={WORST['predicted']}")
    player(page)
    settle(page)
    return page


def test_a_link_leads_to_its_clips_and_a_reload_keeps_the_place(inspector: Page) -> None:
    verdict = f"{words.plain(WORST['predicted'])}, but it is {words.plain(WORST['true']).lower()}"
    expect(inspector.get_by_role("heading", name=verdict)).to_be_visible()
    first = shown(inspector)
    assert (first["true"], first["predicted"]) == ([WORST["true"]], [WORST["predicted"]])
    inspector.keyboard.press("n")
    inspector.wait_for_url(lambda url: parse_qs(urlparse(url).query)["clip"] != first["clip"], timeout=ANSWER_MS)
    settle(inspector)
    second = shown(inspector)
    expect(inspector.get_by_text("2 of ").first).to_be_visible()
    inspector.reload()
    expect(inspector.get_by_text(second["clip"][0]).first).to_be_visible(timeout=ANSWER_MS)
    settle(inspector)
    assert shown(inspector) == second
    expect(inspector.get_by_text("2 of ").first).to_be_visible()


def test_one_cursor_moves_with_the_sound_and_a_click_moves_the_sound(inspector: Page) -> None:
    position = player(inspector)
    position.focus()
    inspector.keyboard.press("ArrowRight")
    inspector.keyboard.press("ArrowRight")
    expect(position).to_have_attribute("aria-valuenow", "0.20")
    inspector.keyboard.press(" ")
    moved = "slider => Number(slider.ariaValueNow) > 0.5"
    inspector.wait_for_function(moved, arg=position.element_handle(), timeout=ANSWER_MS)
    inspector.keyboard.press(" ")
    box = position.bounding_box()
    assert box is not None
    position.click(position={"x": box["width"] / 2, "y": 150})
    sound = inspector.locator('audio[data-part="audio"]')
    half = sound.evaluate("audio => audio.duration / 2")
    assert sound.evaluate("audio => audio.currentTime") == pytest.approx(half, abs=0.35)
    assert float(position.get_attribute("aria-valuenow") or 0) == pytest.approx(half, abs=0.35)


def test_a_corrected_label_outlives_the_server(browser: Browser, clip_path: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'log.sqlite3'}"
    settings = {"EARSHOT_DATABASE_URL": url, "EARSHOT_DATA_DIR": str(tmp_path), "EARSHOT_KEEP_AUDIO": "1"}
    with serve(settings) as address:
        page = browser.new_page()
        page.set_default_timeout(ANSWER_MS)
        page.goto(address)
        upload(page, "mine.ogg", clip_path.read_bytes())
        page.get_by_test_id("stMain").get_by_role("link", name="Inspect").click(timeout=ANSWER_MS)
        choice = page.get_by_role("combobox", name="It is something else", exact=False)
        choose(choice, "Helicopter")
        expect(page.get_by_role("heading", name="but it is helicopter", exact=False)).to_be_visible(timeout=ANSWER_MS)
        place = urlparse(page.url)
        page.close()
    assert Store.open(url).get(1).label == "helicopter"
    with serve(settings) as address:
        page = browser.new_page()
        page.set_default_timeout(ANSWER_MS)
        page.goto(f"{address}{place.path}?{place.query}")
        expect(page.get_by_role("heading", name="but it is helicopter", exact=False)).to_be_visible(timeout=ANSWER_MS)
        player(page)  # its sound was kept
        page.close()
