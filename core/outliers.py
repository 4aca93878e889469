"""Sounds of no class to train on: calls, notes and hiss, words, blows. A network must not be sure of any.

Outlier exposure (Hendrycks et al. 2019) with sounds made from nothing, through random resonances:

call    partials of a wandering or stepping pitch, in bursts, with breath
words   vowels whose formants differ from phone to phone, hisses and stops, in a voice of falling and rising pitch
blows   modes that ring down, struck once or again and again

The sounds of ``core.synthetic``, on which unknown scores are measured, are made otherwise. Two seconds take 18 ms.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

PARTIALS = 12
PITCH_HZ = (80.0, 2_500.0)  # a man's low voice to a whistle
CONTROL_HZ = 100.0  # rate at which pitch and loudness are drawn
PEAK = 0.5
CALLS, WORDS = 0.5, 0.3  # shares; the rest are blows
STOPS, HISSES = 0.18, 0.22  # shares of the phones of words; the rest are vowels
FADE_S = 0.012
HIGHEST = 0.45  # of the sample rate: partials above are left out
REFERENCE_HZ = 1_000.0
TINY = 1e-6


def outliers(count: int, samples: int, sample_rate_hz: int, *, seed: int) -> Tensor:
    """(count, samples) float32 with peaks of 0.5: a pure function of the arguments."""
    rng = torch.Generator().manual_seed(seed)
    return torch.stack([_outlier(samples, sample_rate_hz, rng) for _ in range(count)])


def _outlier(samples: int, rate: int, rng: torch.Generator) -> Tensor:
    kind = _uniform(0, 1, rng)
    make = _call if kind < CALLS else _words if kind < CALLS + WORDS else _blows
    return PEAK * _peak(_resonate(make(samples, rate, rng), rate, rng))


def _call(samples: int, rate: int, rng: torch.Generator) -> Tensor:
    seconds = samples / rate
    time_s = torch.linspace(0, seconds, max(4, math.ceil(seconds * CONTROL_HZ)))
    voices = 1 if _uniform(0, 1, rng) < 0.7 else int(_uniform(2, 4.99, rng))
    tonal = torch.zeros(samples)
    for _ in range(voices):
        tonal += _voice(time_s, samples, rate, rng)
    breath = _level(-50, 0, rng) if _uniform(0, 1, rng) < 0.8 else _level(0, 15, rng)
    hiss = breath * 0.3 * torch.randn(samples, generator=rng) * _at_audio_rate(_bursts(time_s, rng), samples)
    return _peak(tonal) + hiss


def _words(samples: int, rate: int, rng: torch.Generator) -> Tensor:
    """Phone by phone, each filtered as a whole and faded into the next; pauses between words."""
    pitch_hz, size = _log_uniform(75, 350, rng), _uniform(0.85, 1.25, rng)  # of the voice, of the vocal tract
    slope = _uniform(-0.5, 0.3, rng)  # octaves a second
    out = torch.zeros(samples + rate)
    at = -int(_uniform(0, 0.3, rng) * rate)
    while at < samples:
        length = int(_uniform(0.05, 0.28, rng) * rate)
        chosen = _uniform(0, 1, rng)
        if chosen < STOPS:
            at += length if _uniform(0, 1, rng) < 0.6 else 3 * length  # in a word, or at its end
            phone = torch.randn(int(0.02 * rate), generator=rng) * 0.3
        elif chosen < STOPS + HISSES:
            noise = torch.randn(length, generator=rng)
            phone = 0.25 * _peak(_formed(noise, _log_uniform(1_200, 8_000, rng), 0.5, rate))
        else:
            phone = _vowel(length, pitch_hz, slope, size, rate, rng)
        length, edge = phone.numel(), min(round(FADE_S * rate), phone.numel() // 2)
        _fade(phone, edge)
        start, end = max(at, 0), min(at + length, out.numel())
        if end > start:
            out[start:end] += phone[start - at : end - at] * _uniform(0.3, 1.0, rng)
        at += max(length - edge, 1)
    return out[:samples] + _level(-80, -35, rng) * torch.randn(samples, generator=rng)


def _vowel(length: int, pitch_hz: float, slope: float, size: float, rate: int, rng: torch.Generator) -> Tensor:
    """A sawtooth whose pitch moves by ``slope`` octaves a second, with breath, through three formants."""
    time_s = torch.arange(length) / rate
    hz = pitch_hz * torch.exp2(slope * time_s + _uniform(-0.25, 0.25, rng))
    phase = torch.cumsum(hz, 0) / rate
    source = 2 * (phase % 1.0) - 1 + _level(-45, -15, rng) * torch.randn(length, generator=rng)
    first, second, third = _uniform(250, 900, rng), _log_uniform(700, 2_600, rng), _uniform(2_300, 3_600, rng)
    formants_hz = (first, max(second, first + 150), third)
    return _peak(sum((_formed(source, size * hz, 0.12, rate) for hz in formants_hz), torch.zeros(())))


def _fade(phone: Tensor, edge: int) -> None:
    """In and out over ``edge`` samples, in place."""
    if edge:
        ramp = torch.linspace(0, 1, edge)
        phone[:edge] *= ramp
        phone[-edge:] *= ramp.flip(0)


def _formed(source: Tensor, centre_hz: float, octaves: float, rate: int) -> Tensor:
    """``source`` through one resonance, half as strong ``octaves`` away."""
    hz = torch.fft.rfftfreq(source.numel(), 1 / rate).clamp_min(20.0)
    gain = 1 / (1 + (torch.log2(hz / centre_hz) / octaves) ** 2)
    return torch.fft.irfft(torch.fft.rfft(source) * gain, n=source.numel())


def _blows(samples: int, rate: int, rng: torch.Generator) -> Tensor:
    """One struck thing: inharmonic modes that ring down, and the scrape of the blow; hit at random or in time."""
    ring = min(samples, rate)
    time_s = torch.arange(ring) / rate
    lowest_hz, decay_s = _log_uniform(60, 3_000, rng), _log_uniform(0.004, 0.5, rng)
    hit = torch.zeros(ring)
    for mode in range(int(_uniform(1, 7.99, rng))):
        hz = lowest_hz * (1 if mode == 0 else _uniform(1.2, 12, rng))
        if hz < HIGHEST * rate:
            decay = torch.exp(-time_s / (decay_s * _uniform(0.3, 1, rng)))
            hit += _uniform(0.2, 1, rng) * decay * torch.sin(2 * math.pi * hz * time_s)
    scrape = torch.exp(-time_s / _log_uniform(0.001, 0.08, rng)) * torch.randn(ring, generator=rng)
    hit = _peak(hit) + _level(-30, 6, rng) * 0.5 * scrape
    seconds = samples / rate
    count = max(1, round(_log_uniform(0.7, 14, rng) * seconds)) if _uniform(0, 1, rng) < 0.75 else 1
    if _uniform(0, 1, rng) < 0.4:
        starts = (torch.arange(count) + _uniform(0, 1, rng)) * (samples / count)
    else:
        starts = torch.rand(count, generator=rng) * samples
    out = torch.zeros(samples + ring)
    for start in starts.long().clamp_max(samples - 1).tolist():
        out[start : start + ring] += _uniform(0.2, 1, rng) * hit
    return out[:samples] + _level(-70, -30, rng) * torch.randn(samples, generator=rng)


def _voice(time_s: Tensor, samples: int, rate: int, rng: torch.Generator) -> Tensor:
    """Partials, all or odd ones, of a pitch that steps like a melody or wanders like a cry, in bursts."""
    if _uniform(0, 1, rng) < 0.4:
        octaves = _melody(time_s, _uniform(1.5, 10, rng), _uniform(0, 1, rng), rng)
    else:
        octaves = _wander(time_s, _uniform(0.0, 1.2, rng), rng)
    vibrato = _uniform(0, 0.06, rng)
    octaves = octaves + vibrato * torch.sin(2 * math.pi * _uniform(3, 9, rng) * time_s + _uniform(0, 6, rng))
    hz = torch.exp2(_at_audio_rate(octaves, samples)) * _log_uniform(*PITCH_HZ, rng)
    phase = 2 * math.pi * torch.cumsum(hz.double(), 0).div(rate).remainder(1.0).float()
    first = torch.polar(torch.ones(samples), phase)
    slope, only_odd = _uniform(0, 2, rng), _uniform(0, 1, rng) < 0.25
    voice, partial = torch.zeros(samples), first.clone()
    for number in range(1, PARTIALS + 1):
        if not (only_odd and number % 2 == 0):
            voice += number**-slope * _uniform(0.3, 1.0, rng) * partial.imag * (hz * number < HIGHEST * rate)
        partial = partial * first
    return voice * _at_audio_rate(_bursts(time_s, rng), samples)


def _resonate(sound: Tensor, rate: int, rng: torch.Generator) -> Tensor:
    """Up to four resonances or dips of ±25 dB: an instrument's body, a mouth, a room, a loudspeaker."""
    samples = sound.numel()
    octave = torch.log2(torch.fft.rfftfreq(samples, 1 / rate).clamp_min(40.0) / REFERENCE_HZ)
    gain_db = torch.zeros_like(octave)
    for _ in range(int(_uniform(0, 4.99, rng))):
        height_db, centre, width = _uniform(-25, 25, rng), _uniform(-3, 3.5, rng), _uniform(0.15, 0.8, rng)
        gain_db += height_db * torch.exp(-0.5 * ((octave - centre) / width) ** 2)
    return torch.fft.irfft(torch.fft.rfft(sound) * 10 ** (gain_db / 20), n=samples)


