"""Maps of embeddings: on that of the training clips where it is here, else of the records alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.services import environment
from app.services.records import computed, run_folder
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN
from core.errors import ArtifactError

if TYPE_CHECKING:
    from pandas import DataFrame

    from core.diagnostics.maps import Ground, Method, SoundMap
    from core.recordset import RecordSet


def trained_on(records: RecordSet) -> Path | None:
    """The artifact whose network answered all ``records``, if its training clips are here to be mapped with them."""
    if not records.fingerprint or records.embedding is None or not len(records) or (records.table["fold"] != 0).any():
        return None
    for artifact in dict.fromkeys((environment.settings().artifact, SHIPPED_ARTIFACT)):
        try:
            known = _training_clips(artifact, environment.stamp(artifact))
        except ArtifactError:
            continue
        if known is not None and known[0] == records.fingerprint and known[2] == records.embedding.shape[1]:
            return artifact
    return None


@st.cache_resource(max_entries=4, show_spinner=False)
def _training_clips(artifact: Path, stamp: tuple[int, ...]) -> tuple[str, DataFrame, int] | None:
    """Fingerprint of the model, its training clips, and how many numbers an embedding has."""
    from core.artifact import read_manifest, read_reference

    reference = read_reference(artifact)
    if reference is None or not len(reference):
        return None
    return read_manifest(artifact).fingerprint, reference, len(reference["embedding"].iloc[0])


@st.cache_resource(max_entries=4, show_spinner=False)
def _ground(artifact: Path, stamp: tuple[int, ...], method: Method) -> Ground | None:
    """The map of the training clips; t-SNE as kept beside the run that made the model, else drawn now."""
    from core.atlas import kept_training
    from core.diagnostics import maps

    known = _training_clips(artifact, stamp)
    if known is None:
        return None
    run = SHIPPED_RUN if artifact == SHIPPED_ARTIFACT else artifact.parent
    kept = kept_training(run, known[1]) if method == "t-SNE" else None
    return maps.ground(known[1], method, drawn=kept)


def on_training(records: RecordSet, method: Method) -> SoundMap | None:
    """``records`` added to the map of the clips that their network was trained on; ``None`` where there is none."""
    artifact = trained_on(records)
    if artifact is None:
        return None
    return _on_training(records.digest, artifact, environment.stamp(artifact), method, _records=records)


@st.cache_resource(max_entries=32, show_spinner=False)
def _on_training(
    digest: str, artifact: Path, stamp: tuple[int, ...], method: Method, *, _records: RecordSet
) -> SoundMap | None:
    from core.diagnostics import maps

    ground = _ground(artifact, stamp, method)
    return None if ground is None else maps.added_to(ground, _records, method)


def spaces(records: RecordSet) -> list[str]:
    """What can be drawn of ``records``: on the map of the training clips, else on maps of their own."""
    from core.diagnostics import maps

    return maps.spaces(records) if on_training(records, "PCA") is None else [maps.TRAINING, maps.ANSWERS]


def sound_map(records: RecordSet, source: str, space: str, method: Method) -> SoundMap:
    """The map of one space of ``records``; of a run the t-SNE maps that are kept with it."""
    from core.diagnostics import maps

    if space == maps.TRAINING and (added := on_training(records, method)) is not None:
        return added
    folder = run_folder(source) if method == "t-SNE" else None
    stamp = () if folder is None else environment.stamp(folder)
    kept = None if folder is None else _kept_map(folder, stamp, space, records.digest, _records=records)
    return kept or computed(maps.sound_map, records, space, method)


@st.cache_resource(max_entries=32, show_spinner=False)
def _kept_map(folder: Path, stamp: tuple[int, ...], space: str, digest: str, *, _records: RecordSet) -> SoundMap | None:
    from core.atlas import kept_map

    return kept_map(folder, _records, space)
