"""What a statement of the ledger may say, and what a database must offer to understand it.

The ledger's SQL is written once for SQLite and PostgreSQL:

- ``:name`` for parameters, ``now()`` for Unix time by the clock of the database (the only clock that judges
  leases), ``FOR UPDATE [SKIP LOCKED]`` where rows are read to be changed, ``ON CONFLICT`` for upserts.
- Yes and no are numbers (BIGINT, 0 and 1). Text and bytes compare and sort byte by byte in both. ``LIKE`` tells
  capital from small letters in both and needs an ``ESCAPE`` where it shall have one. There is no greatest of bytes
  (``max``) before PostgreSQL 18: ``ORDER BY … DESC LIMIT 1``.
- A parameter that may be NULL and stands alone needs its type: ``cast(:after AS TEXT) IS NULL``.
- A failed statement ends its transaction. What may be there already is inserted with ``ON CONFLICT DO NOTHING``,
  and the number of changed rows tells.
- SQLite has one writer at a time. In PostgreSQL writers meet only at rows: what a transaction decides on must be
  read ``FOR UPDATE``, and a decision on what is *not* there needs ``Connection.alone`` or a unique index.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Protocol

from entrepot.model.errors import InternalError

BUSY_SECONDS = 30.0
"""How long a transaction waits for another one that holds what it wants."""

_NOW_SQLITE = "((julianday('now') - 2440587.5) * 86400.0)"
_NOW_POSTGRESQL = "cast(extract(epoch from clock_timestamp()) as double precision)"


class LedgerError(InternalError):
    """The ledger's database failed: locked for too long, disk full, damaged, gone. No data is touched by it.

    ``retryable``: nothing of the transaction was kept, and the same one may succeed when it is done again.
    """

    def __init__(self, message: str, *, hint: str = "", retryable: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.retryable = retryable


class Database(Protocol):
    """One place where a ledger is kept, and how that kind of database wants it."""

    kind: str
    """"sqlite" or "postgresql", for the few statements that need two wordings."""
    name: str
    """For messages: without password."""
    way_out: str
    """What to do when another program's tables are there."""
    failures: type[Exception]
    """What its driver raises."""
    one_writer: bool
    """Whether writers have to come one after the other, whatever they change."""
    begin_reading: str
    begin_writing: str
    stamped: str
    """Counts the tables that hold the schema's version (0 or 1)."""
    alone: str
    """Makes all transactions with the same ``:name`` come one after the other; empty: they do anyway."""

    def render(self, sql: str) -> str:
        """A statement as its driver takes it."""
        ...

    def connect(self, *, again: bool) -> Any:
        """A new connection of its driver, outside any transaction; ``again``: it was there a moment ago.

        Raises UsageError where the first one fails, its own failures later.
        """
        ...

    def lost(self, raw: Any, error: Exception) -> bool:
        """Whether a failure means that the connection is of no use any more."""
        ...

    def commit(self, raw: Any) -> None:
        """End a transaction well."""
        ...

    def open_transaction(self, raw: Any) -> bool:
        """Whether there is a transaction to end."""
        ...

    def explain(self, error: Exception) -> LedgerError:
        """What a failure means and what to do."""
        ...

    def make(self, connection: Any) -> bool:
        """Make all tables of a new database quickly; False: leave it to the migrations."""
        ...

    def engine(self) -> Any:
        """For the migrations: an engine of SQLAlchemy whose transactions keep all other upgrades out."""
        ...


@lru_cache(512)
def for_sqlite(sql: str) -> str:
    """A statement as SQLite takes it: one writer at a time, so there are no rows to lock."""
    plain = sql.replace(" FOR UPDATE SKIP LOCKED", "").replace(" FOR UPDATE", "")
    return plain.replace("now()", _NOW_SQLITE)


@lru_cache(512)
def for_postgresql(sql: str) -> str:
    """A statement as psycopg takes it."""
    import re

    named = re.sub(r"('[^']*')|(?<!:):([a-z_][a-z_0-9]*)", _parameter, sql.replace("%", "%%"))
    return named.replace("now()", _NOW_POSTGRESQL)


def _parameter(found: Any) -> str:
    return found[1] or f"%({found[2]})s"
