"""What an export is made of: runs, windows of the prediction log, files of records, each as a stream of records."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from core.artifact import Manifest
from core.config import SHIPPED_RUN
from core.descriptors import NAMES
from core.errors import EarshotError, RecordsError
from core.record_tables import record_set
from core.recordset import RecordSet
from core.sources import of_path
from core.store import Store
from core.tableau.schema import safe_text
from core.training.runs import RunFolder

Kind = Literal["cross-validation", "run", "log", "file"]
LOG = "log"
ROWS = 20_000  # logged predictions in memory at a time


@dataclass(frozen=True)
class Part:
    """One run, log window or file. ``chunks`` starts its stream anew; ``n`` answers are in it."""

    run_id: str
    kind: Kind
    class_names: tuple[str, ...]
    chunks: Callable[[], Iterator[RecordSet]]
    n: int
    fingerprint: str = ""
    protocol: str = ""
    dataset: str = ""
    created_at: datetime | None = None
    folder: Path | None = None
    notes: tuple[str, ...] = ()


def of_records(records: RecordSet, *, run_id: str | None = None, kind: Kind = "file", **facts: Any) -> Part:
    """Records that are in memory."""
    return Part(
        run_id=_plain(run_id or records.title),
        kind=kind,
        class_names=records.class_names,
        chunks=lambda: iter([records]),
        n=len(records),
        fingerprint=records.fingerprint,
        **facts,
    )


def of_folder(path: Path = SHIPPED_RUN) -> Part:
    """A run folder, or a Parquet file of records. Raises ``RecordsError`` or ``RunError``."""
    records = of_path(path)
    if not path.is_dir():
        return of_records(records, run_id=path.stem, protocol="answers of a file of records")
    config = json.loads((path / "config.json").read_text(encoding="utf-8"))
    folder = RunFolder(path)
    return of_records(
        records,
        run_id=str(config.get("run_id", path.name)),
        kind="run" if "fold" in config else "cross-validation",
        dataset=str(config.get("dataset", "")),
        protocol=_protocol(folder),
        created_at=_finished(folder),
        folder=path,
    )


def of_log(
    store: Store, manifest: Manifest, *, since: datetime | None = None, until: datetime | None = None, rows: int = ROWS
) -> Part:
    """What the model of ``manifest`` answered from ``since`` to before ``until``; it may be nothing.

    Answers of other models are left out, and counted in ``notes``.
    """
    n = store.count(manifest.fingerprint, since=since, until=until)
    others = store.count(None, since=since, until=until) - n

    def chunks() -> Iterator[RecordSet]:
        for table in store.record_chunks(manifest.fingerprint, since=since, until=until, rows=rows):
            yield record_set(
                table,
                title=LOG,
                class_names=manifest.class_names,
                temperature=manifest.temperature,
                keep_other_labels=True,
                unknown_rule=manifest.unknown,
                conformal_quantile=manifest.conformal_quantile,
                fingerprint=manifest.fingerprint,
            )

    return Part(
        run_id=LOG,
        kind="log",
        class_names=manifest.class_names,
        chunks=chunks,
        n=n,
        fingerprint=manifest.fingerprint,
        protocol=f"answers in use{_span(since, until)}; true classes are corrections by people",
        dataset="sounds that came in",
        notes=(f"{others:,} answers of other models in this window are left out",) if others > 0 else (),
    )


def checked(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Refuse parts that do not go together. Raises ``RecordsError``."""
    if not parts:
        raise RecordsError("Expected a run or a log window to export, got none. Choose one.", code="nothing_chosen")
    first = parts[0]
    for part in parts[1:]:
        if part.class_names != first.class_names:
            raise RecordsError(
                f"Expected runs of the same classes in one export; {first.run_id!r} tells "
                f"{len(first.class_names)} apart ({', '.join(first.class_names[:3])} …), {part.run_id!r} "
                f"{len(part.class_names)} ({', '.join(part.class_names[:3])} …), or in another order. "
                "Export them one at a time; on the command line, --run names one and --no-run none.",
                code="other_classes",
            )
    if len(set(_exported(first.class_names))) < len(first.class_names):
        raise RecordsError(
            "Expected class names that differ once text is made safe (an apostrophe before = + - @, symbols for "
            f"control characters), got {', '.join(map(repr, first.class_names))}. Rename one.",
            code="bad_classes",
        )
    taken: set[str] = set()
    return tuple(replace(part, run_id=unlike(part.run_id, taken)) for part in parts)


