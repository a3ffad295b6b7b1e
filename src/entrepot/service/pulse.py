"""Signs of life of a conductor: what its task does now, how far it is, and the last word about it."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.ledger import events, holding, live, nodes, tasks
from entrepot.ledger.database import Connection
from entrepot.ledger.live import Live
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskState
from entrepot.model.totals import Totals

from .progress import percent_of
from .request import Snapshot
from .watch import Watch


class Pulse:
    """Writes them in the transactions of a conductor."""

    def __init__(self, task_id: str, options: SyncOptions, watch: Watch, pace: Callable[[Connection], None]) -> None:
        self._task_id = task_id
        self._options = options
        self._watch = watch
        self._pace = pace
        self.waiting_elsewhere = 0
        """Processes on other machines that have nothing to do."""

    def beat(self, connection: Connection, shot: Snapshot | None) -> None:
        """Once a second."""
        if shot is not None:
            live.save(connection, self._task_id, _figures(shot))
            self._mark(connection, shot.totals, shot.scanning)
        else:
            live.save(connection, self._task_id, Live())
        self.waiting_elsewhere = nodes.waiting(connection, self._task_id)
        self._pace(connection)

    def leave(self, connection: Connection, task_id: str, end: TaskState, reason: str) -> None:
        """The last words, and the state that the task is left in."""
        self._mark(connection, tasks.read(connection, task_id).totals, end is not TaskState.FAILED)
        for text in self._watch.warnings:
            events.append(connection, task_id, "warning", text)
        holding.leave(connection, task_id, end, reason)

    def _mark(self, connection: Connection, totals: Totals, scanning: bool) -> None:
        shards = {(str(phase), state): n for (phase, state), n in tasks.shard_counts(connection, self._task_id).items()}
        percent = percent_of(totals, scanning=scanning, options=self._options, shards=shards)
        live.raise_percent(connection, self._task_id, percent)


def _figures(shot: Snapshot) -> Live:
    return Live(
        shot.phase,
        shot.scanning,
        shot.rate_bytes,
        shot.rate_entries,
        shot.eta_seconds,
        shot.seconds,
        shot.peak_rss_bytes,
        shot.totals,
    )
