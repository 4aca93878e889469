"""What the environment configures: settings, the database, the facts of the model that answers."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from core.config import Settings

if TYPE_CHECKING:
    from core.artifact import Manifest
    from core.store import Store


def settings() -> Settings:
    """The environment, read anew: it costs less than a millisecond. Raises ``SettingsError``."""
    return Settings.load()


def modal_is_set_up() -> bool:
    """Whether this machine has a Modal token: where ``modal setup`` leaves it, or in the environment."""
    config = Path(os.environ.get("MODAL_CONFIG_PATH", "~/.modal.toml")).expanduser()
    return "MODAL_TOKEN_ID" in os.environ or config.is_file()


def stamp(folder: Path) -> tuple[int, ...]:
    """Modification times of the files in ``folder``: they tell when a cached reading of it is out of date."""
    try:
        return tuple(sorted(file.stat().st_mtime_ns for file in folder.iterdir()))
    except OSError:
        return ()


def store() -> Store:
    """The database of predictions. Raises ``StoreError``."""
    return _store(settings().database)


@st.cache_resource(max_entries=2, show_spinner=False, on_release=lambda store: store.close())
def _store(url: str) -> Store:
    from core.store import Store

    return Store.open(url)


def manifest() -> Manifest:
    """The facts of the model that answers, without loading it. Raises ``ArtifactError``."""
    return manifest_of(settings().artifact)


def manifest_of(artifact: Path) -> Manifest:
    """The facts of any model, without loading it. Raises ``ArtifactError``."""
    return _manifest(artifact, stamp(artifact))


@st.cache_resource(max_entries=4, show_spinner=False)
def _manifest(artifact: Path, stamp: tuple[int, ...]) -> Manifest:
    from core.artifact import read_manifest

    return read_manifest(artifact)


def fingerprint() -> str:
    """Of the model that answers."""
    return manifest().fingerprint
