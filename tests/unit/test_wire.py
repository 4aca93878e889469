import json
from dataclasses import replace

import numpy as np
import pytest

from core.artifact import Artifact
from core.classifier import Classifier
from core.config import Limits
from core.errors import AudioError, BackendError, EarshotError, LimitError
from core.explain import explain
from core.records import Place
from core.wire import pack_answer, pack_error, pack_explanation, unpack_answer, unpack_explanation
from tests.unit.test_classifier import noise, wav


@pytest.fixture(scope="module")
def classifier(untrained: Artifact) -> Classifier:
    return Classifier(untrained, Limits())


def test_a_prediction_arrives_with_every_bit(classifier: Classifier) -> None:
    sent = classifier.predict(wav(noise(1) * 0))  # silence: some descriptors are undefined
    sent = sent.model_copy(update={"place": Place(device="NVIDIA A10", cold=True, round_trip_ms=12.5)})
    packed = pack_answer(sent)
    received = unpack_answer(json.loads(json.dumps(packed)))
    assert pack_answer(received) == packed  # type: ignore[arg-type]
    assert isinstance(received, type(sent))
    assert received.logits == sent.logits
    assert np.isnan([received.descriptors[name] for name in sent.descriptors if np.isnan(sent.descriptors[name])]).all()


@pytest.mark.parametrize("kind", [AudioError, LimitError])
def test_an_error_of_the_audio_stays_one(kind: type[AudioError]) -> None:
    received = unpack_answer(pack_answer(kind("Expected a sound.", code="too_short")))
    assert (type(received), str(received)) == (kind, "Expected a sound.")
    assert isinstance(received, AudioError)
    assert received.code == "too_short"


def test_any_other_error_is_raised_on_arrival() -> None:
    class SpecialError(EarshotError):
        code = "special"

    with pytest.raises(EarshotError, match="no such window") as caught:
        unpack_explanation(pack_error(SpecialError("no such window")))
    assert caught.value.code == "special"


def test_an_explanation_arrives_whole(classifier: Classifier) -> None:
    sent = explain(classifier, noise(2), timeline=True, occlusion=True)
    received = unpack_explanation(pack_explanation(sent))
    assert (received.label, received.probability, received.hop_s) == (sent.label, sent.probability, sent.hop_s)
    np.testing.assert_array_equal(received.log_mel, sent.log_mel)
    np.testing.assert_array_equal(received.mel_hz, sent.mel_hz)
    assert received.timeline == sent.timeline
    assert received.occlusion is not None
    assert sent.occlusion is not None
    np.testing.assert_array_equal(received.occlusion.evidence, sent.occlusion.evidence)
    assert replace(received.occlusion, evidence=sent.occlusion.evidence) == sent.occlusion
    for got, stage in zip(received.stages, sent.stages, strict=True):
        assert got.name == stage.name
        np.testing.assert_array_equal(got.maps, stage.maps)
        np.testing.assert_array_equal(got.cam, stage.cam)


def test_what_another_release_sends_is_refused() -> None:
    for unpack, packed in (
        (unpack_answer, {"prediction": '{"label": "dog"}'}),
        (unpack_answer, {"answer": "dog"}),
        (unpack_explanation, {"facts": "{}", "arrays": b""}),
        (unpack_explanation, {"facts": '{"stages": []}', "arrays": b"PK nothing"}),
    ):
        with pytest.raises(BackendError, match="Deploy the same release") as caught:
            unpack(packed)
        assert caught.value.code == "other_release"
