"""A make-believe trade for tests of the engine: keys are numbers, effects are lines appended to a file."""

from __future__ import annotations

import bisect
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from entrepot.model.errors import EntrepotError
from entrepot.model.shard import Doomed, Failure, LedgerPort, Progress, Shard
from entrepot.model.task import TaskSpec
from entrepot.model.totals import Totals
from entrepot.service.trade import Trade
from entrepot.work.environment import WorkEnvironment


def key_of(number: int) -> bytes:
    return b"%08d" % number


@dataclass
class Found:
    source_identity: str = "fake|a/"
    destination_identity: str = "fake|b/"
    warnings: tuple[str, ...] = ()


@dataclass
class World:
    """What there is to do, and how the session behaves. Every entry is ten bytes."""

    count: int = 1000
    effects: str = ""
    chunk: int = 100
    pause: float = 0.0
    cuts: int = 4
    room: int = 2
    splits: bool = True
    failing: frozenset[int] = frozenset()
    doomed: int = 0
    present: int = 0
    """Destination entries besides the doomed ones."""
    raises: Callable[[int, bytes], EntrepotError | None] | None = None
    crash_at: bytes = b""
    found: Found = field(default_factory=Found)
    preflight_error: EntrepotError | None = None
    drain_seconds: float = 0.0

    def __post_init__(self) -> None:
        self.keys = [key_of(i) for i in range(self.count)]

    def trade(self) -> Trade:
        return Trade(self._preflight, self._plan, lambda spec, port, env: FakeSession(self, spec, port, env))

    def _preflight(self, spec: TaskSpec, env: WorkEnvironment) -> Found:
        if self.preflight_error is not None:
            raise self.preflight_error
        return self.found

    def _plan(self, spec: TaskSpec, processes: int, env: WorkEnvironment) -> list[bytes]:
        return [key_of(self.count * i // self.cuts) for i in range(1, self.cuts)]

    def done(self) -> list[bytes]:
        """Keys copied so far, in the order of their effects."""
        return [line.split()[1] for line in self._lines() if line.startswith(b"C ")]

    def deleted(self) -> list[bytes]:
        return [line.split()[1] for line in self._lines() if line.startswith(b"D ")]

    def _lines(self) -> list[bytes]:
        if not os.path.exists(self.effects):
            return []
        with open(self.effects, "rb") as file:
            return file.read().splitlines()


@dataclass
class _Open:
    shard: Shard
    cursor: bytes
    high: bytes | None
    totals: Totals
    entries: int = 0
    ended: bool = False
    keys: list[bytes] | None = None
    failures: list[Failure] = field(default_factory=list)
    doomed: list[Doomed] = field(default_factory=list)


class FakeSession:
    """Implements ``work.session.Session``."""

    def __init__(self, world: World, spec: TaskSpec, port: LedgerPort, env: WorkEnvironment) -> None:
        self.world = world
        self.port = port
        self.env = env
        self.open: dict[int, _Open] = {}
        self.stopping = ""
        self.stopped_at = 0.0
        self.limits: list[int] = []
        self.dropped: list[int] = []
        self.closed = False
        self.polls = 0
        self.fd = os.open(world.effects, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if world.effects else -1

    def add(self, shard: Shard) -> None:
        work = _Open(shard, shard.cursor, shard.high, Totals.from_dict(shard.totals.as_dict()))
        if shard.phase == "retry":
            there = set(self.world.keys)
            work.keys = [key for key in self.port.failed_keys(shard) if key in there]
        self.open[shard.id] = work

    @property
    def room(self) -> int:
        return 0 if self.stopping else max(0, self.world.room - len(self.open))

    @property
    def idle(self) -> bool:
        if self.stopping:
            return time.monotonic() - self.stopped_at >= self.world.drain_seconds
        return not self.open

    @property
    def urgent(self) -> bool:
        return any(work.ended for work in self.open.values())

    def poll(self, timeout: float) -> None:
        self.polls += 1
        if self.world.pause or self.stopping:
            time.sleep(min(self.world.pause or 0.001, timeout))
        if self.stopping:
            return
        for work in self.open.values():
            if not work.ended:
                self._step(work)

    def _step(self, work: _Open) -> None:
        if work.shard.phase == "delete":
            self._step_delete(work)
            return
        keys = self.world.keys if work.keys is None else work.keys
        start = bisect.bisect_right(keys, work.cursor) if work.cursor else 0
        end = len(keys) if work.high is None else bisect.bisect_right(keys, work.high)
        some = keys[start : min(end, start + self.world.chunk)]
        lines = []
        for key in some:
            self._trouble(work, key)
            work.totals.total += 1
            work.totals.total_bytes += 10
            work.entries += 1
            if work.shard.phase == "verify":
                work.totals.equal += 1
                work.totals.equal_bytes += 10
            elif int(key) in self.world.failing:
                work.totals.failed += 1
                work.totals.failed_bytes += 10
                work.failures.append(Failure(key, "forbidden", "no", 1, 10))
            else:
                work.totals.copied += 1
                work.totals.copied_bytes += 10
                lines.append(b"C %s %d\n" % (key, work.shard.fence))
        self._write(lines)
        if some:
            work.cursor = some[-1]
        if start + len(some) >= end:
            work.ended = True
            if work.shard.phase == "scan" and work.high is None:
                work.doomed = [Doomed(b"x" + key_of(i), i, 10) for i in range(self.world.doomed)]
                work.entries += self.world.doomed + self.world.present

    def _trouble(self, work: _Open, key: bytes) -> None:
        if key == self.world.crash_at:
            raise ZeroDivisionError("a fault of the session")
        error = self.world.raises(work.shard.fence, key) if self.world.raises else None
        if error is not None:
            raise error

    def _step_delete(self, work: _Open) -> None:
        shard = work.shard
        asked = Shard(shard.id, shard.task_id, "delete", shard.fence, shard.low, work.high, work.cursor, work.totals)
        some = self.port.next_doomed(asked, self.world.chunk)
        self._write([b"D %s %d\n" % (doomed.key, shard.fence) for doomed in some])
        for doomed in some:
            work.totals.deleted += 1
            work.totals.deleted_bytes += doomed.size
        if some:
            work.cursor = some[-1].key
        else:
            work.ended = True

    def _write(self, lines: list[bytes]) -> None:
        if self.fd >= 0 and lines:
            os.write(self.fd, b"".join(lines))

    def progress(self) -> tuple[list[Progress], list[int]]:
        said, ended = [], []
        for shard_id, work in list(self.open.items()):
            said.append(
                Progress(
                    shard_id,
                    work.shard.fence,
                    work.cursor,
                    Totals.from_dict(work.totals.as_dict()),
                    destination_entries=work.entries,
                    failures=work.failures,
                    doomed=work.doomed,
                )
            )
            work.failures, work.doomed = [], []
            if work.ended:
                ended.append(shard_id)
                del self.open[shard_id]
        return said, ended

    def split_offers(self, hungry: int) -> list[tuple[int, int, list[bytes]]]:
        if hungry <= 0 or not self.world.splits:
            return []
        keys = self.world.keys
        for shard_id, work in self.open.items():
            if work.ended or work.shard.phase in {"delete", "retry"}:
                continue
            start = bisect.bisect_right(keys, work.cursor)
            end = len(keys) if work.high is None else bisect.bisect_right(keys, work.high)
            if end - start < 2 * self.world.chunk:
                continue
            cut = keys[(start + end) // 2]
            work.high = cut
            return [(shard_id, work.shard.fence, [cut])]
        return []

    def drop(self, shard_ids: Sequence[int]) -> None:
        for shard_id in shard_ids:
            self.open.pop(shard_id, None)
            self.dropped.append(shard_id)

    def drain(self, stop: str) -> None:
        self.stopping = stop
        self.stopped_at = time.monotonic()

    def limit(self, bandwidth: int) -> None:
        self.limits.append(bandwidth)

    def stats(self) -> dict[str, int]:
        return {"requests.get": self.polls, "peak_rss_bytes": 1 << 20, "scanning": len(self.open)}

    def close(self) -> None:
        self.closed = True
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
