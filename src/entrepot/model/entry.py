"""Entries: what a listing says about one object, and what a closer look says."""

from __future__ import annotations

from dataclasses import dataclass, field

Evidence = bytes | int | tuple[int, int]
"""What a listing offers besides the size: an etag (bytes, without quotes), an mtime (int, ns since 1970), or
(mtime, ctime) of a file."""

Row = tuple[bytes, Evidence, int]
"""(key below the location, evidence, size in bytes). A plain tuple: listings make millions of them."""

INLINE_SIZE = 128 << 10
"""Objects up to this size (bytes) move as one request with their body in memory."""


@dataclass(slots=True)
class Info:
    """One object as HEAD (or fstat) shows it. Times in ns since 1970; sizes in bytes."""

    key: bytes
    size: int
    mtime_ns: int = 0
    etag: bytes = b""
    source_mtime_ns: int | None = None
    """The mtime of the original file, kept by the writer in metadata (``mtime``, as rclone and s3fs do)."""
    crc32c: int | None = None
    crc64nvme: int | None = None
    content_type: str = ""
    storage_class: str = ""
    metadata: dict[str, str] = field(default_factory=dict)
    headers: dict[str, str] = field(default_factory=dict)
    """Standard headers to keep: Cache-Control, Content-Disposition, Content-Encoding, Content-Language."""


@dataclass(slots=True, frozen=True)
class Special:
    """A directory entry that is not a regular file: ``kind`` is symlink, fifo, socket, device or directory."""

    key: bytes
    kind: str
    target: bytes = b""


@dataclass(slots=True, frozen=True)
class Problem:
    """Part of a listing that could not be read: no delete may follow below ``prefix``."""

    prefix: bytes
    failure: str
    message: str


@dataclass(slots=True)
class Page:
    """One page of a sorted listing. ``last`` is set when the listing ended cleanly after this page."""

    rows: list[Row]
    last: bool = False
    token: bytes = b""
    specials: list[Special] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
