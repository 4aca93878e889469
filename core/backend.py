"""Where inference runs. One seam: every caller speaks to ``Backend`` and gets the same types, whoever answers."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from core.artifact import Manifest, read_manifest
from core.audio import Waveform
from core.classifier import Classifier
from core.config import Frozen, Settings
from core.errors import AudioError, BackendError
from core.explain import Explanation, explain
from core.jobs import Trainer
from core.local_jobs import LocalTrainer
from core.records import Prediction


class Health(Frozen):
    """Whether a backend can answer now, and what it would answer with."""

    ready: bool
    backend: str
    device: str
    message: str


class Backend(Protocol):
    """The one protocol of the product: answers and, through its ``trainer``, training. Errors are ``EarshotError``s.

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

    @property
    def trainer(self) -> Trainer: ...


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

    def _classify(self, sound: bytes) -> Prediction | AudioError:
        try:
            return self.classifier.predict(sound, backend=self.name, decode=self.waveform)
        except AudioError as exc:
            return exc


MODAL = "modal_backend"  # beside core/; imported where Modal is asked for, by name: core does not know it


def backend_over(artifact: Path, settings: Settings, *, answer_s: float | None = None) -> Backend:
    """The backend that ``settings.backend`` names over ``artifact``. Raises ``ArtifactError`` and ``BackendError``.

    ``answer_s``: how long an answer from elsewhere may take; its own patience where None.
    """
    if settings.backend == "local":
        return LocalBackend(Classifier.from_artifact(artifact, limits=settings.limits))
    try:
        elsewhere = importlib.import_module(MODAL)
    except ImportError as exc:
        raise BackendError(
            f"Expected to ask Modal, its client cannot be imported ({exc}). Run this in the repository, with all "
            "of requirements.txt installed, or set EARSHOT_BACKEND=local.",
            code="no_modal_client",
        ) from exc
    backend: Backend = elsewhere.connect(read_manifest(artifact), settings.runs_dir, answer_s=answer_s)
    return backend
