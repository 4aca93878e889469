"""The artifact: one folder that is the only door from training to serving.

    model.safetensors    weights and buffers
    reference.parquet    the training clips as the network hears them: embeddings and descriptors, one row a clip
    artifact.json        everything else that decides an answer, a probe, and a fingerprint over all of it

The probe is a seeded waveform with the logits it gave when the artifact was saved. Loading replays it, so a library, a
device or a code change that alters answers is an error at start-up and not a silent loss of accuracy.
"""

from __future__ import annotations

import hashlib
import io
import json
import tempfile
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa
import torch
from numpy.typing import NDArray
from pydantic import Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save_file

from core.config import AudioConfig, FeatureConfig, Frozen, ModelConfig
from core.errors import ArtifactError
from core.inference import infer
from core.model import AudioResNet
from core.parquet import write_parquet
from core.unknown import UnknownRule

WEIGHTS, REFERENCE, MANIFEST = "model.safetensors", "reference.parquet", "artifact.json"
# Descriptors follow. ``excerpts``: embeddings of the clip's loudest parts (``core.excerpts``), one after the other.
REFERENCE_COLUMNS = ("clip_id", "fold", "source_group", "label", "embedding", "excerpts")
PROBE_TOLERANCE = 5e-3  # logits; CPUs differ by 1e-5, GPUs with TF32 convolutions by about 1e-3


class Probe(Frozen):
    """A synthetic sound and the answer to it."""

    seed: int = 0
    duration_s: float = Field(2.0, gt=0)
    logits: tuple[float, ...]

    def waveform(self, sample_rate_hz: int) -> NDArray[np.float32]:
        """A rising tone in pink-ish noise: every mel band and both ends of the level range take part. (N,)"""
        time_s = np.arange(round(self.duration_s * sample_rate_hz)) / sample_rate_hz
        tone = 0.2 * np.sin(2 * np.pi * (200 + 0.1 * sample_rate_hz * time_s / self.duration_s) * time_s)
        noise = np.random.default_rng(self.seed).standard_normal(time_s.size)
        smooth = np.convolve(noise, np.ones(8) / 8, mode="same")
        return np.asarray(tone + 0.05 * (noise + smooth) * (time_s > self.duration_s / 2), dtype=np.float32)


class Facts(Frozen):
    """What training knows about the network it hands over."""

    audio: AudioConfig
    features: FeatureConfig
    model: ModelConfig
    class_names: tuple[str, ...] = Field(min_length=2)
    temperature: float = Field(1.0, gt=0)
    conformal_quantile: float | None = Field(None, ge=0, le=1, description="LAC, 90 %; None: not fitted")
    unknown: UnknownRule | None = Field(None, description="when a sound is none of the classes; None: not fitted")
    metrics: dict[str, Any]
    dataset: str
    dataset_hash: str
    code_version: str
    run_id: str


class Manifest(Facts):
    """The contents of ``artifact.json``. ``fingerprint`` is the sha256 over all the rest."""

    schema_version: Literal[1] = 1
    created_at: datetime
    weights_sha256: str
    reference_sha256: str | None = None
    probe: Probe
    fingerprint: str


@dataclass(frozen=True)
class Artifact:
    """A network in eval mode and the facts it was saved with.

    ``reference`` has ``REFERENCE_COLUMNS`` and descriptors, one row a training clip; ``None`` where none was saved.
    """

    net: AudioResNet
    manifest: Manifest
    reference: pd.DataFrame | None


def save_artifact(folder: Path, net: AudioResNet, facts: Facts, reference: pd.DataFrame | None = None) -> Manifest:
    """Write ``net`` (eval mode, CPU) and its facts to ``folder``, replacing what is there by renaming.

    Raises ``ArtifactError`` where ``facts.unknown`` needs a ``reference`` that is not given.
    """
    _check_reference(folder, facts, reference)
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as part:
        staged = Path(part) / folder.name
        staged.mkdir()
        _save_weights(net, staged / WEIGHTS)
        if reference is not None:
            write_parquet(staged / REFERENCE, pa.Table.from_pandas(reference, preserve_index=False))
        content = facts.model_dump(mode="json") | {
            "schema_version": 1,
            "created_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "weights_sha256": _sha256((staged / WEIGHTS).read_bytes()),
            "reference_sha256": None if reference is None else _sha256((staged / REFERENCE).read_bytes()),
            "probe": _record_probe(net, facts.audio).model_dump(mode="json"),
        }
        content["fingerprint"] = fingerprint_of(content)
        (staged / WEIGHTS).chmod(0o644)  # safetensors leaves it to its owner alone
        (staged / MANIFEST).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
        if folder.exists():
            folder.rename(Path(part) / "replaced")
        staged.rename(folder)
    return Manifest.model_validate(content)


def _save_weights(net: AudioResNet, file: Path) -> None:
    try:
        save_file({name: value.contiguous() for name, value in net.state_dict().items()}, file)
    except SafetensorError as exc:  # what a full disk is to safetensors
        raise OSError(f"the weights could not be written ({exc})") from exc


