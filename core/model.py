"""AudioResNet: a residual network over log-mel spectrograms, waveform in, logits and embedding out.

    stem    5×5 conv, stride 2             (B, 16, F/2,  T/2)
    stage1  residual block(s), stride 1    (B, 16, F/2,  T/2)
    stage2  residual block(s), stride 2    (B, 48, F/4,  T/4)
    stage3  residual block(s), stride 2    (B, 128, F/8, T/8)
    stage4  residual block(s), stride 2    (B, 256, F/16, T/16)
    pool    mean over F, then mean + max over T   (Kong et al. 2020, PANNs), or attention over T
    head    dropout, linear                (B, K)

Global pooling takes any length. Stages are named so that feature maps, Grad-CAM and the pages speak of the same things.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from core.config import AudioConfig, FeatureConfig, ModelConfig
from core.features import LevelNorm, LogMel

SQUEEZE = 8  # channels to one unit of the squeezed layer; 16 in the paper, whose layers are wider


class ModelOutput(NamedTuple):
    """``logits`` (B, K), uncalibrated; ``embedding`` (B, D), what the head sees."""

    logits: Tensor
    embedding: Tensor


class SqueezeExcite(nn.Module):
    """Scale each channel by a gate in (0, 1) computed from all channels' means (Hu et al. 2018). Shape stays."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(channels, max(channels // SQUEEZE, 4))
        self.excite = nn.Linear(max(channels // SQUEEZE, 4), channels)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.excite(torch.relu(self.squeeze(x.mean(dim=(2, 3)))))  # (B, C)
        return x * torch.sigmoid(gate)[:, :, None, None]


class ResidualBlock(nn.Module):
    """Two 3×3 convolutions with BatchNorm and a shortcut (He et al. 2016); 1×1 projection where the shape changes."""

    def __init__(self, channels_in: int, channels_out: int, stride: int, *, squeeze_excite: bool = False) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels_in, channels_out, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(channels_out)
        self.conv2 = nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(channels_out)
        self.gate: nn.Module = SqueezeExcite(channels_out) if squeeze_excite else nn.Identity()
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels_out:
            self.shortcut = nn.Sequential(
                nn.AvgPool2d(stride, ceil_mode=True) if stride > 1 else nn.Identity(),
                nn.Conv2d(channels_in, channels_out, 1, bias=False),
                nn.BatchNorm2d(channels_out),
            )

    def forward(self, x: Tensor) -> Tensor:
        y = torch.relu(self.norm1(self.conv1(x)))
        y = self.gate(self.norm2(self.conv2(y)))
        return torch.relu(y + self.shortcut(x))


class AudioResNet(nn.Module):
    """Classifier of mono waveforms at ``audio.sample_rate_hz`` into ``n_classes``."""

    def __init__(self, n_classes: int, audio: AudioConfig, features: FeatureConfig, model: ModelConfig) -> None:
        super().__init__()
        self.log_mel = LogMel(audio, features)
        self.level_norm = LevelNorm(features.top_db)
        self.stages = nn.ModuleDict({"stem": _stem(model.stem_channels)})
        channels = model.stem_channels
        for index, width in enumerate(model.stage_channels, start=1):
            self.stages[f"stage{index}"] = _stage(
                channels, width, model.blocks_per_stage, 1 if index == 1 else 2, squeeze_excite=model.squeeze_excite
            )
            channels = width
        self.attention = nn.Conv1d(channels, channels, 1) if model.attention_pool else None
        self.dropout = nn.Dropout(model.dropout)
        self.head = nn.Linear(channels, n_classes)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    @property
    def stage_names(self) -> tuple[str, ...]:
        return tuple(self.stages)

    def forward(self, waveform: Tensor) -> ModelOutput:
        """(B, N) float32, finite → logits (B, K) and embedding (B, D)."""
        return self.classify(self.front_end(waveform))

    def front_end(self, waveform: Tensor) -> Tensor:
        """(B, N) → level-normalised log-mel (B, 1, F, T), unitless, about 0 ± 1: what the first stage sees."""
        return self.level_norm(self.log_mel(waveform))

    def classify(self, features: Tensor) -> ModelOutput:
        """Output of ``front_end`` → logits and embedding. SpecAugment masks come between the two in training."""
        return self.head_of(self.activations(features)[self.stage_names[-1]])

    def activations(self, features: Tensor) -> dict[str, Tensor]:
        """Output of ``front_end`` → the output of every stage by name, each (B, C, F', T')."""
        x = features.contiguous(memory_format=torch.channels_last)
        outputs: dict[str, Tensor] = {}
        for name, stage in self.stages.items():
            x = outputs[name] = stage(x)
        return outputs

    def head_of(self, last: Tensor) -> ModelOutput:
        """Output of the last stage, (B, D, F', T') → logits and embedding."""
        over_time = last.mean(dim=2)  # (B, D, T')
        if self.attention is None:
            embedding = over_time.mean(dim=2) + over_time.amax(dim=2)  # (B, D)
        else:  # each channel its own weights over time
            embedding = (torch.softmax(self.attention(over_time), dim=2) * over_time).sum(dim=2)
        return ModelOutput(self.head(self.dropout(embedding)), embedding)


def _stem(channels: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(1, channels, 5, 2, padding=2, bias=False), nn.BatchNorm2d(channels), nn.ReLU())


def _stage(channels_in: int, channels_out: int, blocks: int, stride: int, *, squeeze_excite: bool) -> nn.Sequential:
    first = ResidualBlock(channels_in, channels_out, stride, squeeze_excite=squeeze_excite)
    rest = (ResidualBlock(channels_out, channels_out, 1, squeeze_excite=squeeze_excite) for _ in range(blocks - 1))
    return nn.Sequential(first, *rest)
