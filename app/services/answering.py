"""Networks that answer: the chosen backend, here or on Modal, and others of this machine beside it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.services import environment

if TYPE_CHECKING:
    import pandas as pd

    from core.backend import Backend, LocalBackend
    from core.jobs import Where


def where() -> Where:
    """Where sounds are answered: as this person chose, else as the settings say."""
    from app import state

    return state.BACKEND.get() or environment.settings().backend


def backend() -> Backend:
    """The chosen backend over the configured artifact; made again when its files change. Raises ``ArtifactError``."""
    given = environment.settings()
    stamp = environment.stamp(given.artifact)
    if where() == "modal":
        return _modal_backend(given.artifact, stamp, given.runs_dir)
    return _backend(given.artifact, stamp, given.max_bytes, given.max_duration_s)


@st.cache_resource(max_entries=2, show_spinner=False)
def _modal_backend(artifact: Path, stamp: tuple[int, ...], runs_dir: Path) -> Backend:
    from core.artifact import read_manifest
    from modal_backend import connect

    return connect(read_manifest(artifact), runs_dir)


@st.cache_resource(max_entries=2, show_spinner=False)
def _backend(artifact: Path, stamp: tuple[int, ...], max_bytes: int, max_duration_s: float) -> Backend:
    from core.backend import LocalBackend
    from core.classifier import Classifier
    from core.inference import leave_cores_free

    leave_cores_free()
    return LocalBackend(Classifier.from_artifact(artifact, limits=environment.settings().limits))


def network(artifact: Path) -> LocalBackend:
    """A network of this machine, asked for explanations beside the one that answers. Raises ``ArtifactError``."""
    return _network(artifact, environment.stamp(artifact))


@st.cache_resource(max_entries=8, show_spinner=False)  # 5 MB each
def _network(artifact: Path, stamp: tuple[int, ...]) -> LocalBackend:
    from core.backend import LocalBackend
    from core.classifier import Classifier
    from core.inference import leave_cores_free

    leave_cores_free()
    return LocalBackend(Classifier.from_artifact(artifact, limits=environment.settings().limits))


def members(run: Path) -> dict[tuple[int | None, int], Path]:
    """(held-out fold, seed) → artifact, of the networks of a run that are still there."""
    return _members(run, environment.stamp(run / "members"))


@st.cache_resource(max_entries=8, show_spinner=False)
def _members(run: Path, stamp: tuple[int, ...]) -> dict[tuple[int | None, int], Path]:
    from core.training.runs import networks

    return networks(run)


def reference(artifact: Path) -> pd.DataFrame | None:
    """The training clips as the network of ``artifact`` hears them; ``None`` where none were saved with it."""
    return network(artifact).classifier.reference
