"""Training: where it can run, jobs, runs and their curves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.services import environment, records
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN

if TYPE_CHECKING:
    from pandas import DataFrame

    from core.jobs import Job, Trainer, Where
    from core.training.overview import RunFacts


def trainers() -> dict[Where, Trainer]:
    """Where training can run: on this machine, and on Modal where its client is set up."""
    from core.local_jobs import LocalTrainer

    runs_dir = environment.settings().runs_dir
    here: dict[Where, Trainer] = {"local": LocalTrainer(runs_dir)}
    return here | {"modal": _modal_trainer(runs_dir)} if environment.modal_is_set_up() else here


@st.cache_resource(max_entries=2, show_spinner=False)
def _modal_trainer(runs_dir: Path) -> Trainer:
    from modal_backend import trainer

    return trainer(runs_dir)


def jobs() -> list[Job]:
    """Every training job, the latest first, looked at: dead ones are noticed, waiting ones start, remote ones asked."""
    from core.jobs import jobs_in

    for trainer in trainers().values():
        trainer.jobs()
    return jobs_in(environment.settings().runs_dir)


def runs() -> list[RunFacts]:
    """Every training run here, what moved last first, then the one that the shipped model comes from."""
    from core.training.overview import run_facts, runs_in

    if environment.settings().runs_dir.is_dir():
        jobs()
    fingerprint = environment.manifest_of(SHIPPED_ARTIFACT).fingerprint
    shipped = replace(run_facts(SHIPPED_RUN), name=records.SHIPPED, fingerprint=fingerprint)
    return [*runs_in(environment.settings().runs_dir), shipped]


def source_of(run: str) -> str:
    """Where the records of a run named as in ``runs`` are: one of ``records.sources``."""
    return records.SHIPPED if run == records.SHIPPED else records.RUN + run


def curves(folder: Path) -> DataFrame:
    """``member, epoch, metric, value``; read again when the run has written more."""
    from core.training.curves import stamp

    return _curves(folder, stamp(folder))


@st.cache_data(max_entries=16, show_spinner=False)
def _curves(folder: Path, stamp: tuple[tuple[str, int], ...]) -> DataFrame:
    from core.training.curves import read_curves

    return read_curves(folder)


def confusions(folder: Path) -> DataFrame:
    """``member, epoch, true, predicted, n``; read again when the run has written more."""
    from core.training.curves import stamp

    return _confusions(folder, stamp(folder))


@st.cache_data(max_entries=16, show_spinner=False)
def _confusions(folder: Path, stamp: tuple[tuple[str, int], ...]) -> DataFrame:
    from core.training.curves import read_confusions

    return read_confusions(folder)
