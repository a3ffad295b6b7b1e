"""Downloads: objects become files, always under a temporary name until every byte is verified."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable
from hashlib import blake2b

from entrepot.model.entry import INLINE_SIZE, Info
from entrepot.model.errors import ChangedError, NameNotPossibleError, StoreError, VanishedError
from entrepot.model.options import SyncOptions
from entrepot.model.shard import Partial
from entrepot.storage.base import Get, Head, Lane, Op
from entrepot.storage.crc32c import crc32c
from entrepot.storage.posix.faults import write_error
from entrepot.storage.posix.names import to_path
from entrepot.storage.posix.staging import Staged, Staging
from entrepot.transfer.job import Job

from .digest import EtagLesson, WholeDigest
from .mover import Journal, LaneMover, as_vanished, wrong_size
from .parted import Ends, Parted

SAVE_EVERY = 1.0
"""Seconds between two notes of how far a large object came."""


class StagedSink:
    """Writes a body into a staged file at its place."""

    __slots__ = ("_fd", "_key")

    def __init__(self, staged: Staged, key: bytes) -> None:
        self._fd = staged.fd
        self._key = key

    def write(self, offset: int, piece: memoryview) -> None:
        """pwrite; a full disk is a QuotaError."""
        try:
            done = os.pwrite(self._fd, piece, offset)
            while done < len(piece):
                done += os.pwrite(self._fd, piece[done:], offset + done)
        except OSError as error:
            raise write_error(error, self._key) from None


class CrcSink(StagedSink):
    """A staged sink that folds one part, from ``start`` on, into its CRC-32C; a part begun again starts anew."""

    __slots__ = ("_start", "crc")

    def __init__(self, staged: Staged, key: bytes, start: int) -> None:
        super().__init__(staged, key)
        self._start = start
        self.crc = 0

    def write(self, offset: int, piece: memoryview) -> None:
        """Write, and fold while the piece is in the cache."""
        super().write(offset, piece)
        self.crc = crc32c(piece, 0 if offset == self._start else self.crc)


class DownloadMover(LaneMover):
    """Objects on ``lane`` to files below the staging's root."""

    def __init__(
        self,
        lane: Lane,
        staging: Staging,
        journal: Journal,
        options: SyncOptions,
        part_size: int,
        clock: Callable[[], float],
    ) -> None:
        super().__init__(lane, journal, part_size)
        self.staging = staging
        self.part_size = part_size
        self.clock = clock
        self.verify = options.verify != "none"
        self._keeps_mtime = "mtime" in options.preserve
        self.lesson = EtagLesson()

    def begin(self, job: Job) -> Op | None:
        key = job.key
        if (key.endswith(b"/") and not (job.size and self.staging.root.escape)) or not key:
            self._marker(job)
            return None
        if job.size <= INLINE_SIZE:
            return Get(key, self._small, job, verify=self.verify)
        to_path(key, self.staging.root.escape)
        staged = self.staging.begin(staged_name(key), job.size)
        return Get(key, self._medium, (job, staged), sink=StagedSink(staged, key), verify=self.verify)

    def _marker(self, job: Job) -> None:
        """A key that ends in "/" stands for a directory; with bytes in it it has no place in a file system."""
        if job.size:
            raise NameNotPossibleError(
                f"{job.key!r} ends in '/' but holds {job.size} bytes: a file system cannot hold it",
                subject=repr(job.key),
                hint="rename the object, or use --escape-names",
            )
        if job.key and self._make_directory(job.key):
            job.batch.copied(job)
        else:
            job.batch.equal(job)

    def _make_directory(self, key: bytes) -> bool:
        root = self.staging.root
        try:
            if stat.S_ISDIR(root.lstat(key.rstrip(b"/")).st_mode):
                return False
        except VanishedError:
            root.make_directory(to_path(key.rstrip(b"/"), root.escape), key)
            return True
        raise NameNotPossibleError(
            f"{key!r} stands for a directory, but a file of this name is in the way",
            subject=repr(key),
            hint="a file and a directory of one name cannot both exist; rename one of the two",
        )

    def mtime(self, info: Info) -> int | None:
        """The mtime to give the file: the original file's if known, else the object's."""
        if not self._keeps_mtime:
            return None
        return info.source_mtime_ns if info.source_mtime_ns is not None else info.mtime_ns

    def _small(self, op: Get) -> None:
        job: Job = op.job
        error = op.error
        if error is None and len(op.body) != job.size:
            error = wrong_size(job, len(op.body))
        if error is None and not job.batch.dropped:
            try:
                self.staging.write_small(job.key, op.body, self.lane.stamp(op) if self._keeps_mtime else None)
            except StoreError as fault:
                error = fault
        self.finished(job, as_vanished(error), op.proof)

    def _medium(self, op: Get) -> None:
        job, staged = op.job
        error = op.error
        try:
            if error is not None or job.batch.dropped:
                self.staging.discard(staged)
            else:
                info = self.lane.info(op)
                if info.size != job.size:
                    self.staging.discard(staged)
                    raise wrong_size(job, info.size)
                self.staging.commit(staged, job.key, self.mtime(info))
        except StoreError as fault:
            error = error or fault
        self.finished(job, as_vanished(error), op.proof)

    def begin_large(self, job: Job) -> Parted:
        if job.key.endswith(b"/") and not self.staging.root.escape:
            self._marker(job)
        to_path(job.key, self.staging.root.escape)
        return DownloadParted(job, self)

    def renew(self, job: Job) -> None:
        self.ask_source(job, self.lane)