def _record_probe(net: AudioResNet, audio: AudioConfig) -> Probe:
    unanswered = Probe(logits=())
    logits = infer(net, unanswered.waveform(audio.sample_rate_hz), audio).logits
    return Probe(logits=tuple(float(value) for value in logits))


def fingerprint_of(content: dict[str, Any]) -> str:
    """sha256 over the manifest's JSON content without its own fingerprint, keys sorted."""
    rest = {name: value for name, value in content.items() if name != "fingerprint"}
    return _sha256(json.dumps(rest, sort_keys=True, separators=(",", ":")).encode())


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def load_artifact(folder: Path, *, device: str = "cpu") -> Artifact:
    """Read ``folder``, check every hash, rebuild the network and replay the probe.

    Raises ``ArtifactError`` with ``code`` missing, unreadable, altered, unfit or probe_mismatch.
    """
    manifest = read_manifest(folder)
    weights = _read_unaltered(folder, WEIGHTS, manifest.weights_sha256)
    reference = _read_reference(folder, manifest)
    _check_reference(folder, manifest, reference)
    net = _rebuild(folder, manifest, weights).to(device)
    replay(manifest, net, f"the model in {folder}")
    return Artifact(net, manifest, reference)


def read_reference(folder: Path) -> pd.DataFrame | None:
    """The training clips alone, without the weights; ``None`` where none were saved. Raises ``ArtifactError``."""
    return _read_reference(folder, read_manifest(folder))


def _read_reference(folder: Path, manifest: Manifest) -> pd.DataFrame | None:
    if manifest.reference_sha256 is None:
        return None
    return pd.read_parquet(io.BytesIO(_read_unaltered(folder, REFERENCE, manifest.reference_sha256)))


def _check_reference(folder: Path, facts: Facts, reference: pd.DataFrame | None) -> None:
    if facts.unknown is None:
        return
    missing = set(REFERENCE_COLUMNS) - set(() if reference is None else reference.columns)
    if missing:
        lacks = f"no {REFERENCE}" if reference is None else f"a {REFERENCE} without {', '.join(sorted(missing))}"
        raise ArtifactError(
            f"The model in {folder} tells unknown sounds by {facts.unknown.score} but has {lacks} of its training "
            "clips. Train it anew.",
            code="unfit",
        )


def _read_unaltered(folder: Path, name: str, sha256: str) -> bytes:
    data = _read(folder, name)
    if _sha256(data) != sha256:
        raise _altered(folder, name)
    return data


def _read(folder: Path, name: str) -> bytes:
    try:
        return (folder / name).read_bytes()
    except OSError as exc:
        raise ArtifactError(
            f"Expected a model folder with {MANIFEST} and {WEIGHTS} at {folder}, but {name} cannot be read "
            f"({exc.strerror}). Set EARSHOT_ARTIFACT to an artifact folder, or train one: make train.",
            code="missing",
        ) from exc


def read_manifest(folder: Path) -> Manifest:
    """The facts alone, checked against their fingerprint, without the weights. Raises ``ArtifactError``."""
    text = _read(folder, MANIFEST)
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise ValueError("not a JSON object")
        if content.get("fingerprint") != fingerprint_of(content):
            raise _altered(folder, MANIFEST)
        return Manifest.model_validate(content)
    except ValidationError as exc:
        first = exc.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ArtifactError(
            f"{folder / MANIFEST}: {place}: {first['msg']}. Another version of Earshot wrote it; train it anew.",
            code="unreadable",
        ) from exc
    except ValueError as exc:
        raise ArtifactError(
            f"Expected JSON in {folder / MANIFEST}, got something else ({exc}). Restore the folder from its source.",
            code="unreadable",
        ) from exc


def _altered(folder: Path, name: str) -> ArtifactError:
    return ArtifactError(
        f"{folder / name} is not what was saved: its sha256 differs from the one recorded. "
        "Restore the folder from its source; an altered model is never served.",
        code="altered",
    )


def _rebuild(folder: Path, manifest: Manifest, weights: bytes) -> AudioResNet:
    try:
        net = AudioResNet(len(manifest.class_names), manifest.audio, manifest.features, manifest.model)
        net.load_state_dict(load_tensors(weights))
    except (SafetensorError, RuntimeError) as exc:
        raise ArtifactError(
            f"The weights in {folder} do not fit the network its {MANIFEST} describes. Train it anew.", code="unfit"
        ) from exc
    return net.eval().requires_grad_(False)


def replay(manifest: Manifest, net: AudioResNet, called: str) -> None:
    """Raise ``ArtifactError`` unless ``net``, on its device, answers the probe as it did when it was saved."""
    waveform = manifest.probe.waveform(manifest.audio.sample_rate_hz)
    logits = infer(net, waveform, manifest.audio).logits
    saved = np.array(manifest.probe.logits)
    gap = float(np.abs(logits - saved).max()) if logits.shape == saved.shape else float("inf")
    if not gap <= PROBE_TOLERANCE:
        raise ArtifactError(
            f"{called[:1].upper()}{called[1:]} answers its probe sound differently from when it was saved: logits "
            f"differ by {gap:.2g}, at most {PROBE_TOLERANCE:g} is accepted. Install the pinned requirements, or train "
            f"it anew with this version ({torch.__version__}).",
            code="probe_mismatch",
        )
