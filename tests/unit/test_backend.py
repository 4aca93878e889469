import io

import numpy as np
import pytest
import soundfile

from core.artifact import Artifact
from core.backend import Backend, LocalBackend
from core.classifier import Classifier
from core.config import Limits
from core.errors import AudioError
from core.records import Prediction


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


def test_health_says_where_it_would_answer(untrained: Artifact) -> None:
    health = local(untrained).health()
    assert (health.ready, health.backend, health.device) == (True, "local", "cpu")
