import numpy as np

from core.audio import decode, write_wav
from core.excerpts import EXCERPTS_S, excerpts, loudest_part


def test_the_loudest_part_is_where_the_sound_is_and_no_longer_than_asked_for() -> None:
    samples = np.zeros(1_000, dtype=np.float32)
    samples[612:700] = 0.5
    assert np.flatnonzero(loudest_part(samples, 100, 1)).size == 88
    assert np.array_equal(loudest_part(samples, 100, 10), samples[600:700])
    assert np.array_equal(loudest_part(samples, 2_000, 10), samples)


def test_excerpts_are_of_their_lengths_and_a_short_sound_is_its_own() -> None:
    noise = np.random.default_rng(0).normal(0, 0.1, 4 * 32_000).astype(np.float32)
    long, short = (decode(write_wav(samples, 32_000)) for samples in (noise, noise[:24_000]))
    assert [part.size for part in excerpts(long)] == [round(seconds * 32_000) for seconds in EXCERPTS_S]
    assert [part.size for part in excerpts(short)] == [24_000, 24_000, 16_000]
