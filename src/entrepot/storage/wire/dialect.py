"""What a wire protocol must say so that :class:`~entrepot.storage.wire.lane.HttpLane` can speak it.

The lane owns sockets, queueing, retries and limits. A dialect turns operations into requests and replies into
results, one :class:`Turn` per class of operation::

    class MyDialect(Dialect):
        def __init__(self, ...):
            super().__init__(Endpoint(host, port, tls_context))
            self.turns[Get] = Turn("get", self._get, self._got, self._intake)
            self.turns[Put] = Turn("put", self._put, self._stored)

How one exchange runs:

1. ``turn.request(op)`` gives the bytes of the whole request (head and small body), or :class:`Outgoing` for a
   body that should not be joined to its head, or :class:`Spread` to replace the operation by smaller ones.
   It is called again, with the same ``op``, for each retry: put nothing into it that may not be built
   twice. A StoreError raised here fails the operation for good, unless it is retryable.
2. For ``turn.intake`` (Get): called once the head of a 2xx reply is there. It returns an :class:`Intake` to
   stream the body into ``op.sink``, or None to collect the body in memory. A StoreError raised here cuts the
   connection (use it when the body is not worth reading, such as a reply that ignores Range).
3. ``turn.reply(op, status, head, body)`` runs when the reply is complete and the connection already carries its
   next request. ``head`` is the raw header block (status line first, CRLF between lines, no blank line at its
   end); ``body`` is exactly the message body (empty after an Intake), never decoded. It fills ``op``, or raises

   - a StoreError: the lane retries it when ``retryable`` (ThrottledError by its own rules), else the operation
     fails with it;
   - :class:`Again`: something was learned (clock, region, fresh credentials, a refused header); the operation
     goes out again at once, and only ``AGAIN_MAX`` times.

Facts about one operation that must survive its retries live in its :class:`Note` (``self.note(op)`` makes it,
``self.notes.get(op)`` looks it up); the lane drops it when the operation is done. Most operations never have one.

Everything runs on one thread inside ``Reactor.poll``; a dialect never blocks (reading a local file excepted).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from entrepot.model.entry import Info
from entrepot.model.errors import StoreError
from entrepot.storage.base import Buffer, FileRegion, Op, Sink

from .options import LaneOptions

AGAIN_MAX = 6
"""How often one operation may be sent again because something was learned."""


class Digest(Protocol):
    """Anything that eats bytes in order: hashlib objects, or a CRC."""

    def update(self, data: Buffer, /) -> object:
        """Eat ``data``."""
        ...


@dataclass(slots=True, frozen=True)
class Endpoint:
    """Where to connect. ``tls`` None means plain HTTP; ``server_name`` is what the certificate must hold."""

    host: str
    port: int
    tls: ssl.SSLContext | None = None
    server_name: str = ""


class Outgoing:
    """A request whose body follows its head: memory, or a region of a file.

    ``digest`` is fed with the body's bytes as they leave (a plain region then no longer goes by sendfile).
    """

    __slots__ = ("body", "digest", "head")

    def __init__(self, head: bytes, body: memoryview | FileRegion, digest: Digest | None = None) -> None:
        self.head = head
        self.body = body
        self.digest = digest


class Spread:
    """Do these operations instead; the parent's ``done`` is theirs to call (the lane forgets the parent)."""

    __slots__ = ("ops",)

    def __init__(self, ops: list[Op]) -> None:
        self.ops = ops


class Intake:
    """Where a streamed body goes: ``sink.write(offset, piece)`` after the first ``skip`` bytes are dropped.

    ``offset`` moves with the bytes. ``left`` is how many bytes the sink still wants: what the reply holds
    beyond is dropped, and a reply that ends before is a cut body. ``digest`` eats what the sink gets. ``exact``
    False: the size is not known before the framing (a last chunk) ends the body.
    """

    __slots__ = ("digest", "exact", "left", "offset", "sink", "skip")

    def __init__(
        self,
        sink: Sink,
        offset: int,
        left: int,
        skip: int = 0,
        digest: Digest | None = None,
        exact: bool = True,
    ) -> None:
        self.sink = sink
        self.offset = offset
        self.left = left
        self.skip = skip
        self.digest = digest
        self.exact = exact


