"""What a task keeps besides its ranges: failed entries, deletes to come, half-moved objects, figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from sqlalchemy import Connection, delete, func, insert, select, update

from entrepot.model.entry import Evidence
from entrepot.model.shard import Doomed, Failure, Partial, Shard

from . import events
from .dialect import now, upsert
from .schema import doomed, failure, failure_count, partial, runner_stats, task

FAILURE_ROWS = 100_000
"""Failed entries kept per task; further ones are only counted."""
WARNING_ROWS = 1_000
_BATCH = 500


def add_failures(
    connection: Connection, task_id: str, phase: str, failures: Sequence[Failure], rows_so_far: int
) -> None:
    """Keep failed entries (a key once per phase) and count them by class."""
    known: set[bytes] = set()
    keys = [f.key for f in failures]
    for start in range(0, len(keys), _BATCH):
        query = select(failure.c.key).where(
            failure.c.task_id == task_id,
            failure.c.phase == phase,
            failure.c.key.in_(keys[start : start + _BATCH]),
        )
        known.update(row.key for row in connection.execute(query))
    fresh: dict[bytes, Failure] = {f.key: f for f in failures if f.key not in known}
    by_class: dict[str, int] = {}
    for found in fresh.values():
        by_class[found.failure] = by_class.get(found.failure, 0) + 1
    upsert(
        connection,
        failure_count,
        ("task_id", "failure"),
        [{"task_id": task_id, "failure": name, "entries": n} for name, n in by_class.items()],
        add="entries",
    )
    kept = list(fresh.values())[: max(0, FAILURE_ROWS - rows_so_far)]
    if not kept:
        return
    at = connection.execute(select(now())).scalar()
    connection.execute(insert(failure), [_failure_row(task_id, phase, f, at) for f in kept])
    connection.execute(update(task).where(task.c.id == task_id).values(failure_rows=task.c.failure_rows + len(kept)))


def _failure_row(task_id: str, phase: str, found: Failure, at: Any) -> dict[str, Any]:
    return {
        "task_id": task_id,
        "phase": phase,
        "key": found.key,
        "failure": str(found.failure),
        "message": events.clean(found.message),
        "attempts": found.attempts,
        "size": found.size,
        "at": at,
    }


def failures(connection: Connection, task_id: str, limit: int = 100, before: int = 0) -> tuple[list[Failure], int]:
    """Failed entries, latest first, and the id to continue ``before`` (0 = no more)."""
    query = select(failure).where(failure.c.task_id == task_id).order_by(failure.c.id.desc()).limit(limit)
    if before:
        query = query.where(failure.c.id < before)
    rows = connection.execute(query).all()
    found = [Failure(r.key, r.failure, r.message, r.attempts, r.size) for r in rows]
    return found, rows[-1].id if len(rows) == limit else 0


def failure_counts(connection: Connection, task_id: str) -> dict[str, int]:
    """Failed entries by class, also those beyond the rows kept."""
    rows = connection.execute(
        select(failure_count.c.failure, failure_count.c.entries)
        .where(failure_count.c.task_id == task_id)
        .order_by(failure_count.c.failure)
    )
    return {row.failure: row.entries for row in rows}


def add_warnings(connection: Connection, task_id: str, texts: Sequence[str], rows_so_far: int) -> None:
    """Keep warnings as events, up to a bound."""
    kept = texts[: max(0, WARNING_ROWS - rows_so_far)]
    for text in kept:
        events.append(connection, task_id, "warning", text)
    if kept:
        connection.execute(
            update(task).where(task.c.id == task_id).values(warning_rows=task.c.warning_rows + len(kept))
        )


def add_doomed(connection: Connection, task_id: str, shard_id: int, entries: Sequence[Doomed]) -> None:
    """Journal candidates for deletion."""
    rows = [
        {"task_id": task_id, "key": d.key, "shard_id": shard_id, "size": d.size, **_columns(d.evidence)}
        for d in entries
    ]
    upsert(connection, doomed, ("task_id", "key"), rows)


def _columns(evidence: Evidence) -> dict[str, Any]:
    if isinstance(evidence, tuple):
        evidence = evidence[0]
    if isinstance(evidence, int):
        return {"etag": None, "mtime_ns": evidence}
    return {"etag": bytes(evidence), "mtime_ns": None}


def _evidence(etag: bytes | None, mtime_ns: int | None) -> Evidence:
    return etag if etag is not None else mtime_ns or 0


def next_doomed(connection: Connection, task_id: str, shard: Shard, limit: int) -> list[Doomed]:
    """Journaled deletes of the shard's range above its cursor, in key order."""
    query = select(doomed).where(doomed.c.task_id == task_id)
    if shard.cursor or shard.low:
        query = query.where(doomed.c.key > shard.cursor)
    if shard.high is not None:
        query = query.where(doomed.c.key <= shard.high)
    rows = connection.execute(query.order_by(doomed.c.key).limit(limit))
    return [Doomed(r.key, _evidence(r.etag, r.mtime_ns), r.size) for r in rows]


