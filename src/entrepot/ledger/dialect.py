"""Everything that differs between SQLite and PostgreSQL: connecting, the clock, locking, upserts."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from typing import Any

from sqlalchemy import Connection, Engine, Float, Table, create_engine, event
from sqlalchemy.ext.compiler import compiles
from sqlalchemy.pool import StaticPool
from sqlalchemy.sql.expression import FunctionElement

BUSY_SECONDS = 30.0


class now(FunctionElement[float]):  # noqa: N801
    """Unix time by the clock of the database: the only clock that judges leases."""

    type = Float()
    inherit_cache = True
    name = "now"


@compiles(now, "sqlite")
def _now_sqlite(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "((julianday('now') - 2440587.5) * 86400.0)"


@compiles(now, "postgresql")
def _now_postgresql(_element: Any, _compiler: Any, **_kw: Any) -> str:
    return "cast(extract(epoch from clock_timestamp()) as double precision)"


def connect(url: str) -> Engine:
    """An engine for the URL. SQLite gets one connection: the ledger has one writer per process."""
    if not url.startswith("sqlite"):
        return create_engine(url, pool_pre_ping=True)
    engine = create_engine(
        url, poolclass=StaticPool, connect_args={"timeout": BUSY_SECONDS, "check_same_thread": False}
    )
    event.listen(engine, "connect", _prepare_sqlite)
    event.listen(engine, "begin", _begin_sqlite)
    return engine


def _prepare_sqlite(raw: sqlite3.Connection, _record: Any) -> None:
    raw.isolation_level = None
    raw.execute("PRAGMA journal_mode = WAL").close()
    raw.execute("PRAGMA synchronous = FULL").close()


def _begin_sqlite(connection: Connection) -> None:
    reading = connection.get_execution_options().get("reading", False)
    # A transaction that turns from reading to writing half-way can deadlock with another process.
    connection.exec_driver_sql("BEGIN" if reading else "BEGIN IMMEDIATE")


def is_sqlite(connection: Connection | Engine) -> bool:
    """True on SQLite, where a process's transactions follow one another by themselves."""
    return connection.dialect.name == "sqlite"


def has_stamp_table(connection: Connection) -> bool:
    """Whether the schema version was ever written, by one plain query."""
    if is_sqlite(connection):
        text = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
    else:
        text = "SELECT count(*) FROM pg_tables WHERE tablename = 'alembic_version'"
    return bool(connection.exec_driver_sql(text).scalar())


def upsert(
    connection: Connection, table: Table, keys: Sequence[str], rows: Sequence[dict[str, Any]], add: str = ""
) -> None:
    """Insert rows; where the ``keys`` exist already, replace the other columns (or add to column ``add``)."""
    if not rows:
        return
    insert: Any
    if is_sqlite(connection):
        from sqlalchemy.dialects.sqlite import insert
    else:
        from sqlalchemy.dialects.postgresql import insert
    statement = insert(table)
    if add:
        changes = {add: table.c[add] + statement.excluded[add]}
    else:
        changes = {name: statement.excluded[name] for name in rows[0] if name not in keys}
    connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changes), list(rows))
