import numpy as np
import pytest

from core.synthetic import FAR, far_sounds

RATE = 16_000


@pytest.mark.parametrize("kind", FAR)
def test_every_kind_is_a_finite_sound_below_full_scale(kind: str) -> None:
    for seed in range(5):
        sound = FAR[kind](RATE, 1.5, np.random.default_rng(seed))
        assert sound.shape == (24_000,)
        assert sound.dtype == np.float32
        assert np.isfinite(sound).all()
        assert 0 < np.abs(sound).max() <= 0.5 + 1e-6


def test_a_sound_is_the_same_whatever_is_made_beside_it() -> None:
    one = dict(far_sounds(1, RATE, seconds=0.5))
    three = list(far_sounds(3, RATE, seconds=0.5))
    assert len(three) == 3 * len(FAR)
    for position, name in enumerate(FAR):
        np.testing.assert_array_equal(three[3 * position][1], one[name])


def test_sounds_of_a_kind_differ() -> None:
    for kind in FAR:
        a, b = (sound for name, sound in far_sounds(2, RATE, seconds=0.5) if name == kind)
        assert not np.array_equal(a, b), kind
