import math

import librosa
import numpy as np
import pyloudnorm
import pytest

from core.descriptors import (
    ACTIVE_DB,
    DESCRIPTORS,
    FRAME,
    FRAMES_AT_ONCE,
    HOP,
    MEL_BANDS,
    NAMES,
    _frame_spectra,
    describe,
)

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


SOUNDS = {
    "noise": noise(),
    "tone": tone(15_000),
    "tone in noise": noise() + tone(900),
    "low": np.cumsum(noise()).astype(np.float32) / 50,
    "clicks": np.where(np.arange(2 * RATE) % 800 == 0, 0.9, 0).astype(np.float32) + noise() * np.float32(0.01),
    "faint": noise() * np.float32(1e-3),
    "loud": noise() * np.float32(1e5),
}


@pytest.mark.parametrize("rate", [8_000, RATE])
@pytest.mark.parametrize("kind", SOUNDS)
def test_every_frame_agrees_with_librosa(kind: str, rate: int) -> None:
    sound = SOUNDS[kind]
    ours = _frame_spectra(sound, rate)
    magnitude = np.abs(librosa.stft(sound, n_fft=FRAME, hop_length=HOP, center=False))
    options = {"S": magnitude, "sr": rate, "n_fft": FRAME}
    bin_hz = rate / FRAME
    centroid = librosa.feature.spectral_centroid(**options)[0]
    bandwidth = librosa.feature.spectral_bandwidth(**options)[0]
    rolloff = librosa.feature.spectral_rolloff(**options)[0]
    flatness = librosa.feature.spectral_flatness(S=magnitude)[0]
    np.testing.assert_allclose(ours.energy, (magnitude**2).sum(axis=0), rtol=1e-4)
    np.testing.assert_allclose(ours.centroid_hz, centroid, rtol=1e-3, atol=0.01)
    np.testing.assert_allclose(ours.bandwidth_hz, bandwidth, rtol=1e-3, atol=0.25 * bin_hz)  # of a tone: rounding's
    np.testing.assert_allclose(ours.rolloff_hz, rolloff, atol=1.01 * bin_hz)
    assert np.mean(np.abs(ours.rolloff_hz - rolloff) < 0.01) > 0.9  # a sum in another order may fall a bin aside
    np.testing.assert_allclose(ours.flatness, flatness, rtol=1e-3, atol=1e-6)


def test_zero_crossings_agree_with_librosa() -> None:
    sound = noise() + tone(300)
    expected = librosa.zero_crossings(sound, pad=False).sum() / (sound.size - 1)
    assert describe(sound, RATE)["zero_crossing_rate"] == pytest.approx(expected)


def test_the_signs_of_zeros_are_no_crossings() -> None:
    sound = np.zeros(RATE, dtype=np.float32)
    sound[1::2] = -0.0
    sound[100] = 0.5
    assert describe(sound, RATE)["zero_crossing_rate"] == 0


def test_the_bands_share_out_the_power_of_the_clip() -> None:
    sound = noise()
    values = describe(sound, RATE)
    widths = np.diff(librosa.mel_frequencies(MEL_BANDS + 1, fmin=0, fmax=RATE / 2)) / (RATE / 2)
    levels = np.array([values[f"mel_band_{band}_db"] for band in range(1, MEL_BANDS + 1)])
    hann_power = 3 / 8
    assert 10 * np.log10(widths @ 10 ** (levels / 10)) == pytest.approx(
        values["rms_dbfs"] + 10 * np.log10(hann_power), abs=0.1
    )


@pytest.mark.parametrize("size", [FRAME * 3, FRAME * 3 + HOP - 1, FRAME + HOP * (FRAMES_AT_ONCE * 2 + 1)])
def test_frames_taken_in_parts_are_those_of_the_whole(size: int) -> None:
    sound = noise(10)[:size]
    assert _frame_spectra(sound, RATE).energy.size == 1 + (size - FRAME) // HOP


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_loudness_agrees_with_pyloudnorm_at_other_rates(rate: int) -> None:
    for size in (round(0.4 * rate), round(0.55 * rate), 2 * rate):
        sound = noise()[:size]
        expected = pyloudnorm.Meter(rate).integrated_loudness(sound.astype(np.float64))
        assert describe(sound, rate)["loudness_lufs"] == pytest.approx(expected, abs=1e-6)


def test_a_full_scale_sine_at_1_khz_has_the_loudness_of_the_standard() -> None:
    assert describe(tone(997, peak=1.0), RATE)["loudness_lufs"] == pytest.approx(-3.01, abs=0.05)  # BS.1770-4


def test_what_is_too_faint_for_the_gate_has_no_loudness() -> None:
    values = describe(noise() * np.float32(1e-4), RATE)
    assert math.isnan(values["loudness_lufs"])
    assert values["rms_dbfs"] == pytest.approx(-100, abs=0.1)


def test_a_constant_offset_is_a_spectrum_at_zero() -> None:
    values = describe(np.full(RATE, 0.25, dtype=np.float32), RATE)
    assert values["rms_dbfs"] == values["peak_dbfs"] == pytest.approx(20 * math.log10(0.25))
    assert values["crest_factor_db"] == 0
    assert values["zero_crossing_rate"] == 0
    assert values["spectral_centroid_hz"] < RATE / FRAME
    assert values["spectral_rolloff_hz"] < 2 * RATE / FRAME
    assert values["mel_band_1_db"] > values["mel_band_2_db"] + 40
    assert values["loudness_lufs"] < values["rms_dbfs"] - 20  # the weighting leaves its onset


@pytest.mark.parametrize("scale", [1e-42, 1e-30, 1e-12, 2.0**31])
def test_no_level_is_too_low_or_too_high_to_describe(scale: float) -> None:
    sound = (np.sign(noise()) * scale).astype(np.float32)
    values = describe(sound, RATE)
    assert values["rms_dbfs"] == pytest.approx(20 * math.log10(scale), abs=0.1)
    assert not any(math.isinf(value) for value in values.values())


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
