"""Opening the ledger: the right schema at the known version, and short transactions of plain SQL."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import TypeVar

from entrepot.model.errors import UsageError

from . import schema
from .dialect import BUSY_SECONDS, Database, LedgerError
from .session import Connection, Row, Session

__all__ = ["Connection", "Ledger", "LedgerError", "Row", "SingleLedger", "open_ledger"]

_T = TypeVar("_T")

TRIES = 5
"""How often ``Ledger.settle`` does a transaction that the database gave up for another one."""


class Ledger:
    """Gives connections inside one transaction; keep it short, and never begin one inside another."""

    def __init__(self, database: Database) -> None:
        self.name = database.name
        self._database = database
        self._reading = database.begin_reading
        self._writing = database.begin_writing

    def write(self) -> Transaction:
        """One transaction that changes things: all of it, durable, or nothing."""
        return Transaction(self, self._writing, True)

    def read(self) -> Transaction:
        """One transaction that only looks: everything as it was at one moment."""
        return Transaction(self, self._reading, False)

    def settle(self, work: Callable[[Connection], _T]) -> _T:
        """``work`` in one writing transaction, done again when the database gave it up for another one."""
        end = time.monotonic() + BUSY_SECONDS
        for tried in range(1, TRIES):
            try:
                with self.write() as connection:
                    return work(connection)
            except LedgerError as error:
                if not error.retryable or time.monotonic() > end:
                    raise
                # Let the other one get ahead. Not all the same time: two that were given up would meet again.
                time.sleep(0.01 * tried * (1 + threading.get_ident() // 4096 % 7))
        with self.write() as connection:
            return work(connection)

    def take(self, writing: bool) -> Session:
        """A connection for one transaction."""
        raise NotImplementedError

    def give_back(self, session: Session, writing: bool) -> None:
        """The transaction is over."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the database."""
        raise NotImplementedError


class Transaction:
    """``with`` this: commits at the end, rolls back when something is raised."""

    __slots__ = ("_begin", "_ledger", "_session", "_writing")
    _session: Session

    def __init__(self, ledger: Ledger, begin: str, writing: bool) -> None:
        self._ledger = ledger
        self._begin = begin
        self._writing = writing

    def __enter__(self) -> Connection:
        session = self._session = self._ledger.take(self._writing)
        try:
            return session.begin(self._begin)
        except BaseException:
            self._ledger.give_back(session, self._writing)
            raise

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        session = self._session
        try:
            if error is None:
                session.commit()
                return
            session.rollback()
            explained = session.explained(error)
            if explained is not error:
                raise explained from error
        finally:
            self._ledger.give_back(session, self._writing)


class SingleLedger(Ledger):
    """A ledger with one connection: transactions of several threads take turns."""

    def __init__(self, database: Database, session: Session) -> None:
        super().__init__(database)
        self._session = session
        self._turn = threading.Lock()
        self._owner = 0

    def take(self, writing: bool) -> Session:
        """Wait for one's turn."""
        me = threading.get_ident()
        if self._owner == me:
            raise inside_another(self.name)
        if not self._turn.acquire(timeout=BUSY_SECONDS):
            raise too_busy(self.name)
        self._owner = me
        return self._session

    def give_back(self, session: Session, writing: bool) -> None:
        """The next one's turn."""
        self._owner = 0
        self._turn.release()

    def close(self) -> None:
        """Close the database."""
        self._session.close()


def inside_another(name: str) -> LedgerError:
    """A fault of ours: one of the two would wait for the other for ever, or end it."""
    return LedgerError(f"the ledger {name}: a transaction was begun inside another one", hint="report this")


def too_busy(name: str) -> LedgerError:
    """All others had their turn for too long."""
    return LedgerError(
        f"the ledger {name} is too busy: no turn within {BUSY_SECONDS:.0f} s", hint="try again later", retryable=True
    )


def open_ledger(place: str) -> Ledger:
    """Open (or create) the ledger in a file or a PostgreSQL database, with its schema at the newest version."""
    database = find_database(place)
    return SingleLedger(database, open_session(database))


def find_database(place: str) -> Database:
    """The database at a path or URL. Raises UsageError when there can be none."""
    if place.startswith(("postgresql://", "postgres://")):
        from .postgres import PostgresDatabase

        return PostgresDatabase(place)
    from .sqlite import SqliteFile

    if "://" in place.removeprefix("sqlite:///"):
        raise UsageError(
            f"the ledger cannot be kept in {place.partition('://')[0]}://…",
            hint="give the path of a SQLite file, or postgresql://user@host:5432/database",
        )
    return SqliteFile(place)


def open_session(database: Database) -> Session:
    """The first connection, with the schema brought to the newest version."""
    try:
        session = Session(database, database.connect(again=False))
    except database.failures as error:
        raise database.explain(error) from error
    try:
        _bring_up(SingleLedger(database, session), database)
    except BaseException:
        session.close()
        raise
    return session


def _bring_up(ledger: Ledger, database: Database) -> None:
    with ledger.read() as connection:
        stamp = _stamp(connection, database)
    if stamp == schema.HEAD or (stamp is None and _create(ledger, database)):
        return
    # Takes longer to import than a small run takes altogether.
    from .migrations.run import upgrade

    upgrade(database)


def _stamp(connection: Connection, database: Database) -> str | None:
    """The schema version in the database; None when it was never written."""
    if not connection.value(database.stamped):
        return None
    found = connection.value("SELECT version_num FROM alembic_version")
    return str(found) if found is not None else None


def _create(ledger: Ledger, database: Database) -> bool:
    """Make all tables of a new database; False: the migrations have to."""
    with ledger.write() as connection:
        # Perhaps another process was faster.
        return database.make(connection) or _stamp(connection, database) == schema.HEAD
