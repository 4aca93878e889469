"""Training-only augmentation of whole batches, on the device that trains.

Random parameters are data (``Draw``); applying them is pure, so a batch can be frozen, logged and replayed. Order:
crop + stretch + gain of two clips of different classes, mixing (gain-aware: Tokozume et al. 2018), a sound of no class
in place of some mixtures (``core.outliers``), spectral shaping (reverberation, coloured noise, tilt, band limits),
overdrive, and masks over the normalised log-mel (Park et al. 2019).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from core.config import AudioConfig, AugmentConfig, FeatureConfig
from core.features import power_of
from core.outliers import outliers

FRAME = 2048  # samples of one level measurement for mixing
SILENCE_DB = -120.0
BY_LEVEL, BY_TIME, BY_FREQUENCY = range(3)  # how two sounds share a mixture
WET_DB = (-12.0, 3.0)  # energy of the reverberant tail re the direct sound: near and far talkers of ISO 3382 rooms
LN_10 = math.log(10)
CROP_GRID_S = 0.1  # lengths with small prime factors: Fourier transforms of arbitrary ones took twice as long


@dataclass(frozen=True)
class Bank:
    """Every training clip, decoded once: ``samples`` (N, L) zero-padded, ``lengths`` (N,), ``targets`` (N,).

    ``samples`` live on the device that trains; the rest stays on the CPU, where parameters are drawn.
    """

    samples: Tensor
    lengths: Tensor
    targets: Tensor

    def to(self, device: torch.device) -> Bank:
        return Bank(self.samples.to(device), self.lengths, self.targets)


@dataclass(frozen=True)
class Draw:
    """The random parameters of one batch of B. Row 0 of (2, B) tensors is the clip, row 1 its partner."""

    samples: int  # length of every crop
    clips: Tensor  # (2, B) rows of the bank
    start: Tensor  # (2, B) first sample of the crop; negative: silence before the sound
    rate: Tensor  # (2, B) speed factor
    gain_db: Tensor  # (2, B)
    ratio: Tensor  # (B,) share of the clip in the label; 1: not mixed
    mixing: Tensor  # (B,) BY_LEVEL, BY_TIME or BY_FREQUENCY
    outlier: Tensor  # (B,) bool: replaced by a synthesized sound of no class
    outlier_seed: int
    swapped: Tensor  # (B,) bool: by time or frequency, the clip comes last or below
    tilt_db: Tensor  # (B,) dB per octave around 1 kHz
    low_pass_hz: Tensor  # (B,) inf: off
    high_pass_hz: Tensor  # (B,) 0: off
    noise_snr_db: Tensor  # (B,) inf: off
    noise_slope: Tensor  # (B,) power falls as f^-slope
    noise_seed: int
    reverb_s: Tensor  # (B,) 0: off
    wet_db: Tensor  # (B,)
    overdrive_db: Tensor  # (B,) 0: off
    time_masks: Tensor  # (B, M, 2) start and width, as fractions of T
    frequency_masks: Tensor  # (B, M, 2) start and width, as fractions of F


def draw(
    rows: Tensor,
    bank: Bank,
    config: AugmentConfig,
    audio: AudioConfig,
    features: FeatureConfig,
    *,
    rng: torch.Generator,
) -> Draw:
    """Choose partners and parameters for the clips ``rows`` (B,) of ``bank``. ``rng`` is a CPU generator."""
    batch = rows.numel()
    clips = torch.stack([rows, _partners(rows, bank.targets, rng)])
    rate = config.stretch ** _uniform((2, batch), -1, 1, rng)
    crop_s = config.crop_s * config.crop_spread ** float(_uniform((), -1, 1, rng))
    grid = round(CROP_GRID_S * audio.sample_rate_hz)
    crop = max(1, round(crop_s * audio.sample_rate_hz / grid)) * grid
    spare = bank.lengths[clips] / rate - crop  # in output samples; negative: the clip is shorter than the crop
    pad = crop / 4
    low, high = spare.clamp_max(0) - pad, spare.clamp_min(0) + pad
    start = (low + torch.rand((2, batch), generator=rng) * (high - low)) * rate
    mixed = _happens(batch, config.mix_p, rng)
    kind = torch.rand(batch, generator=rng)
    by_time, by_frequency = kind < config.timemix_p, kind >= 1 - config.freqmix_p
    return Draw(
        samples=crop,
        clips=clips,
        start=start,
        rate=rate,
        gain_db=_uniform((2, batch), -config.gain_db, config.gain_db, rng),
        ratio=torch.where(mixed, torch.rand(batch, generator=rng), 1.0),
        mixing=torch.where(by_time, BY_TIME, torch.where(by_frequency, BY_FREQUENCY, BY_LEVEL)),
        outlier=_happens(batch, config.outlier_p, rng),
        outlier_seed=int(torch.randint(2**31, (), generator=rng)),
        swapped=_happens(batch, 0.5, rng),
        tilt_db=_uniform((batch,), -config.tilt_db_per_octave, config.tilt_db_per_octave, rng)
        * _happens(batch, config.tilt_p, rng),
        low_pass_hz=_sometimes(_log_uniform(batch, *config.low_pass_hz, rng), config.low_pass_p, math.inf, rng),
        high_pass_hz=_sometimes(_log_uniform(batch, *config.high_pass_hz, rng), config.high_pass_p, 0.0, rng),
        noise_snr_db=_sometimes(_uniform((batch,), *config.noise_snr_db, rng), config.noise_p, math.inf, rng),
        noise_slope=_uniform((batch,), 0, 2, rng),
        noise_seed=int(torch.randint(2**31, (), generator=rng)),
        reverb_s=_sometimes(_log_uniform(batch, *config.reverb_s, rng), config.reverb_p, 0.0, rng),
        wet_db=_uniform((batch,), *WET_DB, rng),
        overdrive_db=_uniform((batch,), 0, config.overdrive_db, rng) * _happens(batch, config.overdrive_p, rng),
        time_masks=_masks(batch, config.time_masks, config.time_mask_s / crop_s, rng),
        frequency_masks=_masks(batch, config.frequency_masks, config.frequency_mask_bands / features.n_mels, rng),
    )


def mix_batch(bank: Bank, drawn: Draw, config: AugmentConfig, audio: AudioConfig) -> Tensor:
    """Waveforms (B, crop) on the bank's device: cropped, stretched, mixed or replaced, shaped and overdriven."""
    first, second = (crop(bank, drawn.clips[k], drawn.start[k], drawn.rate[k], drawn.samples) for k in (0, 1))
    gain = 10 ** (drawn.gain_db.to(first.device) / 20)
    first, second = first * gain[0, :, None], second * gain[1, :, None]
    mixed = mix(first, second, drawn.ratio.to(first.device), audio, level_aware=config.level_aware)
    for kind, join in ((BY_TIME, join_in_time), (BY_FREQUENCY, join_in_frequency)):
        rows = (drawn.mixing == kind).nonzero().squeeze(1).to(first.device)
        if rows.numel():
            mixed[rows] = join(first[rows], second[rows], drawn.ratio[rows.cpu()], drawn.swapped[rows.cpu()], audio)
    replaced = drawn.outlier.nonzero().squeeze(1).to(mixed.device)
    if replaced.numel():
        made = outliers(replaced.numel(), drawn.samples, audio.sample_rate_hz, seed=drawn.outlier_seed)
        mixed[replaced] = made.to(mixed.device) * gain[0, replaced, None]
    return overdrive(shape_spectrum(mixed, drawn, audio), drawn.overdrive_db)


