"""The ledger for a process with many threads: each transaction borrows a connection that no one else has."""

from __future__ import annotations

import threading

from .database import Ledger, find_database, inside_another, open_session, too_busy
from .dialect import BUSY_SECONDS, LedgerError
from .gate import Gate
from .session import Session

CONNECTIONS = 16
"""The most connections at once to a database that is served."""
READERS = 4
"""The most threads that read a SQLite file at once: more of them only fight over the interpreter, and the writer,
who has to get through between them, would take a hundred times as long."""


class LedgerPool(Ledger):
    """A ledger with many connections. In a SQLite file readers never wait for the writer; writers take turns.

    Connections are made when they are needed and kept; with PostgreSQL there are never more than ``connections``.
    """

    def __init__(self, place: str, *, connections: int = CONNECTIONS) -> None:
        database = find_database(place)
        super().__init__(database)
        self._idle = [open_session(database)]
        # Threads that wait in SQLite for its one writer sleep and poll; here they are woken.
        self._turn = Gate(1) if database.one_writer else None
        self._places = Gate(READERS if database.one_writer else connections)
        self._writers: set[int] = set()
        self._closed = False

    def ledger(self) -> Ledger:
        """For code that wants a ledger of its own and closes it."""
        return _Share(self)

    def take(self, writing: bool) -> Session:
        """A connection that is free, or a new one."""
        if self._closed:
            raise LedgerError(f"the ledger {self.name} is closed", hint="this process is about to end")
        if writing:
            self._begin_writing()
        else:
            self._wait(self._places)
        try:
            return self._idle.pop()
        except IndexError:
            return Session(self._database)

    def _begin_writing(self) -> None:
        me = threading.get_ident()
        if me in self._writers:
            raise inside_another(self.name)
        self._wait(self._turn or self._places)
        self._writers.add(me)

    def _wait(self, gate: Gate) -> None:
        if not gate.enter(BUSY_SECONDS):
            raise too_busy(self.name)

    def give_back(self, session: Session, writing: bool) -> None:
        """The transaction is over."""
        if self._closed:
            session.close()
        else:
            self._idle.append(session)
        if writing:
            self._writers.discard(threading.get_ident())
            (self._turn or self._places).leave()
        else:
            self._places.leave()

    def close(self) -> None:
        """Close all connections; one in use is closed when its transaction ends."""
        self._closed = True
        while self._idle:
            self._idle.pop().close()


class _Share(Ledger):
    """The pool as someone else's ledger: to close it closes nothing."""

    def __init__(self, pool: LedgerPool) -> None:
        super().__init__(pool._database)
        self._pool = pool

    def take(self, writing: bool) -> Session:
        """A connection of the pool."""
        return self._pool.take(writing)

    def give_back(self, session: Session, writing: bool) -> None:
        """Back to the pool."""
        self._pool.give_back(session, writing)

    def close(self) -> None:
        """The pool stays open."""
