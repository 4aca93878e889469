import io
import math

import numpy as np
import pytest
import soundfile

from core.artifact import Artifact
from core.classifier import Classifier, entropy
from core.config import Limits
from core.errors import AudioError, LimitError

RATE = 32_000


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")  # float wav carries the time of writing
    return buffer.getvalue()


@pytest.fixture
def classifier(untrained: Artifact) -> Classifier:
    return Classifier(untrained, Limits(max_duration_s=60))


def noise(duration_s: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(duration_s * RATE)).astype(np.float32)


def test_probabilities_cover_every_class_most_probable_first_and_sum_to_one(classifier: Classifier) -> None:
    prediction = classifier.predict(wav(noise(2)))
    values = list(prediction.probabilities.values())
    assert sorted(prediction.probabilities) == sorted(classifier.manifest.class_names)
    assert values == sorted(values, reverse=True)
    assert sum(values) == pytest.approx(1)
    assert prediction.label == next(iter(prediction.probabilities))
    assert prediction.confidence == values[0]
    assert prediction.margin == pytest.approx(values[0] - values[1])


def test_probabilities_are_the_softmax_of_the_logits_it_reports(classifier: Classifier) -> None:
    for duration_s in (2, 12):  # one window, several
        prediction = classifier.predict(wav(noise(duration_s)))
        exponent = np.exp(prediction.logits)
        for name, p in zip(classifier.manifest.class_names, exponent / exponent.sum(), strict=True):
            assert prediction.probabilities[name] == pytest.approx(p, abs=1e-6)


def test_temperature_softens_without_changing_the_order(untrained: Artifact) -> None:
    warm = Artifact(untrained.net, untrained.manifest.model_copy(update={"temperature": 3.0}))
    cool_answer = Classifier(untrained, Limits()).predict(wav(noise(2)))
    warm_answer = Classifier(warm, Limits()).predict(wav(noise(2)))
    assert list(warm_answer.probabilities) == list(cool_answer.probabilities)
    assert warm_answer.entropy > cool_answer.entropy


def test_ten_seconds_are_one_window_and_more_is_a_timeline(classifier: Classifier) -> None:
    assert len(classifier.predict(wav(noise(10))).windows) == 1
    windows = classifier.predict(wav(noise(13))).windows
    assert [(w.start_s, w.end_s) for w in windows] == [(0, 5), (2.5, 7.5), (5, 10), (7.5, 12.5), (8, 13)]
    assert all(sum(w.probabilities) == pytest.approx(1) for w in windows)


def test_the_same_bytes_give_the_same_answer_and_the_same_id(classifier: Classifier) -> None:
    first, second = (classifier.predict(wav(noise(1))) for _ in range(2))
    moving = {"latency_ms", "created_at"}
    assert first.model_dump(exclude=moving) == second.model_dump(exclude=moving)
    assert len(first.clip_id) == 16


def test_silence_is_answered_with_a_warning(classifier: Classifier) -> None:
    prediction = classifier.predict(wav(np.zeros(2 * RATE)))
    assert "silent" in [warning.code for warning in prediction.quality]
    assert math.isfinite(prediction.confidence)


def test_a_prediction_survives_its_own_json(classifier: Classifier) -> None:
    prediction = classifier.predict(wav(noise(1)))
    assert type(prediction).model_validate_json(prediction.model_dump_json()) == prediction


def test_what_is_not_sound_is_refused(classifier: Classifier) -> None:
    with pytest.raises(AudioError):
        classifier.predict(b"hello")


def test_the_limits_it_was_given_hold(classifier: Classifier) -> None:
    with pytest.raises(LimitError):
        classifier.predict(wav(noise(61)))


def test_entropy_of_certainty_is_zero_and_of_ignorance_log_k() -> None:
    assert entropy(np.array([1.0, 0.0])) == 0
    assert entropy(np.full(10, 0.1)) == pytest.approx(math.log(10))
