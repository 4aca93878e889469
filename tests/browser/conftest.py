"""A real server and a real Chromium whose microphone plays a real clip."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import soxr
from playwright.sync_api import Browser, Page, Playwright, sync_playwright

from core.config import ROOT

MICROPHONE_HZ = 48_000  # Chromium's fake microphone reads PCM_16 at its own rate
START_S = 60.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        reason = "no chromium on PATH; Debian: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def clip_path(esc10_dir: Path) -> Path:
    """A real recording, ogg: it is also what the microphone hears."""
    return esc10_dir / "audio" / "1-100032-A-0.ogg"


@pytest.fixture(scope="session")
def microphone_wav(clip_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, rate_hz = soundfile.read(clip_path, dtype="float32")
    path = tmp_path_factory.mktemp("microphone") / "microphone.wav"
    soundfile.write(path, soxr.resample(samples, rate_hz, MICROPHONE_HZ), MICROPHONE_HZ, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def server(esc10_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Earshot as a user starts it. Yields its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = tmp_path_factory.mktemp("server") / "log.txt"
    command = [sys.executable, "-m", "streamlit", "run", "app/main.py", "--server.headless", "true"]
    command += ["--server.port", str(port), "--server.address", "127.0.0.1"]
    environment = os.environ | {"EARSHOT_DATA_DIR": str(esc10_dir)}
    with log.open("wb") as handle:
        process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=handle, stderr=subprocess.STDOUT)
        try:
            _wait_until_healthy(port, process, log)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.wait(timeout=10)


def _wait_until_healthy(port: int, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_S
    while time.monotonic() < deadline and process.poll() is None:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/_stcore/health", timeout=1):
                return
        except OSError:
            time.sleep(0.1)
    pytest.fail(f"Streamlit did not start within {START_S:g} s:\n{log.read_text(errors='replace')}")


@pytest.fixture(scope="session")
def browser(playwright: Playwright, chromium: str, microphone_wav: Path) -> Iterator[Browser]:
    """Chromium with the fake microphone. Sites must still ask for permission to use it."""
    arguments = [
        "--no-sandbox",
        "--headless=new",
        "--disable-gpu",
        "--disable-dev-shm-usage",
        "--use-fake-device-for-media-stream",
        f"--use-file-for-fake-audio-capture={microphone_wav}",
    ]
    browser = playwright.chromium.launch(executable_path=chromium, args=arguments)
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """The app, opened at 1280 × 900 with the microphone allowed."""
    context = browser.new_context(
        accept_downloads=True, permissions=["microphone"], viewport={"width": 1280, "height": 900}
    )
    page = context.new_page()
    page.goto(server)
    yield page
    context.close()
