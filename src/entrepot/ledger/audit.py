"""The audit log: what was changed or refused, each row bound to the one before it by its hash."""

from __future__ import annotations

from dataclasses import asdict, dataclass

from entrepot.security.audit import START, link

from .database import Connection, Row
from .events import clean

_LAST = "SELECT id, hash FROM audit ORDER BY id DESC LIMIT 1"
_APPEND = """INSERT INTO audit (id, at, principal, action, subject, scope, outcome, address, detail, previous, hash)
    VALUES (:id, :at, :principal, :action, :subject, :scope, :outcome, :address, :detail, :previous, :hash)"""
_LIMITS = {"principal": 256, "action": 64, "subject": 512, "scope": 1024, "outcome": 16, "address": 64, "detail": 2000}


@dataclass(slots=True, frozen=True)
class Entry:
    """What is to be remembered. ``outcome`` is "done" or "refused"; never with secrets in it."""

    principal: str
    action: str
    subject: str
    scope: str = ""
    outcome: str = "done"
    address: str = ""
    detail: str = ""


def append(c: Connection, entry: Entry) -> int:
    """Add one row in this transaction; rows of several processes come one after the other."""
    c.alone("audit")
    last = c.first(_LAST)
    values = {name: clean(text, _LIMITS[name]) for name, text in asdict(entry).items()}
    row = {**values, "id": last.id + 1 if last else 1, "at": float(c.value("SELECT now()"))}
    previous = last.hash if last else START
    c.change(_APPEND, {**row, "previous": previous, "hash": link(previous, row)})
    return int(row["id"])


def listing(c: Connection, before: int = 0, limit: int = 100) -> list[Row]:
    """Rows, youngest first, older than ``before``."""
    older = " WHERE id < :before" if before else ""
    return c.execute(f"SELECT * FROM audit{older} ORDER BY id DESC LIMIT :limit", {"before": before, "limit": limit})
