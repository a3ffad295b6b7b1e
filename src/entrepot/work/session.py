"""What a kind of work looks like to the runner: a session that takes shards and makes progress when polled."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from entrepot.model.shard import Progress, Shard


class Session(Protocol):
    """Work of one task in one process. Single-threaded: everything happens inside :meth:`poll`."""

    def add(self, shard: Shard) -> None:
        """Begin on a leased shard."""
        ...

    @property
    def room(self) -> int:
        """How many more shards this session would like to have leased now."""
        ...

    @property
    def idle(self) -> bool:
        """True when nothing is in flight and no shard is open."""
        ...

    def poll(self, timeout: float) -> None:
        """Work for at most about ``timeout`` seconds (returns earlier when there is something to report)."""
        ...

    @property
    def urgent(self) -> bool:
        """True when a shard has ended and should be reported without waiting for the next heartbeat."""
        ...

    def progress(self) -> tuple[list[Progress], list[int]]:
        """(progress of every open shard since the last call, ids of those that ended)."""
        ...

    def split_offers(self, hungry: int) -> list[tuple[int, int, list[bytes]]]:
        """(shard id, fence, ascending keys to cut at) for up to ``hungry`` idle runners; may be empty.

        The session has already shrunk its own shards to the first key when it answers; if the ledger refuses
        the split the caller drops the shard.
        """
        ...

    def drop(self, shard_ids: Sequence[int]) -> None:
        """The leases of these shards are lost: stop them without further effects."""
        ...

    def drain(self, stop: str) -> None:
        """Begin no new objects. "pause": finish or checkpoint what is in flight; "cancel": undo it."""
        ...

    def limit(self, bandwidth: int) -> None:
        """Change this process's share of the bandwidth, bytes/s (0 = none)."""
        ...

    def stats(self) -> dict[str, int]:
        """Absolute figures of this process, as ``LedgerPort.report`` takes them."""
        ...

    def close(self) -> None:
        """Close connections and files, remove what a cancelled run left."""
        ...
