"""Resolve: the closer look at doubtful rows (same size, listings cannot tell). It answers equal or copy.

The strongest evidence that both sides have decides, in this order: a checksum kept by both stores, the MD5 etag of the
store against the file's bytes, the original mtime kept in metadata, the order of times, the contents.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterator
from hashlib import md5
from time import monotonic
from typing import Protocol

from entrepot.model.entry import Info, Row
from entrepot.model.errors import NotFoundError, StoreError
from entrepot.model.options import Compare
from entrepot.storage.base import Get, Head, Lane
from entrepot.storage.crc32c import crc32c
from entrepot.storage.posix.reader import SourceFile
from entrepot.storage.posix.root import Root

from .compare import SECOND, Way, is_md5
from .job import Batch, Job

IN_FLIGHT = 256
CHUNK = 1 << 20
SLICE = 0.02
"""Seconds of reading files between two looks at everything else."""


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
        self.value = crc32c(piece, 0 if offset == 0 else self.value)


class _Look:
    """One doubtful job and what is known of its two sides so far."""

    __slots__ = ("awaiting", "error", "job", "sides", "sums")

    def __init__(self, job: Job) -> None:
        self.job = job
        self.awaiting = 0
        self.error: StoreError | None = None
        self.sides: list[Info | None] = [None, None]
        self.sums: list[object] = [None, None]


class Resolver:
    """Looks closer at rows. ``source`` and ``destination`` are a lane or a Root each.

    ``reads`` makes the contents decide always: nothing that a store says about itself is taken for its bytes.
    """

    def __init__(
        self,
        mode: Compare,
        way: Way,
        source: Lane | Root | None,
        destination: Lane | Root | None,
        copy: CopyOffer,
        *,
        md5_etags: Callable[[], bool],
        reads: bool = False,
        clock: Callable[[], float] = monotonic,
    ) -> None:
        self._mode = mode
        self._way = way
        self._sides: tuple[Lane | Root | None, Lane | Root | None] = (source, destination)
        self._copy = copy
        self._md5_etags = md5_etags
        self._reads = reads or (way == "local" and mode == "checksum")
        self._clock = clock
        self._pending: deque[tuple[Batch, Row]] = deque()
        self._files: deque[tuple[_Look, int, Iterator[object]]] = deque()
        """Files that are being read: (look, side, steps; the last step is the sum)."""
        self._open = 0
        self.refused: Callable[[Job, StoreError], bool] = lambda _job, _error: False
        """Says whether an entry must stay undone, because the credentials are no longer good."""

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
        """Begin nothing new, and leave files half read."""
        self._pending.clear()
        self._open -= len(self._files)
        self._files.clear()

    def work(self) -> bool:
        """Begin looks while there is room, and read on in files for about SLICE seconds."""
        began = False
        while self._pending and self._open < IN_FLIGHT:
            batch, (key, evidence, size) = self._pending.popleft()
            if batch.dropped:
                continue
            self._begin(_Look(Job(key, evidence, size, batch)))
            began = True
        return self._read_files() or began

    def _begin(self, look: _Look) -> None:
        self._open += 1
        if self._reads:
            self._read_contents(look)
            return
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
            self._fail(look)
        elif verdict is not None:
            self._decide(look, verdict)

    def _fail(self, look: _Look) -> None:
        assert look.error is not None
        self._open -= 1
        if not self.refused(look.job, look.error):
            look.job.batch.failed(look.job, look.error)

    def _decide(self, look: _Look, equal: bool, proof: str = "") -> None:
        self._open -= 1
        job = look.job
        if equal:
            job.proof = job.proof or proof
            job.batch.equal(job)
        else:
            self._copy(job.batch, [(job.key, job.evidence, job.size)])

    # -- judging ---------------------------------------------------------------------------------------------------

    def _judge(self, look: _Look) -> bool | None:
        """Equal or different; None when the answer comes later (contents are being read)."""
        if self._way == "store":
            verdict = self._stores(look)
            if verdict is None:
                self._read_contents(look)
            return verdict
        if self._way == "local":
            self._read_contents(look)
            return None
        info = look.sides[1] if self._way == "upload" else look.sides[0]
        if info is None or info.size != look.job.size:
            return False
        return self._file_and_object(look, info)

    def _stores(self, look: _Look) -> bool | None:
        mine, theirs = look.sides
        if mine is None or theirs is None or mine.size != theirs.size:
            return False
        for a, b, name in (
            (mine.crc64nvme, theirs.crc64nvme, "crc64nvme"),
            (mine.crc32c, theirs.crc32c, "crc32c"),
        ):
            if a is not None and b is not None:
                look.job.proof = name
                return a == b
        if mine.etag == theirs.etag and is_md5(mine.etag):
            look.job.proof = "etag"
            return True
        if self._mode == "checksum":
            return None
        if self._mode == "etag":
            return mine.etag == theirs.etag
        look.job.proof = "mtime"
        if mine.source_mtime_ns is not None and theirs.source_mtime_ns is not None:
            return _same_instant(mine.source_mtime_ns, theirs.source_mtime_ns)
        if theirs.source_mtime_ns is not None:
            return _same_instant(mine.mtime_ns, theirs.source_mtime_ns)
        if self._mode == "mtime":
            return False
        return not (is_md5(mine.etag) and is_md5(theirs.etag)) and theirs.mtime_ns >= mine.mtime_ns

    def _file_and_object(self, look: _Look, info: Info) -> bool | None:
        if self._mode == "checksum":
            if info.crc32c is not None:
                return self._read_file(look, "crc32c", info.crc32c)
            if is_md5(info.etag) and self._md5_etags():
                return self._read_file(look, "md5", info.etag)
            self._read_contents(look)
            return None
        if self._mode == "etag":
            return self._read_file(look, "md5", info.etag) if is_md5(info.etag) and self._md5_etags() else False
        mtime_ns = self._file_side().lstat(look.job.key).st_mtime_ns
        look.job.proof = "mtime"
        if info.source_mtime_ns is not None:
            return _same_instant(mtime_ns, info.source_mtime_ns)
        if self._mode == "mtime":
            return _same_instant(mtime_ns, info.mtime_ns)
        if is_md5(info.etag) and self._md5_etags():
            return self._read_file(look, "md5", info.etag)
        return False

    def _file_side(self) -> Root:
        place = self._sides[0] if self._way == "upload" else self._sides[1]
        assert isinstance(place, Root)
        return place

    # -- contents --------------------------------------------------------------------------------------------------

    def _read_file(self, look: _Look, kind: str, expected: object) -> bool | None:
        """Read the file's side; its sum is compared with what the store says of the other. The answer comes later."""
        side = 0 if self._way == "upload" else 1
        look.sums[1 - side] = expected
        look.job.proof = kind
        look.awaiting = 1
        self._files.append((look, side, _sum_of(self._file_side(), look.job.key, kind)))
        return None

    def _read_contents(self, look: _Look) -> None:
        """Read both sides and compare their CRC-32C."""
        look.job.proof = "crc32c"
        look.awaiting = len(self._sides)
        for side, place in enumerate(self._sides):
            if isinstance(place, Root):
                self._files.append((look, side, _sum_of(place, look.job.key, "crc32c")))
            elif place is not None:
                place.submit(Get(look.job.key, self._contents, (look, side), sink=Crc32cSink()))

    def _read_files(self) -> bool:
        """Go on reading: files of one look after the other, a step at a time."""
        files = self._files
        until = self._clock() + SLICE
        worked = False
        while files and self._clock() < until:
            worked = True
            look, side, steps = files[0]
            try:
                found = next(steps)
            except StoreError as error:
                look.error = look.error or error
                found = error
            if found is not None:
                files.popleft()
                look.sums[side] = found
                self._summed(look)
        return worked

    def _contents(self, op: Get) -> None:
        look, side = op.job
        look.error = look.error or op.error
        assert isinstance(op.sink, Crc32cSink)
        look.sums[side] = op.sink.value
        self._summed(look)

    def _summed(self, look: _Look) -> None:
        look.awaiting -= 1
        if look.awaiting:
            return
        if look.error is not None:
            self._fail(look)
        else:
            self._decide(look, look.sums[0] == look.sums[1])


def _same_instant(a: int, b: int) -> bool:
    """Equal at the precision of the coarser one (whole seconds, or microseconds as text formats keep)."""
    if a == b or abs(a - b) < 1000:
        return True
    return (a % SECOND == 0 or b % SECOND == 0) and a // SECOND == b // SECOND


def _sum_of(root: Root, key: bytes, kind: str) -> Iterator[object]:
    """Steps of reading a file: None after each piece, at last its sum (hex MD5 as bytes, or CRC-32C)."""
    with SourceFile(root, key) as file:
        digest, value, offset = md5(), 0, 0
        while piece := os.pread(file.fd, CHUNK, offset):
            offset += len(piece)
            if kind == "md5":
                digest.update(piece)
            else:
                value = crc32c(piece, value)
            if len(piece) == CHUNK:
                yield None
        file.recheck()
    yield digest.hexdigest().encode() if kind == "md5" else value
