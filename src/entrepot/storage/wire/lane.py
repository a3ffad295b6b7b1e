"""The lane: a stream of operations over many keep-alive connections of one endpoint.

Pull model: whenever a connection falls free it takes the next queued operation, or asks ``feed`` for one, and that
request leaves *before* the finished operation's ``done`` runs. What a store can do wrong ends here: faults are
retried with back-off, "slow down" lowers the pace, dead addresses and hung connections are replaced.
"""

from __future__ import annotations

import random as _random
import ssl
from collections import deque
from collections.abc import Callable
from functools import partial

from entrepot.model.entry import Info
from entrepot.model.errors import StoreError, StoreTimeoutError, ThrottledError, UnexpectedReplyError
from entrepot.storage.base import Buffer, FileRegion, Get, Op, Put, PutPart

from .connection import Connection
from .dialect import AGAIN_MAX, Again, Dialect, Endpoint, Outgoing, Spread, Turn
from .http import retry_after
from .options import LaneOptions
from .pace import Pace
from .reactor import Reactor
from .resolve import Lookup, Resolver, system_lookup

TICK = 0.1
BUFFER = 512 << 10
COUNTED = 64 << 10
"""Bodies from this size on count against the memory budget."""
WORK_PER_REQUEST = 64 << 10
"""One request is worth so many bytes when the work of connections is compared."""
FREE_RETRIES = 3
"""Retries that cost nothing: a kept connection was already closed by the server."""
PROGRESS = 1 << 20
"""A cut body that brought so much more counts as a fresh try."""
HEDGE = 1.0
"""Seconds after which a connection that is still coming up gets company at another address."""
VERBS = ("list", "get", "put", "head", "copy", "delete", "multipart")


