"""The append-only record of what happened to a task: state changes, warnings, lost runners."""

from __future__ import annotations

from dataclasses import dataclass

from sqlalchemy import Connection, insert, select

from .dialect import now
from .schema import event


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
    connection.execute(insert(event).values(task_id=task_id, at=now(), kind=kind, text=clean(text)))


def since(connection: Connection, task_id: str, after: int = 0, limit: int = 100, kind: str = "") -> list[Event]:
    """Events of a task after an id, oldest first."""
    query = select(event).where(event.c.task_id == task_id, event.c.id > after)
    if kind:
        query = query.where(event.c.kind == kind)
    return [Event(*row) for row in connection.execute(query.order_by(event.c.id).limit(limit))]
