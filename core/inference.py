"""One waveform through one network. Training evaluates and serving answers by this same function."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from core.audio import window_spans
from core.config import AudioConfig
from core.model import AudioResNet

WINDOWS_AT_ONCE = 16  # bounds memory on long audio


@dataclass(frozen=True)
class Inference:
    """``logits`` (K,) and ``embedding`` (D,) are means over windows, (W, K) and (W, D); ``spans`` in samples."""

    logits: NDArray[np.float32]
    embedding: NDArray[np.float32]
    window_logits: NDArray[np.float32]
    window_embeddings: NDArray[np.float32]
    spans: tuple[tuple[int, int], ...]


def leave_cores_free() -> None:
    """Let torch use half of the cores. For entry points that answer people.

    A convolution split over every core waits for the slowest at each barrier: on a two-core machine with other work a
    clip took 385 ms on two threads and 33 ms on one.
    """
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // 2))


@torch.inference_mode()
def infer(net: AudioResNet, samples: NDArray[np.float32], audio: AudioConfig) -> Inference:
    """Run ``net`` (in eval mode) over ``samples`` (N,) at ``audio.sample_rate_hz``, window by window, in float32."""
    spans = window_spans(samples.size, audio)
    device = next(net.parameters()).device
    windows = torch.from_numpy(np.stack([samples[start:end] for start, end in spans]))
    outputs = [net(batch.to(device)) for batch in windows.split(WINDOWS_AT_ONCE)]
    window_logits = torch.cat([output.logits for output in outputs])
    embeddings = torch.cat([output.embedding for output in outputs])
    return Inference(
        logits=window_logits.mean(dim=0).cpu().numpy(),
        embedding=embeddings.mean(dim=0).cpu().numpy(),
        window_logits=window_logits.cpu().numpy(),
        window_embeddings=embeddings.cpu().numpy(),
        spans=tuple(spans),
    )


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities along the last axis, in float64; ``temperature`` > 1 softens."""
    scaled = logits.astype(np.float64) / temperature
    exponent = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True))
