"""The datasync family: its tool resources and their tasks, as the published interface has them."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from entrepot.ledger import browse, datasyncs, legs, live, orders, places, queue, tasks
from entrepot.ledger.browse import Filter
from entrepot.ledger.database import Connection, Row
from entrepot.ledger.datasyncs import FAMILY, Failed
from entrepot.ledger.ids import new_id
from entrepot.model.errors import NoSuch, RequestError, WrongState
from entrepot.model.task import END_STATES, TaskState
from entrepot.model.totals import FIELDS
from entrepot.security.identity import Action, Principal, allows

from .auditing import allow, change, record
from .context import Control
from .datasync_ends import Surroundings
from .datasync_making import TYPES, NewJob, make
from .once import NEVER, Once

TOOL_FIELDS: Final = ("display_name", "description", "tags", "properties")


@dataclass(slots=True, frozen=True)
class Site:
    """Where a tool resource is: the names in its path."""

    subscription: str
    group: str
    zone: str
    name: str

    @property
    def scope(self) -> str:
        """Where its tasks and rights hang."""
        return f"ads/{self.subscription}/{self.group}/{self.zone}/{self.name}"


_SHOWN: Final = f"""task.id, task.name, task.type, task.state, task.reason, task.creator, task.request, task.created,
    task.started, task.finished, task.percent, task.stop, {", ".join(f"task.{name}" for name in FIELDS)}"""
_ONE: Final = f"""SELECT {_SHOWN} FROM task
    WHERE task.id = :id AND task.scope = :scope AND task.family = '{FAMILY}' AND task.parent = ''"""


@dataclass(slots=True, frozen=True)
class Tool:
    """A tool resource."""

    id: str
    site: Site
    creator: str
    created: float
    updated: float
    about: Mapping[str, Any]


@dataclass(slots=True, frozen=True)
class Job:
    """A task as the family shows it; ``row`` has the columns of the task, ``rate`` is bytes/s, ``seconds`` its time."""

    row: Row
    request: Mapping[str, Any]
    rate: float
    seconds: float

    @property
    def state(self) -> TaskState:
        """The native state."""
        return TaskState(self.row.state)


@dataclass(slots=True, frozen=True)
class Listed:
    """One page of jobs, and how many there are in all."""

    jobs: Sequence[Job]
    total: int


# -- the tool resource


def tool(control: Control, who: Principal, site: Site) -> Tool:
    """The tool, made when it is used for the first time by someone who may make it."""
    allow(control, who, Action.TOOL_READ, f"datasync {site.name}", site.scope)
    return _tool(control, who, site)


def put_tool(control: Control, who: Principal, site: Site, about: Mapping[str, Any]) -> Tool:
    """Make or change the tool: fields that are given replace what was there."""
    with change(control, who, Action.TOOL_WRITE, f"datasync {site.name}", site.scope) as c:
        _make(c, who, site)
        row = _required(datasyncs.tool(c, site.scope, to_change=True), site)
        wanted = json.loads(row.document) | {name: about[name] for name in TOOL_FIELDS if name in about}
        chosen = (wanted.get("properties") or {}).get("connection")
        if chosen and places.find_connection(c, site.scope, str(chosen)) is None:
            raise RequestError(
                "properties.connection", f"there is no connection {chosen!r} here", hint="store it first"
            )
        datasyncs.change_tool(c, site.scope, json.dumps(wanted, ensure_ascii=False))
        return _as_tool(_required(datasyncs.tool(c, site.scope), site), site)


def remove_tool(control: Control, who: Principal, site: Site) -> None:
    """Forget the tool and its ended tasks. Raises WrongState while it has tasks that did not end."""
    allow(control, who, Action.TOOL_WRITE, f"datasync {site.name} (removed)", site.scope)
    while True:
        with change(control, who, Action.TASK_DELETE, f"ended tasks of datasync {site.name}", site.scope) as c:
            _required(datasyncs.tool(c, site.scope, to_change=True), site)
            number = datasyncs.live_tasks(c, site.scope)
            if number:
                raise WrongState(
                    f"the tool {site.name} has {number} tasks that did not end", hint="wait for them, or cancel them"
                )
            some = datasyncs.some_tasks(c, site.scope, 200)
            for task_id in some:
                _forget(c, task_id)
            if not some:
                datasyncs.remove_tool(c, site.scope)
                record(c, who, Action.TOOL_WRITE, f"datasync {site.name} (removed)", scope=site.scope)
                return


def _tool(control: Control, who: Principal, site: Site) -> Tool:
    with control.pool.read() as c:
        row = datasyncs.tool(c, site.scope)
    if row is None and allows(who, Action.TOOL_WRITE, site.scope):
        with change(control, who, Action.TOOL_WRITE, f"datasync {site.name} (made)", site.scope) as c:
            _make(c, who, site)
            row = datasyncs.tool(c, site.scope)
    return _as_tool(_required(row, site), site)


def _make(c: Connection, who: Principal, site: Site) -> None:
    datasyncs.add_tool(c, str(uuid.uuid4()), site.scope, site.name, "{}", who.name)


def _required(row: Row | None, site: Site) -> Row:
    if row is None:
        raise NoSuch(f"there is no data-sync tool {site.name}", hint="someone who may write tools makes it by its use")
    return row


def _as_tool(row: Row, site: Site) -> Tool:
    return Tool(row.id, site, row.creator, row.created, row.updated, json.loads(row.document))


# -- tasks


def listing(control: Control, who: Principal, site: Site, wanted: Filter, number: int, size: int) -> Listed:
    """Page ``number`` (from 1) of the tool's tasks, newest first; ``wanted`` narrows by type, state and name."""
    tool(control, who, site)
    allow(control, who, Action.TASK_READ, f"tasks of datasync {site.name}", site.scope)
    with control.pool.read() as c:
        page = browse.by_number(c, wanted, number, size, columns=_SHOWN, counts=control.counts)
        return Listed(_jobs(control, c, page.rows), page.total)


