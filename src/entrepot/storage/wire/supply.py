"""The connections of a lane: opened as work asks for them, watched, replaced, and closed when idle for long."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from typing import TYPE_CHECKING

from entrepot.model.errors import StoreError, StoreTimeoutError, UnexpectedReplyError

from .connection import Connection
from .dialect import Endpoint
from .resolve import Lookup, Resolver

if TYPE_CHECKING:
    from .lane import HttpLane

HEDGE = 1.0
"""Seconds after which a connection that is still coming up gets company at another address."""
RECONNECT_MAX = 5.0


class Supply:
    """All connections of ``lane``. ``idle`` is a stack: the one used last is used first."""

    def __init__(self, lane: HttpLane, endpoint: Endpoint, random: Callable[[], float], lookup: Lookup) -> None:
        self.endpoint = endpoint
        self.idle: list[Connection] = []
        self.all: set[Connection] = set()
        self.starting = 0
        self._lane = lane
        self._random = random
        self._lookup = lookup
        self._resolver = Resolver(endpoint.host, endpoint.port, lookup)
        self._down_since = -1.0
        self._try_after = 0.0
        self._delay = 0.0

    @property
    def busy(self) -> int:
        """Connections with a request on them."""
        return len(self.all) - len(self.idle) - self.starting

    def grow(self, wanted: int) -> None:
        """Open up to ``wanted`` more connections, as far as the window and the state of the store allow."""
        lane = self._lane
        if lane.reactor.now < self._try_after:
            return
        for _ in range(min(wanted, lane.pace.window.limit - len(self.all))):
            if not self._open():
                return

    def discard(self, connection: Connection) -> None:
        """Close ``connection`` and forget it."""
        if connection not in self.all:
            return
        self.all.discard(connection)
        if not connection.ready:
            self.starting -= 1
        elif connection.op is None and connection in self.idle:
            self.idle.remove(connection)
        connection.close()

    def came_up(self, connection: Connection) -> None:
        """``connection`` is ready for use."""
        self.starting -= 1
        self._resolver.worked(connection.address)
        self._down_since = -1.0
        self._delay = 0.0
        self._try_after = 0.0

    def connect_failed(self, connection: Connection, error: Exception) -> None:
        """``connection`` never came up."""
        self.discard(connection)
        self._failed_at(connection.address[1][0], connection.address, error)

    def move(self, endpoint: Endpoint) -> None:
        """Go on at another endpoint; what is in flight at the old one ends there."""
        self.endpoint = endpoint
        self._resolver = Resolver(endpoint.host, endpoint.port, self._lookup)
        for connection in [c for c in self.all if c.op is None]:
            self.discard(connection)

    def close(self) -> None:
        """Close all."""
        for connection in self.all:
            connection.close()
        self.all.clear()
        self.idle.clear()

    def watch(self, now: float) -> None:
        """Cut what hangs, close what is idle for long, and try another address beside a slow one."""
        options = self._lane.options
        slow_start = False
        for connection in list(self.all):
            if connection not in self.all:
                continue
            if connection.op is not None:
                if not connection.paused:
                    self._watch_busy(connection, now)
            elif not connection.ready:
                age = now - connection.since
                if age > options.connect_timeout:
                    self.connect_failed(connection, TimeoutError(f"no answer in {age:.0f} s"))
                slow_start = slow_start or age > HEDGE
            elif now - connection.progress > options.idle_timeout:
                self.discard(connection)
        if slow_start and self._lane.backlog and self.starting == len(self.all) < 2 * self._lane.pace.window.limit:
            self._open()

    def _watch_busy(self, connection: Connection, now: float) -> None:
        lane = self._lane
        stall = lane.options.stall_timeout
        if connection.turn is not None and connection.turn.patient and connection.outbox is None:
            stall = lane.options.slow_timeout
        silent = now - connection.progress
        if silent > stall:
            lane.pace.window.cut(now)
            lane.cut(connection, f"no answer for {silent:.0f} s", hung=True)
            return
        in_body = connection.incoming is not None or connection.outbox is not None
        if in_body and now - connection.mark_at > stall:
            moved = connection.moved - connection.mark
            if moved < lane.options.min_speed * stall and not lane.pace.limits_bytes:
                lane.cut(connection, f"no more than {moved} bytes in {now - connection.mark_at:.0f} s", hung=True)
            else:
                connection.mark, connection.mark_at = connection.moved, now

    def _open(self) -> bool:
        now = self._lane.reactor.now
        try:
            address = self._resolver.next(now)
        except OSError as error:
            self._unreachable(f"cannot resolve {self.endpoint.host}: {error.strerror or error}", error)
            return False
        except StoreError as refusal:
            self._unreachable(str(refusal), refusal)
            return False
        try:
            connection = Connection(self._lane, address)
        except OSError as error:
            self._failed_at(address[1][0], address, error)
            return False
        self.all.add(connection)
        self.starting += 1
        return True

    def _failed_at(self, where: object, address: tuple[int, tuple[object, ...]], error: Exception) -> None:
        alive = self._resolver.failed(address, self._lane.reactor.now)
        self._unreachable(f"{where} port {self.endpoint.port}: {reason_of(error)}", error, alive=alive)

    def _unreachable(self, reason: str, error: Exception, *, alive: bool = False) -> None:
        """A connection could not be made: try another address now, or the same after a while."""
        lane, options = self._lane, self._lane.options
        now = lane.reactor.now
        if self._down_since < 0.0:
            self._down_since = now
        refused = isinstance(error, (ssl.SSLCertVerificationError, StoreError))
        serving = any(connection.ready for connection in self.all)
        if refused or (now - self._down_since >= options.retry_seconds and not serving):
            lane.out_of_reach(
                self._final_error(reason, refused) if not isinstance(error, StoreError) else lambda: error
            )
        if alive and not refused:
            lane.reactor.call_later(0.0, lane.pump)
            return
        self._delay = min(RECONNECT_MAX, max(options.backoff, self._delay * 2))
        wait = self._delay * (0.5 + self._random() / 2)
        self._try_after = now + wait
        lane.reactor.call_later(wait, lane.pump)

    def _final_error(self, reason: str, refused: bool) -> Callable[[], StoreError]:
        where = f"{self.endpoint.host}:{self.endpoint.port}"
        if refused:
            return lambda: UnexpectedReplyError(
                f"{where}: the TLS certificate was refused ({reason})",
                subject=where,
                hint="set ca_file to the CA's certificate, or insecure_skip_verify if you know this server",
            )
        return lambda: StoreTimeoutError(
            f"cannot connect to {where} ({reason})",
            subject=where,
            hint="check the endpoint, and the network between this machine and the store",
            retryable=False,
        )


def reason_of(error: Exception) -> str:
    """Why a connection failed, in a few words."""
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