class Note:
    """What is remembered about one operation between its tries.

    The lane sets ``lost`` (a request went out whole and its answer never came: it may have been done),
    ``reached`` (how far an Intake came, as offset in the object) and the counts; the rest is the dialect's:
    ``turn`` replaces the turn of the operation's class for the next exchange.
    """

    __slots__ = (
        "again", "crc", "damaged", "data", "digest", "etag", "free", "lost", "md5", "reached", "refusals",
        "throttled", "turn",
    )  # fmt: skip

    def __init__(self) -> None:
        self.turn: Turn | None = None
        self.again = 0
        self.damaged = 0
        """How often its bytes did not match their checksum (the dialect counts)."""
        self.free = 0
        self.lost = False
        self.throttled = 0.0
        self.refusals = 0
        self.reached = -1
        self.etag = b""
        self.digest: Any = None
        """What eats a streamed body, over all its pieces."""
        self.crc: int | None = None
        """The checksum that was sent with a body."""
        self.md5: Any = None
        """What eats a body on its way out."""
        self.data: Any = None


class Again(Exception):
    """Send the operation again at once; ``cause`` becomes its error when that happened too often.

    ``turn`` changes the next exchange; ``move`` sends this lane's connections to another endpoint.
    """

    def __init__(self, cause: StoreError, *, turn: Turn | None = None, move: Endpoint | None = None) -> None:
        super().__init__(str(cause))
        self.cause = cause
        self.turn = turn
        self.move = move


class Hold(Exception):
    """Raised by ``turn.request``: keep the operation back until :attr:`Dialect.holding` is False."""


Request = Callable[[Any], "bytes | Outgoing | Spread"]
Reply = Callable[[Any, int, bytes, Buffer], None]
TakeIn = Callable[[Any, int, bytes, "int | None"], "Intake | None"]
"""(op, status, head, content length or None when the reply does not say)."""


class Turn:
    """One kind of exchange: how its request is built and its reply is read.

    ``verb`` is the counter it belongs to: list, get, put, head, copy, delete, multipart. ``bodyless`` marks HEAD,
    whose replies announce a body that never comes; ``patient`` marks requests over which the store may brood.
    """

    __slots__ = ("bodyless", "intake", "patient", "reply", "request", "verb")

    def __init__(
        self,
        verb: str,
        request: Request,
        reply: Reply,
        intake: TakeIn | None = None,
        *,
        bodyless: bool = False,
        patient: bool = False,
    ) -> None:
        self.verb = verb
        self.request = request
        self.reply = reply
        self.intake = intake
        self.bodyless = bodyless
        self.patient = patient


class Dialect:
    """Base of all dialects: the table of turns, the notes, and where to connect."""

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.turns: dict[type[Op], Turn] = {}
        self.notes: dict[Op, Note] = {}
        self.options = LaneOptions()
        """The lane's; set when the lane takes the dialect."""
        self.clock: Callable[[], float] = time.monotonic
        """Monotonic; the lane sets it to the reactor's."""

    def note(self, op: Op) -> Note:
        """The note of ``op``, made when there is none."""
        note = self.notes.get(op)
        if note is None:
            note = self.notes[op] = Note()
        return note

    @property
    def holding(self) -> bool:
        """True while operations that raised :class:`Hold` should wait; asked after every reply."""
        return False

    def info(self, op: Op) -> Info:
        """Read ``op.headers`` of a finished Get or Head."""
        raise NotImplementedError

    def stamp(self, op: Op) -> int:
        """See ``Lane.stamp``; a dialect may know a shorter way than reading all headers."""
        info = self.info(op)
        return info.source_mtime_ns if info.source_mtime_ns is not None else info.mtime_ns

    def subject(self, op: Op) -> str:
        """The object of ``op`` as messages name it."""
        raise NotImplementedError
