"""How long an answer takes, step by step, on this machine: ``python -m core bench``.

The sound is the artifact's own probe recipe, so nothing but the artifact is needed. Steps are timed in turn within each
repeat, so that a slow moment of the machine falls on all of them alike.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from core.artifact import Artifact
from core.audio import decode, write_wav
from core.classifier import Classifier
from core.config import Limits
from core.explain import explain

WARM_UP = 5  # repeats that are not counted: caches, lazily loaded code


@dataclass(frozen=True)
class Timing:
    """Of ``n`` repeats, in milliseconds. ``low`` and ``high`` are the 5th and 95th percentiles."""

    step: str
    median_ms: float
    low_ms: float
    high_ms: float
    n: int


def bench(artifact: Artifact, *, duration_s: float = 5.0, repeats: int = 50, threads: int = 1) -> list[Timing]:
    """Time each step for a sound of ``duration_s``, on ``threads`` CPU threads.

    ``waveform to logits`` is the network with its front end, of which ``log-mel`` is a part; ``bytes to prediction`` is
    all that a caller waits for: decoding, network, descriptors, quality.
    """
    classifier = Classifier(artifact, Limits())
    samples = _sound(artifact, duration_s)
    data = write_wav(samples, artifact.manifest.audio.sample_rate_hz)
    waveform = torch.from_numpy(samples)[None]
    steps: dict[str, Callable[[], Any]] = {
        "decode wav": lambda: decode(data, audio=artifact.manifest.audio),
        "log-mel": torch.inference_mode()(lambda: artifact.net.front_end(waveform)),
        "waveform to logits": torch.inference_mode()(lambda: artifact.net(waveform)),
        "bytes to prediction": lambda: classifier.predict(data),
        "explanation": lambda: explain(classifier, samples),
    }
    taken_ms: dict[str, list[float]] = {name: [] for name in steps}
    with _threads(threads):
        for repeat in range(WARM_UP + repeats):
            for name, step in steps.items():
                started = time.perf_counter()
                step()
                if repeat >= WARM_UP:
                    taken_ms[name].append((time.perf_counter() - started) * 1000)
    return [_timing(name, values) for name, values in taken_ms.items()]


def _timing(step: str, values_ms: list[float]) -> Timing:
    low, median, high = (float(q) for q in np.quantile(values_ms, [0.05, 0.5, 0.95]))
    return Timing(step, median, low, high, len(values_ms))


def _sound(artifact: Artifact, duration_s: float) -> NDArray[np.float32]:
    probe = artifact.manifest.probe.model_copy(update={"duration_s": duration_s})
    return probe.waveform(artifact.manifest.audio.sample_rate_hz)


@contextmanager
def _threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
