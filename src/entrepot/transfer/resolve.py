"""Resolve: the closer look at doubtful rows (same size, listings cannot tell). It answers equal or copy.

The strongest evidence that both sides have decides, in this order: a checksum kept by both stores, the MD5 etag of the
store against the file's bytes, the original mtime kept in metadata, the order of times, the contents.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from hashlib import md5
from typing import Protocol

from entrepot.storage.crc32c import crc32c

from entrepot.model.entry import Info, Row
from entrepot.model.errors import NotFoundError, StoreError
from entrepot.model.options import Compare
from entrepot.storage.base import Get, Head, Lane
from entrepot.storage.posix.reader import SourceFile
from entrepot.storage.posix.root import Root

from .compare import SECOND, Way, is_md5
from .job import Batch, Job

IN_FLIGHT = 256
CHUNK = 1 << 20


class CopyOffer(Protocol):
    """Where rows go that turned out to differ."""

    def __call__(self, batch: Batch, rows: list[Row]) -> None: ...


class Crc32cSink:
    """Folds a body into its CRC-32C, in order."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def write(self, offset: int, piece: memoryview) -> None:
        """Take the next piece; a body begun again starts anew."""
        self.value = crc32c(bytes(piece), 0 if offset == 0 else self.value)


class _Look:
    """One doubtful job and what is known of its two sides so far."""

    __slots__ = ("awaiting", "error", "job", "sides", "sums")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.awaiting = 0
        self.error: StoreError | None = None
        self.sides: list[Info | None] = [None, None]
        self.sums: list[int | None] = [None, None]


