"""Training that starts from a finished model instead of from nothing.

    python -m core train --data DIR --init ARTIFACT --epochs 20 --set learning_rate=2e-4

The starting network has heard clips before. Those are never taken for held out: a held-out clip counts only if the
starting artifact does not remember it as a training clip. From a cross-validation, each fold starts from the network
that never heard it, so every clip counts; from a lone artifact only the clips that are new do.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from core.artifact import Artifact, load_artifact, read_manifest
from core.audio import Waveform
from core.config import AudioConfig
from core.dataset import Clip, twins_of
from core.errors import RunError
from core.inference import infer
from core.model import AudioResNet
from core.training.runs import RunConfig


def starting_artifact(init: Path, member: str | None = None) -> Path:
    """The artifact that a run, or the member named so of a cross-validation, starts from.

    ``init`` is an artifact or a run folder. A member starts from its own namesake there; where ``init`` has none, from
    the artifact.
    """
    folder = init if (init / "artifact.json").exists() else init / "artifact"
    namesake = folder.parent / "members" / member / "artifact" if member else folder
    return namesake if (namesake / "artifact.json").exists() else folder


def build_of(init: Path | None) -> dict[str, Any]:
    """Audio, features and model of the network to start from: a network of another build cannot take its weights."""
    if init is None:
        return {}
    manifest = read_manifest(starting_artifact(init))
    return {name: getattr(manifest, name).model_dump() for name in ("audio", "features", "model")}


def started_from(init: Path | None, member: str | None = None) -> dict[str, Any]:
    """``init`` and ``started_from`` of a ``RunConfig``: the artifact a run, or that member, starts from."""
    if init is None:
        return {}
    artifact = starting_artifact(init.absolute(), member)
    return {"init": artifact, "started_from": read_manifest(artifact).fingerprint}


def load_start(config: RunConfig) -> Artifact | None:
    """The model to start from, checked to be of the same build as the run. Raises ``RunError`` or ``ArtifactError``."""
    if config.init is None:
        return None
    start = load_artifact(config.init)
    manifest, train = start.manifest, config.train
    if (manifest.audio, manifest.features, manifest.model) != (train.audio, train.features, train.model):
        raise RunError(
            f"Expected to start from a network of the same build, {config.init} has another model, features or audio. "
            "Take these from it, as --init does, and change none of them.",
            code="other_build",
        )
    if start.reference is None:
        raise RunError(
            f"The model in {config.init} does not say which clips it was trained on, so no clip could be held out from "
            "it. Train it anew.",
            code="unknown_past",
        )
    return start


def adopt(net: AudioResNet, start: Artifact, class_names: Sequence[str]) -> None:
    """Give ``net`` the weights of ``start``. A class that both know keeps its row of the head; others stay as drawn."""
    weights = {name: value for name, value in start.net.state_dict().items() if not name.startswith("head.")}
    net.load_state_dict(weights, strict=False)
    known = {name: row for row, name in enumerate(start.manifest.class_names)}
    with torch.no_grad():
        for row, name in enumerate(class_names):
            if name in known:
                net.head.weight[row] = start.net.head.weight[known[name]]
                net.head.bias[row] = start.net.head.bias[known[name]]


def heard_by(start: Artifact | None, clips: Sequence[Clip]) -> frozenset[str]:
    """File names of those ``clips`` that the starting network knows: it was trained on them, on others of the same
    source recording, or on one that shares their audio.
    """
    if start is None or start.reference is None:
        return frozenset()
    names, recordings = set(start.reference["clip_id"]), set(start.reference["source_group"]) - {""}
    known = names | twins_of(names)
    return frozenset(clip.filename for clip in clips if clip.filename in known or clip.source_group in recordings)


def before_and_after(
    start: Artifact, net: AudioResNet, clips: Sequence[Clip], waves: Sequence[Waveform], class_names: Sequence[str]
) -> dict[str, Any]:
    """Accuracy of the starting network and of ``net`` on the clips of a held-out fold: new to both, and heard before.

    On what the starting network heard its own accuracy flatters it; how far ``net`` falls below shows what it forgot.
    """
    heard = heard_by(start, clips)
    facts: dict[str, Any] = {"fingerprint": start.manifest.fingerprint}
    for kind, wanted in (("new", False), ("heard", True)):
        chosen = [i for i, clip in enumerate(clips) if (clip.filename in heard) == wanted]
        truth = [clips[i].label for i in chosen]
        facts[kind] = {
            "n": len(chosen),
            "before": _share(
                start.net, start.manifest.class_names, [waves[i] for i in chosen], truth, start.manifest.audio
            ),
            "after": _share(net, class_names, [waves[i] for i in chosen], truth, start.manifest.audio),
        }
    return facts


def pooled(of_members: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """``before_and_after`` over folds and seeds: shares weighted by their numbers of clips."""
    whole: dict[str, Any] = {}
    for kind in ("new", "heard"):
        parts = [member[kind] for member in of_members if member[kind]["n"]]
        n = sum(part["n"] for part in parts)
        shares = {
            side: sum(part[side] * part["n"] for part in parts) / n if n else None for side in ("before", "after")
        }
        whole[kind] = {"n": n} | shares
    return whole


def _share(
    net: AudioResNet, class_names: Sequence[str], waves: Sequence[Waveform], truth: Sequence[str], audio: AudioConfig
) -> float | None:
    if not truth:
        return None
    answers = [class_names[int(infer(net, wave.samples, audio).logits.argmax())] for wave in waves]
    return float(np.mean([answer == label for answer, label in zip(answers, truth, strict=True)]))
