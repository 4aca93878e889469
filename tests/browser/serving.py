"""Earshot as a user starts it, and Chromium to look at it. For the tests and for the README's screenshot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Locator, Page, Playwright, expect
from playwright.sync_api import TimeoutError as TookTooLong

from core.config import ROOT

START_S = 180.0
ANSWER_MS = 180_000  # the first answer loads torch and the model; a busy machine takes its time
ONCE_MS = 5_000  # until what was tried is tried again
CHROMIUM_OPTIONS = ("--no-sandbox", "--headless=new", "--disable-gpu", "--disable-dev-shm-usage")


@contextmanager
def serve(settings: Mapping[str, str]) -> Iterator[str]:
    """Run the app with these environment variables; yields its address and ends the server afterwards.

    Answers are logged into a database of its own, unless one is named.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.headless", "true"]
    command += ["--server.port", str(port), "--server.address", "127.0.0.1", "--browser.gatherUsageStats", "false"]
    with tempfile.NamedTemporaryFile(suffix=".log") as log, tempfile.TemporaryDirectory() as folder:
        own = {"EARSHOT_DATABASE_URL": f"sqlite:///{folder}/log.sqlite3"}
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | own | settings, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            _wait_until_healthy(port, process, Path(log.name))
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=60)


def _wait_until_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    raise RuntimeError(f"Streamlit did not start within {START_S:g} s:\n{log.read_text(errors='replace')}")


def launch(playwright: Playwright, chromium: str, *options: str) -> Browser:
    """Chromium without a window. Sites must ask for permission to use the microphone."""
    return playwright.chromium.launch(executable_path=chromium, args=[*CHROMIUM_OPTIONS, *options])


def settle(page: Page) -> None:
    """Wait until the script has run and the page shows it."""
    expect(page.locator('[data-testid="stApp"][data-test-script-state="notRunning"]')).to_be_visible(timeout=ANSWER_MS)


def until(shown: Locator, act: Callable[[], object]) -> None:
    """Do what a user does who sees that a click did not take: again, until ``shown`` is there.

    ``act`` is a step that may be repeated: a click that opens, chooses or leads elsewhere, none that toggles.
    """
    deadline = time.monotonic() + ANSWER_MS / 1000
    while True:
        try:
            if not shown.is_visible():
                act()
            return expect(shown).to_be_visible(timeout=ONCE_MS)
        except (AssertionError, TookTooLong):
            if time.monotonic() > deadline:
                raise


def unfold(box: Locator, typed: str = "") -> None:
    """Open a selectbox's list, narrowed to what is typed."""
    box.click(timeout=ONCE_MS)
    if typed:
        box.fill(typed, timeout=ONCE_MS)


def choose(box: Locator, option: str, *, typed: str = "") -> None:
    """Choose from a selectbox, by typing if need be.

    A list closes as soon as its page scrolls: the browser does that to bring a box into view, and for a page that is
    still arriving.
    """
    offered = box.page.get_by_role("option", name=option, exact=True)
    expect(box).to_be_visible()
    settle(box.page)
    box.scroll_into_view_if_needed()
    box.evaluate("() => new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)))")
    deadline = time.monotonic() + ANSWER_MS / 1000
    while True:
        until(offered, lambda: unfold(box, typed))
        try:
            return offered.click(timeout=ONCE_MS)
        except TookTooLong:
            if time.monotonic() > deadline:
                raise


def upload(page: Page, name: str, data: bytes) -> None:
    """Give the page a file, as dropping it there does; a page that is still redrawing its uploader may not take it."""
    payload = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    settle(page)
    taken = page.get_by_test_id("stFileChipName").get_by_text(name)
    until(taken, lambda: page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(payload))
