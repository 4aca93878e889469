import hashlib
import io
import tomllib
from pathlib import Path

import numpy as np
import pytest
import soundfile
import streamlit as st

from app import drift_input, records_input, services, theme
from app.services.sounds import Sound
from core.backend import LocalBackend
from core.classifier import Classifier
from core.config import ROOT, Limits
from core.errors import AudioError
from tests.synthetic_dataset import write_dataset


def tone(hz: float) -> Sound:
    file = io.BytesIO()
    samples = 0.3 * np.sin(2 * np.pi * hz * np.arange(32_000) / 32_000)
    soundfile.write(file, samples, 32_000, format="WAV")
    return Sound.of(f"{hz:g}.wav", file.getvalue())


class Counting(LocalBackend):
    """Counts the sounds that were really classified."""

    asked = 0

    def classify(self, sounds):
        self.asked += len(sounds)
        return super().classify(sounds)


@pytest.fixture
def backend(artifact: Path) -> Counting:
    st.cache_resource.clear()
    return Counting(Classifier.from_artifact(artifact))


def test_a_sound_is_known_by_its_bytes() -> None:
    sound = Sound.of("a.wav", b"bytes")
    assert sound.digest == hashlib.sha256(b"bytes").hexdigest() == Sound.of("b.wav", b"bytes").digest


def test_the_same_bytes_are_classified_once(backend: Counting) -> None:
    first = services.sounds.classify(backend, tone(440))
    renamed = Sound.of("other.wav", tone(440).data)
    assert services.sounds.classify(backend, renamed) is first
    assert services.sounds.classify(backend, tone(441)) is not first
    assert backend.asked == 2


def test_an_error_is_raised_again_and_not_remembered(backend: Counting) -> None:
    for _ in range(2):
        with pytest.raises(AudioError, match="empty"):
            services.sounds.classify(backend, Sound.of("empty.wav", b""))
    assert backend.asked == 2


def test_explanations_are_kept_by_class_and_window(backend: Counting) -> None:
    sound = tone(440)
    rain = services.sounds.explanation(backend, sound, label="rain", window=0)
    assert rain.label == "rain"
    assert services.sounds.explanation(backend, sound, label="rain", window=0) is rain
    assert services.sounds.explanation(backend, sound, label="dog", window=0).label == "dog"


def test_the_picture_is_a_png(backend: Counting) -> None:
    assert services.sounds.picture(backend, tone(440), 0).startswith(b"\x89PNG\r\n\x1a\n")


def test_a_replaced_model_is_loaded_anew(artifact: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "artifact"
    folder.mkdir()
    for file in artifact.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    monkeypatch.setenv("EARSHOT_ARTIFACT", str(folder))
    first = services.answering.backend()
    assert services.answering.backend() is first
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes())
    assert services.answering.backend() is not first


def test_one_clip_a_class_is_enough_to_listen_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_dataset(tmp_path, n_classes=3, folds=1, per_class_and_fold=1, duration_s=0.3)
    monkeypatch.setenv("EARSHOT_DATA_DIR", str(tmp_path))
    dataset = services.datasets.configured()
    assert dataset is not None
    assert [len(takes) for takes in services.datasets.samples(dataset).values()] == [1, 1, 1]


def test_the_palette_is_the_themes() -> None:
    colours = theme.palette()
    assert colours is not None
    assert colours[0] in (ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8")


def test_without_a_theme_there_is_no_palette(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(theme, "CONFIG", tmp_path / "none.toml")
    assert theme.palette() is None


def test_what_the_pages_offer_to_upload_passes_the_server() -> None:
    """Streamlit's server refuses more than its own limit, whatever a widget says."""
    server = tomllib.loads((ROOT / ".streamlit" / "config.toml").read_text(encoding="utf-8"))["server"]
    assert server["maxUploadSize"] >= max(drift_input.UPLOAD_MB, records_input.UPLOAD_MB, Limits().max_bytes / 2**20)
