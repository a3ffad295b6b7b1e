"""Task rows: creation, the one function that moves states, ownership, counting, pruning."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from entrepot.model.errors import UsageError
from entrepot.model.shard import Phase
from entrepot.model.task import END_STATES, TRANSITIONS, TaskKind, TaskSpec, TaskState
from entrepot.model.totals import FIELDS, Totals

from . import events, hooks, labels, usage
from .database import Connection, Row
from .filing import COLUMNS, UNFILED, Filing, count, filing_of
from .schema import CHILDREN

ACTIVE = (TaskState.QUEUED, TaskState.SCANNING, TaskState.RUNNING)
"""States in which runners get work."""

Place = tuple[str, bytes]
"""(endpoint and bucket, prefix) in canonical form, as ``Store.identity`` gives it."""

_SECOND_LOOK = ("failed", "failed_bytes", "retries")

_ACTIVE = ", ".join(f"'{state}'" for state in ACTIVE)
_ENDED = ", ".join(f"'{state}'" for state in sorted(END_STATES))

_CREATE = f"""INSERT INTO task (
        id, kind, source, destination, source_place, source_prefix, destination_place, destination_prefix,
        options, spec_hash, state, created, owner_host, owner_boot, owner_pid, owner_start, owner_seen,
        {", ".join(COLUMNS)}
    ) VALUES (
        :id, :kind, :source, :destination, :source_place, :source_prefix, :destination_place, :destination_prefix,
        :options, :spec_hash, :state, now(), :host, :boot, :pid, :start, CASE WHEN :pid <> 0 THEN now() END,
        {", ".join(f":{name}" for name in COLUMNS)}
    )"""

_TAKE_OVER = """UPDATE task SET resumed = resumed + 1, failed_before = failed, options = :options, stop = '',
    owner_host = :host, owner_boot = :boot, owner_pid = :pid, owner_start = :start,
    owner_seen = CASE WHEN :pid <> 0 THEN now() END
    WHERE id = :id"""

_OWN = """UPDATE task SET resumed = resumed + CASE WHEN started IS NULL THEN 0 ELSE 1 END, failed_before = failed,
    stop = '', owner_host = :host, owner_boot = :boot, owner_pid = :pid, owner_start = :start, owner_seen = now()
    WHERE id = :id"""

_FREE_ALL = """UPDATE shard SET state = 'queued', lease_owner = NULL, lease_until = NULL
    WHERE task_id = :id AND state = 'leased'"""

_BEAT = "UPDATE task SET owner_seen = now() WHERE id = :id"
_STOP = "SELECT stop FROM task WHERE id = :id"
_ORDER_STOP = "UPDATE task SET stop = :stop WHERE id = :id AND stop <> 'cancel'"
_LET_GO = "UPDATE task SET stop = :stop WHERE id = :id AND stop = ''"

_STATE = "SELECT state, started, scope, family, type, parent FROM task WHERE id = :id FOR UPDATE"
_MOVE = "UPDATE task SET state = :state, reason = :reason{times} WHERE id = :id"

SELECT = "SELECT task.*, now() - owner_seen AS owner_age FROM task"
_READ = f"{SELECT} WHERE id = :id"
_LISTING = f"{SELECT} ORDER BY id DESC LIMIT :limit"
_LISTING_ON = f"{SELECT} WHERE id < :before ORDER BY id DESC LIMIT :limit"
# Two questions, each with an index of its own: a server has many tasks that wait, and many that ended.
_DRIVEN_HERE = f"{SELECT} WHERE family = '' AND owner_pid <> 0 AND state IN ({_ACTIVE})"
_DRIVEN = f"""{SELECT} WHERE family <> '' AND legs = 0
    AND (owner_pid <> 0 OR stop <> '' OR state IN ('SCANNING', 'RUNNING'))
    AND owner_pid <> 0 AND coalesce(state, '') IN ({_ACTIVE})"""

_UNFINISHED = f"{SELECT} WHERE destination_place = :place AND state <> 'SUCCEEDED' ORDER BY id DESC LIMIT 200"
_LEFT_OVER = f"""{SELECT} WHERE id IN (SELECT task_id FROM partial) AND coalesce(state, '') = 'SUCCEEDED'
    AND destination_place = :place ORDER BY id DESC LIMIT 200"""

_RESUMABLE = f"""{SELECT} WHERE spec_hash = :spec_hash AND (
        state IN ({_ACTIVE}, 'PAUSED')
        OR state = 'FAILED' AND EXISTS (
            SELECT 1 FROM shard WHERE shard.task_id = task.id AND shard.state IN ('queued', 'leased')
        )
    ) ORDER BY id DESC LIMIT 1"""

_RECOUNT = f"""SELECT phase, {", ".join(f"sum({name}) AS {name}" for name in FIELDS)}
    FROM shard WHERE task_id = :id GROUP BY phase"""

_SHARD_COUNTS = "SELECT phase, state, count(*) AS shards FROM shard WHERE task_id = :id GROUP BY phase, state"

_OLD = f"""SELECT id, state, scope, family, type, parent FROM task
    WHERE state IN ({_ENDED}) AND finished < now() - :age LIMIT 1000 FOR UPDATE SKIP LOCKED"""

_ENDING = "SELECT id, state, scope, family, type, parent FROM task WHERE id = :id FOR UPDATE"


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
    filing: Filing = UNFILED


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
    filing: Filing = UNFILED
    percent: int = 0


def counted(kind: str, phase: str) -> Sequence[str]:
    """Totals of a shard that count for the task: a second look at copied entries adds only what is bad."""
    return _SECOND_LOOK if kind == "sync" and phase in {"verify", "verified"} else FIELDS


def create(connection: Connection, new: NewTask) -> None:
    """Insert the task as QUEUED."""
    values = {
        "id": new.id,
        "kind": new.spec.kind,
        "source": new.spec.source,
        "destination": new.spec.destination,
        "source_place": new.source[0],
        "source_prefix": new.source[1],
        "destination_place": new.destination[0],
        "destination_prefix": new.destination[1],
        "options": new.spec.options,
        "spec_hash": new.spec_hash,
        "state": TaskState.QUEUED.value,
    }
    connection.change(_CREATE, {**values, **_owner_values(new.owner), **new.filing.as_columns()})
    count(connection, new.filing, TaskState.QUEUED, 1)
    labels.add(connection, new.id, new.filing)
    events.append(connection, new.id, "state", TaskState.QUEUED.value)


def _owner_values(owner: Owner) -> dict[str, Any]:
    return {"host": owner.host, "boot": owner.boot, "pid": owner.pid, "start": owner.start}


def take_over(connection: Connection, task_id: str, owner: Owner, options: str) -> None:
    """Make ``owner`` drive an unfinished task on: QUEUED again, all leases of dead runners given back."""
    found = read(connection, task_id)
    connection.change(_TAKE_OVER, {"id": task_id, "options": options, **_owner_values(owner)})
    connection.change(_FREE_ALL, {"id": task_id})
    if found.state not in ACTIVE:
        transition(connection, task_id, TaskState.QUEUED, "resumed")
    else:
        events.append(connection, task_id, "resumed", f"after its process (pid {found.owner.pid}) had gone")


def own(connection: Connection, task_id: str, owner: Owner) -> None:
    """Make ``owner`` drive a task of the server that nobody drives; leases of an earlier process are given back."""
    connection.change(_OWN, {"id": task_id, **_owner_values(owner)})
    free_all(connection, task_id)


def free_all(connection: Connection, task_id: str) -> None:
    """Give back the leases of runners that are gone."""
    connection.change(_FREE_ALL, {"id": task_id})


def beat(connection: Connection, task_id: str) -> str:
    """Sign of life of the owner; answers the stop order that someone else may have left."""
    connection.change(_BEAT, {"id": task_id})
    return str(connection.value(_STOP, {"id": task_id}) or "")


def order_stop(connection: Connection, task_id: str, stop: str) -> None:
    """Leave an order ("pause" or "cancel") that every runner gets with its next report; cancel wins."""
    connection.change(_ORDER_STOP, {"id": task_id, "stop": stop})


def let_go(connection: Connection, task_id: str, stop: str) -> None:
    """Have all runners leave, unless they were told to already.

    "drain": in the middle of their work, because their process is asked to end; "done": there is nothing left.
    """
    connection.change(_LET_GO, {"id": task_id, "stop": stop})


def transition(connection: Connection, task_id: str, to: TaskState, reason: str = "") -> bool:
    """Move a task to another state by the table of transitions. False when it is there already.

    Raises UsageError for a way that the table does not have; nothing is changed then.
    """
    row = connection.first(_STATE, {"id": task_id})
    if row is None:
        raise UsageError(f"no task {task_id}", hint="entrepot task list shows what there is")
    state = TaskState(row.state)
    if state is to:
        return False
    if to not in TRANSITIONS[state]:
        raise UsageError(f"task {task_id} is {state}: it cannot become {to}")
    times = ""
    if to in END_STATES:
        times = ", finished = now()"
    elif to is TaskState.QUEUED:
        times = ", finished = NULL"
    elif to is TaskState.SCANNING and row.started is None:
        times = ", started = now()"
    connection.change(_MOVE.format(times=times), {"id": task_id, "state": to.value, "reason": reason})
    filing = Filing(scope=row.scope, family=row.family, type=row.type, parent=row.parent)
    # Always in the same order: two tasks on opposite ways would wait for each other.
    for name, change in sorted([(str(state), -1), (str(to), 1)]):
        count(connection, filing, name, change)
    events.append(connection, task_id, "state", f"{to} {reason}".strip())
    if to in END_STATES and row.family and not row.parent:
        _ended(connection, task_id)
    return True


def _ended(connection: Connection, task_id: str) -> None:
    """What a server does in the transaction that ends a task: count it, and tell who wants to know."""
    for row in connection.execute("SELECT * FROM task WHERE id = :id", {"id": task_id}):
        usage.on_end(connection, row)
        hooks.on_end(connection, row)


def read(connection: Connection, task_id: str) -> Task:
    """One task. Raises UsageError when there is none."""
    row = connection.first(_READ, {"id": task_id})
    if row is None:
        raise UsageError(f"no task {task_id}", hint="entrepot task list shows what there is")
    return from_row(row)


def from_row(row: Row) -> Task:
    """The task in a row of ``SELECT``."""
    return Task(
        id=row.id,
        spec=TaskSpec(cast(TaskKind, row.kind), row.source, row.destination, row.options),
        spec_hash=row.spec_hash,
        source=(row.source_place, row.source_prefix),
        destination=(row.destination_place, row.destination_prefix),
        state=TaskState(row.state),
        reason=row.reason,
        stop=row.stop,
        created=row.created,
        started=row.started,
        finished=row.finished,
        resumed=row.resumed,
        owner=Owner(row.owner_host, row.owner_boot, row.owner_pid, row.owner_start),
        owner_age=row.owner_age,
        failed_before=row.failed_before,
        late_reports=row.late_reports,
        destination_entries=row.destination_entries,
        totals=Totals(*[getattr(row, name) for name in FIELDS]),
        filing=filing_of(row),
        percent=row.percent,
    )


def listing(connection: Connection, limit: int = 100, before: str = "") -> list[Task]:
    """Tasks, youngest first; ``before`` is the last id of the former page."""
    rows = connection.execute(_LISTING_ON if before else _LISTING, {"before": before, "limit": limit})
    return [from_row(row) for row in rows]


def active(connection: Connection) -> list[Task]:
    """Tasks that some process may be driving now."""
    return [from_row(row) for query in (_DRIVEN_HERE, _DRIVEN) for row in connection.execute(query)]


def heirless(connection: Connection, place: str) -> list[Task]:
    """Tasks, youngest first, that did not succeed or still have half-moved objects at ``place``."""
    found = [row for query in (_UNFINISHED, _LEFT_OVER) for row in connection.execute(query, {"place": place})]
    return sorted(map(from_row, found), key=lambda task: task.id, reverse=True)[:200]


def resumable(connection: Connection, spec_hash: str) -> Task | None:
    """The youngest unfinished task of the same request: not ended, or stopped with ranges left to do."""
    row = connection.first(_RESUMABLE, {"spec_hash": spec_hash})
    return from_row(row) if row is not None else None


def recount(connection: Connection, task_id: str) -> tuple[Totals, Totals]:
    """(totals of the task row, totals summed anew over its shards): equal, or the ledger is wrong."""
    found = read(connection, task_id)
    anew = Totals()
    for row in connection.execute(_RECOUNT, {"id": task_id}):
        names = counted(found.spec.kind, row.phase)
        anew.add(Totals(**{name: int(getattr(row, name)) for name in names}))
    return found.totals, anew


def shard_counts(connection: Connection, task_id: str) -> dict[tuple[Phase, str], int]:
    """Number of shards by (phase, state)."""
    rows = connection.execute(_SHARD_COUNTS, {"id": task_id})
    return {(row.phase, row.state): row.shards for row in rows}


def begin(connection: Connection, task_id: str) -> None:
    """A task that found nothing to lease still passes through SCANNING on its way to the end."""
    row = connection.first(_STATE, {"id": task_id})
    if row is not None and row.state == TaskState.QUEUED:
        transition(connection, task_id, TaskState.SCANNING)


def forget_journals(connection: Connection, task_id: str) -> None:
    """Drop what only an unfinished task needs: journaled deletes and half-moved objects."""
    for table in ("doomed", "partial"):
        connection.change(f"DELETE FROM {table} WHERE task_id = :id", {"id": task_id})


def prune(connection: Connection, older_than: float) -> int:
    """Forget tasks that ended more than ``older_than`` seconds ago, and everything of theirs."""
    old = connection.execute(_OLD, {"age": older_than})
    _remove(connection, old)
    return len(old)


def remove(connection: Connection, task_id: str) -> None:
    """Forget one ended task and everything of its own. Raises UsageError when it has not ended."""
    row = connection.first(_ENDING, {"id": task_id})
    if row is None:
        raise UsageError(f"no task {task_id}", hint="entrepot task list shows what there is")
    if row.state not in END_STATES:
        raise UsageError(f"task {task_id} is {row.state}: only an ended one can be deleted", hint="cancel it first")
    _remove(connection, [row])


def _remove(connection: Connection, rows: Sequence[Row]) -> None:
    ids = [{"id": row.id} for row in rows]
    if not ids:
        return
    for table in CHILDREN:
        connection.executemany(f"DELETE FROM {table} WHERE task_id = :id", ids)
    connection.executemany("DELETE FROM task WHERE id = :id", ids)
    for row in rows:
        count(connection, Filing(scope=row.scope, family=row.family, type=row.type, parent=row.parent), row.state, -1)