def filter_of(site: Site, **narrow: Any) -> Filter:
    """A filter of the tool's tasks."""
    return Filter((site.scope,), (FAMILY,), **narrow)


def read(control: Control, who: Principal, site: Site, task_id: str) -> Job:
    """One task."""
    allow(control, who, Action.TASK_READ, f"task {task_id}", site.scope)
    with control.pool.read() as c:
        return _jobs(control, c, [_row(c, site, task_id)])[0]


def create(control: Control, who: Principal, site: Site, new: NewJob, once: Once = NEVER) -> Job:
    """Make a task, and queue it. Raises RequestError that names the field."""
    if new.type not in TYPES:
        raise RequestError("type", "no such type of task", hint="one of: " + ", ".join(TYPES))
    allow(control, who, Action.TASK_CREATE, f"task {new.name}", site.scope)
    made = _tool(control, who, site)
    task_id = new_id(control.wall)
    with change(control, who, Action.TASK_CREATE, f"task {task_id} ({new.name})", site.scope) as c:
        once.begin(c, who)
        queue.check_room(c, site.scope)
        chosen = str((made.about.get("properties") or {}).get("connection") or "")
        about = Surroundings(control, c, who, site.scope, site.zone, chosen)
        make(about, made.id, site.subscription, new, task_id)
        job = _jobs(control, c, [_row(c, site, task_id)])[0]
        once.keep(c, who, job)
    control.wake()
    return job


def failures(
    control: Control, who: Principal, site: Site, task_id: str, before: int, size: int
) -> tuple[list[Failed], int]:
    """Failed entries of a task, latest first, and the mark to go on ``before`` (0: there are no more)."""
    allow(control, who, Action.TASK_READ, f"task {task_id}", site.scope)
    with control.pool.read() as c:
        _row(c, site, task_id)
        found = datasyncs.failures(c, task_id, before, size + 1)
    return found[:size], found[size - 1].id if len(found) > size else 0