class HttpLane:
    """See ``storage.base.Lane``. ``dialect`` is the protocol; ``random`` returns a float in [0, 1)."""

    def __init__(
        self,
        dialect: Dialect,
        reactor: Reactor,
        options: LaneOptions | None = None,
        *,
        random: Callable[[], float] = _random.random,
        lookup: Lookup = system_lookup,
    ) -> None:
        self.dialect = dialect
        self.reactor = reactor
        self.options = options = options or LaneOptions()
        self.endpoint = dialect.endpoint
        self.feed: Callable[[], Op | None] | None = None
        self.pace = Pace(options)
        self.buffer = bytearray(BUFFER)
        self.view = memoryview(self.buffer)
        self.moved = 0
        """Body bytes moved so far, both ways."""
        dialect.options = options
        dialect.clock = lambda: reactor.now
        self._random = random
        self._lookup = lookup
        self._resolver = Resolver(self.endpoint.host, self.endpoint.port, lookup)
        self._turns = dialect.turns
        self._notes = dialect.notes
        self._queue: deque[Op] = deque()
        self._conns: set[Connection] = set()
        self._idle: list[Connection] = []
        self._starting = 0
        self._used = 0
        self._waiting = 0
        self._counts = dict.fromkeys(VERBS, 0)
        self._replies = 0
        self._retries = 0
        self._dry = True
        self._pump_at = 0.0
        self._closed = False
        self._down_since = 0.0
        self._connect_after = 0.0
        self._connect_delay = 0.0
        self._down_reason = ""
        self._ticks = 0
        self._timer = reactor.call_later(TICK, self._tick)

    # --- what callers see ---------------------------------------------------------------------------------

    def submit(self, op: Op) -> None:
        """Take one operation; ``op.done(op)`` follows from a later poll."""
        self._dry = False
        if self._idle and not self._queue and (not self.pace.gated or self._allowed()):
            connection = self._idle.pop()
            if not self._launch(connection, op):
                self._advance(connection)
            return
        self._queue.append(op)
        self._grow()

    @property
    def hungry(self) -> bool:
        """True while another operation would go out (nearly) at once."""
        busy = len(self._conns) - len(self._idle) - self._starting
        return (
            busy + len(self._queue) < self.pace.window.limit
            and self._used <= self.options.memory
            and self._waiting <= self.pace.window.limit
            and not (self.pace.gated and self.pace.wait(self.reactor.now) > 0.0)
            and not self._closed
        )

    def info(self, op: Op) -> Info:
        """Read the reply headers of a finished Get or Head."""
        return self.dialect.info(op)

    def requests(self) -> dict[str, int]:
        """Requests sent so far by verb."""
        return dict(self._counts)

    @property
    def retries(self) -> int:
        """Retries so far."""
        return self._retries

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self._conns)

    @property
    def in_flight(self) -> int:
        """Requests that wait for their reply."""
        return len(self._conns) - len(self._idle) - self._starting

    def limit_bandwidth(self, rate: int) -> None:
        """Change the limit of bytes/s; 0 = none."""
        self.pace.limit_bandwidth(rate)

    def close(self) -> None:
        """Close all connections. Operations in flight are dropped without ``done``."""
        self._closed = True
        self._timer.cancel()
        for connection in self._conns:
            connection.close()
        self._conns.clear()
        self._idle.clear()
        self._queue.clear()
        self._notes.clear()
        self.feed = None

    def subject(self, op: Op | None) -> str:
        """The object of ``op`` for messages."""
        return self.dialect.subject(op) if op is not None else ""

    # --- the next operation -------------------------------------------------------------------------------

    def _allowed(self) -> bool:
        """Ask the pace; when it says wait, a timer comes back."""
        now = self.reactor.now
        wait = self.pace.wait(now)
        if wait <= 0.0:
            return True
        if self._pump_at <= now:
            self._pump_at = now + wait
            self.reactor.call_later(wait, self._pump)
        return False

    def _take(self) -> Op | None:
        """The next operation to send, or None."""
        if self.pace.gated and not self._allowed():
            return None
        if self._queue:
            return self._queue.popleft()
        feed = self.feed
        if (
            feed is None
            or self._used > self.options.memory
            or self._waiting > self.pace.window.limit
            or self._closed
        ):
            return None
        op = feed()
        self._dry = op is None
        return op

    def _launch(self, connection: Connection, op: Op) -> bool:
        """Build and send the request of ``op``; False when it did not need (or get) the connection."""
        turn = self._turns[op.__class__]
        if self._notes:
            note = self._notes.get(op)
            if note is not None and note.turn is not None:
                turn = note.turn
        if not op.started:
            op.started = self.reactor.now
        try:
            data = turn.request(op)
        except StoreError as error:
            self.reactor.call_later(0.0, partial(self.failed, op, error))
            return False
        except Again as again:
            self._turn_to(op, again)
            return False
        if data.__class__ is Spread:
            assert isinstance(data, Spread)
            self._queue.extendleft(reversed(data.ops))
            return False
        self._counts[turn.verb] += 1
        cost = op.__class__
        if cost is Put or cost is Get or cost is PutPart:
            connection.cost = cost = _cost(op)
            self._used += cost
        if self.pace.gated:
            self.pace.sent()
            if data.__class__ is bytes:
                self.pace.moved(len(data), self.reactor.now)
        connection.start(op, turn, data)
        return True

    def _advance(self, connection: Connection) -> None:
        """``connection`` is free: give it the next operation, park it, or close a surplus one."""
        while True:
            if len(self._conns) - self._starting > self.pace.window.limit:
                self._discard(connection)
                return
            op = self._take()
            if op is None:
                connection.progress = self.reactor.now
                self._idle.append(connection)
                return
            if self._launch(connection, op):
                return

    def _pump(self) -> None:
        """Give idle connections something to do, and open more if that is not enough."""
        self._pump_at = 0.0
        while self._idle and not self._closed:
            op = self._take()
            if op is None:
                return
            connection = self._idle.pop()
            if not self._launch(connection, op):
                self._idle.append(connection)
        self._grow()

    # --- what connections report --------------------------------------------------------------------------

    def replied(
        self, connection: Connection, op: Op, turn: Turn, status: int, head: bytes, body: Buffer, keep: bool
    ) -> None:
        """A whole reply to ``op`` is here; ``connection`` is free (or to be closed)."""
        self._replies += 1
        if connection.cost:
            self._used -= connection.cost
            connection.cost = 0
        if keep:
            self._advance(connection)
        else:
            self._discard(connection)
            self._pump()
        try:
            turn.reply(op, status, head, body)
        except StoreError as error:
            self.failed(op, error, head)
            return
        except Again as again:
            self._again(op, again)
            return
        if self._notes:
            self._notes.pop(op, None)
        op.done(op)

    def cut(self, connection: Connection, reason: str) -> None:
        """``connection`` broke or made no sense. What was on it is tried again elsewhere."""
        op = connection.op
        if op is None:
            self._discard(connection)
            self._grow()
            return
        note = self.dialect.note(op)
        if connection.sent_all:
            note.lost = True
        incoming = connection.incoming
        if incoming is not None and incoming.intake is not None:
            if incoming.intake.offset - note.reached >= PROGRESS:
                op.attempts = 0
            note.reached = incoming.intake.offset
        stale = connection.served > 0 and not connection.answered and note.free < FREE_RETRIES
        self._discard(connection)
        if stale and not reason.startswith("no "):
            note.free += 1
            self._queue.appendleft(op)
            self._pump()
            return
        name = self.subject(op)
        error = StoreTimeoutError(
            f"{name}: {reason}", subject=name, hint="check the network between this machine and the store"
        )
        self.failed(op, error)
        self._grow()

    def fault(self, connection: Connection, error: StoreError) -> None:
        """The operation of ``connection`` failed in the middle of its exchange (sink, source, refused body)."""
        op = connection.op
        self._discard(connection)
        if op is not None:
            self.failed(op, error)
        self._pump()

    def connected(self, connection: Connection) -> None:
        """``connection`` came up."""
        self._starting -= 1
        self._resolver.worked(connection.address)
        self._down_since = 0.0
        self._connect_delay = 0.0
        connection.progress = self.reactor.now
        self._advance(connection)

    def connect_failed(self, connection: Connection, error: Exception) -> None:
        """``connection`` never came up."""
        address = connection.address
        self._discard(connection)
        alive = self._resolver.failed(address, self.reactor.now)
        self._unreachable(f"{address[1][0]} port {self.endpoint.port}: {_reason(error)}", error, alive=alive)

    # --- retries ------------------------------------------------------------------------------------------

    def failed(self, op: Op, error: StoreError, head: bytes = b"") -> None:
        """Try again later, or give the operation back with its error."""
        if self._closed:
            return
        now = self.reactor.now
        options = self.options
        if isinstance(error, ThrottledError):
            note = self.dialect.note(op)
            note.throttled = note.throttled or now
            note.refusals += 1
            self.pace.throttled(now, retry_after(b"\n" + head))
            if now - note.throttled < options.throttle_seconds:
                self._later(op, min(5.0, 0.1 * 2.0 ** min(note.refusals, 10)) * self._random())
                return
        else:
            op.attempts += 1
            if error.retryable and op.attempts < options.attempts:
                delay = min(options.backoff_max, options.backoff * 3.0 ** (op.attempts - 1))
                self._later(op, delay * self._random())
                return
        self._notes.pop(op, None)
        op.error = error
        op.done(op)

    def _later(self, op: Op, delay: float) -> None:
        self._retries += 1
        self._waiting += 1
        op.retry_at = self.reactor.now + delay
        self.reactor.call_later(delay, partial(self._return, op))

    def _return(self, op: Op) -> None:
        self._waiting -= 1
        if not self._closed:
            self._queue.appendleft(op)
            self._pump()

    def _again(self, op: Op, again: Again) -> None:
        """Something was learned from a reply: send the operation again."""
        if self._turn_to(op, again):
            self._retries += 1
            self._pump()

    def _turn_to(self, op: Op, again: Again) -> bool:
        note = self.dialect.note(op)
        note.again += 1
        if note.again > AGAIN_MAX:
            again.cause.retryable = False
            self.reactor.call_later(0.0, partial(self.failed, op, again.cause))
            return False
        note.turn = again.turn
        if again.move is not None and again.move != self.endpoint:
            self._move(again.move)
        self._queue.appendleft(op)
        return True

    def _move(self, endpoint: Endpoint) -> None:
        """Go on at another endpoint; what is in flight at the old one ends there."""
        self.endpoint = self.dialect.endpoint = endpoint
        self._resolver = Resolver(endpoint.host, endpoint.port, self._lookup)
        for connection in list(self._idle):
            self._discard(connection)

    # --- connections --------------------------------------------------------------------------------------

    def _discard(self, connection: Connection) -> None:
        if connection not in self._conns:
            return
        self._conns.discard(connection)
        if not connection.ready:
            self._starting -= 1
        elif connection.op is None and connection in self._idle:
            self._idle.remove(connection)
        self._used -= connection.cost
        connection.cost = 0
        connection.close()

    def _grow(self) -> None:
        """Open as many connections as the waiting work and the window allow."""
        now = self.reactor.now
        if self._closed or now < self._connect_after:
            return
        room = self.pace.window.limit - len(self._conns)
        wanted = len(self._queue) - self._starting
        if self.feed is not None and not self._dry and self._used <= self.options.memory:
            wanted = room
        for _ in range(min(room, wanted)):
            if not self._open():
                return

    def _open(self) -> bool:
        now = self.reactor.now
        try:
            address = self._resolver.next(now)
        except OSError as error:
            self._unreachable(f"cannot resolve {self.endpoint.host}: {error.strerror or error}", error)
            return False
        try:
            connection = Connection(self, address)
        except OSError as error:
            alive = self._resolver.failed(address, now)
            self._unreachable(f"{address[1][0]} port {self.endpoint.port}: {_reason(error)}", error, alive=alive)
            return False
        self._conns.add(connection)
        self._starting += 1
        return True

    def _unreachable(self, reason: str, error: Exception, *, alive: bool = False) -> None:
        """A connection could not be made: try another address now, or the same after a while."""
        now = self.reactor.now
        self._down_reason = reason
        self._down_since = self._down_since or now
        refused = isinstance(error, ssl.SSLCertVerificationError)
        serving = any(c.ready for c in self._conns)
        if refused or (now - self._down_since > self.options.retry_seconds and not serving):
            self._give_up(reason, refused)
        if alive and not refused:
            self._grow()
            return
        options = self.options
        self._connect_delay = min(5.0, max(options.backoff, self._connect_delay * 2))
        self._connect_after = now + self._connect_delay * (0.5 + self._random() / 2)
        self.reactor.call_later(self._connect_after - now, self._grow)

    def _give_up(self, reason: str, refused: bool) -> None:
        """The store is out of reach: everything that waits fails."""
        where = f"{self.endpoint.host}:{self.endpoint.port}"
        waiting, self._queue = self._queue, deque()
        for op in waiting:
            error: StoreError
            if refused:
                error = UnexpectedReplyError(
                    f"{where}: the TLS certificate was refused ({reason})",
                    subject=where,
                    hint="set ca_file to the CA's certificate, or insecure_skip_verify if you know this server",
                )
            else:
                error = StoreTimeoutError(
                    f"cannot connect to {where} ({reason})",
                    subject=where,
                    hint="check the endpoint, and the network between this machine and the store",
                    retryable=False,
                )
            self.failed(op, error)

    # --- time ---------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._closed:
            return
        self._timer = self.reactor.call_later(TICK, self._tick)
        now = self.reactor.now
        self._ticks += 1
        work = self._replies + self.moved / WORK_PER_REQUEST
        self.pace.tick(now, sum(self._counts.values()), work, self.reactor.idle, self.in_flight)
        if self._ticks % 5 == 0:
            self._watch(now)
        if self._queue or (self.feed is not None and not self._dry):
            self._pump()

    def _watch(self, now: float) -> None:
        """Cut what hangs, close what is idle for long, and try another address beside a slow one."""
        options = self.options
        slow_start = False
        for connection in list(self._conns):
            if connection.op is not None:
                if not connection.paused:
                    self._watch_busy(connection, now)
            elif not connection.ready:
                age = now - connection.since
                if age > options.connect_timeout:
                    self.connect_failed(connection, TimeoutError(f"no answer in {age:.0f} s"))
                elif age > HEDGE:
                    slow_start = True
            elif now - connection.progress > options.idle_timeout:
                self._discard(connection)
        if slow_start and self._queue and self._starting == len(self._conns) < 2 * self.pace.window.limit:
            self._open()

    def _watch_busy(self, connection: Connection, now: float) -> None:
        stall = self.options.stall_timeout
        if now - connection.progress > stall:
            self.pace.window.cut(now)
            self.cut(connection, f"no answer for {now - connection.progress:.0f} s")
        elif (connection.incoming is not None or not connection.sent_all) and now - connection.mark_at > stall:
            moved = connection.moved - connection.mark
            if moved < self.options.min_speed * stall and not self.pace.limits_bytes:
                self.cut(connection, f"no more than {moved} bytes in {now - connection.mark_at:.0f} s")
            else:
                connection.mark, connection.mark_at = connection.moved, now


def _cost(op: Put | Get | PutPart) -> int:
    """Bytes of memory that the body of ``op`` takes while it is in flight."""
    if op.__class__ is Get:
        size = op.length if op.sink is None else 0
    else:
        body = op.body
        size = 0 if body.__class__ is FileRegion else len(body)
    return size if size >= COUNTED else 0


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
