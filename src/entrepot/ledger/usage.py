"""What was moved by scope and day, written as tasks end; and the quotas that limit it.

A task counts on the day (UTC) of its last end. When it is retried, ``tasks`` and ``failed`` move to the day on which
it ends again, and only what was moved since is added there: entries and bytes are never counted twice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from .database import Connection, Row
from .scopes import within

QUOTAS: Final = {
    "max_queued": "tasks that have not ended; more are refused (429)",
    "max_running": "tasks that run at once; more wait in the queue",
}
"""The quotas that there are, and what each limits in a scope and below it."""

_COUNTED = "SELECT day, entries, bytes, failed FROM usage_counted WHERE task_id = :task FOR UPDATE"

_REMEMBER = """INSERT INTO usage_counted (task_id, day, entries, bytes, failed)
    VALUES (:task, :day, :entries, :bytes, :failed)
    ON CONFLICT (task_id) DO UPDATE SET day = excluded.day, entries = excluded.entries,
        bytes = excluded.bytes, failed = excluded.failed"""

_ADD = """INSERT INTO usage (scope, day, tasks, entries, bytes, failed)
    VALUES (:scope, :day, :tasks, :entries, :bytes, :failed)
    ON CONFLICT (scope, day) DO UPDATE SET tasks = usage.tasks + excluded.tasks,
        entries = usage.entries + excluded.entries, bytes = usage.bytes + excluded.bytes,
        failed = usage.failed + excluded.failed"""

_READ = "SELECT scope, day, tasks, entries, bytes, failed FROM usage WHERE day >= :first AND day <= :last"
_ONWARD = " AND (day > :day OR (day = :day AND scope > :scope))"
_ORDER = " ORDER BY day, scope LIMIT :limit"

_QUOTAS = "SELECT scope, name, amount FROM quota"
_SET_QUOTA = """INSERT INTO quota (scope, name, amount) VALUES (:scope, :name, :amount)
    ON CONFLICT (scope, name) DO UPDATE SET amount = excluded.amount"""
_DROP_QUOTA = "DELETE FROM quota WHERE scope = :scope AND name = :name"


@dataclass(slots=True, frozen=True)
class Usage:
    """What tasks of one scope moved on one day (``2026-03-01``, UTC): entries and bytes copied, entries failed."""

    scope: str
    day: str
    tasks: int
    entries: int
    bytes: int
    failed: int


@dataclass(slots=True, frozen=True)
class Quota:
    """A limit on a scope and everything below it."""

    scope: str
    name: str
    amount: int


def day_of(at: float) -> str:
    """The day (UTC) of a Unix time."""
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d")


def on_end(connection: Connection, task: Row) -> None:
    """Count a task row that has just ended."""
    day = day_of(task.finished)
    now = {"entries": task.copied, "bytes": task.copied_bytes, "failed": task.failed}
    before = connection.first(_COUNTED, {"task": task.id})
    moved = {name: value - (getattr(before, name) if before else 0) for name, value in now.items()}
    if before is not None:
        away = {"scope": task.scope, "day": before.day, "tasks": -1, "entries": 0, "bytes": 0, "failed": -before.failed}
        connection.change(_ADD, away)
    added = {"entries": max(0, moved["entries"]), "bytes": max(0, moved["bytes"]), "failed": task.failed}
    connection.change(_ADD, {"scope": task.scope, "day": day, "tasks": 1, **added})
    connection.change(_REMEMBER, {"task": task.id, "day": day, **now})


def read(
    connection: Connection,
    first: str,
    last: str,
    scopes: Sequence[str],
    *,
    after: tuple[str, str] | None = None,
    limit: int = 1000,
) -> list[Usage]:
    """Usage from day ``first`` to ``last`` (both included) at and below ``scopes``, by day and scope."""
    condition, values = within("scope", scopes)
    sql = f"{_READ} AND {condition}" + (_ONWARD if after else "") + _ORDER
    day, scope = after or ("", "")
    rows = connection.execute(sql, {"first": first, "last": last, "day": day, "scope": scope, "limit": limit, **values})
    return [Usage(row.scope, row.day, row.tasks, row.entries, row.bytes, row.failed) for row in rows]


def quotas(connection: Connection, scopes: Sequence[str] = ("",)) -> list[Quota]:
    """All quotas at and below ``scopes``."""
    condition, values = within("scope", scopes)
    rows = connection.execute(f"{_QUOTAS} WHERE {condition} ORDER BY scope, name", values)
    return [Quota(row.scope, row.name, row.amount) for row in rows]


def set_quota(connection: Connection, quota: Quota) -> None:
    """Make or change a quota."""
    connection.change(_SET_QUOTA, {"scope": quota.scope, "name": quota.name, "amount": quota.amount})


def drop_quota(connection: Connection, scope: str, name: str) -> bool:
    """Take a quota away; False when there was none."""
    return connection.change(_DROP_QUOTA, {"scope": scope, "name": name}) > 0
