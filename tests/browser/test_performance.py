"""A click on a confusion cell, which only a browser can make."""

import re

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
    query = dict(part.split("=", 1) for part in page.url.partition("?")[2].split("&"))
    pairs = confused_pairs(shipped()).set_index(["true", "predicted"])
    assert pairs.loc[(query["true"], query["predicted"]), "n"] == worst["n"]
    page.reload()
    expect(inspector).to_be_visible(timeout=ANSWER_MS)
    expect(page).to_have_url(re.compile(f"true={query['true']}"))
