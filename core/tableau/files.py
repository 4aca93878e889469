"""CSV files, one by one, zipped, or as a single wide one; and how every exported file comes into being.

UTF-8, comma, one header row, ``.`` decimals, ISO 8601 times in UTC, TRUE and FALSE, nothing for what is missing. Text
is always quoted, so that a reader may take ``""`` and nothing apart. The same tables give the same bytes; the zip's
entries carry no time.
"""

from __future__ import annotations

import contextlib
import errno
import os
import tempfile
import zipfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv as pacsv

from core.errors import ExportError
from core.tableau import schema
from core.tableau.tables import StarSchema

WIDE = "earshot_predictions.csv"
ZIP = "earshot_csv.zip"
ISO = "%Y-%m-%dT%H:%M:%SZ"
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time a zip can hold
READ = 1 << 20  # bytes copied at a time


@contextmanager
def folder(path: Path) -> Iterator[None]:
    """``path`` as a folder to write into; if that fails, those made for it go again, unless something is in them."""
    made = [one for one in (path, *path.parents) if not one.exists()]
    try:
        path.mkdir(parents=True, exist_ok=True)
        yield
    except BaseException:
        for one in made:  # the deepest first
            with contextlib.suppress(OSError):
                one.rmdir()
        raise


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """A file beside ``path`` to write to, which gets its name once it is complete; else nothing is left behind.

    Raises ``ExportError`` where the disk is full or cannot be written.
    """
    with contextlib.ExitStack() as stack:
        try:
            stack.enter_context(folder(path.parent))
            handle, name = tempfile.mkstemp(prefix=f".{path.stem}-", suffix=path.suffix, dir=path.parent)
        except OSError as exc:
            raise unwritten(path, exc) from exc
        os.close(handle)
        beside = Path(name)
        try:
            yield beside
            with beside.open("rb+") as file:
                os.fsync(file.fileno())
            beside.chmod(0o666 & ~_umask())
            beside.replace(path)
        except OSError as exc:
            raise unwritten(path, exc) from exc
        finally:
            with contextlib.suppress(OSError):
                beside.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def unwritten(path: Path, exc: OSError) -> ExportError:
    full = exc.errno == errno.ENOSPC
    return ExportError(
        f"Expected space to write {path.name} in {path.parent}, got: {exc.strerror or exc}. "
        + ("Free some space" if full else "Choose another folder")
        + " and export again. Nothing incomplete was left under that name.",
        code="disk_full" if full else "unwritable",
    )


def write_csv(star: StarSchema, name: str, path: Path) -> None:
    """One table."""
    with whole(path) as beside, beside.open("wb") as file:
        _write(file, schema.BY_NAME[name].names, star.batches(name))


def write_wide(star: StarSchema, path: Path) -> None:
    """The fact table with what it refers to: ``schema.WIDE``."""
    with whole(path) as beside, beside.open("wb") as file:
        rows = (_widened(batch, star) for batch in star.batches(schema.PREDICTIONS.name))
        _write(file, schema.WIDE.names, rows)


def write_zip(star: StarSchema, path: Path) -> None:
    """Every table as ``NAME.csv`` in one archive."""
    with whole(path) as beside, zipfile.ZipFile(beside, "w") as archive:
        for table in schema.TABLES:
            with archive.open(entry(f"{table.name}.csv"), "w", force_zip64=True) as file:
                _write(file, table.names, star.batches(table.name))


def entry(name: str) -> zipfile.ZipInfo:
    """A compressed entry without a time, readable by all."""
    info = zipfile.ZipInfo(name, EPOCH)
    info.compress_type = zipfile.ZIP_DEFLATED
    info.external_attr = 0o644 << 16
    info.create_system = 3
    return info


def pack(archive: zipfile.ZipFile, name: str, source: Path) -> None:
    """Copy a file into an archive, in pieces."""
    with source.open("rb") as data, archive.open(entry(name), "w", force_zip64=True) as file:
        while piece := data.read(READ):
            file.write(piece)


def _write(file: IO[bytes], header: Sequence[str], batches: Iterator[pa.RecordBatch]) -> None:
    file.write((",".join(header) + "\n").encode())
    options = pacsv.WriteOptions(include_header=False, quoting_style="needed")
    for batch in batches:
        columns = [_shown(column) for column in batch.columns]
        pacsv.write_csv(pa.Table.from_arrays(columns, names=list(header)), file, options)


def _shown(column: pa.Array) -> pa.Array:
    if pa.types.is_boolean(column.type):
        return pc.if_else(column, pa.scalar("TRUE"), pa.scalar("FALSE"))
    if pa.types.is_timestamp(column.type):
        return pc.strftime(column.cast(pa.timestamp("s", column.type.tz)), ISO)
    return column


def _widened(batch: pa.RecordBatch, star: StarSchema) -> pa.RecordBatch:
    about, classes = star.small["about"], star.small["classes"]
    run = pc.index_in(batch["run_id"], about["run_id"])
    columns: list[Any] = [*batch.columns, *(_taken(about[name], run) for name in schema.OF_RUN)]
    for label in ("true_label", "predicted_label"):
        columns.append(_taken(classes["class_name"], pc.index_in(batch[label], classes["label"])))
    return pa.RecordBatch.from_arrays(columns, names=schema.WIDE.names)


def _taken(column: pa.ChunkedArray, index: pa.Array) -> pa.Array:
    return column.combine_chunks().take(index)
