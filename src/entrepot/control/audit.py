"""The audit log as it is read: by filters, as a whole, and checked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from entrepot.ledger import trail
from entrepot.ledger.database import Row
from entrepot.ledger.trail import Filters, Verdict
from entrepot.model.errors import RequestError
from entrepot.security.identity import Action, Principal

from .auditing import allow
from .context import Control
from .scoping import readable

OUTCOMES: Final = ("done", "refused")
_PAGE: Final = 1000


@dataclass(slots=True, frozen=True)
class Record:
    """One row: who did what to which object, from where, and whether it was done."""

    id: int
    at: float
    principal: str
    action: str
    subject: str
    scope: str
    outcome: str
    address: str
    detail: str
    hash: str


def listing(control: Control, who: Principal, wanted: Filters, *, before: int = 0, limit: int = 100) -> list[Record]:
    """Rows that one may see, youngest first, older than the id ``before``."""
    scopes = _scopes(control, who, wanted)
    with control.pool.read() as c:
        return [_record(row) for row in trail.find(c, wanted, scopes, before=before, limit=limit)]


def export(control: Control, who: Principal, wanted: Filters) -> Iterator[Record]:
    """All such rows, youngest first, a page at a time. Raises before the first one is given, or never."""
    scopes = _scopes(control, who, wanted)

    def rows() -> Iterator[Record]:
        before = 0
        while True:
            with control.pool.read() as c:
                page = trail.find(c, wanted, scopes, before=before, limit=_PAGE)
            yield from (_record(row) for row in page)
            if len(page) < _PAGE:
                return
            before = page[-1].id

    return rows()


def verify(control: Control, who: Principal, known: tuple[int, str] | None = None) -> Verdict:
    """Check the chain of hashes; ``known`` is the head that an earlier check answered."""
    allow(control, who, Action.AUDIT_READ, "audit")
    return trail.verify(control.pool, known)


def _scopes(control: Control, who: Principal, wanted: Filters) -> tuple[str, ...]:
    if wanted.outcome not in ("", *OUTCOMES):
        raise RequestError("outcome", "no outcome", hint="one of: " + ", ".join(OUTCOMES))
    if wanted.since is not None and wanted.until is not None and wanted.since > wanted.until:
        raise RequestError("until", "a time before since")
    scopes = readable(who, Action.AUDIT_READ, wanted.scope or None)
    if not scopes:
        allow(control, who, Action.AUDIT_READ, "audit", wanted.scope)
    return scopes


def _record(row: Row) -> Record:
    return Record(**{name: getattr(row, name) for name in Record.__slots__})
