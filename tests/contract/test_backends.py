"""Wherever inference runs, the answer is the same: equal labels, probabilities to 1e-4, on the gold clips.

``LocalBackend`` is the reference. Another place joins by one more fixture in ``PLACES`` that gives the answers in the
order of the clips.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from core.backend import LocalBackend
from core.classifier import Classifier
from core.config import SHIPPED_ARTIFACT
from core.gold import gold_clips
from core.records import Prediction
from tests.api_server import ApiServer
from tests.modal_standin import environment

TOLERANCE = 1e-4  # of a probability
PLACES = ["over_http", "through_modal"]


@pytest.fixture(scope="module")
def clips(esc10_dir: Path) -> dict[str, bytes]:
    return gold_clips(esc10_dir)


@pytest.fixture(scope="module")
def local() -> LocalBackend:
    return LocalBackend(Classifier.from_artifact(SHIPPED_ARTIFACT))


@pytest.fixture(scope="module")
def expected(local: LocalBackend, clips: dict[str, bytes]) -> list[Prediction]:
    answers = local.classify(list(clips.values()))
    assert all(isinstance(answer, Prediction) for answer in answers)
    return [answer for answer in answers if isinstance(answer, Prediction)]


@pytest.fixture(scope="module")
def over_http(server: ApiServer, clips: dict[str, bytes]) -> list[Prediction]:
    with server.client() as client:
        response = client.post("/v1/classify/batch", files=[("files", clip) for clip in clips.items()])
    assert response.status_code == 200, response.text
    answers = response.json()["answers"]
    assert [answer["name"] for answer in answers] == list(clips)
    return [Prediction.model_validate(answer["prediction"]) for answer in answers]


@pytest.fixture(scope="module")
def on_modal_too(modal_server: Any, local: LocalBackend, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Modal's client, container code and batches; a stand-in for their servers."""
    from modal_backend import Patience, connect

    with environment(modal_server.env):
        patience = Patience(connect_s=60, answer_s=240)
        yield connect(local.manifest, tmp_path_factory.mktemp("runs"), patience=patience)


@pytest.fixture(scope="module")
def through_modal(on_modal_too: Any, clips: dict[str, bytes]) -> list[Prediction]:
    answers: list[Prediction] = on_modal_too.classify(list(clips.values()))
    assert {(answer.backend, answer.place is None) for answer in answers} == {("modal", False)}
    return answers


@pytest.fixture
def answers(request: pytest.FixtureRequest) -> Sequence[Prediction]:
    given: Sequence[Prediction] = request.getfixturevalue(request.param)
    return given


@pytest.mark.parametrize("answers", PLACES, indirect=True)
def test_every_place_gives_the_same_answers(answers: Sequence[Prediction], expected: Sequence[Prediction]) -> None:
    assert len(answers) == len(expected) == 11
    for got, wanted in zip(answers, expected, strict=True):
        assert (got.label, got.unknown) == (wanted.label, wanted.unknown)
        assert (got.clip_id, got.fingerprint) == (wanted.clip_id, wanted.fingerprint)
        assert set(got.probabilities) == set(wanted.probabilities)
        for name, probability in wanted.probabilities.items():
            assert got.probabilities[name] == pytest.approx(probability, abs=TOLERANCE), name
        np.testing.assert_allclose(got.logits, wanted.logits, atol=1e-3)
        np.testing.assert_allclose(got.embedding, wanted.embedding, atol=1e-3)
        assert got.quality == wanted.quality
        assert got.source == wanted.source


def test_one_sound_is_answered_as_the_same_sound_in_a_batch(
    server: ApiServer, clips: dict[str, bytes], expected: Sequence[Prediction]
) -> None:
    name, data = next(iter(clips.items()))
    with server.client() as client:
        answer = client.post("/v1/classify", files={"file": (name, data)}).json()
    assert answer["prediction"]["probabilities"] == pytest.approx(expected[0].probabilities, abs=TOLERANCE)


def test_the_explanation_over_http_is_the_local_one(
    server: ApiServer, clips: dict[str, bytes], local: LocalBackend
) -> None:
    name, data = next(iter(clips.items()))
    why = local.explain(data)
    with server.client() as client:
        answer = client.post("/v1/explain?maps=1", files={"file": (name, data)}).json()
    assert answer["label"] == why.label
    for got, stage in zip(answer["stages"], why.stages, strict=True):
        np.testing.assert_allclose(got["cam"], stage.cam, atol=1e-3)
        np.testing.assert_allclose(got["mean_map"], stage.mean_map, atol=1e-3)


def test_the_explanation_through_modal_is_the_local_one(
    on_modal_too: Any, clips: dict[str, bytes], local: LocalBackend
) -> None:
    data = next(iter(clips.values()))
    why, got = local.explain(data), on_modal_too.explain(data)
    assert (got.label, got.start_s, got.end_s, got.hop_s) == (why.label, why.start_s, why.end_s, why.hop_s)
    assert got.probability == pytest.approx(why.probability, abs=TOLERANCE)
    np.testing.assert_allclose(got.log_mel, why.log_mel, atol=1e-3)
    for there, stage in zip(got.stages, why.stages, strict=True):
        np.testing.assert_allclose(there.cam, stage.cam, atol=1e-3)
        np.testing.assert_allclose(there.maps, stage.maps, atol=1e-2)
