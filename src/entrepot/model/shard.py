"""Shards: the leasable key ranges of a task, and the messages between a runner and the ledger.

A scan shard is the half-open key range ``(low, high]``-like interval: it holds the keys k with ``k > low`` (all keys
when low is empty) and, when ``high`` is not None, ``k <= high``. Everything at or below ``cursor`` is done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

from .entry import Evidence
from .totals import Totals

Phase = Literal["scan", "verify", "delete", "retry"]
"""What is done with a range; "retry" looks only at the keys in it that failed before."""


@dataclass(slots=True)
class Shard:
    """One leased shard. ``fence`` grows with every lease; a report under an old fence is refused."""

    id: int
    task_id: str
    phase: Phase
    fence: int
    low: bytes
    high: bytes | None
    cursor: bytes
    totals: Totals


@dataclass(slots=True, frozen=True)
class Failure:
    """One entry that failed: class, message without secrets, attempts made, size in bytes."""

    key: bytes
    failure: str
    message: str
    attempts: int
    size: int


@dataclass(slots=True, frozen=True)
class Doomed:
    """A destination entry that the source no longer has: a candidate for deletion, journaled before it is done."""

    key: bytes
    evidence: Evidence
    size: int


@dataclass(slots=True)
class Progress:
    """What a runner has done on a shard since its last report. ``totals`` are absolute for the shard."""

    shard_id: int
    fence: int
    cursor: bytes
    totals: Totals
    failed: bool = False
    """The range itself could not be listed to its end: its doomed entries are void."""
    destination_entries: int = 0
    """Destination entries seen so far in this shard (absolute), for the share cap of deletes."""
    failures: list[Failure] = field(default_factory=list)
    doomed: list[Doomed] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(slots=True)
class Orders:
    """The ledger's answer to a report: what to do next.

    ``stop`` is "", "pause" or "cancel"; ``lost`` names shards whose lease is gone; ``hungry`` counts runners
    without work (a wish for splits); ``bandwidth`` (bytes/s for this runner) changes a limit when not None.
    """

    stop: Literal["", "pause", "cancel"] = ""
    lost: tuple[int, ...] = ()
    hungry: int = 0
    bandwidth: int | None = None


@dataclass(slots=True)
class Partial:
    """A large object half moved. For uploads ``upload_id`` (empty = about to be created); for files ``staged``.

    ``size`` and ``evidence`` pin the source version; ``done`` lists finished part numbers (downloads only: an upload's
    parts are asked from the store).
    """

    key: bytes
    size: int
    evidence: Evidence
    part_size: int
    upload_id: str = ""
    staged: str = ""
    done: list[int] = field(default_factory=list)
    started: float = 0.0
    """Unix time."""


class LedgerPort(Protocol):
    """The ledger as a runner sees it: directly, over a pipe, or over HTTP."""

    def lease(self, limit: int) -> list[Shard]:
        """Lease up to ``limit`` queued shards of the task, lowest key first; empty when none is free now."""
        ...

    def report(
        self, progress: Sequence[Progress], final: Sequence[int] = (), stats: dict[str, int] | None = None
    ) -> Orders:
        """Checkpoint: store cursors, totals, failures and doomed entries in one transaction, extend the leases.

        ``stats`` are absolute for this runner: ``requests.list``, ``requests.get``, …, ``peak_rss_bytes``,
        ``connections``.

        Shards named in ``final`` end with this report (all of their range done, or refused for good with
        failures recorded). Those whose lease is gone come back in ``Orders.lost`` and are not stored.
        """
        ...

    def release(self, shard_ids: Sequence[int]) -> None:
        """Give shards back unfinished (pause, shutdown); their cursor stays."""
        ...

    def split(self, shard_id: int, fence: int, at: Sequence[bytes]) -> None:
        """Cut the shard at ascending keys: it keeps (low, at[0]], the rest becomes new queued shards.

        Raises LeaseLost.
        """
        ...

    def partials(self, low: bytes, high: bytes | None) -> list[Partial]:
        """Half-moved large objects of the task in a key range, from this or an earlier run."""
        ...

    def save_partial(self, partial: Partial) -> None:
        """Insert or replace the row of ``partial.key``. Durable on return."""
        ...

    def drop_partial(self, key: bytes) -> None:
        """Forget it (finished or aborted)."""
        ...

    def next_doomed(self, shard: Shard, limit: int) -> list[Doomed]:
        """Journaled deletes above ``shard.cursor`` in key order."""
        ...

    def failed_keys(self, shard: Shard) -> list[bytes]:
        """For a shard of the phase "retry": keys above ``shard.cursor`` that failed before, ascending."""
        ...
