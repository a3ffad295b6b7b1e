"""When a failed operation is tried again, and when it is given back with its error."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from entrepot.model.errors import StoreError, ThrottledError
from entrepot.storage.base import Op

from .http import retry_after

if TYPE_CHECKING:
    from .lane import HttpLane

REFUSED_FIRST = 0.1
REFUSED_MAX = 5.0
"""Back-off of a single operation under throttling; the lane's pace does the real slowing down."""


class Retries:
    """Back-off with full jitter for ``lane``. ``waiting`` operations come back by a timer."""

    def __init__(self, lane: HttpLane, random: Callable[[], float]) -> None:
        self.count = 0
        self.waiting = 0
        self._lane = lane
        self._random = random

    def again(self, op: Op, error: StoreError, head: bytes) -> bool:
        """Arrange another try of ``op``; False when its error is final.

        Faults are bounded by tries, "slow down" only by time. ``head`` is that of the reply, for Retry-After.
        """
        lane, options = self._lane, self._lane.options
        if isinstance(error, ThrottledError):
            now = lane.reactor.now
            note = lane.dialect.note(op)
            note.throttled = note.throttled or now
            note.refusals += 1
            lane.pace.throttled(now, retry_after(b"\n" + head))
            if now - note.throttled >= options.throttle_seconds:
                return False
            self._later(op, min(REFUSED_MAX, REFUSED_FIRST * 2.0 ** min(note.refusals, 10)))
            return True
        op.attempts += 1
        if not error.retryable or op.attempts >= options.attempts:
            return False
        self._later(op, min(options.backoff_max, options.backoff * 3.0 ** (op.attempts - 1)))
        return True

    def _later(self, op: Op, most: float) -> None:
        delay = most * self._random()
        self.count += 1
        self.waiting += 1
        op.retry_at = self._lane.reactor.now + delay
        self._lane.reactor.call_later(delay, partial(self._return, op))

    def _return(self, op: Op) -> None:
        self.waiting -= 1
        self._lane.requeue(op)
