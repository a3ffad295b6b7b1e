"""Verify: the mover that moves nothing. What a sync would copy is told as a difference."""

from __future__ import annotations

from entrepot.model.entry import Row
from entrepot.model.errors import CorruptError
from entrepot.transfer.job import Batch, Job


class VerifyMover:
    """Implements ``Mover``: every row that reaches it differs (missing ones are told by the scan)."""

    backlog = 0
    busy = False

    def offer(self, batch: Batch, rows: list[Row]) -> None:
        """Tell each row as a difference."""
        for key, evidence, size in rows:
            batch.failed(
                Job(key, evidence, size, batch),
                CorruptError(f"{key!r} differs between source and destination", subject=repr(key)),
            )

    def work(self) -> bool:
        """Nothing to do."""
        return False

    def drain(self, stop: str) -> None:
        """Nothing is in flight."""

    def forget(self, batch: Batch) -> None:
        """Nothing is in flight."""

    def live_bytes(self) -> int:
        """Nothing moves."""
        return 0

    def close(self) -> None:
        """Nothing is open."""
