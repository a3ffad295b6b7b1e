"""Performing one task of the server: from its row in the queue to its end, or to where it has to wait.

The same engine as ``entrepot sync``: runners are forked first, the first of them looks at the places, and this process
conducts. What differs is that the task exists already, and that whoever conducts it may be the second or the
hundredth process to do so.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from entrepot.ledger.pipe import Assignment
from entrepot.model.connection import Connection
from entrepot.model.errors import EntrepotError
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskSpec, TaskState

from .crew import Crew, ScoutLost
from .interrupts import Interrupts
from .request import Snapshot, TaskRequest
from .trade import Trade, transfer_trade

if TYPE_CHECKING:
    from entrepot.ledger.database import Connection as Transaction
    from entrepot.ledger.database import Ledger
    from entrepot.ledger.pipe import Scouted

DONE, AGAIN = 0, 3
"""Exit codes: the ledger says what became of the task; the task has to be begun again."""

SNAPSHOT_EVERY = 0.5


@dataclass(slots=True, frozen=True)
class Job:
    """What the scheduler hands to a conductor. ``undo``: the task was cancelled, take away what it left half-moved.

    ``bandwidth`` is what the whole server may use (bytes/s, 0 = no limit), shared among ``together`` tasks at first.
    """

    task_id: str
    spec: TaskSpec
    ledger: str = field(repr=False)
    state_dir: str
    processes: int = 1
    connections: dict[str, Connection] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)
    bandwidth: int = 0
    together: int = 1
    undo: bool = False


def waits_for(task_id: str, destination: str) -> str:
    """The reason of a task in the queue whose destination is taken."""
    return f"waits for task {task_id}, which is writing to {destination}"


class _Stopped(Exception):
    """Do not begin: leave the task in this state."""

    def __init__(self, state: TaskState, reason: str) -> None:
        super().__init__(reason)
        self.state = state
        self.reason = reason


def _unseen(_shot: Snapshot) -> None:
    """Everyone who looks, looks into the ledger."""


def perform(job: Job, trade: Trade | None = None) -> int:
    """Everything that a conductor process does; its exit code."""
    trade = trade or transfer_trade()
    if job.undo:
        from .undo import undo_task

        return undo_task(job, trade)
    with Interrupts() as interrupts:
        try:
            crew = _crew(job, trade)
        except EntrepotError as error:
            return _refuse(job, error)
        try:
            return _Performance(job, crew, interrupts).run()
        finally:
            crew.dismiss()


def _crew(job: Job, trade: Trade) -> Crew:
    from .pacing import effective

    options = effective(SyncOptions.from_json(job.spec.options), job)
    spec = replace(job.spec, options=options.to_json())
    request = TaskRequest(
        kind=spec.kind,
        source=spec.source,
        destination=spec.destination,
        options=options,
        processes=job.processes,
        state_dir=job.state_dir,
        connections=job.connections.get,
        volumes=job.volumes.get,
    )
    return Crew(request, spec, job.state_dir, trade, size=job.processes)


def _refuse(job: Job, error: EntrepotError) -> int:
    """The places cannot even be tried."""
    from entrepot.ledger import holding
    from entrepot.ledger.database import open_ledger

    from .owner import is_alive, this_process

    ledger = open_ledger(job.ledger)
    try:
        with ledger.write() as c:
            if holding.hold(c, job.task_id, this_process(), is_alive) is not None:
                holding.leave(c, job.task_id, TaskState.FAILED, error.message)
    finally:
        ledger.close()
    return DONE


class _Performance:
    """One process's part in the life of a task."""

    def __init__(self, job: Job, crew: Crew, interrupts: Interrupts) -> None:
        from entrepot.ledger.database import open_ledger

        self._job = job
        self._crew = crew
        self._interrupts = interrupts
        self._options = SyncOptions.from_json(job.spec.options)
        self._ledger: Ledger = open_ledger(job.ledger)

    def run(self) -> int:
        """Hold the task, look at its places, conduct it."""
        from entrepot.ledger import holding

        from .owner import is_alive, this_process

        try:
            held = self._ledger.settle(
                lambda c: holding.hold(c, self._job.task_id, this_process(), is_alive),
            )
            if held is None:
                return DONE
            self._crew.server.watch(self._interrupts.descriptor)
            try:
                return self._checked()
            finally:
                self._crew.server.unwatch(self._interrupts.descriptor)
        finally:
            self._ledger.close()

    def _checked(self) -> int:
        try:
            scouted = self._crew.scouted(self._meanwhile)
            heirs = self._ledger.settle(lambda c: self._settle(c, scouted))
        except _Stopped as stop:
            return self._leave(stop.state, stop.reason)
        except ScoutLost:
            self._leave(TaskState.QUEUED, "")
            return AGAIN
        except EntrepotError as error:
            return self._leave(TaskState.FAILED, error.message)
        if heirs is not None:
            self._conduct(scouted, heirs)
        return DONE

    def _leave(self, state: TaskState, reason: str) -> int:
        from entrepot.ledger import holding

        self._ledger.settle(lambda c: holding.leave(c, self._job.task_id, state, reason))
        return DONE

    def _meanwhile(self) -> None:
        """Signs of life while the places are looked at, and an ear for orders."""
        from entrepot.ledger import tasks

        if self._interrupts.count:
            raise _Stopped(TaskState.QUEUED, "the server stopped: it goes on with the next start")
        order = self._ledger.settle(lambda c: tasks.beat(c, self._job.task_id))
        if order in {"pause", "again"}:
            raise _Stopped(TaskState.PAUSED, "asked for from outside")
        if order == "cancel":
            raise _Stopped(TaskState.QUEUED, "")

    def _settle(self, c: Transaction, scouted: Scouted) -> tuple[str, ...] | None:
        """Enter what was found; the first ranges of a new task. Answers the dead tasks that it inherits from.

        None: another task writes to the same place, and this one was put back into the queue to wait for it.
        """
        from entrepot.ledger import events, holding, shards, tasks

        from .claim import in_the_way, inherit, place_of, spec_hash

        c.alone("claim")
        task = tasks.read(c, self._job.task_id)
        found = scouted.found
        source, destination = place_of(found.source_identity), place_of(found.destination_identity)
        begun = bool(tasks.shard_counts(c, task.id))
        if begun and task.destination[0] and (task.source, task.destination) != (source, destination):
            raise _Stopped(
                TaskState.FAILED, "its connection or volume leads to another place now than when the task began"
            )
        holding.settle(c, task.id, source, destination, spec_hash(task.spec.kind, found, self._options))
        other = None if self._options.dry_run else in_the_way(c, destination, task.id)
        if other is not None:
            holding.leave(c, task.id, TaskState.QUEUED, waits_for(other.id, other.spec.destination))
            return None
        if not begun:
            shards.add_ranges(c, task.id, "verify" if task.spec.kind == "verify" else "scan", scouted.cuts)
        for text in found.warnings:
            events.append(c, task.id, "warning", text)
        return () if self._options.dry_run else inherit(c, task.id)

    def _conduct(self, scouted: Scouted, heirs: tuple[str, ...]) -> Snapshot:
        from entrepot.ledger import holding

        from .conduct import Conductor, Manner
        from .pacing import Pacer
        from .pulse import Pulse
        from .watch import Watch

        job, crew, server = self._job, self._crew, self._crew.server
        with self._ledger.read() as c:
            approved = holding.approved(c, job.task_id)
        watch = Watch(self._ledger, job.task_id, resumed=False, report="", began=crew.began, clock=time.monotonic)
        watch.runners.update(server.runners)
        pacer = Pacer(self._ledger, job, self._options, hungry=lambda: server.hungry() + pulse.waiting_elsewhere)
        pulse = Pulse(job.task_id, self._options, watch, pacer.pace)
        server.open(
            pacer.port,
            lambda runner_id: Assignment(job.task_id, runner_id, crew.spec, job.state_dir, crew.size),
        )
        manner = Manner(
            snapshot_every=SNAPSHOT_EVERY,
            interrupted=TaskState.QUEUED,
            broken=TaskState.FAILED,
            refused=TaskState.REVIEW,
            approved=approved,
            raises=False,
            beat=pulse.beat,
            leave=pulse.leave,
        )
        conductor = Conductor(
            self._ledger,
            job.task_id,
            crew.request.options,
            crew=crew,
            watch=watch,
            interrupts=self._interrupts,
            manner=manner,
            closing=lambda end: self._close(end, heirs),
        )
        return conductor.run(_unseen)

    def _close(self, end: TaskState, heirs: tuple[str, ...]) -> list[str]:
        from . import oneshot, reports

        notes = oneshot.close(end, self._crew, self._ledger, self._job.task_id, heirs)
        if end in (TaskState.SUCCEEDED, TaskState.FAILED):
            try:
                reports.keep(self._job.state_dir, self._job.task_id)
            except OSError as error:
                notes.append(f"the report could not be written: {error.strerror}")
        return notes
