"""The ledger as a runner in the same process sees it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from entrepot.model.shard import Doomed, Orders, Partial, Progress, Shard

from . import journal, shards, tasks
from .database import Ledger


def _nobody() -> int:
    return 0


class DirectPort:
    """``LedgerPort`` on an open ledger, for one runner of one task; ``hungry`` counts idle runners.

    A transaction that the database gave up for another one is done again: a runner never hears of it.
    """

    def __init__(
        self,
        ledger: Ledger,
        task_id: str,
        runner_id: str,
        *,
        lease_seconds: float = shards.LEASE_SECONDS,
        hungry: Callable[[], int] = _nobody,
    ) -> None:
        self.ledger = ledger
        self.task_id = task_id
        self.runner_id = runner_id
        self.lease_seconds = lease_seconds
        self.hungry = hungry

    def lease(self, limit: int, wait: float = 0.0) -> list[Shard]:
        """Lease free shards. Never waits: the process that could free one may be this one."""
        return self.ledger.settle(
            lambda connection: shards.lease(connection, self.task_id, self.runner_id, limit, self.lease_seconds)
        )

    def finished(self) -> bool:
        """True when no shard will come any more: the task ended, paused, or was told to stop."""
        with self.ledger.read() as connection:
            about = tasks.read(connection, self.task_id)
        return about.state not in tasks.ACTIVE or bool(about.stop)

    def report(
        self, progress: Sequence[Progress], final: Sequence[int] = (), stats: dict[str, int] | None = None
    ) -> Orders:
        """One transaction for the whole checkpoint."""
        orders = self.ledger.settle(
            lambda connection: shards.report(
                connection,
                self.task_id,
                self.runner_id,
                progress,
                final,
                stats=stats,
                seconds=self.lease_seconds,
            )
        )
        orders.hungry = self.hungry()
        return orders

    def release(self, shard_ids: Sequence[int]) -> None:
        """Give shards back."""
        if shard_ids:
            self.ledger.settle(lambda connection: shards.release(connection, self.runner_id, shard_ids))

    def expire(self) -> int:
        """This runner is dead: free what it held."""
        return self.ledger.settle(lambda connection: shards.expire(connection, self.runner_id))

    def split(self, shard_id: int, fence: int, at: Sequence[bytes]) -> None:
        """Cut a shard. Raises LeaseLost."""
        self.ledger.settle(lambda connection: shards.split(connection, self.runner_id, shard_id, fence, at))

    def partials(self, low: bytes, high: bytes | None) -> list[Partial]:
        """Half-moved objects."""
        with self.ledger.read() as connection:
            return journal.partials(connection, self.task_id, low, high)

    def save_partial(self, partial: Partial) -> None:
        """Durable on return."""
        self.ledger.settle(lambda connection: journal.save_partial(connection, self.task_id, partial))

    def drop_partial(self, key: bytes) -> None:
        """Forget it."""
        self.ledger.settle(lambda connection: journal.drop_partial(connection, self.task_id, key))

    def next_doomed(self, shard: Shard, limit: int) -> list[Doomed]:
        """Journaled deletes of a shard that are not done yet."""
        with self.ledger.read() as connection:
            return journal.next_doomed(connection, self.task_id, shard, limit)

    def failed_keys(self, shard: Shard) -> list[bytes]:
        """Keys of the shard's range that failed before."""
        from . import retrying

        with self.ledger.read() as connection:
            return retrying.keys(connection, self.task_id, shard.cursor, shard.high)
