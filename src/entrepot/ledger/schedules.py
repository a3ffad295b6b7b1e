"""Schedules: rows that say when a request becomes a task again, and which run of theirs is the present one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from entrepot.model.task import END_STATES

from .database import Connection, Row
from .events import clean
from .scopes import within

OVERLAPS: Final = ("skip", "queue", "cancel_running")
"""What happens when a run is due while the one before has not ended."""

_COLUMNS = (
    "id", "name", "scope", "cron", "zone", "request", "enabled", "max_count", "runs", "next_due", "last_task",
    "last_error", "creator", "created", "overlap", "waiting", "last_run",
)  # fmt: skip
_SELECT = f"SELECT {', '.join(_COLUMNS)} FROM schedule"
_INSERT = f"INSERT INTO schedule ({', '.join(_COLUMNS)}) VALUES ({', '.join(':' + name for name in _COLUMNS)})"
_UPDATE = f"UPDATE schedule SET {', '.join(f'{name} = :{name}' for name in _COLUMNS[1:])} WHERE id = :id"

_DUE = """SELECT id FROM schedule WHERE enabled = 1 AND next_due <= :now
    AND NOT (runs >= max_count AND max_count > 0) ORDER BY next_due, id LIMIT :limit"""
_NEXT = "SELECT min(next_due) FROM schedule WHERE enabled = 1 AND next_due IS NOT NULL"

_ENDED = ", ".join(f"'{state}'" for state in sorted(END_STATES))
_LIVE = f"""SELECT id, state FROM task WHERE schedule_id = :id AND state NOT IN ({_ENDED}) AND parent = ''
    ORDER BY id LIMIT 1"""
_WAITING = "SELECT 1 FROM schedule WHERE waiting = 1 LIMIT 1"
_READY = f"""SELECT id FROM schedule WHERE waiting = 1 AND NOT EXISTS (
    SELECT 1 FROM task WHERE task.schedule_id = schedule.id AND task.state NOT IN ({_ENDED}) AND task.parent = ''
    ) ORDER BY id LIMIT :limit"""


@dataclass(slots=True, frozen=True)
class Schedule:
    """When (``cron`` in ``zone``) which ``request`` (JSON) is made a task, at most ``max_count`` times (0: no limit).

    It runs as ``creator`` (the id of a principal), who set its request. ``next_due`` is None when it never runs again
    by itself; ``waiting``: a run is due and begins when the one before has ended.
    """

    id: str
    name: str
    scope: str
    cron: str
    zone: str
    request: str
    enabled: bool
    max_count: int
    runs: int
    next_due: float | None
    last_task: str
    last_error: str
    creator: str
    created: float
    overlap: str = "skip"
    waiting: bool = False
    last_run: float | None = None

    @property
    def exhausted(self) -> bool:
        """Whether it has run as often as it may."""
        return 0 < self.max_count <= self.runs


def add(connection: Connection, schedule: Schedule) -> None:
    """Insert a schedule; its name must be free in its scope."""
    connection.change(_INSERT, _values(schedule))


def change(connection: Connection, schedule: Schedule) -> None:
    """Write a row anew that was read to be changed in this transaction."""
    connection.change(_UPDATE, _values(schedule))


def remove(connection: Connection, schedule_id: str) -> None:
    """Forget a schedule; its tasks stay."""
    connection.change("DELETE FROM schedule WHERE id = :id", {"id": schedule_id})


def read(connection: Connection, schedule_id: str, *, to_change: bool = False) -> Schedule | None:
    """One schedule."""
    row = connection.first(f"{_SELECT} WHERE id = :id{' FOR UPDATE' if to_change else ''}", {"id": schedule_id})
    return _schedule(row) if row is not None else None


def named(connection: Connection, scope: str, name: str) -> Schedule | None:
    """The schedule of a name in exactly this scope."""
    row = connection.first(f"{_SELECT} WHERE scope = :scope AND name = :name", {"scope": scope, "name": name})
    return _schedule(row) if row is not None else None


def listing(connection: Connection, scopes: Sequence[str], *, after: str = "", limit: int = 100) -> list[Schedule]:
    """Schedules at and below ``scopes``, oldest first; ``after`` is the last id of the former page."""
    condition, values = within("scope", scopes)
    sql = f"{_SELECT} WHERE id > :after AND {condition} ORDER BY id LIMIT :limit"
    return [_schedule(row) for row in connection.execute(sql, {"after": after, "limit": limit, **values})]


def due(connection: Connection, now: float, limit: int = 100) -> list[str]:
    """Ids of schedules whose time has come, the longest overdue first."""
    return [row.id for row in connection.execute(_DUE, {"now": now, "limit": limit})]


def ready(connection: Connection, limit: int = 100) -> list[str]:
    """Ids of schedules that waited for the end of their running task, and need to wait no longer."""
    return [row.id for row in connection.execute(_READY, {"limit": limit})]


def any_waiting(connection: Connection) -> bool:
    """Whether some schedule waits for the end of its running task."""
    return connection.value(_WAITING) is not None


def next_due(connection: Connection) -> float | None:
    """When the next schedule is due."""
    found = connection.value(_NEXT)
    return None if found is None else float(found)


def live_task(connection: Connection, schedule_id: str) -> tuple[str, str] | None:
    """(id, state) of a run that has not ended."""
    row = connection.first(_LIVE, {"id": schedule_id})
    return (row.id, row.state) if row is not None else None


def _values(schedule: Schedule) -> dict[str, Any]:
    values = {name: getattr(schedule, name) for name in _COLUMNS}
    flags = {"enabled": int(schedule.enabled), "waiting": int(schedule.waiting)}
    return {**values, **flags, "last_error": clean(schedule.last_error, 1000)}


def _schedule(row: Row) -> Schedule:
    values = {name: getattr(row, name) for name in _COLUMNS}
    return Schedule(**{**values, "enabled": bool(row.enabled), "waiting": bool(row.waiting)})
