"""Putting a whole file in the place of a ledger: the former one or the new one, never a mixture, whenever it is killed.

A file that is complete gets the name ``ledger.db-new``: that is the moment from which it is the ledger. Whoever opens
the ledger next takes away the former one's log, which SQLite would otherwise apply to the new file, and renames it.
"""

from __future__ import annotations

import contextlib
import fcntl
import glob
import os
import shutil
import struct
from collections.abc import Iterator

from .dialect import LedgerError

NEW = "-new"
_MAKING = "-making-"
_LOGS = ("-wal", "-shm", "-journal")

_SHARED = (0x40000002, 510)
"""Where SQLite locks a file as long as it is open (in WAL mode)."""


def scratch(path: str) -> str:
    """A name beside the ledger to make a new one under; what dead processes left there goes."""
    for old in glob.glob(f"{glob.escape(path)}{_MAKING}*"):
        pid = old.rpartition(_MAKING)[2].partition("-")[0]
        if pid.isdigit() and int(pid) != os.getpid() and os.path.exists(f"/proc/{pid}"):
            continue
        with contextlib.suppress(OSError):
            shutil.rmtree(old) if os.path.isdir(old) else os.unlink(old)
    return f"{path}{_MAKING}{os.getpid()}"


def offer(made: str, path: str) -> None:
    """Make the complete file ``made`` (closed, without a log) the ledger at ``path``. Raises LedgerError."""
    sync(made)
    with _alone(path):
        require_idle(path)
        os.rename(made, path + NEW)
        sync(os.path.dirname(path) or ".")
    finish(path)


def finish(path: str) -> None:
    """Put a complete file that waits in the place of the ledger. Raises LedgerError when that one is in use."""
    if not os.path.exists(path + NEW):
        return
    with _alone(path):
        if not os.path.exists(path + NEW):
            return
        require_idle(path)
        for end in _LOGS:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path + end)
        os.rename(path + NEW, path)
        sync(os.path.dirname(path) or ".")


def require_idle(path: str) -> None:
    """Raise LedgerError when any process has the ledger open."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    except OSError as error:
        raise LedgerError(
            f"the ledger {path} cannot be opened: {error.strerror}", hint="check owner and mode"
        ) from None
    try:
        start, length = _SHARED
        # Of this open file alone: it meets also what this very process has open elsewhere.
        fcntl.fcntl(descriptor, fcntl.F_OFD_SETLK, struct.pack("hhqqi4x", fcntl.F_WRLCK, os.SEEK_SET, start, length, 0))
    except OSError:
        raise LedgerError(
            f"the ledger {path} is in use by another process",
            hint="stop the server and all runs that use it, then do this again",
            retryable=True,
        ) from None
    finally:
        os.close(descriptor)


def sync(path: str) -> None:
    """What was written to a file or directory is on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def _alone(path: str) -> Iterator[None]:
    directory = os.open(os.path.dirname(path) or ".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(directory, fcntl.LOCK_EX)
        yield
    finally:
        os.close(directory)
