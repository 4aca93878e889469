"""Where inference runs. One seam: every caller speaks to ``Backend`` and gets the same types, whoever answers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from core.artifact import Manifest
from core.audio import Waveform
from core.classifier import Classifier
from core.config import Frozen, Settings
from core.errors import AudioError
from core.explain import Explanation, explain
from core.jobs import Job, LocalTrainer, Progress, Trainer, TrainingRequest
from core.records import Prediction


class Health(Frozen):
    """Whether a backend can answer now, and what it would answer with."""

    ready: bool
    backend: str
    device: str
    message: str


class Backend(Trainer, Protocol):
    """The one protocol of the product: answers and, as a ``Trainer``, training. Errors are ``EarshotError``s.

    ``name`` is short and stable: ``local``, ``modal``. Every prediction carries it. Where nothing answers, the error is
    a ``BackendError`` that says why.
    """

    @property
    def name(self) -> str: ...

    @property
    def manifest(self) -> Manifest: ...

    def classify(self, sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
        """One answer a sound, in order. A sound that is not usable gives its error and stops no other."""
        ...

    def explain(
        self,
        sound: bytes,
        *,
        label: str | None = None,
        window: int = 0,
        timeline: bool = False,
        occlusion: bool = False,
    ) -> Explanation: ...

    def health(self) -> Health: ...


class LocalBackend:
    """This process, this machine's CPU."""

    name: str = "local"

    def __init__(self, classifier: Classifier, trainer: Trainer | None = None) -> None:
        self.classifier = classifier
        self._trainer = trainer
        self._decoded: tuple[bytes, Waveform] | None = None

    @property
    def manifest(self) -> Manifest:
        return self.classifier.manifest

    def classify(self, sounds: Sequence[bytes]) -> list[Prediction | AudioError]:
        return [self._classify(sound) for sound in sounds]

    def explain(
        self,
        sound: bytes,
        *,
        label: str | None = None,
        window: int = 0,
        timeline: bool = False,
        occlusion: bool = False,
    ) -> Explanation:
        samples = self.waveform(sound).samples
        return explain(self.classifier, samples, label=label, window=window, timeline=timeline, occlusion=occlusion)

    def waveform(self, sound: bytes) -> Waveform:
        """The sound as the model hears it. The last one is remembered: who asks for an answer asks why next.

        Raises ``AudioError``.
        """
        decoded = self._decoded
        if decoded is None or decoded[0] != sound:
            decoded = self._decoded = (sound, self.classifier.decode(sound))
        return decoded[1]

    def health(self) -> Health:
        return Health(ready=True, backend=self.name, device="cpu", message="Answers on this machine's CPU.")

    @property
    def trainer(self) -> Trainer:
        """Of this machine's runs folder, unless another was given."""
        return self._trainer or LocalTrainer(Settings.load().runs_dir)

    def start_training(self, request: TrainingRequest, *, asked_by: str = "") -> Job:
        return self.trainer.start_training(request, asked_by=asked_by)

    def jobs(self) -> list[Job]:
        return self.trainer.jobs()

    def follow(self, job_id: str) -> Progress:
        return self.trainer.follow(job_id)

    def cancel(self, job_id: str) -> Job:
        return self.trainer.cancel(job_id)

    def resume(self, job_id: str) -> Job:
        return self.trainer.resume(job_id)

    def _classify(self, sound: bytes) -> Prediction | AudioError:
        try:
            return self.classifier.predict(sound, backend=self.name, decode=self.waveform)
        except AudioError as exc:
            return exc
