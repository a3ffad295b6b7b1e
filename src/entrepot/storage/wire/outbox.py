"""What is still to be sent of a request: a head, then memory or a region of a file."""

from __future__ import annotations

import os
from collections.abc import Callable

from entrepot.model.errors import ChangedError
from entrepot.storage.base import Buffer, FileRegion

from .dialect import Digest

PIECE = 256 << 10
"""File bytes that pass through memory (TLS, or a digest that must see them) do so in such pieces."""

Send = Callable[[Buffer], int]
SendMany = Callable[[list[Buffer]], int]


class Outbox:
    """The rest of one request. ``push`` until ``done``."""

    __slots__ = ("_buffer", "_digest", "_fd", "_left", "_offset", "_out", "_rest")

    def __init__(
        self, head: memoryview, body: memoryview | FileRegion | None = None, digest: Digest | None = None
    ) -> None:
        self._out: memoryview = head
        self._rest: memoryview | None = None
        self._fd = -1
        self._offset = 0
        self._left = 0
        self._digest = digest
        self._buffer: bytearray | None = None
        if isinstance(body, FileRegion):
            self._fd, self._offset, self._left = body.fd, body.offset, body.length
        elif body is not None and len(body):
            self._rest = body

    @property
    def done(self) -> bool:
        """True when everything is out."""
        return not self._left and not self._out and self._rest is None

    def push(self, send: Send, send_many: SendMany | None, fd: int, most: int) -> int:
        """Send one piece of at most ``most`` bytes (the head apart); the bytes sent.

        ``fd`` is the socket's descriptor where sendfile works, else -1. Raises BlockingIOError when there is no room,
        ChangedError when the file became shorter, OSError when the connection broke.
        """
        if not self._out:
            if self._rest is not None:
                self._out, self._rest = self._rest, None
            elif fd >= 0 and self._digest is None:
                return self._send_file(fd, most)
            else:
                self._out = self._read_piece()
        elif self._rest is not None and send_many is not None:
            return self._send_both(send_many, most)
        sent = send(self._out if len(self._out) <= most else self._out[:most])
        self._out = self._out[sent:]
        return sent

    def _send_both(self, send_many: SendMany, most: int) -> int:
        """Head and the beginning of the body in one call."""
        assert self._rest is not None
        sent = send_many([self._out, self._rest[:most]])
        if sent < len(self._out):
            self._out = self._out[sent:]
        else:
            self._out, self._rest = self._rest[sent - len(self._out) :], None
        return sent

    def _send_file(self, fd: int, most: int) -> int:
        sent = os.sendfile(fd, self._fd, self._offset, min(self._left, most))
        if not sent:
            raise _shrunk()
        self._offset += sent
        self._left -= sent
        return sent

    def _read_piece(self) -> memoryview:
        """The next piece of the file, in memory and eaten by the digest."""
        if self._buffer is None:
            self._buffer = bytearray(min(PIECE, self._left))
        view = memoryview(self._buffer)[: min(self._left, len(self._buffer))]
        count = os.preadv(self._fd, [view], self._offset)
        if not count:
            raise _shrunk()
        view = view[:count]
        if self._digest is not None:
            self._digest.update(view)
        self._offset += count
        self._left -= count
        return view


def _shrunk() -> ChangedError:
    return ChangedError("the source file became shorter while it was read", hint="run again")
