"""What follows when all ranges of a phase are done: guarded deletes, a second look, the end."""

from __future__ import annotations

from entrepot.ledger import journal, shards, tasks
from entrepot.ledger.database import Connection
from entrepot.ledger.tasks import Task
from entrepot.model.errors import GuardError
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskState
from entrepot.model.totals import Totals

DOOMED_PER_SHARD = 10_000


def open_shards(connection: Connection, task_id: str) -> int:
    """Ranges that are still to do or being done."""
    counts = tasks.shard_counts(connection, task_id)
    return sum(count for (_, state), count in counts.items() if state in {"queued", "leased"})


def advance(connection: Connection, task_id: str, options: SyncOptions, pieces: int, *, approved: bool = False) -> bool:
    """With no range open: queue the next phase (True), or find that there is none left (False).

    Raises GuardError when the journaled deletes may not be done (unless they were ``approved``); nothing is queued
    then.
    """
    task = tasks.read(connection, task_id)
    past = {phase for phase, _ in tasks.shard_counts(connection, task_id)}
    if task.spec.kind == "verify":
        return False
    if options.delete == "destination" and not past & {"delete", "verify"}:
        count, size = journal.doomed_sums(connection, task_id)
        if count:
            if not approved:
                check_deletes(task, count, options)
            if options.dry_run:
                # A preview counts what it would delete and hands no runner a reason to touch anything.
                shards.add_done(connection, task_id, "delete", Totals(deleted=count, deleted_bytes=size))
            else:
                cuts = journal.doomed_cuts(connection, task_id, min(pieces, count // DOOMED_PER_SHARD + 1))
                shards.add_ranges(connection, task_id, "delete", cuts)
                return True
    if options.verify == "full" and not options.dry_run and "verify" not in past:
        shards.add_ranges(connection, task_id, "verify", shards.edges(connection, task_id, "scan"))
        return True
    return False


def check_deletes(task: Task, count: int, options: SyncOptions) -> None:
    """The guards of deleting: an empty source, the absolute cap, the cap by share."""
    if task.totals.total == 0 and not options.allow_empty_source:
        raise GuardError(
            f"{task.spec.source} is empty: refused to delete {count:,} entries of {task.spec.destination}",
            hint="if that is meant, add --allow-empty-source",
        )
    if options.delete_max_count and count > options.delete_max_count:
        raise GuardError(
            f"refused to delete {count:,} entries of {task.spec.destination}: the cap is {options.delete_max_count:,}",
            hint="look with --dry-run; if they should go, raise --delete-max-count",
        )
    present = max(task.destination_entries, count)
    if options.delete_max_share < 1.0 and count > options.delete_max_share * present:
        raise GuardError(
            f"refused to delete {count:,} of {present:,} entries of {task.spec.destination}: "
            f"the cap is {options.delete_max_share:.0%}",
            hint="look with --dry-run; if they should go, raise --delete-max-share (1.0 = no cap)",
        )


def end_state(totals: Totals) -> TaskState:
    """How a task that did all its ranges ended."""
    return TaskState.FAILED if totals.failed else TaskState.SUCCEEDED
