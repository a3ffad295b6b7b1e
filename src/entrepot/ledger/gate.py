"""A gate that lets so many threads in at once, in the order in which they came."""

from __future__ import annotations

import threading
from collections import deque


class Gate:
    """Like a semaphore, but a place goes to who has waited longest: nobody starves behind those who come often."""

    __slots__ = ("_free", "_lock", "_waiting")

    def __init__(self, places: int) -> None:
        self._free = places
        self._lock = threading.Lock()
        self._waiting: deque[threading.Lock] = deque()

    def enter(self, seconds: float) -> bool:
        """Wait for a place; False when there was none for so long."""
        with self._lock:
            if self._free:
                self._free -= 1
                return True
            mine = threading.Lock()
            mine.acquire()
            self._waiting.append(mine)
        if mine.acquire(timeout=seconds):
            return True
        with self._lock:
            if mine in self._waiting:
                self._waiting.remove(mine)
                return False
        # Handed over at the last moment.
        return True

    def leave(self) -> None:
        """Give the place on."""
        with self._lock:
            if self._waiting:
                self._waiting.popleft().release()
            else:
                self._free += 1
