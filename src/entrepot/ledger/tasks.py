"""Task rows: creation, the one function that moves states, ownership, counting, pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from sqlalchemy import Connection, Row, and_, delete, func, insert, or_, select, update

from entrepot.model.errors import UsageError
from entrepot.model.shard import Phase
from entrepot.model.task import END_STATES, TRANSITIONS, TaskKind, TaskSpec, TaskState
from entrepot.model.totals import FIELDS, Totals

from . import events
from .dialect import now
from .schema import CHILDREN, doomed, partial, shard, task

ACTIVE = (TaskState.QUEUED, TaskState.SCANNING, TaskState.RUNNING)
"""States in which runners get work."""

Place = tuple[str, bytes]
"""(endpoint and bucket, prefix) in canonical form, as ``Store.identity`` gives it."""

_SECOND_LOOK = ("failed", "failed_bytes", "retries")


@dataclass(slots=True, frozen=True)
class Owner:
    """The process that drives a task: host and process space, boot, pid and its start time."""

    host: str = ""
    boot: str = ""
    pid: int = 0
    start: str = ""


@dataclass(slots=True, frozen=True)
class NewTask:
    """What is known when a task is created."""

    id: str
    spec: TaskSpec
    spec_hash: str
    source: Place = ("", b"")
    destination: Place = ("", b"")
    owner: Owner = field(default_factory=Owner)


@dataclass(slots=True)
class Task:
    """A task row. Times are Unix time by the database clock; ``owner_age`` is seconds since its last sign."""

    id: str
    spec: TaskSpec
    spec_hash: str
    source: Place
    destination: Place
    state: TaskState
    reason: str
    stop: str
    created: float
    started: float | None
    finished: float | None
    resumed: int
    owner: Owner
    owner_age: float | None
    failed_before: int
    late_reports: int
    destination_entries: int
    totals: Totals


def counted(kind: str, phase: str) -> Sequence[str]:
    """Totals of a shard that count for the task: a second look at copied entries adds only what is bad."""
    return _SECOND_LOOK if kind == "sync" and phase == "verify" else FIELDS


def create(connection: Connection, new: NewTask) -> None:
    """Insert the task as QUEUED."""
    connection.execute(
        insert(task).values(
            id=new.id,
            kind=new.spec.kind,
            source=new.spec.source,
            destination=new.spec.destination,
            source_place=new.source[0],
            source_prefix=new.source[1],
            destination_place=new.destination[0],
            destination_prefix=new.destination[1],
            options=new.spec.options,
            spec_hash=new.spec_hash,
            state=TaskState.QUEUED.value,
            created=now(),
            **_owner_columns(new.owner),
        )
    )
    events.append(connection, new.id, "state", TaskState.QUEUED.value)


def _owner_columns(owner: Owner) -> dict[str, Any]:
    return {
        "owner_host": owner.host,
        "owner_boot": owner.boot,
        "owner_pid": owner.pid,
        "owner_start": owner.start,
        "owner_seen": now() if owner.pid else None,
    }


def take_over(connection: Connection, task_id: str, owner: Owner, options: str) -> None:
    """Make ``owner`` drive an unfinished task on: QUEUED again, all leases of dead runners given back."""
    found = read(connection, task_id)
    connection.execute(
        update(task)
        .where(task.c.id == task_id)
        .values(
            resumed=task.c.resumed + 1,
            failed_before=task.c.failed,
            options=options,
            stop="",
            **_owner_columns(owner),
        )
    )
    connection.execute(
        update(shard)
        .where(shard.c.task_id == task_id, shard.c.state == "leased")
        .values(state="queued", lease_owner=None, lease_until=None)
    )
    if found.state not in ACTIVE:
        transition(connection, task_id, TaskState.QUEUED, "resumed")
    else:
        events.append(connection, task_id, "resumed", f"after its process (pid {found.owner.pid}) had gone")


def beat(connection: Connection, task_id: str) -> str:
    """Sign of life of the owner; answers the stop order that someone else may have left."""
    found = connection.execute(
        update(task).where(task.c.id == task_id).values(owner_seen=now()).returning(task.c.stop)
    ).scalar()
    return str(found or "")


def order_stop(connection: Connection, task_id: str, stop: str) -> None:
    """Leave an order ("pause" or "cancel") that every runner gets with its next report; cancel wins."""
    connection.execute(update(task).where(task.c.id == task_id, task.c.stop != "cancel").values(stop=stop))


def transition(connection: Connection, task_id: str, to: TaskState, reason: str = "") -> bool:
    """Move a task to another state by the table of transitions. False when it is there already.

    Raises UsageError for a way that the table does not have; nothing is changed then.
    """
    row = connection.execute(select(task.c.state, task.c.started).where(task.c.id == task_id).with_for_update()).first()
    if row is None:
        raise UsageError(f"no task {task_id}", hint="entrepot task list shows what there is")
    state = TaskState(row.state)
    if state is to:
        return False
    if to not in TRANSITIONS[state]:
        raise UsageError(f"task {task_id} is {state}: it cannot become {to}")
    values: dict[str, Any] = {"state": to.value, "reason": reason}
    if to in END_STATES:
        values["finished"] = now()
    elif to is TaskState.QUEUED:
        values["finished"] = None
    elif to is TaskState.SCANNING and row.started is None:
        values["started"] = now()
    connection.execute(update(task).where(task.c.id == task_id).values(**values))
    events.append(connection, task_id, "state", f"{to} {reason}".strip())
    return True


def read(connection: Connection, task_id: str) -> Task:
    """One task. Raises UsageError when there is none."""
    row = connection.execute(_select().where(task.c.id == task_id)).first()
    if row is None:
        raise UsageError(f"no task {task_id}", hint="entrepot task list shows what there is")
    return _task(row)


def _select() -> Any:
    return select(task, (now() - task.c.owner_seen).label("owner_age"))


def _task(row: Row[Any]) -> Task:
    values = row._mapping
    return Task(
        id=values["id"],
        spec=TaskSpec(cast(TaskKind, values["kind"]), values["source"], values["destination"], values["options"]),
        spec_hash=values["spec_hash"],
        source=(values["source_place"], values["source_prefix"]),
        destination=(values["destination_place"], values["destination_prefix"]),
        state=TaskState(values["state"]),
        reason=values["reason"],
        stop=values["stop"],
        created=values["created"],
        started=values["started"],
        finished=values["finished"],
        resumed=values["resumed"],
        owner=Owner(values["owner_host"], values["owner_boot"], values["owner_pid"], values["owner_start"]),
        owner_age=values["owner_age"],
        failed_before=values["failed_before"],
        late_reports=values["late_reports"],
        destination_entries=values["destination_entries"],
        totals=Totals(*[values[name] for name in FIELDS]),
    )


def listing(connection: Connection, limit: int = 100, before: str = "") -> list[Task]:
    """Tasks, youngest first; ``before`` is the last id of the former page."""
    query = _select().order_by(task.c.id.desc()).limit(limit)
    if before:
        query = query.where(task.c.id < before)
    return [_task(row) for row in connection.execute(query)]


def active(connection: Connection) -> list[Task]:
    """Tasks that some process may be driving now."""
    return [_task(row) for row in connection.execute(_select().where(task.c.state.in_(ACTIVE)))]


def heirless(connection: Connection, place: str) -> list[Task]:
    """Tasks, youngest first, that did not succeed or still have half-moved objects at ``place``."""
    half = select(partial.c.key).where(partial.c.task_id == task.c.id).exists()
    query = _select().where(task.c.destination_place == place, or_(half, task.c.state != TaskState.SUCCEEDED.value))
    return [_task(row) for row in connection.execute(query.order_by(task.c.id.desc()).limit(200))]


def resumable(connection: Connection, spec_hash: str) -> Task | None:
    """The youngest unfinished task of the same request: not ended, or stopped with ranges left to do."""
    open_range = (
        select(shard.c.id).where(shard.c.task_id == task.c.id, shard.c.state.in_(("queued", "leased"))).exists()
    )
    unfinished = or_(
        task.c.state.in_((*ACTIVE, TaskState.PAUSED.value)),
        and_(task.c.state == TaskState.FAILED.value, open_range),
    )
    row = connection.execute(
        _select().where(task.c.spec_hash == spec_hash, unfinished).order_by(task.c.id.desc()).limit(1)
    ).first()
    return _task(row) if row is not None else None


def recount(connection: Connection, task_id: str) -> tuple[Totals, Totals]:
    """(totals of the task row, totals summed anew over its shards): equal, or the ledger is wrong."""
    found = read(connection, task_id)
    anew = Totals()
    rows = connection.execute(
        select(shard.c.phase, *[func.sum(shard.c[name]).label(name) for name in FIELDS])
        .where(shard.c.task_id == task_id)
        .group_by(shard.c.phase)
    )
    for row in rows:
        names = counted(found.spec.kind, row.phase)
        anew.add(Totals(**{name: int(row._mapping[name]) for name in names}))
    return found.totals, anew


def shard_counts(connection: Connection, task_id: str) -> dict[tuple[Phase, str], int]:
    """Number of shards by (phase, state)."""
    rows = connection.execute(
        select(shard.c.phase, shard.c.state, func.count())
        .where(shard.c.task_id == task_id)
        .group_by(shard.c.phase, shard.c.state)
    )
    return {(phase, state): count for phase, state, count in rows}


def begin(connection: Connection, task_id: str) -> None:
    """A task that found nothing to lease still passes through SCANNING on its way to the end."""
    if read(connection, task_id).state is TaskState.QUEUED:
        transition(connection, task_id, TaskState.SCANNING)


def forget_journals(connection: Connection, task_id: str) -> None:
    """Drop what only an unfinished task needs: journaled deletes and half-moved objects."""
    for table in (doomed, partial):
        connection.execute(delete(table).where(table.c.task_id == task_id))


def prune(connection: Connection, older_than: float) -> int:
    """Forget tasks that ended more than ``older_than`` seconds ago, and everything of theirs."""
    old = [
        row.id
        for row in connection.execute(
            select(task.c.id)
            .where(task.c.state.in_(sorted(END_STATES)), task.c.finished < now() - older_than)
            .limit(1000)
        )
    ]
    for start in range(0, len(old), 200):
        some = old[start : start + 200]
        for table in CHILDREN:
            connection.execute(delete(table).where(table.c.task_id.in_(some)))
        connection.execute(delete(task).where(task.c.id.in_(some)))
    return len(old)