def _wander(time_s: Tensor, depth: float, rng: torch.Generator) -> Tensor:
    """Octaves around a pitch: three slow sines."""
    speed, phase, size = torch.rand((3, 3), generator=rng)[..., None]
    speed_hz = 0.2 * 20**speed
    return (depth * size * torch.sin(2 * math.pi * speed_hz * time_s + 6.28 * phase)).sum(0)


def _melody(time_s: Tensor, notes_per_s: float, depth: float, rng: torch.Generator) -> Tensor:
    """Octaves around a pitch: notes, semitones apart."""
    note = (time_s * notes_per_s).long()
    return ((torch.randn(int(note.max()) + 1, generator=rng) * 7 * depth).round() / 12)[note]


def _bursts(time_s: Tensor, rng: torch.Generator) -> Tensor:
    """Loudness in [0, 1]: steady one time in five, else bursts of random lengths with attack and decay."""
    steady, per_s, shift, attack, decay, _ = torch.rand(6, generator=rng)
    if steady < 0.2:
        return torch.ones_like(time_s)
    position = time_s * float(0.5 * 16**per_s) + float(shift)
    burst, inside = position.long(), position % 1.0
    count = int(burst.max()) + 1
    duty = 0.15 + 0.85 * torch.rand(count, generator=rng)[burst]
    loudness = 0.2 + 0.8 * torch.rand(count, generator=rng)[burst]
    done, rises_for = (inside / duty).clamp_max(1.0), float(0.02 + 0.5 * attack)
    rise = (done / rises_for).clamp_max(1.0)
    fall = ((1 - done) / (1 - rises_for)).clamp(0.0, 1.0) ** float(0.3 + 3 * decay)
    return loudness * rise * fall


def _at_audio_rate(control: Tensor, samples: int) -> Tensor:
    return torch.nn.functional.interpolate(control[None, None], samples, mode="linear", align_corners=True)[0, 0]


def _peak(sound: Tensor) -> Tensor:
    return sound / sound.abs().max().clamp_min(TINY)


def _level(low_db: float, high_db: float, rng: torch.Generator) -> float:
    return float(10 ** (_uniform(low_db, high_db, rng) / 20))


def _log_uniform(low: float, high: float, rng: torch.Generator) -> float:
    return math.exp(_uniform(math.log(low), math.log(high), rng))


def _uniform(low: float, high: float, rng: torch.Generator) -> float:
    return low + (high - low) * float(torch.rand((), generator=rng))
