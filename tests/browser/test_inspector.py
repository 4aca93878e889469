"""The sample inspector in a real browser: links, keys, reload."""

from __future__ import annotations

from urllib.parse import parse_qs, urlparse

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.browser.serving import ANSWER_MS, settle


def shown(page: Page) -> dict[str, list[str]]:
    """What the address says."""
    return parse_qs(urlparse(page.url).query)


def player(page: Page) -> Locator:
    position = page.get_by_role("slider", name="Position in")
    expect(position).to_be_visible(timeout=ANSWER_MS)
    return position


@pytest.fixture
def inspector(page: Page) -> Page:
    """Opened as a click on the cell "helicopter, taken for sea waves" does."""
    page.goto(f"{page.url.split('?')[0].rstrip('/')}/inspector?true=helicopter&predicted=sea_waves")
    player(page)
    settle(page)
    return page


def test_a_link_leads_to_its_clips_and_a_reload_keeps_the_place(inspector: Page) -> None:
    expect(inspector.get_by_role("heading", name="Sea waves, but it is helicopter")).to_be_visible()
    first = shown(inspector)
    assert (first["true"], first["predicted"]) == (["helicopter"], ["sea_waves"])
    inspector.keyboard.press("n")
    expect(inspector.get_by_text(first["clip"][0])).not_to_be_visible(timeout=ANSWER_MS)
    settle(inspector)
    second = shown(inspector)
    assert second["clip"] != first["clip"]
    inspector.reload()
    expect(inspector.get_by_text(second["clip"][0]).first).to_be_visible(timeout=ANSWER_MS)
    settle(inspector)
    assert shown(inspector) == second
    expect(inspector.get_by_text("2 of ").first).to_be_visible()
