"""One connection: connects, sends one request at a time, and reads its reply.

The common case costs three calls of the kernel: a request that fits into one ``send``, a wait of the shared epoll,
and one ``recv_into`` that brings the whole reply. Everything else (large bodies, split or chunked replies,
TLS records, errors while sending) goes the longer way through :class:`Outbox` and :class:`Incoming`.
"""

from __future__ import annotations

import errno
import os
import select
import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

from entrepot.model.errors import StoreError
from entrepot.storage.base import Buffer, Get, Op

from .dialect import Intake, Outgoing, Turn
from .http import BadReply, Head
from .incoming import Incoming
from .outbox import Outbox
from .reactor import READ, WRITE
from .resolve import Address
from .tls import TlsChannel

if TYPE_CHECKING:
    from .lane import HttpLane

ROUNDS = 8
"""Pieces that one connection may move before the others have their turn."""
GONE = select.EPOLLHUP | select.EPOLLERR
OK = b"HTTP/1.1 2"


class Connection:
    """A socket and the exchange on it. ``op`` is None while it is idle.

    ``progress`` is when a byte last moved; ``moved`` counts bytes of large bodies and split replies, and ``mark`` with
    ``mark_at`` is where the watch last looked at it. ``cost`` is what its body takes of the lane's memory.
    """

    __slots__ = (
        "_channel", "_plain_fd", "_send_many", "address", "answered", "cost", "fd", "incoming", "lane", "mark",
        "mark_at", "moved", "op", "outbox", "paused", "progress", "ready", "recv_body", "recv_into", "send",
        "served", "since", "sock", "turn",
    )  # fmt: skip

    def __init__(self, lane: HttpLane, address: Address) -> None:
        self.lane = lane
        self.address = address
        self.op: Op | None = None
        self.turn: Turn | None = None
        self.incoming: Incoming | None = None
        self.outbox: Outbox | None = None
        self.ready = False
        self.served = 0
        self.answered = False
        self.paused = False
        self.cost = 0
        self.moved = 0
        self.mark = 0
        self.since = self.progress = self.mark_at = lane.reactor.now
        self._channel: TlsChannel | None = None
        family, where = address
        self.sock: socket.socket = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        self.fd = self._plain_fd = self.sock.fileno()
        self.recv_into: Callable[[bytearray | memoryview], int] = self.sock.recv_into
        self.recv_body: Callable[[bytearray | memoryview], int] = self.recv_into
        self.send: Callable[[Buffer], int] = self.sock.send
        self._send_many: Callable[[list[Buffer]], int] | None = self.sock.sendmsg
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
            self.lane.supply.connect_failed(self, OSError(code, os.strerror(code)))
            return
        endpoint = self.lane.supply.endpoint
        if endpoint.tls is None:
            self._up()
            return
        try:
            self._channel = TlsChannel(self.sock, endpoint.tls, endpoint.server_name or endpoint.host)
        except (OSError, ValueError) as error:
            self.lane.supply.connect_failed(self, error)
            return
        self.sock = self._channel.socket
        self._handshaking(0)

    def _handshaking(self, _events: int) -> None:
        assert self._channel is not None
        try:
            wants = self._channel.handshake()
        except OSError as error:
            self.lane.supply.connect_failed(self, error)
            return
        if wants:
            self.lane.reactor.modify(self.fd, self._handshaking, READ if wants == 1 else WRITE)
            return
        self.recv_into = self._channel.recv_into
        self.recv_body = self._channel.gather_into
        self.send = self._channel.send
        self._send_many = None
        self._plain_fd = -1
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
        self.outbox = None
        self.sock.close()

    # --- sending ------------------------------------------------------------------------------------------

    def start(self, op: Op, turn: Turn, data: bytes | Outgoing) -> None:
        """Send a request. A failure comes back through the lane, never as an exception."""
        self.op = op
        self.turn = turn
        self.answered = False
        self.since = self.progress = self.lane.reactor.now
        if data.__class__ is bytes:
            try:
                sent = self.send(data)
            except BlockingIOError:
                sent = 0
            except OSError as error:
                self.outbox = Outbox(memoryview(data))
                self._send_failed(error)
                return
            if sent == len(data):
                return
            self.outbox = Outbox(memoryview(data)[sent:])
        else:
            assert isinstance(data, Outgoing)
            self.outbox = Outbox(memoryview(data.head), data.body, data.digest)
        self.mark, self.mark_at = self.moved, self.progress
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
            self.outbox = None
            if armed:
                self.lane.reactor.modify(self.fd, self.readable, READ)
        elif not armed:
            self.lane.reactor.modify(self.fd, self._sending, READ | WRITE)

    def _sending(self, events: int) -> None:
        if events & ~WRITE:
            self.readable(events)
            if self.op is None or self.outbox is None or not self.ready:
                return
        if events & WRITE:
            self._push(armed=True)

    def _flush(self) -> bool:
        """Send on; True when the whole request is out."""
        outbox = self.outbox
        assert outbox is not None
        for _ in range(ROUNDS):
            if outbox.done:
                return True
            try:
                sent = outbox.push(self.send, self._send_many, self._plain_fd, self.lane.pace.chunk)
            except BlockingIOError:
                return False
            if self._count(sent):
                return False
        return outbox.done

    def _send_failed(self, error: OSError) -> None:
        """The other side closed while we sent: perhaps it said why."""
        try:
            count = self.recv_into(self.lane.buffer)
        except OSError:
            count = 0
        if count:
            self._receive(count)
        if self.op is not None and self.ready:
            self.lane.cut(self, f"the connection broke while sending: {error.strerror or error}")

    # --- pauses -------------------------------------------------------------------------------------------

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
        if self.op is not None and self.outbox is not None:
            self.lane.reactor.modify(self.fd, self._sending, READ | WRITE)
        else:
            self.lane.reactor.modify(self.fd, self.readable, READ)
            self.readable(0)

    # --- receiving ----------------------------------------------------------------------------------------

    def readable(self, _events: int) -> None:
        """Bytes (or the end) of a reply."""
        lane = self.lane
        buffer = lane.buffer
        if self.incoming is not None:
            self._receive(-1)
            return
        try:
            count = self.recv_into(buffer)
        except BlockingIOError:
            return
        except OSError as error:
            lane.cut(self, f"the connection broke: {error.strerror or error}")
            return
        op, turn = self.op, self.turn
        if op is None or turn is None or not count:
            lane.cut(self, "the connection was closed without a reply")
            return
        if self.outbox is None and buffer.startswith(OK):
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
                    lane.replied(self, op, turn, int(buffer[9:12]), bytes(view[:end]), bytes(view[body_at:count]), True)
                    return
        self._receive(count)

    def _receive(self, count: int) -> None:
        """The thorough way; ``count`` bytes already lie in the lane's buffer (-1: none were asked for yet)."""
        lane = self.lane
        incoming = self.incoming
        if incoming is None:
            assert self.turn is not None
            incoming = self.incoming = Incoming(self._open_body, bodyless=self.turn.bodyless, make_body=lane.spare.take)
            self.answered = True
            self.mark, self.mark_at = self.moved, lane.reactor.now
        try:
            for _ in range(ROUNDS):
                place = None
                if count < 0:
                    place = incoming.place()
                    try:
                        count = self.recv_body(lane.buffer if place is None else place)
                    except BlockingIOError:
                        return
                if count == 0:
                    self._ended(incoming)
                    return
                done = incoming.feed(lane.view[:count]) if place is None else incoming.placed(count)
                if self._count(count) and not done:
                    return
                if done:
                    self._complete(incoming)
                    return
                count = -1
        except StoreError as error:
            lane.fault(self, error)
        except BadReply as error:
            lane.cut(self, str(error))
        except OSError as error:
            lane.cut(self, f"the connection broke: {error.strerror or error}")

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
        if self.outbox is not None and head.status < 300:
            self.lane.cut(self, f"HTTP {head.status} before the whole request was sent")
            return
        keep = self.outbox is None and not head.close and not incoming.extra
        self.outbox = None
        self.incoming = None
        self.op = None
        self.served += 1
        self.lane.replied(self, op, turn, head.status, head.raw, incoming.body, keep)
