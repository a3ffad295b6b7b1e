"""Server-side copies: the store moves the bytes by itself, whole or by parts above its limit."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.model.entry import Row
from entrepot.model.errors import ChangedError, StoreError
from entrepot.storage.base import Copy, CopyPart, Head, Lane, Op, Store
from entrepot.transfer.job import Batch, Job

from .meta import MetaRules
from .mover import Journal, LaneMover, as_vanished
from .parted import Ends, Parted, UploadParted, part_size_for
from .through import ThroughMover
from .upload import discard_upload

REFUSALS = frozenset({"NotImplemented", "XNotImplemented", "MethodNotAllowed", "501", "405"})
"""The store does not copy by itself at all: everything else goes through this process."""

DENIALS = frozenset({"AccessDenied", "403"})
"""A copy inside the store needs more rights than reading and writing (those on tags): one object goes another way."""

COPY_PART = 512 << 20
"""Part size of server-side copies (bytes): the bytes do not pass through us, so few large parts are best."""


class ServerMover(LaneMover):
    """Copies inside one endpoint. One request per object, without a HEAD."""

    def __init__(
        self,
        lane: Lane,
        source: Store,
        destination: Store,
        journal: Journal,
        rules: MetaRules,
        clock: Callable[[], float],
        source_lane: Lane,
        through: ThroughMover | None = None,
    ) -> None:
        super().__init__(lane, journal, min(destination.caps.copy_max, 5 << 30))
        self.source = source
        self.source_lane = source_lane
        self.destination = destination
        self.rules = rules
        self.clock = clock
        self.through = through
        """Takes over what the store will not copy by itself; None where that would lose what was asked for."""
        self._refused = False
        if through is not None:
            source_lane.feed = through.feed

    def begin(self, job: Job) -> Op | None:
        return Copy(job.key, self.source, job.key, self._copied, job)

    def _copied(self, op: Copy) -> None:
        self.finished(op.job, as_vanished(op.error), op.proof)

    def fell(self, job: Job, error: StoreError) -> None:
        if self.through is None or error.code not in REFUSALS | DENIALS:
            super().fell(job, error)
            return
        if error.code in REFUSALS and not self._refused:
            self._refused = True
            self.hand_over(self.through)
        self.through.put_back(job)

    def begin_large(self, job: Job) -> Parted:
        return ServerParted(job, self)

    def renew(self, job: Job) -> None:
        self.ask_source(job, self.source_lane)

    # -- both movers as one ----------------------------------------------------------------------------------------

    def offer(self, batch: Batch, rows: list[Row]) -> None:
        if self._refused and self.through is not None:
            self.through.offer(batch, rows)
        else:
            super().offer(batch, rows)

    @property
    def backlog(self) -> int:
        return super().backlog + (self.through.backlog if self.through is not None else 0)

    @property
    def busy(self) -> bool:
        return super().busy or (self.through is not None and self.through.busy)

    def work(self) -> bool:
        began = super().work()
        if self.through is not None and (self.through.backlog or self.through.busy):
            began |= self.through.work()
        return began

    def drain(self, stop: str) -> None:
        super().drain(stop)
        if self.through is not None:
            self.through.drain(stop)

    def forget(self, batch: Batch) -> None:
        super().forget(batch)
        if self.through is not None:
            self.through.forget(batch)

    def live_bytes(self) -> int:
        return super().live_bytes() + (self.through.live_bytes() if self.through is not None else 0)

    def close(self) -> None:
        super().close()
        if self.through is not None:
            self.through.close()


class ServerParted(UploadParted):
    """A server-side copy by parts; the source's metadata is read once and pinned by its etag."""

    def __init__(self, job: Job, mover: ServerMover) -> None:
        size = part_size_for(job.size, COPY_PART, mover.destination.caps)
        recalled = mover.journal.recall(job.key)
        super().__init__(
            job,
            size,
            Ends(mover.parted_finished, lambda: None),
            mover.lane,
            mover.journal.port,
            clock=mover.clock,
        )
        if recalled is not None:
            discard_upload(mover.destination, job.key, recalled.upload_id, recalled.started)
        self._mover = mover
        self._etag = b""
        self.flying += 1
        mover.source_lane.submit(Head(job.key, self._headed))

    def _headed(self, op: Head) -> None:
        self.flying -= 1
        if op.error is not None or op.info is None:
            self.fail(as_vanished(op.error) or StoreError("no answer", subject=repr(self.job.key)))
            return
        if op.info.size != self.job.size:
            self.fail(ChangedError(f"{self.job.key!r} changed since it was listed", subject=repr(self.job.key)))
            return
        self._etag = op.info.etag
        self.prepare(self._mover.rules.of_object(op.info))

    def part_op(self, number: int) -> Op:
        offset, length = self.span(number)
        return CopyPart(
            self.job.key,
            self.upload_id,
            number,
            self._mover.source,
            self.job.key,
            offset,
            length,
            self._part_copied,
            number,
            if_match=self._etag,
        )

    def _part_copied(self, op: CopyPart) -> None:
        self.part_stored(op.number, op.part, as_vanished(op.error))

    def wake(self) -> None:
        self._mover.work()
