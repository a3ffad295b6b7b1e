"""The lane: a stream of operations over many keep-alive connections of one endpoint.

Pull model: whenever a connection falls free it takes the next queued operation, or asks ``feed`` for one, and that
request leaves *before* the finished operation's ``done`` runs. Faults of the store end here.
"""

from __future__ import annotations

import random as _random
from collections import deque
from collections.abc import Callable
from functools import partial

from entrepot.model.entry import Info
from entrepot.model.errors import StoreError, StoreTimeoutError
from entrepot.storage.base import Buffer, FileRegion, Get, Op, Put, PutPart

from .connection import Connection
from .dialect import AGAIN_MAX, Again, Dialect, Hold, Spread, Turn
from .options import LaneOptions
from .pace import Pace
from .reactor import Reactor
from .resolve import Lookup, system_lookup
from .retry import Retries
from .spare import Spare
from .supply import Supply

TICK = 0.1
WATCH_EVERY = 5
"""Ticks between two looks at all connections."""
BUFFER = 512 << 10
COUNTED = 64 << 10
"""Bodies from this size on count against the memory budget."""
WORK_PER_REQUEST = 64 << 10
"""One request is worth so many bytes when the work of connections is compared."""
FREE_RETRIES = 3
"""Retries that cost nothing: a kept connection was already closed by the server."""
PROGRESS = 1 << 20
"""A cut body that brought so much more counts as a fresh try."""
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
        self.feed: Callable[[], Op | None] | None = None
        self.pace = Pace(options)
        self.supply = Supply(self, dialect.endpoint, random, lookup)
        self.buffer = bytearray(BUFFER)
        self.spare = Spare()
        """Replies arrive here; what should outlive the handler is copied out."""
        self.view = memoryview(self.buffer)
        self.moved = 0
        """Bytes received, and body bytes sent in pieces, so far."""
        dialect.options = options
        dialect.clock = lambda: reactor.now
        self._retry = Retries(self, random)
        self._turns = dialect.turns
        self._notes = dialect.notes
        self._queue: deque[Op] = deque()
        self._held: list[Op] = []
        self._used = 0
        self._counts = dict.fromkeys(VERBS, 0)
        self._replies = 0
        self._dry = True
        self._pump_at = 0.0
        self._closed = False
        self._ticks = 0
        self._timer = reactor.call_later(TICK, self._tick)

    # --- what callers see ---------------------------------------------------------------------------------

    def submit(self, op: Op) -> None:
        """Take one operation; ``op.done(op)`` follows from a later poll."""
        self._dry = False
        idle = self.supply.idle
        if idle and not self._queue and (not self.pace.gated or self._allowed()):
            connection = idle.pop()
            if not self._launch(connection, op):
                self._advance(connection)
            return
        self._queue.append(op)
        self._grow()

    @property
    def hungry(self) -> bool:
        """True while another operation would go out (nearly) at once."""
        limit = self.pace.window.limit
        return (
            self.supply.busy + len(self._queue) < limit
            and self._used <= self.options.memory
            and self._retry.waiting <= limit
            and not (self.pace.gated and self.pace.wait(self.reactor.now) > 0.0)
            and not self._closed
        )

    def info(self, op: Op) -> Info:
        """Read the reply headers of a finished Get or Head."""
        return self.dialect.info(op)

    def stamp(self, op: Op) -> int:
        """See ``storage.base.Lane``."""
        return self.dialect.stamp(op)

    def recycle(self, body: Buffer) -> None:
        """See ``storage.base.Lane``."""
        self.spare.give(body)

    def requests(self) -> dict[str, int]:
        """Requests sent so far by verb."""
        return dict(self._counts)

    @property
    def retries(self) -> int:
        """Retries so far."""
        return self._retry.count

    @property
    def connections(self) -> int:
        """Open connections."""
        return len(self.supply.all)

    @property
    def backlog(self) -> int:
        """Operations that wait for one."""
        return len(self._queue)

    def limit_bandwidth(self, rate: int) -> None:
        """Change the limit of bytes/s; 0 = none."""
        self.pace.limit_bandwidth(rate)

    def close(self) -> None:
        """Close all connections. Operations in flight are dropped without ``done``."""
        self._closed = True
        self._timer.cancel()
        self.feed = None
        self.supply.close()
        self._queue.clear()
        self._held.clear()
        self._notes.clear()

    # --- the next operation -------------------------------------------------------------------------------

    def _allowed(self) -> bool:
        """Ask the pace; when it says wait, a timer comes back."""
        now = self.reactor.now
        wait = self.pace.wait(now)
        if wait <= 0.0:
            return True
        if self._pump_at <= now:
            self._pump_at = now + wait
            self.reactor.call_later(wait, self.pump)
        return False

    def _take(self) -> Op | None:
        """The next operation to send, or None."""
        if self._closed or (self.pace.gated and not self._allowed()):
            return None
        if self._queue:
            return self._queue.popleft()
        feed = self.feed
        if feed is None or self._used > self.options.memory or self._retry.waiting > self.pace.window.limit:
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
        except Hold:
            self._held.append(op)
            self._retry.waiting += 1
            return False
        if isinstance(data, Spread):
            self._queue.extendleft(reversed(data.ops))
            return False
        self._counts[turn.verb] += 1
        if isinstance(op, (Get, Put, PutPart)):
            connection.cost = cost = _cost(op)
            self._used += cost
        if self.pace.gated:
            self.pace.sent()
            if isinstance(data, bytes):
                self.pace.moved(len(data), self.reactor.now)
        connection.start(op, turn, data)
        return True

    def _advance(self, connection: Connection) -> None:
        """``connection`` is free: give it the next operation, park it, or close a surplus one."""
        supply = self.supply
        while True:
            if len(supply.all) - supply.starting > self.pace.window.limit:
                supply.discard(connection)
                return
            op = self._take()
            if op is None:
                if not self._closed:
                    connection.progress = self.reactor.now
                    supply.idle.append(connection)
                return
            if self._launch(connection, op):
                return

    def pump(self) -> None:
        """Give idle connections something to do, and open more if that is not enough."""
        self._pump_at = 0.0
        idle = self.supply.idle
        while idle and not self._closed:
            op = self._take()
            if op is None:
                return
            connection = idle.pop()
            if not self._launch(connection, op):
                idle.append(connection)
        self._grow()

    def _grow(self) -> None:
        """Open connections for what waits."""
        wanted = len(self._queue) - self.supply.starting
        if wanted > 0 and not self._closed:
            self.supply.grow(wanted)

    # --- what connections report --------------------------------------------------------------------------

    def connected(self, connection: Connection) -> None:
        """``connection`` came up."""
        self.supply.came_up(connection)
        self._advance(connection)

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
            self.supply.discard(connection)
            self.pump()
        try:
            turn.reply(op, status, head, body)
        except StoreError as error:
            self.failed(op, error, head)
            return
        except Again as again:
            self._retry.count += 1
            self._turn_to(op, again)
            self.pump()
            return
        if self._notes:
            self._notes.pop(op, None)
        if self._held:
            self._let_go()
        op.done(op)

    def cut(self, connection: Connection, reason: str, *, hung: bool = False) -> None:
        """``connection`` broke, hung or made no sense. What was on it is tried again elsewhere."""
        op = connection.op
        if op is None:
            self._drop(connection)
            self._grow()
            return
        note = self.dialect.note(op)
        if connection.outbox is None:
            note.lost = True
        incoming = connection.incoming
        if incoming is not None and incoming.intake is not None:
            if incoming.intake.offset - note.reached >= PROGRESS:
                op.attempts = 0
            note.reached = incoming.intake.offset
        stale = connection.served > 0 and not connection.answered and not hung and note.free < FREE_RETRIES
        self._drop(connection)
        if stale:
            note.free += 1
            self._queue.appendleft(op)
            self.pump()
            return
        name = self.dialect.subject(op)
        self.failed(
            op,
            StoreTimeoutError(
                f"{name}: {reason}",
                subject=name,
                hint="check the network between this machine and the store",
            ),
        )
        self.pump()

    def fault(self, connection: Connection, error: StoreError) -> None:
        """The operation of ``connection`` failed in the middle of its exchange (sink, source, refused body)."""
        op = connection.op
        self._drop(connection)
        if op is not None:
            self.failed(op, error)
        self.pump()

    def out_of_reach(self, error: Callable[[], StoreError]) -> None:
        """No connection can be made: everything that waits fails."""
        waiting, self._queue = self._queue, deque()
        for op in waiting:
            self.failed(op, error())

    def _drop(self, connection: Connection) -> None:
        self._used -= connection.cost
        connection.cost = 0
        self.supply.discard(connection)

    # --- retries ------------------------------------------------------------------------------------------

    def failed(self, op: Op, error: StoreError, head: bytes = b"") -> None:
        """Try again later, or give the operation back with its error."""
        if self._closed:
            return
        if self._retry.again(op, error, head):
            return
        self._notes.pop(op, None)
        if self._held:
            self._let_go()
        op.error = error
        op.done(op)

    def requeue(self, op: Op) -> None:
        """``op`` comes back from its back-off."""
        if not self._closed:
            self._queue.appendleft(op)
            self.pump()

    def _let_go(self) -> None:
        """Queue what was held back, once the dialect no longer holds."""
        if not self.dialect.holding:
            held, self._held = self._held, []
            self._retry.waiting -= len(held)
            self._queue.extendleft(reversed(held))
            self.pump()

    def _turn_to(self, op: Op, again: Again) -> None:
        """Queue ``op`` for another exchange, or fail it when it went round too often."""
        note = self.dialect.note(op)
        note.again += 1
        if note.again > AGAIN_MAX:
            again.cause.retryable = False
            self.reactor.call_later(0.0, partial(self.failed, op, again.cause))
            return
        note.turn = again.turn
        if again.move is not None and again.move != self.supply.endpoint:
            self.supply.move(again.move)
        self._queue.appendleft(op)

    # --- time ---------------------------------------------------------------------------------------------

    def _tick(self) -> None:
        if self._closed:
            return
        self._timer = self.reactor.call_later(TICK, self._tick)
        now = self.reactor.now
        self._ticks += 1
        work = self._replies + self.moved / WORK_PER_REQUEST
        busy = self.supply.busy
        self.pace.tick(now, sum(self._counts.values()), work, self.reactor.idle, busy)
        if self._ticks % WATCH_EVERY == 0:
            self.supply.watch(now)
        fed = self.feed is not None and not self._dry
        if self._queue or fed:
            self.pump()
        if fed and not self.supply.idle and self._used <= self.options.memory:
            self.supply.grow(self.pace.window.limit)


def _cost(op: Put | Get | PutPart) -> int:
    """Bytes of memory that the body of ``op`` takes while it is in flight."""
    if isinstance(op, Get):
        size = op.length if op.sink is None else 0
    else:
        body = op.body
        size = 0 if isinstance(body, FileRegion) else len(body)
    return size if size >= COUNTED else 0
