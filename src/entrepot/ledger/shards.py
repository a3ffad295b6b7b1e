"""Shard rows: the leasable ranges. Every change moves the task's totals in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, cast

from entrepot.model.errors import FailureClass, InternalError, LeaseLost
from entrepot.model.shard import Failure, Orders, Phase, Progress, Shard
from entrepot.model.task import TaskState
from entrepot.model.totals import FIELDS, Totals

from . import events, journal, tasks
from .database import Connection, Row

LEASE_SECONDS = 20.0
LOST_MAX = 5
"""A shard whose runner died this often without any progress is given up as failed."""

_STOPS = {"": "", "pause": "pause", "cancel": "cancel", "again": "pause", "drain": "pause", "done": ""}
"""What the order on a task means to a runner."""

_ADD = """INSERT INTO shard (task_id, phase, state, low, cursor, high)
    VALUES (:task, :phase, 'queued', :low, :low, :high)"""

_ADD_DONE = f"""INSERT INTO shard (task_id, phase, state, low, cursor, {", ".join(FIELDS)})
    VALUES (:task, :phase, 'done', :empty, :empty, {", ".join(f":{name}" for name in FIELDS)})"""

_EDGES = "SELECT DISTINCT low FROM shard WHERE task_id = :task AND phase = :phase AND low <> :empty ORDER BY low"

_ORDERS = "SELECT state, stop FROM task WHERE id = :task"
_ORDERS_TO_CHANGE = f"{_ORDERS} FOR UPDATE"

_FREE = """SELECT * FROM shard
    WHERE task_id = :task AND (state = 'queued' OR state = 'leased' AND lease_until < now())
    ORDER BY low LIMIT :limit FOR UPDATE SKIP LOCKED"""

_LEASE = """UPDATE shard SET state = 'leased', fence = :fence, lost = :lost,
    lease_owner = :runner, lease_until = now() + :seconds
    WHERE id = :id"""

_EXTEND = "UPDATE shard SET lease_until = now() + :seconds WHERE lease_owner = :runner AND state = 'leased'"

_HELD = "SELECT * FROM shard WHERE lease_owner = :runner AND state = 'leased' FOR UPDATE"

_TASK = "SELECT kind, state, stop, warning_rows FROM task WHERE id = :task FOR UPDATE"

# The totals of a checkpoint are absolute: a report that comes twice counts once.
_STORE = f"""UPDATE shard SET cursor = :cursor, state = :state, lost = 0, destination_entries = :destination_entries,
    {", ".join(f"{name} = :{name}" for name in FIELDS)}
    WHERE id = :id"""

_COUNT = f"""UPDATE task SET {", ".join(f"{name} = {name} + :{name}" for name in FIELDS)},
    destination_entries = destination_entries + :entries, late_reports = late_reports + :late
    WHERE id = :task"""

_FAILURE_ROWS = "SELECT failure_rows FROM task WHERE id = :task"

_RELEASE = """UPDATE shard SET state = 'queued', lease_owner = NULL, lease_until = NULL
    WHERE id = :id AND lease_owner = :runner AND state = 'leased'"""

_LOSE = """UPDATE shard SET state = 'queued', lease_owner = NULL, lease_until = NULL, lost = lost + 1
    WHERE id = :id"""

_GIVE_UP = """UPDATE shard SET state = 'failed', lease_owner = NULL, lease_until = NULL, failed = failed + 1
    WHERE id = :id"""

_CUT = "UPDATE shard SET high = :high WHERE id = :id"


def add_ranges(
    connection: Connection, task_id: str, phase: Phase, cuts: Sequence[bytes] = (), low: bytes = b""
) -> None:
    """Queue the whole key space (above ``low``), cut at ascending keys."""
    _insert(connection, task_id, phase, [low, *sorted(set(cuts) - {low}), None])


def _insert(connection: Connection, task_id: str, phase: str, marks: Sequence[bytes | None]) -> None:
    ranges = [{"task": task_id, "phase": phase, "low": low, "high": high} for low, high in pairwise(marks)]
    connection.executemany(_ADD, ranges)


def add_done(connection: Connection, task_id: str, phase: Phase, totals: Totals) -> None:
    """Record a piece of work that needs no runner, with its totals."""
    connection.change(_ADD_DONE, {"task": task_id, "phase": phase, "empty": b"", **totals.as_dict()})
    _count(connection, task_id, totals, 0, 0)


def add_settled(connection: Connection, task_id: str) -> None:
    """The row that takes back what entries were counted as before they were tried again."""
    connection.change(_ADD_DONE, {"task": task_id, "phase": "settled", "empty": b"", **Totals().as_dict()})


def edges(connection: Connection, task_id: str, phase: Phase) -> list[bytes]:
    """Where the ranges of a phase were cut in the end: good cuts for the next one."""
    rows = connection.execute(_EDGES, {"task": task_id, "phase": phase, "empty": b""})
    return [row.low for row in rows]


def lease(
    connection: Connection, task_id: str, runner_id: str, limit: int, seconds: float = LEASE_SECONDS
) -> list[Shard]:
    """Lease free ranges, lowest key first; a range whose lease ran out is free again."""
    if limit <= 0:
        return []
    about = connection.first(_ORDERS, {"task": task_id})
    if about is not None and about.state == TaskState.QUEUED:
        # It moves on with its first lease: others may be about to do that, too.
        about = connection.first(_ORDERS_TO_CHANGE, {"task": task_id})
    if about is None or about.state not in tasks.ACTIVE or about.stop:
        return []
    rows = connection.execute(_FREE, {"task": task_id, "limit": limit})
    got = [
        _lease_one(connection, row, runner_id, seconds)
        for row in rows
        if row.state == "queued" or not _give_up(connection, row)
    ]
    if got and about.state == TaskState.QUEUED:
        tasks.transition(connection, task_id, TaskState.SCANNING)
    return got


def _lease_one(connection: Connection, row: Row, runner_id: str, seconds: float) -> Shard:
    fence = row.fence + 1
    lost = row.lost + (row.state == "leased")
    connection.change(_LEASE, {"id": row.id, "fence": fence, "lost": lost, "runner": runner_id, "seconds": seconds})
    phase = cast(Phase, row.phase)
    return Shard(row.id, row.task_id, phase, fence, row.low, row.high, row.cursor, _totals(row))


def _totals(row: Row) -> Totals:
    return Totals(*[getattr(row, name) for name in FIELDS])


def report(
    connection: Connection,
    task_id: str,
    runner_id: str,
    progress: Sequence[Progress],
    final: Sequence[int] = (),
    *,
    stats: dict[str, int] | None = None,
    seconds: float = LEASE_SECONDS,
) -> Orders:
    """Store a checkpoint of the shards that this runner still holds, extend its leases, give orders."""
    (about,) = connection.execute(_TASK, {"task": task_id})
    ids = {p.shard_id for p in progress} | set(final)
    held = _held(connection, runner_id, ids)
    fences = {p.shard_id: p.fence for p in progress}
    lost = tuple(sorted(i for i in ids if i not in held or held[i].fence != fences.get(i, held[i].fence)))
    changes: list[dict[str, Any]] = []
    delta = Totals()
    entries = 0
    reported = {p.shard_id: p for p in progress if p.shard_id not in lost}
    for shard_id in sorted(ids - set(lost)):
        row = held[shard_id]
        said = reported.get(shard_id) or Progress(
            shard_id, row.fence, row.cursor, _totals(row), destination_entries=row.destination_entries
        )
        changes.append(_change(row, said, shard_id in final))
        for name in tasks.counted(about.kind, row.phase):
            more = getattr(said.totals, name) - getattr(row, name)
            setattr(delta, name, getattr(delta, name) + more)
        entries += said.destination_entries - row.destination_entries
        if row.phase == "retry":
            _replace(connection, row, said, changes[-1])
        _keep(connection, about.warning_rows, row, said)
    connection.executemany(_STORE, changes)
    connection.change(_EXTEND, {"runner": runner_id, "seconds": seconds})
    _count(connection, task_id, delta, entries, len(lost))
    if stats is not None:
        journal.save_stats(connection, task_id, runner_id, stats)
    if about.state == TaskState.SCANNING and delta.copied > 0:
        tasks.transition(connection, task_id, TaskState.RUNNING)
    stop = _STOPS[about.stop] or ("" if about.state in tasks.ACTIVE else "pause")
    return Orders(stop=cast(Literal["", "pause", "cancel"], stop), lost=lost)


def _held(connection: Connection, runner_id: str, ids: set[int]) -> dict[int, Row]:
    if not ids:
        return {}
    rows = connection.execute(_HELD, {"runner": runner_id})
    return {row.id: row for row in rows if row.id in ids}


def _change(row: Row, said: Progress, ended: bool) -> dict[str, Any]:
    if said.cursor < row.cursor or (row.high is not None and said.cursor > row.high):
        raise InternalError(f"shard {row.id}: cursor {said.cursor!r} outside ({row.cursor!r}, {row.high!r}]")
    done = ended and not said.failed
    change: dict[str, Any] = {name: getattr(said.totals, name) for name in FIELDS}
    change["id"] = row.id
    change["cursor"] = row.high if done and row.high is not None else said.cursor
    change["state"] = "done" if done else "failed" if ended else "leased"
    change["destination_entries"] = said.destination_entries
    return change


def _replace(connection: Connection, row: Row, said: Progress, change: dict[str, Any]) -> None:
    """Entries that are tried again: the old outcomes go in the same transaction in which the new ones come."""
    from . import retrying

    ended = change["state"] == "done" and row.high is None
    if ended or change["cursor"] > row.cursor:
        retrying.clear(connection, row.task_id, row.cursor, None if ended else change["cursor"])
    if said.failures:
        retrying.clear_keys(connection, row.task_id, [found.key for found in said.failures])


def _keep(connection: Connection, warning_rows: int, row: Row, said: Progress) -> None:
    if said.failures:
        # Read the row count anew: several shards of one report share the bound.
        so_far = connection.value(_FAILURE_ROWS, {"task": row.task_id})
        journal.add_failures(connection, row.task_id, row.phase, said.failures, so_far)
    if said.failed:
        journal.drop_doomed_of(connection, row.id)
    elif said.doomed:
        journal.add_doomed(connection, row.task_id, row.id, said.doomed)
    if said.warnings:
        journal.add_warnings(connection, row.task_id, said.warnings, warning_rows)


def _count(connection: Connection, task_id: str, delta: Totals, entries: int, late: int) -> None:
    if delta != Totals() or entries or late:
        connection.change(_COUNT, {"task": task_id, "entries": entries, "late": late, **delta.as_dict()})


def release(connection: Connection, runner_id: str, shard_ids: Sequence[int]) -> None:
    """Give leased ranges back; their cursor stays."""
    connection.executemany(_RELEASE, [{"id": shard_id, "runner": runner_id} for shard_id in shard_ids])


def expire(connection: Connection, runner_id: str) -> int:
    """A runner is known to be dead: its ranges are free at once. Answers how many it held."""
    rows = connection.execute(_HELD, {"runner": runner_id})
    for row in rows:
        if not _give_up(connection, row):
            connection.change(_LOSE, {"id": row.id})
    return len(rows)


def _give_up(connection: Connection, row: Row) -> bool:
    """After too many lost leases without progress: fail the range, so that it cannot hold up the task."""
    if row.lost + 1 < LOST_MAX:
        return False
    text = f"the range after this key was given up: its runner died {row.lost + 1} times without progress"
    connection.change(_GIVE_UP, {"id": row.id})
    _count(connection, row.task_id, Totals(failed=1), 0, 0)
    journal.add_failures(
        connection,
        row.task_id,
        row.phase,
        [Failure(row.cursor, FailureClass.INTERNAL, text, row.lost + 1, 0)],
        0,
    )
    journal.drop_doomed_of(connection, row.id)
    events.append(connection, row.task_id, "shard_failed", f"shard {row.id}: {text}")
    return True


def split(connection: Connection, runner_id: str, shard_id: int, fence: int, at: Sequence[bytes]) -> None:
    """Cut a leased shard at ascending keys; the far pieces are queued. Raises LeaseLost."""
    row = _held(connection, runner_id, {shard_id}).get(shard_id)
    if row is None or row.fence != fence:
        raise LeaseLost(f"shard {shard_id} belongs to another runner now")
    ascending = all(a < b for a, b in pairwise(at))
    if not at or not ascending or at[0] <= row.cursor or (row.high is not None and at[-1] >= row.high):
        raise InternalError(f"shard {shard_id}: cannot be cut at {list(at)!r}")
    connection.change(_CUT, {"id": shard_id, "high": at[0]})
    _insert(connection, row.task_id, row.phase, [*at, row.high])
