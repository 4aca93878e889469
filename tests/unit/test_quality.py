import dataclasses
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import scipy.signal
import soundfile
import soxr

from core.audio import Waveform, decode
from core.dataset import load_dataset
from core.quality import FRAMES_AT_ONCE, TRANSITION_STEPS, WALL_DB, _long_term_spectrum, _wall, assess, band_edge_hz

RATE = 32_000


def wave(samples: np.ndarray, rate: int = RATE) -> Waveform:
    buffer = io.BytesIO()
    soundfile.write(buffer, samples, rate, format="WAV", subtype="FLOAT")
    return decode(buffer.getvalue())


def noise(duration_s: float = 2.0, rate: int = RATE) -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, round(duration_s * rate)).astype(np.float32)


def codes(samples: np.ndarray, rate: int = RATE) -> list[str]:
    return [warning.code for warning in assess(wave(samples, rate))]


def test_a_good_recording_gets_no_warning() -> None:
    assert codes(noise()) == []


def test_silence_is_said_and_nothing_else_about_it() -> None:
    assert codes(np.zeros(2 * RATE)) == ["silent"]
    assert codes(noise() * 1e-3) == ["silent"]
    assert "silent" not in codes(noise() * 1e-2)


def test_three_full_scale_samples_in_a_row_are_clipping_and_two_are_not() -> None:
    sound = noise()
    sound[100:102] = 1
    assert codes(sound) == []
    sound[102] = 1
    assert codes(sound) == ["clipped"]


def test_less_than_a_second_is_short() -> None:
    assert codes(noise(0.9)) == ["short"]
    assert codes(noise(1.1)) == []


def test_channels_against_each_other_are_noticed_and_unrelated_ones_are_not() -> None:
    left, right = noise(), np.random.default_rng(1).normal(0, 0.1, 2 * RATE)
    assert codes(np.stack([left, -0.9 * left], axis=1)) == ["channels_cancel"]
    assert codes(np.stack([left, right], axis=1)) == []


@pytest.mark.parametrize("channels", [4, 8])
def test_many_unrelated_channels_or_one_that_sounds_alone_do_not_cancel(channels: int) -> None:
    unrelated = np.random.default_rng(0).normal(0, 0.1, (2 * RATE, channels))
    alone = unrelated * (np.arange(channels) == 1)
    assert codes(unrelated) == codes(alone) == []
    assert codes(unrelated - 0.98 * unrelated.mean(axis=1, keepdims=True)) == ["channels_cancel"]


@pytest.mark.parametrize("rate", [8_000, 11_025, 16_000])
def test_a_telephones_sample_rate_is_a_band_limit_by_itself(rate: int) -> None:
    warnings = assess(wave(noise(rate=rate), rate))
    assert [warning.code for warning in warnings] == ["band_limited"]
    assert f"{rate / 2000:.1f} kHz" in warnings[0].message


@pytest.mark.parametrize("edge_hz", [3_000, 4_000, 8_000])
def test_a_wall_in_the_spectrum_is_found_where_it_is(edge_hz: int) -> None:
    narrow = soxr.resample(soxr.resample(noise(), RATE, 2 * edge_hz), 2 * edge_hz, RATE)
    assert band_edge_hz(wave(narrow)) == pytest.approx(edge_hz, rel=0.15)


def test_a_sound_too_short_for_one_frame_has_no_band_limit() -> None:
    whole = wave(noise())
    for size in (1, 255):
        assert band_edge_hz(dataclasses.replace(whole, samples=whole.samples[:size])) is None


def test_the_long_term_spectrum_is_welchs() -> None:
    sound = noise(40)  # more frames than are taken at once
    assert len(sound) // 128 > FRAMES_AT_ONCE
    _, density = scipy.signal.welch(sound, RATE, nperseg=256, detrend=False)
    expected_db = 10 * np.log10(density[1:-1])
    level_db = _long_term_spectrum(sound, 256)[1:]
    np.testing.assert_allclose(level_db - level_db.mean(), expected_db - expected_db.mean(), atol=1e-3)


