"""The audit's hash chain: every row is bound to the one before it, so that a change or a gap shows.

The chain proves that rows were not changed *after* a hash of theirs was noted elsewhere: who can rewrite the whole
table can make another chain. So keep the newest hash outside of the ledger now and then, and give it to
:func:`verify` as ``anchor``.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from .redact import redact_fields

START = "0" * 64
"""What the first row is bound to."""
FIELDS = ("id", "at", "principal", "action", "subject", "scope", "outcome", "address", "detail")
"""What a row says. Its ``previous`` and ``hash`` come on top."""


@dataclass(slots=True, frozen=True)
class Broken:
    """The first row that does not fit, and why."""

    id: int
    reason: str


def link(previous: str, record: Mapping[str, Any]) -> str:
    """The hash of ``record`` (its :data:`FIELDS`) after the row whose hash is ``previous``."""
    return hashlib.sha256(canonical([*(record[name] for name in FIELDS), previous]).encode()).hexdigest()


def canonical(value: Any) -> str:
    """JSON with one spelling for one value: sorted names, no blanks, ASCII."""
    return json.dumps(value, sort_keys=True, ensure_ascii=True, separators=(",", ":"), allow_nan=False)


def verify(
    rows: Iterable[Mapping[str, Any]], *, start: str | None = START, anchor: tuple[int, str] | None = None
) -> Broken | None:
    """The first broken row, oldest first; None when all is well.

    ``start`` None: older rows were removed, the first one is taken as it stands. ``anchor`` is (id, hash) of a row
    as it was noted elsewhere: it must be there and be the same; without one a cut at the end cannot be seen.
    """
    previous, expected, seen = start, None, False
    last = 0
    for row in rows:
        last = int(row["id"])
        reason = _fault(row, previous, expected)
        if anchor is not None and last == anchor[0]:
            seen = True
            reason = reason or ("its hash is not the one that was noted" if row["hash"] != anchor[1] else "")
        if reason:
            return Broken(last, reason)
        previous, expected = str(row["hash"]), last + 1
    if anchor is not None and not seen and anchor[0] >= last:
        return Broken(anchor[0], "it is missing: rows at the end were removed")
    if anchor is not None and not seen:
        return Broken(anchor[0], "it is missing")
    return None


def redacted(details: Mapping[str, Any]) -> str:
    """Details of an action as the audit keeps them: canonical JSON, secret-looking fields masked."""
    return canonical(redact_fields(details))


def _fault(row: Mapping[str, Any], previous: str | None, expected: int | None) -> str:
    if expected is not None and row["id"] != expected:
        return f"row {expected} is missing before it"
    if previous is not None and row["previous"] != previous:
        return "it is not bound to the row before it"
    try:
        good = link(str(row["previous"]), row) == row["hash"]
    except (KeyError, TypeError, ValueError):
        good = False
    return "" if good else "its content was changed"
