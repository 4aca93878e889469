"""The t-SNE maps of a run, drawn once and kept beside its records: ``python -m core maps RUN``.

t-SNE takes seconds where PCA takes none. The file says by digests which records, and which training clips of the run's
model, it was drawn from, so that maps of others are never shown for these.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core.diagnostics.clips import Floats
from core.diagnostics.maps import TRAINING, SoundMap, ground, sound_map, spaces
from core.parquet import write_parquet
from core.recordset import RecordSet
from core.training.runs import write_atomically

MAPS = "maps.parquet"
COLUMNS = ("space", "n", "position", "x", "y", "placed")
DRAWN_FROM, TRAINED_ON = b"drawn_from", b"trained_on"


def draw_maps(folder: Path, records: RecordSet, reference: pd.DataFrame | None = None) -> pd.DataFrame:
    """Draw every space of ``records`` by t-SNE and keep the maps in ``folder``: ``COLUMNS``, one row a point.

    And that of the training clips in ``reference``, the model's, whose ``position`` is their row there.
    """
    drawn = [_rows(sound_map(records, space, "t-SNE")) for space in spaces(records)]
    stamps = {DRAWN_FROM: _digest(records)}
    known = None if reference is None else ground(reference, "t-SNE")
    if reference is not None and known is not None:
        n = len(reference)
        facts = (TRAINING, n, np.arange(n), *known.xy.T.astype(np.float32), False)
        drawn.append(pd.DataFrame(dict(zip(COLUMNS, facts, strict=True))))
        stamps[TRAINED_ON] = _reference_digest(reference)
    table = pd.concat(drawn, ignore_index=True)
    columns = pa.Table.from_pandas(table, preserve_index=False)
    columns = columns.replace_schema_metadata(stamps)
    write_atomically(folder / MAPS, lambda part: write_parquet(part, columns))
    return table


def kept_map(folder: Path, records: RecordSet, space: str) -> SoundMap | None:
    """The t-SNE map of ``space`` kept in ``folder``; ``None`` where there is none of just these records."""
    points = _kept(folder, space, DRAWN_FROM, _digest(records))
    if points is None:
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


def kept_training(folder: Path, reference: pd.DataFrame) -> Floats | None:
    """Where the training clips of ``reference`` lie by t-SNE, (M, 2); ``None`` where no map of just these is kept."""
    points = _kept(folder, TRAINING, TRAINED_ON, _reference_digest(reference))
    return None if points is None else points[["x", "y"]].to_numpy(dtype=np.float64)


def _kept(folder: Path, space: str, stamp: bytes, digest: str) -> pd.DataFrame | None:
    try:
        columns = pq.read_table(folder / MAPS)
    except (OSError, pa.ArrowException):
        return None
    if (columns.schema.metadata or {}).get(stamp) != digest.encode():
        return None
    table = columns.to_pandas()
    points = table[table["space"] == space]
    return None if points.empty else points


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


def _reference_digest(reference: pd.DataFrame) -> str:
    """sha256 over the embeddings of training clips."""
    vectors = np.stack(reference["embedding"].to_list()).astype(np.float32)
    return hashlib.sha256(np.ascontiguousarray(vectors).data).hexdigest()
