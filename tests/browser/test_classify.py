"""The Classify page in a real browser: what only a browser can show."""

from __future__ import annotations

import io
import json
import re
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr
from playwright.sync_api import Browser, Download, Locator, Page, expect

from app import words
from core.audio import write_wav
from core.classifier import Classifier
from core.config import Settings
from core.records import Prediction
from core.training.runs import RunFolder
from tests.browser.serving import ANSWER_MS, ONCE_MS, choose, serve, settle, unfold, until, upload

AGAIN_MS = 5_000  # measured 0.4 s; a busy machine is given the rest
RECORDED_S = 6.0  # more than one turn of the 5 s clip that the microphone repeats
PNG = b"\x89PNG\r\n\x1a\n"


def tab(page: Page, name: str) -> None:
    page.get_by_role("tab", name=name).click()
    settle(page)


def answered(page: Page) -> Locator:
    """The label on the prediction card, once it is there."""
    label = page.get_by_role("heading", level=2)
    expect(label).to_be_visible(timeout=ANSWER_MS)
    settle(page)
    return label


def download(page: Page, button: str) -> Download:
    with page.expect_download() as started:
        page.get_by_role("button", name=button).click()
    return started.value


def assert_fits(page: Page) -> None:
    """Nothing makes the page scroll sideways."""
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    main = page.get_by_test_id("stMain").evaluate("element => element.scrollWidth - element.clientWidth")
    assert (wide, main) == (0, 0)


@pytest.fixture(scope="session")
def expected(clip_path: Path) -> Prediction:
    """The classifier's own answer to the clip."""
    return Classifier.from_artifact(Settings.load().artifact).predict(clip_path.read_bytes())


def test_an_uploaded_clip_shows_its_label_and_downloads_as_json_and_png(
    page: Page, clip_path: Path, expected: Prediction
) -> None:
    upload(page, clip_path.name, clip_path.read_bytes())
    expect(answered(page)).to_have_text(words.plain(expected.label))
    expect(page.get_by_text(f"{words.percent(expected.confidence)} confidence")).to_be_visible()
    expect(page.get_by_test_id("stPlotlyChart")).to_have_count(2)

    record = download(page, "JSON")
    assert record.suggested_filename == f"{clip_path.stem}.earshot.json"
    content = json.loads(Path(record.path()).read_text(encoding="utf-8"))
    assert content["file"] == clip_path.name
    assert content["label"] == expected.label
    assert content["probabilities"] == pytest.approx(expected.probabilities, abs=1e-6)

    picture = download(page, "Picture")
    assert picture.suggested_filename == f"{clip_path.stem}.earshot.png"
    assert Path(picture.path()).read_bytes().startswith(PNG)
    assert_fits(page)


def test_a_clip_of_the_dataset_is_named_rightly(page: Page) -> None:
    """The label on screen is the clip's own: with the shipped model, which heard these clips in training."""
    tab(page, "Sample clips")
    for name in ("Rooster", "Crying baby"):
        page.get_by_role("radio", name=name, exact=True).click()
        expect(page.get_by_role("heading", level=2)).to_have_text(name, timeout=ANSWER_MS)


def test_the_recorded_bytes_are_what_the_microphone_heard(page: Page, microphone_wav: Path) -> None:
    tab(page, "Record")
    recorder = page.get_by_test_id("stAudioInput")
    recorder.get_by_role("button", name="Record").click()
    expect(recorder.get_by_role("button", name="Stop recording")).to_be_visible()
    page.wait_for_timeout(RECORDED_S * 1000)
    recorder.get_by_role("button", name="Stop recording").click()
    answered(page)

    received, rate_hz = soundfile.read(io.BytesIO(played_bytes(page)))
    assert rate_hz == 44_100
    assert received.ndim == 1
    assert received.size / rate_hz == pytest.approx(RECORDED_S, abs=1.0)
    heard, heard_hz = soundfile.read(microphone_wav)
    assert best_correlation(received, rate_hz, heard, heard_hz) > 0.9


def played_bytes(page: Page) -> bytes:
    """What the player got: the recording as it arrived at the server."""
    read = "async audio => Array.from(new Uint8Array(await (await fetch(audio.src)).arrayBuffer()))"
    return bytes(page.locator('audio[data-part="audio"]').evaluate(read))


def best_correlation(received: np.ndarray, rate_hz: int, heard: np.ndarray, heard_hz: int) -> float:
    """Peak of the normalised cross-correlation of the loudest second of ``heard`` with what was received."""
    clip = soxr.resample(heard, heard_hz, rate_hz)
    start = int(np.argmax(energies(clip, rate_hz)))
    piece = clip[start : start + rate_hz]
    cross = scipy.signal.correlate(received, piece, mode="valid", method="fft")
    scale = np.sqrt(energies(received, rate_hz) * (piece**2).sum())
    return float(np.max(cross / np.maximum(scale, 1e-9)))


def energies(samples: np.ndarray, length: int) -> np.ndarray:
    """Σ x² over every stretch of ``length`` samples, (N − length + 1,)."""
    total = np.concatenate([[0.0], np.cumsum(samples**2)])
    return np.asarray(total[length:] - total[:-length])


