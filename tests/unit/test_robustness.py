import numpy as np
import pytest

from core.robustness import CONDITIONS, add_noise, clip, crop, degraded, encode_mp3, gain, low_pass, mp3

RATE = 32_000


@pytest.fixture
def sound() -> np.ndarray:
    return np.random.default_rng(0).normal(0, 0.1, 3 * RATE).astype(np.float32)


def level_db(samples: np.ndarray) -> float:
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64))))


@pytest.mark.parametrize("name", CONDITIONS)
def test_every_condition_keeps_a_sound_a_sound(sound: np.ndarray, name: str) -> None:
    (out,) = degraded(name, [sound], RATE)
    assert out.dtype == np.float32
    assert np.isfinite(out).all()
    assert out.size in {sound.size, RATE} or abs(out.size - sound.size) < 4_000  # MP3 pads its frames


@pytest.mark.parametrize("snr_db", [20.0, 0.0])
def test_noise_is_as_far_below_the_sound_as_it_says(sound: np.ndarray, snr_db: float) -> None:
    noise = add_noise(snr_db)(sound, RATE, np.random.default_rng(1)) - sound
    assert level_db(sound) - level_db(noise) == pytest.approx(snr_db, abs=0.1)


def test_a_low_pass_keeps_what_is_below_and_removes_what_is_above(sound: np.ndarray) -> None:
    power = np.abs(np.fft.rfft(low_pass(4_000)(sound, RATE, np.random.default_rng(0)))) ** 2
    before = np.abs(np.fft.rfft(sound)) ** 2
    hz = np.fft.rfftfreq(sound.size, 1 / RATE)
    assert power[hz < 3_000].sum() == pytest.approx(before[hz < 3_000].sum(), rel=0.02)
    assert power[hz > 6_000].sum() < before[hz > 6_000].sum() * 1e-3


def test_gain_moves_the_level_and_nothing_else(sound: np.ndarray) -> None:
    assert level_db(gain(20)(sound, RATE, np.random.default_rng(0))) - level_db(sound) == pytest.approx(20, abs=1e-3)


def test_overdrive_puts_many_samples_at_full_scale(sound: np.ndarray) -> None:
    out = clip(sound, RATE, np.random.default_rng(0))
    assert np.mean(np.abs(out) >= 0.999) > 0.2


def test_a_crop_is_one_second_from_inside_the_sound(sound: np.ndarray) -> None:
    padded = np.concatenate([np.zeros(RATE, np.float32), sound, np.zeros(RATE, np.float32)])
    starts = set()
    for seed in range(20):
        out = crop(padded, RATE, np.random.default_rng(seed))
        assert out.size == RATE
        (start,) = (i for i in range(padded.size - RATE + 1) if np.array_equal(padded[i : i + RATE], out))
        starts.add(start)
        assert RATE <= start <= padded.size - 2 * RATE  # in none of the silence
        assert level_db(out) == pytest.approx(level_db(sound), abs=1)
    assert len(starts) > 10


def test_a_crop_of_less_than_a_second_is_all_of_it() -> None:
    short = np.ones(100, dtype=np.float32)
    np.testing.assert_array_equal(crop(short, RATE, np.random.default_rng(0)), short)


def test_mp3_comes_back_as_the_same_sound_within_its_bit_rate(sound: np.ndarray) -> None:
    time_s = np.arange(2 * RATE) / RATE
    tone = (0.3 * np.sin(2 * np.pi * 1_000 * time_s)).astype(np.float32)
    out = mp3(64_000)(tone, RATE, np.random.default_rng(0))
    assert level_db(out[:RATE]) == pytest.approx(level_db(tone[:RATE]), abs=0.5)
    assert len(encode_mp3(tone, RATE, 64_000)) == pytest.approx(2 * 64_000 / 8, rel=0.15)


def test_the_random_numbers_of_a_clip_do_not_depend_on_its_neighbours(sound: np.ndarray) -> None:
    other = sound[::-1].copy()
    name = "white noise, 10 dB SNR"
    np.testing.assert_array_equal(degraded(name, [sound, other], RATE)[0], degraded(name, [sound], RATE)[0])
