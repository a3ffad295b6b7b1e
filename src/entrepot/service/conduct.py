"""Driving one task to its end: serve runners, replace dead ones, go from phase to phase, obey Ctrl-C."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from entrepot.ledger import events, tasks
from entrepot.ledger.database import Connection, Ledger, LedgerError
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
_STATE_AFTER = {"pause": TaskState.PAUSED, "again": TaskState.PAUSED, "cancel": TaskState.CANCELLED}


def _no_beat(_connection: Connection, _shot: Snapshot | None) -> None:
    return


def _leave(connection: Connection, task_id: str, end: TaskState, reason: str) -> None:
    if tasks.read(connection, task_id).state in tasks.ACTIVE:
        tasks.transition(connection, task_id, end, reason)
    if end is TaskState.SUCCEEDED:
        tasks.forget_journals(connection, task_id)


@dataclass(slots=True, frozen=True)
class Manner:
    """What differs between a run that a person waits for and a task of a server.

    ``interrupted`` is the state after a signal, ``broken`` after a fault that stops all runners, ``refused`` when a
    guard does not let the deletes pass. ``beat`` is called once a second in the transaction that shows signs of
    life; ``leave`` writes the last state.
    """

    snapshot_every: float = SNAPSHOT_EVERY
    interrupted: TaskState = TaskState.PAUSED
    broken: TaskState = TaskState.PAUSED
    refused: TaskState = TaskState.FAILED
    approved: bool = False
    raises: bool = True
    beat: Callable[[Connection, Snapshot | None], None] = _no_beat
    leave: Callable[[Connection, str, TaskState, str], object] = _leave


PERSON = Manner()


def _no_closing(_end: TaskState) -> list[str]:
    return []


class Conductor:
    """The parent's side of a run.

    ``closing`` is what remains to be done when the last runner has left, before the task gets its last state: a
    process that dies in between does it again. It answers warnings.
    """

    def __init__(
        self,
        ledger: Ledger,
        task_id: str,
        options: SyncOptions,
        *,
        crew: Crew,
        watch: Watch,
        interrupts: Interrupts,
        manner: Manner = PERSON,
        closing: Callable[[TaskState], list[str]] = _no_closing,
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
        self._manner = manner
        self._closing = closing
        self._clock = clock
        self._shot: Snapshot | None = None
        self._size = crew.size
        self._restarts = 0
        self._restart_at: list[float] = []
        self._end: TaskState | None = None
        self._over = False
        """There is nothing left to do: only the runners have to leave."""
        self._reason = ""
        self._fault: EntrepotError | None = None
        self._kill_at = float("inf")

    def run(self, on_snapshot: Callable[[Snapshot], None]) -> Snapshot:
        """Serve until the task has ended and all runners have left. Raises what the run failed with."""
        try:
            return self._serve(on_snapshot)
        except LedgerError as trouble:
            self._let_wait(trouble)
            raise

    def _let_wait(self, trouble: LedgerError) -> None:
        """The ledger failed: the task waits with that reason, if the ledger takes so much; it can go on either way."""
        try:
            with self._ledger.write() as connection:
                tasks.free_all(connection, self._task_id)
                self._manner.leave(connection, self._task_id, self._manner.interrupted, trouble.message)
        except EntrepotError:
            return

    def _serve(self, on_snapshot: Callable[[Snapshot], None]) -> Snapshot:
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
                next_shot = now + self._manner.snapshot_every
                shot = self._shot = self._look()
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
        found = self._ledger.settle(self._next)
        if found is None:
            return
        end, refusal = found
        if end is not None:
            self._over = True
            self._end = end
            if refusal is not None:
                self._fault, self._reason = refusal, refusal.message
            self._restart_at.clear()
            self._kill_at = self._clock() + LEAVE_SECONDS
        self._server.wake()

    def _next(self, connection: Connection) -> tuple[TaskState | None, GuardError | None] | None:
        """Queue the next phase: (None, None). At the end: (how, why not). None: this phase goes on."""
        if phases.open_shards(connection, self._task_id):
            return None
        tasks.begin(connection, self._task_id)
        end: TaskState | None = None
        refused: GuardError | None = None
        try:
            more = phases.advance(
                connection, self._task_id, self._options, self._size * 4, approved=self._manner.approved
            )
        except GuardError as refusal:
            end, refused = self._manner.refused, refusal
        else:
            if not more:
                end = phases.end_state(tasks.read(connection, self._task_id).totals)
        if end is not None:
            tasks.let_go(connection, self._task_id, "done")
        return end, refused

    def _stop(self, order: str, end: TaskState, reason: str) -> None:
        """Have the runners drain; the task gets its end state when they have left."""
        if self._over or self._end in {TaskState.CANCELLED, end}:
            return
        self._end, self._reason = end, reason
        self._restart_at.clear()
        self._kill_at = self._clock() + DRAIN_SECONDS
        tell = tasks.let_go if order == "drain" else tasks.order_stop
        self._ledger.settle(lambda connection: tell(connection, self._task_id, order))
        self._server.wake()

    def _beat(self) -> None:
        order = self._ledger.settle(self._sign)
        if order in _STATE_AFTER and self._end in {None, TaskState.PAUSED}:
            self._stop(order, _STATE_AFTER[order], "asked for from outside")

    def _sign(self, connection: Connection) -> str:
        order = tasks.beat(connection, self._task_id)
        self._manner.beat(connection, self._shot)
        return order

    def _check_failures(self, failed: int) -> None:
        if self._end is not None or failed <= 0:
            return
        if self._options.on_error == "stop":
            self._stop("pause", TaskState.FAILED, "stopped at the first failure")
        elif self._options.max_failures and failed >= self._options.max_failures:
            self._stop("pause", TaskState.FAILED, f"stopped after {failed} failures")

    def _heed_interrupts(self) -> None:
        count = self._interrupts.count
        if not count or self._over:
            return
        if not isinstance(self._fault, Interrupted):
            self._fault = Interrupted("interrupted", hint="run the same command again to go on")
            end = self._manner.interrupted
            if end is TaskState.PAUSED:
                self._stop("pause", end, "interrupted")
            else:
                self._stop("drain", end, "the server stopped: it goes on with the next start")
        if count > 1:
            self._kill_at = 0.0

    def _hear_farewells(self) -> None:
        gone, self._server.gone = self._server.gone, []
        for runner_id, last in gone:
            if last is None or last.outcome == "crash":
                self._mourn(runner_id, last)
            elif last.error is not None and self._fault is None:
                self._fault = last.error
                if isinstance(last.error, LedgerError):
                    # No fault of the task's: it goes on when the ledger does.
                    self._stop("drain", self._manner.interrupted, last.error.message)
                else:
                    self._stop("pause", self._manner.broken, last.error.message)

    def _mourn(self, runner_id: str, last: Farewell | None) -> None:
        self._fleet.observe()
        how = (last.text if last else "") or self._fleet.logs(runner_id) or "its pipe broke"
        self._ledger.settle(
            lambda connection: events.append(connection, self._task_id, "runner_died", f"{runner_id}: {how}")
        )
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
        try:
            self._watch.warnings += self._closing(self._end)
        except EntrepotError as error:
            self._fault = self._fault or error
            self._reason = "; ".join(text for text in (self._reason, error.message) if text)
        end, reason = self._end, self._reason
        self._ledger.settle(lambda connection: self._manner.leave(connection, self._task_id, end, reason))
        shot = self._watch.look(last=True)
        on_snapshot(shot)
        if isinstance(self._fault, Interrupted):
            self._fault.snapshot = shot
        if self._fault is not None and self._manner.raises:
            raise self._fault
        return shot
