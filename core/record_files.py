"""Records as files: Parquet with the columns of ``core.record_tables``.

Class names, in the order of the logits, stand in the file's metadata under ``class_names`` as JSON, or are given by
the caller; without either they are the sorted labels, if there are as many as logits, or the shipped model's classes,
whichever the labels agree with more often. ``fingerprint`` in the metadata, where it stands, is that of the model that
answered: records of one model compare in more ways.
"""

from __future__ import annotations

import io
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from core.errors import RecordsError
from core.parquet import write_parquet
from core.record_tables import REQUIRED, VECTORS, check_columns, labels_of, lengths, record_set
from core.recordset import RecordSet

CLASS_NAMES_KEY, FINGERPRINT_KEY = b"class_names", b"fingerprint"
RESERVED = ("id",)  # of answers in the log, which people correct by it; of no file


def read_records(
    file: Path | bytes,
    *,
    class_names: Sequence[str] | None = None,
    fallback_names: Sequence[str] = (),
    with_embedding: bool = True,
    title: str | None = None,
    **facts: Any,
) -> RecordSet:
    """Records of a Parquet file with the columns of ``core.record_tables``, or of its bytes. Raises ``RecordsError``.

    ``fallback_names`` are tried before the sorted labels where neither the caller nor the file names the classes.
    """
    try:
        schema = pq.read_schema(_readable(file))
        if len(set(schema.names)) != len(schema.names):
            raise RecordsError("Expected columns with different names, got some twice.", code="missing_columns")
        wanted = [name for name in schema.names if with_embedding or name != "embedding"]
        columns = pq.read_table(_readable(file), columns=wanted)
    except (OSError, pa.ArrowException) as exc:
        raise RecordsError(
            f"Expected a Parquet file of records{f' at {file}' if isinstance(file, Path) else ''}, it cannot be read "
            f"({exc}). Give a run folder or a file with the columns {', '.join(REQUIRED)}.",
            code="unreadable_records",
        ) from exc
    vectors = {name: _matrix(columns[name]) for name in VECTORS if name in columns.column_names}
    even = {name: matrix for name, matrix in vectors.items() if matrix is not None}
    reserved = [name for name in RESERVED if name in columns.column_names]
    table = columns.drop_columns([*even, *reserved]).to_pandas()
    check_columns([*table.columns, *even])
    names = class_names or _names_in(schema) or _guess(table, even.get("logits"), fallback_names)
    stored = (schema.metadata or {}).get(FINGERPRINT_KEY, b"").decode(errors="replace")
    facts = {"fingerprint": stored} | facts
    records = record_set(
        table,
        title=title or (file.name if isinstance(file, Path) else "records"),
        class_names=names,
        logits=even.get("logits"),
        embedding=even.get("embedding"),
        **facts,
    )
    if not reserved:
        return records
    aside = f"the column {' and '.join(reserved)} is left aside: it numbers answers in Earshot's own log"
    return replace(records, notes=(*records.notes, aside))


def write_records(
    file: Path | io.BytesIO, table: pd.DataFrame, class_names: Sequence[str], *, fingerprint: str = ""
) -> None:
    """Write records, in the columns of ``core.record_tables``, with their class names and their model's fingerprint."""
    columns = pa.Table.from_pandas(table, preserve_index=False)
    metadata = (columns.schema.metadata or {}) | {CLASS_NAMES_KEY: json.dumps(list(class_names)).encode()}
    if fingerprint:
        metadata[FINGERPRINT_KEY] = fingerprint.encode()
    write_parquet(file, columns.replace_schema_metadata(metadata))


def _readable(file: Path | bytes) -> Path | io.BytesIO:
    return io.BytesIO(file) if isinstance(file, bytes) else file


def _names_in(schema: pa.Schema) -> tuple[str, ...] | None:
    stored = (schema.metadata or {}).get(CLASS_NAMES_KEY)
    if not stored:
        return None
    try:
        names = json.loads(stored)
    except ValueError:
        names = None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise RecordsError(
            f"Expected a JSON list of names in the file's metadata under class_names, got {stored[:80]!r}. "
            "Correct it or give --classes.",
            code="bad_classes",
        )
    return tuple(names)


def _guess(table: pd.DataFrame, logits: NDArray[np.float32] | None, fallback_names: Sequence[str]) -> tuple[str, ...]:
    labels = _in_order(set(labels_of(table["label"]).dropna())) if "label" in table else []
    if logits is not None:
        width = logits.shape[1]
    elif "logits" in table and len(table):
        counts = lengths(table["logits"])  # the commonest; of equally many, what has names
        width = (
            max(counts, key=lambda n: (counts[n], n in (len(fallback_names), len(labels)))) if counts else len(labels)
        )
    else:
        width = len(labels)
    if not len(table) and fallback_names:
        return tuple(fallback_names)  # nothing says otherwise
    orders = [tuple(fallback_names)] if len(fallback_names) == width and set(labels) <= set(fallback_names) else []
    orders += [tuple(labels)] if len(labels) == width else []
    if not orders and len(fallback_names) == width and _named(table, fallback_names) > 0.5:
        return tuple(fallback_names)  # the others are labels of no class, left out and counted
    if orders:  # where both fit, the order in which the answers agree with the labels more often
        return orders[0] if len(orders) == 1 or logits is None else max(orders, key=partial(_agreement, table, logits))
    raise RecordsError(
        f"Expected the names of {width} classes in the order of the logits, and the records have {len(labels)} "
        f"different labels{_several(table)}. Give --classes, or store them as JSON in the file's metadata under "
        "class_names.",
        code="no_class_names",
    )


def _several(table: pd.DataFrame) -> str:
    counts = lengths(table["logits"]) if "logits" in table else Counter[int]()
    told = " and ".join(f"{length} in {records:,} records" for length, records in counts.most_common(3))
    return f" and logits of several lengths, {told}" if len(counts) > 1 else ""


def _named(table: pd.DataFrame, names: Sequence[str]) -> float:
    """Share of the labelled records whose label is among ``names``."""
    labels = labels_of(table["label"]).dropna()
    return float(labels.isin(names).mean()) if len(labels) else 0.0


def _agreement(table: pd.DataFrame, logits: NDArray[np.float32], names: tuple[str, ...]) -> float:
    """Share of records whose largest logit is their label's, if ``names`` are in the order of the logits."""
    return float((np.asarray(names, dtype=object)[logits.argmax(axis=1)] == labels_of(table["label"])).mean())


def _in_order(labels: set[str]) -> list[str]:
    """Sorted as numbers where all are numbers, else as text."""
    try:
        return sorted(labels, key=float)
    except ValueError:
        return sorted(labels)


def _matrix(column: pa.ChunkedArray) -> NDArray[np.float32] | None:
    """A list column as (N, K), without a Python object a row; ``None`` where rows differ in length or are missing."""
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], column.type)
    if not (
        pa.types.is_list(array.type) or pa.types.is_large_list(array.type) or pa.types.is_fixed_size_list(array.type)
    ):
        return None
    if array.null_count or len(array) == 0 or not _is_number(array.type.value_type):
        return None
    widths = np.asarray(array.value_lengths())
    flat = array.flatten()
    if widths.min() != widths.max() or flat.null_count:
        return None
    with np.errstate(over="ignore"):
        return flat.to_numpy(zero_copy_only=False).astype(np.float32).reshape(len(array), int(widths[0]))


def _is_number(kind: pa.DataType) -> bool:
    return bool(pa.types.is_floating(kind) or pa.types.is_integer(kind))