def order(control: Control, who: Principal, site: Site, task_id: str, verb: Verb) -> Job:
    """Pause, resume, cancel or retry a task; one that runs obeys within seconds. Raises WrongState."""
    with change(control, who, Action.TASK_CONTROL, f"{verb} task {task_id}", site.scope) as c:
        row = _row(c, site, task_id, to_change=True)
        states, done, act = _ORDERS[verb]
        if verb == "resume" and row.stop == "pause":
            states = _WORKING | states
        if verb == "resume" and row.state == TaskState.REVIEW:
            raise WrongState(
                f"task {task_id} is PAUSED for a review: it cannot be resumed", hint="a reviewer can approve it"
            )
        _expect(row, done, states)
        act(c, task_id)
        job = _jobs(control, c, [_row(c, site, task_id)])[0]
    control.wake()
    return job


def remove(control: Control, who: Principal, site: Site, task_id: str) -> None:
    """Forget an ended task with everything of its own. Raises WrongState for one that did not end."""
    with change(control, who, Action.TASK_DELETE, f"task {task_id}", site.scope) as c:
        row = _row(c, site, task_id, to_change=True)
        _expect(row, "deleted", END_STATES, "cancel it first")
        _forget(c, task_id)


def _forget(c: Connection, task_id: str) -> None:
    for leg in legs.of(c, task_id):
        tasks.remove(c, leg)
    tasks.remove(c, task_id)


def _row(c: Connection, site: Site, task_id: str, *, to_change: bool = False) -> Row:
    row = c.first(_ONE + (" FOR UPDATE" if to_change else ""), {"id": task_id, "scope": site.scope})
    if row is None:
        raise NoSuch(f"there is no task {task_id}")
    return row


STATES: Final[Mapping[TaskState, str]] = {
    TaskState.QUEUED: "SCANNING",
    TaskState.SCANNING: "SCANNING",
    TaskState.RUNNING: "DOING",
    TaskState.PAUSED: "PAUSED",
    TaskState.REVIEW: "PAUSED",
    TaskState.SUCCEEDED: "COMPLETED",
    TaskState.FAILED: "FAILED",
    TaskState.REJECTED: "FAILED",
    TaskState.CANCELLED: "CANCELLED",
}
"""The family's word for each native state."""


Verb = Literal["pause", "resume", "cancel", "retry"]
_WORKING: Final = frozenset({TaskState.QUEUED, TaskState.SCANNING, TaskState.RUNNING})
_WAITING: Final = frozenset({TaskState.PAUSED, TaskState.REVIEW})
_ORDERS: Final[Mapping[Verb, tuple[frozenset[TaskState], str, Callable[[Connection, str], TaskState]]]] = {
    "pause": (_WORKING, "paused", orders.pause),
    "resume": (_WAITING, "resumed", orders.resume),
    "cancel": (_WORKING | _WAITING, "cancelled", orders.cancel),
    "retry": (frozenset({TaskState.FAILED, TaskState.CANCELLED}), "retried", orders.retry),
}
"""From which states each order is taken, in which word, and what does it."""


def _expect(row: Row, done: str, states: frozenset[TaskState], hint: str = "") -> None:
    if TaskState(row.state) not in states:
        raise WrongState(f"task {row.id} is {STATES[TaskState(row.state)]}: it cannot be {done}", hint=hint)


def _jobs(control: Control, c: Connection, found: Sequence[Row]) -> list[Job]:
    figures = live.read(c, [row.id for row in found if TaskState(row.state) not in END_STATES])
    now = control.wall()
    jobs = []
    for row in found:
        seconds = max((row.finished or now) - row.started, 0.0) if row.started else 0.0
        known = figures.get(row.id)
        rate = known.rate_bytes if known else 0.0
        if known is not None:
            known.lead(row)
        if row.finished and seconds > 0:
            rate = row.copied_bytes / seconds
        jobs.append(Job(row, json.loads(row.request or "{}"), rate, seconds))
    return jobs
