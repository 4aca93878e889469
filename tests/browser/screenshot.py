"""Take the README's picture of a real result: ``python -m tests.browser.screenshot``, from the repository root.

Starts the app on the shipped model, gives it a clip of ESC-10 and writes ``app/static/screenshot.png``.
"""

from __future__ import annotations

import argparse
import os
import shutil
from collections.abc import Sequence
from pathlib import Path

from playwright.sync_api import Page, expect, sync_playwright

from core.config import ROOT
from tests.browser.serving import ANSWER_MS, launch, serve, settle, upload

OUT = ROOT / "app" / "static" / "screenshot.png"
CLIP = "1-187207-A-20.ogg"  # a crying baby: several cries, with pauses that the network does not look at
DATA = Path(os.environ.get("ESC50_DIR", ROOT.parent / "shared" / "data" / "esc10"))
WIDTH, HEIGHT = 1280, 1640  # down to the end of the player


def main(argv: Sequence[str] | None = None) -> int:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--data", type=Path, default=DATA, help="dataset in ESC-50's layout")
    options.add_argument("--clip", default=CLIP)
    options.add_argument("--out", type=Path, default=OUT)
    options.add_argument("--width", type=int, default=WIDTH)
    options.add_argument("--height", type=int, default=HEIGHT)
    options.add_argument("--dark", action="store_true")
    given = options.parse_args(argv)
    chromium = shutil.which("chromium")
    if chromium is None:
        options.error("no chromium on PATH; on Debian: apt-get install chromium")
    with serve({"EARSHOT_DATA_DIR": str(given.data)}) as address, sync_playwright() as driver:
        browser = launch(driver, chromium)
        scheme = "dark" if given.dark else "light"
        page = browser.new_page(viewport={"width": given.width, "height": given.height}, color_scheme=scheme)
        page.goto(address)
        upload(page, given.clip, (given.data / "audio" / given.clip).read_bytes())
        take(page, given.out)
        browser.close()
    print(f"wrote {given.out}")
    return 0


def take(page: Page, out: Path) -> None:
    """Wait until every chart is drawn, then write what is on the screen."""
    expect(page.get_by_role("slider", name="Position in")).to_be_visible(timeout=ANSWER_MS)
    settle(page)
    page.wait_for_timeout(1_500)  # charts fade in
    out.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=out)


if __name__ == "__main__":
    raise SystemExit(main())
