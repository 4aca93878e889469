"""Waveform → log-mel spectrogram in dB, as a module that lives inside the network.

One front end serves training and inference; there is no second one to disagree with it. Agrees with
``librosa.feature.melspectrogram`` (Slaney scale and normalisation, ``center=True``, constant padding) within 0.01 dB;
``tests/unit/test_features.py`` holds it to that.
"""

from __future__ import annotations

import librosa
import numpy as np
import torch
import torchaudio
from numpy.typing import NDArray
from torch import Tensor, nn

from core.config import AudioConfig, FeatureConfig
from core.errors import SettingsError

AMIN = 1e-10  # power floor before the logarithm: −100 dB, librosa's default
EDGE_DB = 60.0  # a frame counts as sound when its loudest mel bin is within this of the clip's
SCALE_DB = 20.0  # brings the normalised spectrogram to unit order


class LogMel(nn.Module):
    """Log-mel spectrogram, (B, N) at ``audio.sample_rate_hz`` → (B, 1, F, T) in dB re full-scale power.

    T = 1 + N // hop. Frame t is centred on sample t · hop. N must exceed ``n_fft`` / 2.
    """

    def __init__(self, audio: AudioConfig, features: FeatureConfig) -> None:
        super().__init__()
        nyquist_hz = audio.sample_rate_hz / 2
        if not features.f_min_hz < features.f_max_hz <= nyquist_hz:
            raise SettingsError(
                f"Expected f_min_hz < f_max_hz ≤ {nyquist_hz:g} Hz (half the sample rate), "
                f"got {features.f_min_hz:g} and {features.f_max_hz:g}. Lower f_max_hz or raise the sample rate."
            )
        self.stft = torchaudio.transforms.Spectrogram(
            features.n_fft, hop_length=features.hop_samples, power=None, pad_mode="constant"
        )
        self.mel_scale = torchaudio.transforms.MelScale(
            n_mels=features.n_mels,
            sample_rate=audio.sample_rate_hz,
            f_min=features.f_min_hz,
            f_max=features.f_max_hz,
            n_stft=features.n_fft // 2 + 1,
            norm="slaney",
            mel_scale="slaney",
        )
        # Window and filterbank follow from the config alone, so that weights cannot carry others than it names.
        self.stft.register_buffer("window", self.stft.window, persistent=False)
        self.mel_scale.register_buffer("fb", self.mel_scale.fb, persistent=False)

    def centres_hz(self) -> NDArray[np.float64]:
        """Centre frequency of each mel band, (F,), rising."""
        edges_hz = librosa.mel_frequencies(
            self.mel_scale.n_mels + 2, fmin=self.mel_scale.f_min, fmax=self.mel_scale.f_max
        )
        return np.asarray(edges_hz[1:-1])

    def forward(self, waveform: Tensor) -> Tensor:
        mel = self.mel_scale(power_of(self.stft(waveform)))  # (B, F, T)
        return 10.0 * mel.clamp_min(AMIN).log10().unsqueeze(1)  # (B, 1, F, T), dB


def power_of(spectrum: Tensor) -> Tensor:
    """|x|² of a complex tensor. ``abs() ** 2`` takes a square root on the way and 4.6× as long on a CPU."""
    return spectrum.real.square() + spectrum.imag.square()


class LevelNorm(nn.Module):
    """Remove the recording level: a clip and the same clip 20 dB quieter look alike to the network.

    Bins more than ``top_db`` under the clip's loudest bin are raised to that floor, then the mean over the frames that
    carry sound is subtracted. Frames of digital silence (padding) do not move the mean. (B, 1, F, T) → (B, 1, F, T).
    """

    def __init__(self, top_db: float) -> None:
        super().__init__()
        self.top_db = top_db

    def forward(self, log_mel: Tensor) -> Tensor:
        peak = log_mel.amax(dim=(2, 3), keepdim=True)
        floored = torch.maximum(log_mel, peak - self.top_db)
        sounding = (log_mel.amax(dim=2, keepdim=True) > peak - EDGE_DB).to(log_mel.dtype)  # (B, 1, 1, T)
        weight = sounding / sounding.sum(dim=3, keepdim=True).clamp_min(1.0)
        mean = (floored.mean(dim=2, keepdim=True) * weight).sum(dim=3, keepdim=True)
        return (floored - mean) / SCALE_DB
