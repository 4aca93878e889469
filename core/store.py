"""What was answered, what people said of it, what admins did: predictions, corrections, sounds if wanted, an audit.

A prediction that ``log`` has returned from is on disk: it survives the process, however that ends. Numbers that
diagnostics read by the thousand are columns; logits and embeddings are little-endian float32.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import numpy as np
import pandas as pd
import sqlalchemy as sa
from numpy.typing import NDArray
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import SQLAlchemyError

from core import descriptors
from core.artifact import Manifest
from core.database import (
    AUDIT,
    CORRECTIONS,
    MODELS,
    PREDICTIONS,
    SOUNDS,
    check_version,
    connect,
    create_tables,
    insert_once,
    without_password,
)
from core.errors import StoreError
from core.inference import softmax
from core.records import Place, Prediction, QualityWarning, SourceFacts, WindowPrediction

LABEL_CHARACTERS = 100
Origin = Literal["app", "api", "cli"]
AUDIT_COLUMNS = ("at", "who", "action", "subject", "outcome")


@dataclass(frozen=True)
class LoggedPrediction:
    """A stored answer. ``label`` is the latest correction by a person, ``None`` where there is none."""

    id: int
    name: str
    origin: Origin
    label: str | None
    prediction: Prediction


class Store:
    """One database. Safe to use from several threads and processes."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    @classmethod
    def open(cls, url: str) -> Store:
        """Connect to ``url`` and create what is missing. Raises ``StoreError``."""
        store = cls(connect(url))
        try:
            with store._transaction() as connection:
                create_tables(connection)
                check_version(connection)
        except StoreError:
            store.close()
            raise
        return store

    def close(self) -> None:
        self._engine.dispose()

    def check(self) -> None:
        """Raise ``StoreError`` where the database does not answer."""
        with self._transaction() as connection:
            check_version(connection)

    def log(
        self, prediction: Prediction, manifest: Manifest, *, name: str, origin: Origin, sound: bytes | None = None
    ) -> int:
        """Write one answer and, where it is to be kept, its ``sound``; return its id once both are on disk."""
        kept = {} if sound is None else {prediction.clip_id: sound}
        return self.log_all([(name, prediction)], manifest, origin=origin, sounds=kept)[0]

    def log_all(
        self,
        answers: Sequence[tuple[str, Prediction]],
        manifest: Manifest,
        *,
        origin: Origin,
        sounds: Mapping[str, bytes] | None = None,
    ) -> list[int]:
        """Write ``(name, prediction)`` pairs in one transaction; return their ids, in order.

        ``sounds``: clip id → file, of those to be kept; stored with the answers or not at all.
        """
        if not answers:
            return []
        with self._transaction() as connection:
            insert_once(
                connection,
                MODELS,
                fingerprint=manifest.fingerprint,
                class_names=list(manifest.class_names),
                temperature=manifest.temperature,
                run_id=manifest.run_id,
            )
            for clip_id, data in (sounds or {}).items():
                insert_once(connection, SOUNDS, clip_id=clip_id, data=data)
            rows = [_row(prediction, name, origin) for name, prediction in answers]
            inserted = connection.execute(
                sa.insert(PREDICTIONS).returning(PREDICTIONS.c.id, sort_by_parameter_order=True), rows
            )
            return [int(row.id) for row in inserted]

    def get(self, prediction_id: int) -> LoggedPrediction:
        """Raises ``StoreError`` with code ``no_prediction``."""
        with self._transaction() as connection:
            row = connection.execute(
                sa.select(PREDICTIONS, MODELS.c.class_names, MODELS.c.temperature, _latest_label())
                .join(MODELS)
                .where(PREDICTIONS.c.id == prediction_id)
            ).one_or_none()
        if row is None:
            raise StoreError(f"Expected a logged prediction, found none with id {prediction_id}.", code="no_prediction")
        return LoggedPrediction(row.id, row.name, row.origin, row.label, _prediction(row))

    def correct(self, prediction_id: int, label: str) -> None:
        """Store what a person says the sound is: a class, ``NONE_OF_THE_CLASSES`` or a name of their own.

        Earlier corrections stay; the latest counts. Raises ``StoreError`` with code ``no_prediction`` or ``bad_label``.
        """
        label = " ".join(label.split())
        if not 1 <= len(label) <= LABEL_CHARACTERS:
            raise StoreError(
                f"Expected a label of 1 to {LABEL_CHARACTERS} characters, got {len(label)}. Use a few words.",
                code="bad_label",
            )
        self.get(prediction_id)
        with self._transaction() as connection:
            connection.execute(
                sa.insert(CORRECTIONS).values(prediction_id=prediction_id, label=label, created_at=datetime.now(UTC))
            )

    def models(self) -> pd.DataFrame:
        """One row a model that answered: fingerprint, run_id, n, first, last (UTC); the latest first."""
        log = PREDICTIONS.c
        query = (
            sa.select(
                MODELS.c.fingerprint,
                MODELS.c.run_id,
                sa.func.count(log.id).label("n"),
                sa.func.min(log.created_at).label("first"),
                sa.func.max(log.created_at).label("last"),
            )
            .join(PREDICTIONS)
            .group_by(MODELS.c.fingerprint, MODELS.c.run_id)
            .order_by(sa.desc("last"))
        )
        with self._transaction() as connection:
            rows = connection.execute(query).all()
        return pd.DataFrame(rows, columns=["fingerprint", "run_id", "n", "first", "last"])

    def class_names(self, fingerprint: str) -> tuple[str, ...]:
        """Raises ``StoreError`` with code ``no_model`` for a model that never answered here."""
        with self._transaction() as connection:
            names = connection.scalar(sa.select(MODELS.c.class_names).where(MODELS.c.fingerprint == fingerprint))
        if names is None:
            raise StoreError(f"No prediction here is by the model {fingerprint[:12]}.", code="no_model")
        return tuple(names)

    def records(
        self,
        fingerprint: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        with_embedding: bool = False,
        last: int | None = None,
    ) -> pd.DataFrame:
        """The log of one model as records: ``clip_id, fold, source_group, label, logits, …`` and descriptors, by time.

        ``fold`` is 0, nobody held these clips out; ``source_group`` is the clip; ``label`` is a person's, or missing.
        ``last`` keeps the newest only.
        """
        left_out = {"windows", "quality", "source", "place"} | (set() if with_embedding else {"embedding"})
        columns = [column for column in PREDICTIONS.c if column.name not in left_out]
        query = _within(sa.select(*columns, _latest_label()), fingerprint, since, until)
        query = query.order_by(PREDICTIONS.c.created_at.desc(), PREDICTIONS.c.id.desc())
        with self._transaction() as connection:
            result = connection.execute(query if last is None else query.limit(last))
            table = pd.DataFrame(result.all(), columns=list(result.keys()))
        return _as_records(table.iloc[::-1].reset_index(drop=True), with_embedding=with_embedding)

    def record_chunks(
        self,
        fingerprint: str,
        *,
        since: datetime | None = None,
        until: datetime | None = None,
        rows: int = 20_000,
    ) -> Iterator[pd.DataFrame]:
        """The same as ``records`` with ``quality``, in pieces of ``rows``: a log of any length in bounded memory."""
        columns = [column for column in PREDICTIONS.c if column.name not in {"windows", "source", "place", "embedding"}]
        query = _within(sa.select(*columns, _latest_label()), fingerprint, since, until)
        query = query.order_by(PREDICTIONS.c.created_at, PREDICTIONS.c.id)
        with self._transaction() as connection:
            result = connection.execution_options(yield_per=rows).execute(query)
            names = list(result.keys())
            for chunk in result.partitions():
                yield _as_records(pd.DataFrame(chunk, columns=names), with_embedding=False)

    def count(self, fingerprint: str | None, *, since: datetime | None = None, until: datetime | None = None) -> int:
        """How many answers of one model are logged; ``None``: of all."""
        query = _within(sa.select(sa.func.count(PREDICTIONS.c.id)), fingerprint, since, until)
        with self._transaction() as connection:
            return int(connection.scalar(query) or 0)

    def version(self) -> tuple[int, int]:
        """Greatest ids of predictions and corrections: it tells when a cached reading of the log is out of date."""
        newest = sa.select(
            sa.select(sa.func.max(PREDICTIONS.c.id)).scalar_subquery(),
            sa.select(sa.func.max(CORRECTIONS.c.id)).scalar_subquery(),
        )
        with self._transaction() as connection:
            prediction, correction = connection.execute(newest).one()
        return int(prediction or 0), int(correction or 0)

    def keep_sound(self, clip_id: str, data: bytes) -> None:
        """Store the file itself; the same file twice is stored once."""
        with self._transaction() as connection:
            insert_once(connection, SOUNDS, clip_id=clip_id, data=data)

    def sound(self, clip_id: str) -> bytes | None:
        """The file, or ``None`` where it was not kept."""
        with self._transaction() as connection:
            data = connection.scalar(sa.select(SOUNDS.c.data).where(SOUNDS.c.clip_id == clip_id))
        return None if data is None else bytes(data)

    def labelled_sounds(self) -> pd.DataFrame:
        """What people said of logged sounds, the latest word for each: ``clip_id, label, kept``, by clip."""
        said = (
            sa.select(PREDICTIONS.c.clip_id, sa.func.max(CORRECTIONS.c.id).label("correction"))
            .join(CORRECTIONS, CORRECTIONS.c.prediction_id == PREDICTIONS.c.id)
            .group_by(PREDICTIONS.c.clip_id)
            .subquery()
        )
        query = (
            sa.select(said.c.clip_id, CORRECTIONS.c.label, SOUNDS.c.clip_id.is_not(None).label("kept"))
            .join(CORRECTIONS, CORRECTIONS.c.id == said.c.correction)
            .outerjoin(SOUNDS, SOUNDS.c.clip_id == said.c.clip_id)
            .order_by(said.c.clip_id)
        )
        with self._transaction() as connection:
            return pd.DataFrame(connection.execute(query).all(), columns=["clip_id", "label", "kept"])

    def begin_action(self, who: str, action: str, subject: str, *, outcome: str = "begun") -> int:
        """Write down what an admin is about to do, before it is done; return its id once it is on disk."""
        row = {"at": datetime.now(UTC), "who": who, "action": action, "subject": subject, "outcome": outcome}
        with self._transaction() as connection:
            return int(connection.execute(sa.insert(AUDIT).returning(AUDIT.c.id), row).scalar_one())

    def end_action(self, action_id: int, outcome: str) -> None:
        """How it went."""
        with self._transaction() as connection:
            connection.execute(sa.update(AUDIT).where(AUDIT.c.id == action_id).values(outcome=outcome))

    def actions(self, *, last: int = 100) -> pd.DataFrame:
        """What admins did: ``AUDIT_COLUMNS``, the latest first."""
        query = sa.select(*(AUDIT.c[name] for name in AUDIT_COLUMNS)).order_by(AUDIT.c.id.desc()).limit(last)
        with self._transaction() as connection:
            table = pd.DataFrame(connection.execute(query).all(), columns=list(AUDIT_COLUMNS))
        return table.assign(at=pd.to_datetime(table["at"], utc=True))

    @contextmanager
    def _transaction(self) -> Iterator[Connection]:
        try:
            with self._engine.begin() as connection:
                yield connection
        except SQLAlchemyError as exc:
            reason = str(getattr(exc, "orig", None) or exc).splitlines()[0]
            raise StoreError(
                f"The database {without_password(str(self._engine.url))} did not take this: {reason}. Check that it "
                "runs, that its disk has space and that EARSHOT_DATABASE_URL is right.",
                code="database",
            ) from exc


