"""The parent's end of the runners' pipes: answers their calls one by one, parks those who wait for work."""

from __future__ import annotations

import os
import pickle
import select
import selectors
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

from entrepot.model.errors import EntrepotError
from entrepot.model.shard import LedgerPort, Shard

from .pipe import LENGTH, PATIENCE, Assignment, Bell, Farewell, Scouted, pack


class ServedPort(LedgerPort, Protocol):
    """The real ledger behind a pipe: ``DirectPort``."""

    def finished(self) -> bool:
        """Whether no shard will come any more."""
        ...

    def expire(self) -> int:
        """Free what this runner held."""
        ...


_CALLS = frozenset(
    {"report", "release", "split", "partials", "save_partial", "drop_partial", "next_doomed", "failed_keys"}
)
_FREEING = frozenset({"release", "split"})


@dataclass(slots=True)
class _Guest:
    runner_id: str
    pipe: socket.socket
    port: ServedPort | None = None
    inbox: bytearray = field(default_factory=bytearray)
    outbox: bytearray = field(default_factory=bytearray)
    greeted: bool = False
    waiting_limit: int = 0
    waiting_until: float = 0.0
    hungry: bool = False
    last: Farewell | None = None


class PipeServer:
    """Serves any number of runners; ``gone`` collects (runner id, last word) of those that left."""

    def __init__(self, bell: Bell, clock: Callable[[], float] = time.monotonic) -> None:
        self.bell = bell
        self.gone: list[tuple[str, Farewell | None]] = []
        self.scouted: Scouted | None = None
        self._clock = clock
        self._selector = selectors.DefaultSelector()
        self._guests: dict[str, _Guest] = {}
        self._make_port: Callable[[str], ServedPort] | None = None
        self._assign: Callable[[str], Assignment] | None = None
        self._fresh = False

    def add(self, runner_id: str, pipe: socket.socket) -> None:
        """Serve one more runner."""
        pipe.setblocking(False)
        guest = _Guest(runner_id, pipe, self._make_port(runner_id) if self._make_port else None)
        self._guests[runner_id] = guest
        self._selector.register(pipe, selectors.EVENT_READ, guest)

    def watch(self, descriptor: int) -> None:
        """Wake from :meth:`serve` when something arrives on this descriptor, and swallow it."""
        self._selector.register(descriptor, selectors.EVENT_READ, None)

    def unwatch(self, descriptor: int) -> None:
        """Stop watching it."""
        self._selector.unregister(descriptor)

    def open(self, make_port: Callable[[str], ServedPort], assign: Callable[[str], Assignment]) -> None:
        """The task is known now: let the runners begin."""
        self._make_port, self._assign = make_port, assign
        for guest in list(self._guests.values()):
            guest.port = make_port(guest.runner_id)
            if guest.greeted:
                self._answer(guest, True, assign(guest.runner_id))

    @property
    def runners(self) -> list[str]:
        """Ids of the runners that are still there."""
        return list(self._guests)

    def hungry(self) -> int:
        """How many runners have nothing to do."""
        return sum(guest.hungry for guest in self._guests.values())

    def wake(self) -> None:
        """New work or new orders: answer those who wait, and have all others report."""
        self._fresh = True
        self.bell.ring()

    def serve(self, timeout: float) -> None:
        """Answer calls for up to ``timeout`` seconds; returns after the first batch."""
        waits = [g.waiting_until for g in self._guests.values() if g.waiting_limit]
        if self._fresh:
            timeout = 0.0
        elif waits:
            timeout = min(timeout, max(0.0, min(waits) - self._clock()))
        for key, events in self._selector.select(timeout):
            guest = key.data
            if guest is None:
                _drain(key.fd)
                continue
            if events & selectors.EVENT_WRITE:
                self._flush(guest)
            if events & selectors.EVENT_READ:
                self._read(guest)
        self._feed_waiting()

    def _feed_waiting(self) -> None:
        now = self._clock()
        fresh, self._fresh = self._fresh, False
        for guest in list(self._guests.values()):
            if guest.waiting_limit and (fresh or now >= guest.waiting_until):
                self._lease(guest, guest.waiting_limit, guest.waiting_until - now if fresh else 0.0)

    def _read(self, guest: _Guest) -> None:
        try:
            data = guest.pipe.recv(1 << 18)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.drop(guest.runner_id)
            return
        guest.inbox += data
        while guest.runner_id in self._guests and len(guest.inbox) >= 4:
            end = 4 + LENGTH.unpack_from(guest.inbox)[0]
            if len(guest.inbox) < end:
                return
            message = pickle.loads(bytes(memoryview(guest.inbox)[4:end]))  # noqa: S301
            del guest.inbox[:end]
            self._handle(guest, message)

    def _handle(self, guest: _Guest, message: tuple[Any, ...]) -> None:
        name = message[0]
        if name == "hello":
            guest.greeted = True
            if self._assign is not None:
                self._answer(guest, True, self._assign(guest.runner_id))
            return
        if name == "tell":
            self.scouted = message[1]
            self._answer(guest, True, None)
            return
        if name == "farewell":
            guest.last = message[1]
            self._answer(guest, True, None)
            return
        if name == "lease":
            self._lease(guest, message[1], min(message[2], PATIENCE))
            return
        if name not in _CALLS:
            self._answer(guest, False, EntrepotError(f"no such call: {name}"))
            return
        try:
            value = getattr(guest.port, name)(*message[1:])
        except EntrepotError as error:
            self._answer(guest, False, error)
            return
        if name in _FREEING:
            self._fresh = True
        self._answer(guest, True, value)

    def _lease(self, guest: _Guest, limit: int, wait: float) -> None:
        port = guest.port
        assert port is not None
        shards: list[Shard] = port.lease(limit)
        finished = not shards and port.finished()
        was_hungry = guest.hungry
        guest.hungry = not shards and not finished and (wait > 0 or guest.waiting_limit > 0)
        if guest.hungry and not was_hungry:
            self.bell.ring()
        if guest.hungry and wait > 0:
            guest.waiting_limit, guest.waiting_until = limit, self._clock() + wait
            return
        guest.waiting_limit = 0
        self._answer(guest, True, (shards, finished))

    def _answer(self, guest: _Guest, ok: bool, value: Any) -> None:
        guest.outbox += pack((ok, value))
        self._flush(guest)

    def _flush(self, guest: _Guest) -> None:
        try:
            while guest.outbox:
                del guest.outbox[: guest.pipe.send(guest.outbox)]
            wanted = selectors.EVENT_READ
        except BlockingIOError:
            # A stopped runner must not stop the parent with it.
            wanted = selectors.EVENT_READ | selectors.EVENT_WRITE
        except OSError:
            self.drop(guest.runner_id)
            return
        if self._selector.get_key(guest.pipe).events != wanted:
            self._selector.modify(guest.pipe, wanted, guest)

    def drop(self, runner_id: str) -> None:
        """A runner is gone: what it held is free at once."""
        guest = self._guests.pop(runner_id, None)
        if guest is None:
            return
        self._selector.unregister(guest.pipe)
        guest.pipe.close()
        if guest.port is not None and guest.port.expire():
            self._fresh = True
        self.gone.append((runner_id, guest.last))

    def close(self) -> None:
        """Close all pipes: runners that are still there stop at once."""
        for guest in self._guests.values():
            guest.pipe.close()
        self._guests.clear()
        self._selector.close()


def _drain(descriptor: int) -> None:
    while select.select([descriptor], [], [], 0)[0] and os.read(descriptor, 4096):
        pass
