import dataclasses
import math

import librosa
import numpy as np
import pytest
import torch

from core.augment import (
    BY_FREQUENCY,
    BY_LEVEL,
    BY_TIME,
    Bank,
    a_weighted_level,
    crop,
    draw,
    join_in_frequency,
    join_in_time,
    mask_features,
    mix,
    mix_batch,
    overdrive,
    shape_spectrum,
    soft_targets,
)
from core.config import AudioConfig, AugmentConfig, FeatureConfig
from core.outliers import outliers

AUDIO, FEATURES = AudioConfig(), FeatureConfig()
RATE = AUDIO.sample_rate_hz
PLAIN = AugmentConfig(
    crop_s=2,
    crop_spread=1,
    stretch=1,
    gain_db=0,
    mix_p=0,
    outlier_p=0,
    tilt_p=0,
    low_pass_p=0,
    high_pass_p=0,
    noise_p=0,
    reverb_p=0,
    overdrive_p=0,
    time_masks=0,
    frequency_masks=0,
)


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def bank() -> Bank:
    samples = torch.randn(6, 4 * RATE, generator=rng()) * 0.1
    return Bank(samples, torch.full((6,), 4 * RATE), torch.tensor([0, 0, 1, 1, 2, 2]))


def tone(hz: float, duration_s: float = 1.0) -> torch.Tensor:
    return torch.sin(2 * math.pi * hz * torch.arange(round(duration_s * RATE)) / RATE)


def level_db(signal: torch.Tensor) -> torch.Tensor:
    return 10 * torch.log10(signal.square().mean(dim=-1))


def test_the_same_generator_state_draws_the_same_batch(bank: Bank) -> None:
    rows = torch.arange(6)
    batches = [
        mix_batch(bank, draw(rows, bank, AugmentConfig(), AUDIO, FEATURES, rng=rng(3)), AugmentConfig(), AUDIO)
        for _ in range(2)
    ]
    assert torch.equal(*batches)


def test_partners_are_always_of_another_class(bank: Bank) -> None:
    for seed in range(20):
        drawn = draw(torch.arange(6), bank, AugmentConfig(), AUDIO, FEATURES, rng=rng(seed))
        assert torch.all(bank.targets[drawn.clips[0]] != bank.targets[drawn.clips[1]])


def test_a_bank_of_one_class_mixes_each_clip_with_itself() -> None:
    lonely = Bank(torch.randn(3, RATE), torch.full((3,), RATE), torch.zeros(3, dtype=torch.long))
    drawn = draw(torch.arange(3), lonely, AugmentConfig(), AUDIO, FEATURES, rng=rng())
    assert torch.equal(drawn.clips[0], drawn.clips[1])


def test_targets_are_shares_that_sum_to_one(bank: Bank) -> None:
    drawn = draw(torch.arange(6), bank, AugmentConfig(outlier_p=0), AUDIO, FEATURES, rng=rng())
    targets = soft_targets(bank, drawn, 3)
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(6))
    torch.testing.assert_close(targets[torch.arange(6), bank.targets], drawn.ratio)


def test_an_outlier_takes_the_place_of_the_mixture_and_belongs_to_each_class_alike(bank: Bank) -> None:
    drawn = draw(torch.arange(6), bank, PLAIN.model_copy(update={"outlier_p": 0.5}), AUDIO, FEATURES, rng=rng(1))
    assert 0 < int(drawn.outlier.sum()) < 6
    plain = dataclasses.replace(drawn, outlier=torch.zeros(6, dtype=torch.bool))
    batch, without = mix_batch(bank, drawn, PLAIN, AUDIO), mix_batch(bank, plain, PLAIN, AUDIO)
    torch.testing.assert_close(batch[~drawn.outlier], without[~drawn.outlier])
    made = outliers(int(drawn.outlier.sum()), drawn.samples, RATE, seed=drawn.outlier_seed)
    torch.testing.assert_close(batch[drawn.outlier], made, atol=1e-5, rtol=0)
    targets = soft_targets(bank, drawn, 3)
    torch.testing.assert_close(targets[drawn.outlier], torch.full_like(targets[drawn.outlier], 1 / 3))
    torch.testing.assert_close(targets[~drawn.outlier].amax(dim=1), torch.ones(int((~drawn.outlier).sum())))


def test_a_tenth_of_the_clips_are_outliers_by_default(bank: Bank) -> None:
    rows = torch.zeros(3_000, dtype=torch.long)
    drawn = draw(rows, bank, AugmentConfig(), AUDIO, FEATURES, rng=rng())
    assert float(drawn.outlier.float().mean()) == pytest.approx(0.1, abs=0.02)


def test_with_everything_off_a_batch_is_plain_crops(bank: Bank) -> None:
    drawn = draw(torch.arange(6), bank, PLAIN, AUDIO, FEATURES, rng=rng(1))
    inside = dataclasses.replace(drawn, start=torch.full((2, 6), 1_000.0))
    batch = mix_batch(bank, inside, PLAIN, AUDIO)
    torch.testing.assert_close(batch, bank.samples[:, 1_000 : 1_000 + 2 * RATE], atol=1e-5, rtol=0)