def test_a_double_click_on_the_lines_chooses_the_stretch(page: Page) -> None:
    upload(page, "long.wav", write_wav(np.random.default_rng(0).normal(0, 0.1, 30 * 16_000), 16_000))
    answered(page)
    settle(page)
    position = page.get_by_role("slider", name="Position in long.wav")
    box = position.bounding_box()
    assert box
    left, right = 58, 62  # margins of player.js, on a wide page
    third = {"x": left + (box["width"] - left - right) / 3, "y": box["height"] - 100}
    chosen = page.get_by_test_id("stSliderThumbValue").get_by_text(words.span(7.5, 12.5), exact=True)
    until(chosen, lambda: position.dblclick(position=third, timeout=ONCE_MS))
    expect(position).to_have_attribute("aria-valuenow", re.compile(r"^(9\.9|10\.0)"))
    settle(page)


def test_a_denied_microphone_is_explained(browser: Browser, server: str) -> None:
    context = browser.new_context()  # no permission, and nobody to ask
    page = context.new_page()
    page.goto(server)
    tab(page, "Record")
    page.get_by_test_id("stAudioInput").get_by_role("button", name="Record").click()
    expect(page.get_by_text("This app would like to use your microphone")).to_be_visible()
    expect(page.get_by_text("allow the microphone in the browser's address bar")).to_be_visible()
    context.close()


def test_a_wrong_file_is_told_and_the_next_one_answered(page: Page, clip_path: Path) -> None:
    upload(page, "letter.wav", b"This is a letter and not a sound.\n" * 50)
    expect(page.get_by_test_id("stAlert")).to_contain_text("Expected a sound file", timeout=ANSWER_MS)
    page.get_by_test_id("stFileChipDeleteBtn").get_by_role("button").click()
    expect(page.get_by_test_id("stAlert")).to_have_count(0, timeout=ANSWER_MS)
    upload(page, clip_path.name, clip_path.read_bytes())
    answered(page)
    expect(page.get_by_test_id("stAlert")).to_have_count(0)


def test_a_sound_that_the_browser_cannot_play_is_told_as_that(page: Page, clip_path: Path) -> None:
    upload(page, clip_path.name, clip_path.read_bytes())
    answered(page)
    told = page.get_by_text("This browser cannot play this sound")
    expect(told).to_be_hidden()
    audio = page.locator('audio[data-part="audio"]')
    played = audio.evaluate("element => element.src")
    audio.evaluate("element => { element.src = 'data:audio/wav;base64,bm8gc291bmQ=' }")
    expect(told).to_be_visible()
    audio.evaluate("(element, source) => { element.src = source }", played)
    expect(told).to_be_hidden()


def test_a_second_look_is_instant(page: Page, clip_path: Path) -> None:
    upload(page, clip_path.name, clip_path.read_bytes())
    answered(page)
    page.reload()
    upload(page, clip_path.name, clip_path.read_bytes())
    expect(page.get_by_role("heading", level=2)).to_be_visible(timeout=AGAIN_MS)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_nothing_overflows(browser: Browser, server: str, clip_path: Path, scheme: str, width: int) -> None:
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 844})
    page = context.new_page()
    page.goto(server)
    upload(page, clip_path.name, clip_path.read_bytes())
    answered(page)
    assert_fits(page)
    background = page.get_by_test_id("stApp").evaluate("element => getComputedStyle(element).backgroundColor")
    level = sum(int(part) for part in background.removeprefix("rgb(").removesuffix(")").split(",")[:3]) / 3
    assert (level < 128) == (scheme == "dark")
    context.close()


@pytest.mark.slow
def test_fifty_classes_fit_a_phone(browser: Browser, fifty_run: RunFolder, fifty_dir: Path) -> None:
    settings = {"EARSHOT_ARTIFACT": str(fifty_run.artifact), "EARSHOT_DATA_DIR": str(fifty_dir)}
    with serve(settings) as address:
        page = browser.new_page(viewport={"width": 390, "height": 844})
        page.goto(address)
        tab(page, "Sample clips")
        classes = page.get_by_test_id("stSelectbox").first.locator("input")
        until(page.get_by_role("option", name="Fluttering high hiss"), lambda: unfold(classes, "hiss"))
        expect(page.get_by_role("option")).to_have_count(5)
        choose(classes, "Fluttering high hiss", typed="hiss")
        answered(page)
        page.get_by_role("radio", name="All 50").click()
        settle(page)
        bars = page.get_by_test_id("stPlotlyChart").first
        expect(bars.locator(".ytick")).to_have_count(50)
        labels = bars.locator(".ytick").evaluate_all("ticks => ticks.map(tick => tick.getBoundingClientRect())")
        assert min(label["left"] for label in labels) >= 0
        labels.sort(key=lambda label: label["top"])
        assert all(above["bottom"] <= below["top"] for above, below in pairwise(labels))
        assert_fits(page)
        page.close()
