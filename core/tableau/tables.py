"""Records → the star schema.

``build`` reads every part once, in pieces: the fact table goes to a Parquet file as it is read, so that a log of a
million answers never stands in memory; of the labelled answers the logits are kept for the metrics. Everything else is
small. The same parts give the same tables, to the bit: nothing here asks for the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from core import __version__
from core.calibration import prediction_set
from core.config import SHIPPED_RUN
from core.descriptors import NAMES
from core.diagnostics.calibration import bin_index
from core.recordset import RecordSet
from core.sources import of_run
from core.tableau import aggregates, demonstrations, schema
from core.tableau.parts import LOG, Part, checked, joined, slim, sounding, told_once
from core.training.curves import read_curves

Progress = Callable[[float, str], None]
ROWS = 65_536  # of the fact table in memory at a time
DRIFT_ROWS = 50_000  # newest answers of a log that are compared with the reference
# Columns of ``predictions`` that are worked out here; a file's own columns of these names are left aside.
COMPUTED = (
    "prediction_id",
    "run_id",
    "true_label",
    "predicted_label",
    "correct",
    "confidence",
    "raw_confidence",
    "true_probability",
    "entropy_nats",
    "margin",
    "confidence_bin",
    "raw_confidence_bin",
    "conformal_set_size",
    *(f"quality_{code}" for code in schema.QUALITY),
    "fingerprint",
    "thumbnail_path",
    "audio_path",
)


class Media(Protocol):
    """Where thumbnails and sounds are exported to."""

    def paths(self, clip_id: str) -> tuple[str | None, str | None]:
        """Paths or URLs of a clip's thumbnail and sound; ``None`` where there is none."""
        ...


class NoMedia:
    """Neither thumbnails nor sounds."""

    def paths(self, clip_id: str) -> tuple[str | None, str | None]:
        return None, None


@dataclass(frozen=True)
class StarSchema:
    """Every table. ``facts`` is a Parquet file of ``predictions``; the others are in ``small``."""

    small: dict[str, pa.Table]
    facts: Path

    def rows(self, name: str) -> int:
        return pq.read_metadata(self.facts).num_rows if name == schema.PREDICTIONS.name else self.small[name].num_rows

    def batches(self, name: str, columns: Sequence[str] | None = None) -> Iterator[pa.RecordBatch]:
        """The rows of one table, in order, piece by piece; of all its ``columns`` or of these."""
        if name == schema.PREDICTIONS.name:
            with pq.ParquetFile(self.facts) as file:
                yield from file.iter_batches(batch_size=ROWS, columns=columns)
        else:
            table = self.small[name]
            yield from (table if columns is None else table.select(columns)).to_batches(max_chunksize=ROWS)

    def head(self, name: str, rows: int = 100) -> pd.DataFrame:
        """The first rows, to look at."""
        first = next(self.batches(name), None)
        table = schema.empty(schema.BY_NAME[name]) if first is None else pa.Table.from_batches([first])
        return table.slice(0, rows).to_pandas()


@dataclass(frozen=True)
class _Digest:
    """What is kept of a part once its answers have been written."""

    part: Part
    labelled: RecordSet
    heard: RecordSet
    n: int
    seeds: int
    temperature: float
    last: datetime | None
    notes: str


def build(
    parts: Sequence[Part],
    facts: Path,
    *,
    gold: Mapping[str, pa.Table] | None = None,
    media: Media = NoMedia(),
    progress: Progress = lambda share, what: None,
) -> StarSchema:
    """Read ``parts`` and write the fact table to ``facts``. Raises ``EarshotError`` where they do not go together.

    ``gold``: tables of the gold clips; left empty where their classes are not those of the parts.
    """
    parts = checked(parts)
    digests = list(_write_facts(parts, facts, media, progress))
    names = parts[0].class_names
    frames: dict[str, list[pd.DataFrame]] = {}
    for digest in digests:
        progress(0.85, f"metrics of {digest.part.run_id}")
        for name, frame in aggregates.of(digest.part.run_id, digest.labelled):
            found = frame.assign(**_paths(frame, media)) if name == schema.ERRORS.name else frame
            frames.setdefault(name, []).append(found)
        if digest.part.folder is not None:
            frames.setdefault("training_curves", []).append(_curves(digest.part.run_id, digest.part.folder))
    progress(0.95, "drift")
    shown = demonstrations.of(names, {part.run_id for part in parts})
    for name, frame in [*_drift(digests, alone=not shown), *(table for one in shown for table in one.tables)]:
        frames.setdefault(name, []).append(frame)
    frames["classes"] = [_classes(names)]
    frames["about"] = [pd.concat([_about(digests), *(one.about for one in shown)], ignore_index=True)]
    small = {
        table.name: _table(table, frames.get(table.name, []))
        for table in schema.TABLES
        if table is not schema.PREDICTIONS
    }
    small["data_dictionary"] = schema.dictionary()
    small |= _fitting(gold or {}, names, media)
    progress(1.0, "tables")
    return StarSchema(small, facts)