class Resolver:
    """Looks closer at rows. ``source`` and ``destination`` are a lane or a Root each."""

    def __init__(
        self,
        mode: Compare,
        way: Way,
        source: Lane | Root | None,
        destination: Lane | Root | None,
        copy: CopyOffer,
        *,
        md5_etags: Callable[[], bool],
    ) -> None:
        self._mode = mode
        self._way = way
        self._sides: tuple[Lane | Root | None, Lane | Root | None] = (source, destination)
        self._copy = copy
        self._md5_etags = md5_etags
        self._pending: deque[tuple[Batch, Row]] = deque()
        self._open = 0
        self.stopping = False

    @property
    def busy(self) -> bool:
        """True while something is in flight."""
        return self._open > 0

    @property
    def backlog(self) -> int:
        """Rows not yet looked at."""
        return len(self._pending)

    def offer(self, batch: Batch, rows: list[Row]) -> None:
        """Take doubtful rows."""
        self._pending.extend((batch, row) for row in rows)

    def drain(self) -> None:
        """Begin nothing new."""
        self._pending.clear()

    def work(self) -> bool:
        """Begin looks while there is room."""
        began = False
        while self._pending and self._open < IN_FLIGHT:
            batch, (key, evidence, size) = self._pending.popleft()
            if batch.dropped:
                continue
            self._begin(_Look(Job(key, evidence, size, batch)))
            began = True
            if self._way == "local":
                break
        return began

    def _begin(self, look: _Look) -> None:
        self._open += 1
        look.awaiting = 1
        for side, place in enumerate(self._sides):
            if place is None or isinstance(place, Root):
                continue
            look.awaiting += 1
            place.submit(Head(look.job.key, self._headed, (look, side)))
        self._step(look)

    def _headed(self, op: Head) -> None:
        look, side = op.job
        if op.error is not None and not isinstance(op.error, NotFoundError):
            look.error = look.error or op.error
        look.sides[side] = op.info
        self._step(look)

    def _step(self, look: _Look) -> None:
        look.awaiting -= 1
        if look.awaiting:
            return
        try:
            verdict = None if look.error else self._judge(look)
        except StoreError as error:
            look.error = error
            verdict = None
        if look.error is not None:
            self._open -= 1
            look.job.batch.failed(look.job, look.error)
        elif verdict is None:
            self._read_contents(look)
        else:
            self._decide(look, verdict)

    def _decide(self, look: _Look, equal: bool) -> None:
        self._open -= 1
        job = look.job
        if equal:
            job.batch.equal(job)
        else:
            job.batch.open -= 1
            job.batch.open += 1
            self._copy(job.batch, [(job.key, job.evidence, job.size)])

    # -- judging ---------------------------------------------------------------------------------------------------

    def _judge(self, look: _Look) -> bool | None:
        """Equal, different, or None when only the contents can tell."""
        if self._way == "local":
            return self._local_equal(look.job.key)
        if self._way == "store":
            return self._stores(look)
        info = look.sides[1] if self._way == "upload" else look.sides[0]
        if info is None or info.size != look.job.size:
            return False
        place = self._sides[0] if self._way == "upload" else self._sides[1]
        assert isinstance(place, Root)
        with SourceFile(place, look.job.key) as file:
            return self._file_and_object(file, info)

    def _stores(self, look: _Look) -> bool | None:
        mine, theirs = look.sides
        if mine is None or theirs is None or mine.size != theirs.size:
            return False
        for a, b in ((mine.crc64nvme, theirs.crc64nvme), (mine.crc32c, theirs.crc32c)):
            if a is not None and b is not None:
                return a == b
        if mine.etag == theirs.etag and is_md5(mine.etag):
            return True
        if self._mode == "checksum":
            return None
        if self._mode == "etag":
            return mine.etag == theirs.etag
        if mine.source_mtime_ns is not None and theirs.source_mtime_ns is not None:
            return _same_instant(mine.source_mtime_ns, theirs.source_mtime_ns)
        if theirs.source_mtime_ns is not None:
            return _same_instant(mine.mtime_ns, theirs.source_mtime_ns)
        if self._mode == "mtime":
            return False
        return not (is_md5(mine.etag) and is_md5(theirs.etag)) and theirs.mtime_ns >= mine.mtime_ns

    def _file_and_object(self, file: SourceFile, info: Info) -> bool | None:
        if self._mode in ("checksum", "etag"):
            if info.crc32c is not None and self._mode == "checksum":
                return _crc_of(file) == info.crc32c
            if is_md5(info.etag) and self._md5_etags():
                return _md5_of(file) == info.etag
            return None if self._mode == "checksum" else False
        if info.source_mtime_ns is not None:
            return _same_instant(file.mtime_ns, info.source_mtime_ns)
        if self._mode == "mtime":
            return _same_instant(file.mtime_ns, info.mtime_ns)
        if is_md5(info.etag) and self._md5_etags():
            return _md5_of(file) == info.etag
        return False

    def _local_equal(self, key: bytes) -> bool:
        mine, theirs = self._sides
        assert isinstance(mine, Root) and isinstance(theirs, Root)
        with SourceFile(mine, key) as a, SourceFile(theirs, key) as b:
            return a.size == b.size and _crc_of(a) == _crc_of(b)

    # -- contents --------------------------------------------------------------------------------------------------

    def _read_contents(self, look: _Look) -> None:
        """Read both sides and compare CRC-32C and length."""
        look.awaiting = 1
        for side, place in enumerate(self._sides):
            if isinstance(place, Root):
                with SourceFile(place, look.job.key) as file:
                    look.sums[side] = _crc_of(file)
                continue
            if place is None:
                continue
            look.awaiting += 1
            place.submit(Get(look.job.key, self._contents, (look, side), sink=Crc32cSink()))
        self._contents_step(look)

    def _contents(self, op: Get) -> None:
        look, side = op.job
        look.error = look.error or op.error
        assert isinstance(op.sink, Crc32cSink)
        look.sums[side] = op.sink.value
        self._contents_step(look)

    def _contents_step(self, look: _Look) -> None:
        look.awaiting -= 1
        if look.awaiting:
            return
        if look.error is not None:
            self._open -= 1
            look.job.batch.failed(look.job, look.error)
        else:
            self._decide(look, look.sums[0] == look.sums[1])


def _same_instant(a: int, b: int) -> bool:
    """Equal at the precision of the coarser one (whole seconds, or microseconds as text formats keep)."""
    if a == b or abs(a - b) < 1000:
        return True
    return (a % SECOND == 0 or b % SECOND == 0) and a // SECOND == b // SECOND


def _md5_of(file: SourceFile) -> bytes:
    digest = md5()
    for piece in _pieces(file):
        digest.update(piece)
    return digest.hexdigest().encode()


def _crc_of(file: SourceFile) -> int:
    value = 0
    for piece in _pieces(file):
        value = crc32c(piece, value)
    return value


def _pieces(file: SourceFile) -> Iterator[bytes]:
    """The file's bytes from the start, and the check that it stayed the same."""
    offset = 0
    while piece := os.pread(file.fd, CHUNK, offset):
        offset += len(piece)
        yield piece
    file.recheck()
