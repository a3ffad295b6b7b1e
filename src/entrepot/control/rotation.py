"""A new key for the secrets of a server: all is sealed anew, then the old keys go. The server may run meanwhile."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass

from entrepot.ledger import hooks, sealed
from entrepot.ledger.database import Row
from entrepot.ledger.pool import LedgerPool
from entrepot.model.errors import EntrepotError
from entrepot.security import keyring
from entrepot.security.keyring import Keyring

from .connections import place as connection_place
from .identify import key_place

PASSES = 5
"""Rows that a server wrote with the former key just now are found by the next pass."""


@dataclass(slots=True, frozen=True)
class Rotated:
    """What came of it. ``lost`` names texts that no key opens: their secrets have to be entered again."""

    key_id: str
    resealed: int
    retired: tuple[str, ...]
    lost: tuple[str, ...]


def rotate(pool: LedgerPool, path: str, *, wall: Callable[[], float] = time.time) -> Rotated:
    """Add a key to the ring in ``path``, seal every secret of the ledger under it, take the former keys out.

    Stopped anywhere, every secret can still be read, and the next rotation finishes the work. Former keys stay when
    a text could not be read. Raises KeyFileError.
    """
    before = keyring.load(path)
    ring = keyring.rotate(path, os.urandom, wall())
    resealed, lost = 0, set[str]()
    for _ in range(PASSES):
        changed, unread = _reseal_all(pool, ring)
        resealed += changed
        lost = unread
        if not changed:
            break
    if lost:
        return Rotated(ring.current, resealed, (), tuple(sorted(lost)))
    keyring.retire(path, lambda _key_id: False)
    return Rotated(ring.current, resealed, tuple(sorted(before.keys)), ())


def _reseal_all(pool: LedgerPool, ring: Keyring) -> tuple[int, set[str]]:
    """(how many texts were changed, which could not be read)."""
    changed, lost = 0, set[str]()
    for column in sealed.COLUMNS:
        for row in sealed.texts(pool, column):
            try:
                text = _ANEW[column.table](ring, row)
            except EntrepotError:
                lost.add(f"{column.table} {row.id}")
                continue
            if text != row.text:
                changed += sealed.rewrite(pool, column, row, text)
    return changed, lost


def _connection(ring: Keyring, row: Row) -> str:
    found: dict[str, str] = json.loads(row.text)
    anew = {name: ring.reseal(text, connection_place(row.id, name), os.urandom) for name, text in found.items()}
    return row.text if anew == found else json.dumps(anew)


def _access_key(ring: Keyring, row: Row) -> str:
    return ring.reseal(row.text, key_place(row.id), os.urandom)


def _webhook(ring: Keyring, row: Row) -> str:
    return ring.reseal(row.text, hooks.place(row.id), os.urandom)


_ANEW: dict[str, Callable[[Keyring, Row], str]] = {
    "connection": _connection,
    "access_key": _access_key,
    "webhook": _webhook,
}