def _latest_label() -> sa.Label[str]:
    """The latest correction of each prediction."""
    return (
        sa.select(CORRECTIONS.c.label)
        .where(CORRECTIONS.c.prediction_id == PREDICTIONS.c.id)
        .order_by(CORRECTIONS.c.id.desc())
        .limit(1)
        .scalar_subquery()
        .label("label")
    )


def _within(
    query: sa.Select[Any], fingerprint: str | None, since: datetime | None, until: datetime | None
) -> sa.Select[Any]:
    """Only answers of one model (``None``: of all) from ``since`` to before ``until``."""
    if fingerprint is not None:
        query = query.where(PREDICTIONS.c.fingerprint == fingerprint)
    if since is not None:
        query = query.where(PREDICTIONS.c.created_at >= since)
    return query if until is None else query.where(PREDICTIONS.c.created_at < until)


def _row(prediction: Prediction, name: str, origin: Origin) -> dict[str, Any]:
    given = prediction.model_dump(mode="json", include={"windows", "quality", "source", "place"})
    plain = {"fingerprint", "clip_id", "confidence", "entropy", "margin", "unknown", "unknown_score"}
    plain |= {"duration_s", "latency_ms", "backend", "created_at"}
    return (
        {field: getattr(prediction, field) for field in plain}
        | {"name": name, "origin": origin, "predicted": prediction.label}
        | {"logits": _packed(prediction.logits), "embedding": _packed(prediction.embedding)}
        | given
        | {name: _or_none(prediction.descriptors[name]) for name in descriptors.NAMES}
    )


