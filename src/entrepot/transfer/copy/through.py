"""Copies from store to store through this process: a read on one lane, the write on the other."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.model.errors import ChangedError, CorruptError, StoreError
from entrepot.storage.base import Get, Head, Lane, Op, Put, PutPart, Store
from entrepot.storage.s3.crc import combine_all
from entrepot.transfer.job import Job

from .digest import damaged
from .meta import MetaRules
from .mover import Journal, LaneMover, as_vanished, wrong_size
from .parted import Ends, Parted, UploadParted, part_size_for
from .upload import recall_upload

HELD_MAX = 48 << 20
"""Bytes read but not yet written, per process."""

HELD_NEAR = 16 << 20
"""The same for large objects of a near store: what is held should not leave the processor's cache."""

PAIRS_NEAR = 2
"""Parts of one object on their way through at a near store: while one is written the next is read."""


class ThroughMover(LaneMover):
    """Get from ``source_lane`` (which pulls), Put to ``lane_out`` as soon as the body is here."""

    held_max = HELD_MAX

    def __init__(
        self,
        source_lane: Lane,
        destination_lane: Lane,
        destination: Store,
        journal: Journal,
        rules: MetaRules,
        part_size: int,
        clock: Callable[[], float],
        *,
        verify: bool,
    ) -> None:
        super().__init__(source_lane, journal, part_size if destination.caps.multipart else destination.caps.put_max)
        self.out = destination_lane
        self.destination = destination
        self.rules = rules
        self.part_size = part_size
        self.clock = clock
        self.verify = verify

    def begin(self, job: Job) -> Op | None:
        self.held += job.size
        return Get(job.key, self._read, job, verify=self.verify)

    def _read(self, op: Get) -> None:
        job: Job = op.job
        if op.error is None and len(op.body) != job.size:
            op.error = wrong_size(job, len(op.body))
        if op.error is not None:
            self.held -= job.size
            self.finished(job, as_vanished(op.error))
            return
        info = self.lane.info(op)
        self.out.submit(
            Put(
                job.key,
                op.body,
                self._written,
                job,
                meta=self.rules.of_object(info),
                source_etag=info.etag,
                verify=self.verify,
            )
        )

    def _written(self, op: Put) -> None:
        job: Job = op.job
        self.held -= job.size
        self.finished(job, op.error, op.proof)
        if not self.lane_busy_enough():
            self.work()

    def lane_busy_enough(self) -> bool:
        """False when the reading lane has idle connections that nothing else will wake."""
        return not self.lane.hungry

    def begin_large(self, job: Job) -> Parted:
        return ThroughParted(job, self)

    def renew(self, job: Job) -> None:
        self.ask_source(job, self.lane)


class ThroughParted(UploadParted):
    """Ranges of the source, pinned by etag, become parts of the destination's upload."""

    def __init__(self, job: Job, mover: ThroughMover) -> None:
        size, upload_id, have = recall_upload(
            job,
            mover.journal,
            mover.destination,
            part_size_for(job.size, mover.part_size, mover.destination.caps),
        )
        super().__init__(
            job,
            size,
            Ends(mover.parted_finished, lambda: None),
            mover.out,
            mover.journal.port,
            upload_id=upload_id,
            have=have,
            clock=mover.clock,
        )
        self._mover = mover
        self._etag = b""
        self._crc: int | None = None
        self.ask(mover.lane, Head(job.key, self._headed))

    def _headed(self, op: Head) -> None:
        near = self.answered()
        self._mover.held_max = HELD_NEAR if near else HELD_MAX
        self.width = PAIRS_NEAR if near else self.width
        info = op.info
        if op.error is not None or info is None:
            self.fail(as_vanished(op.error) or StoreError("no answer", subject=repr(self.job.key)))
            return
        pinned = self.job.evidence
        if info.size != self.job.size or (isinstance(pinned, bytes) and info.etag != pinned):
            self.fail(ChangedError(f"{self.job.key!r} changed since it was listed", subject=repr(self.job.key)))
            return
        self._etag = info.etag
        self._crc = info.crc32c
        self.prepare(self._mover.rules.of_object(info))

    def part_op(self, number: int) -> Op:
        offset, length = self.span(number)
        self._mover.held += length
        return Get(
            self.job.key,
            self._read,
            number,
            offset=offset,
            length=length,
            if_match=self._etag,
            verify=self._mover.verify,
        )

    def _read(self, op: Get) -> None:
        number: int = op.job
        if op.error is None and len(op.body) != self.span(number)[1]:
            op.error = CorruptError(f"part {number} of {self.job.key!r} came back short", subject=repr(self.job.key))
        if op.error is not None:
            self._mover.held -= self.span(number)[1]
            self.part_stored(number, None, as_vanished(op.error))
            return
        self.lane.submit(
            PutPart(
                self.job.key,
                self.upload_id,
                number,
                op.body,
                self._written,
                number,
                verify=self._mover.verify,
            )
        )

    def _written(self, op: PutPart) -> None:
        self._mover.held -= self.span(op.number)[1]
        if op.error is None and isinstance(op.body, bytearray):
            body, op.body = op.body, b""
            self._mover.lane.recycle(body)
        self.part_stored(op.number, op.part, op.error)
        self._mover.work()

    def check_source(self) -> None:
        """The parts together must have the checksum that the source keeps: ranges of it have none."""
        parts = [self.parts[number] for number in sorted(self.parts)]
        if self._crc is None or not self._mover.verify or any(part.crc32c is None for part in parts):
            return
        if combine_all((part.crc32c or 0, part.size) for part in parts) != self._crc:
            raise damaged(self.job.key, "the checksum (CRC-32C) that the source keeps")

    def wake(self) -> None:
        self._mover.work()
