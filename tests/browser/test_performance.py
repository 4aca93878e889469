"""A click on a confusion cell, which only a browser can make."""

import re
from urllib.parse import parse_qs, urlparse

from playwright.sync_api import Page, expect

from core.diagnostics.classification import confused_pairs
from core.sources import shipped
from tests.browser.serving import ANSWER_MS, ONCE_MS, settle, until


def test_a_click_on_a_cell_opens_the_inspector_with_exactly_those_clips(page: Page, server: str) -> None:
    worst = confused_pairs(shipped()).iloc[0]
    page.goto(f"{server}/performance?records=shipped")
    cells = page.get_by_test_id("stVegaLiteChart").locator("svg text").get_by_text(re.compile(f"^{worst['n']}$"))
    expect(cells.first).to_be_visible(timeout=ANSWER_MS)
    settle(page)
    inspector = page.get_by_role("heading", name="Sample inspector")
    until(inspector, lambda: cells.first.click(force=True, timeout=ONCE_MS))
    expect(page).to_have_url(re.compile("/inspector"), timeout=ANSWER_MS)
    settle(page)
    first = shown(page)
    records = shipped()
    true, predicted = (records.class_names.index(first[name][0]) for name in ("true", "predicted"))
    clips = records.table["clip_id"][(records.targets == true) & (records.predicted == predicted)].tolist()
    assert (len(clips), first["clip"]) == (worst["n"], clips[:1])
    expect(page.get_by_text(f"1 of {len(clips):,}")).to_be_visible(timeout=ANSWER_MS)
    if len(clips) > 1:
        page.keyboard.press("n")
        expect(page.get_by_text(f"2 of {len(clips):,}")).to_be_visible(timeout=ANSWER_MS)
        settle(page)
        assert shown(page)["clip"] == clips[1:2]
    left = shown(page)
    page.reload()
    expect(inspector).to_be_visible(timeout=ANSWER_MS)
    expect(page.get_by_text(left["clip"][0]).first).to_be_visible(timeout=ANSWER_MS)
    expect(page.get_by_text(f"{min(2, len(clips))} of {len(clips):,}")).to_be_visible(timeout=ANSWER_MS)
    settle(page)
    assert shown(page) == left


def shown(page: Page) -> dict[str, list[str]]:
    """What the address says."""
    return parse_qs(urlparse(page.url).query)
