"""What a person does with tasks that were started before: look, cancel, forget."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextlib import closing

from entrepot.ledger import events, journal, tasks
from entrepot.ledger.database import Ledger, open_ledger
from entrepot.ledger.events import Event
from entrepot.ledger.ids import new_id
from entrepot.ledger.port import DirectPort
from entrepot.ledger.tasks import Task
from entrepot.model.connection import Connection
from entrepot.model.shard import Failure
from entrepot.model.task import END_STATES, TaskState
from entrepot.work.environment import WorkEnvironment

from .owner import is_running, this_process
from .statedir import ledger_place, state_directory
from .trade import Trade, transfer_trade

CANCEL_SECONDS = 30.0


def _open(state_dir: str) -> Ledger:
    return open_ledger(ledger_place(state_directory(state_dir)))


def _is_there(state_dir: str) -> bool:
    return os.path.exists(ledger_place(state_directory(state_dir)))


def list_tasks(state_dir: str = "", limit: int = 100, before: str = "") -> list[Task]:
    """Tasks of this state directory, youngest first."""
    if not _is_there(state_dir):
        return []
    with closing(_open(state_dir)) as ledger, ledger.read() as connection:
        return tasks.listing(connection, limit, before)


def show_task(task_id: str, state_dir: str = "") -> tuple[Task, dict[str, int], list[Event]]:
    """A task, its failures by class, and what happened to it. Raises UsageError when there is none."""
    with closing(_open(state_dir)) as ledger, ledger.read() as connection:
        task = tasks.read(connection, task_id)
        counts = journal.failure_counts(connection, task_id)
        return task, counts, events.since(connection, task_id, limit=1000)


def task_failures(task_id: str, state_dir: str = "", limit: int = 100, before: int = 0) -> tuple[list[Failure], int]:
    """Failed entries of a task, latest first, and the mark to continue ``before`` (0: no more)."""
    with closing(_open(state_dir)) as ledger, ledger.read() as connection:
        tasks.read(connection, task_id)
        return journal.failures(connection, task_id, limit, before)


def forget_old(state_dir: str = "", days: float = 30.0) -> int:
    """Prune ended tasks older than ``days``; answers how many."""
    if not _is_there(state_dir):
        return 0
    with closing(_open(state_dir)) as ledger, ledger.write() as connection:
        return tasks.prune(connection, days * 86400)


def _nothing(_name: str) -> Connection | None:
    return None


def _no_volume(_name: str) -> str | None:
    return None


def cancel(
    task_id: str,
    state_dir: str = "",
    *,
    connections: Callable[[str], Connection | None] = _nothing,
    trade: Trade | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> TaskState:
    """Cancel a task and undo what it left half-moved; an ended task stays as it is. Answers the state after.

    A running one is told and obeys within seconds; the state answered may still be the one before.
    """
    with closing(_open(state_dir)) as ledger:
        with ledger.write() as connection:
            task = tasks.read(connection, task_id)
            if task.state in END_STATES and task.state is not TaskState.FAILED:
                return task.state
            if task.state is TaskState.FAILED and not journal.partials(connection, task_id, b"", None):
                return task.state
            if is_running(task):
                tasks.order_stop(connection, task_id, "cancel")
                return task.state
            tasks.take_over(connection, task_id, this_process(), task.spec.options)
            tasks.order_stop(connection, task_id, "cancel")
        undo(
            ledger,
            task,
            state_directory(state_dir),
            connections=connections,
            trade=trade or transfer_trade(),
            clock=clock,
        )
        with ledger.write() as connection:
            tasks.transition(connection, task_id, TaskState.CANCELLED, "cancelled")
            return tasks.read(connection, task_id).state


def undo(
    ledger: Ledger,
    task: Task,
    state_dir: str,
    *,
    connections: Callable[[str], Connection | None],
    trade: Trade,
    volumes: Callable[[str], str | None] = _no_volume,
    clock: Callable[[], float] = time.monotonic,
) -> None:
    """Let a session without any range take away what earlier runs left."""
    runner_id = new_id()
    port = DirectPort(ledger, task.id, runner_id)
    surroundings = WorkEnvironment(
        task_id=task.id, runner_id=runner_id, state_dir=state_dir, connection=connections, volume=volumes
    )
    session = trade.open_session(task.spec, port, surroundings)
    try:
        session.drain("cancel")
        until = clock() + CANCEL_SECONDS
        while not session.idle and clock() < until:
            session.poll(0.1)
    finally:
        session.close()
    if trade.discard is not None:
        trade.discard(task.spec, port, surroundings)
