"""The movers that move nothing: a verification tells what differs, a dry run what would be copied."""

from __future__ import annotations

from entrepot.model.entry import Row
from entrepot.model.errors import CorruptError
from entrepot.transfer.job import Batch, Job


class StillMover:
    """What the two have in common: nothing is ever begun, held or open."""

    backlog = 0
    busy = False

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


class VerifyMover(StillMover):
    """Implements ``Mover``: every row that reaches it differs (missing ones are told by the scan)."""

    def offer(self, batch: Batch, rows: list[Row]) -> None:
        """Tell each row as a difference."""
        for key, evidence, size in rows:
            batch.failed(
                Job(key, evidence, size, batch),
                CorruptError(f"{key!r} differs between source and destination", subject=repr(key)),
            )


class DryMover(StillMover):
    """Implements ``Mover``: every row that reaches it would be copied."""

    def offer(self, batch: Batch, rows: list[Row]) -> None:
        """Count each row as copied."""
        batch.open -= len(rows)
        batch.totals.copied += len(rows)
        batch.totals.copied_bytes += sum(row[2] for row in rows)
        if batch.lines is not None:
            batch.lines += [(row[0], "copied", row[2], "", "dry run") for row in rows]