def doomed_sums(connection: Connection, task_id: str) -> tuple[int, int]:
    """(number, bytes) of all journaled deletes of a task."""
    row = connection.execute(
        select(func.count(), func.coalesce(func.sum(doomed.c.size), 0)).where(doomed.c.task_id == task_id)
    ).one()
    return int(row[0]), int(row[1])


def doomed_cuts(connection: Connection, task_id: str, pieces: int) -> list[bytes]:
    """Ascending keys that cut the journaled deletes into about equal pieces."""
    count, _ = doomed_sums(connection, task_id)
    keys = select(doomed.c.key).where(doomed.c.task_id == task_id).order_by(doomed.c.key)
    places = [count * i // pieces for i in range(1, min(pieces, count))]
    return sorted({connection.execute(keys.offset(place).limit(1)).scalar_one() for place in places})


def partials(connection: Connection, task_id: str, low: bytes, high: bytes | None) -> list[Partial]:
    """Half-moved objects in the range."""
    query = select(partial).where(partial.c.task_id == task_id)
    if low:
        query = query.where(partial.c.key > low)
    if high is not None:
        query = query.where(partial.c.key <= high)
    return [
        Partial(
            key=r.key,
            size=r.size,
            evidence=_evidence(r.etag, r.mtime_ns),
            part_size=r.part_size,
            upload_id=r.upload_id,
            staged=r.staged,
            done=json.loads(r.done),
            started=r.started,
        )
        for r in connection.execute(query.order_by(partial.c.key))
    ]


def save_partial(connection: Connection, task_id: str, half: Partial) -> None:
    """Insert or replace."""
    row = {
        "task_id": task_id,
        "key": half.key,
        "size": half.size,
        **_columns(half.evidence),
        "part_size": half.part_size,
        "upload_id": half.upload_id,
        "staged": half.staged,
        "done": json.dumps(half.done, separators=(",", ":")),
        "started": half.started,
    }
    upsert(connection, partial, ("task_id", "key"), [row])


def drop_partial(connection: Connection, task_id: str, key: bytes) -> None:
    """Forget it."""
    connection.execute(delete(partial).where(partial.c.task_id == task_id, partial.c.key == key))


def adopt_partials(
    connection: Connection, task_id: str, donor: str, rename: Callable[[bytes], bytes | None], *, fits: bool
) -> int:
    """Move half-moved objects of a dead task to ``task_id``; how many.

    ``rename`` gives their keys below the new destination (None: not of it). Without ``fits`` (another source) they
    can only be undone.
    """
    moved = 0
    for half in partials(connection, donor, b"", None):
        key = rename(half.key)
        if key is None or (half.staged and key != half.key):
            continue
        taken = select(partial.c.key).where(partial.c.task_id == task_id, partial.c.key == key)
        if connection.execute(taken).first() is not None:
            continue
        values: dict[str, Any] = {"task_id": task_id, "key": key}
        if not fits:
            values["part_size"] = 0
        connection.execute(
            update(partial).where(partial.c.task_id == donor, partial.c.key == half.key).values(**values)
        )
        moved += 1
    return moved


def drop_doomed_of(connection: Connection, shard_id: int) -> None:
    """Take back the delete permission of a range that did not end cleanly."""
    connection.execute(delete(doomed).where(doomed.c.shard_id == shard_id))


def save_stats(connection: Connection, task_id: str, runner_id: str, stats: dict[str, int]) -> None:
    """Replace the figures of one runner."""
    at = connection.execute(select(now())).scalar()
    row = {"task_id": task_id, "runner_id": runner_id, "stats": json.dumps(stats), "at": at}
    upsert(connection, runner_stats, ("task_id", "runner_id"), [row])


def stats(connection: Connection, task_id: str) -> dict[str, dict[str, int]]:
    """Figures by runner id, of this and earlier runs of the task."""
    rows = connection.execute(
        select(runner_stats.c.runner_id, runner_stats.c.stats).where(runner_stats.c.task_id == task_id)
    )
    return {runner: json.loads(text) for runner, text in rows}
