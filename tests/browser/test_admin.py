"""The Admin page in a real browser, with real trainings: launch, watch, come back, cancel, promote, classify."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from core.artifact import read_manifest
from core.config import Settings
from core.jobs import jobs_in
from core.local_jobs import LocalTrainer
from tests.browser.serving import ANSWER_MS, serve, settle, upload
from tests.synthetic_dataset import write_dataset

TOKEN = "a token of more than sixteen"
LONG = 4_000  # epochs of the training that is cancelled
TRAINED_MS = 240_000  # measured 12 s; machines are slow and busy


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, str], Path]]:
    """Settings of a server over a tiny dataset and an empty runs folder, and the folder."""
    root = tmp_path_factory.mktemp("admin")
    write_dataset(root / "toy", n_classes=2, folds=2, per_class_and_fold=2, duration_s=0.5, sample_rate_hz=16_000)
    settings = {
        "EARSHOT_DATA_DIR": str(root / "toy"),
        "EARSHOT_RUNS_DIR": str(root / "runs"),
        "EARSHOT_DATABASE_URL": f"sqlite:///{root / 'store.sqlite3'}",
        "EARSHOT_ADMIN_TOKEN": TOKEN,
    }
    yield settings, root / "runs"
    trainer = LocalTrainer(root / "runs")
    for job in jobs_in(root / "runs"):
        trainer.cancel(job.id)


def sign_in(page: Page, token: str) -> None:
    page.get_by_label("Admin token", exact=True).last.fill(token)
    page.get_by_role("button", name="Sign in").click()
    settle(page)


def launch(page: Page, runs: Path, epochs: int) -> None:
    """Fill the form, press Launch and wait until the job is there: the server decides in its own time."""
    before = len(jobs_in(runs))
    field = page.get_by_test_id("stNumberInput").filter(has_text="Epochs").locator("input")
    field.fill(str(epochs))
    field.press("Enter")
    settle(page)
    page.get_by_role("button", name="Launch").click()
    deadline = time.monotonic() + ANSWER_MS / 1000
    while len(jobs_in(runs)) == before and time.monotonic() < deadline:
        page.wait_for_timeout(200)
    assert len(jobs_in(runs)) == before + 1
    settle(page)


def test_a_training_outlives_the_server_and_is_found_again_and_its_model_promoted(
    browser: Browser, world: tuple[dict[str, str], Path]
) -> None:
    settings, runs = world
    page = browser.new_page(viewport={"width": 1280, "height": 1000})
    page.set_default_timeout(ANSWER_MS)
    with serve(settings) as address:
        page.goto(f"{address}/admin")
        first, second = launched(page, runs)
    assert LocalTrainer(runs).follow(second).job.state == "running"  # without any server
    with serve(settings) as address:
        page.goto(f"{address}/admin")
        sign_in(page, TOKEN)
        found_again(page, runs, first, second)
    page.close()


def launched(page: Page, runs: Path) -> tuple[str, str]:
    """A short training that ends and a long one that runs, launched by the admin; others are kept out."""
    sign_in(page, "wrong")
    expect(page.get_by_text("Expected the admin token, got another text")).to_be_visible()
    limited = page.get_by_text("Too many wrong tokens were sent")
    for _ in range(12):  # from the fifth on all wait, 2 s, then twice as long each time: a slow page is caught up with
        if not limited.is_visible():
            sign_in(page, "wrong")
    left = re.search(r"Try again in (\d+) s", limited.inner_text())
    assert left is not None
    page.wait_for_timeout(1_000 * int(left[1]) + 500)
    sign_in(page, TOKEN)
    expect(page.get_by_text("Signed in as admin.")).to_be_visible()
    assert TOKEN not in page.url

    launch(page, runs, 2)
    launch(page, runs, LONG)
    first, second = sorted(jobs_in(runs), key=lambda job: job.queued_at)
    expect(page.get_by_text(re.compile(rf"Epoch [1-9]\d* of {LONG}"))).to_be_visible(timeout=TRAINED_MS)
    return first.id, second.id


def found_again(page: Page, runs: Path, first: str, second: str) -> None:
    """The long one goes on and is cancelled; the model of the other is promoted and answers."""
    expect(page.get_by_text(f"{first} · finished")).to_be_visible()
    expect(page.get_by_text(re.compile(rf"Epoch [1-9]\d* of {LONG}"))).to_be_visible()
    expect(page.get_by_test_id("stPlotlyChart").first).to_be_visible()
    page.get_by_role("button", name="Cancel").click()
    expect(page.get_by_text(f"{second} · cancelled")).to_be_visible()
    expect(page.get_by_role("button", name="Resume")).to_be_visible()

    page.get_by_role("tab", name="Models").click()
    expect(page.get_by_text("This model is uncalibrated")).to_be_visible()
    page.get_by_role("button", name="Promote").click()
    fingerprint = read_manifest(runs / first / "artifact").fingerprint
    expect(page.get_by_text(f"Serving {fingerprint[:12]}")).to_be_visible()
    assert Settings.model_validate({"runs_dir": runs}).artifact == runs / "served" / fingerprint

    page.get_by_role("link", name="Classify").click()
    clip = next((runs.parent / "toy" / "audio").iterdir())
    upload(page, clip.name, clip.read_bytes())
    expect(page.get_by_text(f"model {fingerprint[:12]}")).to_be_visible(timeout=ANSWER_MS)
