"""What a task keeps besides its ranges: failed entries, deletes to come, half-moved objects, figures."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import Any

from entrepot.model.entry import Evidence
from entrepot.model.shard import Doomed, Failure, Partial, Shard

from . import events
from .database import Connection

FAILURE_ROWS = 100_000
"""Failed entries kept per task; further ones are only counted."""
WARNING_ROWS = 1_000
_BATCH = 500

_NOW = "SELECT now()"

_KNOWN_FAILURES = """SELECT key FROM failure WHERE task_id = :task AND phase = :phase AND key IN ({keys})"""

_COUNT_FAILURES = """INSERT INTO failure_count (task_id, failure, entries) VALUES (:task, :failure, :entries)
    ON CONFLICT (task_id, failure) DO UPDATE SET entries = failure_count.entries + excluded.entries"""

_ADD_FAILURE = """INSERT INTO failure (task_id, phase, key, failure, message, attempts, size, at)
    VALUES (:task, :phase, :key, :failure, :message, :attempts, :size, :at)"""

_COUNT_FAILURE_ROWS = "UPDATE task SET failure_rows = failure_rows + :more WHERE id = :task"

_COUNT_WARNING_ROWS = "UPDATE task SET warning_rows = warning_rows + :more WHERE id = :task"

_FAILURES = "SELECT * FROM failure WHERE task_id = :task"
_OLDER = " AND id < :before"
# Without an end PostgreSQL may walk over all that other tasks added since.
_NEWEST = " AND id <= (SELECT max(id) FROM failure WHERE task_id = :task)"
_LATEST_FIRST = " ORDER BY id DESC LIMIT :limit"

_FAILURE_COUNTS = "SELECT failure, entries FROM failure_count WHERE task_id = :task ORDER BY failure"

_ADD_DOOMED = """INSERT INTO doomed (task_id, key, shard_id, size, etag, mtime_ns)
    VALUES (:task, :key, :shard, :size, :etag, :mtime_ns)
    ON CONFLICT (task_id, key) DO UPDATE SET
        shard_id = excluded.shard_id, size = excluded.size, etag = excluded.etag, mtime_ns = excluded.mtime_ns"""

_DROP_DOOMED_OF = "DELETE FROM doomed WHERE shard_id = :shard"

_DOOMED = "SELECT key, etag, mtime_ns, size FROM doomed WHERE task_id = :task"
_ABOVE = " AND key > :low"
_UP_TO = " AND key <= :high"
_BY_KEY = " ORDER BY key"

_DOOMED_SUMS = "SELECT count(*) AS number, coalesce(sum(size), 0) AS size FROM doomed WHERE task_id = :task"

_DOOMED_AT = "SELECT key FROM doomed WHERE task_id = :task ORDER BY key LIMIT 1 OFFSET :place"

_PARTIALS = "SELECT * FROM partial WHERE task_id = :task"

_SAVE_PARTIAL = """INSERT INTO partial
    (task_id, key, size, etag, mtime_ns, part_size, upload_id, staged, done, started)
    VALUES (:task, :key, :size, :etag, :mtime_ns, :part_size, :upload_id, :staged, :done, :started)
    ON CONFLICT (task_id, key) DO UPDATE SET
        size = excluded.size, etag = excluded.etag, mtime_ns = excluded.mtime_ns, part_size = excluded.part_size,
        upload_id = excluded.upload_id, staged = excluded.staged, done = excluded.done, started = excluded.started"""

_DROP_PARTIAL = "DELETE FROM partial WHERE task_id = :task AND key = :key"

# The heir may have begun with the same key itself.
_ADOPT_PARTIAL = """UPDATE partial SET task_id = :task, key = :key, part_size = {part_size}
    WHERE task_id = :donor AND key = :old
    AND NOT EXISTS (SELECT 1 FROM partial AS own WHERE own.task_id = :task AND own.key = :key)"""

_SAVE_STATS = """INSERT INTO runner_stats (task_id, runner_id, stats, at) VALUES (:task, :runner, :stats, now())
    ON CONFLICT (task_id, runner_id) DO UPDATE SET stats = excluded.stats, at = excluded.at"""

_STATS = "SELECT runner_id, stats FROM runner_stats WHERE task_id = :task"


def add_failures(
    connection: Connection, task_id: str, phase: str, failures: Sequence[Failure], rows_so_far: int
) -> None:
    """Keep failed entries (a key once per phase) and count them by class."""
    known = _known(connection, task_id, phase, [found.key for found in failures])
    fresh = {found.key: found for found in failures if found.key not in known}
    by_class: dict[str, int] = {}
    for found in fresh.values():
        by_class[found.failure] = by_class.get(found.failure, 0) + 1
    connection.executemany(
        _COUNT_FAILURES,
        [{"task": task_id, "failure": str(name), "entries": entries} for name, entries in by_class.items()],
    )
    kept = list(fresh.values())[: max(0, FAILURE_ROWS - rows_so_far)]
    if not kept:
        return
    at = connection.value(_NOW)
    connection.executemany(_ADD_FAILURE, [_failure_row(task_id, phase, found, at) for found in kept])
    connection.change(_COUNT_FAILURE_ROWS, {"task": task_id, "more": len(kept)})


def _known(connection: Connection, task_id: str, phase: str, keys: Sequence[bytes]) -> set[bytes]:
    """Which of the keys have a failure already."""
    known: set[bytes] = set()
    for start in range(0, len(keys), _BATCH):
        some = {f"key{i}": key for i, key in enumerate(keys[start : start + _BATCH])}
        query = _KNOWN_FAILURES.format(keys=", ".join(f":{name}" for name in some))
        known.update(row.key for row in connection.execute(query, {"task": task_id, "phase": phase, **some}))
    return known


def _failure_row(task_id: str, phase: str, found: Failure, at: Any) -> dict[str, Any]:
    return {
        "task": task_id,
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
    query = _FAILURES + (_OLDER if before else _NEWEST) + _LATEST_FIRST
    rows = connection.execute(query, {"task": task_id, "before": before, "limit": limit + 1})
    found = [Failure(r.key, r.failure, r.message, r.attempts, r.size) for r in rows[:limit]]
    return found, rows[limit - 1].id if len(rows) > limit else 0


def failure_counts(connection: Connection, task_id: str) -> dict[str, int]:
    """Failed entries by class, also those beyond the rows kept."""
    rows = connection.execute(_FAILURE_COUNTS, {"task": task_id})
    return {row.failure: row.entries for row in rows}


def add_warnings(connection: Connection, task_id: str, texts: Sequence[str], rows_so_far: int) -> None:
    """Keep warnings as events, up to a bound."""
    kept = texts[: max(0, WARNING_ROWS - rows_so_far)]
    for text in kept:
        events.append(connection, task_id, "warning", text)
    if kept:
        connection.change(_COUNT_WARNING_ROWS, {"task": task_id, "more": len(kept)})


def add_doomed(connection: Connection, task_id: str, shard_id: int, entries: Sequence[Doomed]) -> None:
    """Journal candidates for deletion."""
    connection.executemany(
        _ADD_DOOMED,
        [{"task": task_id, "key": d.key, "shard": shard_id, "size": d.size, **_columns(d.evidence)} for d in entries],
    )


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
    above = _ABOVE if shard.cursor or shard.low else ""
    up_to = _UP_TO if shard.high is not None else ""
    query = _DOOMED + above + up_to + _BY_KEY + " LIMIT :limit"
    params = {"task": task_id, "low": shard.cursor, "high": shard.high, "limit": limit}
    return [Doomed(r.key, _evidence(r.etag, r.mtime_ns), r.size) for r in connection.execute(query, params)]


def doomed_sums(connection: Connection, task_id: str) -> tuple[int, int]:
    """(number, bytes) of all journaled deletes of a task."""
    (row,) = connection.execute(_DOOMED_SUMS, {"task": task_id})
    return int(row.number), int(row.size)


def doomed_cuts(connection: Connection, task_id: str, pieces: int) -> list[bytes]:
    """Ascending keys that cut the journaled deletes into about equal pieces."""
    count, _ = doomed_sums(connection, task_id)
    places = [count * i // pieces for i in range(1, min(pieces, count))]
    return sorted({connection.value(_DOOMED_AT, {"task": task_id, "place": place}) for place in places})


def partials(connection: Connection, task_id: str, low: bytes, high: bytes | None) -> list[Partial]:
    """Half-moved objects in the range."""
    query = _PARTIALS + (_ABOVE if low else "") + (_UP_TO if high is not None else "") + _BY_KEY
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
        for r in connection.execute(query, {"task": task_id, "low": low, "high": high})
    ]


def save_partial(connection: Connection, task_id: str, half: Partial) -> None:
    """Insert or replace."""
    row = {
        "task": task_id,
        "key": half.key,
        "size": half.size,
        **_columns(half.evidence),
        "part_size": half.part_size,
        "upload_id": half.upload_id,
        "staged": half.staged,
        "done": json.dumps(half.done, separators=(",", ":")),
        "started": half.started,
    }
    connection.change(_SAVE_PARTIAL, row)


def drop_partial(connection: Connection, task_id: str, key: bytes) -> None:
    """Forget it."""
    connection.change(_DROP_PARTIAL, {"task": task_id, "key": key})


def adopt_partials(
    connection: Connection, task_id: str, donor: str, rename: Callable[[bytes], bytes | None], *, fits: bool
) -> int:
    """Move half-moved objects of a dead task to ``task_id``; how many.

    ``rename`` gives their keys below the new destination (None: not of it). Without ``fits`` (another source) they
    can only be undone.
    """
    adopt = _ADOPT_PARTIAL.format(part_size="part_size" if fits else "0")
    moved = 0
    for half in partials(connection, donor, b"", None):
        key = rename(half.key)
        if key is None or (half.staged and key != half.key):
            continue
        params = {"task": task_id, "key": key, "donor": donor, "old": half.key}
        moved += connection.change(adopt, params)
    return moved


def drop_doomed_of(connection: Connection, shard_id: int) -> None:
    """Take back the delete permission of a range that did not end cleanly."""
    connection.change(_DROP_DOOMED_OF, {"shard": shard_id})


def save_stats(connection: Connection, task_id: str, runner_id: str, stats: dict[str, int]) -> None:
    """Replace the figures of one runner."""
    connection.change(_SAVE_STATS, {"task": task_id, "runner": runner_id, "stats": json.dumps(stats)})


def stats(connection: Connection, task_id: str) -> dict[str, dict[str, int]]:
    """Figures by runner id, of this and earlier runs of the task."""
    rows = connection.execute(_STATS, {"task": task_id})
    return {row.runner_id: json.loads(row.stats) for row in rows}
