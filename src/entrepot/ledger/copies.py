"""Backups of a SQLite ledger, made while it is in use, and putting one back. With the file of keys, if it is wanted."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from contextlib import closing, suppress
from dataclasses import dataclass
from urllib.parse import quote

from entrepot.model.errors import InternalError, UsageError
from entrepot.security import keyring
from entrepot.security.keyring import Keyring

from . import anew, checking, salvage, swap
from .database import open_ledger
from .dialect import LedgerError
from .sqlite import SqliteFile

LEDGER, KEYS = "ledger.db", "keys.json"
"""The names of the files in a backup, and in a server's data directory."""
_TRIES = 5


@dataclass(slots=True, frozen=True)
class Backup:
    """One that was made."""

    path: str
    size: int
    keys: bool


@dataclass(slots=True, frozen=True)
class Restored:
    """One that was put back. ``kept_as`` is where the former ledger is now; ``waiting`` counts paused tasks."""

    path: str
    kept_as: str
    keys: bool
    waiting: int


def backup(ledger: str, folder: str, keys: str = "") -> Backup:
    """Copy a ledger as it is at one moment into a new directory; ``keys`` is the file of keys to go with it.

    Killed at any moment, the directory is there whole or not at all. Raises UsageError, LedgerError.
    """
    if not os.path.exists(ledger):
        raise UsageError(f"there is no ledger {ledger}", hint="name the place by --data or --state-dir")
    folder = os.path.abspath(folder)
    if os.path.lexists(folder):
        raise UsageError(f"{folder} is there already", hint="give the name of a directory that is to be made")
    making = swap.scratch(folder)
    try:
        shutil.rmtree(making, ignore_errors=True)
        os.makedirs(making, mode=0o700)
        _fill(ledger, making, keys)
        for name in os.listdir(making):
            swap.sync(os.path.join(making, name))
        swap.sync(making)
        os.rename(making, folder)
        swap.sync(os.path.dirname(folder))
    except OSError as error:
        raise InternalError(
            f"the backup {folder} could not be written: {error.strerror}", hint="check space and mode of its directory"
        ) from error
    finally:
        shutil.rmtree(making, ignore_errors=True)
    return Backup(folder, os.path.getsize(os.path.join(folder, LEDGER)), bool(keys))


def _fill(ledger: str, making: str, keys: str) -> None:
    """What is sealed in the ledger opens with the keys beside it: they were the same before and after."""
    for _ in range(_TRIES):
        before = _read_keys(keys)
        _copy(ledger, os.path.join(making, LEDGER))
        if before == _read_keys(keys):
            if before is not None:
                keyring.write_private(os.path.join(making, KEYS), before.to_json())
            return
        os.unlink(os.path.join(making, LEDGER))
    raise LedgerError("the keys changed again and again meanwhile", hint="wait for entrepot keys rotate to end")


def _read_keys(keys: str) -> Keyring | None:
    return keyring.load(keys) if keys else None


def _copy(ledger: str, copy: str) -> None:
    """The database at one moment, whoever writes to it meanwhile, in one file."""
    database = SqliteFile(ledger)
    os.close(os.open(copy, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        with closing(database.connect(again=False)) as source, closing(sqlite3.connect(copy)) as target:
            target.execute("PRAGMA synchronous = OFF").close()
            source.backup(target)
            target.execute("PRAGMA journal_mode = DELETE").close()
            (found,) = target.execute("PRAGMA quick_check(1)").fetchone()
    except sqlite3.Error as error:
        raise database.explain(error) from error
    if found != "ok":
        raise LedgerError(f"the ledger {ledger} is damaged: {found}", hint="entrepot ledger recover, then back it up")


def restore(backup_place: str, ledger: str, keys: str = "", *, replace: bool = False) -> Restored:
    """Make a backup (its directory, or the file) the ledger; ``keys`` is where a file of keys belongs.

    Unfinished tasks wait, and look at everything again when they are resumed: much may have happened since. A ledger
    that is there is kept beside the new one, and only replaced when ``replace`` says so. Killed at any moment, there
    is the former ledger or the restored one. Raises UsageError, LedgerError.
    """
    folder = backup_place if os.path.isdir(backup_place) else ""
    copy = os.path.join(folder, LEDGER) if folder else backup_place
    if not os.path.isfile(copy):
        raise UsageError(f"there is no backup {copy}", hint="name what entrepot ledger backup made")
    ledger = os.path.abspath(ledger)
    os.makedirs(os.path.dirname(ledger), mode=0o700, exist_ok=True)
    swap.finish(ledger)
    if os.path.exists(ledger) and not replace:
        raise UsageError(f"the ledger {ledger} is there already", hint="--replace keeps it beside the restored one")
    swap.require_idle(ledger)
    made = swap.scratch(ledger)
    try:
        waiting = _prepare(copy, made)
        with_keys = bool(folder and keys and _restore_keys(os.path.join(folder, KEYS), keys))
        kept = salvage.keep_aside(ledger, "replaced", time.time()) if os.path.exists(ledger) else ""
        swap.offer(made, ledger)
    finally:
        for end in ("", "-wal", "-shm"):
            with suppress(OSError):
                os.unlink(made + end)
    return Restored(ledger, kept, with_keys, waiting)


def _prepare(copy: str, made: str) -> int:
    """A sound ledger of this version's schema; how many of its tasks wait."""
    os.close(os.open(made, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_CLOEXEC, 0o600))
    try:
        source = sqlite3.connect(f"file:{quote(os.path.abspath(copy))}?mode=ro", uri=True)
        with closing(source), closing(sqlite3.connect(made)) as target:
            source.backup(target)
    except sqlite3.Error as error:
        raise LedgerError(f"the backup {copy} cannot be read: {error}", hint="try an older backup") from error
    checked = checking.check(made)
    if checked.damaged or not checked.revision:
        told = checked.findings[0].text if checked.findings else "no ledger"
        raise LedgerError(f"the backup {copy} is damaged: {told}", hint="try an older backup")
    when = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(os.stat(copy).st_mtime))
    ledger = open_ledger(made)
    try:
        with ledger.write() as c:
            waiting = len(anew.all_unfinished(c, f"restored from the backup of {when}: it looks at everything again"))
            c.change("DELETE FROM leader")
    finally:
        ledger.close()
    salvage.in_one_file(made)
    return waiting


def _restore_keys(source: str, place: str) -> bool:
    """Join the keys of a backup with those that are there: whichever ledger is opened next finds its own."""
    if not os.path.exists(source):
        return False
    ring = keyring.load(source)
    if os.path.exists(place):
        here = keyring.load(place)
        created = {**ring.created, **here.created}
        ring = Keyring(here.current, {**ring.keys, **here.keys}, created)
    keyring.write_private(place, ring.to_json())
    return True
