"""Why: what each stage responded to, where the network looked, and what it would answer to each second alone.

Grad-CAM (Selvaraju et al. 2017) of the named class at every stage from one backward pass. The last stage is the usual
choice; earlier ones see finer detail and mean less. For long audio one analysis window is explained.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from core.audio import window_spans
from core.classifier import Classifier
from core.errors import EarshotError
from core.inference import WINDOWS_AT_ONCE, softmax
from core.occlusion import Occlusion, occlude
from core.records import WindowPrediction

MEL_COLUMNS = 2_000  # more than any screen shows
GLIMPSE_S, GLIMPSE_HOP_S = 1.0, 0.25  # of the timeline within one window


@dataclass(frozen=True)
class Stage:
    """``maps`` (C, F', T'), after ReLU, so ≥ 0; ``cam`` (F', T') in [0, 1], all 0 where nothing spoke for the class."""

    name: str
    maps: NDArray[np.float32]
    cam: NDArray[np.float32]

    @property
    def mean_map(self) -> NDArray[np.float32]:
        return np.asarray(self.maps.mean(axis=0))

    @property
    def strength(self) -> NDArray[np.float32]:
        """Mean activation of each channel, (C,)."""
        return np.asarray(self.maps.mean(axis=(1, 2)))

    def strongest(self, count: int) -> list[int]:
        """Channels by falling mean activation; at most ``count``."""
        return [int(channel) for channel in np.argsort(-self.strength, kind="stable")[:count]]


@dataclass(frozen=True)
class Explanation:
    """One window of a sound, ``start_s`` to ``end_s``, explained for ``label``. ``stages`` from the first to the last.

    ``log_mel`` shows the whole sound: (F, T) in dB re full-scale power; column t is centred on t · ``hop_s``, row f on
    ``mel_hz[f]``. Long sounds are averaged over neighbouring frames to at most ``MEL_COLUMNS`` columns.

    ``timeline``: the window's answers second by second, each from ``GLIMPSE_S`` of sound alone, every
    ``GLIMPSE_HOP_S``; it hears less than the window does and is less sure. ``timeline`` and ``occlusion`` are
    there where they were asked for.
    """

    label: str
    probability: float
    start_s: float
    end_s: float
    hop_s: float
    log_mel: NDArray[np.float32]
    mel_hz: NDArray[np.float64]
    stages: tuple[Stage, ...]
    timeline: tuple[WindowPrediction, ...] = ()
    occlusion: Occlusion | None = None

    def stage(self, name: str) -> Stage:
        return next(stage for stage in self.stages if stage.name == name)


def explain(
    classifier: Classifier,
    samples: NDArray[np.float32],
    *,
    label: str | None = None,
    window: int = 0,
    timeline: bool = False,
    occlusion: bool = False,
) -> Explanation:
    """Explain ``samples`` (N,) at the model's rate for ``label`` (the window's top class when ``None``).

    ``window`` counts the analysis windows from 0. ``timeline`` and ``occlusion`` are worked out where wanted: they take
    the time of a few answers and of a hundred. Raises ``EarshotError`` for a label or window that does not exist.
    """
    manifest, net = classifier.manifest, classifier.net
    audio, names = manifest.audio, manifest.class_names
    spans = window_spans(samples.size, audio)
    if not 0 <= window < len(spans):
        raise EarshotError(f"Expected a window from 0 to {len(spans) - 1}, got {window}.", code="no_such_window")
    if label is not None and label not in names:
        raise EarshotError(f"Expected one of {', '.join(names)}; got {label!r}.", code="no_such_class")
    start, end = spans[window]
    waveform = torch.from_numpy(samples[start:end])[None].to(next(net.parameters()).device)
    with torch.no_grad():
        features = net.front_end(waveform)
    log_mel, hop_samples = _overview(classifier, samples)
    with torch.enable_grad():
        outputs = net.activations(features.requires_grad_())
        logits = net.head_of(outputs[net.stage_names[-1]]).logits[0]
        target = int(logits.argmax()) if label is None else names.index(label)
        gradients = torch.autograd.grad(logits[target], list(outputs.values()))
    return Explanation(
        label=names[target],
        probability=float(softmax(logits.detach().cpu().numpy(), manifest.temperature)[target]),
        start_s=start / audio.sample_rate_hz,
        end_s=end / audio.sample_rate_hz,
        hop_s=hop_samples / audio.sample_rate_hz,
        log_mel=log_mel,
        mel_hz=net.log_mel.centres_hz(),
        stages=tuple(
            Stage(name, output[0].detach().cpu().numpy(), grad_cam(output[0], gradient[0]))
            for (name, output), gradient in zip(outputs.items(), gradients, strict=True)
        ),
        timeline=glimpses(classifier, samples, start, end) if timeline else (),
        occlusion=occlude(
            net,
            features.detach(),
            target,
            temperature=manifest.temperature,
            column_s=manifest.features.hop_samples / audio.sample_rate_hz,
            span_s=(start / audio.sample_rate_hz, end / audio.sample_rate_hz),
        )
        if occlusion
        else None,
    )


@torch.inference_mode()
def glimpses(
    classifier: Classifier, samples: NDArray[np.float32], start: int, end: int
) -> tuple[WindowPrediction, ...]:
    """What the network answers to each ``GLIMPSE_S`` of ``samples[start:end]`` alone, every ``GLIMPSE_HOP_S``.

    The last one ends with the stretch, and stands no nearer than half a hop to the one before; a shorter stretch is one
    glimpse.
    """
    net, manifest = classifier.net, classifier.manifest
    rate = manifest.audio.sample_rate_hz
    length, hop = round(GLIMPSE_S * rate), round(GLIMPSE_HOP_S * rate)
    last = max(start, end - length)
    starts = [*range(start, last - hop // 2, hop), last]
    heard = torch.from_numpy(np.stack([samples[first : min(first + length, end)] for first in starts]))
    device = next(net.parameters()).device
    logits = torch.cat([net(batch.to(device)).logits for batch in heard.split(WINDOWS_AT_ONCE)]).cpu().numpy()
    return tuple(
        WindowPrediction(start_s=first / rate, end_s=min(first + length, end) / rate, probabilities=tuple(row.tolist()))
        for first, row in zip(starts, softmax(logits, manifest.temperature), strict=True)
    )


@torch.no_grad()
def _overview(classifier: Classifier, samples: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """Log-mel of the whole sound (F, T ≤ ``MEL_COLUMNS``) and the samples from one column to the next."""
    device = next(classifier.net.parameters()).device
    log_mel = classifier.net.log_mel(torch.from_numpy(samples)[None].to(device))[0]  # (1, F, T)
    every = math.ceil(log_mel.shape[2] / MEL_COLUMNS)
    pooled = torch.nn.functional.avg_pool1d(log_mel, every, ceil_mode=True)[0]
    return pooled.cpu().numpy(), every * classifier.manifest.features.hop_samples


def grad_cam(output: Tensor, gradient: Tensor) -> NDArray[np.float32]:
    """ReLU(Σ_c mean(∂y/∂A_c) · A_c), scaled so that its maximum is 1. (C, F', T') twice → (F', T')."""
    cam = torch.relu((gradient.mean(dim=(1, 2), keepdim=True) * output).sum(dim=0))
    return (cam / cam.amax().clamp_min(1e-12)).detach().cpu().numpy().astype(np.float32)
