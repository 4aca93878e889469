"""The star schema as one ``.hyper`` file, of the database version that the reader's Tableau knows.

Tables lie in the schema ``Extract``. The bytes of a .hyper differ from one writing to the next, its rows do not. Two
files of the same records differ in up to 36 bytes: the time of saving in both copies of the header, the database's
random identifier, and three checksums over these. On a busy machine 1 of 44 writings laid its blocks out in another
order, too (held to one query thread, it was 1 of 5). The settings of Hyper that could be found pin neither. Where
Tableau has no wheel for a platform, ``available`` says so and everything else works.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import pyarrow as pa

from core.errors import ExportError
from core.tableau import schema
from core.tableau.files import whole
from core.tableau.tables import StarSchema

NAME = "earshot.hyper"
SCHEMA = "Extract"
# Version of the file → what reads it; https://tableau.github.io/hyper-db/docs/hyper-api/hyper_process
VERSIONS = {
    "0": "Any Tableau from 10.5 on",
    "2": "Tableau 2020.4.15 and later",
    "3": "Tableau 2023.1 and later",
    "4": "Tableau 2024.3 and later",
}
VERSION = "2"


def available() -> bool:
    """Whether .hyper files can be written here."""
    return find_spec("pantab") is not None and find_spec("tableauhyperapi") is not None


def check_version(version: str) -> None:
    """Raises ``ExportError`` for a version that there is not."""
    if version not in VERSIONS:
        raise ExportError(
            f"Expected one of the versions {', '.join(VERSIONS)} of a .hyper file, got {version!r}.", code="bad_version"
        )


def write_hyper(star: StarSchema, path: Path, *, version: str = VERSION) -> None:
    """Every table of ``star``, in keys' order. Raises ``ExportError``."""
    if not available():
        raise ExportError(
            "Expected the packages pantab and tableauhyperapi, found none: there is no wheel for every platform. "
            "Export CSV here, or .hyper on Linux x86-64, macOS or Windows.",
            code="no_hyper",
        )
    check_version(version)
    from tableauhyperapi import HyperException

    with whole(path) as beside:
        beside.unlink()  # pantab writes to the path itself where there is nothing
        try:
            _write_tables(star, beside, version)
            _finish(star, beside, version)
        except (HyperException, RuntimeError) as exc:
            free = os.statvfs(path.parent).f_bavail * os.statvfs(path.parent).f_frsize
            raise ExportError(
                f"Expected to write {path.name}, Hyper says: {exc}. {free / 1e6:,.0f} MB are free in {path.parent} "
                f"and {tempfile.gettempdir()} is used for temporary files. Nothing incomplete was left.",
                code="hyper",
            ) from exc


def _write_tables(star: StarSchema, path: Path, version: str) -> None:
    """Their rows. A key's columns are never null, which pantab is told by name for all tables that it writes at once.

    So tables that may hold nothing in a column of such a name are written apart.
    """
    from pantab import frames_to_hyper
    from tableauhyperapi import TableName

    apart = (schema.PREDICTIONS, schema.ERRORS)
    for tables, mode in (([table for table in schema.TABLES if table not in apart], "w"), (apart, "a")):
        needed = {name for table in tables for name in table.key}
        for table in tables:
            _check_complete(star, table, needed)
        frames_to_hyper(
            {
                TableName(SCHEMA, table.name): pa.RecordBatchReader.from_batches(table.arrow, star.batches(table.name))
                for table in tables
            },
            path,
            table_mode=mode,
            not_null_columns=needed,
            process_params={"default_database_version": version},
            atomic=False,  # ``path`` has another name until it is complete
        )


def _check_complete(star: StarSchema, table: schema.Table, needed: set[str]) -> None:
    """Raise ``ExportError`` where something is missing in a ``needed`` column: Hyper would end this very process."""
    columns = [name for name in table.names if name in needed]
    for batch in star.batches(table.name, columns):
        for name in columns:
            if missing := batch[name].null_count:
                raise ExportError(
                    f"Expected a value of {name} in every row of {table.name}, {missing:,} have none. Export CSV, or "
                    "leave these records out.",
                    code="missing_key",
                )


def _finish(star: StarSchema, path: Path, version: str) -> None:
    """Declare primary and foreign keys, which Hyper takes our word for; servers from 2021.4 on relate tables by them.

    Before that the rows are counted: a stream that broke off is no error to who reads it.
    """
    from tableauhyperapi import Connection, HyperProcess, Telemetry

    parameters = {"log_config": "", "default_database_version": version}
    with (
        HyperProcess(Telemetry.DO_NOT_SEND_USAGE_DATA_TO_TABLEAU, parameters=parameters) as process,
        Connection(process.endpoint, str(path)) as connection,
    ):
        for table in schema.TABLES:
            found, wanted = (
                connection.execute_scalar_query(f"SELECT COUNT(*) FROM {_named(table)}"),
                star.rows(table.name),
            )
            if found != wanted:
                raise ExportError(
                    f"Expected {wanted:,} rows of {table.name} in the extract, got {found:,}. Export again.",
                    code="hyper",
                )
            connection.execute_command(f"ALTER TABLE {_named(table)} ADD ASSUMED PRIMARY KEY {_columns(table.key)}")
        for table in schema.TABLES:
            for reference in table.refers:
                other = schema.BY_NAME[reference.table]
                connection.execute_command(
                    f"ALTER TABLE {_named(table)} ADD ASSUMED FOREIGN KEY {_columns(reference.columns)} "
                    f"REFERENCES {_named(other)} {_columns(other.key)}"
                )


def _named(table: schema.Table) -> str:
    return f'"{SCHEMA}"."{table.name}"'


def _columns(names: Sequence[str]) -> str:
    return "(" + ", ".join(f'"{name}"' for name in names) + ")"
