"""How far a task is, in percent: from what is known, rather too low than too high while it is still looked for."""

from __future__ import annotations

from collections.abc import Mapping

from entrepot.model.options import SyncOptions
from entrepot.model.totals import Totals

ENTRY_COST = 1 << 16
"""An entry weighs as much as so many bytes: many small ones take their time as well."""

_LISTED = 50
"""The most while the source is not listed to its end."""
_COPIED = 60
"""The most before the second look of a full verification."""


def percent_of(totals: Totals, *, scanning: bool, options: SyncOptions, shards: Mapping[tuple[str, str], int]) -> int:
    """0 to 99; 100 is for the end alone. May fall when more is found: the ledger keeps the highest."""
    looks = options.verify == "full" and not options.dry_run
    if scanning:
        top = _LISTED * _COPIED // 100 if looks else _LISTED
    else:
        top = _COPIED if looks else 99
    done = totals.copied + totals.equal + totals.skipped + totals.failed
    size = totals.copied_bytes + totals.equal_bytes + totals.skipped_bytes + totals.failed_bytes
    whole = totals.total_bytes + ENTRY_COST * totals.total
    if whole <= 0:
        return 0
    share = min(1.0, max(0.0, (size + ENTRY_COST * done) / whole))
    if looks and not scanning:
        return int(top * share + (99 - top) * _second_look(shards))
    return int(top * share)


def _second_look(shards: Mapping[tuple[str, str], int]) -> float:
    seen = sum(count for (phase, state), count in shards.items() if phase == "verify" and state in {"done", "failed"})
    every = sum(count for (phase, _), count in shards.items() if phase == "verify")
    return seen / every if every else 0.0
