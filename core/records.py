"""What a prediction is. Evaluation and production write these same types, so every diagnostic serves both."""

from __future__ import annotations

import math
from datetime import datetime
from typing import Annotated, Literal

from pydantic import BeforeValidator, WithJsonSchema

from core.config import Frozen

QualityCode = Literal["silent", "clipped", "band_limited", "short", "channels_cancel", "truncated"]


# JSON has no nan: an undefined measure is null there.
Measure = Annotated[
    float,
    BeforeValidator(lambda value: math.nan if value is None else value),
    WithJsonSchema({"anyOf": [{"type": "number"}, {"type": "null"}]}),
]


_NUMBERS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten", "eleven", "twelve")


def none_of_the(classes: int) -> str:
    """``None of the ten classes``: how an unknown sound is called wherever people read it."""
    return f"None of the {_NUMBERS[classes] if classes < len(_NUMBERS) else f'{classes:,}'} classes"


# What a person says a sound is that is none of the model's classes, where they name nothing closer.
NONE_OF_THE_CLASSES = "none_of_the_classes"


class QualityWarning(Frozen):
    """Something about the recording that makes the answer less trustworthy. Never a repair, never a block."""

    code: QualityCode
    message: str


class SourceFacts(Frozen):
    """What the file was before it became a mono waveform at the model's rate."""

    container: str  # "wav", "flac", "ogg", "mp3", "mp4", "webm", …
    codec: str  # "pcm_s16", "vorbis", "opus", "aac", …
    sample_rate_hz: int
    channels: int
    duration_s: float
    peak: float  # largest |sample| over all channels, full scale = 1
    longest_clipped_run: int  # most consecutive samples at |x| ≥ 0.999 in one channel
    downmix_loss_db: float  # level lost by averaging the channels; ≫ 3 dB: they cancel
    truncated: bool  # the stream ended before its header said, or broke off


class WindowPrediction(Frozen):
    """The answer for one stretch of a long sound. ``probabilities`` follow the artifact's class order."""

    start_s: float
    end_s: float
    probabilities: tuple[float, ...]
    unknown: bool = False
    unknown_score: float | None = None


class Place(Frozen):
    """Where an answer was made. ``latency_ms`` of the prediction is the work there, ``round_trip_ms`` all the waiting.

    ``cold``: a container was started for it.
    """

    device: str  # "cpu", "NVIDIA A10"
    cold: bool
    round_trip_ms: float


class Prediction(Frozen):
    """One answer for one sound.

    ``probabilities`` maps every class to [0, 1], most probable first, and sums to 1. For sounds of several windows
    ``logits`` and ``embedding`` are means over them, and ``probabilities`` belong to those mean logits. ``entropy`` is
    in nats; ``margin`` is the first probability less the second. These follow the artifact's class
    order and embedding axis.

    ``unknown`` says that the sound is probably none of the classes: its ``unknown_score`` exceeds the artifact's
    threshold. ``label`` is then the most similar class. Where the artifact has no threshold, the score is ``None``.
    """

    clip_id: str  # sha256 of the bytes, first 16 hex digits
    label: str
    confidence: float
    probabilities: dict[str, float]
    entropy: float
    margin: float
    logits: tuple[float, ...]
    embedding: tuple[float, ...]
    unknown: bool
    unknown_score: float | None
    windows: tuple[WindowPrediction, ...]
    descriptors: dict[str, Measure]
    quality: tuple[QualityWarning, ...]
    source: SourceFacts
    duration_s: float
    latency_ms: float
    backend: str
    fingerprint: str
    created_at: datetime
    place: Place | None = None  # None: the machine that asked
