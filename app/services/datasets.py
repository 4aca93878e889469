"""Datasets on this machine: to listen to, and to train on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.services import environment

if TYPE_CHECKING:
    from core.dataset import Clip, Dataset, Layout

TAKES = 4  # sample clips offered of each class


def configured() -> Dataset | None:
    """The configured dataset, or ``None`` where there is none yet. Raises ``DatasetError`` for a damaged one."""
    root = environment.settings().data_dir
    meta = root / "meta"
    return _dataset(root, environment.stamp(meta)) if meta.is_dir() else None


@st.cache_resource(max_entries=2, show_spinner=False)
def _dataset(root: Path, stamp: tuple[int, ...]) -> Dataset:
    from core.dataset import load_dataset

    return load_dataset(root, clips_per_class=1)  # to listen, not to train


def samples(dataset: Dataset) -> dict[str, list[Clip]]:
    """A few clips of each class, by class name."""
    from core.dataset import sample_clips

    by_class: dict[str, list[Clip]] = {name: [] for name in dataset.class_names}
    for clip in sample_clips(dataset, per_class=TAKES):
        by_class[clip.label].append(clip)
    return by_class


def download(progress: Callable[[int, int | None], None]) -> Path:
    """Fetch ESC-10 into the configured folder and check it. Raises ``EarshotError`` when either fails."""
    from core.download import download

    return download("esc10", environment.settings().data_dir, progress=progress)


def known() -> list[Path]:
    """Where datasets to train on are known to be: the configured one first."""
    from core.adaptation import DATASETS

    given = environment.settings()
    own = sorted(file.parent.parent for file in (given.runs_dir / DATASETS).glob("[!.]*/meta/esc50.csv"))
    return [given.data_dir, *own]


def layout(root: Path) -> Layout:
    """What the table of the dataset at ``root`` says; read again when it changes. Raises ``DatasetError``."""
    return _layout(root, environment.stamp(root / "meta"))


@st.cache_resource(max_entries=8, show_spinner=False)
def _layout(root: Path, stamp: tuple[int, ...]) -> Layout:
    from core.dataset import peek

    return peek(root)
