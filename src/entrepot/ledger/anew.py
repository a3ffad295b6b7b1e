"""Tasks that must not go on where the ledger says they are: they wait, and look at everything again when resumed.

After damage, and after a backup was put back: a range that the ledger calls done, or a delete that it has in its
journal, may not be true any more. To compare again costs a listing; to believe what is not so costs data.
"""

from __future__ import annotations

from entrepot.model.shard import Phase
from entrepot.model.task import END_STATES, TaskState

from . import events, live, retrying, shards, tasks
from .database import Connection
from .filing import count

_UNFINISHED = f"""SELECT id FROM task WHERE state NOT IN ({", ".join(f"'{state}'" for state in sorted(END_STATES))})
    AND (family = '' OR legs > 0 OR state <> 'QUEUED' OR owner_pid <> 0
        OR EXISTS (SELECT 1 FROM shard WHERE shard.task_id = task.id))
    ORDER BY id"""

_HALF_WAY = f"""SELECT id FROM task WHERE state IN ({", ".join(f"'{state}'" for state in sorted(END_STATES))})
    AND EXISTS (SELECT 1 FROM shard WHERE shard.task_id = task.id AND shard.state IN ('queued', 'leased'))
    ORDER BY id"""

_WAIT = """UPDATE task SET state = 'PAUSED', reason = :reason, stop = '', approved = 0, percent = 0, finished = NULL,
    owner_host = '', owner_boot = '', owner_pid = 0, owner_start = '', owner_seen = NULL WHERE id = :id"""


def all_unfinished(connection: Connection, reason: str) -> list[str]:
    """Have every task that has begun and not ended wait, and begin anew when it is resumed; answers their ids.

    One that ended half-way (at a limit of failures, cancelled) stays ended, but is not gone on with from there.
    """
    found = [row.id for row in connection.execute(_UNFINISHED)]
    for task_id in found:
        wait(connection, task_id, reason)
    for task_id in [row.id for row in connection.execute(_HALF_WAY)]:
        disown(connection, task_id, reason)
    return found


def wait(connection: Connection, task_id: str, reason: str) -> None:
    """Pause one unfinished task, from whatever state; nothing that was found or done counts for it any more."""
    task = tasks.read(connection, task_id)
    retrying.restart(connection, task_id)
    live.drop(connection, task_id)
    connection.change(_WAIT, {"id": task_id, "reason": reason})
    if not task.filing.family:
        # The server makes first ranges where there are none. The command line takes a task as it is.
        first: Phase = "verify" if task.spec.kind == "verify" else "scan"
        shards.add_ranges(connection, task_id, first)
    if task.state is not TaskState.PAUSED:
        for name, change in sorted([(str(task.state), -1), (str(TaskState.PAUSED), 1)]):
            count(connection, task.filing, name, change)
    events.append(connection, task_id, "anew", reason)


def disown(connection: Connection, task_id: str, reason: str) -> None:
    """Forget the ranges of an ended task, some of which are missing: a retry looks at everything."""
    task = tasks.read(connection, task_id)
    if task.state in (TaskState.SUCCEEDED, TaskState.REJECTED):
        for table in ("shard", "doomed"):
            connection.change(f"DELETE FROM {table} WHERE task_id = :id", {"id": task_id})
    else:
        retrying.restart(connection, task_id)
    events.append(connection, task_id, "anew", reason)
