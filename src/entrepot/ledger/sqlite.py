"""A ledger in a SQLite file: how to connect, what its failures mean, how a new file is made."""

from __future__ import annotations

import os
import sqlite3
from typing import TYPE_CHECKING, Any

from entrepot.model.errors import UsageError

from . import schema
from .dialect import BUSY_SECONDS, LedgerError, for_sqlite

if TYPE_CHECKING:
    from sqlalchemy import Engine

    from .database import Connection


class SqliteFile:
    """The file, made private when it is new. Raises UsageError where that is not possible."""

    kind = "sqlite"
    failures: type[Exception] = sqlite3.Error
    one_writer = True
    begin_reading = "BEGIN"
    # A transaction that turns from reading to writing half-way can deadlock with another process.
    begin_writing = "BEGIN IMMEDIATE"
    stamped = "SELECT count(*) FROM sqlite_master WHERE name = 'alembic_version'"
    alone = ""
    way_out = "use that one, or choose another ENTREPOT_STATE_DIR"
    render = staticmethod(for_sqlite)

    def __init__(self, place: str) -> None:
        self.name = place.removeprefix("sqlite:///")
        folder = os.path.dirname(os.path.abspath(self.name))
        try:
            os.makedirs(folder, mode=0o700, exist_ok=True)
            if os.path.exists(f"{self.name}-new"):
                from . import swap

                swap.finish(self.name)
            os.close(os.open(self.name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        except OSError as error:
            raise UsageError(
                f"the ledger {self.name} cannot be opened: {error.strerror}",
                hint="choose a writable directory by ENTREPOT_STATE_DIR",
            ) from error

    def connect(self, *, again: bool) -> sqlite3.Connection:
        """Readers never wait for the writer (WAL); what was committed survives a power cut (FULL).

        ``LIKE`` is told to tell capital from small letters, as PostgreSQL does.
        """
        raw = sqlite3.connect(self.name, timeout=BUSY_SECONDS, check_same_thread=False, isolation_level=None)
        try:
            raw.execute("PRAGMA journal_mode = WAL").close()
            raw.execute("PRAGMA synchronous = FULL").close()
            raw.execute("PRAGMA case_sensitive_like = ON").close()
        except BaseException:
            raw.close()
            raise
        return raw

    def lost(self, raw: sqlite3.Connection, error: Exception) -> bool:
        """A file does not hang up."""
        return False

    def commit(self, raw: sqlite3.Connection) -> None:
        """Durable on return."""
        raw.execute("COMMIT")

    def open_transaction(self, raw: sqlite3.Connection) -> bool:
        """Some failures (a full disk) end a transaction by themselves."""
        return raw.in_transaction

    def explain(self, error: Exception) -> LedgerError:
        """What happened to the file."""
        cause = str(error)
        hint = "the work done so far is kept; run again when the cause is gone"
        locked = "locked" in cause
        if locked:
            hint = "another process holds the ledger; wait for it or choose another ENTREPOT_STATE_DIR"
        elif "malformed" in cause or "not a database" in cause:
            hint = (
                "stop what uses it and save what can be read: entrepot ledger recover; "
                "or move the file away and run again: the places are compared anew"
            )
        elif "full" in cause:
            hint = "make room on its file system and run again"
        elif "readonly" in cause:
            hint = "make its directory and file system writable, then run again"
        elif "I/O error" in cause or "unable to open" in cause:
            hint = "look after its disk, then run again; entrepot ledger check tells whether it is whole"
        return LedgerError(f"the ledger {self.name} failed: {cause}", hint=hint, retryable=locked)

    def make(self, connection: Connection) -> bool:
        """Make all tables of a new file without the migrations; False when there are some that are not ours."""
        if connection.value("SELECT count(*) FROM sqlite_master"):
            return False
        for statement in schema.NEW_FILE:
            connection.change(statement)
        return True

    def engine(self) -> Engine:
        """The driver's own habit of beginning late would leave table changes outside the transaction."""
        from sqlalchemy import NullPool, create_engine, event

        settings = {"timeout": BUSY_SECONDS, "isolation_level": None}
        engine = create_engine(f"sqlite:///{os.path.abspath(self.name)}", poolclass=NullPool, connect_args=settings)
        event.listen(engine, "begin", _begin)
        return engine


def _begin(connection: Any) -> None:
    connection.exec_driver_sql(SqliteFile.begin_writing)