def test_a_crop_outside_the_clip_is_silent_there(bank: Bank) -> None:
    cut = crop(bank, torch.tensor([0, 0]), torch.tensor([-500.0, 4.0 * RATE - 500]), torch.ones(2), 2_000)
    assert torch.all(cut[0, :500] == 0)
    torch.testing.assert_close(cut[0, 500:], bank.samples[0, :1_500])
    torch.testing.assert_close(cut[1, :500], bank.samples[0, -500:])
    assert torch.all(cut[1, 500:] == 0)


def test_playing_faster_raises_the_pitch_by_the_rate() -> None:
    one = Bank(tone(1_000.0, 4.0)[None], torch.tensor([4 * RATE]), torch.tensor([0]))
    fast = crop(one, torch.tensor([0]), torch.tensor([0.0]), torch.tensor([1.25]), RATE)[0]
    peak_hz = int(torch.fft.rfft(fast).abs().argmax())  # 1 s: bins of 1 Hz
    assert peak_hz == pytest.approx(1_250, abs=2)


def test_the_a_weighted_level_agrees_with_librosa() -> None:
    hz = np.array([63.0, 250.0, 1_000.0, 4_000.0, 8_000.0])
    ours = torch.cat([a_weighted_level(tone(f)[None], AUDIO) for f in hz]).numpy()
    np.testing.assert_allclose(
        ours - ours[2], librosa.A_weighting(hz) - librosa.A_weighting(np.array([1_000.0])), atol=0.7
    )


def test_equally_loud_sounds_mix_in_the_ratio_drawn_and_keep_their_energy() -> None:
    first, second = tone(1_000.0)[None], tone(1_100.0)[None]
    mixed = mix(first, second, torch.tensor([0.5]), AUDIO)
    assert float(level_db(mixed) - level_db(first)) == pytest.approx(0, abs=0.1)
    spectrum = torch.fft.rfft(mixed[0]).abs()
    assert float(spectrum[1_000] / spectrum[1_100]) == pytest.approx(1, abs=0.05)


def test_a_quiet_sound_is_raised_so_that_the_ratio_is_what_is_heard() -> None:
    loud, quiet = tone(1_000.0)[None], tone(1_100.0)[None] / 10
    spectrum = torch.fft.rfft(mix(loud, quiet, torch.tensor([0.5]), AUDIO)[0]).abs()
    assert float(spectrum[1_000] / spectrum[1_100]) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("ratio", [0.0, 1.0])
def test_the_ends_of_the_ratio_are_the_pure_sounds(ratio: float) -> None:
    first, second = tone(1_000.0)[None], tone(3_000.0)[None]
    expected = first if ratio else second
    torch.testing.assert_close(mix(first, second, torch.tensor([ratio]), AUDIO), expected, atol=1e-4, rtol=0)


def test_mixing_with_silence_is_finite() -> None:
    mixed = mix(tone(1_000.0)[None], torch.zeros(1, RATE), torch.tensor([0.3]), AUDIO)
    assert torch.isfinite(mixed).all()


def test_noise_arrives_at_the_drawn_signal_to_noise_ratio(bank: Bank) -> None:
    drawn = draw(torch.arange(6), bank, PLAIN, AUDIO, FEATURES, rng=rng())
    drawn = dataclasses.replace(drawn, noise_snr_db=torch.full((6,), 10.0))
    signal = bank.samples[:, : 2 * RATE]
    noise = shape_spectrum(signal, drawn, AUDIO) - signal
    torch.testing.assert_close(level_db(signal) - level_db(noise), torch.full((6,), 10.0), atol=0.3, rtol=0)


def test_a_low_pass_removes_what_lies_an_octave_above_its_edge(bank: Bank) -> None:
    drawn = draw(torch.arange(1), bank, PLAIN, AUDIO, FEATURES, rng=rng())
    drawn = dataclasses.replace(drawn, low_pass_hz=torch.tensor([3_000.0]))
    kept, lost = (
        float(level_db(shape_spectrum(tone(hz)[None], drawn, AUDIO)) - level_db(tone(hz))) for hz in (1_000, 6_000)
    )
    assert kept == pytest.approx(0, abs=0.1)
    assert lost < -45


def test_masks_cover_what_was_drawn_and_nothing_else(bank: Bank) -> None:
    drawn = draw(torch.arange(2), bank, PLAIN, AUDIO, FEATURES, rng=rng())
    drawn = dataclasses.replace(
        drawn, time_masks=torch.tensor([[[0.5, 0.25]]] * 2), frequency_masks=torch.tensor([[[0.0, 0.125]]] * 2)
    )
    masked = mask_features(torch.ones(2, 1, 64, 200), drawn)
    assert torch.all(masked[:, :, :8] == 0)
    assert torch.all(masked[:, :, :, 100:150] == 0)
    assert masked.sum() == 2 * (64 - 8) * (200 - 50)


