"""Values on their way to PostgreSQL and back: as SQLite takes and gives them."""

from __future__ import annotations

from typing import Any

import psycopg
from psycopg.adapt import Buffer, Dumper, Loader
from psycopg.types.numeric import Int8Dumper


class _Flag(Dumper):
    """Yes and no as 1 and 0 of no type: columns of numbers take them, and columns of truth values."""

    def dump(self, obj: bool) -> bytes:
        return b"1" if obj else b"0"


class _Number(Loader):
    """Sums of whole numbers are whole numbers, everything else of arbitrary precision is a float."""

    def load(self, data: Buffer) -> int | float:
        text = bytes(data)
        return int(text) if text.lstrip(b"-").isdigit() else float(text)


def adapt(raw: psycopg.Connection[Any]) -> None:
    """Teach one connection."""
    # One type for all whole numbers: one plan for a statement, whatever the size of its values.
    raw.adapters.register_dumper(int, Int8Dumper)
    raw.adapters.register_dumper(bool, _Flag)
    raw.adapters.register_loader("numeric", _Number)
