"""Who drives a task of a server: taking hold of its row, giving it back, and what is known of its places."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from entrepot.model.task import END_STATES, TaskState

from . import events, live, tasks
from .database import Connection
from .tasks import Owner, Place, Task

_HELD = f"""{tasks.SELECT} WHERE family <> '' AND legs = 0
    AND (owner_pid <> 0 OR stop <> '' OR state IN ('SCANNING', 'RUNNING'))"""

_LEAVE = """UPDATE task SET owner_host = '', owner_boot = '', owner_pid = 0, owner_start = '', owner_seen = NULL,
    stop = :stop WHERE id = :id"""

_PLACES = """UPDATE task SET source_place = :source_place, source_prefix = :source_prefix,
    destination_place = :destination_place, destination_prefix = :destination_prefix, spec_hash = :spec_hash
    WHERE id = :id"""

_LOCK = "SELECT id FROM task WHERE id = :id FOR UPDATE"
_REASON = "UPDATE task SET reason = :reason WHERE id = :id"
_APPROVED = "SELECT approved FROM task WHERE id = :id"


@dataclass(slots=True, frozen=True)
class Lost:
    """A task whose process is gone, and what was asked of it."""

    id: str
    stop: str


def held(connection: Connection) -> list[Task]:
    """Tasks of the server that a process drives, did drive, or must look at because of an order."""
    return [tasks.from_row(row) for row in connection.execute(_HELD)]


def hold(connection: Connection, task_id: str, owner: Owner, alive: Callable[[Task], bool]) -> Task | None:
    """Make ``owner`` drive a task that nobody drives; None when there is nothing to drive any more.

    Leases of an earlier process are given back; an order to drain ended with it.
    """
    if connection.first(_LOCK, {"id": task_id}) is None:
        return None
    found = tasks.read(connection, task_id)
    if found.owner.pid and alive(found):
        return None
    if found.state in END_STATES or (found.state not in tasks.ACTIVE and found.stop != "cancel"):
        return None
    if found.stop == "pause":
        leave(connection, task_id, TaskState.PAUSED, "paused")
        return None
    tasks.own(connection, task_id, owner)
    if found.stop == "cancel":
        tasks.order_stop(connection, task_id, "cancel")
    return tasks.read(connection, task_id)


def settle(connection: Connection, task_id: str, source: Place, destination: Place, spec_hash: str) -> None:
    """Enter what the checks found."""
    connection.change(
        _PLACES,
        {
            "id": task_id,
            "source_place": source[0],
            "source_prefix": source[1],
            "destination_place": destination[0],
            "destination_prefix": destination[1],
            "spec_hash": spec_hash,
        },
    )


def leave(connection: Connection, task_id: str, to: TaskState, reason: str = "") -> TaskState:
    """The process that drove the task lets go of it, in a state; answers the one it really got.

    What was asked of the task meanwhile counts: a pause that was taken back lets it go on, a pause that came while
    the server stopped stays one, and a task that shall be cancelled keeps that order.
    """
    row = connection.first("SELECT state, stop FROM task WHERE id = :id FOR UPDATE", {"id": task_id})
    if row is None:
        return to
    if to is TaskState.QUEUED and row.stop == "pause":
        to, reason = TaskState.PAUSED, "paused"
    if to is TaskState.SUCCEEDED:
        live.raise_percent(connection, task_id, 100)
        tasks.forget_journals(connection, task_id)
    if not tasks.transition(connection, task_id, to, reason) and reason:
        explain(connection, task_id, reason)
    if to is TaskState.PAUSED and row.stop == "again":
        to = TaskState.QUEUED
        tasks.transition(connection, task_id, to, "resumed")
    keeps = row.stop == "cancel" and to not in END_STATES
    connection.change(_LEAVE, {"id": task_id, "stop": "cancel" if keeps else ""})
    live.drop(connection, task_id)
    return to


def explain(connection: Connection, task_id: str, reason: str) -> None:
    """Say why a task is where it is."""
    connection.change(_REASON, {"id": task_id, "reason": events.clean(reason)})


def approved(connection: Connection, task_id: str) -> bool:
    """Whether someone let the deletes of this task pass."""
    return bool(connection.value(_APPROVED, {"id": task_id}))


def lost(connection: Connection, alive: Callable[[Task], bool], starting: frozenset[str]) -> list[Lost]:
    """Give back what dead processes drove; answers those tasks. They are QUEUED again, PAUSED if that was asked."""
    gone = []
    for found in held(connection):
        if found.id in starting or (found.owner.pid and alive(found)):
            continue
        waits = found.state not in (TaskState.SCANNING, TaskState.RUNNING)
        if not found.owner.pid and waits:
            if found.stop == "pause" and found.state is TaskState.QUEUED:
                leave(connection, found.id, TaskState.PAUSED, "paused")
            elif found.stop != "cancel":
                leave(connection, found.id, found.state, found.reason)
            continue
        tasks.free_all(connection, found.id)
        events.append(connection, found.id, "lost", f"its process (pid {found.owner.pid}) had gone")
        if waits and found.state is not TaskState.QUEUED:
            leave(connection, found.id, found.state, found.reason)
        else:
            leave(connection, found.id, TaskState.QUEUED, "its process had gone: it goes on in another one")
        gone.append(Lost(found.id, found.stop))
    return gone
