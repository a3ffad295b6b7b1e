"""Jobs and batches: what the merge hands to the movers, and how a range knows that all before a key is done."""

from __future__ import annotations

from entrepot.model.entry import Evidence
from entrepot.model.errors import FailureClass, StoreError
from entrepot.model.shard import Doomed, Failure
from entrepot.model.totals import Totals

Outcome = tuple[bytes, str, int, str, str]
"""(key, outcome, size, proof, note)."""


class Batch:
    """A merged piece of a range. When ``open`` is 0, every entry up to ``upper`` has its outcome in ``totals``."""

    __slots__ = ("above", "doomed", "dropped", "failures", "lines", "open", "totals", "upper")

    def __init__(self, upper: bytes) -> None:
        self.upper = upper
        self.above: list[bytes] = []
        """Keys handed out before that later ones may lie below; shared by all batches of a scan."""
        self.open = 0
        self.totals = Totals()
        self.failures: list[Failure] = []
        self.doomed: list[Doomed] = []
        self.dropped = False
        """Set when the lease was lost: movers skip jobs of a dropped batch."""
        self.lines: list[Outcome] | None = None
        """Outcome of every entry, when a report is wanted."""

    def _tell(self, job: Job, outcome: str, note: str = "") -> None:
        if self.lines is not None:
            self.lines.append((job.key, outcome, job.size, job.proof, note))

    def copied(self, job: Job) -> None:
        """``job`` was copied and verified."""
        self.open -= 1
        self.totals.copied += 1
        self.totals.copied_bytes += job.size
        self._tell(job, "copied")

    def equal(self, job: Job) -> None:
        """A closer look found ``job`` equal."""
        self.open -= 1
        self.totals.equal += 1
        self.totals.equal_bytes += job.size
        self._tell(job, "equal")

    def skipped(self, job: Job) -> None:
        """``job`` was left out on purpose (vanished, a special file)."""
        self.open -= 1
        self.totals.skipped += 1
        self.totals.skipped_bytes += job.size
        self._tell(job, "skipped")

    def failed(self, job: Job, error: StoreError) -> None:
        """``job`` failed for good."""
        if error.failure is FailureClass.VANISHED:
            self.skipped(job)
            return
        self.open -= 1
        self.totals.failed += 1
        self.totals.failed_bytes += job.size
        self._tell(job, "failed", f"{error.failure.value}: {error.message}")
        self.failures.append(Failure(job.key, error.failure.value, error.message, job.attempts + 1, job.size))


class Job:
    """One source entry to be copied. ``evidence`` is the listing's, to pin the source version."""

    __slots__ = ("attempts", "batch", "evidence", "key", "proof", "size")

    def __init__(self, key: bytes, evidence: Evidence, size: int, batch: Batch) -> None:
        self.key = key
        self.evidence = evidence
        self.size = size
        self.batch = batch
        self.attempts = 0
        self.proof = ""
        """Evidence that verified the bytes or the equality, for the report."""

    def resize(self, size: int) -> None:
        """The source turned out to have ``size`` bytes."""
        self.batch.totals.total_bytes += size - self.size
        self.size = size
