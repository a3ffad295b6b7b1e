"""Opening the ledger: the right schema at the known version, and short transactions."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError

from entrepot.model.errors import InternalError, UsageError

from . import dialect
from .schema import HEAD, metadata


class LedgerError(InternalError):
    """The ledger's database failed: locked for too long, disk full, damaged. No data is touched by it."""


class Ledger:
    """An open ledger. ``write`` and ``read`` give a connection inside one transaction; keep it short."""

    def __init__(self, engine: Engine, name: str) -> None:
        self.engine = engine
        self.name = name
        self._reader = engine.execution_options(reading=True)
        self._turn = threading.RLock()
        self._single = dialect.is_sqlite(engine)

    @contextmanager
    def write(self) -> Iterator[Connection]:
        """One transaction that changes things: all of it, durable, or nothing."""
        with self._session(self.engine) as connection:
            yield connection

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """One transaction that only looks."""
        with self._session(self._reader) as connection:
            yield connection

    @contextmanager
    def _session(self, engine: Engine) -> Iterator[Connection]:
        if self._single:
            self._turn.acquire()
        try:
            with engine.begin() as connection:
                yield connection
        except DBAPIError as error:
            raise _explain(self.name, error) from error
        finally:
            if self._single:
                self._turn.release()

    def close(self) -> None:
        """Close the database."""
        self.engine.dispose()


def open_ledger(place: str) -> Ledger:
    """Open (or create) the ledger at a file path or a database URL, with its schema at the newest version."""
    url, name = _url(place)
    ledger = Ledger(dialect.connect(url), name)
    try:
        _bring_up(ledger)
    except DBAPIError as error:
        ledger.close()
        raise _explain(name, error) from error
    except BaseException:
        ledger.close()
        raise
    return ledger


def _url(place: str) -> tuple[str, str]:
    if "://" in place:
        return place, place.rpartition("@")[2]
    folder = os.path.dirname(os.path.abspath(place))
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        os.close(os.open(place, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise UsageError(
            f"the ledger {place} cannot be opened: {error.strerror}",
            hint="choose a writable directory by ENTREPOT_STATE_DIR",
        ) from error
    return f"sqlite:///{os.path.abspath(place)}", place


def _bring_up(ledger: Ledger) -> None:
    with ledger.read() as connection:
        stamp = read_stamp(connection)
    if stamp == HEAD:
        return
    if stamp is None and dialect.is_sqlite(ledger.engine) and _create(ledger):
        return
    _migrate(ledger)


def read_stamp(connection: Connection) -> str | None:
    """The schema version in the database; None when it was never written."""
    if not dialect.has_stamp_table(connection):
        return None
    found = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
    return str(found) if found is not None else None


def _create(ledger: Ledger) -> bool:
    """Make all tables of a new file at once: importing the migration tool would take longer than that."""
    with ledger.write() as connection:
        if connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar():
            return read_stamp(connection) == HEAD
        metadata.create_all(connection, checkfirst=False)
        connection.exec_driver_sql(
            "CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL, "
            "CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num))"
        )
        connection.exec_driver_sql(f"INSERT INTO alembic_version VALUES ('{HEAD}')")
    return True


def _migrate(ledger: Ledger) -> None:
    from .migrations.run import upgrade

    with ledger.write() as connection:
        upgrade(connection, ledger.name)


def _explain(name: str, error: DBAPIError) -> LedgerError:
    cause = str(error.orig)
    hint = "the work done so far is kept; run again when the cause is gone"
    if "locked" in cause:
        hint = "another process holds the ledger; wait for it or choose another ENTREPOT_STATE_DIR"
    elif "malformed" in cause or "not a database" in cause:
        hint = "move the file away and run again: the places are compared anew"
    elif "full" in cause:
        hint = "make room on its file system and run again"
    return LedgerError(f"the ledger {name} failed: {cause}", hint=hint)
