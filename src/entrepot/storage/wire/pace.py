"""How fast a lane may go: the number of connections that pays, and limits of requests and bytes per second.

Three things hold a lane back, and each can be absent:

- :class:`Window`, the number of requests in flight. It doubles while that brings more work done per second, is
  halved when the store asks to slow down, and then comes back by quarters. A process that is busy all the time
  (no idle second in its reactor) gains nothing from more connections and opens none.
- the request rate after throttling: half of what was sent when the store complained, growing by half each second
  until it is far above what was ever needed; then it is dropped.
- the user's limits: requests/s and bytes/s.
"""

from __future__ import annotations

import math

from .options import LaneOptions

CUT_EVERY = 1.0
"""Seconds between two cuts: one storm of refusals counts once."""
MEASURE = 0.2
PROBE_EVERY = 5.0
GAIN = 1.1
"""More connections must bring this factor of work to be kept."""
BUSY = 0.05
"""Below this share of idle time the process itself is the limit."""


class Bucket:
    """A token bucket that may be overdrawn: take first, then wait until it is positive again."""

    __slots__ = ("_at", "_level", "burst", "rate")

    def __init__(self, rate: float, burst: float) -> None:
        self.rate = rate
        self.burst = burst
        self._level = burst
        self._at = -1.0

    def wait(self, now: float) -> float:
        """Seconds until something may be taken; 0.0 when it may be now."""
        if self._at < 0.0:
            self._at = now
        self._level = min(self.burst, self._level + (now - self._at) * self.rate)
        self._at = now
        return 0.0 if self._level > 0.0 else (1e-3 - self._level) / self.rate

    def take(self, amount: float) -> None:
        """Take ``amount``."""
        self._level -= amount


class Window:
    """The number of connections that pays. ``fixed`` keeps it at one number (throttling still lowers it)."""

    def __init__(self, start: int, top: int, *, fixed: bool) -> None:
        self.limit = start
        self._top = top
        self._fixed = fixed
        self._home = start
        """What it comes back to after a cut, before it climbs by merit again."""
        self._climbing = not fixed
        self._trying = 0
        """The limit before the running try, 0 when none runs."""
        self._best = 0.0
        self._at = -1.0
        self._work = 0.0
        self._idle = 0.0
        self._next_try = 0.0
        self._cut_at = -math.inf

    def cut(self, now: float) -> None:
        """Halve: the store is overwhelmed."""
        self._home = max(self._home, self.limit)
        self.limit = max(1, self.limit // 2)
        self._cut_at = now
        self._climbing = False
        self._trying = 0
        self._next_try = now + PROBE_EVERY

    def measure(self, now: float, work: float, idle: float, in_flight: int) -> None:
        """Look at the last stretch: ``work`` and ``idle`` seconds are running sums."""
        passed = now - self._at
        if self._at < 0.0:
            self._at, self._work, self._idle = now, work, idle
            return
        if passed < MEASURE:
            return
        rate = (work - self._work) / passed
        share = (idle - self._idle) / passed
        self._at, self._work, self._idle = now, work, idle
        if self.limit < self._home and now - self._cut_at > CUT_EVERY:
            self.limit = min(self._home, self.limit + max(1, self.limit // 8))
            return
        if self._fixed or in_flight < self.limit:
            return
        self._judge(now, rate, share)

    def _judge(self, now: float, rate: float, idle_share: float) -> None:
        if self._trying:
            if rate > self._best * GAIN:
                self._best = rate
                self._trying = 0
            else:
                self.limit = self._trying
                self._trying = 0
                self._climbing = False
                self._next_try = now + PROBE_EVERY
                return
        else:
            self._best = rate
        if idle_share < BUSY or self.limit >= self._top:
            return
        if self._climbing or now >= self._next_try:
            self._climbing = True
            self._trying = self.limit
            self.limit = min(self._top, self.limit * 2)
            self._home = self._trying


class Pace:
    """All limits of one lane together."""

    def __init__(self, options: LaneOptions) -> None:
        fixed = options.connections > 0
        start = options.connections or min(options.connections_start, options.connections_max)
        self.window = Window(start, options.connections_max, fixed=fixed)
        self._asked = options.max_requests
        self._requests = _bucket(options.max_requests, 0.1)
        self._slow: Bucket | None = None
        self._bytes = _bucket(options.bandwidth, 0.1)
        self._hold = 0.0
        self._cut_at = -math.inf
        self._peak = 0.0
        self._rate = 0.0
        self._sent = 0
        self._sent_at = -1.0
        self.gated = False
        self.chunk = 1 << 20
        """Bytes to move in one go, small where a bandwidth limit should be met smoothly."""
        self._settle()

    def limit_bandwidth(self, rate: int) -> None:
        """Change the limit of bytes/s; 0 = none."""
        self._bytes = _bucket(rate, 0.1)
        self._settle()

    def wait(self, now: float) -> float:
        """Seconds until the next request may go out; 0.0 when it may now. Only asked while ``gated``."""
        wait = max(0.0, self._hold - now)
        for bucket in (self._requests, self._slow, self._bytes):
            if bucket is not None:
                wait = max(wait, bucket.wait(now))
        return wait

    def sent(self) -> None:
        """A request goes out while ``gated``."""
        if self._requests is not None:
            self._requests.take(1.0)
        if self._slow is not None:
            self._slow.take(1.0)

    def moved(self, size: int, now: float) -> float:
        """``size`` body bytes went either way; seconds to pause before the next ones."""
        bucket = self._bytes
        if bucket is None:
            return 0.0
        bucket.take(size)
        return bucket.wait(now)

    @property
    def limits_bytes(self) -> bool:
        """True while a bandwidth limit is set."""
        return self._bytes is not None

    def throttled(self, now: float, retry_after: float) -> None:
        """The store asked to slow down."""
        if retry_after > 0.0:
            self._hold = max(self._hold, now + min(retry_after, 60.0))
            self.gated = True
        if now - self._cut_at < CUT_EVERY:
            return
        self._cut_at = now
        self.window.cut(now)
        rate = self._slow.rate if self._slow is not None else math.inf
        rate = max(1.0, min(rate, self._rate or 100.0) / 2)
        self._slow = Bucket(rate, max(1.0, rate / 20))
        self.gated = True

    def tick(self, now: float, sent: int, work: float, idle: float, in_flight: int) -> None:
        """Once in a while: ``sent`` requests, ``work`` done and ``idle`` seconds are running sums."""
        if self._sent_at < 0.0:
            self._sent_at, self._sent = now, sent
        passed = now - self._sent_at
        if passed >= MEASURE:
            rate = (sent - self._sent) / passed
            self._rate = rate if not self._rate else 0.5 * (self._rate + rate)
            self._sent_at, self._sent = now, sent
            if self._slow is None:
                self._peak = max(self._rate, 0.99 * self._peak)
            elif now - self._cut_at > CUT_EVERY:
                self._slow.rate *= 1.5**passed
                self._slow.burst = max(1.0, self._slow.rate / 20)
                if self._slow.rate > max(2.0 * self._peak, 200.0):
                    self._slow = None
        self._settle(now)
        self.window.measure(now, work, idle, in_flight)

    def _settle(self, now: float = 0.0) -> None:
        self.gated = self._requests is not None or self._slow is not None or self._bytes is not None or self._hold > now
        rate = self._bytes.rate if self._bytes is not None else 0.0
        self.chunk = int(min(1 << 20, max(16 << 10, rate / 20))) if rate else 1 << 20


def _bucket(rate: float, seconds: float) -> Bucket | None:
    return Bucket(rate, max(1.0, rate * seconds)) if rate > 0 else None
