"""Earshot as a user starts it, and Chromium to look at it. For the tests and for the README's screenshot."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, Playwright, expect

from core.config import ROOT

START_S = 180.0
ANSWER_MS = 180_000  # the first answer loads torch and the model; a busy machine takes its time
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


def upload(page: Page, name: str, data: bytes) -> None:
    """Give the page a file, as dropping it there does."""
    payload = {"name": name, "mimeType": "application/octet-stream", "buffer": data}
    page.get_by_test_id("stFileUploaderDropzoneInput").set_input_files(payload)
    expect(page.get_by_test_id("stFileChipName").get_by_text(name)).to_be_visible()
