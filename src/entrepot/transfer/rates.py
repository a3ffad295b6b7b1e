"""Rates: which bandwidth limit holds at a given time."""

from __future__ import annotations

import re
import time
from collections.abc import Callable

from entrepot.model.errors import UsageError
from entrepot.model.options import SyncOptions

_WINDOW = re.compile(r"^(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})=(\d+)$")


def current_bandwidth(options: SyncOptions, wall: float) -> int:
    """Bytes/s allowed at Unix time ``wall`` (0 = no limit): the first window that holds, else ``bandwidth``."""
    if not options.bandwidth_windows:
        return options.bandwidth
    local = time.localtime(wall)
    minute = local.tm_hour * 60 + local.tm_min
    for text in options.bandwidth_windows:
        start, end, rate = parse_window(text)
        holds = start <= minute < end if start <= end else minute >= start or minute < end
        if holds:
            return rate
    return options.bandwidth


def parse_window(text: str) -> tuple[int, int, int]:
    """(start minute, end minute, bytes/s) of ``HH:MM-HH:MM=BYTES``. Raises UsageError."""
    found = _WINDOW.match(text)
    if not found:
        raise UsageError(f"bandwidth window {text!r}", hint="write HH:MM-HH:MM=BYTES_PER_SECOND")
    h1, m1, h2, m2, rate = map(int, found.groups())
    if h1 > 24 or h2 > 24 or m1 > 59 or m2 > 59:
        raise UsageError(f"bandwidth window {text!r}: no such time of day")
    return h1 * 60 + m1, h2 * 60 + m2, rate


class Throttle:
    """Holds a blocking copy to ``rate`` bytes/s by sleeping; half a second of credit at most."""

    def __init__(self, rate: int, clock: Callable[[], float], sleep: Callable[[float], None]) -> None:
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._due = clock()

    def spend(self, count: int) -> None:
        """Account for ``count`` bytes; returns when they may have passed."""
        now = self._clock()
        self._due = max(self._due, now - 0.5) + count / self._rate
        if self._due > now:
            self._sleep(min(self._due - now, 5.0))