class DownloadParted(Parted):
    """Ranges of one object, pinned by its etag, written into one staged file."""

    def __init__(self, job: Job, mover: DownloadMover) -> None:
        recalled = mover.journal.recall(job.key)
        part_size = recalled.part_size if recalled is not None and recalled.part_size > 0 else mover.part_size
        super().__init__(job, part_size, Ends(mover.parted_finished, lambda: None))
        self._mover = mover
        self._staged: Staged | None = None
        self._info: Info | None = None
        self._recalled = recalled
        self._digest: WholeDigest | None = None
        self._arrived = 0
        """Parts from the first on that are all there."""
        self._gaps: set[int] = set()
        self._saved = 0.0
        self.ask(mover.lane, Head(job.key, self._headed))

    def _headed(self, op: Head) -> None:
        self.answered()
        if op.error is not None or op.info is None:
            self.fail(as_vanished(op.error) or StoreError("no answer", subject=repr(self.job.key)))
            return
        self._info = op.info
        if op.info.size != self.job.size:
            self.fail(ChangedError(f"{self.job.key!r} changed since it was listed", subject=repr(self.job.key)))
            return
        try:
            self._open(op.info)
        except StoreError as error:
            self.fail(error)
            return
        if self._mover.verify:
            self._digest = WholeDigest(op.info, self._mover.lesson)
        self._eat()
        self.ready = True
        self.settle()
        if not self.over:
            self._mover.work()

    def _eat(self) -> None:
        """Digest the front of the file as far as it has arrived."""
        while self._arrived < self.count and self._arrived + 1 not in self._gaps:
            self._arrived += 1
        if self._digest is not None and self._staged is not None:
            self._digest.advance(self._staged.fd, min(self._arrived * self.part_size, self.job.size))

    def _open(self, info: Info) -> None:
        """Go on with the staged file of an earlier run if it holds the same version, else begin a new one."""
        staging, old = self._mover.staging, self._recalled
        if old is not None and old.staged:
            fits = (old.size, old.evidence, old.part_size) == (info.size, info.etag, self.part_size)
            self._staged = staging.reopen(old.staged)
            if self._staged is not None and not (fits and self._staged.size == info.size):
                staging.discard(self._staged)
                self._staged = None
            if self._staged is not None and old.started > _boot_time(self._mover.clock()):
                finished = set(old.done)
                self.missing = [n for n in self.missing if n not in finished]
                self.moved = sum(self.span(n)[1] for n in finished)
        if self._staged is None:
            self._staged = staging.begin(staged_name(self.job.key), info.size)
        self._gaps = set(self.missing)
        self._save()

    def _save(self) -> None:
        assert self._staged is not None and self._info is not None
        self._saved = self._mover.clock()
        self._mover.journal.port.save_partial(
            Partial(
                self.job.key,
                self._info.size,
                self._info.etag,
                self.part_size,
                staged=f"{self._mover.staging.tag}/{self._staged.name}",
                done=[n for n in range(1, self.count + 1) if n not in self._gaps],
                started=self._saved,
            )
        )

    def part_op(self, number: int) -> Op:
        assert self._staged is not None and self._info is not None
        offset, length = self.span(number)
        return Get(
            self.job.key,
            self._written,
            number,
            offset=offset,
            length=length,
            if_match=self._info.etag,
            sink=self._sink(offset),
            verify=self._mover.verify,
        )

    def _sink(self, offset: int) -> StagedSink:
        assert self._staged is not None
        if self._digest is not None and self._digest.by_parts:
            return CrcSink(self._staged, self.job.key, offset)
        return StagedSink(self._staged, self.job.key)

    def _written(self, op: Get) -> None:
        number: int = op.job
        if op.error is not None:
            self.missing.append(number)
        else:
            self._gaps.discard(number)
            if self._digest is not None and isinstance(op.sink, CrcSink):
                self._digest.part(number, op.sink.crc)
            self._eat()
            if self._mover.clock() - self._saved > SAVE_EVERY:
                self._save()
        self.part_done(number, as_vanished(op.error))

    def commit(self) -> None:
        assert self._staged is not None and self._info is not None
        try:
            if self.job.batch.dropped:
                self._mover.staging.discard(self._staged)
            else:
                spans = [self.span(number) for number in range(1, self.count + 1)]
                if self._digest is not None:
                    self.job.proof = self._digest.check(self.job.key, self._staged.fd, spans)
                self._mover.staging.commit(self._staged, self.job.key, self._mover.mtime(self._info))
        except StoreError as error:
            self.fail(error)
            return
        self._staged = None
        self._mover.journal.port.drop_partial(self.job.key)
        self.end(None)

    def undo(self) -> None:
        if self._staged is not None:
            self._mover.staging.discard(self._staged)
            self._staged = None
            self._mover.journal.port.drop_partial(self.job.key)
        self.end(self.error)

    def rest(self) -> None:
        if self.stopping != "cancel" and self._staged is not None and self._info is not None:
            os.fsync(self._staged.fd)
            self._save()
        super().rest()

    def close(self) -> None:
        if self._staged is not None:
            self._mover.staging.suspend(self._staged)
            self._staged = None


def staged_name(key: bytes) -> str:
    """A name for the staged file of ``key`` that a later run finds again."""
    return blake2b(key, digest_size=16).hexdigest() + ".part"


def _boot_time(now: float) -> float:
    """When this machine came up (Unix time). Parts noted before may not have reached the disk."""
    return now - time.clock_gettime(time.CLOCK_BOOTTIME) if hasattr(time, "CLOCK_BOOTTIME") else now