def _prediction(row: sa.Row[Any]) -> Prediction:
    names, logits = tuple(row.class_names), _unpacked(row.logits)
    probabilities = softmax(logits, row.temperature)
    order = np.argsort(-probabilities, kind="stable")
    return Prediction(
        clip_id=row.clip_id,
        label=row.predicted,
        confidence=row.confidence,
        probabilities={names[k]: float(probabilities[k]) for k in order},
        entropy=row.entropy,
        margin=row.margin,
        logits=tuple(logits.tolist()),
        embedding=tuple(_unpacked(row.embedding).tolist()),
        unknown=row.unknown,
        unknown_score=row.unknown_score,
        windows=tuple(WindowPrediction.model_validate(window) for window in row.windows),
        descriptors={name: getattr(row, name) for name in descriptors.NAMES},
        quality=tuple(QualityWarning.model_validate(warning) for warning in row.quality),
        source=SourceFacts.model_validate(row.source),
        duration_s=row.duration_s,
        latency_ms=row.latency_ms,
        backend=row.backend,
        fingerprint=row.fingerprint,
        created_at=_utc(row.created_at),
        place=None if row.place is None else Place.model_validate(row.place),
    )


def _as_records(table: pd.DataFrame, *, with_embedding: bool) -> pd.DataFrame:
    for column in ("logits", "embedding") if with_embedding else ("logits",):
        table[column] = [_unpacked(value) for value in table[column]]
    if "quality" in table:
        table["quality"] = [" ".join(warning["code"] for warning in warnings) for warnings in table["quality"]]
    table["created_at"] = pd.to_datetime(table["created_at"], utc=True)
    return table.assign(fold=0, source_group=table["clip_id"])


def _packed(values: Sequence[float]) -> bytes:
    return np.asarray(values, dtype="<f4").tobytes()


def _unpacked(data: bytes) -> NDArray[np.float32]:
    return np.frombuffer(data, dtype="<f4")


def _or_none(value: float) -> float | None:
    return value if np.isfinite(value) else None


def _utc(moment: datetime) -> datetime:
    """SQLite forgets the zone; everything here is UTC."""
    return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
