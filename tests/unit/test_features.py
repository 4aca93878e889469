import librosa
import numpy as np
import pytest
import torch

from core.config import AudioConfig, FeatureConfig
from core.errors import SettingsError
from core.features import LevelNorm, LogMel

AUDIO, FEATURES = AudioConfig(), FeatureConfig()


@pytest.fixture(scope="module")
def log_mel() -> LogMel:
    return LogMel(AUDIO, FEATURES)


def noise(duration_s: float, seed: int = 0) -> np.ndarray:
    count = round(duration_s * AUDIO.sample_rate_hz)
    return np.random.default_rng(seed).uniform(-0.5, 0.5, count).astype(np.float32)


@pytest.mark.parametrize("duration_s", [0.25, 1.0, 5.0])
def test_log_mel_agrees_with_librosa(log_mel: LogMel, duration_s: float) -> None:
    samples = noise(duration_s)
    power = librosa.feature.melspectrogram(
        y=samples,
        sr=AUDIO.sample_rate_hz,
        n_fft=FEATURES.n_fft,
        hop_length=FEATURES.hop_samples,
        n_mels=FEATURES.n_mels,
        fmin=FEATURES.f_min_hz,
        fmax=FEATURES.f_max_hz,
        pad_mode="constant",
    )
    expected = librosa.power_to_db(power, ref=1.0, amin=1e-10, top_db=None)
    ours = log_mel(torch.from_numpy(samples)[None])[0, 0].numpy()
    assert ours.shape == expected.shape
    np.testing.assert_allclose(ours, expected, atol=0.01)


def test_a_tone_is_loudest_in_the_band_centred_nearest_to_it(log_mel: LogMel) -> None:
    for hz in (200.0, 1_000.0, 8_000.0):
        time_s = np.arange(AUDIO.sample_rate_hz) / AUDIO.sample_rate_hz
        tone = torch.from_numpy(np.sin(2 * np.pi * hz * time_s).astype(np.float32))
        loudest = int(log_mel(tone[None])[0, 0].mean(dim=1).argmax())
        assert loudest == int(np.abs(log_mel.centres_hz() - hz).argmin())


def test_a_batch_gives_what_its_rows_give_alone(log_mel: LogMel) -> None:
    rows = torch.from_numpy(np.stack([noise(1.0, seed) for seed in range(3)]))
    together = log_mel(rows)
    for row, expected in zip(rows, together, strict=True):
        torch.testing.assert_close(log_mel(row[None])[0], expected)


def test_digital_silence_is_finite_everywhere(log_mel: LogMel) -> None:
    quiet = log_mel(torch.zeros(1, AUDIO.sample_rate_hz))
    assert torch.all(quiet == -100.0)
    assert torch.isfinite(LevelNorm(80.0)(quiet)).all()


@pytest.mark.parametrize("gain_db", [-20.0, 20.0])
def test_level_normalisation_forgets_the_recording_gain(log_mel: LogMel, gain_db: float) -> None:
    norm = LevelNorm(FEATURES.top_db)
    samples = torch.from_numpy(noise(1.0))[None]
    torch.testing.assert_close(norm(log_mel(samples * 10 ** (gain_db / 20))), norm(log_mel(samples)), atol=1e-4, rtol=0)


def test_padding_with_digital_silence_leaves_the_sounding_frames_alone(log_mel: LogMel) -> None:
    norm = LevelNorm(FEATURES.top_db)
    samples = torch.from_numpy(noise(1.0))[None]
    alone = norm(log_mel(samples))
    padded = norm(log_mel(torch.nn.functional.pad(samples, (0, AUDIO.sample_rate_hz))))
    inside = alone.shape[3] - 3  # the last frames reach into the padding
    torch.testing.assert_close(padded[..., :inside], alone[..., :inside], atol=0.02, rtol=0)


def test_a_band_above_half_the_sample_rate_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"f_max_hz ≤ 16000 Hz .* Lower f_max_hz"):
        LogMel(AUDIO, FeatureConfig(f_max_hz=20_000))
