"""What a person may ask of a task of the server: pause, resume, cancel, retry, approve, reject.

Each is one call in the caller's writing transaction, and means the same however often it comes. A task that a process
drives is told and obeys within seconds; one that nobody drives moves at once, or is left to the scheduler where
something has to be undone first. Orders on a task with legs go to its legs. Raises WrongState, and nothing is changed.
"""

from __future__ import annotations

from collections.abc import Callable

from entrepot.model.errors import NoSuch, WrongState
from entrepot.model.task import TaskState

from . import legs, retrying, tasks
from .database import Connection
from .tasks import ACTIVE, Task

_LOCK = "SELECT id FROM task WHERE id = :id FOR UPDATE"
_LEGS = "SELECT legs FROM task WHERE id = :id"
_BEGUN = """SELECT 1 FROM task WHERE id = :id AND (
    EXISTS (SELECT 1 FROM shard WHERE shard.task_id = task.id)
    OR EXISTS (SELECT 1 FROM partial WHERE partial.task_id = task.id))"""
_SET_STOP = "UPDATE task SET stop = :stop WHERE id = :id"
_APPROVE = "UPDATE task SET approved = :approved WHERE id = :id"
_FORGET_DELETES = "DELETE FROM doomed WHERE task_id = :id"


def pause(connection: Connection, task_id: str) -> TaskState:
    """Have the task stop where it is; answers its state now."""
    return _each(connection, task_id, _pause, "paused", (*ACTIVE, TaskState.PAUSED))


def resume(connection: Connection, task_id: str) -> TaskState:
    """Let a paused task go on."""
    return _each(connection, task_id, _resume, "resumed", (*ACTIVE, TaskState.PAUSED))


def cancel(connection: Connection, task_id: str) -> TaskState:
    """End the task for good; what it left half-moved goes."""
    live = (*ACTIVE, TaskState.PAUSED, TaskState.REVIEW, TaskState.CANCELLED)
    return _each(connection, task_id, _cancel, "cancelled", live)


def retry(connection: Connection, task_id: str) -> TaskState:
    """Do again what failed in an ended task, and whatever it had not come to."""
    return _each(connection, task_id, _retry, "retried", (TaskState.FAILED, TaskState.CANCELLED))


def approve(connection: Connection, task_id: str) -> TaskState:
    """Let a task under review do its deletes."""
    return _each(connection, task_id, _approve, "approved", (TaskState.REVIEW,))


def reject(connection: Connection, task_id: str, reason: str = "") -> TaskState:
    """End a task under review: nothing is deleted."""

    def reject_one(connection: Connection, task: Task) -> TaskState:
        connection.change(_FORGET_DELETES, {"id": task.id})
        tasks.transition(connection, task.id, TaskState.REJECTED, reason or "rejected")
        return TaskState.REJECTED

    return _each(connection, task_id, reject_one, "rejected", (TaskState.REVIEW,))


def _each(
    connection: Connection,
    task_id: str,
    act: Callable[[Connection, Task], TaskState],
    word: str,
    allowed: tuple[TaskState, ...],
) -> TaskState:
    if connection.first(_LOCK, {"id": task_id}) is None:
        raise NoSuch(f"no task {task_id}")
    task = tasks.read(connection, task_id)
    if task.state not in allowed:
        raise _wrong(task, word)
    if not connection.value(_LEGS, {"id": task_id}):
        return act(connection, task)
    for leg_id in legs.of(connection, task_id):
        leg = tasks.read(connection, leg_id)
        if leg.state in allowed and leg.stop != "cancel":
            act(connection, leg)
    return legs.fold(connection, task_id)


def _wrong(task: Task, word: str) -> WrongState:
    return WrongState(f"task {task.id} is {task.state}: it cannot be {word}")


def _pause(connection: Connection, task: Task) -> TaskState:
    if task.stop == "cancel":
        raise WrongState(f"task {task.id} is being cancelled: it cannot be paused")
    if task.state is TaskState.PAUSED:
        return task.state
    if task.owner.pid:
        connection.change(_SET_STOP, {"id": task.id, "stop": "pause"})
        return task.state
    tasks.transition(connection, task.id, TaskState.PAUSED, "paused")
    return TaskState.PAUSED


def _resume(connection: Connection, task: Task) -> TaskState:
    if task.stop == "cancel":
        raise WrongState(f"task {task.id} is being cancelled: it cannot be resumed")
    if task.state is TaskState.PAUSED:
        tasks.transition(connection, task.id, TaskState.QUEUED, "resumed")
        return TaskState.QUEUED
    if task.stop == "pause":
        # Its runners may have begun to leave: it stops first, and goes on at once.
        connection.change(_SET_STOP, {"id": task.id, "stop": "again"})
    return task.state


def _cancel(connection: Connection, task: Task) -> TaskState:
    if task.state is TaskState.CANCELLED or task.stop == "cancel":
        return task.state
    if task.owner.pid or connection.value(_BEGUN, {"id": task.id}):
        tasks.order_stop(connection, task.id, "cancel")
        return task.state
    tasks.transition(connection, task.id, TaskState.CANCELLED, "cancelled")
    return TaskState.CANCELLED


def _retry(connection: Connection, task: Task) -> TaskState:
    retrying.prepare(connection, task.id)
    connection.change(_APPROVE, {"id": task.id, "approved": 0})
    tasks.transition(connection, task.id, TaskState.QUEUED, "retried")
    return TaskState.QUEUED


def _approve(connection: Connection, task: Task) -> TaskState:
    if task.stop == "cancel":
        raise WrongState(f"task {task.id} is being cancelled: it cannot be approved")
    connection.change(_APPROVE, {"id": task.id, "approved": 1})
    tasks.transition(connection, task.id, TaskState.QUEUED, "approved")
    return TaskState.QUEUED
