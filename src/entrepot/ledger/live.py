"""What a running task does at this moment: rates, phase, estimate, and how far it is, for everyone who looks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass

from entrepot.model.totals import FIELDS, Totals

from .database import Connection, Row

_SAVE = """INSERT INTO task_live
    (task_id, phase, scanning, rate_bytes, rate_entries, eta, seconds, memory, totals, at)
    VALUES (:id, :phase, :scanning, :rate_bytes, :rate_entries, :eta, :seconds, :memory, :totals, now())
    ON CONFLICT (task_id) DO UPDATE SET phase = excluded.phase, scanning = excluded.scanning,
        rate_bytes = excluded.rate_bytes, rate_entries = excluded.rate_entries, eta = excluded.eta,
        seconds = excluded.seconds, memory = excluded.memory, totals = excluded.totals, at = excluded.at"""

_PERCENT = "UPDATE task SET percent = :percent WHERE id = :id AND percent < :percent"
_ONE = "SELECT *, now() - at AS age FROM task_live WHERE task_id = :id"
_COUNT = "SELECT count(*) FROM task_live WHERE at > now() - :age"

STALE = 15.0
"""Seconds after which figures mean nothing any more."""
SOME = 500


@dataclass(slots=True, frozen=True)
class Live:
    """Figures of a running task. ``eta`` is seconds, None where there is no ground for a guess.

    ``totals`` hold what runners did beyond the cursors in the ledger too: shown, but not yet counted as done.
    """

    phase: str = ""
    scanning: bool = True
    rate_bytes: float = 0.0
    rate_entries: float = 0.0
    eta: float | None = None
    seconds: float = 0.0
    memory: int = 0
    totals: Totals | None = None

    def lead(self, row: Row) -> None:
        """Let a task's row show these totals where they are ahead of its own."""
        if self.totals is not None:
            for name in FIELDS:
                setattr(row, name, max(getattr(row, name), getattr(self.totals, name)))


def save(connection: Connection, task_id: str, figures: Live) -> None:
    """Replace the figures of a task."""
    connection.change(
        _SAVE,
        {
            "id": task_id,
            "phase": figures.phase,
            "scanning": int(figures.scanning),
            "rate_bytes": figures.rate_bytes,
            "rate_entries": figures.rate_entries,
            "eta": figures.eta,
            "seconds": figures.seconds,
            "memory": figures.memory,
            "totals": json.dumps(figures.totals.as_dict()) if figures.totals is not None else "",
        },
    )


def raise_percent(connection: Connection, task_id: str, percent: int) -> None:
    """The mark only rises."""
    connection.change(_PERCENT, {"id": task_id, "percent": percent})


def read(connection: Connection, task_ids: Sequence[str]) -> dict[str, Live]:
    """The figures of those tasks that run now."""
    found: dict[str, Live] = {}
    for start in range(0, len(task_ids), SOME):
        some = {f"id{at}": task_id for at, task_id in enumerate(task_ids[start : start + SOME])}
        names = ", ".join(f":{name}" for name in some)
        query = f"SELECT * FROM task_live WHERE task_id IN ({names}) AND at > now() - :age"
        for row in connection.execute(query, {**some, "age": STALE}):
            totals = Totals.from_dict(json.loads(row.totals)) if row.totals else None
            rates = row.rate_bytes, row.rate_entries, row.eta
            found[row.task_id] = Live(row.phase, bool(row.scanning), *rates, row.seconds, row.memory, totals)
    return found


def running(connection: Connection) -> int:
    """How many tasks run now."""
    return int(connection.value(_COUNT, {"age": STALE}))


def drop(connection: Connection, task_id: str) -> None:
    """The task does not run any more."""
    connection.change("DELETE FROM task_live WHERE task_id = :id", {"id": task_id})
