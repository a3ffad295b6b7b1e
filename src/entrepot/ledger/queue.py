"""The queue of a server: tasks that may begin, the most urgent first, and the limits that they begin under."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from entrepot.model.errors import TooMany

from .database import Connection
from .tasks import Place

PAGE = 200

_WAITING = """SELECT id, scope, priority, source_connection, destination_connection, destination_place,
        destination_prefix, kind, reason
    FROM task WHERE state || '' = 'QUEUED' AND family <> '' AND legs = 0 AND owner_pid = 0 AND stop = ''
    AND (not_before IS NULL OR not_before <= now())"""
_BEHIND = " AND (priority < :priority OR priority = :priority AND id > :id)"
_IN_ORDER = " ORDER BY priority DESC, id LIMIT :limit"

_MOST = "SELECT id, max_tasks FROM connection WHERE max_tasks > 0"
_QUOTAS = "SELECT scope, amount FROM quota WHERE name = :name"
_LIVE = """SELECT sum(tasks) FROM task_count WHERE state IN ('QUEUED', 'SCANNING', 'RUNNING', 'PAUSED', 'REVIEW')
    AND (scope = :scope OR scope LIKE :below ESCAPE '\\')"""

MAX_QUEUED, MAX_RUNNING = "max_queued", "max_running"
"""Names in the table of quotas: live tasks, and tasks that run at once, at and below a scope."""


@dataclass(slots=True, frozen=True)
class Waiting:
    """A task that may begin as far as it alone is concerned."""

    id: str
    scope: str
    priority: int
    connections: frozenset[str]
    destination: Place
    writes: bool
    reason: str


def waiting(connection: Connection, page: int = PAGE) -> Iterator[Waiting]:
    """All of them in order; read piece by piece."""
    last: Waiting | None = None
    while True:
        query = _WAITING + (_BEHIND if last else "") + _IN_ORDER
        mark = {"priority": last.priority, "id": last.id} if last else {}
        rows = connection.execute(query, {**mark, "limit": page})
        for row in rows:
            last = Waiting(
                id=row.id,
                scope=row.scope,
                priority=row.priority,
                connections=frozenset({row.source_connection, row.destination_connection} - {""}),
                destination=(row.destination_place, bytes(row.destination_prefix)),
                writes=row.kind != "verify",
                reason=row.reason,
            )
            yield last
        if len(rows) < page:
            return


def most_by_connection(connection: Connection) -> dict[str, int]:
    """How many tasks may use a connection at once, for those that have a limit."""
    return {row.id: int(row.max_tasks) for row in connection.execute(_MOST)}


def quotas(connection: Connection, name: str) -> dict[str, int]:
    """Limits by scope."""
    return {row.scope: int(row.amount) for row in connection.execute(_QUOTAS, {"name": name})}


def check_room(connection: Connection, scope: str, more: int = 1) -> None:
    """Raise TooMany when a quota does not let ``more`` tasks into the queue of ``scope``."""
    for above, amount in sorted(quotas(connection, MAX_QUEUED).items()):
        if not covers(above, scope):
            continue
        below = above.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        named = {"scope": above, "below": f"{below}/%" if above else "%"}
        live = int(connection.value(_LIVE, named) or 0)
        if live + more > amount:
            raise TooMany(
                f"{above or 'the server'} has {live} tasks that have not ended: its quota is {amount}",
                hint="wait for some to end, or cancel them",
                retry_after=10.0,
            )


def covers(above: str, scope: str) -> bool:
    """Whether a scope is at or below another one."""
    return not above or scope == above or scope.startswith(above + "/")
