"""Driving one task to its end: serve runners, replace dead ones, go from phase to phase, obey Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable

from entrepot.ledger import events, tasks
from entrepot.ledger.database import Ledger
from entrepot.ledger.pipe import Farewell
from entrepot.model.errors import EntrepotError, GuardError, InternalError
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskState

from . import phases
from .crew import Crew
from .interrupts import Interrupts
from .request import Interrupted, Snapshot
from .watch import Watch

SNAPSHOT_EVERY = 0.25
BEAT_EVERY = 1.0
DRAIN_SECONDS = 10.0
LEAVE_SECONDS = 5.0
RESTART_PAUSE = 0.1
_STATE_AFTER = {"pause": TaskState.PAUSED, "cancel": TaskState.CANCELLED}


class Conductor:
    """The parent's side of a run."""

    def __init__(
        self,
        ledger: Ledger,
        task_id: str,
        options: SyncOptions,
        *,
        crew: Crew,
        watch: Watch,
        interrupts: Interrupts,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._task_id = task_id
        self._options = options
        self._server = crew.server
        self._fleet = crew.fleet
        self._launch = crew.launch
        self._watch = watch
        self._interrupts = interrupts
        self._clock = clock
        self._size = crew.size
        self._restarts = 0
        self._restart_at: list[float] = []
        self._end: TaskState | None = None
        self._reason = ""
        self._fault: EntrepotError | None = None
        self._kill_at = float("inf")

    def run(self, on_snapshot: Callable[[Snapshot], None]) -> Snapshot:
        """Serve until the task has ended and all runners have left. Raises what the run failed with."""
        with self._ledger.read() as connection:
            failed_before = tasks.read(connection, self._task_id).failed_before
        next_shot = next_beat = self._clock()
        while self._end is None or self._server.runners:
            now = self._clock()
            # A runner that hangs holds up neither its ranges (their leases end) nor the look for what is next.
            due = now >= next_shot
            if now >= next_beat:
                next_beat = now + BEAT_EVERY
                self._beat()
            if due:
                next_shot = now + SNAPSHOT_EVERY
                shot = self._look()
                on_snapshot(shot)
                self._check_failures(shot.totals.failed - failed_before)
            self._server.serve(max(0.0, min(next_shot, *self._restart_at, self._kill_at) - self._clock()))
            self._hear_farewells()
            self._heed_interrupts()
            self._replace_the_dead()
            if self._end is None and (due or self._all_idle()):
                self._move_on()
            if self._clock() >= self._kill_at:
                self._kill()
        return self._finish(on_snapshot)

    def _look(self) -> Snapshot:
        self._watch.live = set(self._server.runners)
        return self._watch.look()

    def _all_idle(self) -> bool:
        return self._server.hungry() == len(self._server.runners)

    def _move_on(self) -> None:
        """See whether the phase is over, and what follows."""
        with self._ledger.write() as connection:
            if phases.open_shards(connection, self._task_id):
                return
            tasks.begin(connection, self._task_id)
            try:
                more = phases.advance(connection, self._task_id, self._options, self._size * 4)
            except GuardError as refusal:
                self._fault = refusal
                self._end, self._reason = TaskState.FAILED, refusal.message
            else:
                if not more:
                    totals = tasks.read(connection, self._task_id).totals
                    self._end = phases.end_state(totals)
            if self._end is not None:
                tasks.transition(connection, self._task_id, self._end, self._reason)
        if self._end is not None:
            self._restart_at.clear()
            self._kill_at = self._clock() + LEAVE_SECONDS
        self._server.wake()

    def _stop(self, order: str, end: TaskState, reason: str) -> None:
        """Have the runners drain; the task gets its end state when they have left."""
        if self._end in {TaskState.CANCELLED, end}:
            return
        self._end, self._reason = end, reason
        self._restart_at.clear()
        self._kill_at = self._clock() + DRAIN_SECONDS
        with self._ledger.write() as connection:
            tasks.order_stop(connection, self._task_id, order)
        self._server.wake()

    def _beat(self) -> None:
        with self._ledger.write() as connection:
            order = tasks.beat(connection, self._task_id)
        if order and self._end is None:
            self._stop(order, _STATE_AFTER[order], "asked for from outside")

    def _check_failures(self, failed: int) -> None:
        if self._end is not None or failed <= 0:
            return
        if self._options.on_error == "stop":
            self._stop("pause", TaskState.FAILED, "stopped at the first failure")
        elif self._options.max_failures and failed >= self._options.max_failures:
            self._stop("pause", TaskState.FAILED, f"stopped after {failed} failures")

    def _heed_interrupts(self) -> None:
        count = self._interrupts.count
        if not count or (self._end is not None and self._fault is None and self._ended()):
            return
        if not isinstance(self._fault, Interrupted):
            self._fault = Interrupted("interrupted", hint="run the same command again to go on")
            self._stop("pause", TaskState.PAUSED, "interrupted")
        if count > 1:
            self._kill_at = 0.0

    def _ended(self) -> bool:
        """The end is in the ledger already: only the runners have not all left yet."""
        with self._ledger.read() as connection:
            return tasks.read(connection, self._task_id).state not in tasks.ACTIVE

    def _hear_farewells(self) -> None:
        gone, self._server.gone = self._server.gone, []
        for runner_id, last in gone:
            if last is None or last.outcome == "crash":
                self._mourn(runner_id, last)
            elif last.error is not None and self._fault is None:
                self._fault = last.error
                self._stop("pause", TaskState.PAUSED, last.error.message)

    def _mourn(self, runner_id: str, last: Farewell | None) -> None:
        self._fleet.observe()
        how = (last.text if last else "") or self._fleet.logs(runner_id) or "its pipe broke"
        with self._ledger.write() as connection:
            events.append(connection, self._task_id, "runner_died", f"{runner_id}: {how}")
        if self._end is not None:
            return
        short = how.strip().rpartition("\n")[2]
        self._watch.warnings.append(f"a runner died ({short}); its ranges were given back")
        self._restarts += 1
        if self._restarts <= 10 + 4 * self._size:
            self._restart_at.append(self._clock() + min(RESTART_PAUSE * self._restarts, 2.0))
        elif not self._server.runners and not self._restart_at:
            self._fault = InternalError(f"the runners keep dying ({short})", hint="entrepot doctor")
            self._stop("pause", TaskState.FAILED, self._fault.message)

    def _replace_the_dead(self) -> None:
        now = self._clock()
        due = [at for at in self._restart_at if at <= now]
        for at in due:
            self._restart_at.remove(at)
            self._watch.runners.add(self._launch())

    def _kill(self) -> None:
        self._kill_at = float("inf")
        for runner_id in self._server.runners:
            self._fleet.stop(runner_id, force=True)
            self._server.drop(runner_id)

    def _finish(self, on_snapshot: Callable[[Snapshot], None]) -> Snapshot:
        assert self._end is not None
        with self._ledger.write() as connection:
            if tasks.read(connection, self._task_id).state in tasks.ACTIVE:
                tasks.transition(connection, self._task_id, self._end, self._reason)
            if self._end is TaskState.SUCCEEDED:
                tasks.forget_journals(connection, self._task_id)
        shot = self._watch.look(last=True)
        on_snapshot(shot)
        if isinstance(self._fault, Interrupted):
            self._fault.snapshot = shot
        if self._fault is not None:
            raise self._fault
        return shot
