import io

import matplotlib.image
import numpy as np
import pytest
import soundfile

from core.artifact import Artifact
from core.classifier import Classifier
from core.config import Limits
from core.explain import explain
from core.figures.picture import _subtitle, _title, result_picture
from core.figures.training import confusion_picture, spectrogram_picture


@pytest.mark.parametrize("duration_s", [0.3, 2, 14])
def test_the_result_is_one_png_of_1600_by_1200(untrained: Artifact, duration_s: float) -> None:
    buffer = io.BytesIO()
    noise = np.random.default_rng(0).normal(0, 0.1, round(duration_s * 16_000))
    soundfile.write(buffer, noise, 16_000, format="WAV")
    classifier = Classifier(untrained, Limits())
    prediction, wave = classifier.predict(buffer.getvalue()), classifier.decode(buffer.getvalue())
    png = result_picture(prediction, wave, explain(classifier, wave.samples), top_k=3)
    pixels = matplotlib.image.imread(io.BytesIO(png), format="png")
    assert pixels.shape[:2] == (1200, 1600)
    assert pixels[..., :3].std() > 0.1  # something is drawn


def test_a_picture_of_an_unknown_sound_is_confident_of_nothing(untrained: Artifact) -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, np.random.default_rng(0).normal(0, 0.1, 16_000), 16_000, format="WAV")
    known = Classifier(untrained, Limits()).predict(buffer.getvalue()).model_copy(update={"unknown": False})
    assert "confident" in _subtitle(known)
    unknown = known.model_copy(update={"unknown": True})
    assert _title(unknown).startswith("None of the three classes · closest: ")
    assert "confident" not in _subtitle(unknown)
    assert "for the closest, if it had to choose" in _subtitle(unknown)


def test_a_confusion_picture_counts_in_rgb() -> None:
    picture = confusion_picture([(0, 0), (0, 1), (1, 1)], ("dog", "rain"))
    assert picture.dtype == np.uint8
    assert picture.ndim == 3
    assert picture.shape[2] == 3


def test_a_confusion_picture_grows_until_its_labels_fit() -> None:
    def height(classes: int) -> int:
        names = [f"washing_machine_{k}" for k in range(classes)]
        return int(confusion_picture([(k, k) for k in range(classes)], names).shape[0])

    assert height(2) == height(10) == 600
    assert height(50) / 50 > 16  # pixels a class: more than a label's eleven


def test_a_spectrogram_picture_shows_masks_as_they_are() -> None:
    features = np.random.default_rng(0).normal(0, 1, (64, 100)).astype(np.float32)
    masked = features.copy()
    masked[:, 40:60] = 0
    assert not np.array_equal(spectrogram_picture(features, "a"), spectrogram_picture(masked, "a"))
