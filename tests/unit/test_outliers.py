import numpy as np
import pytest
import torch

from core.outliers import PEAK, _blows, _words, outliers
from core.synthetic import far_sounds

RATE = 32_000


def test_outliers_are_a_pure_function_of_their_arguments() -> None:
    torch.manual_seed(1)
    one = outliers(3, RATE, RATE, seed=5)
    torch.manual_seed(2)
    assert torch.equal(one, outliers(3, RATE, RATE, seed=5))
    assert not torch.equal(one, outliers(3, RATE, RATE, seed=6))


@pytest.mark.parametrize("samples", [RATE // 10, RATE // 2, 5 * RATE])
def test_outliers_are_finite_of_the_length_asked_for_and_peak_at_half_of_full_scale(samples: int) -> None:
    made = outliers(8, samples, RATE, seed=0)
    assert made.shape == (8, samples)
    assert made.dtype == torch.float32
    assert bool(made.isfinite().all())
    torch.testing.assert_close(made.abs().amax(dim=1), torch.full((8,), PEAK))


def test_outliers_are_of_many_kinds() -> None:
    made = outliers(40, RATE, RATE, seed=1)
    power = torch.fft.rfft(made).abs() ** 2
    flatness = torch.exp((power + 1e-9).log().mean(dim=1)) / power.mean(dim=1)
    hz = torch.fft.rfftfreq(RATE, 1 / RATE)
    centroid = (power * hz).sum(dim=1) / power.sum(dim=1)
    assert float(flatness.min()) < 0.001  # voices
    assert float(flatness.max()) > 0.1  # hiss
    assert float(centroid.quantile(0.9) / centroid.quantile(0.1)) > 5


def test_blows_ring_down_and_words_pause() -> None:
    rng = torch.Generator().manual_seed(0)
    for made, least_db in ((_blows(2 * RATE, RATE, rng), 15.0), (_words(2 * RATE, RATE, rng), 15.0)):
        level_db = 10 * torch.log10(made.unfold(0, 640, 640).square().mean(dim=1) + 1e-12)
        assert float(level_db.quantile(0.95) - level_db.quantile(0.05)) > least_db


def test_no_outlier_is_a_sound_that_unknown_scores_are_measured_on() -> None:
    made = outliers(20, RATE, RATE, seed=2).numpy()
    for _, sound in far_sounds(1, RATE, seed=1):
        far = sound[:RATE] / max(float(np.abs(sound[:RATE]).max()), 1e-9)
        norms = np.linalg.norm(made, axis=1) * max(float(np.linalg.norm(far)), 1e-9)
        assert np.all(np.abs(made[:, : far.size] @ far) / norms < 0.9)
