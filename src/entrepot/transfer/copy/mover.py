"""Movers: what carries jobs from one side to the other. The base of those that a lane pulls.

A lane asks its ``feed`` for the next operation whenever a connection falls free, so nothing is read or opened
before it can be sent: memory follows the number of connections, not the number of entries.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from entrepot.model.entry import Row
from entrepot.model.errors import ChangedError, CorruptError, NotFoundError, StoreError, VanishedError
from entrepot.model.shard import LedgerPort, Partial
from entrepot.storage.base import Head, Lane, Op
from entrepot.transfer.access import Access
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
    access: Access
    """What is known about the credentials of this session."""


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
        self.access = journal.access
        self.part_threshold = part_threshold
        self.open = 0
        self.held = 0
        self.stopping = ""
        self.parted: list[Parted] = []
        self._batch = Batch(b"")
        self._rows: deque[Row] = deque()
        self._pending: deque[tuple[Batch, deque[Row]]] = deque()
        self._large: deque[Job] = deque()
        self._again: deque[Job] = deque()
        """Jobs whose source changed under way: begun once more, as it is now (fault cases 33, 34)."""

    # -- what subclasses fill in -----------------------------------------------------------------------------------

    def begin(self, job: Job) -> Op | None:
        """The operation that starts ``job``; None if it is already settled (its batch was told)."""
        raise NotImplementedError

    def begin_large(self, job: Job) -> Parted:
        """A parted transfer of ``job``."""
        raise NotImplementedError

    def renew(self, job: Job) -> None:
        """Learn what the source of ``job`` is now; then :meth:`begin_again` or :meth:`lose`."""
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
        if self.stopping or self.access.lost is not None:
            return None
        rows = self._rows
        while True:
            if self._again:
                op = self._start(self._again.popleft())
                if op is not None:
                    return op
                continue
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
                    self.fell(job, error)
                    continue
                if op is not None:
                    self.open += 1
            if op is not None:
                return op

    def _start(self, job: Job) -> Op | None:
        """Begin a job that was put back."""
        if job.batch.dropped:
            return None
        if job.size > self.part_threshold:
            return self._start_large(job)
        try:
            op = self.begin(job)
        except StoreError as error:
            self.fell(job, error)
            return None
        if op is not None:
            self.open += 1
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
            self.fell(job, error)
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
            if self.access.held:
                self.access.fine()
        else:
            self.fell(job, error)

    def fell(self, job: Job, error: StoreError) -> None:
        """A job came to nothing: once more as its source is now, or failed, or left undone for a later run."""
        if job.batch.dropped:
            return
        if not job.attempts and self._worth_again(job, error):
            if not self.stopping:
                job.attempts = 1
                self.renew(job)
        elif not self.access.refused(job, error):
            job.batch.failed(job, error)
        if self.access.held and not (self.open or self.parted or self.backlog):
            self.access.settle()

    def _worth_again(self, job: Job, error: StoreError) -> bool:
        """The source changed; or a large object came to nothing as a whole (damaged, or its upload was removed)."""
        if isinstance(error, ChangedError):
            return True
        if job.size <= self.part_threshold:
            return False
        return isinstance(error, CorruptError) or (isinstance(error, NotFoundError) and error.code == "NoSuchUpload")

    def ask_source(self, job: Job, lane: Lane) -> None:
        """:meth:`renew` for sources that are objects."""
        self.open += 1
        lane.submit(Head(job.key, self._asked, job))

    def _asked(self, op: Head) -> None:
        job: Job = op.job
        self.open -= 1
        if op.error is not None or op.info is None:
            error = as_vanished(op.error) or StoreError("no answer", subject=repr(job.key))
            self.fell(job, error)
            return
        if isinstance(job.evidence, bytes):
            job.evidence = op.info.etag
        self.begin_again(job, op.info.size)

    def begin_again(self, job: Job, size: int) -> None:
        """``job`` is to begin once more; its source has ``size`` bytes now."""
        job.resize(size)
        if not self.stopping:
            self._again.append(job)
            self.work()

    def parted_finished(self, parted: Parted, error: StoreError | None) -> None:
        """A parted transfer ended; None means copied and verified, or kept for later."""
        if parted in self.parted:
            self.parted.remove(parted)
        if parted.kept:
            return
        if error is None:
            parted.job.batch.copied(parted.job)
            if self.access.held:
                self.access.fine()
        else:
            self.fell(parted.job, error)

    def put_back(self, job: Job) -> None:
        """Take a job that another mover had begun."""
        if not self.stopping:
            self._again.append(job)
            self.work()

    def hand_over(self, other: LaneMover) -> None:
        """Give all rows that are not begun to another mover."""
        if self._rows:
            other.offer(self._batch, list(self._rows))
            self._rows.clear()
        other._pending.extend(self._pending)
        self._pending.clear()
        other._again.extend((*self._large, *self._again))
        self._large.clear()
        self._again.clear()

    # -- Mover -----------------------------------------------------------------------------------------------------

    def offer(self, batch: Batch, rows: list[Row]) -> None:
        self._pending.append((batch, deque(rows)))

    @property
    def backlog(self) -> int:
        waiting = len(self._rows) + len(self._large) + len(self._again)
        return waiting + sum(len(rows) for _, rows in self._pending)

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
        self._again.clear()
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


STANDING = frozenset({"NoSuchBucket", "NoSuchBucketName", "BucketNotFound", "ContainerNotFound", "NoSuchUpload"})
"""What else may be missing than the object."""


def as_vanished(error: StoreError | None) -> StoreError | None:
    """An object that was listed and is gone has vanished: counted, but no failure (fault case 35)."""
    if isinstance(error, NotFoundError) and error.code not in STANDING:
        return VanishedError(error.message, subject=error.subject)
    return error


def wrong_size(job: Job, size: int) -> StoreError:
    """Another number of bytes came than the source has: it changed; or, right after a look, a body was cut."""
    if not job.attempts:
        return ChangedError(f"{job.key!r} was listed with {job.size} bytes, {size} came", subject=repr(job.key))
    return CorruptError(
        f"{job.key!r} has {job.size} bytes, but {size} came",
        subject=repr(job.key),
        hint="a proxy may cut or unpack bodies: use the store itself",
    )