def _write_facts(parts: Sequence[Part], path: Path, media: Media, progress: Progress) -> Iterator[_Digest]:
    total, done = max(sum(part.n for part in parts), 1), 0
    with pq.ParquetWriter(path, schema.PREDICTIONS.arrow, compression="zstd") as writer:
        for part in parts:
            labelled: list[RecordSet] = []
            notes: list[str] = []
            heard: list[RecordSet] = []
            temperatures, n, seeds, last = 0.0, 0, 1, None
            for given in part.chunks():
                records = _identified(part, given, start=n)
                writer.write_table(facts_of(part, records, media))
                labelled.append(slim(records))
                heard = _newest([*heard, sounding(records)])
                temperatures += float(records.temperatures.sum())
                notes += records.notes
                n += len(records)
                seeds = max(seeds, int(records.table["seed"].nunique()))
                last = _last(records, last)
                done += len(records)
                progress(0.85 * min(done / total, 1), f"{done:,} of {total:,} answers")
            known = joined([piece for piece in labelled if len(piece)], part.class_names)
            mean = temperatures / n if n else float("nan")
            kept = joined([piece for piece in heard if len(piece)], part.class_names)
            if len(kept) < n:
                notes.append(f"drift is of the newest {len(kept):,} answers")
            yield _Digest(
                part, known, kept, n, seeds, mean, part.created_at or last, told_once([*part.notes, *notes], n)
            )


def _newest(pieces: list[RecordSet]) -> list[RecordSet]:
    """The last pieces, with ``DRIFT_ROWS`` records in them where there are as many."""
    while len(pieces) > 1 and sum(map(len, pieces[1:])) >= DRIFT_ROWS:
        pieces = pieces[1:]
    return pieces


def facts_of(part: Part, records: RecordSet, media: Media) -> pa.Table:
    """Rows of ``predictions``; ``records`` bear what ``_identified`` adds."""
    frame = records.frame()
    ours = {"label": "true_label", "predicted": "predicted_label", "entropy": "entropy_nats"}
    frame = frame.drop(columns=[name for name in ours.values() if name in frame]).rename(columns=ours)
    sets = None
    if records.conformal_quantile is not None:
        sets = prediction_set(records.probabilities, records.conformal_quantile).sum(axis=-1)
    frame = frame.assign(
        run_id=part.run_id,
        origin=frame.get("origin", None if part.kind == "file" else "held-out"),
        other_label=frame.get("other_label"),
        confidence_bin=bin_index(records.confidence),
        raw_confidence_bin=bin_index(records.raw_confidence),
        conformal_set_size=pd.NA if sets is None else sets,
        fingerprint=part.fingerprint or None,
        **_quality(frame),
        **_paths(frame, media),
    )
    for name in (*NAMES, "duration_s", "latency_ms", "backend"):
        if name not in frame:
            frame[name] = np.nan
    if "created_at" not in frame:
        frame["created_at"] = pd.NaT
    return schema.conform(schema.PREDICTIONS, frame)


def _identified(part: Part, records: RecordSet, *, start: int) -> RecordSet:
    """``records``, from the row ``start`` of their part on, with ``prediction_id`` and ``file_name``."""
    table, notes = records.table, records.notes
    if part.kind != LOG and (theirs := [name for name in COMPUTED if name in table]):
        table = table.drop(columns=theirs)
        notes = (*notes, f"columns of the file that the export works out itself are left aside: {', '.join(theirs)}")
    if part.kind == LOG:
        ids = f"{part.run_id}/" + table["id"].astype("str")
    else:
        ids = f"{part.run_id}/" + table["seed"].astype("str") + "/" + table["clip_id"].astype("str")
        exported = schema.safe_text(pa.array(ids.tolist(), pa.string()))
        if len(exported.unique()) < len(ids):  # a file of records may hold a clip twice
            ids = ids + "/" + pd.Series(np.arange(start, start + len(ids)), index=ids.index).astype("str")
    named = next(table[name] for name in ("name", "file_name", "clip_id") if name in table)
    return replace(records, table=table.assign(prediction_id=ids, file_name=named), notes=notes)


