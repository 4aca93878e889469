"""Exports for Tableau: made once for a choice, kept while a few others are."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Hashable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import streamlit as st

from app.services import environment, records

if TYPE_CHECKING:
    from pandas import DataFrame

    from core.tableau.export import Exported, KeptExports


@dataclass(frozen=True)
class Choice:
    """What to export: names of runs as ``records.sources`` has them, a window of the log, and for whose Tableau.

    ``since`` is the start of the ``window``, to the full hour; ``logged`` is how far the log went when the page was
    drawn. So what is downloaded is what was shown.
    """

    runs: tuple[str, ...]
    window: str | None
    since: datetime | None
    version: str
    logged: tuple[int, int] | None


def size(choice: Choice) -> int:
    """How many answers an export would hold. Raises ``EarshotError``."""
    from core.artifact import read_manifest

    fingerprint = read_manifest(environment.settings().artifact).fingerprint
    logged = environment.store().count(fingerprint, since=choice.since) if choice.window is not None else 0
    return sum(len(records.read(name)) for name in choice.runs) + logged


def choice(runs: tuple[str, ...], window: str | None, since: datetime | None, version: str) -> Choice:
    """These runs and this window of the log as it stands now."""
    return Choice(runs, window, since, version, environment.store().version() if window is not None else None)


def export(choice: Choice, *, progress: Callable[[float, str], None]) -> Exported:
    """The export of ``choice``, made again when what it is of changes. Its files: ``file``, ``head``.

    Raises ``EarshotError``.
    """
    return _exports().of(*_made(choice, progress))


def command(choice: Choice) -> str:
    """What exports ``choice`` from a shell."""
    from core.tableau import hyper

    said = ["python", "-m", "core", "tableau", "--out", "DIR"]
    if not choice.runs:
        said.append("--no-run")
    elif choice.runs != (records.SHIPPED,):
        said += [word for folder in _folders(choice) for word in ("--run", str(folder))]
    if choice.window is not None:
        said += ["--log-since", "all" if choice.since is None else f"{choice.since:%Y-%m-%dT%H:%M}"]
    if choice.version != hyper.VERSION:
        said += ["--hyper-version", choice.version]
    if not hyper.available():
        said += ["--formats", "csv"]
    return shlex.join(said)


def file(choice: Choice, name: str) -> bytes:
    """One file of the export, which is made again if it is gone: only a few are kept. Raises ``EarshotError``."""
    return _exports().read(*_made(choice), lambda done: done.file(name).read_bytes())


def head(choice: Choice, name: str, rows: int) -> DataFrame:
    """The first rows of a CSV file of the export, as they stand in it. Raises ``EarshotError``."""
    return _exports().read(*_made(choice), lambda done: csv_head(done.file(name), rows))


def _folders(choice: Choice) -> list[Path]:
    return [folder for name in choice.runs if (folder := records.run_folder(name)) is not None]


def _made(
    choice: Choice, progress: Callable[[float, str], None] = lambda share, what: None
) -> tuple[Hashable, Callable[[Path], Exported]]:
    """What the export of ``choice`` is known by, and how it is made."""
    given = environment.settings()
    folders = _folders(choice)
    stamps = tuple(environment.stamp(folder) for folder in (*folders, given.artifact))

    def make(out: Path) -> Exported:
        from core.tableau import gold_tables, hyper, sources
        from core.tableau.export import FORMATS, export

        window = None if choice.window is None else (choice.since, None)
        return export(
            sources.parts(folders, window, given, store=environment.store() if choice.window else None),
            out,
            formats=FORMATS if hyper.available() else ("csv",),
            hyper_version=choice.version,
            gold=gold_tables.served(given.artifact, given.data_dir),
            progress=progress,
        )

    return (choice, stamps, given.database), make


@st.cache_resource(max_entries=1, show_spinner=False, on_release=lambda exports: exports.close())
def _exports() -> KeptExports:
    from core.tableau.export import KeptExports

    return KeptExports()


def csv_head(path: Path, rows: int) -> DataFrame:
    """The first rows of a table that this app exported, as they stand in it: text that looks like a number is text."""
    return _csv_head(path, path.stat().st_mtime_ns, rows)


@st.cache_data(max_entries=32, show_spinner=False)
def _csv_head(path: Path, stamp: int, rows: int) -> DataFrame:
    import pandas as pd

    from core.tableau import schema

    text = {column.name: "str" for column in schema.BY_NAME[path.stem].columns if column.kind == "text"}
    return pd.read_csv(path, nrows=rows, keep_default_na=False, na_values=[""], dtype=text)