@pytest.mark.parametrize(("above_db", "found"), [(WALL_DB + 0.1, True), (WALL_DB - 0.1, False)])
def test_a_wall_is_as_high_as_stated(above_db: float, found: bool) -> None:
    level_db = np.zeros(128)
    level_db[40:] = -above_db
    edge = _wall(level_db, 12, 80)
    assert (edge is not None) == found
    assert edge is None or 40 - TRANSITION_STEPS <= edge <= 40 + TRANSITION_STEPS


def test_one_step_of_sound_above_a_wall_takes_it_away() -> None:
    level_db = np.zeros(128)
    level_db[40:] = -60
    assert _wall(level_db, 12, 80) is not None
    level_db[120] = -10
    assert _wall(level_db, 12, 80) is None


@pytest.mark.parametrize(("missing", "found"), [(2, True), (4, False)])
def test_gaps_in_the_octave_below_a_wall_are_forgiven_up_to_the_stated_share(missing: int, found: bool) -> None:
    level_db = np.full(128, -60.0)
    level_db[:40] = 0
    level_db[22 : 22 + missing] = -60  # of about 19 steps
    assert (_wall(level_db, 36, 44) is not None) == found


def test_a_gain_changes_no_band_edge() -> None:
    narrow = soxr.resample(soxr.resample(noise(), RATE, 8_000), 8_000, RATE)
    assert band_edge_hz(wave(narrow)) == band_edge_hz(wave(narrow * 0.01))


def test_a_low_sound_that_falls_off_gently_is_not_band_limited() -> None:
    sections = scipy.signal.butter(1, 200, fs=RATE, output="sos")
    assert codes(np.asarray(scipy.signal.sosfilt(sections, noise()))) == []


def test_a_whistle_is_not_band_limited() -> None:
    whistle = 0.3 * np.sin(2 * np.pi * 3_000 * np.arange(2 * RATE) / RATE) + noise() * 1e-4
    assert codes(whistle) == []


def test_a_file_that_breaks_off_is_said() -> None:
    buffer = io.BytesIO()
    soundfile.write(buffer, noise(4), RATE, format="WAV", subtype="PCM_16")
    half = decode(buffer.getvalue()[:130_000])
    assert [warning.code for warning in assess(half)] == ["truncated"]


def test_every_message_says_what_and_what_to_do() -> None:
    for sound in (np.zeros(RATE), noise(0.5), np.ones(2 * RATE)):
        for warning in assess(wave(sound)):
            assert warning.message.count(".") >= 2
            assert warning.message[0].isupper()


@pytest.fixture(scope="module")
def real_waves(esc10_dir: Path) -> list[Waveform]:
    return [decode(clip.path.read_bytes()) for clip in load_dataset(esc10_dir).clips[::5]]


def low_passed(sound: np.ndarray, edge_hz: int, *, by_filter: bool) -> np.ndarray:
    if by_filter:
        sections = scipy.signal.butter(12, edge_hz, fs=RATE, output="sos")
        return np.asarray(scipy.signal.sosfilt(sections, sound), dtype=np.float32)
    return np.asarray(soxr.resample(soxr.resample(sound, RATE, 2 * edge_hz), 2 * edge_hz, RATE))


def test_few_real_clips_get_a_warning(real_waves: list[Waveform]) -> None:
    """All 400: 7 band-limited, 6 clipped, nothing else."""
    found = Counter(warning.code for one in real_waves for warning in assess(one))
    assert set(found) <= {"band_limited", "clipped"}
    assert found["band_limited"] <= 0.05 * len(real_waves)
    assert found["clipped"] <= 0.05 * len(real_waves)


@pytest.mark.parametrize("edge_hz", [4_000, 8_000])
@pytest.mark.parametrize("by_filter", [True, False])
def test_most_real_clips_are_noticed_when_low_passed(real_waves: list[Waveform], edge_hz: int, by_filter: bool) -> None:
    """All 400: 99 % by a Butterworth filter, 100 % by resampling."""
    narrowed = [
        dataclasses.replace(one, samples=low_passed(one.samples, edge_hz, by_filter=by_filter))
        for one in real_waves[::2]
    ]
    assert np.mean([band_edge_hz(one) is not None for one in narrowed]) >= 0.95