def _quality(frame: pd.DataFrame) -> dict[str, Any]:
    """A flag for each warning, from a text of codes; missing where nobody assessed the recording, or by other rules."""
    if "quality" not in frame:
        return {f"quality_{code}": pd.NA for code in schema.QUALITY}
    said = [set(text.split()) if isinstance(text, str) else None for text in frame["quality"]]
    ours = [codes is not None and codes <= set(schema.QUALITY) for codes in said]
    return {
        f"quality_{code}": [
            True if codes and code in codes else False if known else pd.NA
            for codes, known in zip(said, ours, strict=True)
        ]
        for code in schema.QUALITY
    }


def _paths(frame: pd.DataFrame, media: Media) -> dict[str, Any]:
    paths = [media.paths(clip) for clip in frame["clip_id"]]
    return {
        "thumbnail_path": pd.Series([thumbnail for thumbnail, _ in paths], dtype=object),
        "audio_path": pd.Series([sound for _, sound in paths], dtype=object),
    }


def _last(records: RecordSet, last: datetime | None) -> datetime | None:
    if "created_at" not in records.table or not len(records):
        return last
    newest = records.table["created_at"].max()
    if pd.isna(newest):
        return last
    moment: datetime = newest.to_pydatetime()
    return moment if last is None else max(moment, last)


def _classes(names: Sequence[str]) -> pd.DataFrame:
    plain = [name.replace("_", " ").strip() for name in names]
    return pd.DataFrame(
        {"label": names, "class_name": [n[:1].upper() + n[1:] for n in plain], "class_index": range(len(names))}
    )


def _curves(run_id: str, folder: Path) -> pd.DataFrame:
    order = ["member", "metric", "epoch"]
    return read_curves(folder).assign(run_id=run_id).sort_values(order, kind="stable", ignore_index=True)


def _drift(digests: Sequence[_Digest], *, alone: bool) -> Iterator[tuple[str, pd.DataFrame]]:
    """Logs and files against the first run of the export, else against the shipped one if its classes are the same.

    Without any, the reference's own distributions, if they stand ``alone``.
    """
    runs = [digest for digest in digests if digest.part.kind not in (LOG, "file")]
    current = [digest for digest in digests if digest.part.kind in (LOG, "file")]
    if runs:
        reference = runs[0].heard
    elif current[0].part.class_names == (shipped := of_run(SHIPPED_RUN, with_embedding=False)).class_names:
        reference = shipped
    else:
        return
    for digest in current:
        yield from aggregates.drift_of(digest.part.run_id, reference, digest.heard)
    if not current and alone:
        nothing = reference.take(np.zeros(len(reference), dtype=bool))
        yield "drift_distribution", aggregates.distribution_of(runs[0].part.run_id, reference, nothing)


def _about(digests: Sequence[_Digest]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "run_id": digest.part.run_id,
            "kind": digest.part.kind,
            "protocol": digest.part.protocol,
            "dataset": digest.part.dataset,
            "fingerprint": digest.part.fingerprint,
            "n_answers": digest.n,
            "n_labelled": len(digest.labelled),
            "n_clips": int(digest.labelled.table["clip_id"].nunique()),
            "n_classes": len(digest.part.class_names),
            "n_seeds": digest.seeds,
            "temperature": digest.temperature,
            "created_at": digest.last,
            "notes": digest.notes,
            "earshot_version": __version__,
        }
        for digest in digests
    )


def _table(table: schema.Table, frames: Sequence[pd.DataFrame]) -> pa.Table:
    filled = [schema.conform(table, frame) for frame in frames if len(frame)]
    return pa.concat_tables(filled) if filled else schema.empty(table)


def _fitting(gold: Mapping[str, pa.Table], class_names: Sequence[str], media: Media) -> dict[str, pa.Table]:
    """The gold clips' tables, if their classes are these: otherwise their labels would refer to nothing."""
    if not gold:
        return {}
    clips = gold["clip_features"]
    labels = {*gold["windows"]["label"].to_pylist(), *clips["true_label"].to_pylist()}
    if not labels <= set(schema.safe_text(pa.array(list(class_names), pa.string())).to_pylist()):
        return {}
    paths = [media.paths(clip) for clip in clips["clip_id"].to_pylist()]
    for place, name in enumerate(("thumbnail_path", "audio_path")):
        column = pa.array([path[place] for path in paths], pa.string())
        clips = clips.set_column(clips.schema.get_field_index(name), name, column)
    return {**gold, "clip_features": clips}
