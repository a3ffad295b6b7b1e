"""What a one-shot run takes and what it shows: request, snapshots, and the way an interruption is told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from entrepot.model.connection import Connection
from entrepot.model.errors import EntrepotError
from entrepot.model.options import SyncOptions
from entrepot.model.shard import Failure
from entrepot.model.task import TaskKind, TaskState
from entrepot.model.totals import Totals


def _no_connection(_name: str) -> Connection | None:
    return None


def _no_volume(_name: str) -> str | None:
    return None


@dataclass(slots=True, frozen=True)
class TaskRequest:
    """One task to run to its end here. ``processes`` 0: one a core; ``state_dir`` "": the user's own."""

    kind: TaskKind
    source: str
    destination: str
    options: SyncOptions = field(default_factory=SyncOptions)
    processes: int = 0
    state_dir: str = ""
    connections: Callable[[str], Connection | None] = _no_connection
    volumes: Callable[[str], str | None] = _no_volume


@dataclass(slots=True)
class Snapshot:
    """A task at one moment of a run.

    ``scanning``: totals may still grow. ``seconds`` counts this run; rates are bytes/s and entries/s over
    the last seconds (over the whole run in the last snapshot); ``eta_seconds`` is None rather than wrong.
    ``failures`` are the latest; ``requests`` are by verb over all runs of the task; ``peak_rss_bytes`` adds up
    the processes of this run.
    """

    task_id: str
    state: TaskState
    totals: Totals
    phase: str = ""
    scanning: bool = True
    seconds: float = 0.0
    rate_bytes: float = 0.0
    rate_entries: float = 0.0
    eta_seconds: float | None = None
    failures: list[Failure] = field(default_factory=list)
    failure_counts: dict[str, int] = field(default_factory=dict)
    requests: dict[str, int] = field(default_factory=dict)
    peak_rss_bytes: int = 0
    resumed: bool = False
    warnings: list[str] = field(default_factory=list)
    report: str = ""


class Interrupted(EntrepotError):
    """A person stopped the run; it is PAUSED (``snapshot``) or was not yet begun (None)."""

    exit_code = 130

    def __init__(self, message: str, *, hint: str = "", snapshot: Snapshot | None = None) -> None:
        super().__init__(message, hint=hint)
        self.snapshot = snapshot
