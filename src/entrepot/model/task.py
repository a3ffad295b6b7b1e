"""Tasks: the durable request, its states, and the one table of allowed transitions."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

TaskKind = Literal["sync", "verify"]


class TaskState(StrEnum):
    """Native states; each API family projects them onto its own."""

    QUEUED = "QUEUED"
    SCANNING = "SCANNING"
    RUNNING = "RUNNING"
    PAUSED = "PAUSED"
    REVIEW = "REVIEW"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    CANCELLED = "CANCELLED"
    REJECTED = "REJECTED"


END_STATES = frozenset({TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED, TaskState.REJECTED})

TRANSITIONS: dict[TaskState, frozenset[TaskState]] = {
    TaskState.QUEUED: frozenset(
        {TaskState.SCANNING, TaskState.PAUSED, TaskState.REVIEW, TaskState.CANCELLED, TaskState.FAILED}
    ),
    TaskState.SCANNING: frozenset(
        {
            TaskState.RUNNING, TaskState.SUCCEEDED, TaskState.FAILED,
            TaskState.PAUSED, TaskState.REVIEW, TaskState.CANCELLED, TaskState.QUEUED,
        }
    ),
    TaskState.RUNNING: frozenset(
        {
            TaskState.SUCCEEDED, TaskState.FAILED, TaskState.PAUSED, TaskState.REVIEW, TaskState.CANCELLED,
            TaskState.QUEUED,
        }
    ),
    TaskState.PAUSED: frozenset({TaskState.QUEUED, TaskState.CANCELLED}),
    TaskState.REVIEW: frozenset({TaskState.QUEUED, TaskState.REJECTED, TaskState.CANCELLED}),
    TaskState.SUCCEEDED: frozenset(),
    TaskState.FAILED: frozenset({TaskState.QUEUED}),
    TaskState.CANCELLED: frozenset({TaskState.QUEUED}),
    TaskState.REJECTED: frozenset(),
}  # fmt: skip
"""REVIEW is where a delete guard puts a task on a server; FAILED and CANCELLED → QUEUED is a retry; a task whose
server or process ended is QUEUED again, too."""


@dataclass(slots=True, frozen=True)
class TaskSpec:
    """What was asked for. ``options`` is ``SyncOptions.to_json()``; locations as typed, without secrets."""

    kind: TaskKind
    source: str
    destination: str
    options: str
