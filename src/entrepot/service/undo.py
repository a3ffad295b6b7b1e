"""Undoing a cancelled task that no runner works on: half-moved objects go, then it is CANCELLED."""

from __future__ import annotations

from typing import TYPE_CHECKING

from entrepot.ledger import holding
from entrepot.ledger.database import open_ledger
from entrepot.model.errors import EntrepotError
from entrepot.model.task import TaskState

from .owner import is_alive, this_process
from .tasks import undo
from .trade import Trade

if TYPE_CHECKING:
    from .perform import Job


def undo_task(job: Job, trade: Trade) -> int:
    """Take hold of the task, undo, let go. What cannot be undone is told as the reason; the task ends all the same."""
    ledger = open_ledger(job.ledger)
    try:
        held = ledger.settle(lambda c: holding.hold(c, job.task_id, this_process(), is_alive))
        if held is None:
            return 0
        reason = "cancelled"
        try:
            undo(
                ledger,
                held,
                job.state_dir,
                connections=job.connections.get,
                trade=trade,
                volumes=job.volumes.get,
            )
        except EntrepotError as error:
            reason = f"cancelled; not all that was half moved could be removed: {error.message}"
        ledger.settle(lambda c: holding.leave(c, job.task_id, TaskState.CANCELLED, reason))
        return 0
    finally:
        ledger.close()
