"""Bandwidth of a server's tasks: what a task may use by its own options, and its share of what all may use."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from entrepot.ledger import live
from entrepot.ledger.database import Connection, Ledger
from entrepot.ledger.port import DirectPort
from entrepot.model.options import SyncOptions
from entrepot.model.shard import Orders, Progress
from entrepot.transfer.rates import current_bandwidth

if TYPE_CHECKING:
    from .perform import Job


def effective(options: SyncOptions, job: Job, wall: float | None = None) -> SyncOptions:
    """The options that the runners of a server's task are given: where its report goes, how fast it begins."""
    if options.report:
        from .reports import report_place

        place = report_place(job.state_dir, job.task_id)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        options = options.with_(report=place)
    if not job.bandwidth:
        return options
    begins = allowance(options, job.bandwidth, job.together, time.time() if wall is None else wall)
    return options.with_(bandwidth=begins, bandwidth_windows=())


def allowance(options: SyncOptions, bandwidth: int, together: int, wall: float) -> int:
    """Bytes/s for a whole task now, under a limit for all tasks (not 0)."""
    share = max(1, bandwidth // max(1, together))
    own = current_bandwidth(options, wall)
    return min(own, share) if own else share


class Pacer:
    """Tells the runners of one task how fast they may go, while other tasks come and go."""

    def __init__(
        self,
        ledger: Ledger,
        job: Job,
        options: SyncOptions,
        hungry: Callable[[], int],
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._ledger = ledger
        self._job = job
        self._options = options
        self._hungry = hungry
        self._wall = wall
        self.rate: int | None = None
        """Bytes/s for each process; None while the server has no limit."""

    def pace(self, connection: Connection) -> None:
        """Look how many tasks share the limit now."""
        job = self._job
        if job.bandwidth:
            together = max(1, live.running(connection))
            whole = allowance(self._options, job.bandwidth, together, self._wall())
            self.rate = max(1, whole // max(1, job.processes))

    def port(self, runner_id: str) -> DirectPort:
        """The ledger for one runner, with the pace in its orders."""
        return _PacedPort(self._ledger, self._job.task_id, runner_id, self._hungry, lambda: self.rate)


class _PacedPort(DirectPort):
    def __init__(
        self,
        ledger: Ledger,
        task_id: str,
        runner_id: str,
        hungry: Callable[[], int],
        rate: Callable[[], int | None],
    ) -> None:
        super().__init__(ledger, task_id, runner_id, hungry=hungry)
        self._rate = rate
        self._told: int | None = None

    def report(
        self, progress: Sequence[Progress], final: Sequence[int] = (), stats: dict[str, int] | None = None
    ) -> Orders:
        """One transaction for the whole checkpoint; the answer says when the pace has changed."""
        orders = super().report(progress, final, stats)
        rate = self._rate()
        if rate is not None and rate != self._told:
            self._told = orders.bandwidth = rate
        return orders
