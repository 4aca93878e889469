"""Does hearing a clip several times help? Held-out accuracy for several views of it, and for several networks at once.

    python -m core views RUN --data DIR

Every clip is answered by the run's own members that never heard it. The answer is the largest mean probability over
views or networks; the cost is how much sound the networks hear, in times the whole clip.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from core.artifact import Artifact
from core.audio import Waveform
from core.dataset import Clip
from core.diagnostics.intervals import share
from core.inference import infer, softmax

Samples = NDArray[np.float32]
COLUMNS = ("clip_id", "fold", "seed", "view", "correct", "cost")
CROP_S = 2.0  # what the network heard at a time in training
SILENCE = 1e-4  # −80 dBFS


def whole(samples: Samples, rate: int) -> list[Samples]:
    return [samples]


def trimmed(samples: Samples, rate: int) -> list[Samples]:
    """Without digital silence at the ends, a second at least."""
    loud = np.flatnonzero(np.abs(samples) > SILENCE)
    if not loud.size:
        return [samples]
    inside = samples[loud[0] : loud[-1] + 1]
    return [np.pad(inside, (0, max(0, rate - inside.size)))]


def crops(count: int) -> Callable[[Samples, int], list[Samples]]:
    """``count`` crops of ``CROP_S``, evenly over what is not silence (ten of them: Tokozume et al. 2018)."""

    def cut(samples: Samples, rate: int) -> list[Samples]:
        length = round(CROP_S * rate)
        (inside,) = trimmed(samples, rate)
        padded = np.pad(inside, (0, max(0, length - inside.size)))
        starts = np.unique(np.linspace(0, padded.size - length, count).astype(int))
        return [padded[start : start + length] for start in starts]

    return cut


def with_faster(samples: Samples, rate: int) -> list[Samples]:
    """The clip and the clip 10 % faster: the only symmetry of pitch and time that training teaches."""
    faster = np.interp(np.arange(0, samples.size, 1.1), np.arange(samples.size), samples).astype(np.float32)
    return [samples, faster]


VIEWS: Mapping[str, Callable[[Samples, int], list[Samples]]] = {
    "the whole clip": whole,
    "without silence at its ends": trimmed,
    "5 crops of 2 s": crops(5),
    "10 crops of 2 s": crops(10),
    "the clip and 10 % faster": with_faster,
}


def answer_views(artifact: Artifact, clips: Sequence[Clip], waves: Sequence[Waveform], *, seed: int) -> pd.DataFrame:
    """``COLUMNS``: every held-out clip under every view, by a network that never heard it."""
    names, audio = artifact.manifest.class_names, artifact.manifest.audio
    rows = []
    for view, look in VIEWS.items():
        for clip, wave in zip(clips, waves, strict=True):
            heard = look(wave.samples, wave.sample_rate_hz)
            answers = [softmax(infer(artifact.net, part, audio).logits) for part in heard]
            predicted = names[int(np.mean(answers, axis=0).argmax())]
            cost = sum(part.size for part in heard) / wave.samples.size
            rows.append((clip.filename, clip.fold, seed, view, predicted == clip.label, cost))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def answer_together(records: pd.DataFrame, class_names: Sequence[str]) -> pd.DataFrame:
    """``COLUMNS``: every clip by the networks of all seeds at once, from the run's out-of-fold records."""
    rows = []
    for clip_id, group in records.groupby("clip_id", sort=False):
        probabilities = softmax(np.stack(group["logits"].to_list()))
        correct = class_names[int(probabilities.mean(axis=0).argmax())] == group["label"].iloc[0]
        view = f"{len(group)} networks, the whole clip"
        rows.append((clip_id, group["fold"].iloc[0], 0, view, correct, float(len(group))))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def summarise_views(answers: pd.DataFrame) -> pd.DataFrame:
    """A row a view: accuracy as mean over seeds, Wilson's 95 % interval at the number of clips, mean cost."""
    rows = []
    for view, group in answers.groupby("view", sort=False):
        n = int(group["clip_id"].nunique())
        right = share(float(group["correct"].mean()), n)
        rows.append((view, right.value, right.low, right.high, n, float(group["cost"].mean())))
    return pd.DataFrame(rows, columns=["view", "accuracy", "low", "high", "n", "cost"])
