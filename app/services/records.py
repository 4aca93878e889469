"""Records and what is computed from them: of the shipped run, of other runs, of the log, of files that people give."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar

import streamlit as st

from app.services import environment
from core.config import SHIPPED_RUN
from core.errors import RecordsError

if TYPE_CHECKING:
    from pandas import DataFrame

    from core.diagnostics.classification import Comparison
    from core.recordset import RecordSet

P = ParamSpec("P")
T = TypeVar("T")
SHIPPED, LOG, RUN = "shipped", "log", "run:"  # sources of records, as they stand in a URL; a run's name follows RUN
LOG_LAST = 100_000  # newest logged predictions that diagnostics read


def sources() -> list[str]:
    """What diagnostics can read here, the shipped cross-validation first."""
    runs = sorted((path.parent.name for path in environment.settings().runs_dir.glob("*/oof.parquet")), reverse=True)
    return [SHIPPED, LOG, *(RUN + name for name in runs)]


def read(source: str) -> RecordSet:
    """Records of one of ``sources``; read again when they change. Raises ``EarshotError``."""
    if source == LOG:
        given = environment.settings()
        stamp = environment.stamp(given.artifact)
        return _of_log(given.artifact, stamp, given.database, environment.store().version())
    folder = run_folder(source)
    if folder is None:
        raise RecordsError(f"Expected records of {SHIPPED}, {LOG} or {RUN}NAME, got {source!r}.", code="no_records")
    return _of_run(folder, environment.stamp(folder))


def run_folder(source: str) -> Path | None:
    """The run that a source of records is, or ``None`` for the log and for uploads."""
    if source == SHIPPED:
        return SHIPPED_RUN
    folder = environment.settings().runs_dir / source.removeprefix(RUN)
    return folder if source.startswith(RUN) and folder.parent == environment.settings().runs_dir else None


def own_run() -> str:
    """The record source that holds the held-out clips of the model that answers; the shipped one for any other."""
    artifact = environment.settings().artifact.resolve()
    own = RUN + artifact.parent.name
    is_ours = artifact.name == "artifact" and artifact.parent.parent == environment.settings().runs_dir.resolve()
    return own if is_ours and own in sources() else SHIPPED


@st.cache_resource(max_entries=4, show_spinner="Reading the records…")
def _of_run(folder: Path, stamp: tuple[int, ...]) -> RecordSet:
    from core.sources import of_run

    return of_run(folder)


@st.cache_resource(max_entries=2, show_spinner="Reading the prediction log…")
def _of_log(artifact: Path, stamp: tuple[int, ...], url: str, version: tuple[int, int]) -> RecordSet:
    from core.artifact import read_manifest
    from core.sources import of_log

    return of_log(environment.store(), read_manifest(artifact), last=LOG_LAST)


@dataclass(frozen=True)
class Upload:
    """A Parquet file that a person gave. Equal bytes have equal ``digest``s."""

    name: str
    data: bytes = field(repr=False)
    digest: str

    @classmethod
    def of(cls, name: str, data: bytes) -> Upload:
        return cls(name, data, hashlib.sha256(data).hexdigest())


def uploaded(file: Upload, class_names: tuple[str, ...] = ()) -> RecordSet:
    """``class_names`` in the order of the logits; empty: as the file says. Raises ``RecordsError``."""
    return _uploaded(file.digest, file.name, class_names, _file=file)


@st.cache_resource(max_entries=4, show_spinner="Reading the records…")
def _uploaded(digest: str, name: str, class_names: tuple[str, ...], *, _file: Upload) -> RecordSet:
    from core.sources import of_bytes

    return of_bytes(_file.data, title=name, class_names=class_names or None)


def comparison(records: RecordSet, other: RecordSet) -> Comparison:
    """Whether the other network answers the same clips better. Raises ``RecordsError``."""
    return _comparison(records.digest, other.digest, _a=records, _b=other)


@st.cache_resource(max_entries=16, show_spinner="Comparing…")
def _comparison(digest_a: str, digest_b: str, *, _a: RecordSet, _b: RecordSet) -> Comparison:
    from core.diagnostics.classification import compare

    return compare(_a, _b)


def protocol(records: RecordSet, source: str) -> str:
    """How held-out answers came about, in words: as the run says, or as far as the records tell."""
    folder = run_folder(source)
    if folder is not None and (said := _run_protocol(folder, environment.stamp(folder))):
        return said
    folds = records.table["fold"].nunique()
    return f"{folds} folds; nothing more is known" if folds > 1 else "no folds: answers as they were given"


@st.cache_data(max_entries=16, show_spinner=False)
def _run_protocol(folder: Path, stamp: tuple[int, ...]) -> str:
    from core.errors import EarshotError
    from core.training.runs import RunFolder

    try:
        return str(RunFolder(folder).metrics().get("protocol", ""))
    except EarshotError:
        return ""


def computed(
    compute: Callable[Concatenate[RecordSet, P], T], records: RecordSet, *args: P.args, **kwargs: P.kwargs
) -> T:
    """``compute(records, …)``, once for equal records and equal plain arguments. Do not change what it returns."""
    named = tuple(sorted(kwargs.items()))
    return _computed(
        f"{compute.__module__}.{compute.__qualname__}", records.digest, args, named, _of=(compute, records)
    )


@st.cache_resource(max_entries=128, show_spinner="Counting…")
def _computed(name: str, digest: str, args: tuple[Any, ...], named: tuple[Any, ...], *, _of: tuple[Any, Any]) -> Any:
    compute, records = _of
    return compute(records, *args, **dict(named))


def scaled(records: RecordSet) -> RecordSet:
    """The records after temperature, also where they are answered without one."""
    from core.recordset import temperature_scaled

    return computed(temperature_scaled, records)


def unscaled(records: RecordSet) -> RecordSet:
    """The records before temperature."""
    from core import recordset

    return computed(recordset.unscaled, records)


def under_noise(source: str) -> DataFrame | None:
    """Answers to the clips of a run under noise and other damage; ``None`` where they were not asked.

    Raises ``RecordsError``.
    """
    folder = run_folder(source)
    return None if folder is None else _under_noise(folder, environment.stamp(folder))


@st.cache_resource(max_entries=4, show_spinner=False)
def _under_noise(folder: Path, stamp: tuple[int, ...]) -> DataFrame | None:
    from core.sources import robustness_of

    return robustness_of(folder)
