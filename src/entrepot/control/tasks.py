"""Tasks of all kinds and families: lists, one of them, what is asked of it, what it left behind."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from entrepot.ledger import browse, events, journal, live, orders, tasks
from entrepot.ledger.browse import Filter
from entrepot.ledger.database import Connection, Row
from entrepot.ledger.events import Event
from entrepot.ledger.live import Live
from entrepot.model.errors import NoSuch, WrongState
from entrepot.model.shard import Failure
from entrepot.model.task import END_STATES, TaskState
from entrepot.model.totals import FIELDS
from entrepot.security.identity import Action, Principal, allows, require

from .auditing import change as changing
from .context import Control
from .scoping import readable

TYPES: Final = {
    "sync": ("sync", "AOSSTOFS", "FSTOAOSS", "THIRDTOAOSS", "THIRDTOFS", "AOSSTOAOSS", "FSTOFS"),
    "verify": ("verify",),
}
"""How the families call each kind of task."""
_SHOWN: Final = ", ".join(
    f"task.{name}"
    for name in (
        "id", "kind", "source", "destination", "options", "state", "reason", "stop", "created", "started", "finished",
        "resumed", "name", "scope", "family", "type", "creator", "request", "priority", "not_before", "schedule_id",
        "parent", "percent", "legs", *FIELDS,
    )
)  # fmt: skip
_ONE: Final = f"SELECT {_SHOWN} FROM task WHERE task.id = :id AND task.family <> ''"
_LEGS: Final = f"SELECT {_SHOWN} FROM task WHERE task.parent = :id ORDER BY task.id LIMIT 1000"
_REQUESTS: Final = "requests."
"""How the names of figures begin that count requests."""


@dataclass(slots=True, frozen=True)
class Found:
    """A task as it is shown: its row, and its figures of this moment while it runs."""

    row: Row
    live: Live | None = None


@dataclass(slots=True, frozen=True)
class Detail:
    """One task with everything that belongs to it."""

    found: Found
    failures: Mapping[str, int] = field(default_factory=dict)
    legs: Sequence[Found] = ()
    requests: Mapping[str, int] = field(default_factory=dict)
    """Requests to the stores by verb, over all runs of the task."""
    peak_rss_bytes: int = 0
    """The largest memory that one process of it had."""


@dataclass(slots=True, frozen=True)
class Listed:
    """One page, how many there are in all, and the mark of the next page (empty: there is none)."""

    tasks: Sequence[Found]
    total: int
    mark: str


def listing(
    control: Control,
    who: Principal,
    *,
    scope: str | None = None,
    kinds: Sequence[str] = (),
    families: Sequence[str] = (),
    states: Sequence[str] = (),
    creator: str = "",
    text: str = "",
    created_after: float | None = None,
    created_before: float | None = None,
    oldest_first: bool = False,
    mark: str = "",
    limit: int = 100,
) -> Listed:
    """Tasks that ``who`` may see, newest first."""
    scopes = readable(who, Action.TASK_READ, scope)
    if not scopes:
        return Listed((), 0, "")
    wanted = Filter(
        scopes,
        tuple(sorted(set(families))),
        tuple(sorted({name for kind in kinds for name in TYPES[kind]})),
        tuple(sorted(set(states))),
        text,
        creator,
        created_after,
        created_before,
    )
    with control.pool.read() as c:
        page = browse.by_mark(c, wanted, mark, limit, columns=_SHOWN, counts=control.counts, oldest_first=oldest_first)
        return Listed(_with_figures(c, page.rows), page.total, page.mark)


def read(control: Control, who: Principal, task_id: str) -> Detail:
    """One task. Raises NoSuch, also where it must not be known."""
    with control.pool.read() as c:
        _seen(c, who, task_id, Action.TASK_READ)
        return detail_of(c, task_id)


def detail_of(c: Connection, task_id: str) -> Detail:
    """One task, for those who may see it."""
    row = c.first(_ONE, {"id": task_id})
    if row is None:
        raise NoSuch(f"there is no task {task_id}")
    legs = c.execute(_LEGS, {"id": task_id}) if row.legs else []
    counts: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    memory = 0
    for one in [task_id, *(leg.id for leg in legs)]:
        counts.update(journal.failure_counts(c, one))
        for stats in journal.stats(c, one).values():
            memory = max(memory, stats.get("peak_rss_bytes", 0))
            requests.update({name[len(_REQUESTS) :]: n for name, n in stats.items() if name.startswith(_REQUESTS)})
    return Detail(_with_figures(c, [row])[0], counts, _with_figures(c, legs), requests, memory)


def figures(c: Connection, task_ids: Sequence[str]) -> dict[str, Found]:
    """Those of the tasks that are there, as they are now. Whoever asks has seen them before."""
    found: list[Row] = []
    for start in range(0, len(task_ids), live.SOME):
        some = {f"id{at}": task_id for at, task_id in enumerate(task_ids[start : start + live.SOME])}
        found += c.execute(f"SELECT {_SHOWN} FROM task WHERE id IN ({', '.join(f':{n}' for n in some)})", some)
    return {one.row.id: one for one in _with_figures(c, found)}


def failures(
    control: Control, who: Principal, task_id: str, before: int = 0, limit: int = 100
) -> tuple[list[Failure], int]:
    """Failed entries, latest first, and the mark to go on ``before`` (0: there are no more)."""
    with control.pool.read() as c:
        _seen(c, who, task_id, Action.TASK_READ)
        return journal.failures(c, task_id, limit, before)


def history(control: Control, who: Principal, task_id: str, after: int = 0, limit: int = 1000) -> list[Event]:
    """What happened to a task, oldest first."""
    with control.pool.read() as c:
        _seen(c, who, task_id, Action.TASK_READ)
        return events.since(c, task_id, after, limit)


def pause(control: Control, who: Principal, task_id: str) -> Detail:
    """Let a task drain and wait."""
    return _order(control, who, task_id, "pause", lambda c: orders.pause(c, task_id))


def resume(control: Control, who: Principal, task_id: str) -> Detail:
    """Let a paused task go on."""
    return _order(control, who, task_id, "resume", lambda c: orders.resume(c, task_id))


def cancel(control: Control, who: Principal, task_id: str) -> Detail:
    """End a task and take away what it left half-moved; again and again it is the same."""
    return _order(control, who, task_id, "cancel", lambda c: orders.cancel(c, task_id))


def retry(control: Control, who: Principal, task_id: str) -> Detail:
    """Do what failed once more."""
    return _order(control, who, task_id, "retry", lambda c: orders.retry(c, task_id))


def approve(control: Control, who: Principal, task_id: str, reason: str = "") -> Detail:
    """Let a task that waits for review go on: its deletes may pass."""
    return _order(control, who, task_id, "approve", lambda c: orders.approve(c, task_id), Action.REVIEW_DECIDE, reason)


def reject(control: Control, who: Principal, task_id: str, reason: str = "") -> Detail:
    """End a task that waits for review."""
    return _order(
        control, who, task_id, "reject", lambda c: orders.reject(c, task_id, reason), Action.REVIEW_DECIDE, reason
    )


def remove(control: Control, who: Principal, task_id: str) -> None:
    """Forget an ended task with everything of its own."""
    scope = _scope(control, who, task_id)
    with changing(control, who, Action.TASK_DELETE, f"task {task_id} (removed)", scope) as c:
        row = _seen(c, who, task_id, Action.TASK_DELETE, to_change=True)
        if TaskState(row.state) not in END_STATES:
            raise WrongState(f"task {task_id} is {row.state}: only an ended one can be deleted", hint="cancel it first")
        if row.parent:
            raise WrongState(f"task {task_id} is a part of task {row.parent}", hint="delete that one")
        for leg in c.execute(_LEGS, {"id": task_id}) if row.legs else ():
            tasks.remove(c, leg.id)
        tasks.remove(c, task_id)


def _order(
    control: Control,
    who: Principal,
    task_id: str,
    verb: str,
    give: Callable[[Connection], Any],
    action: Action = Action.TASK_CONTROL,
    reason: str = "",
) -> Detail:
    scope = _scope(control, who, task_id)
    with changing(control, who, action, f"task {task_id} ({verb})", scope) as c:
        row = _seen(c, who, task_id, action, to_change=True)
        if row.parent:
            raise WrongState(f"task {task_id} is a part of task {row.parent}", hint=f"{verb} that one")
        give(c)
        if reason:
            events.append(c, task_id, verb, f"{who.name}: {reason}")
    control.wake()
    return read(control, who, task_id)


def _scope(control: Control, who: Principal, task_id: str) -> str:
    with control.pool.read() as c:
        return str(_seen(c, who, task_id, Action.TASK_READ).scope)


def _seen(c: Connection, who: Principal, task_id: str, action: Action, *, to_change: bool = False) -> Row:
    row = c.first(_ONE + (" FOR UPDATE" if to_change else ""), {"id": task_id})
    if row is None or not allows(who, Action.TASK_READ, row.scope):
        raise NoSuch(f"there is no task {task_id}")
    if action is not Action.TASK_READ:
        require(who, action, row.scope)
    return row


def _with_figures(c: Connection, rows: Sequence[Row]) -> list[Found]:
    running = [row.id for row in rows if row.state in ("SCANNING", "RUNNING")]
    known = live.read(c, running) if running else {}
    for row in rows:
        if row.id in known:
            known[row.id].lead(row)
    return [Found(row, known.get(row.id)) for row in rows]


def options_of(row: Row) -> dict[str, Any]:
    """The options of a task as its request had them."""
    kept = json.loads(row.request) if row.request else {}
    found = kept.get("options") if isinstance(kept, dict) else None
    return dict(found) if isinstance(found, dict) else {}
