"""What every store offers: plain calls for control, and a lane for the data path.

A **store** is an opened location; its calls block and are meant for control (checks, one object, `ls`).
A **lane** is its pipelined form: operations go in by :meth:`Lane.submit`, and each comes back exactly once by
a call of its ``done`` from inside :meth:`Reactor.poll`. Many lanes share one reactor in one process; there are
no threads and no futures on the way.

A lane owns: connections and their adaptive number, retries with back-off of retryable faults, stall timers, request
and bandwidth limits, error classes, and **verification in flight**: a Get or Put that comes back without error
has been checked by the strongest evidence that the store can confirm, named in ``op.proof``.

File systems are no lanes (their calls do not wait for a network): see ``storage.posix``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from entrepot.model.entry import Info, Page, Row
from entrepot.model.errors import StoreError
from entrepot.model.location import Location

Columns = Literal["etag", "mtime"]
"""Which evidence the rows of a listing carry."""

Buffer = bytes | bytearray | memoryview
Done = Callable[[Any], None]


class Op:
    """One operation on its way through a lane.

    ``key`` is relative to the location. After ``done`` was called, ``error`` is None or says why it failed
    for good. ``job`` belongs to the caller: a place to hang what the completion needs.
    """

    __slots__ = ("attempts", "done", "error", "headers", "job", "key", "proof", "retry_at", "started")

    def __init__(self, key: bytes, done: Done, job: Any = None) -> None:
        self.key = key
        self.done = done
        self.job = job
        self.error: StoreError | None = None
        self.attempts = 0
        self.headers = b""
        """Raw header block of the reply; ``Lane.info(op)`` reads it."""
        self.proof = ""
        """Evidence that verified the bytes: crc64nvme, crc32c, md5, etag, size; empty if none was asked for."""
        self.started = 0.0
        self.retry_at = 0.0


class List(Op):
    """One page of keys after ``after`` (relative to the location, exclusive) in byte order.

    ``token`` continues a former page of the same chain. Fills ``page``. The lane checks each page by itself (parse
    errors, truncation without token); the order across pages is the caller's to check.
    """

    __slots__ = ("after", "columns", "limit", "page", "token")

    def __init__(
        self, after: bytes, token: bytes, columns: Columns, done: Done, job: Any = None, limit: int = 1000
    ) -> None:
        super().__init__(b"", done, job)
        self.after = after
        self.token = token
        self.columns = columns
        self.limit = limit
        self.page = Page([])


class Head(Op):
    """Fills ``info``."""

    __slots__ = ("info",)

    def __init__(self, key: bytes, done: Done, job: Any = None) -> None:
        super().__init__(key, done, job)
        self.info: Info | None = None


class Sink(Protocol):
    """Takes the body of a large Get piece by piece, in order from ``offset`` of the object."""

    def write(self, offset: int, piece: memoryview) -> None:
        """Store ``piece`` now: the buffer is used again as soon as this returns. StoreError fails the Get."""
        ...


class Get(Op):
    """Read ``length`` bytes from ``offset`` (length -1: the whole object).

    Without ``sink`` the bytes arrive in ``body`` (keep to small ones); with it they are written as they come. After
    a cut the lane goes on from the byte reached, pinned by If-Match on the first reply's etag. ``if_match``
    pins from the start: another version is ChangedError. ``verify`` asks for proof.
    """

    __slots__ = ("body", "if_match", "length", "offset", "sink", "verify")

    def __init__(
        self,
        key: bytes,
        done: Done,
        job: Any = None,
        *,
        offset: int = 0,
        length: int = -1,
        if_match: bytes = b"",
        sink: Sink | None = None,
        verify: bool = True,
    ) -> None:
        super().__init__(key, done, job)
        self.offset = offset
        self.length = length
        self.if_match = if_match
        self.sink = sink
        self.verify = verify
        self.body: Buffer = b""


@dataclass(slots=True, frozen=True)
class FileRegion:
    """A piece of an open file as a request body; read with pread/sendfile, so one fd serves many regions."""

    fd: int
    offset: int
    length: int


@dataclass(slots=True)
class Meta:
    """What to store beside the bytes. ``mtime_ns`` becomes the ``mtime`` metadata entry (seconds, as rclone)."""

    mtime_ns: int | None = None
    content_type: str = ""
    storage_class: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)


class Put(Op):
    """Write one object in one request. ``if_absent`` refuses to overwrite. Fills ``etag``.

    ``source_etag`` (from a through-copy) is a free proof when the new etag equals it.
    """

    __slots__ = ("body", "etag", "if_absent", "meta", "source_etag", "verify")

    def __init__(
        self,
        key: bytes,
        body: Buffer | FileRegion,
        done: Done,
        job: Any = None,
        *,
        meta: Meta | None = None,
        if_absent: bool = False,
        source_etag: bytes = b"",
        verify: bool = True,
    ) -> None:
        super().__init__(key, done, job)
        self.body = body
        self.meta = meta
        self.if_absent = if_absent
        self.source_etag = source_etag
        self.verify = verify
        self.etag = b""


class Copy(Op):
    """Server-side copy of one object from ``source`` (an opened store of the same endpoint). Fills ``etag``."""

    __slots__ = ("etag", "if_match", "meta", "source", "source_key")

    def __init__(
        self,
        key: bytes,
        source: Store,
        source_key: bytes,
        done: Done,
        job: Any = None,
        *,
        if_match: bytes = b"",
        meta: Meta | None = None,
    ) -> None:
        super().__init__(key, done, job)
        self.source = source
        self.source_key = source_key
        self.if_match = if_match
        self.meta = meta
        """None keeps the source's metadata (the store copies it)."""
        self.etag = b""