def unlike(name: str, taken: set[str]) -> str:
    """``name``, or ``name (2)`` and so on where that is ``taken``, which then holds it. Two folders may hold one name.

    Names are compared as they are exported.
    """
    found, times = name, 1
    while _exported([found])[0] in taken:
        times += 1
        found = f"{name} ({times})"
    taken.add(_exported([found])[0])
    return found


def _exported(texts: Sequence[str]) -> list[str]:
    return [str(text) for text in safe_text(pa.array(texts, pa.string())).to_pylist()]


def slim(records: RecordSet) -> RecordSet:
    """The labelled records, with no more columns than metrics need."""
    known = records.labelled()
    kept = ["clip_id", "fold", "seed", "source_group", "label", "prediction_id", "file_name"]
    return replace(known, table=known.table[kept], embedding=None)


def sounding(records: RecordSet) -> RecordSet:
    """What a drift comparison reads: descriptors and answers, no embeddings."""
    wanted = ["clip_id", "fold", "seed", "source_group", "label", "unknown", "unknown_score", *NAMES]
    return replace(records, table=records.table[[name for name in wanted if name in records.table]], embedding=None)


def joined(pieces: Sequence[RecordSet], class_names: tuple[str, ...]) -> RecordSet:
    """One set of all ``pieces``; an empty one where there are none."""
    if not pieces:
        texts = ("clip_id", "source_group", "label", "prediction_id", "file_name")
        columns = dict.fromkeys(texts, "str") | {"fold": "int64", "seed": "int64"}
        table = pd.DataFrame({name: pd.Series(dtype=kind) for name, kind in columns.items()})
        no_logits = np.zeros((0, len(class_names)), dtype=np.float32)
        return RecordSet("none", class_names, table, no_logits, None, np.zeros(0))
    if len(pieces) == 1:
        return pieces[0]
    return replace(
        pieces[0],
        table=pd.concat([piece.table for piece in pieces], ignore_index=True),
        logits=np.concatenate([piece.logits for piece in pieces]),
        temperatures=np.concatenate([piece.temperatures for piece in pieces]),
        notes=tuple(dict.fromkeys(note for piece in pieces for note in piece.notes)),
    )


def _plain(run_id: str) -> str:
    """Without the marks that end a text or a field's name in Tableau's formulas."""
    return re.sub(r"[\"'\[\]\\]", "_", run_id) or "unnamed"


def told_once(notes: Sequence[str], n: int) -> str:
    """``3 of 50 records …`` of every piece of a stream, added up and told of all: ``n`` and those left out."""
    counts: dict[str, int] = {}
    for note in notes:
        found = re.fullmatch(r"([\d,]+) of [\d,]+ (.*)", note)
        text, count = (found[2], int(found[1].replace(",", ""))) if found else (note, 0)
        counts[text] = counts.get(text, 0) + count
    given = n + sum(count for text, count in counts.items() if text.startswith("records left out "))
    return "; ".join(f"{count:,} of {given:,} {text}" if count else text for text, count in counts.items())


def _protocol(folder: RunFolder) -> str:
    try:
        return str(folder.metrics().get("protocol", "held-out clips of one fold"))
    except EarshotError:
        return ""


def _finished(folder: RunFolder) -> datetime | None:
    try:
        return folder.status().heartbeat
    except EarshotError:
        return None


def _span(since: datetime | None, until: datetime | None) -> str:
    after = f" from {since:%Y-%m-%d %H:%M} UTC" if since else ""
    return after + (f" to {until:%Y-%m-%d %H:%M} UTC" if until else "")
