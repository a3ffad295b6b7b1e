"""Looking at a running task: snapshots with rates, and an estimate where there is ground for one."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from entrepot.ledger import events, journal, tasks
from entrepot.ledger.database import Connection, Ledger
from entrepot.ledger.tasks import Task
from entrepot.model.shard import Failure, Phase
from entrepot.model.totals import FIELDS, Totals
from entrepot.observe.memory import peak_memory

from .request import Snapshot

WINDOW = 8.0
"""Seconds over which rates are taken."""
ENOUGH = 2.0
"""Seconds of rates before an estimate is made from them."""
RECENT = 50
SHOWN_WARNINGS = 20

_Mark = tuple[float, int, int, int]
"""(when, bytes moved, entries done, bytes done)."""


class Watch:
    """Makes snapshots of one task. ``runners`` names the runners of this run, ``live`` those still there."""

    def __init__(
        self,
        ledger: Ledger,
        task_id: str,
        *,
        resumed: bool,
        report: str,
        began: float,
        clock: Callable[[], float],
    ) -> None:
        self.runners: set[str] = set()
        self.live: set[str] = set()
        self.warnings: list[str] = []
        self._ledger = ledger
        self._task_id = task_id
        self._resumed = resumed
        self._report = report
        self._clock = clock
        self._began = began
        with ledger.read() as connection:
            before = tasks.read(connection, task_id)
        self._origin = _mark(self._began, before.totals, before.spec.kind)
        self._trail: deque[_Mark] = deque([self._origin])
        self._failures: tuple[int, list[Failure], dict[str, int]] = (0, [], {})

    def look(self, *, last: bool = False) -> Snapshot:
        """The task now; ``last`` takes the rates over the whole run."""
        with self._ledger.read() as connection:
            task = tasks.read(connection, self._task_id)
            stats = journal.stats(connection, self._task_id)
            counts = tasks.shard_counts(connection, self._task_id)
            self._look_at_failures(connection, task)
            warned = events.since(connection, self._task_id, limit=SHOWN_WARNINGS, kind="warning")
        _, failures, by_class = self._failures
        shot = Snapshot(
            task_id=task.id,
            state=task.state,
            totals=task.totals if last else self._with_live(task.totals, stats),
            phase=_phase(counts),
            scanning=not last and self._scanning(task, counts, stats),
            seconds=self._clock() - self._began,
            failures=failures,
            failure_counts=by_class,
            requests=_requests(stats),
            peak_rss_bytes=self._memory(stats),
            resumed=self._resumed,
            warnings=[*self.warnings, *[event.text for event in warned]],
            report=self._report,
        )
        self._rate(shot, task.spec.kind, last)
        return shot

    def _look_at_failures(self, connection: Connection, task: Task) -> None:
        if task.totals.failed != self._failures[0]:
            recent, _ = journal.failures(connection, task.id, RECENT)
            self._failures = (task.totals.failed, recent, journal.failure_counts(connection, task.id))

    def _with_live(self, totals: Totals, stats: dict[str, dict[str, int]]) -> Totals:
        """Add what runners did since the cursors in the ledger: shown, but not yet counted as done."""
        for runner in self.live:
            figures = stats.get(runner, {})
            totals.add(Totals(**{name: figures.get(f"live.{name}", 0) for name in FIELDS}))
        return totals

    def _scanning(self, task: Task, counts: dict[tuple[Phase, str], int], stats: dict[str, dict[str, int]]) -> bool:
        first: Phase = "verify" if task.spec.kind == "verify" else "scan"
        if counts.get((first, "queued")):
            return True
        if not counts.get((first, "leased")):
            return False
        # A session may tell how many listings it has open; without that, totals may still grow.
        return any(stats.get(runner, {}).get("scanning", 1) for runner in self.live)

    def _memory(self, stats: dict[str, dict[str, int]]) -> int:
        own = peak_memory()
        return own + sum(stats.get(runner, {}).get("peak_rss_bytes", 0) for runner in self.runners)

    def _rate(self, shot: Snapshot, kind: str, last: bool) -> None:
        totals = shot.totals
        now, moved, entries, size = mark = _mark(self._clock(), totals, kind)
        self._trail.append(mark)
        while now - self._trail[0][0] > WINDOW:
            self._trail.popleft()
        since, moved_then, entries_then, size_then = self._origin if last else self._trail[0]
        if now - since <= 0:
            return
        shot.rate_bytes = (moved - moved_then) / (now - since)
        shot.rate_entries = (entries - entries_then) / (now - since)
        if last or shot.scanning or shot.phase == "delete" or now - since < ENOUGH:
            return
        left = totals.total - (entries - totals.deleted)
        left_bytes = totals.total_bytes - size
        shot.eta_seconds = _longest(
            _time_for(left, shot.rate_entries), _time_for(left_bytes, (size - size_then) / (now - since))
        )


def _mark(at: float, totals: Totals, kind: str) -> _Mark:
    moved = totals.copied_bytes if kind == "sync" else totals.equal_bytes + totals.failed_bytes
    entries = totals.copied + totals.equal + totals.skipped + totals.failed + totals.deleted
    size = totals.copied_bytes + totals.equal_bytes + totals.skipped_bytes + totals.failed_bytes
    return at, moved, entries, size


def _time_for(left: int, rate: float) -> float | None:
    if left <= 0:
        return 0.0
    return left / rate if rate > 0 else None


def _longest(one: float | None, other: float | None) -> float | None:
    return None if one is None or other is None or max(one, other) <= 0 else max(one, other)


def _phase(counts: dict[tuple[Phase, str], int]) -> str:
    going = {phase for (phase, state), n in counts.items() if n and state in {"queued", "leased"}}
    return next((phase for phase in ("scan", "retry", "delete", "verify") if phase in going), "")


def _requests(stats: dict[str, dict[str, int]]) -> dict[str, int]:
    found: dict[str, int] = {}
    for figures in stats.values():
        for name, count in figures.items():
            if name.startswith("requests."):
                verb = name.removeprefix("requests.")
                found[verb] = found.get(verb, 0) + count
    return found
