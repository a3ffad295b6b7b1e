"""Digests of large files that arrive in ranges: a range proves nothing by itself, the whole must.

A CRC-32C that the store keeps is compared with that of the parts, put together; parts of an earlier run are read back.
Else an etag that has the form of an MD5 is (one that is none is found out by trying twice): for that the finished front
of the file is read back from the page cache while the rest still moves.
"""

from __future__ import annotations

import os
from hashlib import md5
from typing import Any

from entrepot.model.entry import Info
from entrepot.model.errors import CorruptError
from entrepot.storage.crc32c import crc32c
from entrepot.storage.s3.crc import combine_all
from entrepot.transfer.compare import is_md5

PIECE = 256 << 10


class EtagLesson:
    """Whether the etags of large objects at one store are MD5 sums, as far as this process has seen."""

    __slots__ = ("is_md5", "suspects")

    def __init__(self) -> None:
        self.is_md5: bool | None = None
        self.suspects: dict[bytes, bytes] = {}
        """MD5 by key of objects whose etag was another, once."""


class WholeDigest:
    """The digest of one staged file of ``size`` bytes."""

    __slots__ = ("_at", "_expected", "_lesson", "_md5", "_parts", "_view")

    def __init__(self, info: Info, lesson: EtagLesson) -> None:
        self._at = 0
        self._parts: dict[int, int] = {}
        self._expected: int | bytes | None = info.crc32c
        self._lesson = lesson
        self._md5: Any = None
        if self._expected is None and is_md5(info.etag) and lesson.is_md5 is not False:
            self._expected = info.etag
            self._md5 = md5()
        self._view = memoryview(bytearray(PIECE if self._expected is not None else 0))

    @property
    def by_parts(self) -> bool:
        """True when each part's CRC-32C is wanted as it arrives (:meth:`part`)."""
        return isinstance(self._expected, int)

    def part(self, number: int, crc: int) -> None:
        """Part ``number`` (from 1) arrived with this CRC-32C."""
        self._parts[number] = crc

    def advance(self, fd: int, until: int) -> None:
        """Eat the file up to ``until``, all of which has arrived."""
        if self._md5 is None:
            return
        while self._at < until:
            count = os.preadv(fd, [self._view[: min(PIECE, until - self._at)]], self._at)
            if not count:
                return
            self._md5.update(self._view[:count])
            self._at += count

    def _whole_crc(self, fd: int, spans: list[tuple[int, int]]) -> int:
        """From the parts; one that this run did not bring is read back."""
        found = []
        for number, (offset, length) in enumerate(spans, 1):
            crc = self._parts.get(number)
            found.append((crc if crc is not None else self._read_crc(fd, offset, length), length))
        return combine_all(found)

    def _read_crc(self, fd: int, offset: int, length: int) -> int:
        value, end = 0, offset + length
        while offset < end:
            count = os.preadv(fd, [self._view[: min(PIECE, end - offset)]], offset)
            if not count:
                break
            value = crc32c(self._view[:count], value)
            offset += count
        return value

    def check(self, key: bytes, fd: int, spans: list[tuple[int, int]]) -> str:
        """The proof, for a file in parts at ``spans``. Raises CorruptError when the bytes are not the store's."""
        if self._expected is None:
            return "size"
        if self._md5 is None:
            if self._whole_crc(fd, spans) != self._expected:
                raise damaged(key, "the checksum (CRC-32C) that the store keeps")
            return "crc32c"
        found: bytes = self._md5.hexdigest().encode()
        lesson = self._lesson
        if found == self._expected:
            lesson.is_md5 = True
            return "md5"
        if lesson.is_md5 is None and lesson.suspects.pop(key, b"") == found:
            lesson.is_md5 = False
            return "reread"
        lesson.suspects[key] = found
        raise damaged(key, "the MD5 that the etag names")


def damaged(key: bytes, what: str) -> CorruptError:
    """The bytes that came are not those that the source has."""
    return CorruptError(
        f"{key!r}: the bytes do not have {what}",
        subject=repr(key),
        hint="bytes are damaged on the way or in the store: check the network, proxies and the object",
        retryable=False,
    )
