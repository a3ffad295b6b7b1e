"""Uploads: files become objects, small ones whole from memory, large ones in parts straight from the file."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.model.errors import ChangedError, NotFoundError, StoreError
from entrepot.storage.base import FileRegion, Lane, Op, Part, Put, PutPart, Store
from entrepot.storage.posix.reader import SourceFile, read_small
from entrepot.storage.posix.root import Root
from entrepot.transfer.job import Job

from .meta import MetaRules
from .mover import Journal, LaneMover
from .parted import Ends, Parted, UploadParted, part_size_for

HELD_MAX = 48 << 20
"""Bytes of bodies in memory, per process."""


class UploadMover(LaneMover):
    """Files below ``root`` to objects on ``lane``."""

    held_max = HELD_MAX

    def __init__(
        self,
        root: Root,
        lane: Lane,
        destination: Store,
        journal: Journal,
        rules: MetaRules,
        part_size: int,
        clock: Callable[[], float],
        *,
        verify: bool,
    ) -> None:
        super().__init__(lane, journal, part_size if destination.caps.multipart else destination.caps.put_max)
        self.root = root
        self.destination = destination
        self.rules = rules
        self.part_size = part_size
        self.clock = clock
        self.verify = verify

    def begin(self, job: Job) -> Op | None:
        try:
            body, mtime_ns = read_small(self.root, job.key, job.size)
        except ChangedError:
            if job.attempts:
                raise
            job.attempts = 1
            job.resize(self.root.lstat(job.key).st_size)
            body, mtime_ns = read_small(self.root, job.key, job.size)
        self.held += len(body)
        return Put(job.key, body, self._stored, job, meta=self.rules.of_file(job.key, mtime_ns), verify=self.verify)

    def _stored(self, op: Put) -> None:
        self.held -= len(op.body)  # type: ignore[arg-type]
        self.finished(op.job, op.error, op.proof)

    def begin_large(self, job: Job) -> Parted:
        return FileParted(job, self)

    def renew(self, job: Job) -> None:
        try:
            size = self.root.lstat(job.key).st_size
        except StoreError as error:
            self.fell(job, error)
        else:
            self.begin_again(job, size)


class FileParted(UploadParted):
    """Regions of one open file become parts; the file is checked once more before they are joined."""

    def __init__(self, job: Job, mover: UploadMover) -> None:
        self._file = SourceFile(mover.root, job.key)
        job.resize(self._file.size)
        job.evidence = self._file.mtime_ns
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
            mover.lane,
            mover.journal.port,
            upload_id=upload_id,
            have=have,
            clock=mover.clock,
        )
        self._mover = mover
        self.prepare(mover.rules.of_file(job.key, self._file.mtime_ns))

    def part_op(self, number: int) -> Op:
        offset, length = self.span(number)
        region = FileRegion(self._file.fd, offset, length)
        return PutPart(self.job.key, self.upload_id, number, region, self._stored, number, verify=self._mover.verify)

    def _stored(self, op: PutPart) -> None:
        self.part_stored(op.number, op.part, op.error)

    def check_source(self) -> None:
        """The open file is as it was, and it is still the one that bears the name."""
        self._file.recheck()
        there, here = self._mover.root.lstat(self.job.key), self._file.state
        if (there.st_ino, there.st_dev) != (here.st_ino, here.st_dev):
            raise ChangedError(
                f"{self.job.key!r} was replaced while it was read",
                subject=repr(self.job.key),
                hint="run again when the source is at rest",
            )

    def close(self) -> None:
        self._file.close()

    def wake(self) -> None:
        self._mover.work()


def recall_upload(job: Job, journal: Journal, destination: Store, part_size: int) -> tuple[int, str, list[Part]]:
    """(part size, upload id or "", parts the store holds) to go on with; an upload that does not fit is aborted.

    An upload fits when size, source version and part sizes are the same (fault cases 43-45).
    """
    partial = journal.recall(job.key)
    if partial is None:
        return part_size, "", []
    if not partial.upload_id:
        _abort_since(destination, job.key, partial.started)
        return part_size, "", []
    fits = partial.size == job.size and partial.evidence == job.evidence and partial.part_size > 0
    if fits:
        try:
            parts = destination.upload_parts(job.key, partial.upload_id)
        except NotFoundError:
            return part_size, "", []
        if all(part.size == _span(job.size, partial.part_size, part.number) for part in parts):
            return partial.part_size, partial.upload_id, parts
    _abort(destination, job.key, partial.upload_id)
    return part_size, "", []


def _span(size: int, part_size: int, number: int) -> int:
    return min(part_size, size - (number - 1) * part_size)


def _abort(destination: Store, key: bytes, upload_id: str) -> None:
    try:
        destination.abort_upload(key, upload_id)
    except NotFoundError:
        return


CLOCK_SLACK = 120.0
"""Seconds by which a store's clock may lag behind ours when uploads of a crashed moment are looked for."""


def _abort_since(destination: Store, key: bytes, started: float) -> None:
    """A crash fell between journaling and the store's answer: abort what was begun on this very key since."""
    for found, upload_id, initiated in destination.uploads(key):
        if found == key and initiated >= started - CLOCK_SLACK:
            _abort(destination, key, upload_id)


def discard_upload(destination: Store, key: bytes, upload_id: str, started: float) -> None:
    """Remove what a journaled upload left at the store. Raises StoreError when that fails."""
    if upload_id:
        _abort(destination, key, upload_id)
    else:
        _abort_since(destination, key, started)


__all__ = ["FileParted", "StoreError", "UploadMover", "discard_upload", "recall_upload"]
