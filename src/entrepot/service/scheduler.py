"""The scheduler: begins tasks that wait, takes back what died, folds legs, and calls whoever has work in time.

Of several servers on one ledger only the one that holds the lease does this. It keeps nothing that the ledger does
not say as well: killed at any moment, the next one goes on. Conductors do not need it to go on with their tasks.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import pickle
import re
import select
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from entrepot.fleet.zygote import Asking
from entrepot.ledger import events, holding, leader, legs, queue, tasks
from entrepot.ledger.database import Connection, Ledger
from entrepot.ledger.tasks import Task
from entrepot.model.errors import EntrepotError
from entrepot.model.task import TaskState
from entrepot.model.totals import FIELDS

from .admission import Limits, Running, admit
from .owner import holder_name, is_alive, is_gone, this_process
from .perform import DONE, Job
from .resolving import Places

LOG = logging.getLogger("entrepot.scheduler")

NAME = "scheduler"
POLL = 0.5
START_SECONDS = 20.0
"""A conductor that has not taken hold of its task by then never will."""
REST_SECONDS = 0.3
CRASHES_MAX = 6
"""So often a task's process may die without the task getting on."""

_CORES = re.compile(r"(\d{1,4})Core", re.ASCII)

Resolve = Callable[[Connection, Task], Places]


@dataclass(slots=True, frozen=True)
class Setup:
    """What the scheduler is told once. ``ledger_place`` is what conductors open; 0 means no limit (of bandwidth)."""

    ledger_place: str = field(repr=False)
    state_dir: str
    most_tasks: int = 4
    processes: int = 0
    bandwidth: int = 0
    lease_seconds: float = leader.SECONDS


@dataclass(slots=True)
class _Crashes:
    count: int = 0
    mark: tuple[int, ...] = ()
    not_before: float = 0.0


@dataclass(slots=True)
class Chore:
    """Something the holder of the lease does every so many seconds; it may answer when it wants to be called again."""

    every: float
    work: Callable[[], float | None]
    due: float = 0.0


def _asked_cores(task: Task) -> int:
    """What the task's own resource spec (``4Core_8GiB``) says; 0: nothing."""
    try:
        asked = json.loads(task.filing.request or "{}")
    except ValueError:
        return 0
    found = _CORES.match(str(asked.get("resource_spec", ""))) if isinstance(asked, dict) else None
    return int(found[1]) if found else 0


def _writes(task: Task) -> bool:
    return task.spec.kind != "verify" and '"dry_run":true' not in task.spec.options


