"""Shard rows: the leasable ranges. Every change moves the task's totals in the same transaction."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal, cast

from sqlalchemy import Connection, Row, and_, bindparam, insert, or_, select, update

from entrepot.model.errors import FailureClass, InternalError, LeaseLost
from entrepot.model.shard import Failure, Orders, Phase, Progress, Shard
from entrepot.model.task import TaskState
from entrepot.model.totals import FIELDS, Totals

from . import events, journal, tasks
from .dialect import now
from .schema import shard, task

LEASE_SECONDS = 20.0
LOST_MAX = 5
"""A shard whose runner died this often without any progress is given up as failed."""

_store = (
    update(shard)
    .where(shard.c.id == bindparam("this"))
    .values(
        cursor=bindparam("new_cursor"),
        state=bindparam("new_state"),
        lost=0,
        destination_entries=bindparam("new_destination_entries"),
        **{name: bindparam(f"new_{name}") for name in FIELDS},
    )
)


def add_ranges(
    connection: Connection, task_id: str, phase: Phase, cuts: Sequence[bytes] = (), low: bytes = b""
) -> None:
    """Queue the whole key space (above ``low``), cut at ascending keys."""
    _insert(connection, task_id, phase, [low, *sorted(set(cuts) - {low}), None])


def _insert(connection: Connection, task_id: str, phase: str, marks: Sequence[bytes | None]) -> None:
    rows = [
        {"task_id": task_id, "phase": phase, "state": "queued", "low": low, "cursor": low, "high": high}
        for low, high in pairwise(marks)
    ]
    connection.execute(insert(shard), rows)


def add_done(connection: Connection, task_id: str, phase: Phase, totals: Totals) -> None:
    """Record a piece of work that needs no runner, with its totals."""
    row = {"task_id": task_id, "phase": phase, "state": "done", "low": b"", "cursor": b"", "high": None}
    connection.execute(insert(shard).values(**row, **totals.as_dict()))
    _count(connection, task_id, totals, 0, 0)


def edges(connection: Connection, task_id: str, phase: Phase) -> list[bytes]:
    """Where the ranges of a phase were cut in the end: good cuts for the next one."""
    rows = connection.execute(
        select(shard.c.low).where(shard.c.task_id == task_id, shard.c.phase == phase, shard.c.low != b"")
    )
    return sorted({row.low for row in rows})


def lease(
    connection: Connection, task_id: str, runner_id: str, limit: int, seconds: float = LEASE_SECONDS
) -> list[Shard]:
    """Lease free ranges, lowest key first; a range whose lease ran out is free again."""
    if limit <= 0:
        return []
    about = connection.execute(select(task.c.state, task.c.stop).where(task.c.id == task_id)).first()
    if about is None or about.state not in tasks.ACTIVE or about.stop:
        return []
    expired = and_(shard.c.state == "leased", shard.c.lease_until < now())
    rows = connection.execute(
        select(shard)
        .where(shard.c.task_id == task_id, or_(shard.c.state == "queued", expired))
        .order_by(shard.c.low)
        .limit(limit)
        .with_for_update(skip_locked=True)
    ).all()
    got = [
        _lease_one(connection, row, runner_id, seconds)
        for row in rows
        if row.state == "queued" or not _give_up(connection, row)
    ]
    if got and about.state == TaskState.QUEUED:
        tasks.transition(connection, task_id, TaskState.SCANNING)
    return got


def _lease_one(connection: Connection, row: Row[Any], runner_id: str, seconds: float) -> Shard:
    connection.execute(
        update(shard)
        .where(shard.c.id == row.id)
        .values(
            state="leased",
            fence=row.fence + 1,
            lost=row.lost + (row.state == "leased"),
            lease_owner=runner_id,
            lease_until=now() + seconds,
        )
    )
    phase = cast(Phase, row.phase)
    return Shard(row.id, row.task_id, phase, row.fence + 1, row.low, row.high, row.cursor, _totals(row))


def _totals(row: Row[Any]) -> Totals:
    values = row._mapping
    return Totals(*[values[name] for name in FIELDS])


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
    about = connection.execute(
        select(task.c.kind, task.c.state, task.c.stop, task.c.failure_rows, task.c.warning_rows)
        .where(task.c.id == task_id)
        .with_for_update()
    ).one()
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
            more = getattr(said.totals, name) - row._mapping[name]
            setattr(delta, name, getattr(delta, name) + more)
        entries += said.destination_entries - row.destination_entries
        _keep(connection, about.warning_rows, row, said)
    if changes:
        connection.execute(_store, changes)
    connection.execute(
        update(shard)
        .where(shard.c.lease_owner == runner_id, shard.c.state == "leased")
        .values(lease_until=now() + seconds)
    )
    _count(connection, task_id, delta, entries, len(lost))
    if stats is not None:
        journal.save_stats(connection, task_id, runner_id, stats)
    if about.state == TaskState.SCANNING and delta.copied > 0:
        tasks.transition(connection, task_id, TaskState.RUNNING)
    stop = about.stop or ("" if about.state in tasks.ACTIVE else "pause")
    return Orders(stop=cast(Literal["", "pause", "cancel"], stop), lost=lost)


def _held(connection: Connection, runner_id: str, ids: set[int]) -> dict[int, Row[Any]]:
    if not ids:
        return {}
    rows = connection.execute(
        select(shard).where(shard.c.id.in_(ids), shard.c.state == "leased", shard.c.lease_owner == runner_id)
    )
    return {row.id: row for row in rows}


def _change(row: Row[Any], said: Progress, ended: bool) -> dict[str, Any]:
    if said.cursor < row.cursor or (row.high is not None and said.cursor > row.high):
        raise InternalError(f"shard {row.id}: cursor {said.cursor!r} outside ({row.cursor!r}, {row.high!r}]")
    change: dict[str, Any] = {f"new_{name}": getattr(said.totals, name) for name in FIELDS}
    change["this"] = row.id
    done = ended and not said.failed
    change["new_cursor"] = row.high if done and row.high is not None else said.cursor
    change["new_state"] = "done" if done else "failed" if ended else "leased"
    change["new_destination_entries"] = said.destination_entries
    return change


def _keep(connection: Connection, warning_rows: int, row: Row[Any], said: Progress) -> None:
    if said.failures:
        # Read the row count anew: several shards of one report share the bound.
        so_far = connection.execute(select(task.c.failure_rows).where(task.c.id == row.task_id)).scalar_one()
        journal.add_failures(connection, row.task_id, row.phase, said.failures, so_far)
    if said.failed:
        journal.drop_doomed_of(connection, row.id)
    elif said.doomed:
        journal.add_doomed(connection, row.task_id, row.id, said.doomed)
    if said.warnings:
        journal.add_warnings(connection, row.task_id, said.warnings, warning_rows)


def _count(connection: Connection, task_id: str, delta: Totals, entries: int, late: int) -> None:
    values: dict[str, Any] = {name: task.c[name] + getattr(delta, name) for name in FIELDS if getattr(delta, name)}
    if entries:
        values["destination_entries"] = task.c.destination_entries + entries
    if late:
        values["late_reports"] = task.c.late_reports + late
    if values:
        connection.execute(update(task).where(task.c.id == task_id).values(**values))


def release(connection: Connection, runner_id: str, shard_ids: Sequence[int]) -> None:
    """Give leased ranges back; their cursor stays."""
    connection.execute(
        update(shard)
        .where(shard.c.id.in_(list(shard_ids)), shard.c.lease_owner == runner_id, shard.c.state == "leased")
        .values(state="queued", lease_owner=None, lease_until=None)
    )


def expire(connection: Connection, runner_id: str) -> int:
    """A runner is known to be dead: its ranges are free at once. Answers how many it held."""
    rows = connection.execute(
        select(shard).where(shard.c.lease_owner == runner_id, shard.c.state == "leased").with_for_update()
    ).all()
    for row in rows:
        if not _give_up(connection, row):
            connection.execute(
                update(shard)
                .where(shard.c.id == row.id)
                .values(state="queued", lease_owner=None, lease_until=None, lost=row.lost + 1)
            )
    return len(rows)


def _give_up(connection: Connection, row: Row[Any]) -> bool:
    """After too many lost leases without progress: fail the range, so that it cannot hold up the task."""
    if row.lost + 1 < LOST_MAX:
        return False
    text = f"the range after this key was given up: its runner died {row.lost + 1} times without progress"
    connection.execute(
        update(shard)
        .where(shard.c.id == row.id)
        .values(state="failed", lease_owner=None, lease_until=None, failed=shard.c.failed + 1)
    )
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
    connection.execute(update(shard).where(shard.c.id == shard_id).values(high=at[0]))
    _insert(connection, row.task_id, row.phase, [*at, row.high])
