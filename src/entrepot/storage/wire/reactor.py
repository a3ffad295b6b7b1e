"""One epoll and one clock for all lanes of a process. Everything happens inside :meth:`Reactor.poll`."""

from __future__ import annotations

import select
import time
from collections.abc import Callable
from heapq import heappop, heappush

_SOON = 1e-9
"""Delay of a timer set with 0: it runs in the next poll, so that a chain of them cannot hold one poll."""
READ = select.EPOLLIN
WRITE = select.EPOLLOUT
_BATCH = 256

Handler = Callable[[int], None]
"""Called with the epoll events of its descriptor; must bear a call without anything to do."""


class Timer:
    """A call at a later time; :meth:`cancel` forgets it."""

    __slots__ = ("at", "fn")

    def __init__(self, at: float, fn: Callable[[], None]) -> None:
        self.at = at
        self.fn: Callable[[], None] | None = fn

    def cancel(self) -> None:
        """Never call it."""
        self.fn = None

    def __lt__(self, other: Timer) -> bool:
        return self.at < other.at


class Reactor:
    """Waits for descriptors and timers, and calls their handlers.

    ``now`` (monotonic seconds) moves once per poll. ``idle`` adds up the seconds spent waiting: what is missing to
    the wall time was work.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._epoll = select.epoll()
        self._handlers: dict[int, Handler] = {}
        self._timers: list[Timer] = []
        self.now = clock()
        self.idle = 0.0

    def register(self, fd: int, handler: Handler, events: int = READ) -> None:
        """Call ``handler`` whenever ``fd`` has one of ``events``."""
        self._epoll.register(fd, events)
        self._handlers[fd] = handler

    def modify(self, fd: int, handler: Handler, events: int = READ) -> None:
        """Change handler and events of a registered ``fd``."""
        self._epoll.modify(fd, events)
        self._handlers[fd] = handler

    def unregister(self, fd: int) -> None:
        """Forget ``fd``; call it before closing."""
        if self._handlers.pop(fd, None) is not None:
            self._epoll.unregister(fd)

    def call_later(self, delay: float, fn: Callable[[], None]) -> Timer:
        """Call ``fn`` from a later poll, at least ``delay`` seconds after ``now``."""
        timer = Timer(self.now + max(delay, _SOON), fn)
        heappush(self._timers, timer)
        return timer

    def poll(self, timeout: float) -> int:
        """Handle what is ready, waiting at most ``timeout`` seconds for the first; how many calls were made."""
        timers = self._timers
        if timers:
            timeout = max(0.0, min(timeout, timers[0].at - self._clock()))
        before = self._clock()
        ready = self._epoll.poll(timeout, _BATCH)
        self.now = now = self._clock()
        self.idle += now - before
        handlers = self._handlers
        for fd, events in ready:
            handler = handlers.get(fd)
            if handler is not None:
                handler(events)
        count = len(ready)
        while timers and timers[0].at <= now:
            fn = heappop(timers).fn
            if fn is not None:
                count += 1
                fn()
        return count

    def close(self) -> None:
        """Close the epoll; handlers and timers are forgotten."""
        self._handlers.clear()
        self._timers.clear()
        self._epoll.close()
