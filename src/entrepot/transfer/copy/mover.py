"""Movers: what carries jobs from one side to the other. The base of those that a lane pulls.

A lane asks its ``feed`` for the next operation whenever a connection falls free, so nothing is read or opened
before it can be sent: memory follows the number of connections, not the number of entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from entrepot.model.entry import Row
from entrepot.model.errors import StoreError
from entrepot.model.shard import LedgerPort, Partial
from entrepot.storage.base import Lane, Op
from entrepot.transfer.job import Batch, Job

if TYPE_CHECKING:
    from .parted import Parted

PARTED_AT_ONCE = 4
"""Large objects in motion at once per process; more would only spread the same bandwidth thinner."""


class Journal(Protocol):
    """Where half-moved large objects are remembered."""

    def recall(self, key: bytes) -> Partial | None:
        """The partial of ``key`` left by an earlier run, once."""
        ...

    port: LedgerPort


class Mover(Protocol):
    """Carries the rows it is offered; outcomes go to their batch."""

    def offer(self, batch: Batch, rows: list[Row]) -> None:
        """Take rows to copy."""
        ...

    @property
    def backlog(self) -> int:
        """Rows taken but not begun."""
        ...

    @property
    def busy(self) -> bool:
        """True while something is in flight."""
        ...

    def work(self) -> bool:
        """Do a bounded amount of work now; True if there was any."""
        ...

    def drain(self, stop: str) -> None:
        """Begin nothing new; see ``Session.drain``."""
        ...

    def forget(self, batch: Batch) -> None:
        """The lease behind ``batch`` is lost: leave its rows alone."""
        ...

    def live_bytes(self) -> int:
        """Bytes of large objects in motion that already arrived (for display)."""
        ...

    def close(self) -> None:
        """Release files."""
        ...


class LaneMover:
    """Base of the movers whose operations are pulled by ``lane``. Subclasses say how one job begins."""

    held_max = 1 << 62
    """Bytes of bodies that may be held at once; a mover that holds bodies sets it."""

    def __init__(self, lane: Lane, journal: Journal, part_threshold: int) -> None:
        self.lane = lane
        self.journal = journal
        self.part_threshold = part_threshold
        self.open = 0
        self.held = 0
        self.stopping = ""
        self.parted: list[Parted] = []
        self._batch = Batch(b"")
        self._rows: deque[Row] = deque()
        self._pending: deque[tuple[Batch, deque[Row]]] = deque()
        self._large: deque[Job] = deque()

    # -- what subclasses fill in -----------------------------------------------------------------------------------

    def begin(self, job: Job) -> Op | None:
        """The operation that starts ``job``; None if it is already settled (its batch was told)."""
        raise NotImplementedError

    def begin_large(self, job: Job) -> Parted:
        """A parted transfer of ``job``."""
        raise NotImplementedError

    # -- the pull --------------------------------------------------------------------------------------------------

    def feed(self) -> Op | None:
        """The next operation for the lane."""
        if self.held >= self.held_max:
            return None
        if self.parted or self._large:
            op = self._feed_large()
            if op is not None:
                return op
        if self.stopping:
            return None
        rows = self._rows
        while True:
            if not rows:
                if not self._pending:
                    return None
                self._batch, self._rows = self._pending.popleft()
                rows = self._rows
                if self._batch.dropped:
                    rows.clear()
                continue
            key, evidence, size = rows.popleft()
            job = Job(key, evidence, size, self._batch)
            if size > self.part_threshold:
                op = self._start_large(job)
            else:
                try:
                    op = self.begin(job)
                except StoreError as error:
                    job.batch.failed(job, error)
                    continue
                if op is not None:
                    self.open += 1
            if op is not None:
                return op

    def _feed_large(self) -> Op | None:
        """A part of what is in motion, or the beginning of a large object that waited."""
        for parted in self.parted:
            op = parted.next_op()
            if op is not None:
                return op
        while self._large and len(self.parted) < PARTED_AT_ONCE and not self.stopping:
            op = self._start_large(self._large.popleft())
            if op is not None:
                return op
        return None

    def _start_large(self, job: Job) -> Op | None:
        if len(self.parted) >= PARTED_AT_ONCE:
            self._large.append(job)
            return None
        try:
            parted = self.begin_large(job)
        except StoreError as error:
            job.batch.failed(job, error)
            return None
        if parted.over:
            return None
        self.parted.append(parted)
        return parted.next_op()

    def finished(self, job: Job, error: StoreError | None, proof: str = "") -> None:
        """One operation of a plain job came back for good."""
        self.open -= 1
        job.proof = proof
        if error is None:
            job.batch.copied(job)
        else:
            job.batch.failed(job, error)

    def parted_finished(self, parted: Parted, error: StoreError | None) -> None:
        """A parted transfer ended; None means copied and verified, or kept for later."""
        if parted in self.parted:
            self.parted.remove(parted)
        if parted.kept:
            return
        if error is None:
            parted.job.batch.copied(parted.job)
        else:
            parted.job.batch.failed(parted.job, error)

    # -- Mover -----------------------------------------------------------------------------------------------------

    def offer(self, batch: Batch, rows: list[Row]) -> None:
        self._pending.append((batch, deque(rows)))

    @property
    def backlog(self) -> int:
        return len(self._rows) + sum(len(rows) for _, rows in self._pending) + len(self._large)

    @property
    def busy(self) -> bool:
        return self.open > 0 or bool(self.parted)

    def work(self) -> bool:
        """Wake the lane: its idle connections ask for operations."""
        began = False
        lane, feed = self.lane, lane_feed(self.lane, self.feed)
        while lane.hungry and (op := feed()) is not None:
            lane.submit(op)
            began = True
        return began

    def drain(self, stop: str) -> None:
        self.stopping = stop
        self._rows.clear()
        self._pending.clear()
        self._large.clear()
        for parted in list(self.parted):
            parted.drain(stop)

    def forget(self, batch: Batch) -> None:
        for parted in list(self.parted):
            if parted.job.batch is batch:
                parted.drain("pause")

    def live_bytes(self) -> int:
        return sum(parted.moved for parted in self.parted)

    def close(self) -> None:
        for parted in self.parted:
            parted.close()


def lane_feed(lane: Lane, fallback: Callable[[], Op | None]) -> Callable[[], Op | None]:
    """The feed installed on the lane (it may ask several producers), else ``fallback``."""
    return lane.feed if lane.feed is not None else fallback
