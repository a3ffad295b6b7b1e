"""The append-only record of what happened to a task: state changes, warnings, lost runners."""

from __future__ import annotations

from dataclasses import dataclass

from .database import Connection

_APPEND = "INSERT INTO event (task_id, at, kind, text) VALUES (:task, now(), :kind, :text)"
_SINCE = "SELECT id, task_id, at, kind, text FROM event WHERE task_id = :task AND id > :after"
_OF_KIND = " AND kind = :kind"
_OLDEST_FIRST = " ORDER BY id LIMIT :limit"


@dataclass(slots=True, frozen=True)
class Event:
    """One thing that happened. ``at`` is Unix time."""

    id: int
    task_id: str
    at: float
    kind: str
    text: str


def clean(text: str, limit: int = 2000) -> str:
    """Text that every database takes: valid UTF-8 without NUL, bounded."""
    return text[:limit].replace("\0", "\\0").encode("utf-8", "backslashreplace").decode()


def append(connection: Connection, task_id: str, kind: str, text: str) -> None:
    """Add one event."""
    connection.change(_APPEND, {"task": task_id, "kind": kind, "text": clean(text)})


def since(connection: Connection, task_id: str, after: int = 0, limit: int = 100, kind: str = "") -> list[Event]:
    """Events of a task after an id, oldest first."""
    sql = _SINCE + (_OF_KIND if kind else "") + _OLDEST_FIRST
    rows = connection.execute(sql, {"task": task_id, "after": after, "kind": kind, "limit": limit})
    return [Event(row.id, row.task_id, row.at, row.kind, row.text) for row in rows]