class Delete(Op):
    """Delete ``keys`` (one request where the store has a batch call). Fills ``failed`` per key."""

    __slots__ = ("failed", "keys")

    def __init__(self, keys: Sequence[bytes], done: Done, job: Any = None) -> None:
        super().__init__(b"", done, job)
        self.keys = keys
        self.failed: list[tuple[bytes, StoreError]] = []


class CreateUpload(Op):
    """Begin a multipart upload. Fills ``upload_id`` (for Azure: a name that prefixes the block ids)."""

    __slots__ = ("meta", "upload_id")

    def __init__(self, key: bytes, done: Done, job: Any = None, *, meta: Meta | None = None) -> None:
        super().__init__(key, done, job)
        self.meta = meta
        self.upload_id = ""


@dataclass(slots=True, frozen=True)
class Part:
    """One uploaded part: ``number`` from 1, ``size`` bytes, what the store answered, and its CRC-32C if known."""

    number: int
    size: int
    etag: bytes
    crc32c: int | None = None


class PutPart(Op):
    """Upload one part. Fills ``part``."""

    __slots__ = ("body", "number", "part", "upload_id", "verify")

    def __init__(
        self,
        key: bytes,
        upload_id: str,
        number: int,
        body: Buffer | FileRegion,
        done: Done,
        job: Any = None,
        *,
        verify: bool = True,
    ) -> None:
        super().__init__(key, done, job)
        self.upload_id = upload_id
        self.number = number
        self.body = body
        self.verify = verify
        self.part: Part | None = None


class CopyPart(Op):
    """Server-side copy of ``length`` bytes from ``offset`` of ``source_key`` as one part. Fills ``part``."""

    __slots__ = ("if_match", "length", "number", "offset", "part", "source", "source_key", "upload_id")

    def __init__(
        self,
        key: bytes,
        upload_id: str,
        number: int,
        source: Store,
        source_key: bytes,
        offset: int,
        length: int,
        done: Done,
        job: Any = None,
        *,
        if_match: bytes = b"",
    ) -> None:
        super().__init__(key, done, job)
        self.upload_id = upload_id
        self.number = number
        self.source = source
        self.source_key = source_key
        self.offset = offset
        self.length = length
        self.if_match = if_match
        self.part: Part | None = None


class CompleteUpload(Op):
    """Finish an upload from ``parts`` (ascending). Fills ``etag``. A lost answer is settled by HEAD."""

    __slots__ = ("etag", "if_absent", "meta", "parts", "upload_id")

    def __init__(
        self,
        key: bytes,
        upload_id: str,
        parts: Sequence[Part],
        done: Done,
        job: Any = None,
        *,
        meta: Meta | None = None,
        if_absent: bool = False,
    ) -> None:
        super().__init__(key, done, job)
        self.upload_id = upload_id
        self.parts = parts
        self.meta = meta
        self.if_absent = if_absent
        self.etag = b""


