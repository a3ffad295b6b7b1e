"""One reply on its way in, piece by piece: for every reply that does not arrive whole in one piece."""

from __future__ import annotations

from collections.abc import Callable

from .dialect import Intake
from .http import COLLECT_MAX, BadReply, Chunks, Head, find_end, too_large

OpenBody = Callable[[Head], "Intake | None"]
"""Asked once when the head is there: where the body should go. Errors of it cut the connection."""

DIRECT = 64 << 10
"""From so many missing bytes on, a collected body is received in place."""


HEAD_PIECE = 4096
"""Bytes of the first piece that are searched for the head; what lies behind them is taken where it is."""


class Incoming:
    """Reads one reply. ``feed`` until it says True; then ``head`` and ``body`` are there."""

    __slots__ = (
        "_chunks",
        "_got",
        "_left",
        "_make_body",
        "_open",
        "_raw",
        "body",
        "bodyless",
        "extra",
        "head",
        "intake",
    )

    def __init__(
        self, open_body: OpenBody, *, bodyless: bool, make_body: Callable[[int], bytearray] = bytearray
    ) -> None:
        self._open = open_body
        self._make_body = make_body
        self._raw = bytearray()
        self._chunks: Chunks | None = None
        self._left = 0
        self._got = 0
        self.bodyless = bodyless
        self.head: Head | None = None
        self.intake: Intake | None = None
        self.body = bytearray()
        self.extra = False
        """Bytes followed the reply: the connection is out of step."""

    def feed(self, piece: memoryview) -> bool:
        """Take the next bytes; True when the reply is complete. BadReply, or what sink or ``open_body`` raise."""
        if self.head is not None:
            return self._take(piece)
        self._raw += piece[:HEAD_PIECE]
        done = self._begin()
        rest = piece[HEAD_PIECE:]
        if not len(rest):
            return done
        if self.head is None:
            self._raw += rest
            return self._begin()
        if done:
            self.extra = True
            return True
        return self._take(rest)

    def eof(self) -> bool:
        """The connection closed; True if that completes the reply."""
        head = self.head
        if head is None or head.length is not None or head.chunked:
            return False
        return self.intake is None or (self.intake.exact and self.intake.left <= 0)

    def place(self) -> memoryview | None:
        """Where the next bytes may be received in place, or None."""
        if self._left >= DIRECT and self.intake is None:
            return memoryview(self.body)[self._got : self._got + self._left]
        return None

    def placed(self, count: int) -> bool:
        """``count`` bytes were received at :meth:`place`; True when the reply is complete."""
        self._got += count
        self._left -= count
        return self._left == 0

    def _begin(self) -> bool:
        """Parse the head once it is whole, then take what came with it. Interim replies (1xx) are dropped."""
        while self.head is None:
            stop, start = find_end(self._raw)
            if stop < 0:
                return False
            head = Head(bytes(self._raw[:stop]), bodyless=self.bodyless)
            del self._raw[:start]
            if head.status >= 200:
                self.head = head
            elif head.status == 101:
                raise BadReply("the server switched to another protocol")
        head = self.head
        if head.chunked:
            self._chunks = Chunks()
        if not self.bodyless:
            self.intake = self._open(head)
        if head.length is not None:
            self._left = head.length
            if self.intake is None:
                if head.length > COLLECT_MAX:
                    raise too_large("reply", head.length)
                self.body = self._make_body(head.length)
        rest = memoryview(bytes(self._raw))
        self._raw.clear()
        return self._take(rest)

    def _take(self, piece: memoryview) -> bool:
        head = self.head
        assert head is not None
        if self._chunks is not None:
            found, rest = self._chunks.feed(piece)
            for part in found:
                self._store(part)
            self.extra = len(rest) > 0
            return self._end() if self._chunks.done else False
        if head.length is None:
            self._store(piece)
            return False
        if len(piece) > self._left:
            self.extra = True
            piece = piece[: self._left]
        self._left -= len(piece)
        if self.intake is not None:
            self._store(piece)
        elif len(piece):
            self.body[self._got : self._got + len(piece)] = piece
            self._got += len(piece)
        return self._end() if self._left == 0 else False

    def _end(self) -> bool:
        """All framed bytes are there: do they fill what the sink wants?"""
        if self.intake is not None and self.intake.exact and self.intake.left > 0:
            raise BadReply(f"the reply ended {self.intake.left} bytes before the range that was asked")
        return True

    def _store(self, piece: memoryview) -> None:
        intake = self.intake
        if intake is None:
            self.body += piece
            if len(self.body) > COLLECT_MAX:
                raise too_large("reply", len(self.body))
            return
        if intake.skip:
            dropped = min(intake.skip, len(piece))
            intake.skip -= dropped
            piece = piece[dropped:]
        if len(piece) > intake.left:
            piece = piece[: intake.left]
        if len(piece):
            intake.sink.write(intake.offset, piece)
            if intake.digest is not None:
                intake.digest.update(piece)
            intake.offset += len(piece)
            intake.left -= len(piece)
