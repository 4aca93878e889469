import dataclasses
import io
import math

import numpy as np
import pandas as pd
import pytest
import soundfile

from core.artifact import Artifact
from core.classifier import Classifier, entropy
from core.config import Limits
from core.errors import AudioError, LimitError
from core.inference import infer
from core.unknown import UnknownRule

RATE = 32_000
FAMILIAR = 2e-2  # cosine distance: without training already, noise is within 0.01 of other noise and a tone 0.05 away


def wav(samples: np.ndarray, rate: int = RATE) -> bytes:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="PCM_16")  # float wav carries the time of writing
    return buffer.getvalue()


@pytest.fixture
def classifier(untrained: Artifact) -> Classifier:
    return Classifier(untrained, Limits(max_duration_s=60))


def noise(duration_s: float) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(duration_s * RATE)).astype(np.float32)


def changed(artifact: Artifact, **facts: object) -> Artifact:
    return dataclasses.replace(artifact, manifest=artifact.manifest.model_copy(update=facts))


def remembering(artifact: Artifact, sounds: list[np.ndarray], rule: UnknownRule) -> Artifact:
    """As if trained on ``sounds``, in turn of each class."""
    names = artifact.manifest.class_names
    embeddings = [infer(artifact.net, sound, artifact.manifest.audio).embedding for sound in sounds]
    labels = [names[i % len(names)] for i in range(len(sounds))]
    reference = pd.DataFrame({"embedding": embeddings, "label": labels, "excerpts": embeddings})
    return dataclasses.replace(changed(artifact, unknown=rule), reference=reference)


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
    warm = changed(untrained, temperature=3.0)
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


def test_without_a_rule_no_sound_is_called_unknown(classifier: Classifier) -> None:
    prediction = classifier.predict(wav(noise(13)))
    assert (prediction.unknown, prediction.unknown_score) == (False, None)
    assert all((window.unknown, window.unknown_score) == (False, None) for window in prediction.windows)


def test_a_sound_unlike_every_training_clip_is_unknown_and_a_training_clip_is_not(untrained: Artifact) -> None:
    rng = np.random.default_rng(1)
    trained_on = [rng.normal(0, 0.1, 2 * RATE).astype(np.float32) for _ in range(12)]
    rule = UnknownRule(score="knn", threshold=FAMILIAR)
    classifier = Classifier(remembering(untrained, trained_on, rule), Limits())
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(2 * RATE) / RATE)
    familiar, strange = classifier.predict(wav(trained_on[0])), classifier.predict(wav(tone))
    assert not familiar.unknown
    assert strange.unknown
    assert familiar.unknown_score is not None
    assert strange.unknown_score is not None
    assert familiar.unknown_score < FAMILIAR < strange.unknown_score


def test_each_window_of_a_long_sound_is_judged_by_itself(untrained: Artifact) -> None:
    trained_on = [np.random.default_rng(i).normal(0, 0.1, 5 * RATE).astype(np.float32) for i in range(12)]
    classifier = Classifier(remembering(untrained, trained_on, UnknownRule(score="knn", threshold=FAMILIAR)), Limits())
    tone = 0.3 * np.sin(2 * np.pi * 440 * np.arange(15 * RATE) / RATE)
    tone[: 5 * RATE] = trained_on[0]
    windows = classifier.predict(wav(tone)).windows
    assert [window.unknown for window in windows[:1] + windows[2:]] == [False] + [True] * (len(windows) - 2)


def test_a_batch_answers_as_each_sound_alone_and_a_bad_one_stops_no_other(classifier: Classifier) -> None:
    sounds = [wav(noise(2)), b"nothing of the sort", wav(noise(3)), wav(noise(2)[::-1]), wav(noise(12))]
    batch = classifier.predict_many(sounds, backend="elsewhere")
    assert isinstance(batch[1], AudioError)
    for sound, answer in zip(sounds, batch, strict=True):
        if not isinstance(answer, AudioError):
            alone = classifier.predict(sound)
            assert (answer.clip_id, answer.label, answer.backend) == (alone.clip_id, alone.label, "elsewhere")
            assert answer.probabilities == pytest.approx(alone.probabilities, abs=1e-5)
            assert len(answer.windows) == len(alone.windows)
    assert classifier.predict_many([]) == []