class AbortUpload(Op):
    """Drop an upload and its parts; one that is gone already counts as done."""

    __slots__ = ("upload_id",)

    def __init__(self, key: bytes, upload_id: str, done: Done, job: Any = None) -> None:
        super().__init__(key, done, job)
        self.upload_id = upload_id


@dataclass(slots=True, frozen=True)
class Capabilities:
    """What the store can do, from its profile and the probe."""

    server_copy: bool = True
    multipart: bool = True
    part_min: int = 5 << 20
    part_max: int = 5 << 30
    part_fixed: int = 0
    """When not 0, every part but the last must have exactly this size."""
    parts_max: int = 10_000
    put_max: int = 5 << 30
    copy_max: int = 5 << 30
    key_max: int = 1024
    start_after: bool = True
    """False: listings can only go from the start (no range splitting)."""
    lists_mtime: bool = True
    ordered: bool = True
    """False: keys do not come in byte order (nor does start-after mean it): only ``pages`` and ``children`` can
    be trusted, which walk such a store level by level."""


class Lane(Protocol):
    """The pipelined form of a store; see the module's text."""

    def submit(self, op: Op) -> None:
        """Take one operation. Never blocks; ``op.done(op)`` follows from a later ``Reactor.poll`` (or at once)."""
        ...

    @property
    def hungry(self) -> bool:
        """True while another operation would go out (nearly) at once: the caller feeds until it is False."""
        ...

    feed: Callable[[], Op | None] | None
    """Asked for the next operation whenever a connection falls free and nothing is queued; None = nothing now."""

    def info(self, op: Op) -> Info:
        """Read the reply headers of a finished Get or Head."""
        ...

    def recycle(self, body: Buffer) -> None:
        """The body of a finished Get is not needed any more: its memory may serve the next one."""
        ...

    def stamp(self, op: Op) -> int:
        """The mtime (ns) that a copy of a finished Get should carry: the original file's if kept, else the object's."""
        ...

    def requests(self) -> dict[str, int]:
        """Requests sent so far by verb: list, get, put, head, copy, delete, multipart."""
        ...

    @property
    def retries(self) -> int:
        """Retries so far, for the report."""
        ...

    def close(self) -> None:
        """Close all connections. Operations in flight are dropped without ``done``."""
        ...


class Store(Protocol):
    """An opened location: blocking calls for control, and the way to a lane."""

    location: Location

    @property
    def caps(self) -> Capabilities:
        """What the store can do, as far as it is known by now."""
        ...

    def check(self) -> None:
        """Raise NotFoundError or ForbiddenError with a clear message if the bucket cannot be used."""
        ...

    def identity(self) -> tuple[str, bytes]:
        """(endpoint and bucket, prefix) in canonical form: two stores with equal identity are one place."""
        ...

    def can_server_copy_from(self, source: Store) -> bool:
        """True when this store can copy from ``source`` without the bytes passing through us."""
        ...

    def lane(self, reactor: Any, options: Any) -> Lane:
        """Open a lane on ``reactor``; ``options`` is a ``storage.wire.options.LaneOptions``."""
        ...

    def head(self, key: bytes) -> Info:
        """One object. Raises NotFoundError."""
        ...

    def pages(self, after: bytes = b"", columns: Columns = "mtime") -> Iterator[Page]:
        """All rows after ``after``, sorted, page by page."""
        ...

    def children(self, prefix: bytes) -> Iterator[tuple[list[Row], list[bytes]]]:
        """One level: (rows, sub-prefixes ending in ``/``) per page, for ``ls``."""
        ...

    def read(self, key: bytes) -> bytes:
        """A whole small object."""
        ...

    def write(self, key: bytes, data: bytes) -> None:
        """Write a small object."""
        ...

    def uploads(self, prefix: bytes) -> Iterator[tuple[bytes, str, float]]:
        """(key, upload id, initiated as Unix time) of open multipart uploads below ``prefix``."""
        ...

    def upload_parts(self, key: bytes, upload_id: str) -> list[Part]:
        """The parts that the store holds of an upload. Raises NotFoundError when the upload is gone."""
        ...

    def abort_upload(self, key: bytes, upload_id: str) -> None:
        """Drop an open upload; one that is gone already counts as done."""
        ...
