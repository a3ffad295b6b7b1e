"""One task, run to its end on this machine: what ``entrepot sync`` and ``entrepot verify`` call.

The runners are forked first, while this process is small and has only the trade loaded, which they share.
The first of them looks at the places while this process imports the database.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from entrepot.ledger.pipe import Assignment
from entrepot.model.task import END_STATES, TaskSpec, TaskState

from .crew import Crew
from .request import Interrupted, Snapshot, TaskRequest
from .statedir import ledger_place, state_directory
from .trade import Trade, transfer_trade

if TYPE_CHECKING:
    from entrepot.ledger.database import Ledger
    from entrepot.ledger.port import DirectPort

__all__ = ["Interrupted", "Snapshot", "TaskRequest", "run"]

KEEP_SECONDS = 30 * 86400.0
"""How long ended tasks are remembered."""


def run(request: TaskRequest, on_snapshot: Callable[[Snapshot], None], *, trade: Trade | None = None) -> Snapshot:
    """Run (or go on with) the task; ``on_snapshot`` is called four times a second and at the end.

    Raises PlaceError and GuardError before anything is written, GuardError when deletes are refused,
    Interrupted after Ctrl-C (the task is PAUSED then), and what made all work impossible.
    """
    spec = TaskSpec(request.kind, request.source, request.destination, request.options.to_json())
    size = request.processes or len(os.sched_getaffinity(0))
    crew = Crew(request, spec, state_directory(request.state_dir), trade or transfer_trade(), size=size)
    try:
        return _conduct(crew, on_snapshot)
    except KeyboardInterrupt:
        raise Interrupted("interrupted", hint="run the same command again to go on") from None
    finally:
        crew.dismiss()


def _conduct(crew: Crew, on_snapshot: Callable[[Snapshot], None]) -> Snapshot:
    from entrepot.ledger.database import open_ledger
    from entrepot.ledger.port import DirectPort

    from .claim import claim
    from .conduct import Conductor
    from .interrupts import Interrupts
    from .watch import Watch

    scouted = crew.scouted()
    options, spec, server = crew.request.options, crew.spec, crew.server
    ledger = open_ledger(ledger_place(crew.state_dir))
    try:
        held = claim(ledger, spec, scouted.found, options, scouted.cuts)
        watch = Watch(
            ledger,
            held.task_id,
            resumed=held.resumed,
            report=options.report,
            began=crew.began,
            clock=time.monotonic,
        )
        watch.runners.update(server.runners)
        watch.warnings.extend(scouted.found.warnings)
        with Interrupts() as interrupts:
            server.watch(interrupts.descriptor)
            server.open(
                lambda runner_id: DirectPort(ledger, held.task_id, runner_id, hungry=server.hungry),
                lambda runner_id: Assignment(held.task_id, runner_id, spec, crew.state_dir, crew.size),
            )
            conductor = Conductor(
                ledger,
                held.task_id,
                options,
                crew=crew,
                watch=watch,
                interrupts=interrupts,
                closing=lambda end: close(end, crew, ledger, held.task_id, held.forebears),
            )
            try:
                shot = conductor.run(on_snapshot)
            finally:
                server.unwatch(interrupts.descriptor)
        _forget_old(ledger)
        return shot
    finally:
        ledger.close()


def close(end: TaskState, crew: Crew, ledger: Ledger, task_id: str, forebears: tuple[str, ...]) -> list[str]:
    """What remains when the runners have left, before the task has its last state; answers warnings."""
    from entrepot.ledger.port import DirectPort

    if end is TaskState.CANCELLED:
        _discard(crew, DirectPort(ledger, task_id, ""))
    elif end in END_STATES:
        return _finish(crew, ledger, task_id, forebears)
    return []


def _discard(crew: Crew, port: DirectPort) -> None:
    """Runners undid what they had in hand; the rest of the journal is undone here."""
    discard = crew.trade.discard
    if discard is not None:
        discard(crew.spec, port, crew.environment(port.task_id))


def _finish(crew: Crew, ledger: Ledger, task_id: str, forebears: tuple[str, ...]) -> list[str]:
    """What only makes sense when every range is done."""
    from entrepot.ledger import shards

    if crew.trade.finish is None:
        return []
    with ledger.read() as connection:
        cuts = shards.edges(connection, task_id, "scan")
    return crew.trade.finish(crew.spec, cuts, replace(crew.environment(task_id), forebears=forebears))


def _forget_old(ledger: Ledger) -> None:
    from entrepot.ledger import tasks
    from entrepot.ledger.database import LedgerError

    try:
        with ledger.write() as connection:
            tasks.prune(connection, KEEP_SECONDS)
    except LedgerError:
        # The run is over and on record: the next one forgets what is old.
        return
