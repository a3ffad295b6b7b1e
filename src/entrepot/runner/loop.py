"""The runner: lease ranges, let the session work on them, report, obey."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from entrepot.model.errors import LeaseLost
from entrepot.model.shard import Orders, Progress, Shard
from entrepot.work.session import Session

HEARTBEAT = 0.5
POLL = 0.1
IDLE_WAIT = 0.05
ASK_AGAIN = 0.25


class RunnerPort(Protocol):
    """The part of ``LedgerPort`` that the loop uses, with a lease call that may wait for work."""

    def lease(self, limit: int, wait: float = 0.0) -> list[Shard]:
        """Lease shards; a port that can waits up to ``wait`` seconds for one."""
        ...

    def finished(self) -> bool:
        """Whether no shard will come any more."""
        ...

    def report(
        self, progress: Sequence[Progress], final: Sequence[int] = (), stats: dict[str, int] | None = None
    ) -> Orders:
        """Checkpoint."""
        ...

    def release(self, shard_ids: Sequence[int]) -> None:
        """Give shards back."""
        ...

    def split(self, shard_id: int, fence: int, at: Sequence[bytes]) -> None:
        """Cut a shard. Raises LeaseLost."""
        ...


def run(
    session: Session,
    port: RunnerPort,
    *,
    clock: Callable[[], float] = time.monotonic,
    rang: Callable[[], bool] = lambda: False,
    alive: Callable[[], bool] = lambda: True,
    heartbeat: float = HEARTBEAT,
) -> str:
    """Work until no shard will come any more ("") or an order stops it ("pause", "cancel").

    ``rang`` tells that the parent wants a report now; ``alive`` that there is still someone to report to
    (else the answer is "orphaned"). Every shard that is held at the end was reported and given back. Errors
    of the session pass through.
    """
    loop = _Loop(session, port, clock, heartbeat)
    while alive():
        if not loop.stop and not loop.take_work() and loop.at_rest and port.finished():
            loop.report()
            return ""
        if not session.idle:
            session.poll(POLL)
        if loop.due(rang()):
            loop.report()
        if loop.stop and session.idle:
            loop.report()
            loop.give_back()
            return loop.stop
    return "orphaned"


class _Loop:
    def __init__(self, session: Session, port: RunnerPort, clock: Callable[[], float], heartbeat: float) -> None:
        self.session = session
        self.port = port
        self.clock = clock
        self.heartbeat = heartbeat
        self.stop = ""
        self.held: dict[int, int] = {}
        self.report_at = clock() + heartbeat
        self.ask_at = 0.0

    @property
    def at_rest(self) -> bool:
        """Nothing held and nothing in flight."""
        return not self.held and self.session.idle

    def due(self, rang: bool) -> bool:
        """Whether to report now. While draining, an urgent session is heard at most every POLL seconds."""
        now = self.clock()
        if now >= self.report_at:
            return True
        if self.stop:
            return self.session.urgent and now >= self.report_at - self.heartbeat + POLL
        return rang or self.session.urgent

    def take_work(self) -> int:
        """Lease as many shards as the session likes to have; wait a little when it has nothing else to do."""
        room = self.session.room
        if room <= 0 or self.clock() < self.ask_at:
            return 0
        idle = self.session.idle
        shards = self.port.lease(room, IDLE_WAIT if idle else 0.0)
        for shard in shards:
            self.held[shard.id] = shard.fence
            self.session.add(shard)
        if not shards and not idle:
            self.ask_at = self.clock() + ASK_AGAIN
        return len(shards)

    def report(self) -> None:
        """One checkpoint, and what its answer asks for."""
        progress, ended = self.session.progress()
        orders = self.port.report(progress, ended, self.session.stats())
        self.report_at = self.clock() + self.heartbeat
        if ended:
            self.ask_at = 0.0
        for shard_id in ended:
            self.held.pop(shard_id, None)
        if orders.lost:
            self._drop(orders.lost)
        if orders.bandwidth is not None:
            self.session.limit(orders.bandwidth)
        if orders.stop and self.stop not in {orders.stop, "cancel"}:
            self.stop = orders.stop
            self.session.drain(orders.stop)
        elif not self.stop:
            self._share(orders.hungry)

    def _share(self, hungry: int) -> None:
        for shard_id, fence, at in self.session.split_offers(hungry):
            try:
                self.port.split(shard_id, fence, at)
                self.ask_at = 0.0
            except LeaseLost:
                self._drop((shard_id,))

    def _drop(self, shard_ids: Sequence[int]) -> None:
        gone = [shard_id for shard_id in shard_ids if self.held.pop(shard_id, None) is not None]
        if gone:
            self.session.drop(gone)

    def give_back(self) -> None:
        """Release what is still held."""
        if self.held:
            self.port.release(sorted(self.held))
            self.held.clear()
