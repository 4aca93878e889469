import math

import librosa
import numpy as np
import pyloudnorm
import pytest

from core.descriptors import ACTIVE_DB, DESCRIPTORS, FRAME, HOP, MEL_BANDS, NAMES, describe

RATE = 32_000


def noise(duration_s: float = 2.0, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(0, 0.1, round(duration_s * RATE)).astype(np.float32)


def tone(hz: float, duration_s: float = 2.0, peak: float = 0.5) -> np.ndarray:
    return (peak * np.sin(2 * np.pi * hz * np.arange(round(duration_s * RATE)) / RATE)).astype(np.float32)


def test_the_table_names_every_descriptor_once_with_a_unit_and_a_meaning() -> None:
    assert tuple(describe(noise(), RATE)) == NAMES
    assert len(set(NAMES)) == len(DESCRIPTORS)
    assert all(descriptor.unit and descriptor.meaning for descriptor in DESCRIPTORS)


@pytest.mark.parametrize(
    ("name", "oracle"),
    [
        ("spectral_centroid_hz", librosa.feature.spectral_centroid),
        ("spectral_bandwidth_hz", librosa.feature.spectral_bandwidth),
        ("spectral_rolloff_hz", librosa.feature.spectral_rolloff),
    ],
)
def test_spectral_descriptors_agree_with_librosa(name: str, oracle: object) -> None:
    sound = noise() + tone(900)
    expected = float(oracle(y=sound, sr=RATE, n_fft=FRAME, hop_length=HOP, center=False).mean())  # type: ignore[operator]
    assert describe(sound, RATE)[name] == pytest.approx(expected, rel=0.01)


def test_flatness_agrees_with_librosa() -> None:
    expected = float(librosa.feature.spectral_flatness(y=noise(), n_fft=FRAME, hop_length=HOP, center=False).mean())
    assert describe(noise(), RATE)["spectral_flatness"] == pytest.approx(expected, rel=0.01)


def test_loudness_agrees_with_pyloudnorm() -> None:
    expected = pyloudnorm.Meter(RATE).integrated_loudness(noise().astype(np.float64))
    assert describe(noise(), RATE)["loudness_lufs"] == pytest.approx(expected, abs=0.01)


def test_levels_of_a_sine_are_those_of_the_textbook() -> None:
    values = describe(tone(1_000, peak=0.5), RATE)
    assert values["peak_dbfs"] == pytest.approx(20 * math.log10(0.5), abs=0.01)
    assert values["rms_dbfs"] == pytest.approx(20 * math.log10(0.5 / math.sqrt(2)), abs=0.01)
    assert values["crest_factor_db"] == pytest.approx(3.01, abs=0.01)
    assert values["zero_crossing_rate"] == pytest.approx(2_000 / RATE, rel=0.01)
    assert values["spectral_flatness"] < 0.01


@pytest.mark.parametrize("gain_db", [-20, 20])
def test_gain_moves_levels_by_as_much_and_leaves_the_spectrums_shape(gain_db: float) -> None:
    before, after = describe(noise(), RATE), describe(noise() * 10 ** (gain_db / 20), RATE)
    for descriptor in DESCRIPTORS:
        moved = after[descriptor.name] - before[descriptor.name]
        expected = gain_db if descriptor.unit in {"dBFS", "LUFS"} or descriptor.name.startswith("mel_band") else 0
        assert moved == pytest.approx(expected, abs=0.02 * abs(before[descriptor.name]) + 1e-3), descriptor.name


def test_a_tone_is_in_the_band_that_holds_it() -> None:
    values = describe(tone(200), RATE)
    bands = [values[f"mel_band_{band}_db"] for band in range(1, MEL_BANDS + 1)]
    assert int(np.argmax(bands)) == 0


def test_padding_with_silence_lowers_activity_and_leaves_the_spectrum() -> None:
    padded = np.concatenate([noise(), np.zeros(2 * RATE, dtype=np.float32)])
    before, after = describe(noise(), RATE), describe(padded, RATE)
    assert after["active_fraction"] == pytest.approx(0.5, abs=0.03)
    assert after["spectral_centroid_hz"] == pytest.approx(before["spectral_centroid_hz"], rel=0.02)
    assert ACTIVE_DB == 60


def test_silence_has_no_spectrum_and_no_level() -> None:
    values = describe(np.zeros(RATE, dtype=np.float32), RATE)
    assert values["active_fraction"] == 0
    assert all(math.isnan(value) for name, value in values.items() if name != "active_fraction")


@pytest.mark.parametrize("samples", [1, 2, 100, FRAME - 1, FRAME])
def test_however_short_a_sound_is_described(samples: int) -> None:
    values = describe(noise()[:samples], RATE)
    assert math.isfinite(values["rms_dbfs"])
    assert math.isfinite(values["spectral_centroid_hz"]) == (samples > 1)  # the window is 0 at its first sample
    assert math.isnan(values["loudness_lufs"])
