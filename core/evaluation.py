"""Held-out clips → records: the same columns whichever run, fold or backend they come from."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import binomtest
from sklearn.metrics import f1_score, recall_score

from core.audio import Waveform
from core.config import AudioConfig
from core.dataset import Clip
from core.descriptors import describe
from core.inference import infer, softmax
from core.model import AudioResNet

CLIP_COLUMNS = ("clip_id", "fold", "source_group", "label", "seed", "logits", "embedding")  # descriptors follow


def evaluate(
    net: AudioResNet, clips: Sequence[Clip], waves: Sequence[Waveform], audio: AudioConfig, *, seed: int
) -> pd.DataFrame:
    """One row a clip: ``CLIP_COLUMNS``, then every descriptor. ``net`` is in eval mode and never saw the clips."""
    rows = [_record(net, clip, wave, audio, seed) for clip, wave in zip(clips, waves, strict=True)]
    return pd.DataFrame(rows) if rows else pd.DataFrame(columns=list(CLIP_COLUMNS))


def _record(net: AudioResNet, clip: Clip, wave: Waveform, audio: AudioConfig, seed: int) -> dict[str, Any]:
    answer = infer(net, wave.samples, audio)
    return {
        "clip_id": clip.filename,
        "fold": clip.fold,
        "source_group": clip.source_group,
        "label": clip.label,
        "seed": seed,
        "logits": answer.logits,
        "embedding": answer.embedding,
        **describe(wave.samples, wave.sample_rate_hz),
    }


def summarise(records: pd.DataFrame, class_names: Sequence[str]) -> dict[str, Any]:
    """Accuracy with its Wilson 95 % interval, macro-F1, recall of each class, NLL in nats, and n.

    Everything but ``n`` is absent where there are no records: a run on all folds has no held-out clips.
    """
    n = len(records)
    if n == 0:
        return {"n": 0}
    index = {name: position for position, name in enumerate(class_names)}
    true = records["label"].map(index).to_numpy()
    logits = np.stack(records["logits"].to_list())
    predicted = logits.argmax(axis=1)
    right = int((predicted == true).sum())
    interval = binomtest(right, n).proportion_ci(0.95, method="wilson")
    present = sorted(set(true.tolist()))
    recalls = recall_score(true, predicted, labels=present, average=None)
    return {
        "n": n,
        "accuracy": right / n,
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "macro_f1": float(f1_score(true, predicted, labels=present, average="macro")),
        "nll": float(-np.log(softmax(logits)[np.arange(n), true].clip(math.ulp(0.0))).mean()),
        "recall": {class_names[k]: float(recall) for k, recall in zip(present, recalls, strict=True)},
    }
