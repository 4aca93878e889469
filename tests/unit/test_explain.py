import numpy as np
import pytest
import torch
from captum.attr import LayerGradCam

from core.artifact import Artifact
from core.classifier import Classifier
from core.errors import EarshotError
from core.explain import Stage, explain
from core.inference import infer, softmax

RATE = 32_000


@pytest.fixture
def sound() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 2 * RATE).astype(np.float32)


@pytest.fixture
def classifier(untrained: Artifact) -> Classifier:
    from core.config import Limits

    return Classifier(untrained, Limits())


def test_every_stage_is_reported_with_its_shape(classifier: Classifier, sound: np.ndarray) -> None:
    explained = explain(classifier, sound)
    assert [stage.name for stage in explained.stages] == list(classifier.net.stage_names)
    for stage in explained.stages:
        assert stage.cam.shape == stage.maps.shape[1:] == stage.mean_map.shape
        assert stage.maps.min() >= 0
        assert 0 <= stage.cam.min() <= stage.cam.max() <= 1 + 1e-6
    assert explained.log_mel.shape == (
        classifier.manifest.features.n_mels,
        1 + sound.size // classifier.manifest.features.hop_samples,
    )
    assert explained.mel_hz.shape == (classifier.manifest.features.n_mels,)


@pytest.mark.parametrize("name", ["stem", "stage1", "stage2"])
def test_grad_cam_agrees_with_captum_at_every_stage(classifier: Classifier, sound: np.ndarray, name: str) -> None:
    net, label = classifier.net, classifier.manifest.class_names[1]
    features = net.front_end(torch.from_numpy(sound)[None])
    layer = net.stages[name]
    oracle = LayerGradCam(lambda x: net.classify(x).logits, layer)
    expected = oracle.attribute(features.requires_grad_(), target=1, relu_attributions=True)[0, 0].detach().numpy()
    ours = explain(classifier, sound, label=label).stage(name).cam
    np.testing.assert_allclose(ours * expected.max(), expected, atol=1e-5 * max(1.0, float(expected.max())))


def test_the_default_is_the_class_the_network_answers(classifier: Classifier, sound: np.ndarray) -> None:
    with torch.no_grad():
        logits = classifier.net(torch.from_numpy(sound)[None]).logits[0]
    explained = explain(classifier, sound)
    assert explained.label == classifier.manifest.class_names[int(logits.argmax())]
    assert explained.probability == pytest.approx(float(logits.softmax(0).max()), abs=1e-6)


def test_a_window_of_long_audio_is_explained_like_the_same_stretch_alone(classifier: Classifier) -> None:
    long = np.random.default_rng(1).normal(0, 0.1, 14 * RATE).astype(np.float32)
    explained = explain(classifier, long, window=1)
    start, end = round(explained.start_s * RATE), round(explained.end_s * RATE)
    assert (explained.start_s, explained.end_s) == (2.5, 7.5)
    alone = explain(classifier, long[start:end], label=explained.label)
    np.testing.assert_allclose(explained.stages[-1].cam, alone.stages[-1].cam, atol=1e-5)


def test_what_a_window_rests_on_is_told_in_the_time_of_the_sound(classifier: Classifier) -> None:
    long = np.random.default_rng(1).normal(0, 0.1, 14 * RATE).astype(np.float32)
    later = explain(classifier, long, window=1, occlusion=True)
    alone = explain(classifier, long[round(2.5 * RATE) : round(7.5 * RATE)], label=later.label, occlusion=True)
    assert later.occlusion is not None
    assert alone.occlusion is not None
    assert later.occlusion.least_s == pytest.approx([2.5 + edge for edge in alone.occlusion.least_s])
    assert 2.5 <= later.occlusion.least_s[0] < later.occlusion.least_s[1] <= 7.5


def test_explaining_leaves_no_gradients_behind(classifier: Classifier, sound: np.ndarray) -> None:
    explain(classifier, sound)
    assert all(parameter.grad is None for parameter in classifier.net.parameters())


def test_silence_is_explained_without_nan(classifier: Classifier) -> None:
    explained = explain(classifier, np.zeros(RATE, dtype=np.float32))
    assert all(np.isfinite(stage.cam).all() for stage in explained.stages)


@pytest.mark.parametrize(("asked", "code"), [({"label": "zebra"}, "no_such_class"), ({"window": 7}, "no_such_window")])
def test_a_label_or_window_that_does_not_exist_is_named(
    classifier: Classifier, sound: np.ndarray, asked: dict[str, object], code: str
) -> None:
    with pytest.raises(EarshotError, match="Expected") as caught:
        explain(classifier, sound, **asked)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_strongest_channels_are_those_with_the_highest_mean() -> None:
    maps = np.zeros((3, 2, 2), dtype=np.float32)
    maps[0], maps[2] = 0.5, 0.9
    stage = Stage("stage1", maps, np.zeros((2, 2), dtype=np.float32))
    assert stage.strongest(2) == [2, 0]
    assert stage.strength.tolist() == pytest.approx([0.5, 0, 0.9])


def test_the_timeline_hears_each_second_alone(classifier: Classifier, sound: np.ndarray) -> None:
    timeline = explain(classifier, sound, timeline=True).timeline
    assert [(w.start_s, w.end_s) for w in timeline] == [(0, 1), (0.25, 1.25), (0.5, 1.5), (0.75, 1.75), (1, 2)]
    logits = infer(classifier.net, sound[RATE // 2 : RATE * 3 // 2], classifier.manifest.audio).logits
    np.testing.assert_allclose(timeline[2].probabilities, softmax(logits, classifier.manifest.temperature), atol=1e-5)


@pytest.mark.parametrize(
    ("samples", "ends"),
    [(RATE // 2, [0.5]), (RATE, [1.0]), (RATE + 1_000, [1.03125]), (RATE * 3 // 2 + 32, [1.0, 1.25, 1.501])],
)
def test_the_timeline_ends_with_the_sound(classifier: Classifier, samples: int, ends: list[float]) -> None:
    quiet = np.random.default_rng(1).normal(0, 0.1, samples).astype(np.float32)
    assert [window.end_s for window in explain(classifier, quiet, timeline=True).timeline] == ends


def test_the_timeline_of_a_long_sound_is_of_its_window(classifier: Classifier) -> None:
    noise = np.random.default_rng(1).normal(0, 0.1, 12 * RATE).astype(np.float32)
    explained = explain(classifier, noise, window=1, timeline=True)
    assert (explained.timeline[0].start_s, explained.timeline[-1].end_s) == (explained.start_s, explained.end_s)


def test_neither_timeline_nor_occlusion_is_worked_out_unasked(classifier: Classifier, sound: np.ndarray) -> None:
    explained = explain(classifier, sound)
    assert explained.timeline == ()
    assert explained.occlusion is None
