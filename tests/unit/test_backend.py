import io
from pathlib import Path

import numpy as np
import pytest
import soundfile
from starlette.testclient import TestClient

from core.api import create_api
from core.artifact import Artifact, save_artifact
from core.backend import Backend, LocalBackend, backend_over
from core.classifier import Classifier
from core.config import Limits, Settings
from core.errors import AudioError, BackendError
from core.records import Prediction
from core.store import Store


def flac(duration_s: float) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).normal(0, 0.1, round(duration_s * 16_000)), 16_000, format="FLAC")
    return buffer.getvalue()


def local(untrained: Artifact) -> Backend:
    return LocalBackend(Classifier(untrained, Limits()))


def test_every_sound_gets_its_own_answer_in_order(untrained: Artifact) -> None:
    good, bad, other = local(untrained).classify([flac(1), b"nothing of the sort", flac(2)])
    assert isinstance(good, Prediction)
    assert isinstance(other, Prediction)
    assert isinstance(bad, AudioError)
    assert (good.duration_s, other.duration_s) == (1, 2)
    assert good.backend == "local"


def test_no_sounds_give_no_answers(untrained: Artifact) -> None:
    assert local(untrained).classify([]) == []


def test_the_explanation_is_of_the_class_that_was_answered(untrained: Artifact) -> None:
    backend, sound = local(untrained), flac(1)
    (prediction,) = backend.classify([sound])
    assert isinstance(prediction, Prediction)
    assert backend.explain(sound).label == prediction.label


def test_a_sound_is_decoded_once_for_its_answer_and_its_explanation(
    untrained: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    classifier, decoded = Classifier(untrained, Limits()), []
    once = classifier.decode
    monkeypatch.setattr(classifier, "decode", lambda data: (decoded.append(data), once(data))[1])
    backend, sound = LocalBackend(classifier), flac(1)
    backend.classify([sound])
    backend.explain(bytes(bytearray(sound)))
    assert backend.waveform(sound).duration_s == 1
    assert decoded == [sound]
    backend.classify([flac(2)])
    assert backend.waveform(sound).duration_s == 1
    assert len(decoded) == 3


def test_the_api_over_modal_tells_its_failure_as_itself(
    untrained: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"CONFIG_PATH": str(tmp_path / "none"), "TOKEN_ID": "", "TOKEN_SECRET": ""}.items():
        monkeypatch.setenv(f"MODAL_{name}", value)
    save_artifact(tmp_path / "artifact", untrained.net, untrained.manifest)
    asked = Settings(backend="modal", runs_dir=tmp_path, api_key=None)
    backend = backend_over(tmp_path / "artifact", asked)
    assert (backend.name, backend.manifest.run_id) == ("modal", untrained.manifest.run_id)
    api = create_api(backend, store=Store.open(f"sqlite:///{tmp_path / 'log.sqlite3'}"), settings=asked)
    with TestClient(api, base_url="http://127.0.0.1", client=("127.0.0.1", 50_000)) as caller:
        for answer in (
            caller.post("/v1/classify", content=flac(1), headers={"content-type": "audio/flac"}),
            caller.post("/v1/explain", content=flac(1), headers={"content-type": "audio/flac"}),
            caller.get("/readyz"),
        ):
            assert answer.status_code == 503, answer.text
            assert "modal setup" in answer.json()["error"]["message"]
            assert answer.headers["retry-after"]
        assert caller.get("/v1/model").json()["backend"] == "modal"
        assert caller.get("/healthz").json()["backend"] == "modal"


def test_a_backend_that_is_not_installed_is_told(untrained: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("core.backend.MODAL", "no_such_module")
    with pytest.raises(BackendError, match="EARSHOT_BACKEND=local"):
        backend_over(Path(), Settings(backend="modal"))


def test_health_says_where_it_would_answer(untrained: Artifact) -> None:
    health = local(untrained).health()
    assert (health.ready, health.backend, health.device) == (True, "local", "cpu")
