"""Fixtures that every kind of test shares."""

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def esc10_dir() -> Path:
    """ESC-10 in ESC-50's layout: ``ESC50_DIR``, else beside the repository. In CI missing data is a failure."""
    given = os.environ.get("ESC50_DIR")
    folder = Path(given) if given else ROOT.parent / "shared" / "data" / "esc10"
    if not (folder / "meta" / "esc50.csv").is_file():
        reason = f"needs the real clips: no meta/esc50.csv in {folder}; set ESC50_DIR to a dataset in ESC-50's layout"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return folder
