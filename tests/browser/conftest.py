"""A real server and a real Chromium whose microphone plays a real clip."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import soundfile
import soxr
from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from tests.browser.serving import ANSWER_MS, launch, serve

MICROPHONE_HZ = 48_000  # Chromium's fake microphone reads PCM_16 at its own rate


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)


@pytest.fixture(scope="session")
def chromium() -> str:
    path = shutil.which("chromium")
    if path is None:
        reason = "no chromium on PATH; on Debian: apt-get install chromium"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return path


@pytest.fixture(scope="session")
def playwright() -> Iterator[Playwright]:
    expect.set_options(timeout=ANSWER_MS)
    with sync_playwright() as driver:
        yield driver


@pytest.fixture(scope="session")
def clip_path(esc10_dir: Path) -> Path:
    """A real recording, a dog in ogg: it is also what the microphone hears."""
    return esc10_dir / "audio" / "1-100032-A-0.ogg"


@pytest.fixture(scope="session")
def microphone_wav(clip_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    samples, rate_hz = soundfile.read(clip_path, dtype="float32")
    path = tmp_path_factory.mktemp("microphone") / "microphone.wav"
    soundfile.write(path, soxr.resample(samples, rate_hz, MICROPHONE_HZ), MICROPHONE_HZ, subtype="PCM_16")
    return path


@pytest.fixture(scope="session")
def server(esc10_dir: Path) -> Iterator[str]:
    with serve({"EARSHOT_DATA_DIR": str(esc10_dir)}) as address:
        yield address


@pytest.fixture(scope="session")
def browser(playwright: Playwright, chromium: str, microphone_wav: Path) -> Iterator[Browser]:
    microphone = f"--use-file-for-fake-audio-capture={microphone_wav}"
    browser = launch(playwright, chromium, "--use-fake-device-for-media-stream", microphone)
    yield browser
    browser.close()


@pytest.fixture
def page(browser: Browser, server: str) -> Iterator[Page]:
    """The app, opened at 1280 × 900 with the microphone allowed."""
    size = {"width": 1280, "height": 900}
    context = browser.new_context(accept_downloads=True, permissions=["microphone"], viewport=size)
    page = context.new_page()
    page.set_default_timeout(ANSWER_MS)
    page.goto(server)
    yield page
    context.close()
