"""What goes over the wire: requests, answers, and the one shape of an error."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from core.artifact import Manifest
from core.config import Frozen, Limits
from core.errors import EarshotError
from core.explain import Explanation, Stage
from core.inference import softmax
from core.records import Prediction

NAME_LENGTH = 255
MOST_MAPS = 64
DIGITS = 4  # of activations, Grad-CAM (0 to 1) and decibels: enough to draw them, a quarter of the text


class RequestError(EarshotError):
    """A request that gets an error for an answer. ``status`` is HTTP's; ``headers`` go with it."""

    def __init__(self, status: int, code: str, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.headers = dict(headers or {})


class ErrorFacts(Frozen):
    """``code`` is for programs and stays; ``message`` is for people."""

    code: str
    message: str


class ErrorAnswer(Frozen):
    """Every answer that is not 200, on every path."""

    error: ErrorFacts


class SoundQuery(Frozen):
    """Parameters of a classification, in the address."""

    top_k: int | None = Field(None, ge=1, le=1000, description="most probable classes to list; all otherwise")
    name: str | None = Field(None, max_length=NAME_LENGTH, description="what the log calls a raw body")


class BatchQuery(Frozen):
    """Parameters of a batch, in the address."""

    top_k: int | None = Field(None, ge=1, le=1000, description="most probable classes to list; all otherwise")


class ExplainQuery(Frozen):
    """Parameters of an explanation, in the address."""

    label: str | None = Field(None, description="class to explain; the window's own answer otherwise")
    window: int = Field(0, ge=0, le=1_000_000, description="analysis window of a long sound, from 0")
    maps: int = Field(
        4, ge=0, le=MOST_MAPS, description="feature maps of each stage, the strongest first; a picture shows up to 8"
    )
    format: Literal["arrays", "png"] = Field("arrays", description="numbers as JSON, or one picture")


class SoundInJson(Frozen):
    """A sound file inside JSON. ``top_k`` here wins over the one in the address."""

    audio: str = Field(description="the file's bytes in base64 (RFC 4648, with padding, no line breaks)")
    name: str = Field("sound", max_length=NAME_LENGTH, description="what the log calls it")
    top_k: int | None = Field(None, ge=1, le=1000, description="most probable classes to list; all otherwise")

    def data(self) -> bytes:
        try:
            return binascii.a2b_base64(self.audio, strict_mode=True) if self.audio else b""
        except (binascii.Error, ValueError) as exc:
            hint = " Leave out what stands before the comma." if self.audio.startswith("data:") else ""
            raise RequestError(
                422, "bad_base64", f"Expected audio to be base64, got text that is not: {exc}.{hint}"
            ) from exc


class Answer(Frozen):
    """``prediction`` is what the app shows, calibrated. ``raw_probabilities`` are those before the temperature."""

    id: int = Field(description="of the stored record")
    name: str
    prediction: Prediction
    raw_probabilities: dict[str, float]


class Failed(Frozen):
    """A sound of a batch that has no answer."""

    name: str
    error: ErrorFacts


class BatchAnswer(Frozen):
    """One entry a file, in the order given."""

    answers: tuple[Answer | Failed, ...]


class FeatureMap(Frozen):
    """One channel: ``values`` are rows of frequency, low first, of columns of time; ``strength`` is their mean."""

    channel: int
    strength: float
    values: list[list[float]]


class StageAnswer(Frozen):
    """One stage of the network. ``cam`` is Grad-CAM in [0, 1], of the maps' size; ``mean_map`` is over all channels."""

    name: str
    channels: int
    cam: list[list[float]]
    mean_map: list[list[float]]
    maps: tuple[FeatureMap, ...]


class ExplainAnswer(Frozen):
    """Why ``label``, for the window ``start_s`` to ``end_s``. ``log_mel`` (dB), of it all: a column every ``hop_s``."""

    label: str
    probability: float
    start_s: float
    end_s: float
    hop_s: float
    mel_hz: list[float]
    log_mel: list[list[float]]
    stages: tuple[StageAnswer, ...]
    fingerprint: str


class ModelAnswer(Frozen):
    """The model that answers and the bounds on what it accepts."""

    fingerprint: str
    class_names: tuple[str, ...]
    temperature: float
    unknown_threshold: float | None
    conformal_quantile: float | None
    sample_rate_hz: int
    window_s: float
    hop_s: float
    min_duration_s: float
    max_duration_s: float
    max_bytes: int
    dataset: str
    run_id: str
    code_version: str
    metrics: dict[str, Any]
    backend: str


class Status(Frozen):
    """``ok``, or ``ready``; anything else is an error. ``notes``: what whoever runs it should know."""

    status: Literal["ok", "ready"]
    backend: str
    fingerprint: str = Field(description="of the model that answers now")
    device: str | None = None
    notes: tuple[str, ...] = ()


def answer_of(number: int, name: str, prediction: Prediction, manifest: Manifest, top_k: int | None) -> Answer:
    """``probabilities`` and ``raw_probabilities`` hold the same classes, ``top_k`` of them at most."""
    raw = dict(zip(manifest.class_names, softmax(np.asarray(prediction.logits)).tolist(), strict=True))
    shown = dict(list(prediction.probabilities.items())[:top_k])
    return Answer(
        id=number,
        name=name,
        prediction=prediction.model_copy(update={"probabilities": shown}),
        raw_probabilities={label: raw[label] for label in shown},
    )


def explain_answer(explanation: Explanation, *, maps: int, fingerprint: str) -> ExplainAnswer:
    """``explanation`` as numbers."""
    return ExplainAnswer(
        label=explanation.label,
        probability=explanation.probability,
        start_s=explanation.start_s,
        end_s=explanation.end_s,
        hop_s=explanation.hop_s,
        mel_hz=np.round(explanation.mel_hz, 1).tolist(),
        log_mel=_rounded(explanation.log_mel),
        stages=tuple(_stage_answer(stage, maps) for stage in explanation.stages),
        fingerprint=fingerprint,
    )


def model_answer(manifest: Manifest, limits: Limits, backend: str) -> ModelAnswer:
    """What a caller needs of ``manifest``."""
    return ModelAnswer(
        fingerprint=manifest.fingerprint,
        class_names=manifest.class_names,
        temperature=manifest.temperature,
        unknown_threshold=manifest.unknown.threshold if manifest.unknown else None,
        conformal_quantile=manifest.conformal_quantile,
        sample_rate_hz=manifest.audio.sample_rate_hz,
        window_s=manifest.audio.window_s,
        hop_s=manifest.audio.hop_s,
        min_duration_s=manifest.audio.min_duration_s,
        max_duration_s=limits.max_duration_s,
        max_bytes=limits.max_bytes,
        dataset=manifest.dataset,
        run_id=manifest.run_id,
        code_version=manifest.code_version,
        metrics=manifest.metrics,
        backend=backend,
    )


def shown_name(name: str | None) -> str:
    """``name`` as a log and a database take it: its last part, printable, not too long."""
    last = (name or "").replace("\\", "/").rsplit("/", 1)[-1]
    return "".join(c if c.isprintable() else "�" for c in last)[:NAME_LENGTH] or "sound"


def encoded(data: bytes) -> str:
    """What ``SoundInJson.audio`` wants."""
    return base64.b64encode(data).decode("ascii")


def _stage_answer(stage: Stage, maps: int) -> StageAnswer:
    return StageAnswer(
        name=stage.name,
        channels=len(stage.maps),
        cam=_rounded(stage.cam),
        mean_map=_rounded(stage.mean_map),
        maps=tuple(
            FeatureMap(
                channel=channel,
                strength=round(float(stage.strength[channel]), DIGITS),
                values=_rounded(stage.maps[channel]),
            )
            for channel in stage.strongest(maps)
        ),
    )


def _rounded(values: NDArray[np.float32]) -> list[list[float]]:
    rounded: list[list[float]] = np.round(values.astype(np.float64), DIGITS).tolist()
    return rounded
