"""Where records come from: the shipped cross-validation, a run of one's own, a Parquet file, the prediction log.

Whatever the source, diagnostics get the same ``RecordSet``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from core.artifact import Manifest, read_manifest
from core.config import SHIPPED_ARTIFACT, SHIPPED_RUN
from core.descriptors import NAMES
from core.errors import ArtifactError, RecordsError
from core.record_files import read_records
from core.record_tables import record_set
from core.records import Prediction
from core.recordset import RecordSet
from core.store import Store
from core.training.runs import RunFolder
from core.unknown import UnknownRule


def of_path(
    path: Path,
    *,
    class_names: Sequence[str] | None = None,
    fallback_names: Sequence[str] = (),
    with_embedding: bool = True,
) -> RecordSet:
    """A run folder or a Parquet file of records. Raises ``RecordsError`` or ``RunError``.

    ``fallback_names``, else the shipped model's, are tried for a file that does not name its classes.
    A file's answers are judged as they stand, at temperature 1: nobody knows what their model is served with.
    """
    if path.is_dir():
        return of_run(path, with_embedding=with_embedding)
    if not path.exists():
        raise RecordsError(
            f"Expected a run folder or a Parquet file of records, found nothing at {path}. Check the path.",
            code="no_records",
        )
    return read_records(
        path,
        class_names=class_names,
        fallback_names=fallback_names or _shipped_names(),
        with_embedding=with_embedding,
        temperature=1.0,
    )


def of_bytes(data: bytes, *, title: str, class_names: Sequence[str] | None = None) -> RecordSet:
    """A Parquet file of records that somebody uploaded. Raises ``RecordsError``."""
    return read_records(data, class_names=class_names, fallback_names=_shipped_names(), title=title, temperature=1.0)


def of_run(folder: Path, *, with_embedding: bool = True) -> RecordSet:
    """The held-out clips of a training run or a cross-validation, each scaled by the temperature of the other folds."""
    run = RunFolder(folder)
    if not run.oof.exists():
        raise RecordsError(
            f"Expected held-out records (oof.parquet) in {folder}, found none. Let the run finish, or give another.",
            code="no_records",
        )
    names = run.class_names()
    artifact = artifact_of(folder)
    manifest = None if artifact is None else read_manifest(artifact)
    records = read_records(
        run.oof,
        class_names=names,
        with_embedding=with_embedding,
        title="shipped cross-validation" if folder == SHIPPED_RUN else folder.name,
        unknown_rule=manifest.unknown if manifest else None,
        conformal_quantile=manifest.conformal_quantile if manifest else None,
        fingerprint=manifest.fingerprint if manifest else "",
    )
    return _with_unknown_scores(records, run)


def robustness_of(folder: Path) -> pd.DataFrame | None:
    """A run's held-out clips under noise and other damage, one row an answer; ``None`` where they were not asked.

    Raises ``RecordsError`` for a file that cannot be read.
    """
    path = RunFolder(folder).robustness
    if not path.exists():
        return None
    try:
        return pd.read_parquet(path)
    except (OSError, pa.ArrowException) as exc:
        raise RecordsError(
            f"Expected a Parquet file of answers under noise at {path}, it cannot be read ({exc}). Measure them anew: "
            "python -m core crossval.",
            code="unreadable_records",
        ) from exc


def shipped() -> RecordSet:
    """The cross-validation that the shipped model comes with."""
    return of_run(SHIPPED_RUN)


def of_log(
    store: Store,
    manifest: Manifest,
    *,
    since: datetime | None = None,
    until: datetime | None = None,
    last: int | None = None,
    with_embedding: bool = True,
) -> RecordSet:
    """What the model of ``manifest`` answered, labelled where a person said what it was."""
    table = store.records(manifest.fingerprint, since=since, until=until, last=last, with_embedding=with_embedding)
    return record_set(
        table,
        title="prediction log",
        class_names=manifest.class_names,
        temperature=manifest.temperature,
        keep_other_labels=True,
        unknown_rule=manifest.unknown,
        conformal_quantile=manifest.conformal_quantile,
        fingerprint=manifest.fingerprint,
    )


def of_answers(answers: Sequence[tuple[str, Prediction]], manifest: Manifest, *, title: str) -> RecordSet:
    """Answers to ``(name, …)`` that were not logged, as records without labels, in the order given."""
    rows = [
        {
            "clip_id": answer.clip_id,
            "fold": 0,
            "source_group": answer.clip_id,
            "label": None,
            "name": name,
            "created_at": answer.created_at,
            "unknown": answer.unknown,
            "unknown_score": answer.unknown_score,
            "duration_s": answer.duration_s,
            **answer.descriptors,
        }
        for name, answer in answers
    ]
    columns = ["clip_id", "fold", "source_group", "label", "name", *NAMES]
    return record_set(
        pd.DataFrame(rows) if rows else pd.DataFrame(columns=columns),
        title=title,
        class_names=manifest.class_names,
        temperature=manifest.temperature,
        logits=np.array([answer.logits for _, answer in answers], dtype=np.float32).reshape(
            len(rows), len(manifest.class_names)
        ),
        embedding=np.array([answer.embedding for _, answer in answers], dtype=np.float32) if rows else None,
        unknown_rule=manifest.unknown,
        conformal_quantile=manifest.conformal_quantile,
        fingerprint=manifest.fingerprint,
    )


def _with_unknown_scores(records: RecordSet, run: RunFolder) -> RecordSet:
    """Add ``unknown_score`` and ``unknown`` of the artifact's rule, as each held-out clip was scored by its network."""
    rule = records.unknown_rule
    if rule is None or not run.unknown.exists():
        return records
    try:
        scored = pd.read_parquet(run.unknown, columns=["clip_id", "seed", "kind", "left_out", rule.score])
    except (OSError, ValueError, KeyError, pa.ArrowException) as exc:
        raise RecordsError(
            f"Expected the unknown scores of a run in {run.unknown}, it cannot be read ({exc}). Restore it, or remove "
            "it to do without.",
            code="unreadable_records",
        ) from exc
    known = scored[(scored["kind"] == "known") & (scored["left_out"] == "")]
    by_clip = known.set_index(["clip_id", "seed"])[rule.score].rename("unknown_score")
    by_clip = by_clip[~by_clip.index.duplicated()]
    table = records.table.join(by_clip, on=["clip_id", "seed"])
    records.table["unknown_score"] = table["unknown_score"]
    records.table["unknown"] = _flags(table["unknown_score"], rule)
    return records


def _flags(scores: pd.Series[float], rule: UnknownRule) -> pd.Series[bool]:
    return scores > rule.threshold


def artifact_of(folder: Path) -> Path | None:
    """The model that a run made or ships with, where it has one that can be read."""
    artifact = SHIPPED_ARTIFACT if folder.resolve() == SHIPPED_RUN.resolve() else RunFolder(folder).artifact
    try:
        read_manifest(artifact)
    except ArtifactError:
        return None
    return artifact


def _shipped_names() -> tuple[str, ...]:
    return tuple(json.loads((SHIPPED_RUN / "config.json").read_text(encoding="utf-8"))["class_names"])
