"""Everything that differs between SQLite and PostgreSQL: connecting, transactions, the clock, locking, parameters.

The ledger's SQL is written once: ``:name`` for parameters, ``now()`` for Unix time by the clock of the database
(the only clock that judges leases), ``FOR UPDATE`` where rows are read to be changed.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

BUSY_SECONDS = 30.0

_NOW_SQLITE = "((julianday('now') - 2440587.5) * 86400.0)"
_NOW_POSTGRESQL = "cast(extract(epoch from clock_timestamp()) as double precision)"


@dataclass(slots=True, frozen=True)
class Dialect:
    """How one database wants it. ``stamped`` counts the tables that hold the schema's version (0 or 1)."""

    render: Callable[[str], str]
    begin_reading: str
    begin_writing: str
    stamped: str


@lru_cache(512)
def for_sqlite(sql: str) -> str:
    """A statement as SQLite takes it: one writer at a time, so there are no rows to lock."""
    plain = sql.replace(" FOR UPDATE SKIP LOCKED", "").replace(" FOR UPDATE", "")
    return plain.replace("now()", _NOW_SQLITE)


@lru_cache(512)
def for_postgresql(sql: str) -> str:
    """A statement as psycopg takes it."""
    import re

    named = re.sub(r"(?<!:):([a-z_][a-z_0-9]*)", r"%(\1)s", sql.replace("%", "%%"))
    return named.replace("now()", _NOW_POSTGRESQL)


SQLITE = Dialect(
    render=for_sqlite,
    begin_reading="BEGIN",
    # A transaction that turns from reading to writing half-way can deadlock with another process.
    begin_writing="BEGIN IMMEDIATE",
    stamped="SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'",
)


def connect(path: str) -> sqlite3.Connection:
    """One connection to a SQLite file: the ledger has one writer per process."""
    raw = sqlite3.connect(path, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
    try:
        raw.execute("PRAGMA journal_mode = WAL").close()
        raw.execute("PRAGMA synchronous = FULL").close()
    except BaseException:
        raw.close()
        raise
    return raw
