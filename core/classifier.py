"""Bytes in, ``Prediction`` out. ``Classifier.from_artifact`` is the only way to one."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from core.artifact import Artifact, load_artifact, replay
from core.audio import Waveform, decode
from core.config import Limits
from core.descriptors import describe
from core.errors import AudioError
from core.inference import Inference, infer, infer_many, softmax
from core.quality import assess
from core.records import Prediction, WindowPrediction
from core.unknown import Familiarity

DECODE_THREADS = 8


class Classifier:
    """A loaded artifact and the limits on what it accepts. Safe to call from several threads."""

    def __init__(self, artifact: Artifact, limits: Limits) -> None:
        self.net, self.manifest, self.limits = artifact.net, artifact.manifest, limits
        self.reference = artifact.reference
        self._familiarity = familiarity_of(artifact) if artifact.manifest.unknown else None

    @classmethod
    def from_artifact(cls, folder: Path, *, limits: Limits = Limits(), device: str = "cpu") -> Classifier:
        """Load ``folder``, check its hashes and replay its probe. Raises ``ArtifactError``."""
        return cls(load_artifact(folder, device=device), limits)

    def to(self, device: str) -> Classifier:
        """Move the network to ``device`` and replay the probe there. Raises ``ArtifactError``."""
        self.net.to(device)
        replay(self.manifest, self.net, f"the model on {device}")
        return self

    def decode(self, data: bytes) -> Waveform:
        """Bytes → mono waveform at the model's rate. Raises ``AudioError``."""
        return decode(data, audio=self.manifest.audio, limits=self.limits)

    def predict(
        self, data: bytes, *, backend: str = "local", decode: Callable[[bytes], Waveform] | None = None
    ) -> Prediction:
        """Classify one sound file given as bytes. Raises ``AudioError`` for what is not a usable sound.

        ``decode``: who decodes it as this classifier does, and may have done so before.
        """
        started = time.perf_counter()
        wave = (decode or self.decode)(data)
        return self._prediction(data, wave, infer(self.net, wave.samples, self.manifest.audio), backend, started)

    def predict_many(self, sounds: Sequence[bytes], *, backend: str = "local") -> list[Prediction | AudioError]:
        """Classify several sounds as one batch of the network: for a GPU. Waveforms of all are held at once.

        ``latency_ms`` of each is the time from the batch's start until its own answer.
        """
        started = time.perf_counter()
        with ThreadPoolExecutor(DECODE_THREADS) as pool:  # the decoders release the GIL
            decoded = list(pool.map(self._decoded, sounds))
        waves = [wave for wave in decoded if isinstance(wave, Waveform)]
        inferences = iter(infer_many(self.net, [wave.samples for wave in waves], self.manifest.audio))
        return [
            self._prediction(data, wave, next(inferences), backend, started) if isinstance(wave, Waveform) else wave
            for data, wave in zip(sounds, decoded, strict=True)
        ]

    def _decoded(self, data: bytes) -> Waveform | AudioError:
        try:
            return self.decode(data)
        except AudioError as exc:
            return exc

    def _prediction(self, data: bytes, wave: Waveform, answer: Inference, backend: str, started: float) -> Prediction:
        probabilities = softmax(answer.logits, self.manifest.temperature)
        descending = np.sort(probabilities)[::-1]
        order = np.argsort(-probabilities, kind="stable")
        names = self.manifest.class_names
        strangeness = self._strangeness(answer)
        return Prediction(
            clip_id=clip_id_of(data),
            label=names[order[0]],
            confidence=float(descending[0]),
            probabilities={names[k]: float(probabilities[k]) for k in order},
            entropy=entropy(probabilities),
            margin=float(descending[0] - descending[1]),
            logits=tuple(answer.logits.tolist()),
            embedding=tuple(answer.embedding.tolist()),
            unknown=self._is_unknown(strangeness[0]),
            unknown_score=strangeness[0],
            windows=self._windows(answer, strangeness[1:]),
            descriptors=describe(wave.samples, wave.sample_rate_hz),
            quality=assess(wave),
            source=wave.source,
            duration_s=wave.duration_s,
            latency_ms=(time.perf_counter() - started) * 1000,
            backend=backend,
            fingerprint=self.manifest.fingerprint,
            created_at=datetime.now(UTC),
        )

    def _strangeness(self, answer: Inference) -> list[float | None]:
        """Unknown-sound score of the whole sound, then of each of its W windows; ``None`` without a rule."""
        logits = np.concatenate([answer.logits[None], answer.window_logits])  # (1 + W, K)
        if self.manifest.unknown is None or self._familiarity is None:
            return [None] * len(logits)
        embeddings = np.concatenate([answer.embedding[None], answer.window_embeddings])
        scores: list[float | None] = self._familiarity.score(self.manifest.unknown.score, logits, embeddings).tolist()
        return scores

    def _is_unknown(self, score: float | None) -> bool:
        return score is not None and self.manifest.unknown is not None and score > self.manifest.unknown.threshold

    def _windows(self, answer: Inference, strangeness: Sequence[float | None]) -> tuple[WindowPrediction, ...]:
        rate = self.manifest.audio.sample_rate_hz
        rows = softmax(answer.window_logits, self.manifest.temperature)
        return tuple(
            WindowPrediction(
                start_s=start / rate,
                end_s=end / rate,
                probabilities=tuple(row.tolist()),
                unknown=self._is_unknown(score),
                unknown_score=score,
            )
            for (start, end), row, score in zip(answer.spans, rows, strangeness, strict=True)
        )


def familiarity_of(artifact: Artifact) -> Familiarity:
    """From the training clips that the artifact remembers; it must have a reference."""
    assert artifact.reference is not None, "load_artifact checks it"
    index = {name: position for position, name in enumerate(artifact.manifest.class_names)}
    embeddings, excerpts = (
        np.stack(artifact.reference[column].to_list()).astype(np.float32) for column in ("embedding", "excerpts")
    )
    excerpts = excerpts.reshape(len(embeddings), -1, embeddings.shape[1])
    return Familiarity.fit(embeddings, excerpts, artifact.reference["label"].map(index).to_numpy(dtype=np.int64))


def clip_id_of(data: bytes) -> str:
    """The first 16 hex digits of the sha256 of the file."""
    return hashlib.sha256(data).hexdigest()[:16]


def entropy(probabilities: NDArray[np.float64]) -> float:
    """−Σ p ln p, in nats; 0 · ln 0 = 0."""
    positive = probabilities[probabilities > 0]
    return float(-(positive * np.log(positive)).sum())
