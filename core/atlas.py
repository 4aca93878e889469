"""The t-SNE maps of a run, drawn once and kept beside its records: ``python -m core maps RUN``.

t-SNE takes seconds where PCA takes none. The file says by a digest which records it was drawn from, so that maps of
other records are never shown for these.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.diagnostics.maps import SoundMap, sound_map, spaces
from core.recordset import RecordSet
from core.training.runs import write_atomically

MAPS = "maps.parquet"
COLUMNS = ("space", "n", "position", "x", "y", "placed")
DRAWN_FROM = b"drawn_from"


def draw_maps(folder: Path, records: RecordSet) -> pd.DataFrame:
    """Draw every space of ``records`` by t-SNE and keep the maps in ``folder``: ``COLUMNS``, one row a point."""
    drawn = [sound_map(records, space, "t-SNE") for space in spaces(records)]
    table = pd.concat([_rows(one) for one in drawn], ignore_index=True)
    columns = pa.Table.from_pandas(table, preserve_index=False)
    columns = columns.replace_schema_metadata({DRAWN_FROM: _digest(records).encode()})
    write_atomically(folder / MAPS, lambda part: pq.write_table(columns, part))
    return table


def kept_map(folder: Path, records: RecordSet, space: str) -> SoundMap | None:
    """The t-SNE map of ``space`` kept in ``folder``; ``None`` where there is none of just these records."""
    try:
        columns = pq.read_table(folder / MAPS)
    except (OSError, pa.ArrowException):
        return None
    if (columns.schema.metadata or {}).get(DRAWN_FROM) != _digest(records).encode():
        return None
    table = columns.to_pandas()
    points = table[table["space"] == space]
    if points.empty:
        return None
    return SoundMap(
        space=space,
        method="t-SNE",
        n=int(points["n"].iloc[0]),
        position=points["position"].to_numpy(dtype=np.int64),
        xy=points[["x", "y"]].to_numpy(dtype=np.float64),
        placed=points["placed"].to_numpy(dtype=bool),
        kept=float("nan"),
    )


def _rows(drawn: SoundMap) -> pd.DataFrame:
    x, y = drawn.xy.T.astype(np.float32)
    facts = (drawn.space, drawn.n, drawn.position, x, y, drawn.placed)
    return pd.DataFrame(dict(zip(COLUMNS, facts, strict=True)))


def _digest(records: RecordSet) -> str:
    """sha256 over what maps are drawn from."""
    whole = hashlib.sha256("\n".join(records.table["clip_id"]).encode())
    for array in (records.logits, records.embedding):
        if array is not None:
            whole.update(np.ascontiguousarray(array).data)
    return whole.hexdigest()
