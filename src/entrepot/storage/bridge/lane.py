"""BridgeLane: the lane of a place whose calls block. A few threads do them; completions come out of ``Reactor.poll``.

Threads hand finished operations (and pieces for sinks) over through a queue and an eventfd, so callers see
what every lane shows: nothing happens outside ``poll``.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue

from entrepot.model.entry import Info
from entrepot.model.errors import InternalError, StoreError, StoreTimeoutError
from entrepot.storage.base import (
    Buffer,
    CompleteUpload,
    CreateUpload,
    Delete,
    Get,
    Head,
    List,
    Op,
    Put,
)
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor

from .actions import Actions, unpack

THREADS = 8
VERBS = ("list", "get", "put", "head", "copy", "delete", "multipart")
_VERB: dict[type[Op], str] = {List: "list", Get: "get", Put: "put", Head: "head", Delete: "delete"}


class _Piece:
    """A piece of a body on its way to its sink; the thread waits for ``done``."""

    __slots__ = ("data", "done", "error", "offset", "op")

    def __init__(self, op: Get, offset: int, data: bytes) -> None:
        self.op = op
        self.offset = offset
        self.data = data
        self.error: Exception | None = None
        self.done = threading.Event()


class _Closed(Exception):
    """The lane was closed in the middle of an operation."""


class Limiter:
    """Lets threads go on at a rate; 0 = no limit. ``take`` sleeps."""

    def __init__(self, rate: float) -> None:
        self.rate = rate
        self._lock = threading.Lock()
        self._free = 0.0

    def take(self, amount: float) -> None:
        """Wait until ``amount`` more may pass."""
        rate = self.rate
        if rate <= 0:
            return
        with self._lock:
            now = time.monotonic()
            start = max(self._free, now)
            self._free = start + amount / rate
        if start > now:
            time.sleep(min(start - now, 30.0))


class BridgeLane:
    """See ``storage.base.Lane``."""

    def __init__(self, actions: Actions, reactor: Reactor, options: LaneOptions | None = None) -> None:
        self.reactor = reactor
        self.options = options = options or LaneOptions()
        self.feed: Callable[[], Op | None] | None = None
        self.moved = 0
        self._actions = actions
        self._bytes = Limiter(options.bandwidth)
        self._pace = Limiter(options.max_requests)
        self._limit = min(options.connections or THREADS, 64)
        self._queue: deque[Op] = deque()
        self._work: SimpleQueue[Op | None] = SimpleQueue()
        self._done: deque[Op | _Piece] = deque()
        self._busy = 0
        self._waiting = 0
        self._retries = 0
        self._counts = dict.fromkeys(VERBS, 0)
        self._closed = False
        self._threads: list[threading.Thread] = []
        self._wake = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._wake_lock = threading.Lock()
        reactor.register(self._wake, self._woken)

    def submit(self, op: Op) -> None:
        """Take one operation; ``op.done(op)`` follows from a later poll."""
        self._queue.append(op)
        self._start()

    @property
    def hungry(self) -> bool:
        """True while a thread is free."""
        return not self._closed and self._busy + len(self._queue) < self._limit and self._waiting <= self._limit

    def recycle(self, body: Buffer) -> None:
        """See ``storage.base.Lane``; bodies here come from the libraries."""

    def stamp(self, op: Op) -> int:
        """See ``storage.base.Lane``."""
        info = self.info(op)
        return info.source_mtime_ns if info.source_mtime_ns is not None else info.mtime_ns

    def info(self, op: Op) -> Info:
        """What a finished Get or Head said of its file."""
        return unpack(op.key, op.headers)

    def requests(self) -> dict[str, int]:
        """Operations begun so far by verb."""
        return dict(self._counts)

    @property
    def retries(self) -> int:
        """Retries so far."""
        return self._retries

    def limit_bandwidth(self, rate: int) -> None:
        """Change the limit of bytes/s; 0 = none."""
        self._bytes.rate = rate

    def close(self) -> None:
        """End the threads. Operations in flight are dropped without ``done``."""
        if self._closed:
            return
        self._closed = True
        self.feed = None
        self._queue.clear()
        for _ in self._threads:
            self._work.put(None)
        self._release()
        end = time.monotonic() + 5.0
        for thread in self._threads:
            while thread.is_alive() and time.monotonic() < end:
                self._release()
                thread.join(0.05)
        self.reactor.unregister(self._wake)
        with self._wake_lock:
            os.close(self._wake)
            self._wake = -1

    def _release(self) -> None:
        """Let go the threads that wait for their sink."""
        while self._done:
            item = self._done.popleft()
            if isinstance(item, _Piece):
                item.error = _Closed()
                item.done.set()

    def _start(self) -> None:
        """Hand queued (or fed) operations to threads."""
        while self._busy < self._limit and not self._closed:
            if self._queue:
                op: Op | None = self._queue.popleft()
            elif self.feed is not None and self._waiting <= self._limit:
                op = self.feed()
            else:
                op = None
            if op is None:
                return
            self._busy += 1
            self._counts[_VERB.get(type(op), "multipart")] += 1
            if not op.started:
                op.started = self.reactor.now
            if self._busy > len(self._threads):
                thread = threading.Thread(target=self._run, name="bridge", daemon=True)
                self._threads.append(thread)
                thread.start()
            self._work.put(op)

    def _run(self) -> None:
        """A thread: one operation after the other."""
        while True:
            op = self._work.get()
            if op is None or self._closed:
                return
            try:
                self._pace.take(1)
                op.error = None
                self._actions.perform(op, self._deliver, self._count)
            except StoreError as error:
                op.error = error
            except _Closed:
                return
            except Exception as fault:
                op.error = StoreError(f"the bridge failed: {type(fault).__name__}: {fault}")
            self._hand(op)

    def _deliver(self, op: Get, offset: int, data: bytes) -> None:
        """From a thread: give ``data`` to the sink inside poll, and wait for it."""
        piece = _Piece(op, offset, data)
        self._hand(piece)
        while not piece.done.wait(0.5):
            if self._closed:
                raise _Closed
        if piece.error is not None:
            raise piece.error

    def _count(self, amount: int) -> None:
        self.moved += amount
        self._bytes.take(amount)

    def _hand(self, item: Op | _Piece) -> None:
        self._done.append(item)
        with self._wake_lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def _woken(self, events: int) -> None:
        """Inside poll: sinks first, then completions."""
        try:
            os.eventfd_read(self._wake)
        except BlockingIOError:
            return
        while self._done and not self._closed:
            item = self._done.popleft()
            if isinstance(item, _Piece):
                self._sink(item)
                continue
            self._busy -= 1
            self._start()
            self._settle(item)

    def _sink(self, piece: _Piece) -> None:
        try:
            if piece.op.sink is None:
                raise InternalError("a piece without a sink")
            piece.op.sink.write(piece.offset, memoryview(piece.data))
        except Exception as fault:
            piece.error = fault
        piece.done.set()

    def _settle(self, op: Op) -> None:
        error = op.error
        if error is not None and error.retryable and not isinstance(op, CreateUpload):
            op.attempts += 1
            if op.attempts < self.options.attempts and self._again(op, error):
                return
        op.done(op)

    def _again(self, op: Op, error: StoreError) -> bool:
        """Try ``op`` once more, later; not when its time is over."""
        if isinstance(error, StoreTimeoutError) and isinstance(op, CompleteUpload) and op.attempts > 2:
            return False
        delay = min(self.options.backoff_max, self.options.backoff * 3.0**op.attempts) * random.random()
        self._retries += 1
        self._waiting += 1
        op.retry_at = self.reactor.now + delay
        self.reactor.call_later(delay, partial(self._return, op))
        return True

    def _return(self, op: Op) -> None:
        self._waiting -= 1
        if not self._closed:
            op.error = None
            self._queue.appendleft(op)
            self._start()