def soft_targets(bank: Bank, drawn: Draw, n_classes: int) -> Tensor:
    """(B, K): the clip's class weighs ``ratio``, its partner's 1 − ``ratio``; an outlier is each class alike."""
    one_hot = torch.nn.functional.one_hot(bank.targets[drawn.clips], n_classes).float()  # (2, B, K)
    ratio = drawn.ratio[:, None]
    known = ratio * one_hot[0] + (1 - ratio) * one_hot[1]
    return torch.where(drawn.outlier[:, None], torch.full_like(known, 1 / n_classes), known)


def crop(bank: Bank, rows: Tensor, start: Tensor, rate: Tensor, samples: int) -> Tensor:
    """Cut ``samples`` from each clip at ``start``, played ``rate`` times as fast; zeros outside the clip. (B, samples)

    Row by row on purpose: gathering a whole batch at fractional positions took 3× as long on a CPU.
    """
    spans = (rate * samples).round().int().tolist()
    cuts = [
        _resize(_cut(bank.samples[row], first, span), samples)
        for row, first, span in zip(rows.tolist(), start.round().int().tolist(), spans, strict=True)
    ]
    return torch.stack(cuts)


def _cut(clip: Tensor, first: int, span: int) -> Tensor:
    inside = clip[max(first, 0) : max(first + span, 0)]
    before = min(max(-first, 0), span)
    return torch.nn.functional.pad(inside, (before, span - before - inside.numel()))


def _resize(clip: Tensor, samples: int) -> Tensor:
    return torch.nn.functional.interpolate(clip[None, None], samples, mode="linear", align_corners=True)[0, 0]


