"""A promoted model takes its place while the API runs."""

import json
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from core.api import create_api
from core.artifact import Artifact, save_artifact
from core.backend import Backend, LocalBackend
from core.classifier import Classifier
from core.config import SERVED, SERVED_POINTER, SHIPPED_ARTIFACT, Settings
from core.served import promote, roll_back
from core.serving.answering import Answering
from core.store import Store
from tests.unit.test_api import noise

WAIT_S = 120.0


@pytest.fixture
def runs(tmp_path: Path, untrained: Artifact) -> Path:
    for name in ("a", "b"):
        manifest = untrained.manifest.model_copy(update={"run_id": name})
        save_artifact(tmp_path / name / "artifact", untrained.net, manifest)
    return tmp_path


def make(artifact: Path) -> Backend:
    return LocalBackend(Classifier.from_artifact(artifact))


@pytest.fixture
def answering(runs: Path) -> Answering:
    found = Answering(make(SHIPPED_ARTIFACT))
    found.follow(runs, make)
    return found


def test_what_is_promoted_answers_from_the_next_look_on(answering: Answering, runs: Path) -> None:
    shipped = answering.backend
    answering.look()
    assert answering.backend is shipped
    manifest = promote(runs / "a", runs, by="ada")
    assert answering.backend is shipped
    answering.look()
    assert answering.backend.manifest.fingerprint == manifest.fingerprint
    roll_back(runs)
    answering.look()
    assert answering.backend.manifest.fingerprint == shipped.manifest.fingerprint


def altered(runs: Path) -> None:
    """Promote ``a``, then change a byte of its copy."""
    weights = runs / SERVED / promote(runs / "a", runs, by="ada").fingerprint / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(bytes(data))


def gone(runs: Path) -> None:
    promotion = {"fingerprint": "f" * 64, "run": "a", "at": "2026-01-01T00:00:00Z", "by": "ada"}
    (runs / SERVED_POINTER).parent.mkdir(exist_ok=True)
    (runs / SERVED_POINTER).write_text(json.dumps({"promotions": [promotion]}))


def garbled(runs: Path) -> None:
    (runs / SERVED_POINTER).parent.mkdir(exist_ok=True)
    (runs / SERVED_POINTER).write_text("{")


@pytest.mark.parametrize("spoil", [altered, gone, garbled])
def test_what_is_not_fit_changes_nothing_and_is_told_once(
    answering: Answering, runs: Path, spoil: Callable[[Path], None], caplog: pytest.LogCaptureFixture
) -> None:
    before = answering.backend
    spoil(runs)
    for _ in range(3):
        answering.look()
    assert answering.backend is before
    assert "not fit to serve" in answering.problem
    assert len([record for record in caplog.records if record.levelno == logging.ERROR]) == 1
    (runs / SERVED_POINTER).unlink()
    fit = promote(runs / "b", runs, by="ada")
    answering.look()
    assert (answering.backend.manifest.fingerprint, answering.problem) == (fit.fingerprint, "")


def test_a_model_that_could_not_be_loaded_for_a_moment_is_tried_again(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answering, failed = Answering(make(SHIPPED_ARTIFACT)), []

    def unlucky(artifact: Path) -> LocalBackend:
        if not failed:
            failed.append(artifact)
            raise MemoryError("no memory for a moment")
        return make(artifact)

    answering.follow(runs, unlucky)
    fit = promote(runs / "a", runs, by="ada")
    for _ in range(2):
        answering.look()
        assert "not fit to serve" in answering.problem
    monkeypatch.setattr("core.serving.answering.AGAIN_S", 0.0)
    answering._again_at = 0.0
    answering.look()
    assert (answering.backend.manifest.fingerprint, answering.problem) == (fit.fingerprint, "")


def test_the_api_answers_and_stores_with_the_promoted_model_and_says_so(
    runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("core.serving.answering.LOOK_EVERY_S", 0.01)
    store = Store.open(f"sqlite:///{runs / 'log.sqlite3'}")
    api = create_api(
        make(SHIPPED_ARTIFACT),
        store=store,
        settings=Settings(runs_dir=runs, api_key=None),
        successor=make,
        notes=["It rains."],
    )
    with TestClient(api, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)) as caller:

        def until(path: str, told: Callable[[dict[str, Any]], bool]) -> None:
            deadline = time.monotonic() + WAIT_S
            while not told(caller.get(path).json()):
                assert time.monotonic() < deadline
                time.sleep(0.01)

        manifest = promote(runs / "a", runs, by="ada")
        until("/v1/model", lambda model: model["fingerprint"] == manifest.fingerprint)
        answer = caller.post("/v1/classify", content=noise(), headers={"content-type": "audio/wav"}).json()
        assert answer["prediction"]["fingerprint"] == manifest.fingerprint
        assert len(store.records(manifest.fingerprint)) == 1
        garbled(runs)
        until("/readyz", lambda status: len(status["notes"]) == 2)
        status = caller.get("/readyz").json()
        assert (status["status"], status["fingerprint"]) == ("ready", manifest.fingerprint)
        assert "promoted last is not fit" in status["notes"][0]
        assert caller.get("/healthz").json()["notes"][1] == "It rains."
