"""One task, run to its end on this machine: what ``entrepot sync`` and ``entrepot verify`` call.

The runners are forked first, while this process is small; the database is imported while they start.
"""

from __future__ import annotations

import os
import socket
import sys
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from entrepot.fleet.local import LocalFleet
from entrepot.ledger.ids import new_id
from entrepot.ledger.pipe import Assignment, Bell, PipePort
from entrepot.ledger.pipe_server import PipeServer
from entrepot.model.task import TaskSpec, TaskState
from entrepot.runner import process
from entrepot.work.environment import WorkEnvironment
from entrepot.work.session import Session

from .request import Interrupted, Snapshot, TaskRequest
from .statedir import ledger_place, state_directory
from .trade import Preflight, Trade, transfer_trade

if TYPE_CHECKING:
    from entrepot.ledger.database import Ledger

__all__ = ["Interrupted", "Snapshot", "TaskRequest", "run"]

KEEP_SECONDS = 30 * 86400.0
"""How long ended tasks are remembered."""


def run(request: TaskRequest, on_snapshot: Callable[[Snapshot], None], *, trade: Trade | None = None) -> Snapshot:
    """Run (or go on with) the task; ``on_snapshot`` is called four times a second and at the end.

    Raises PlaceError and GuardError before anything is written, GuardError when deletes are refused,
    Interrupted after Ctrl-C (the task is PAUSED then), and what made all work impossible.
    """
    trade = trade or transfer_trade()
    spec = TaskSpec(request.kind, request.source, request.destination, request.options.to_json())
    state_dir = state_directory(request.state_dir)
    crew = _Crew(request, trade, request.processes or len(os.sched_getaffinity(0)))
    try:
        _import_ahead()
        found = trade.preflight(spec, crew.environment("", "", state_dir))
        return _conduct(crew, spec, found, state_dir, on_snapshot)
    except KeyboardInterrupt:
        raise Interrupted("interrupted", hint="run the same command again to go on") from None
    finally:
        crew.dismiss()


class _Crew:
    """The runners of a run, forked at once and waiting for their task."""

    def __init__(self, request: TaskRequest, trade: Trade, size: int) -> None:
        self.request = request
        self.trade = trade
        self.size = size
        self.began = time.monotonic()
        self.bell = Bell()
        self.server = PipeServer(self.bell)
        self.fleet = LocalFleet(self._be_runner, self.server.add)
        sys.stdout.flush()
        for _ in range(size):
            self.launch()

    def launch(self) -> str:
        """One more runner."""
        runner_id = new_id()
        self.fleet.launch(runner_id)
        return runner_id

    def _be_runner(self, pipe: socket.socket) -> int:
        return process.live(pipe, self.bell, self._open_session)

    def _open_session(self, given: Assignment, port: PipePort) -> Session:
        surroundings = self.environment(given.task_id, given.runner_id, given.state_dir)
        return self.trade.open_session(given.spec, port, surroundings)

    def environment(self, task_id: str, runner_id: str, state_dir: str) -> WorkEnvironment:
        """The surroundings of a session, or (without ids) of the checks before it."""
        return WorkEnvironment(
            task_id=task_id,
            runner_id=runner_id,
            state_dir=state_dir,
            processes=self.size,
            connection=self.request.connections,
        )

    def dismiss(self) -> None:
        """Leave no process behind."""
        self.server.close()
        self.fleet.end()


def _conduct(
    crew: _Crew,
    spec: TaskSpec,
    found: Preflight,
    state_dir: str,
    on_snapshot: Callable[[Snapshot], None],
) -> Snapshot:
    from entrepot.ledger.database import open_ledger
    from entrepot.ledger.port import DirectPort

    from .claim import claim
    from .conduct import Conductor
    from .interrupts import Interrupts
    from .watch import Watch

    options = crew.request.options
    ledger = open_ledger(ledger_place(state_dir))
    try:
        plan = crew.environment("", "", state_dir)
        held = claim(ledger, spec, found, options, lambda: crew.trade.plan(spec, crew.size, plan))
        watch = Watch(
            ledger,
            held.task_id,
            resumed=held.resumed,
            report=options.report,
            began=crew.began,
            clock=time.monotonic,
        )
        watch.runners.update(crew.server.runners)
        watch.warnings.extend(found.warnings)
        with Interrupts() as interrupts:
            crew.server.watch(interrupts.descriptor)
            crew.server.open(
                lambda runner_id: DirectPort(ledger, held.task_id, runner_id, hungry=crew.server.hungry),
                lambda runner_id: Assignment(held.task_id, runner_id, spec, state_dir, crew.size),
            )
            conductor = Conductor(
                ledger,
                held.task_id,
                options,
                server=crew.server,
                fleet=crew.fleet,
                launch=crew.launch,
                watch=watch,
                interrupts=interrupts,
            )
            try:
                shot = conductor.run(on_snapshot)
            finally:
                crew.server.unwatch(interrupts.descriptor)
        if shot.state is TaskState.CANCELLED and crew.trade.discard is not None:
            port = DirectPort(ledger, held.task_id, "")
            crew.trade.discard(spec, port, crew.environment(held.task_id, "", state_dir))
        _forget_old(ledger)
        return shot
    finally:
        ledger.close()


def _import_ahead() -> None:
    """Import the database while the places answer: the checks wait for a network most of the time."""

    def load() -> None:
        import entrepot.ledger.port  # noqa: F401

    threading.Thread(target=load, name="import-ahead", daemon=True).start()


def _forget_old(ledger: Ledger) -> None:
    from entrepot.ledger import tasks

    with ledger.write() as connection:
        tasks.prune(connection, KEEP_SECONDS)
