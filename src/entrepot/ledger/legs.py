"""Tasks with several sources: one row that everybody sees, and a leg for each source that does the work."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace

from entrepot.model.task import END_STATES, TRANSITIONS, TaskState
from entrepot.model.totals import FIELDS, Totals

from . import live, tasks
from .database import Connection, Row
from .tasks import NewTask

_MARK = "UPDATE task SET legs = :legs WHERE id = :id"
_IDS = "SELECT id FROM task WHERE parent = :id ORDER BY id"
_LEGS = f"""SELECT id, state, reason, percent, owner_pid, {", ".join(FIELDS)} FROM task
    WHERE parent = :id ORDER BY id"""
_PARENTS = """SELECT id FROM task WHERE legs > 0
    AND state || '' IN ('QUEUED', 'SCANNING', 'RUNNING', 'PAUSED', 'REVIEW') ORDER BY id"""
_NOW = f"SELECT state, percent, {', '.join(FIELDS)} FROM task WHERE id = :id"
_PARENT = "SELECT state FROM task WHERE id = :id FOR UPDATE"
_SUM = f"UPDATE task SET {', '.join(f'{name} = :{name}' for name in FIELDS)} WHERE id = :id"

_WAY = frozenset({TaskState.QUEUED, TaskState.SCANNING, TaskState.RUNNING})


def create(connection: Connection, parent: NewTask, sources: Sequence[NewTask]) -> None:
    """Insert a task and its legs, all QUEUED. ``sources`` are the legs; their filing is completed here."""
    tasks.create(connection, parent)
    connection.change(_MARK, {"id": parent.id, "legs": len(sources)})
    for leg in sources:
        tasks.create(connection, replace(leg, filing=replace(leg.filing, parent=parent.id)))


def of(connection: Connection, task_id: str) -> list[str]:
    """The legs of a task, in the order of its sources."""
    return [row.id for row in connection.execute(_IDS, {"id": task_id})]


def live_parents(connection: Connection) -> list[str]:
    """Tasks with legs that have not ended."""
    return [row.id for row in connection.execute(_PARENTS)]


def unfolded(connection: Connection) -> list[str]:
    """Tasks whose legs got on since they were folded last."""
    return [task_id for task_id in live_parents(connection) if _moved(connection, task_id)]


def _moved(connection: Connection, task_id: str) -> bool:
    row = connection.first(_NOW, {"id": task_id})
    legs = connection.execute(_LEGS, {"id": task_id})
    if row is None:
        return False
    if _together(TaskState(row.state), [TaskState(leg.state) for leg in legs]) is not TaskState(row.state):
        return True
    if sum(leg.percent for leg in legs) // max(1, len(legs)) > row.percent:
        return True
    return any(sum(getattr(leg, name) for leg in legs) != getattr(row, name) for name in FIELDS)


def fold(connection: Connection, task_id: str) -> TaskState:
    """Make the task what its legs are together; answers its state."""
    row = connection.first(_PARENT, {"id": task_id})
    assert row is not None
    legs = connection.execute(_LEGS, {"id": task_id})
    whole = Totals()
    for leg in legs:
        whole.add(Totals(*[getattr(leg, name) for name in FIELDS]))
    connection.change(_SUM, {"id": task_id, **whole.as_dict()})
    now = TaskState(row.state)
    wanted = _together(now, [TaskState(leg.state) for leg in legs])
    done = wanted is TaskState.SUCCEEDED
    percent = 100 if done else min(99, sum(leg.percent for leg in legs) // max(1, len(legs)))
    live.raise_percent(connection, task_id, percent)
    for step in _path(now, wanted):
        tasks.transition(connection, task_id, step, _reason(legs, wanted))
    return wanted


def _together(now: TaskState, states: Sequence[TaskState]) -> TaskState:
    for state in (TaskState.RUNNING, TaskState.SCANNING, TaskState.QUEUED):
        if state in states:
            # A leg that has not begun yet does not take the others' work back.
            begun = now in {TaskState.SCANNING, TaskState.RUNNING} and state is not TaskState.RUNNING
            return now if begun else state
    for state in (TaskState.PAUSED, TaskState.REVIEW):
        if state in states:
            return state
    if TaskState.FAILED in states or TaskState.REJECTED in states:
        return TaskState.FAILED
    return TaskState.CANCELLED if TaskState.CANCELLED in states else TaskState.SUCCEEDED


def _path(now: TaskState, wanted: TaskState) -> list[TaskState]:
    """The shortest allowed way, through no state that means something to others."""
    ways: deque[list[TaskState]] = deque([[now]])
    seen = {now}
    while ways:
        way = ways.popleft()
        if way[-1] is wanted:
            return way[1:]
        for step in sorted(TRANSITIONS[way[-1]]):
            if step not in seen and (step is wanted or step in _WAY):
                seen.add(step)
                ways.append([*way, step])
    return []


def _reason(legs: Sequence[Row], state: TaskState) -> str:
    if state not in END_STATES | {TaskState.REVIEW}:
        return ""
    told = [leg.reason for leg in legs if leg.state not in {TaskState.SUCCEEDED} and leg.reason]
    return "; ".join(dict.fromkeys(told))[:2000]
