"""The datasync family's own rows: its tool resources, what their tasks' ends mean, failures over all legs of a task."""

from __future__ import annotations

from dataclasses import dataclass

from .database import Connection, Row

FAMILY = "datasync"

_ADD = """INSERT INTO datasync (id, scope, name, document, creator, created, updated)
    VALUES (:id, :scope, :name, :document, :creator, now(), now()) ON CONFLICT (scope) DO NOTHING"""
_CHANGE = "UPDATE datasync SET document = :document, updated = now() WHERE scope = :scope"

_CONNECTIONS = """SELECT * FROM connection WHERE scope IN (:scope, '') AND task_id = ''
    AND provider NOT IN ('webdav', 'sftp', 'hdfs') ORDER BY scope DESC, created, id LIMIT 2"""

_OF_TASK = "(task_id = :id OR task_id IN (SELECT id FROM task WHERE parent = :id))"
_FAILURES = f"""SELECT id, "key", failure, message, attempts, size FROM failure
    WHERE {_OF_TASK} AND (:before = 0 OR id < :before) ORDER BY id DESC LIMIT :limit"""

_TASKS = "SELECT id, state FROM task WHERE scope = :scope AND family = 'datasync' ORDER BY id LIMIT :limit"
_LIVE = """SELECT coalesce(sum(tasks), 0) FROM task_count WHERE scope = :scope AND family = 'datasync'
    AND state IN ('QUEUED', 'SCANNING', 'RUNNING', 'PAUSED', 'REVIEW')"""


@dataclass(slots=True, frozen=True)
class Failed:
    """One entry that could not be done; ``id`` grows with time."""

    id: int
    key: bytes
    failure: str
    message: str
    attempts: int
    size: int


def tool(connection: Connection, scope: str, *, to_change: bool = False) -> Row | None:
    """The tool resource at a scope."""
    sql = "SELECT * FROM datasync WHERE scope = :scope" + (" FOR UPDATE" if to_change else "")
    return connection.first(sql, {"scope": scope})


def add_tool(connection: Connection, tool_id: str, scope: str, name: str, document: str, creator: str) -> None:
    """Make one; nothing happens when another process was faster."""
    about = {"id": tool_id, "scope": scope, "name": name, "document": document, "creator": creator}
    connection.change(_ADD, about)


def change_tool(connection: Connection, scope: str, document: str) -> None:
    """Replace what is said about it."""
    connection.change(_CHANGE, {"scope": scope, "document": document})


def remove_tool(connection: Connection, scope: str) -> None:
    """Forget it."""
    connection.change("DELETE FROM datasync WHERE scope = :scope", {"scope": scope})


def live_tasks(connection: Connection, scope: str) -> int:
    """How many of a tool's tasks have not ended."""
    return int(connection.value(_LIVE, {"scope": scope}))


def some_tasks(connection: Connection, scope: str, limit: int) -> list[str]:
    """Ids of tasks of a tool, the oldest first."""
    return [row.id for row in connection.execute(_TASKS, {"scope": scope, "limit": limit})]


def object_stores(connection: Connection, scope: str) -> list[Row]:
    """The first two connections to object stores that a tool's tasks may mean: its own, then those for all."""
    return connection.execute(_CONNECTIONS, {"scope": scope})


def volume_by_id(connection: Connection, volume_id: str) -> Row | None:
    """The volume of an id."""
    return connection.first("SELECT * FROM volume WHERE id = :id", {"id": volume_id})


def failures(connection: Connection, task_id: str, before: int, limit: int) -> list[Failed]:
    """Failed entries of a task and its legs, latest first; ``before`` is an id of the former page, or 0."""
    rows = connection.execute(_FAILURES, {"id": task_id, "before": before, "limit": limit})
    return [Failed(row.id, row.key, row.failure, row.message, row.attempts, row.size) for row in rows]
