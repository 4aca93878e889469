"""One waveform through one network. Training evaluates and serving answers by this same function."""

from __future__ import annotations

import os
from collections.abc import Sequence
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


def infer(net: AudioResNet, samples: NDArray[np.float32], audio: AudioConfig) -> Inference:
    """Run ``net`` (in eval mode) over ``samples`` (N,) at ``audio.sample_rate_hz``, window by window, in float32."""
    return infer_many(net, [samples], audio)[0]


@torch.inference_mode()
def infer_many(net: AudioResNet, sounds: Sequence[NDArray[np.float32]], audio: AudioConfig) -> list[Inference]:
    """``infer`` for several sounds at once: windows of one length, whosever they are, share batches of the network.

    That fills a GPU; each answer equals the one that the sound gets alone but for rounding (1e-5 in logits).
    """
    device = next(net.parameters()).device
    spans = [tuple(window_spans(samples.size, audio)) for samples in sounds]
    same_length: dict[int, list[int]] = {}  # all windows of a sound have one length
    for position, ((start, end), *_) in enumerate(spans):
        same_length.setdefault(end - start, []).append(position)
    answers: dict[int, Inference] = {}
    for positions in same_length.values():
        windows = torch.from_numpy(np.stack([sounds[p][start:end] for p in positions for start, end in spans[p]]))
        outputs = [net(batch.to(device)) for batch in windows.split(WINDOWS_AT_ONCE)]
        counts = [len(spans[p]) for p in positions]
        logits = torch.cat([output.logits for output in outputs]).split(counts)
        embeddings = torch.cat([output.embedding for output in outputs]).split(counts)
        for position, of_logits, of_embeddings in zip(positions, logits, embeddings, strict=True):
            answers[position] = Inference(
                logits=of_logits.mean(dim=0).cpu().numpy(),
                embedding=of_embeddings.mean(dim=0).cpu().numpy(),
                window_logits=of_logits.cpu().numpy(),
                window_embeddings=of_embeddings.cpu().numpy(),
                spans=spans[position],
            )
    return [answers[position] for position in range(len(sounds))]


def softmax(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Probabilities along the last axis, in float64; ``temperature`` > 1 softens."""
    scaled = logits.astype(np.float64) / temperature
    exponent = np.exp(scaled - scaled.max(axis=-1, keepdims=True))
    return np.asarray(exponent / exponent.sum(axis=-1, keepdims=True))