def mix(first: Tensor, second: Tensor, ratio: Tensor, audio: AudioConfig, *, level_aware: bool = True) -> Tensor:
    """Mix so that ``ratio`` is the *perceived* share of the first sound, at constant energy (Tokozume et al. 2018).

    t = 1 / (1 + 10^((G1 − G2) / 20) · (1 − r) / r),  x = (t·x1 + (1 − t)·x2) / √(t² + (1 − t)²),  G in dB(A).
    Without ``level_aware`` plain mixup: x = r·x1 + (1 − r)·x2 (Zhang et al. 2018).
    """
    if not level_aware:
        return ratio[:, None] * first + (1 - ratio[:, None]) * second
    gap_db = a_weighted_level(first, audio) - a_weighted_level(second, audio)
    odds = 10 ** (gap_db / 20) * (1 - ratio) / ratio.clamp_min(1e-6)
    t = (1 / (1 + odds))[:, None]
    return (t * first + (1 - t) * second) / torch.sqrt(t**2 + (1 - t) ** 2)


def join_in_time(first: Tensor, second: Tensor, ratio: Tensor, swapped: Tensor, audio: AudioConfig) -> Tensor:
    """One sound after the other; the first lasts ``ratio`` of the whole and comes last where ``swapped``. (B, N)"""
    position = (torch.arange(first.shape[1]) + 0.5) / first.shape[1]
    share = ratio[:, None]
    of_first = torch.where(swapped[:, None], position >= 1 - share, position < share)
    return torch.where(of_first.to(first.device), first, second)


def join_in_frequency(first: Tensor, second: Tensor, ratio: Tensor, swapped: Tensor, audio: AudioConfig) -> Tensor:
    """One sound above the other; the first fills ``ratio`` of the mel axis, the lower end where ``swapped``. (B, N)"""
    hz = torch.fft.rfftfreq(first.shape[1], 1 / audio.sample_rate_hz)
    position = torch.log1p(hz / 700) / math.log1p(audio.sample_rate_hz / 2 / 700)  # O'Shaughnessy's mel scale
    share = ratio[:, None]
    of_first = torch.where(swapped[:, None], position < share, position >= 1 - share).to(first.device)
    spectrum = torch.where(of_first, torch.fft.rfft(first, dim=1), torch.fft.rfft(second, dim=1))
    return torch.fft.irfft(spectrum, n=first.shape[1], dim=1)


def a_weighted_level(waveform: Tensor, audio: AudioConfig) -> Tensor:
    """Loudest frame of each waveform (B, N) in dB(A) re full scale, (B,). IEC 61672 weighting."""
    frames = waveform.unfold(1, FRAME, FRAME) if waveform.shape[1] >= FRAME else waveform[:, None]
    power = power_of(torch.fft.rfft(frames, dim=2))  # (B, frames, bins)
    weight = _a_weight(power.shape[2], audio.sample_rate_hz, waveform.device)
    level = 10 * torch.log10(power @ weight / frames.shape[2] ** 2 + 10 ** (SILENCE_DB / 10))
    return level.amax(dim=1)


def shape_spectrum(waveform: Tensor, drawn: Draw, audio: AudioConfig) -> Tensor:
    """Reverberate (B, N), add coloured noise, tilt and band-limit, in one pass through the frequency domain."""
    samples, device = waveform.shape[1], waveform.device
    spectrum = torch.fft.rfft(waveform, dim=1)
    hz = torch.fft.rfftfreq(samples, 1 / audio.sample_rate_hz, device=device)
    rng = torch.Generator(device).manual_seed(drawn.noise_seed)
    _reverberate(spectrum, samples, drawn, audio, rng)
    _add_noise(spectrum, hz, drawn, rng)
    octaves = torch.log2(hz.clamp_min(20.0) / 1000.0)
    response = torch.exp((LN_10 / 20) * drawn.tilt_db.to(device)[:, None] * octaves)
    steep = (hz / drawn.low_pass_hz.to(device)[:, None]) ** 16  # Butterworth, 48 dB/octave
    gentle = (drawn.high_pass_hz.to(device)[:, None] / hz.clamp_min(1.0)) ** 4
    response *= ((1 + steep) * (1 + gentle)).rsqrt()
    return torch.fft.irfft(spectrum * response, n=samples, dim=1)


def overdrive(waveform: Tensor, drive_db: Tensor) -> Tensor:
    """Clip (B, N) ``drive_db`` (B,) under its own peak; 0 leaves a row as it is. The level rises as when overdriven."""
    peak = waveform.abs().amax(dim=1, keepdim=True)
    driven = waveform * 10 ** (drive_db.to(waveform.device)[:, None] / 20)
    return torch.maximum(torch.minimum(driven, peak), -peak)


