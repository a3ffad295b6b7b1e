"""Server-side copies: the store moves the bytes by itself, whole or by parts above its limit."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.model.errors import ChangedError, StoreError
from entrepot.storage.base import Copy, CopyPart, Head, Lane, Op, Store
from entrepot.transfer.job import Job

from .meta import MetaRules
from .mover import Journal, LaneMover, as_vanished
from .parted import Ends, Parted, UploadParted, part_size_for
from .upload import discard_upload

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
    ) -> None:
        super().__init__(lane, journal, min(destination.caps.copy_max, 5 << 30))
        self.source = source
        self.source_lane = source_lane
        self.destination = destination
        self.rules = rules
        self.clock = clock

    def begin(self, job: Job) -> Op | None:
        return Copy(job.key, self.source, job.key, self._copied, job)

    def _copied(self, op: Copy) -> None:
        self.finished(op.job, as_vanished(op.error), op.proof)

    def begin_large(self, job: Job) -> Parted:
        return ServerParted(job, self)

    def renew(self, job: Job) -> None:
        self.ask_source(job, self.source_lane)


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
