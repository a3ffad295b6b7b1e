"""Reading the audit log: by filters and pages, and the check of its chain of hashes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from entrepot.security import audit as chain

from .database import Connection, Ledger, Row
from .scopes import within

COLUMNS: Final = (
    "id",
    "at",
    "principal",
    "action",
    "subject",
    "scope",
    "outcome",
    "address",
    "detail",
    "previous",
    "hash",
)
_SELECT = f"SELECT {', '.join(COLUMNS)} FROM audit"
_CHUNK: Final = 2000


@dataclass(slots=True, frozen=True)
class Filters:
    """What is looked for; empty: everything. ``text`` is a part of the subject; times are Unix time."""

    principal: str = ""
    action: str = ""
    subject: str = ""
    scope: str = ""
    outcome: str = ""
    address: str = ""
    text: str = ""
    since: float | None = None
    until: float | None = None


@dataclass(slots=True, frozen=True)
class Verdict:
    """What became of the chain: ``rows`` were looked at; ``broken`` is the id of the first row that is not right.

    ``head`` and ``head_hash`` are the last good row: kept elsewhere, they show later that nothing was cut off.
    """

    rows: int
    head: int
    head_hash: str
    broken: int | None = None
    reason: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing was found."""
        return self.broken is None


def find(c: Connection, wanted: Filters, scopes: Sequence[str], *, before: int = 0, limit: int = 100) -> list[Row]:
    """Rows at and below ``scopes``, youngest first, older than ``before``."""
    condition, values = within("scope", scopes)
    parts = [condition]
    for name, value in asdict(wanted).items():
        if value in ("", None):
            continue
        parts.append(_CONDITIONS.get(name, f"{name} = :{name}"))
        values[name] = value
        if name == "principal":
            # With a token it is written "name (token id)".
            values["principal_token"] = _like(value) + " (%"
        elif name == "scope":
            values.update({"scope_low": value + "/", "scope_high": value + "0"})
        elif name == "text":
            values["text"] = f"%{_like(value)}%"
    if before:
        parts.append("id < :before")
        values["before"] = before
    sql = f"{_SELECT} WHERE {' AND '.join(parts)} ORDER BY id DESC LIMIT :limit"
    return c.execute(sql, {**values, "limit": limit})


_CONDITIONS: Final = {
    "principal": "(principal = :principal OR principal LIKE :principal_token ESCAPE '!')",
    "scope": "(scope = :scope OR (scope >= :scope_low AND scope < :scope_high))",
    "text": "subject LIKE :text ESCAPE '!'",
    "since": "at >= :since",
    "until": "at < :until",
}


def verify(ledger: Ledger, known: tuple[int, str] | None = None) -> Verdict:
    """Check the chain from its first row. ``known``: (id, hash) of a row that was its head at an earlier time.

    Nothing is locked: what is added meanwhile may be looked at or not.
    """
    good = _Good()
    broken = chain.verify(good.watch(_chunks(ledger)), anchor=known)
    if broken is None:
        return Verdict(good.rows, good.id, good.hash)
    return Verdict(good.rows, good.id, good.hash, broken.id, broken.reason)


@dataclass(slots=True)
class _Good:
    """The rows that were passed on and asked for the next one: those are right."""

    rows: int = 0
    id: int = 0
    hash: str = chain.START

    def watch(self, rows: Iterator[dict[str, Any]]) -> Iterator[dict[str, Any]]:
        for row in rows:
            yield row
            self.rows, self.id, self.hash = self.rows + 1, row["id"], row["hash"]


def _chunks(ledger: Ledger) -> Iterator[dict[str, Any]]:
    after = 0
    while True:
        with ledger.read() as c:
            rows = c.execute(f"{_SELECT} WHERE id > :after ORDER BY id LIMIT :limit", {"after": after, "limit": _CHUNK})
        for row in rows:
            yield {name: getattr(row, name) for name in COLUMNS}
        if len(rows) < _CHUNK:
            return
        after = rows[-1].id


def _like(text: str) -> str:
    return text.replace("!", "!!").replace("%", "!%").replace("_", "!_")
