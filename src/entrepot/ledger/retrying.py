"""Trying again what failed: only those entries are looked at, and every counter stays what a recount gives.

Failures of earlier rounds are marked as past. Ranges of the phase "retry" walk over their keys: as the cursor passes
one, its old outcome is taken back (in one "settled" row of negative totals) in the transaction that brings the new
one. So failed counts go down as entries succeed, and a process that dies in between has lost nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from entrepot.model.options import SyncOptions
from entrepot.model.totals import FIELDS, Totals

from . import shards, tasks
from .database import Connection, Row
from .tasks import Task

PAST, PAST_LOOK = "past", "pastlook"
"""Phases of failures of an earlier round: of a scan, of the second look of a full verification."""

KEYS_PER_SHARD = 2_000
_BATCH = 500

_MARK = "UPDATE failure SET phase = :past WHERE task_id = :task AND phase IN ({phases})"
_PAST = "SELECT id, key, phase, failure, size FROM failure WHERE task_id = :task AND phase IN ('past', 'pastlook')"
_ABOVE = " AND key > :low"
_UP_TO = " AND key <= :high"
_BY_KEY = " ORDER BY key"
_KEYS = "SELECT DISTINCT key FROM failure WHERE task_id = :task AND phase IN ('past', 'pastlook')"
_ROWS = "SELECT phase, count(*) AS number FROM failure WHERE task_id = :task GROUP BY phase"
_OF_PHASE = "SELECT id, key, phase, failure, size FROM failure WHERE task_id = :task AND phase = :phase"

_FAILED_SHARDS = "SELECT id, phase, cursor FROM shard WHERE task_id = :task AND state = 'failed' ORDER BY id"
_OF_SHARD = """SELECT id, key, phase, failure, size FROM failure
    WHERE task_id = :task AND phase = :phase AND key = :key AND size = 0 ORDER BY id LIMIT 1"""
_AGAIN = "UPDATE shard SET state = :state, lost = 0 WHERE id = :id"
_ARCHIVE = "UPDATE shard SET phase = :old, state = 'done' WHERE task_id = :task AND phase = :phase"

_DELETED = """DELETE FROM doomed WHERE task_id = :task AND key > :low AND key <= :cursor
    AND NOT EXISTS (SELECT 1 FROM failure WHERE failure.task_id = doomed.task_id
        AND failure.phase = 'delete' AND failure.key = doomed.key)"""
_DELETE_SHARDS = "SELECT low, cursor FROM shard WHERE task_id = :task AND phase = 'delete'"

_SETTLED = "SELECT id FROM shard WHERE task_id = :task AND phase = 'settled'"
_SETTLE = f"UPDATE shard SET {', '.join(f'{name} = {name} - :{name}' for name in FIELDS)} WHERE id = :id"
_UNCOUNT = f"UPDATE task SET {', '.join(f'{name} = {name} - :{name}' for name in FIELDS)} WHERE id = :task"

_LESS_ROWS = "UPDATE task SET failure_rows = failure_rows - :less WHERE id = :task"
_LESS = "UPDATE failure_count SET entries = entries - :less WHERE task_id = :task AND failure = :failure"
_NO_MORE = "DELETE FROM failure_count WHERE task_id = :task AND entries <= 0"

_RESET = f"""UPDATE task SET failure_rows = 0, destination_entries = 0, failed_before = 0,
    {", ".join(f"{name} = 0" for name in FIELDS)} WHERE id = :task"""


def prepare(connection: Connection, task_id: str) -> bool:
    """Queue what failed. False: everything is looked at anew, because what failed is not known entry by entry."""
    task = tasks.read(connection, task_id)
    if not tasks.shard_counts(connection, task_id):
        return True
    if not task.totals.failed:
        return True
    if not _known(connection, task):
        restart(connection, task_id)
        return False
    _requeue_failed_ranges(connection, task)
    _renew_deletes(connection, task)
    for phase, past in (("verify", PAST_LOOK), ("scan", PAST), ("retry", PAST)):
        query = _MARK.format(phases=f"'{phase}'")
        connection.change(query, {"task": task_id, "past": past})
    connection.change(_ARCHIVE, {"task": task_id, "phase": "verify", "old": "verified"})
    connection.change(_ARCHIVE, {"task": task_id, "phase": "retry", "old": "retried"})
    keys = [row.key for row in connection.execute(_KEYS + _BY_KEY, {"task": task_id})]
    if keys:
        shards.add_ranges(connection, task_id, "retry", keys[KEYS_PER_SHARD - 1 : -1 : KEYS_PER_SHARD])
    return True


def _known(connection: Connection, task: Task) -> bool:
    """Whether each failure has its row, and each row names an entry that can be asked for alone."""
    options = SyncOptions.from_json(task.spec.options)
    if task.spec.kind != "sync" or options.symlinks == "copy":
        return False
    rows = {row.phase: int(row.number) for row in connection.execute(_ROWS, {"task": task.id})}
    if sum(rows.values()) != task.totals.failed:
        return False
    if task.source[0] != "file":
        return True
    # A directory that could not be read: what lies in it was never listed.
    return not any(
        row.key.endswith(b"/")
        for row in connection.execute("SELECT key FROM failure WHERE task_id = :task", {"task": task.id})
    )


def restart(connection: Connection, task_id: str) -> None:
    """Forget all ranges and counters: the next run looks at everything. Half-moved objects are kept to go on with."""
    for table in ("shard", "failure", "failure_count", "doomed"):
        connection.change(f"DELETE FROM {table} WHERE task_id = :task", {"task": task_id})
    connection.change(_RESET, {"task": task_id})


def _requeue_failed_ranges(connection: Connection, task: Task) -> None:
    """Ranges that could not be listed to their end go on behind their cursor."""
    for shard in connection.execute(_FAILED_SHARDS, {"task": task.id}):
        told = connection.execute(_OF_SHARD, {"task": task.id, "phase": shard.phase, "key": shard.cursor})
        connection.change(_AGAIN, {"id": shard.id, "state": "queued" if shard.phase == "scan" else "done"})
        _take_back(connection, task.id, told, Totals(failed=len(told)))


def _renew_deletes(connection: Connection, task: Task) -> None:
    """The journal keeps the deletes that are not done; they are queued anew when all ranges are."""
    for row in connection.execute(_DELETE_SHARDS, {"task": task.id}):
        connection.change(_DELETED, {"task": task.id, "low": row.low, "cursor": row.cursor})
    failed = connection.execute(_OF_PHASE, {"task": task.id, "phase": "delete"})
    size = sum(row.size for row in failed)
    _take_back(connection, task.id, failed, Totals(failed=len(failed), failed_bytes=size))
    connection.change(_ARCHIVE, {"task": task.id, "phase": "delete", "old": "deleted"})


def keys(connection: Connection, task_id: str, low: bytes, high: bytes | None) -> list[bytes]:
    """Keys of earlier failures in a range, ascending."""
    query = _KEYS + (_ABOVE if low else "") + (_UP_TO if high is not None else "") + _BY_KEY
    return [row.key for row in connection.execute(query, {"task": task_id, "low": low, "high": high})]


def clear(connection: Connection, task_id: str, low: bytes, high: bytes | None) -> None:
    """The cursor passed these keys: their old outcomes are void."""
    query = _PAST + (_ABOVE if low else "") + (_UP_TO if high is not None else "")
    _void(connection, task_id, connection.execute(query, {"task": task_id, "low": low, "high": high}))


def clear_keys(connection: Connection, task_id: str, wanted: Sequence[bytes]) -> None:
    """The old outcomes of these keys are void."""
    for start in range(0, len(wanted), _BATCH):
        some = {f"key{at}": key for at, key in enumerate(wanted[start : start + _BATCH])}
        query = f"{_PAST} AND key IN ({', '.join(f':{name}' for name in some)})"
        _void(connection, task_id, connection.execute(query, {"task": task_id, **some}))


def _void(connection: Connection, task_id: str, rows: Sequence[Row]) -> None:
    if not rows:
        return
    copied = tasks.read(connection, task_id).totals.copied
    sizes = {row.key: row.size for row in rows}
    scanned = {row.key for row in rows if row.phase == PAST}
    looked = [size for key, size in sizes.items() if key not in scanned]
    gone = Totals(
        total=len(sizes),
        total_bytes=sum(sizes.values()),
        failed=len(rows),
        failed_bytes=sum(row.size for row in rows),
    )
    # What failed the second look only was counted as copied (or found equal) before.
    if copied >= len(looked):
        gone.copied, gone.copied_bytes = len(looked), sum(looked)
    else:
        gone.equal, gone.equal_bytes = len(looked), sum(looked)
    _take_back(connection, task_id, rows, gone)


def _take_back(connection: Connection, task_id: str, rows: Sequence[Row], gone: Totals) -> None:
    """Delete failure rows, and subtract what they were counted as."""
    if not rows:
        return
    connection.executemany("DELETE FROM failure WHERE id = :id", [{"id": row.id} for row in rows])
    connection.change(_LESS_ROWS, {"task": task_id, "less": len(rows)})
    for failure, less in sorted(Counter(row.failure for row in rows).items()):
        connection.change(_LESS, {"task": task_id, "failure": failure, "less": less})
    connection.change(_NO_MORE, {"task": task_id})
    connection.change(_UNCOUNT, {"task": task_id, **gone.as_dict()})
    settled = connection.value(_SETTLED, {"task": task_id})
    if settled is None:
        shards.add_settled(connection, task_id)
        settled = connection.value(_SETTLED, {"task": task_id})
    connection.change(_SETTLE, {"id": settled, **gone.as_dict()})
