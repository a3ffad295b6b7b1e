"""Every sealed text of the ledger, and writing it anew: what a rotation of keys goes through."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from .database import Row
from .pool import LedgerPool

BATCH = 500

Anew = Callable[[Row], str]
"""Gives the new text of a row, or the one it has."""


@dataclass(slots=True, frozen=True)
class Column:
    """A column of sealed texts; ``name`` is a table of the ledger."""

    table: str
    column: str


COLUMNS = (Column("connection", "secrets"), Column("access_key", "secret"), Column("webhook", "secret"))


def texts(pool: LedgerPool, column: Column) -> Iterator[Row]:
    """All rows (``id``, ``text``), a batch at a time: none is held while the caller works."""
    after = ""
    query = f"SELECT id, {column.column} AS text FROM {column.table} WHERE id > :after ORDER BY id LIMIT :limit"
    while True:
        with pool.read() as c:
            rows = c.execute(query, {"after": after, "limit": BATCH})
        yield from rows
        if len(rows) < BATCH:
            return
        after = rows[-1].id


def rewrite(pool: LedgerPool, column: Column, row: Row, text: str) -> bool:
    """Replace a text, unless somebody changed it since it was read (then that one is as good as new)."""
    change = f"UPDATE {column.table} SET {column.column} = :text WHERE id = :id AND {column.column} = :before"
    with pool.write() as c:
        return c.change(change, {"id": row.id, "text": text, "before": row.text}) > 0
