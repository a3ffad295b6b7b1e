"""The ledger as a runner in a child process sees it: calls over a socket pair to the one process that writes.

Messages are a four-byte length and a pickle. That is safe here and only here: both ends are forks of one
process. This module must not import the database: runners stay small and start fast.
"""

from __future__ import annotations

import mmap
import pickle
import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from entrepot.model.errors import EntrepotError
from entrepot.model.shard import Doomed, Orders, Partial, Progress, Shard
from entrepot.model.task import TaskSpec

LENGTH = struct.Struct("<I")
PATIENCE = 0.05
"""The longest wait (seconds) for work in one lease call."""


class PipeClosed(EntrepotError):
    """The other end of the pipe is gone: stop without further effects."""


@dataclass(slots=True, frozen=True)
class Assignment:
    """What a runner learns when its task is known."""

    task_id: str
    runner_id: str
    spec: TaskSpec
    state_dir: str
    processes: int


@dataclass(slots=True, frozen=True)
class Scouted:
    """What the first runner found before the task: result of the checks, first cuts, or why not."""

    found: Any = None
    cuts: list[bytes] = field(default_factory=list)
    error: EntrepotError | None = None


@dataclass(slots=True, frozen=True)
class Farewell:
    """Last word of a runner: "" (done), "stopped", "error" (for the user), "crash" (a fault of ours)."""

    outcome: str
    error: EntrepotError | None = None
    text: str = ""


def pack(message: Any) -> bytes:
    """One framed message."""
    body = pickle.dumps(message, 5)
    return LENGTH.pack(len(body)) + body


class Bell:
    """A counter in shared memory, made before the fork: the parent rings, runners hear it for free."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, mmap.PAGESIZE)
        self._view = memoryview(self._memory).cast("Q")
        self._heard = 0

    def ring(self) -> None:
        """Ask all runners to report at once."""
        self._view[0] += 1

    def rang(self) -> bool:
        """True once after every ring (or several)."""
        count = self._view[0]
        if count == self._heard:
            return False
        self._heard = count
        return True


class PipePort:
    """``LedgerPort`` of one runner process."""

    def __init__(self, pipe: socket.socket) -> None:
        self._pipe = pipe
        self._finished = False

    def _call(self, *message: Any) -> Any:
        try:
            self._pipe.sendall(pack(message))
            (length,) = LENGTH.unpack(self._read(4))
            ok, value = pickle.loads(self._read(length))  # noqa: S301
        except OSError as error:
            raise PipeClosed(f"the ledger's process is gone: {error}") from error
        if not ok:
            raise value
        return value

    def _read(self, length: int) -> bytearray:
        data = bytearray(length)
        view = memoryview(data)
        while view:
            got = self._pipe.recv_into(view)
            if not got:
                raise PipeClosed("the ledger's process is gone")
            view = view[got:]
        return data

    def hello(self) -> Assignment:
        """Wait for the task. Raises PipeClosed when there will be none."""
        assignment: Assignment = self._call("hello")
        return assignment

    def tell(self, scouted: Scouted) -> None:
        """Tell what was found before the task."""
        self._call("tell", scouted)

    def farewell(self, last: Farewell) -> None:
        """Say why this runner ends."""
        self._call("farewell", last)

    def lease(self, limit: int, wait: float = 0.0) -> list[Shard]:
        """Lease shards; with none free wait up to ``wait`` seconds (at most 50 ms) for one."""
        shards: list[Shard]
        shards, self._finished = self._call("lease", limit, wait)
        return shards

    def finished(self) -> bool:
        """Whether the last lease call said that no shard will come any more."""
        return self._finished

    def report(
        self, progress: Sequence[Progress], final: Sequence[int] = (), stats: dict[str, int] | None = None
    ) -> Orders:
        """Checkpoint."""
        orders: Orders = self._call("report", progress, final, stats)
        return orders

    def release(self, shard_ids: Sequence[int]) -> None:
        """Give shards back."""
        self._call("release", shard_ids)

    def split(self, shard_id: int, fence: int, at: Sequence[bytes]) -> None:
        """Cut a shard."""
        self._call("split", shard_id, fence, at)

    def partials(self, low: bytes, high: bytes | None) -> list[Partial]:
        """Half-moved objects."""
        found: list[Partial] = self._call("partials", low, high)
        return found

    def save_partial(self, partial: Partial) -> None:
        """Durable on return."""
        self._call("save_partial", partial)

    def drop_partial(self, key: bytes) -> None:
        """Forget it."""
        self._call("drop_partial", key)

    def next_doomed(self, shard: Shard, limit: int) -> list[Doomed]:
        """Journaled deletes."""
        found: list[Doomed] = self._call("next_doomed", shard, limit)
        return found

    def failed_keys(self, shard: Shard) -> list[bytes]:
        """Keys that failed before."""
        found: list[bytes] = self._call("failed_keys", shard)
        return found
