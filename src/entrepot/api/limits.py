"""How often and how much: token buckets by name, and the number of open streams."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from entrepot.model.errors import TooMany

_NAMES = 10_000


class Buckets:
    """A bucket of permits for each name; ``rate`` permits a second flow in, at most ``burst`` are kept."""

    def __init__(self, rate: float, burst: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = float(burst)
        self._clock = clock
        self._lock = threading.Lock()
        self._levels: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, name: str, permits: float = 1.0) -> None:
        """Take permits. Raises TooMany, which says when there will be some again."""
        wait = self._take(name, permits)
        if wait > 0:
            raise TooMany("too many requests", hint=f"wait {wait:.1f} s", retry_after=wait)

    def try_take(self, name: str) -> bool:
        """Take a permit; False when there is none."""
        return self._take(name, 1.0) <= 0

    def empty(self, name: str) -> float:
        """Seconds until there is a permit again; 0 when there is one. Takes none."""
        return self._take(name, 0.0, least=1.0)

    def _take(self, name: str, permits: float, least: float = 0.0) -> float:
        if self._rate <= 0:
            return 0.0
        now = self._clock()
        with self._lock:
            level, then = self._levels.pop(name, (self._burst, now))
            level = min(self._burst, level + (now - then) * self._rate)
            needed = max(permits, least)
            enough = level >= needed
            self._levels[name] = (level - permits if enough else level, now)
            if len(self._levels) > _NAMES:
                self._levels.popitem(last=False)
        return 0.0 if enough else (needed - level) / self._rate


class Streams:
    """Counts what is open for long, in all and by name."""

    def __init__(self, most: int, most_each: int) -> None:
        self._most = most
        self._each = most_each
        self._lock = threading.Lock()
        self._open: dict[str, int] = {}

    @contextmanager
    def one(self, name: str) -> Iterator[None]:
        """Hold a place while inside. Raises TooMany when there is none."""
        self.enter(name)
        try:
            yield
        finally:
            self.leave(name)

    def enter(self, name: str) -> None:
        """Take a place. Raises TooMany when there is none."""
        with self._lock:
            if sum(self._open.values()) >= self._most or self._open.get(name, 0) >= self._each:
                raise TooMany("too many streams are open", hint="close one, or ask for the task itself", retry_after=5)
            self._open[name] = self._open.get(name, 0) + 1

    def leave(self, name: str) -> None:
        """Give a place back."""
        with self._lock:
            left = self._open.get(name, 0) - 1
            if left > 0:
                self._open[name] = left
            else:
                self._open.pop(name, None)

    @property
    def open(self) -> int:
        """How many are open."""
        with self._lock:
            return sum(self._open.values())