def test_every_batch_draws_its_own_crop_length_within_the_spread(bank: Bank) -> None:
    config = AugmentConfig(crop_s=1.0, crop_spread=2.0)
    one = rng()
    lengths = [draw(torch.arange(6), bank, config, AUDIO, FEATURES, rng=one).samples / RATE for _ in range(300)]
    assert min(lengths) == pytest.approx(0.5, abs=0.02)
    assert max(lengths) == pytest.approx(2.0, abs=0.08)
    assert np.median(lengths) == pytest.approx(1.0, abs=0.15)
    drawn = draw(torch.arange(6), bank, config, AUDIO, FEATURES, rng=one)
    assert mix_batch(bank, drawn, config, AUDIO).shape == (6, drawn.samples)


def test_plain_mixup_weighs_samples_whatever_their_level() -> None:
    loud, quiet = tone(1_000.0)[None], tone(1_100.0)[None] / 10
    mixed = mix(loud, quiet, torch.tensor([0.25]), AUDIO, level_aware=False)
    torch.testing.assert_close(mixed, 0.25 * loud + 0.75 * quiet)


def test_sounds_joined_in_time_last_as_long_as_their_labels_say() -> None:
    first, second = torch.ones(2, 1_000), torch.zeros(2, 1_000)
    joined = join_in_time(first, second, torch.tensor([0.3, 0.3]), torch.tensor([False, True]), AUDIO)
    assert joined.sum(dim=1).tolist() == [300, 300]
    assert bool(joined[0, 0])
    assert not bool(joined[1, 0])


def test_sounds_joined_in_frequency_keep_their_side_of_the_cut() -> None:
    low, high = tone(300.0)[None], tone(9_000.0)[None]
    both = low + high
    kept = join_in_frequency(both, torch.zeros_like(both), torch.tensor([0.5]), torch.tensor([True]), AUDIO)
    torch.testing.assert_close(kept, low, atol=1e-2, rtol=0)
    kept = join_in_frequency(both, torch.zeros_like(both), torch.tensor([0.5]), torch.tensor([False]), AUDIO)
    torch.testing.assert_close(kept, high, atol=1e-2, rtol=0)


def test_the_drawn_shares_of_mixtures_are_joined_in_time_and_frequency() -> None:
    many = Bank(torch.randn(1_000, 10), torch.full((1_000,), 10), torch.arange(1_000) % 2)
    config = AugmentConfig(timemix_p=0.2, freqmix_p=0.3)
    kinds = draw(torch.arange(1_000), many, config, AUDIO, FEATURES, rng=rng()).mixing
    shares = [float((kinds == kind).float().mean()) for kind in (BY_LEVEL, BY_TIME, BY_FREQUENCY)]
    assert shares == pytest.approx([0.5, 0.2, 0.3], abs=0.05)


def test_a_batch_of_every_kind_of_mixture_is_finite_and_keeps_unmixed_clips(bank: Bank) -> None:
    config = PLAIN.model_copy(update={"timemix_p": 0.5, "freqmix_p": 0.5})
    drawn = draw(torch.arange(6), bank, config, AUDIO, FEATURES, rng=rng())
    inside = dataclasses.replace(drawn, start=torch.full((2, 6), 1_000.0))
    batch = mix_batch(bank, inside, config, AUDIO)
    torch.testing.assert_close(batch, bank.samples[:, 1_000 : 1_000 + 2 * RATE], atol=1e-4, rtol=0)


def test_reverberation_decays_by_sixty_decibels_in_the_time_drawn(bank: Bank) -> None:
    drawn = draw(torch.arange(1), bank, PLAIN, AUDIO, FEATURES, rng=rng())
    drawn = dataclasses.replace(drawn, reverb_s=torch.tensor([0.5]), wet_db=torch.tensor([0.0]))
    click = torch.zeros(1, 2 * RATE)
    click[0, 0] = 1
    tail = shape_spectrum(click, drawn, AUDIO)[0] - click[0]
    assert float(tail.square().sum()) == pytest.approx(1, rel=1e-3)
    early, late = (level_db(tail[round(at * RATE) : round((at + 0.1) * RATE)]) for at in (0.0, 0.25))
    assert float(early - late) == pytest.approx(30, abs=2)
    assert tail[RATE:].abs().max() < 1e-5


def test_overdrive_clips_at_the_peak_the_sound_had() -> None:
    sound = tone(100.0, 0.1)[None].repeat(2, 1) * 0.3
    driven = overdrive(sound, torch.tensor([0.0, 20.0]))
    torch.testing.assert_close(driven[0], sound[0])
    assert float(driven[1].abs().max()) == pytest.approx(0.3, abs=1e-3)
    assert float((driven[1].abs() > 0.299).float().mean()) > 0.9
