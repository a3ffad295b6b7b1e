"""The life of a runner in its own process: wait for the task, open the session, loop, say farewell."""

from __future__ import annotations

import ctypes
import gc
import os
import socket
import traceback
from collections.abc import Callable

from entrepot.ledger.pipe import Assignment, Bell, Farewell, PipeClosed, PipePort, Scouted
from entrepot.model.errors import EntrepotError, InternalError
from entrepot.work.session import Session

from . import loop

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3
"""Parameters of mallopt(3)."""

SessionMaker = Callable[[Assignment, PipePort], Session]


def live(
    pipe: socket.socket, bell: Bell, make_session: SessionMaker, scout: Callable[[], Scouted] | None = None
) -> int:
    """Everything from the fork to the exit code. ``make_session`` opens the session for an assignment.

    ``scout`` is what one of the runners does first: look at the places while the parent gets ready.
    """
    parent = os.getppid()
    port = PipePort(pipe)
    try:
        if scout is not None:
            port.tell(_look(scout))
        assignment = port.hello()
        last = work(port, lambda: make_session(assignment, port), rang=bell.rang, alive=lambda: os.getppid() == parent)
        port.farewell(last)
    except PipeClosed:
        return 1
    return 0 if last.error is None and not last.text else 1


def _look(scout: Callable[[], Scouted]) -> Scouted:
    try:
        return scout()
    except EntrepotError as error:
        return Scouted(error=error)
    except Exception:
        return Scouted(error=InternalError(f"the checks failed: {traceback.format_exc(limit=-12)}"))


def work(
    port: loop.RunnerPort,
    make_session: Callable[[], Session],
    *,
    rang: Callable[[], bool] = lambda: False,
    alive: Callable[[], bool],
) -> Farewell:
    """Open the session and loop until the end; what to say at the end. Raises PipeClosed when nobody listens."""
    try:
        session = make_session()
        _calm_collector()
        _keep_memory()
        try:
            outcome = loop.run(session, port, rang=rang, alive=alive)
            if outcome == "orphaned":
                raise PipeClosed("the parent process is gone")
        except EntrepotError as error:
            if not isinstance(error, PipeClosed):
                _abandon(session)
            raise
        session.close()
        return Farewell("stopped" if outcome else "")
    except PipeClosed:
        raise
    except EntrepotError as error:
        return Farewell("error", error)
    except Exception:
        return Farewell("crash", text=traceback.format_exc(limit=-12))


def _keep_memory() -> None:
    """Have freed bodies of parts used again: glibc would give each back to the system and fault every page anew."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return
    mallopt(M_MMAP_THRESHOLD, 64 << 20)
    mallopt(M_TRIM_THRESHOLD, 256 << 20)


def _calm_collector() -> None:
    """What lives now lives to the end; a hot loop of short-lived tuples needs few collections."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def _abandon(session: Session) -> None:
    """The session cannot go on (no space, no permission). What it said last in the ledger stands.

    There is no checkpoint from here: between two statements of a failed poll its figures may not agree.
    """
    try:
        session.drain("pause")
        session.close()
    except Exception:
        return
