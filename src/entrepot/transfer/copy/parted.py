"""Parted transfers: one large object moved in parts, in parallel, resumable, committed only when whole.

States: preparing (an upload is created) → moving (parts in flight) → completing → over. A drained transfer waits for
its parts in flight and stays in the journal; a cancelled one is undone.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from time import monotonic

from entrepot.model.errors import ChangedError, CorruptError, FormatError, NotFoundError, StoreError
from entrepot.model.shard import LedgerPort, Partial
from entrepot.storage.base import (
    AbortUpload,
    Capabilities,
    CompleteUpload,
    CreateUpload,
    Lane,
    Meta,
    Op,
    Part,
)
from entrepot.transfer.job import Job

MIB = 1 << 20
NEAR = 0.004
"""Seconds for a first small answer, up to which a store counts as near."""

PARTS_NEAR = 1
"""Parts of one object read at once from a near store: few, so that their bytes are still in the processor's cache (and
in short socket buffers) when they are passed on; measured up to a fifth cheaper than 16."""

PARTS_IN_FLIGHT = 16
"""Parts of one object in flight at once."""


def part_size_for(size: int, wanted: int, caps: Capabilities) -> int:
    """Part size in bytes for an object of ``size``: ``wanted`` grown until the store's part count suffices.

    Raises FormatError when no part size fits (the object is too large for the store; fault case 47).
    """
    if caps.part_fixed:
        part = caps.part_fixed
    else:
        part = max(wanted, caps.part_min)
        while -(-size // part) > caps.parts_max:
            part *= 2
        part = min(part, caps.part_max)
    if -(-size // part) > caps.parts_max:
        raise FormatError(
            f"{size} bytes are more than the destination can take ({caps.parts_max} parts of {part} bytes)",
            hint="split the file, or choose another destination",
        )
    return part


@dataclass(slots=True)
class Ends:
    """The two callbacks of a parted transfer."""

    finished: Callable[[Parted, StoreError | None], None]
    wake: Callable[[], None]
    """Called when parts can be asked for again (after preparing)."""


class Parted:
    """Base of all parted transfers: numbering, what is in flight, and the end. Parts are numbered from 1."""

    def __init__(self, job: Job, part_size: int, ends: Ends) -> None:
        self.job = job
        self.part_size = part_size
        self.count = max(1, -(-job.size // part_size))
        self.moved = 0
        self.stopping = ""
        self.flying = 0
        self.missing: list[int] = list(range(self.count, 0, -1))
        self.width = PARTS_IN_FLIGHT
        """Parts in flight at once."""
        self._asked_at = 0.0
        self.ready = False
        self.over = False
        self.kept = False
        """True when a stop ended it, in the journal or undone: neither copied nor failed."""
        self.error: StoreError | None = None
        self._ends = ends

    def ask(self, lane: Lane, op: Op) -> None:
        """Send the first small request: its answer tells how far the store is."""
        self.flying += 1
        self._asked_at = monotonic()
        lane.submit(op)

    def answered(self) -> bool:
        """The first answer is here; True when the store is near."""
        self.flying -= 1
        near = monotonic() - self._asked_at <= NEAR
        self.width = PARTS_NEAR if near else PARTS_IN_FLIGHT
        return near

    def span(self, number: int) -> tuple[int, int]:
        """(offset, length) of a part."""
        offset = (number - 1) * self.part_size
        return offset, min(self.part_size, self.job.size - offset)

    def next_op(self) -> Op | None:
        """The operation for the next missing part, or None when none can begin now."""
        if not self.ready or self.stopping or self.error or not self.missing or self.flying >= self.width:
            return None
        number = self.missing.pop()
        self.flying += 1
        try:
            return self.part_op(number)
        except StoreError as error:
            self.flying -= 1
            self.fail(error)
            return None

    def part_op(self, number: int) -> Op:
        """The operation that moves part ``number``."""
        raise NotImplementedError

    def part_done(self, number: int, error: StoreError | None) -> None:
        """Account for a part that came back."""
        self.flying -= 1
        if error is not None:
            self.error = self.error or error
        else:
            self.moved += self.span(number)[1]
        self.settle()

    def settle(self) -> None:
        """Go on when nothing is in flight."""
        if self.flying or self.over:
            return
        if self.error is not None:
            self.undo()
        elif self.stopping:
            self.rest()
        elif self.ready and not self.missing:
            self.commit()

    def fail(self, error: StoreError) -> None:
        """Give up: undo when nothing is in flight any more."""
        self.error = self.error or error
        self.settle()

    def commit(self) -> None:
        """All parts are there."""
        raise NotImplementedError

    def undo(self) -> None:
        """Remove what was moved; ends the transfer with ``error``."""
        raise NotImplementedError

    def rest(self) -> None:
        """Nothing is in flight and a stop was ordered: keep (pause) or undo (cancel). Either way it is not done."""
        self.kept = True
        if self.stopping == "cancel":
            self.undo()
        else:
            self.end(None)

    def drain(self, stop: str) -> None:
        """Begin no further part."""
        self.stopping = stop
        self.settle()

    def end(self, error: StoreError | None) -> None:
        """Tell the mover."""
        if not self.over:
            self.over = True
            self.close()
            self._ends.finished(self, error)

    def wake(self) -> None:
        """Parts can be asked for."""
        self._ends.wake()

    def close(self) -> None:
        """Release files."""


class UploadParted(Parted):
    """A parted transfer whose destination is a multipart upload on ``lane``."""

    def __init__(
        self,
        job: Job,
        part_size: int,
        ends: Ends,
        lane: Lane,
        port: LedgerPort,
        *,
        upload_id: str = "",
        have: list[Part] | None = None,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(job, part_size, ends)
        self.lane = lane
        self.port = port
        self.upload_id = upload_id
        self.parts: dict[int, Part] = {part.number: part for part in have or []}
        self.meta: Meta | None = None
        self.clock = clock
        if self.parts:
            self.missing = [n for n in self.missing if n not in self.parts]
            self.moved = sum(part.size for part in self.parts.values())

    def prepare(self, meta: Meta | None) -> None:
        """Create the upload (journaled before and after), or go on with the one recalled."""
        self.meta = meta
        if self.upload_id:
            self.ready = True
            self.settle()
            return
        self._journal()
        self.flying += 1
        self.lane.submit(CreateUpload(self.job.key, self._created, meta=meta))

    def _journal(self) -> None:
        self.port.save_partial(
            Partial(
                self.job.key,
                self.job.size,
                self.job.evidence,
                self.part_size,
                upload_id=self.upload_id,
                started=self.clock(),
            )
        )

    def _created(self, op: CreateUpload) -> None:
        self.flying -= 1
        if op.error is not None:
            self.error = op.error
        else:
            self.upload_id = op.upload_id
            self._journal()
            self.ready = True
        self.settle()
        if self.ready and not self.over:
            self.wake()

    def part_stored(self, number: int, part: Part | None, error: StoreError | None) -> None:
        """A part arrived at the destination (or failed)."""
        if part is not None:
            self.parts[number] = part
        self.part_done(number, error)

    def check_source(self) -> None:
        """Raise ChangedError when the source is no longer the version that was read."""

    def commit(self) -> None:
        try:
            self.check_source()
        except StoreError as error:
            self.fail(error)
            return
        self.flying += 1
        parts = [self.parts[n] for n in sorted(self.parts)]
        self.lane.submit(CompleteUpload(self.job.key, self.upload_id, parts, self._completed, meta=self.meta))

    def _completed(self, op: CompleteUpload) -> None:
        self.flying -= 1
        if op.error is not None:
            self.fail(op.error)
            return
        self.job.proof = op.proof
        self.port.drop_partial(self.job.key)
        self.end(None)

    def undo(self) -> None:
        if not self.upload_id:
            self.port.drop_partial(self.job.key)
            self.end(self.error)
            return
        if self.error is not None and not self.stopping and _worth_keeping(self.error):
            self.end(self.error)
            return
        self.flying += 1
        self.lane.submit(AbortUpload(self.job.key, self.upload_id, self._aborted))

    def _aborted(self, op: AbortUpload) -> None:
        self.flying -= 1
        if op.error is None or isinstance(op.error, NotFoundError):
            self.port.drop_partial(self.job.key)
        self.end(self.error)


def _worth_keeping(error: StoreError) -> bool:
    """A fault of the moment (timeout, throttling, space) leaves the upload for the next run; others do not."""
    return error.retryable and not isinstance(error, ChangedError | CorruptError)
