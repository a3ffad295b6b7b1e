"""HTTP/1.1 replies: the head, the three ways to frame a body, and nothing decoded.

This is the thorough reader; the common case (a whole small reply in one piece) is read in ``connection``.
"""

from __future__ import annotations

import re

from entrepot.model.errors import UnexpectedReplyError

HEAD_MAX = 64 << 10
COLLECT_MAX = 256 << 20
"""Largest body that is held in memory."""

_STATUS = re.compile(rb"HTTP/1\.([01]) ([1-9]\d\d)(?: [^\r\n]*)?\r?(?:\n|$)")
_LENGTH = re.compile(rb"(?i)\n(?:content-length):[ \t]*([^\r\n]*?)[ \t]*(?=\r|\n|$)")
_CODING = re.compile(rb"(?i)\ntransfer-encoding:[ \t]*([^\r\n]*?)[ \t]*(?=\r|\n|$)")
_CONNECTION = re.compile(rb"(?i)\nconnection:[ \t]*([^\r\n]*)")
_SIZE = re.compile(rb"[ \t]*([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\r\n]*)?\r?\n")
_RETRY_AFTER = re.compile(rb"(?i)\nretry-after:[ \t]*(\d{1,6})")
_TRAILER_MAX = 16 << 10


class BadReply(Exception):
    """The bytes are no reply that HTTP allows: the connection is of no further use."""


class Head:
    """A parsed reply head. ``length`` None: chunked, or until the connection closes."""

    __slots__ = ("chunked", "close", "length", "raw", "status")

    def __init__(self, raw: bytes, *, bodyless: bool = False) -> None:
        found = _STATUS.match(raw)
        if found is None:
            raise BadReply(f"no HTTP status line: {raw[:40]!r}")
        self.raw = raw
        self.status = status = int(found.group(2))
        said = _CONNECTION.search(raw)
        words = said.group(1).lower() if said else b""
        self.close = b"close" in words or (found.group(1) == b"0" and b"keep-alive" not in words)
        self.chunked = False
        self.length: int | None = None
        if bodyless or status < 200 or status in {204, 304}:
            self.length = 0
            return
        coding = _CODING.search(raw)
        if coding is not None and coding.group(1).lower() != b"identity":
            if coding.group(1).lower() != b"chunked":
                raise BadReply(f"unknown transfer encoding {coding.group(1)[:40]!r}")
            self.chunked = True
            return
        lengths = set(_LENGTH.findall(raw))
        if len(lengths) > 1:
            raise BadReply("two different Content-Length headers")
        if lengths:
            text = lengths.pop()
            if not text.isdigit() or len(text) > 18:
                raise BadReply(f"Content-Length is {text[:40]!r}")
            self.length = int(text)
        else:
            self.close = True


def find_end(buffer: bytearray) -> tuple[int, int]:
    """(end of the head, start of the body) in ``buffer``, or (-1, -1) while the head is not complete."""
    end = buffer.find(b"\r\n\r\n")
    if end >= 0:
        return end, end + 4
    end = buffer.find(b"\n\n")
    if end >= 0:
        return end, end + 2
    if len(buffer) > HEAD_MAX:
        raise BadReply(f"the reply head is longer than {HEAD_MAX} bytes")
    return -1, -1


def retry_after(head: bytes) -> float:
    """Seconds of a Retry-After header; 0.0 without one."""
    found = _RETRY_AFTER.search(head)
    return float(found.group(1)) if found else 0.0


class Chunks:
    """Takes a chunked body apart. ``done`` is set after the last chunk and its trailers."""

    __slots__ = ("_left", "_line", "_state", "done")

    def __init__(self) -> None:
        self._line = bytearray()
        self._left = 0
        self._state = "size"
        self.done = False

    def feed(self, piece: memoryview) -> tuple[list[memoryview], memoryview]:
        """(body pieces in ``piece``, what is left of it after the end of the body)."""
        found: list[memoryview] = []
        while len(piece) and not self.done:
            if self._state == "data":
                part = piece[: self._left]
                found.append(part)
                self._left -= len(part)
                piece = piece[len(part) :]
                if self._left == 0:
                    self._state = "mark"
            else:
                piece = self._line_part(piece)
        return found, piece

    def _line_part(self, piece: memoryview) -> memoryview:
        """Eat up to the end of one line of framing."""
        raw = bytes(piece[: _TRAILER_MAX + 1])
        stop = raw.find(b"\n") + 1
        self._line += raw[:stop] if stop else raw
        if not stop:
            if len(self._line) > _TRAILER_MAX:
                raise BadReply("an endless chunk header")
            return piece[len(raw) :]
        line = bytes(self._line)
        self._line.clear()
        if self._state == "mark":
            if line not in {b"\r\n", b"\n"}:
                raise BadReply("a chunk is longer than it said")
            self._state = "size"
        elif self._state == "size":
            size = _SIZE.fullmatch(line)
            if size is None:
                raise BadReply(f"chunk size is {line[:40]!r}")
            self._left = int(size.group(1), 16)
            self._state = "data" if self._left else "trailer"
        elif line in {b"\r\n", b"\n"}:
            self.done = True
        return piece[stop:]


def too_large(subject: str, size: int) -> UnexpectedReplyError:
    """The error of a body that was asked into memory and does not belong there."""
    return UnexpectedReplyError(
        f"{subject}: the reply holds {size} bytes, more than {COLLECT_MAX} that fit into memory",
        subject=subject,
        hint="the object has grown since it was listed, or the store ignores ranges: run again",
    )