class Scheduler:
    """One per server. ``bell`` is a descriptor that becomes readable when there is something to look at."""

    def __init__(
        self,
        ledger: Ledger,
        asking: Asking,
        setup: Setup,
        resolve: Resolve,
        *,
        chores: Sequence[Chore] = (),
        bell: int = -1,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ledger = ledger
        self._asking = asking
        self._setup = setup
        self._resolve = resolve
        self._chores = list(chores)
        self._bell = bell
        self._clock = clock
        self._holder = holder_name(this_process())
        self._leads = False
        self._renew_at = 0.0
        self._starting: dict[str, float] = {}
        self._rests: dict[str, float] = {}
        self._crashes: dict[str, _Crashes] = {}
        self._cores = len(os.sched_getaffinity(0))
        self.stopping = False

    @property
    def leads(self) -> bool:
        """Whether this is the one that works."""
        return self._leads

    def run(self) -> None:
        """Work until ``stopping``; what fails is said in the log and tried again."""
        watched = [self._asking.fileno(), *([self._bell] if self._bell >= 0 else [])]
        try:
            while not self.stopping:
                try:
                    self.turn()
                except EntrepotError as error:
                    LOG.warning("the scheduler could not do its round: %s", error.message)
                except Exception:
                    LOG.exception("the scheduler could not do its round")
                ready, _, _ = select.select(watched, [], [], POLL)
                if self._bell in ready:
                    with contextlib.suppress(BlockingIOError):
                        os.read(self._bell, 4096)
        finally:
            self._resign()

    def _resign(self) -> None:
        try:
            self._ledger.settle(lambda c: leader.leave(c, NAME, self._holder))
        except EntrepotError as error:
            LOG.warning("the lease could not be given back: %s", error.message)

    def turn(self) -> None:
        """One round."""
        self._hear_ends()
        if not self._lead():
            return
        held = self._take_back()
        self._fold()
        self._undo(held)
        self._begin(held)
        self._do_chores()

    def _lead(self) -> bool:
        now = self._clock()
        if now >= self._renew_at:
            seconds = self._setup.lease_seconds
            led = self._ledger.settle(lambda c: leader.lead(c, NAME, self._holder, seconds, is_gone))
            if led != self._leads:
                LOG.info("this server %s the scheduler", "is" if led else "is no longer")
            self._leads = led
            self._renew_at = now + seconds / 4 if led else now + min(POLL, seconds / 4)
        return self._leads

    # -- what ended --------------------------------------------------------------------------------------------------

    def _hear_ends(self) -> None:
        now = self._clock()
        for gone in self._asking.gone():
            if not gone.name:
                self._starting.clear()
                continue
            self._starting.pop(gone.name, None)
            if gone.status == DONE:
                self._rests[gone.name] = now + REST_SECONDS
            else:
                self._mourn(gone.name, gone.status)
        self._starting = {name: until for name, until in self._starting.items() if until > now}
        self._rests = {name: until for name, until in self._rests.items() if until > now}

    def _mourn(self, task_id: str, status: int) -> None:
        """A process that dies again and again without getting on must not be begun for ever."""
        with self._ledger.read() as c:
            row = c.first(f"SELECT state, {', '.join(FIELDS)} FROM task WHERE id = :id", {"id": task_id})
        if row is None:
            return
        crashes = self._crashes.setdefault(task_id, _Crashes())
        mark = tuple(int(getattr(row, name)) for name in FIELDS)
        crashes.count = crashes.count + 1 if mark == crashes.mark else 1
        crashes.mark = mark
        crashes.not_before = self._clock() + min(30.0, 0.25 * 2 ** (crashes.count - 1)) - 0.25
        how = f"was killed by signal {-status}" if status < 0 else f"ended with code {status}"
        LOG.warning("the process of task %s %s", task_id, how)
        if crashes.count >= CRASHES_MAX:
            del self._crashes[task_id]
            self._ledger.settle(lambda c: self._give_up(c, task_id, how))

    def _give_up(self, c: Connection, task_id: str, how: str) -> None:
        holding.lost(c, is_alive, frozenset(self._starting))
        row = c.first("SELECT state, owner_pid, stop FROM task WHERE id = :id FOR UPDATE", {"id": task_id})
        if row is None or row.owner_pid:
            return
        text = f"its process died {CRASHES_MAX} times without getting on: it {how}"
        events.append(c, task_id, "crash", text)
        if row.stop == "cancel":
            tasks.transition(c, task_id, TaskState.CANCELLED, f"cancelled; half-moved objects may be left: {text}")
            holding.leave(c, task_id, TaskState.CANCELLED)
        elif row.state == TaskState.QUEUED:
            holding.leave(c, task_id, TaskState.FAILED, text)

    def _take_back(self) -> list[Task]:
        """What processes drive now; what dead ones drove is given back first."""
        with self._ledger.read() as c:
            held = holding.held(c)
        for task in held:
            if task.owner.pid and is_alive(task):
                self._starting.pop(task.id, None)
        if any(self._lost(task) for task in held):
            starting = frozenset(self._starting)
            for lost in self._ledger.settle(lambda c: holding.lost(c, is_alive, starting)):
                LOG.info("task %s lost its process: it is queued again", lost.id)
            with self._ledger.read() as c:
                held = holding.held(c)
        return held

    def _lost(self, task: Task) -> bool:
        if task.id in self._starting:
            return False
        if task.owner.pid:
            return not is_alive(task)
        return task.stop != "cancel"

    def _fold(self) -> None:
        with self._ledger.read() as c:
            parents = legs.unfolded(c)
        for parent in parents:
            self._ledger.settle(lambda c, parent=parent: legs.fold(c, parent))  # type: ignore[misc]

    # -- what begins -------------------------------------------------------------------------------------------------

    def _undo(self, held: Sequence[Task]) -> None:
        for task in held:
            if task.stop == "cancel" and not task.owner.pid and self._may_begin(task.id):
                self._start(task.id, 1, undo=True)

    def _begin(self, held: Sequence[Task]) -> None:
        running = [
            Running(
                task.id,
                task.filing.scope,
                frozenset({task.filing.source_connection, task.filing.destination_connection} - {""}),
                task.destination,
                _writes(task),
            )
            for task in held
            if task.owner.pid and task.state in tasks.ACTIVE
        ]
        known = {task.id for task in running}
        with self._ledger.read() as c:
            for task_id in self._starting:
                if task_id not in known and (row := c.first(f"{tasks.SELECT} WHERE id = :id", {"id": task_id})):
                    filing = tasks.from_row(row).filing
                    used = frozenset({filing.source_connection, filing.destination_connection} - {""})
                    running.append(Running(task_id, filing.scope, used))
            if len(running) >= self._setup.most_tasks:
                return
            limits = Limits(self._setup.most_tasks, queue.most_by_connection(c), queue.quotas(c, queue.MAX_RUNNING))
            waiting = (task for task in queue.waiting(c) if self._may_begin(task.id))
            chosen = admit(waiting, running, limits)
        for task in chosen:
            if not self._start(task.id, len(running) + len(chosen)):
                return

    def _may_begin(self, task_id: str) -> bool:
        now = self._clock()
        crashes = self._crashes.get(task_id)
        if crashes is not None and now < crashes.not_before:
            return False
        return task_id not in self._starting and now >= self._rests.get(task_id, 0.0)

    def _start(self, task_id: str, together: int, *, undo: bool = False) -> bool:
        """Have a conductor forked for a task; False when that is not possible now."""
        setup = self._setup
        try:
            with self._ledger.read() as c:
                task = tasks.read(c, task_id)
                places = self._resolve(c, task)
        except EntrepotError as error:
            if not undo:
                message = error.message
                self._ledger.settle(lambda c: self._refuse(c, task_id, message))
                return True
            places = Places()
        job = Job(
            task_id,
            task.spec,
            setup.ledger_place,
            setup.state_dir,
            processes=self._processes(task, together),
            connections=places.connections,
            volumes=places.volumes,
            bandwidth=setup.bandwidth,
            together=together,
            undo=undo,
        )
        if not self._asking.start(task_id, pickle.dumps(job)):
            LOG.warning("the process that starts others does not answer")
            return False
        self._starting[task_id] = self._clock() + START_SECONDS
        return True

    def _processes(self, task: Task, together: int) -> int:
        """One task alone has all cores; many together do not get many processes each."""
        most = min(self._setup.processes or self._cores, _asked_cores(task) or self._cores)
        return max(1, min(most, 2 * self._cores // max(1, together)))

    @staticmethod
    def _refuse(c: Connection, task_id: str, message: str) -> None:
        row = c.first("SELECT state, owner_pid FROM task WHERE id = :id FOR UPDATE", {"id": task_id})
        if row is not None and row.state == TaskState.QUEUED and not row.owner_pid:
            holding.leave(c, task_id, TaskState.FAILED, message)

    def _do_chores(self) -> None:
        now = self._clock()
        for chore in self._chores:
            if now < chore.due:
                continue
            chore.due = now + chore.every
            try:
                wanted = chore.work()
            except EntrepotError as error:
                LOG.warning("%s", error.message)
            else:
                if wanted is not None:
                    chore.due = now + max(0.0, wanted)
