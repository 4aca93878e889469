"""The database: its tables, and how it is opened. SQLite by default, PostgreSQL for more than one machine."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.engine import Connection, Engine
from sqlalchemy.exc import ArgumentError, NoSuchModuleError

from core import descriptors
from core.errors import StoreError

SCHEMA_VERSION = 1
SCHEMA_LOCK = 0x0EA2_5407  # any number that nothing else in the database locks
CONNECT_S = 10  # how long PostgreSQL may take to take a connection
SILENT_S = 30  # after which a connection that acknowledges nothing is given up
BUSY_S = 30.0  # how long whoever needs a lock waits for another one's transaction
DIALECTS = ("sqlite", "postgresql")

TABLES = sa.MetaData()

FACTS = sa.Table("store", TABLES, sa.Column("key", sa.String(32), primary_key=True), sa.Column("value", sa.Text))

MODELS = sa.Table(
    "models",
    TABLES,
    sa.Column("fingerprint", sa.String(64), primary_key=True),
    sa.Column("class_names", sa.JSON, nullable=False),
    sa.Column("temperature", sa.Double, nullable=False),
    sa.Column("run_id", sa.Text, nullable=False),
)

PREDICTIONS = sa.Table(
    "predictions",
    TABLES,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("fingerprint", sa.ForeignKey("models.fingerprint"), nullable=False),
    sa.Column("origin", sa.String(8), nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("clip_id", sa.String(16), nullable=False, index=True),
    sa.Column("predicted", sa.Text, nullable=False),
    sa.Column("confidence", sa.Double, nullable=False),
    sa.Column("entropy", sa.Double, nullable=False),
    sa.Column("margin", sa.Double, nullable=False),
    sa.Column("unknown", sa.Boolean, nullable=False),
    sa.Column("unknown_score", sa.Double),
    sa.Column("duration_s", sa.Double, nullable=False),
    sa.Column("latency_ms", sa.Double, nullable=False),
    sa.Column("backend", sa.String(32), nullable=False),
    sa.Column("place", sa.JSON(none_as_null=True)),
    sa.Column("logits", sa.LargeBinary, nullable=False),
    sa.Column("embedding", sa.LargeBinary, nullable=False),
    sa.Column("windows", sa.JSON, nullable=False),
    sa.Column("quality", sa.JSON, nullable=False),
    sa.Column("source", sa.JSON, nullable=False),
    *(sa.Column(name, sa.Double) for name in descriptors.NAMES),
    sa.Index("predictions_by_model_and_time", "fingerprint", "created_at"),
)

CORRECTIONS = sa.Table(
    "corrections",
    TABLES,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("prediction_id", sa.ForeignKey("predictions.id"), nullable=False, index=True),
    sa.Column("label", sa.Text, nullable=False),
    sa.Column("created_at", sa.DateTime(timezone=True), nullable=False),
)

SOUNDS = sa.Table(
    "sounds",
    TABLES,
    sa.Column("clip_id", sa.String(16), primary_key=True),
    sa.Column("data", sa.LargeBinary, nullable=False),
)

AUDIT = sa.Table(
    "audit",
    TABLES,
    sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
    sa.Column("at", sa.DateTime(timezone=True), nullable=False),
    sa.Column("who", sa.Text, nullable=False),
    sa.Column("action", sa.String(32), nullable=False),
    sa.Column("subject", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
)


def connect(url: str) -> Engine:
    """An engine for ``url``, whose database may not answer yet. Raises ``StoreError``."""
    try:
        engine = sa.create_engine(url, **_options(url))
        if engine.dialect.name not in DIALECTS:
            raise ArgumentError(engine.dialect.name)
    except (ArgumentError, NoSuchModuleError, ImportError) as exc:
        raise StoreError(
            "Expected a database URL such as sqlite:///data/earshot.sqlite3 or "
            f"postgresql+psycopg://user@host/name, got {without_password(url)!r} ({type(exc).__name__}). "
            "Correct EARSHOT_DATABASE_URL.",
            code="bad_database_url",
        ) from exc
    if engine.dialect.name == "sqlite":
        sa.event.listen(engine, "connect", _tune_sqlite)
    else:
        sa.event.listen(engine, "begin", _wait_so_long)
    return engine


def create_tables(connection: Connection) -> None:
    """Create what is missing. Whoever else wants to waits until this transaction ends."""
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(SCHEMA_LOCK)))
    else:
        connection.exec_driver_sql("BEGIN IMMEDIATE")
    TABLES.create_all(connection)


def check_version(connection: Connection) -> None:
    """Raise ``StoreError`` where another release made the tables; note in new ones that this one did."""
    found = connection.scalar(sa.select(FACTS.c.value).where(FACTS.c.key == "schema"))
    if found is None:
        insert_once(connection, FACTS, key="schema", value=str(SCHEMA_VERSION))
    elif found != str(SCHEMA_VERSION):
        raise StoreError(
            f"Expected a database of schema {SCHEMA_VERSION}, {without_password(str(connection.engine.url))} has "
            f"{found}. Use the Earshot that wrote it, or name another database in EARSHOT_DATABASE_URL.",
            code="other_schema",
        )


def insert_once(connection: Connection, table: sa.Table, **values: Any) -> None:
    """Insert a row unless its key is there: two processes may try at the same moment."""
    if connection.dialect.name == "postgresql":
        connection.execute(postgresql.insert(table).values(**values).on_conflict_do_nothing())
    else:
        connection.execute(sqlite.insert(table).values(**values).on_conflict_do_nothing())


def _options(url: str) -> dict[str, Any]:
    if not url.startswith("sqlite"):
        limits = {"connect_timeout": CONNECT_S, "tcp_user_timeout": SILENT_S * 1000}
        return {"pool_pre_ping": True, "connect_args": limits if url.startswith("postgresql") else {}}
    path = sa.make_url(url).database
    if path and path != ":memory:":
        try:
            Path(path).expanduser().parent.mkdir(parents=True, exist_ok=True)
        except OSError as exc:
            raise StoreError(
                f"Expected a folder that can be written for the database {path}, got {exc.strerror}. "
                "Name another one in EARSHOT_DATABASE_URL.",
                code="database",
            ) from exc
    return {"connect_args": {"timeout": BUSY_S}}


def _tune_sqlite(connection: Any, _: Any) -> None:
    cursor = connection.cursor()
    cursor.execute("PRAGMA journal_mode = WAL")  # readers do not wait for a writer
    cursor.execute("PRAGMA synchronous = FULL")  # a commit is on disk when it returns
    cursor.execute("PRAGMA foreign_keys = ON")
    cursor.close()


def _wait_so_long(connection: Connection) -> None:
    """Of this transaction alone: a pooler in between may hand the connection to somebody else afterwards."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {round(BUSY_S * 1000)}")


def without_password(url: str) -> str:
    """The address as it may be shown."""
    try:
        return sa.make_url(url).set(query={}).render_as_string(hide_password=True)  # a query may hold one, too
    except ArgumentError:
        return "something that is no URL"
