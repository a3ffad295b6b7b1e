"""One connection: connects, sends one request at a time, and reads its reply.

The common case costs three calls of the kernel: a request that fits into one ``send``, a wait of the shared epoll,
and one ``recv_into`` that brings the whole reply. Everything else (large bodies, split or chunked replies,
TLS records, errors while sending) goes the longer way through :class:`Incoming` and :meth:`Connection._flush`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from entrepot.model.errors import ChangedError, StoreError
from entrepot.storage.base import Buffer, FileRegion, Get, Op

from .dialect import Digest, Intake, Outgoing, Turn
from .http import BadReply, Head
from .incoming import Incoming
from .reactor import READ, WRITE
from .resolve import Address
from .tls import TlsChannel

if TYPE_CHECKING:
    from .lane import HttpLane

ROUNDS = 8
"""Pieces that one connection may move before the others have their turn."""
GONE = select.EPOLLHUP | select.EPOLLERR
SEND_BUFFER = 256 << 10
OK = b"HTTP/1.1 2"


class Connection:
    """A socket and the exchange on it. ``op`` is None while it is idle."""

    __slots__ = (
        "_channel", "_chunk", "_digest", "_left", "_offset", "_out", "_rest", "_source", "address",
        "answered", "cost", "fd", "incoming", "lane", "mark", "mark_at", "moved", "op", "paused", "progress", "ready",
        "recv_into", "send", "sent_all", "served", "since", "sock", "turn",
    )  # fmt: skip

    def __init__(self, lane: HttpLane, address: Address) -> None:
        self.lane = lane
        self.address = address
        self.op: Op | None = None
        self.turn: Turn | None = None
        self.incoming: Incoming | None = None
        self.ready = False
        self.served = 0
        self.answered = False
        self.sent_all = True
        self.cost = 0
        self.moved = 0
        self.mark = 0
        self.since = self.progress = self.mark_at = lane.reactor.now
        self._out: memoryview | None = None
        self._rest: memoryview | None = None
        self._source = -1
        self._offset = 0
        self._left = 0
        self._digest: Digest | None = None
        self._chunk: bytearray | None = None
        self.paused = False
        self._channel: TlsChannel | None = None
        family, where = address
        self.sock: socket.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.fd = self.sock.fileno()
        self.recv_into: Callable[[bytearray | memoryview], int] = self.sock.recv_into
        self.send: Callable[[Buffer], int] = self.sock.send
        try:
            if family != socket.AF_UNIX:
                self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            code = self.sock.connect_ex(where)
        except OSError:
            self.sock.close()
            raise
        if code not in {0, errno.EINPROGRESS}:
            self.sock.close()
            raise OSError(code, os.strerror(code))
        lane.reactor.register(self.fd, self._connecting, WRITE)

    # --- coming up and going down -------------------------------------------------------------------------

    def _connecting(self, _events: int) -> None:
        code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            self.lane.connect_failed(self, OSError(code, os.strerror(code)))
            return
        endpoint = self.lane.endpoint
        if endpoint.tls is None:
            self._up()
            return
        try:
            self._channel = TlsChannel(self.sock, endpoint.tls, endpoint.server_name or endpoint.host)
        except (OSError, ValueError) as error:
            self.lane.connect_failed(self, error)
            return
        self.sock = self._channel.socket
        self._handshaking(0)

    def _handshaking(self, _events: int) -> None:
        assert self._channel is not None
        try:
            wants = self._channel.handshake()
        except OSError as error:
            self.lane.connect_failed(self, error)
            return
        if wants:
            self.lane.reactor.modify(self.fd, self._handshaking, READ if wants == 1 else WRITE)
            return
        self.recv_into = self._channel.recv_into
        self.send = self._channel.send
        self._up()

    def _up(self) -> None:
        self.ready = True
        self.lane.reactor.modify(self.fd, self.readable, READ)
        self.lane.connected(self)

    def close(self) -> None:
        """Close the socket; the lane has already forgotten this connection."""
        self.ready = False
        self.lane.reactor.unregister(self.fd)
        self.op = None
        self.incoming = None
        self._out = self._rest = None
        self._chunk = None
        self.sock.close()

    # --- sending ------------------------------------------------------------------------------------------

    def start(self, op: Op, turn: Turn, data: bytes | Outgoing) -> None:
        """Send a request. A failure comes back through the lane, never as an exception."""
        self.op = op
        self.turn = turn
        self.answered = False
        self.since = self.progress = self.lane.reactor.now
        if data.__class__ is not bytes:
            assert isinstance(data, Outgoing)
            self._start_large(data)
            return
        try:
            sent = self.send(data)
        except BlockingIOError:
            sent = 0
        except OSError as error:
            self.sent_all = False
            self._send_failed(error)
            return
        if sent == len(data):
            self.sent_all = True
            return
        self.sent_all = False
        self._out = memoryview(data)[sent:]
        self.lane.reactor.modify(self.fd, self._sending, READ | WRITE)

    def _start_large(self, data: Outgoing) -> None:
        self.sent_all = False
        self.mark, self.mark_at = self.moved, self.progress
        self._out = memoryview(data.head)
        body = data.body
        if isinstance(body, FileRegion):
            self._source, self._offset, self._left = body.fd, body.offset, body.length
            self._digest = data.digest
        else:
            self._rest = body
            if self._channel is None:
                try:
                    sent = self.sock.sendmsg((data.head, body))
                except BlockingIOError:
                    sent = 0
                except OSError as error:
                    self._send_failed(error)
                    return
                if sent >= len(data.head):
                    self._out, self._rest = body[sent - len(data.head) :], None
                    self._count(sent)
                else:
                    self._out = self._out[sent:]
        self._push(armed=False)

    def _push(self, *, armed: bool) -> None:
        """Send what can be sent now, and wait for room or the reply."""
        try:
            done = self._flush()
        except StoreError as error:
            self.lane.fault(self, error)
            return
        except OSError as error:
            self._send_failed(error)
            return
        if self.op is None or self.paused:
            return
        if done:
            self.sent_all = True
            self._chunk = None
            self._digest = None
            if armed:
                self.lane.reactor.modify(self.fd, self.readable, READ)
        elif not armed:
            self.lane.reactor.modify(self.fd, self._sending, READ | WRITE)

    def _sending(self, events: int) -> None:
        if events & ~WRITE:
            self.readable(events)
            if self.op is None or self.sent_all or not self.ready:
                return
        if events & WRITE:
            self._push(armed=True)

    def _flush(self) -> bool:
        """Send on; True when the whole request is out."""
        lane = self.lane
        for _ in range(ROUNDS):
            if not self._out:
                if self._rest is not None:
                    self._out, self._rest = self._rest, None
                    continue
                if not self._left:
                    self._out = None
                    return True
                if self._channel is None and self._digest is None:
                    if not self._send_file():
                        return False
                    continue
                self._out = self._read_piece()
            try:
                sent = self.send(self._out if len(self._out) <= lane.pace.chunk else self._out[: lane.pace.chunk])
            except BlockingIOError:
                return False
            self._out = self._out[sent:]
            if self._count(sent):
                return False
        return not (self._out or self._rest or self._left)

    def _send_file(self) -> bool:
        """One sendfile; False when there is no room now."""
        try:
            sent = os.sendfile(self.fd, self._source, self._offset, min(self._left, self.lane.pace.chunk))
        except BlockingIOError:
            return False
        if not sent:
            raise self._shrunk()
        self._offset += sent
        self._left -= sent
        return not self._count(sent)

    def _read_piece(self) -> memoryview:
        """The next piece of the file region in memory, eaten by the digest."""
        if self._chunk is None:
            self._chunk = bytearray(min(SEND_BUFFER, self._left))
        view = memoryview(self._chunk)[: min(self._left, len(self._chunk))]
        count = os.preadv(self._source, [view], self._offset)
        if not count:
            raise self._shrunk()
        view = view[:count]
        if self._digest is not None:
            self._digest.update(view)
        self._offset += count
        self._left -= count
        return view

    def _shrunk(self) -> ChangedError:
        name = self.lane.subject(self.op)
        return ChangedError(f"{name}: the source file became shorter while it was read", subject=name)

    def _count(self, size: int) -> bool:
        """Bytes went out or came in; True if a bandwidth limit says pause (which then has begun)."""
        lane = self.lane
        now = lane.reactor.now
        self.progress = now
        self.moved += size
        lane.moved += size
        if not lane.pace.limits_bytes:
            return False
        wait = lane.pace.moved(size, now)
        if wait <= 0.0:
            return False
        self.paused = True
        lane.reactor.modify(self.fd, self._waiting, 0)
        lane.reactor.call_later(wait, self._resume)
        return True

    def _waiting(self, events: int) -> None:
        """Paused by the bandwidth limit: only the end of the connection matters."""
        if events & GONE:
            self._resume()

    def _resume(self) -> None:
        if not self.paused or not self.ready:
            return
        self.paused = False
        self.progress = self.mark_at = self.lane.reactor.now
        self.mark = self.moved
        if self.op is not None and not self.sent_all:
            self.lane.reactor.modify(self.fd, self._sending, READ | WRITE)
        else:
            self.lane.reactor.modify(self.fd, self.readable, READ)
            self.readable(0)

    def _send_failed(self, error: OSError) -> None:
        """The other side closed while we sent: perhaps it said why."""
        if self.op is None:
            return
        try:
            count = self.recv_into(self.lane.buffer)
        except OSError:
            count = 0
        if count:
            self._receive(count)
        if self.op is not None and self.ready:
            self.lane.cut(self, f"the connection broke while sending: {error.strerror or error}")

    # --- receiving ----------------------------------------------------------------------------------------

    def readable(self, _events: int) -> None:
        """Bytes (or the end) of a reply."""
        lane = self.lane
        buffer = lane.buffer
        incoming = self.incoming
        if incoming is not None:
            self._receive(-1)
            return
        try:
            count = self.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError as error:
            lane.cut(self, f"the connection broke: {error.strerror or error}")
            return
        op = self.op
        if op is None or not count:
            lane.cut(self, "the connection was closed without a reply" if op else "")
            return
        turn = self.turn
        if self.sent_all and buffer.startswith(OK):
            end = buffer.find(b"\r\n\r\n", 0, count)
            at = buffer.find(b"\nContent-Length: ", 0, end)
            if at < 0:
                at = buffer.find(b"\ncontent-length: ", 0, end)
            if at > 0 and buffer.find(b"lose\r\n", 0, end + 2) < 0 and not (op.__class__ is Get and op.sink):
                text = buffer[at + 17 : buffer.find(b"\r", at + 17, end + 1)]
                body_at = end + 4
                if text.isdigit() and body_at + int(text) == count and not turn.bodyless:
                    view = lane.view
                    lane.moved += count
                    if lane.pace.limits_bytes:
                        lane.pace.moved(count, lane.reactor.now)
                    self.served += 1
                    self.op = None
                    lane.replied(
                        self, op, turn, int(buffer[9:12]), bytes(view[:end]), bytes(view[body_at:count]), True
                    )
                    return
        self._receive(count)

    def _receive(self, count: int) -> None:
        """The thorough way; ``count`` bytes already lie in the lane's buffer (-1: none were asked for yet)."""
        lane = self.lane
        incoming = self.incoming
        if incoming is None:
            assert self.turn is not None
            incoming = self.incoming = Incoming(self._open_body, bodyless=self.turn.bodyless)
            self.answered = True
            self.mark, self.mark_at = self.moved, lane.reactor.now
        try:
            for _ in range(ROUNDS):
                place = None
                if count < 0:
                    place = incoming.place()
                    try:
                        count = self.recv_into(lane.buffer if place is None else place)
                    except BlockingIOError:
                        return
                if count == 0:
                    self._ended(incoming)
                    return
                done = incoming.feed(lane.view[:count]) if place is None else incoming.placed(count)
                if done:
                    self._count_only(count)
                    self._complete(incoming)
                    return
                if self._count(count):
                    return
                count = -1
        except StoreError as error:
            lane.fault(self, error)
        except BadReply as error:
            lane.cut(self, str(error))
        except OSError as error:
            lane.cut(self, f"the connection broke: {error.strerror or error}")

    def _count_only(self, size: int) -> None:
        self.lane.moved += size
        if self.lane.pace.limits_bytes:
            self.lane.pace.moved(size, self.lane.reactor.now)

    def _open_body(self, head: Head) -> Intake | None:
        turn, op = self.turn, self.op
        assert turn is not None and op is not None
        if turn.intake is None or head.status >= 300:
            return None
        return turn.intake(op, head.status, head.raw, head.length)

    def _ended(self, incoming: Incoming) -> None:
        if incoming.eof():
            self._complete(incoming)
        else:
            self.lane.cut(self, "the connection was closed before the end of the reply")

    def _complete(self, incoming: Incoming) -> None:
        op, turn, head = self.op, self.turn, incoming.head
        assert op is not None and turn is not None and head is not None
        keep = self.sent_all and not head.close and not incoming.extra
        if not self.sent_all and head.status < 300:
            self.lane.cut(self, f"HTTP {head.status} before the whole request was sent")
            return
        if not keep:
            self._out = self._rest = None
            self._left = 0
        elif self._out is not None:
            self._out = None
        self.incoming = None
        self.op = None
        self.served += 1
        self.lane.replied(self, op, turn, head.status, head.raw, incoming.body, keep)
