"""Opening the ledger: the right schema at the known version, and short transactions of plain SQL."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from entrepot.model.errors import InternalError, UsageError

from . import dialect, schema
from .dialect import SQLITE, Dialect

Row = SimpleNamespace
"""A row of an answer: its columns are attributes."""

_NOTHING: Mapping[str, Any] = {}


class LedgerError(InternalError):
    """The ledger's database failed: locked for too long, disk full, damaged. No data is touched by it."""


class Connection:
    """Statements inside one transaction. How to write them is said in ``dialect``."""

    def __init__(self, raw: sqlite3.Connection, kind: Dialect) -> None:
        self._raw = raw
        self._render = kind.render

    def execute(self, sql: str, params: Mapping[str, Any] = _NOTHING) -> list[Row]:
        """Run one statement; all rows that it answers."""
        cursor = self._raw.execute(self._render(sql), params)
        if cursor.description is None:
            return []
        names = [column[0] for column in cursor.description]
        return [Row(**dict(zip(names, values, strict=True))) for values in cursor]

    def first(self, sql: str, params: Mapping[str, Any] = _NOTHING) -> Row | None:
        """The first row, if any."""
        rows = self.execute(sql, params)
        return rows[0] if rows else None

    def value(self, sql: str, params: Mapping[str, Any] = _NOTHING) -> Any:
        """The first column of the first row; None without rows."""
        found = self._raw.execute(self._render(sql), params).fetchone()
        return found[0] if found else None

    def change(self, sql: str, params: Mapping[str, Any] = _NOTHING) -> int:
        """Run a statement that changes rows; how many it changed."""
        return self._raw.execute(self._render(sql), params).rowcount

    def executemany(self, sql: str, params: Iterable[Mapping[str, Any]]) -> None:
        """Run one statement that changes rows for each set of parameters."""
        self._raw.executemany(self._render(sql), params)


class Ledger:
    """An open ledger. ``write`` and ``read`` give a connection inside one transaction; keep it short."""

    def __init__(self, raw: sqlite3.Connection, name: str, kind: Dialect = SQLITE) -> None:
        self.name = name
        self.dialect = kind
        self._raw = raw
        self._connection = Connection(raw, kind)
        self._turn = threading.RLock()

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that changes things: all of it, durable, or nothing."""
        with self._transaction(self.dialect.begin_writing) as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only looks."""
        with self._transaction(self.dialect.begin_reading) as connection:
            yield connection

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[Connection]:
        with self._turn:
            try:
                self._raw.execute(begin)
                try:
                    yield self._connection
                    self._raw.execute("COMMIT")
                except BaseException:
                    # Some failures (a full disk) end the transaction by themselves.
                    if self._raw.in_transaction:
                        self._raw.execute("ROLLBACK")
                    raise
            except sqlite3.Error as error:
                raise _explain(self.name, error) from error

    def close(self) -> None:
        """Close the database."""
        self._raw.close()


def open_ledger(place: str) -> Ledger:
    """Open (or create) the ledger in a file, with its schema at the newest version."""
    path = _file(place)
    try:
        ledger = Ledger(dialect.connect(path), path)
    except sqlite3.Error as error:
        raise _explain(path, error) from error
    try:
        _bring_up(ledger, path)
    except BaseException:
        ledger.close()
        raise
    return ledger


def _file(place: str) -> str:
    path = place.removeprefix("sqlite:///")
    if "://" in path:
        raise UsageError(
            f"the ledger {path.rpartition('@')[2]} cannot be opened: only SQLite files are served so far",
            hint="choose a writable directory by ENTREPOT_STATE_DIR",
        )
    folder = os.path.dirname(os.path.abspath(path))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise UsageError(
            f"the ledger {path} cannot be opened: {error.strerror}",
            hint="choose a writable directory by ENTREPOT_STATE_DIR",
        ) from error
    return path


def _bring_up(ledger: Ledger, path: str) -> None:
    with ledger.read() as connection:
        stamp = _stamp(connection, ledger.dialect)
    if stamp == schema.HEAD or (stamp is None and _create(ledger)):
        return
    # Takes longer to import than a small run takes altogether.
    from .migrations.run import upgrade

    try:
        upgrade(f"sqlite:///{os.path.abspath(path)}", ledger.name)
    except sqlite3.Error as error:
        raise _explain(ledger.name, error) from error


def _stamp(connection: Connection, kind: Dialect) -> str | None:
    """The schema version in the database; None when it was never written."""
    if not connection.value(kind.stamped):
        return None
    found = connection.value("SELECT version_num FROM alembic_version")
    return str(found) if found is not None else None


def _create(ledger: Ledger) -> bool:
    """Make all tables of a new file; False when there are some already that are not ours."""
    with ledger.write() as connection:
        if connection.value("SELECT count(*) FROM sqlite_master"):
            # Perhaps another process was faster.
            return _stamp(connection, ledger.dialect) == schema.HEAD
        for statement in schema.NEW_FILE:
            connection.change(statement)
    return True


def _explain(name: str, error: sqlite3.Error) -> LedgerError:
    cause = str(error)
    hint = "the work done so far is kept; run again when the cause is gone"
    if "locked" in cause:
        hint = "another process holds the ledger; wait for it or choose another ENTREPOT_STATE_DIR"
    elif "malformed" in cause or "not a database" in cause:
        hint = "move the file away and run again: the places are compared anew"
    elif "full" in cause:
        hint = "make room on its file system and run again"
    return LedgerError(f"the ledger {name} failed: {cause}", hint=hint)
