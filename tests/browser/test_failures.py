"""The Failure modes page in a real browser: a click on the map leads to that clip in the inspector."""

from urllib.parse import parse_qs, urlsplit

from playwright.sync_api import Page, expect

from tests.browser.serving import ANSWER_MS, ONCE_MS, settle, until


def test_a_click_on_a_point_of_the_map_opens_the_inspector_at_its_clip(page: Page, server: str) -> None:
    page.goto(f"{server}/failures?section=Map", wait_until="domcontentloaded")
    settle(page)
    point = page.locator(".js-plotly-plot .scatterlayer path.point").first
    expect(point).to_be_visible(timeout=ANSWER_MS)
    expect(page.get_by_text("Click a point to inspect it.")).to_be_visible(timeout=ANSWER_MS)
    settle(page)

    def click() -> None:
        box = point.bounding_box(timeout=ONCE_MS)
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)
        page.mouse.click(box["x"] + box["width"] / 2, box["y"] + box["height"] / 2)

    until(page.get_by_role("heading", name="Sample inspector", level=1), click)
    settle(page)
    query = parse_qs(urlsplit(page.url).query)
    assert query["records"] == ["shipped"]
    clip = query["clip"][0]
    expect(page.get_by_text(clip).first).to_be_visible(timeout=ANSWER_MS)