def mask_features(features: Tensor, drawn: Draw) -> Tensor:
    """Set the drawn stretches of time and bands of frequency of (B, 1, F, T) to 0, the clip's mean level."""
    keep_time = _keep(drawn.time_masks, features.shape[3]).to(features.device)[:, None, None, :]
    keep_frequency = _keep(drawn.frequency_masks, features.shape[2]).to(features.device)[:, None, :, None]
    return features * keep_time * keep_frequency


def _partners(rows: Tensor, targets: Tensor, rng: torch.Generator) -> Tensor:
    """For each clip one of another class, uniformly; itself where the bank holds a single class."""
    other = (targets[rows][:, None] != targets[None, :]).float()  # (B, N)
    lonely = other.sum(dim=1) == 0
    other[lonely, rows[lonely]] = 1.0
    return torch.multinomial(other, 1, generator=rng).squeeze(1)


def _reverberate(spectrum: Tensor, samples: int, drawn: Draw, audio: AudioConfig, rng: torch.Generator) -> None:
    """Add to rows with ``reverb_s`` the sound again through exponentially decaying noise, in place."""
    rows = drawn.reverb_s.nonzero().squeeze(1)
    if not rows.numel():
        return
    device = spectrum.device
    time_s = torch.arange(min(samples, audio.sample_rate_hz), device=device) / audio.sample_rate_hz
    decay = torch.exp(-3 * LN_10 * time_s / drawn.reverb_s[rows].to(device)[:, None])  # −60 dB after reverb_s
    tail = decay * torch.randn((rows.numel(), time_s.numel()), device=device, generator=rng)
    wet = 10 ** (drawn.wet_db[rows].to(device) / 20) / tail.norm(dim=1)
    spectrum[rows.to(device)] *= 1 + torch.fft.rfft(tail * wet[:, None], n=samples, dim=1)


def _add_noise(spectrum: Tensor, hz: Tensor, drawn: Draw, rng: torch.Generator) -> None:
    """Add to rows with a finite ``noise_snr_db`` noise whose power falls as f^−slope, in place."""
    rows = drawn.noise_snr_db.isfinite().nonzero().squeeze(1)
    if not rows.numel():
        return
    device, clean = spectrum.device, spectrum[rows.to(spectrum.device)]
    noise = torch.randn(clean.shape, dtype=clean.dtype, device=device, generator=rng)
    noise *= torch.exp(-drawn.noise_slope[rows].to(device)[:, None] / 2 * hz.clamp_min(20.0).log())
    wanted = power_of(clean).sum(dim=1) * 10 ** (-drawn.noise_snr_db[rows].to(device) / 10)
    spectrum[rows.to(device)] += noise * (wanted / power_of(noise).sum(dim=1)).sqrt()[:, None]


def _a_weight(bins: int, sample_rate_hz: int, device: torch.device) -> Tensor:
    square = torch.linspace(0, sample_rate_hz / 2, bins, device=device) ** 2
    response = 12194.0**2 * square**2
    response /= (square + 20.6**2) * (square + 12194.0**2)
    response /= ((square + 107.7**2) * (square + 737.9**2)).sqrt()
    return (response * 10 ** (2.0 / 20)) ** 2


def _masks(batch: int, count: int, widest: float, rng: torch.Generator) -> Tensor:
    width = torch.rand((batch, count), generator=rng) * min(widest, 1.0)
    start = torch.rand((batch, count), generator=rng) * (1 - width)
    return torch.stack([start, width], dim=2)


def _keep(masks: Tensor, size: int) -> Tensor:
    """(B, M, 2) fractions → (B, size), 0 where any mask covers."""
    position = (torch.arange(size) + 0.5) / size
    start, width = masks[..., :1], masks[..., 1:]
    covered = (position >= start) & (position < start + width)  # (B, M, size)
    return (~covered.any(dim=1)).float()


def _uniform(shape: tuple[int, ...], low: float, high: float, rng: torch.Generator) -> Tensor:
    return low + (high - low) * torch.rand(shape, generator=rng)


def _log_uniform(batch: int, low: float, high: float, rng: torch.Generator) -> Tensor:
    return torch.exp(_uniform((batch,), math.log(low), math.log(high), rng))


def _happens(batch: int, p: float, rng: torch.Generator) -> Tensor:
    return torch.rand(batch, generator=rng) < p


def _sometimes(value: Tensor, p: float, otherwise: float, rng: torch.Generator) -> Tensor:
    return torch.where(_happens(value.numel(), p, rng), value, otherwise)
