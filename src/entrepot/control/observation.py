"""Looking at the server as a whole: is it ready, what is it doing, how much did it move."""

from __future__ import annotations

from dataclasses import dataclass, field

from entrepot.ledger.database import Connection
from entrepot.model.errors import EntrepotError
from entrepot.security.identity import Action, Principal

from .auditing import allow
from .context import Control

_TASKS = "SELECT family, state, sum(tasks) AS tasks FROM task_count GROUP BY family, state"
_LIVE = """SELECT coalesce(sum(copied), 0) AS entries, coalesce(sum(copied_bytes), 0) AS bytes FROM task
    WHERE state IN ('SCANNING', 'RUNNING', 'PAUSED') AND family <> '' AND parent = ''"""
_DONE = "SELECT coalesce(sum(entries), 0) AS entries, coalesce(sum(bytes), 0) AS bytes FROM usage"
_LEADER = "SELECT 1 FROM leader WHERE name = 'scheduler' AND until > now()"


@dataclass(slots=True, frozen=True)
class Figures:
    """What the ledger says about the server. ``copied_*`` never fall while tasks are not retried."""

    tasks: dict[tuple[str, str], int] = field(default_factory=dict)
    copied_entries: int = 0
    copied_bytes: int = 0
    scheduler: bool = False


@dataclass(slots=True, frozen=True)
class Readiness:
    """Whether requests can be served and tasks will run."""

    ledger: bool
    scheduler: bool

    @property
    def ready(self) -> bool:
        """Both."""
        return self.ledger and self.scheduler


def figures(control: Control, who: Principal) -> Figures:
    """Figures of the whole server."""
    allow(control, who, Action.METRICS_READ, "metrics")
    with control.pool.read() as c:
        tasks = {(row.family, row.state): int(row.tasks) for row in c.execute(_TASKS)}
        live, done = c.execute(_LIVE)[0], c.execute(_DONE)[0]
        return Figures(tasks, int(live.entries + done.entries), int(live.bytes + done.bytes), _led(c))


def readiness(control: Control) -> Readiness:
    """For load balancers; tells nothing but yes or no, so anybody may ask."""
    try:
        with control.pool.read() as c:
            return Readiness(True, _led(c))
    except EntrepotError:
        return Readiness(False, False)


def _led(c: Connection) -> bool:
    return c.value(_LEADER) is not None
