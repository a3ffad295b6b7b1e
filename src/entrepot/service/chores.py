"""What the holder of the scheduler's lease does from time to time: schedules, news to webhooks, forgetting."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from entrepot.ledger import tasks
from entrepot.ledger.database import Ledger

from . import reports
from .scheduler import Chore

if TYPE_CHECKING:
    from entrepot.control.context import Control

DAY = 86_400.0
PRUNE_EVERY = 300.0
SWEEP_EVERY = 3_600.0
PLAN_EVERY = 1.0
PRUNED_AT_ONCE = 1_000


def _nothing() -> None:
    return


@dataclass(slots=True)
class Chores:
    """They, and how to stop what they began."""

    chores: list[Chore] = field(default_factory=list)
    stop: Callable[[], None] = _nothing


def chores(control: Control) -> Chores:
    """All chores of a server."""
    from .courier import Courier
    from .planner import due
    from .posting import guarded

    courier = Courier(control.pool, lambda: control.keyring, guarded(control.egress.check))
    begun = False

    def bring() -> None:
        nonlocal begun
        if not begun:
            begun = True
            courier.start()
        courier.ring()

    def plan() -> float | None:
        following = due(control)
        return None if following is None else min(PLAN_EVERY, max(0.05, following - time.time()))

    settings = control.settings
    return Chores(
        [
            Chore(PLAN_EVERY, plan),
            Chore(PLAN_EVERY, bring),
            Chore(PRUNE_EVERY, lambda: prune(control.pool, settings.retention_days * DAY)),
            Chore(SWEEP_EVERY, lambda: sweep(control.pool, control.state_dir, settings.report_days * DAY)),
        ],
        lambda: courier.stop() if begun else None,
    )


def prune(ledger: Ledger, age: float) -> None:
    """Forget tasks that ended longer ago than ``age`` seconds, with everything of theirs; 0: never."""
    while age > 0 and ledger.settle(lambda c: tasks.prune(c, age)) >= PRUNED_AT_ONCE:
        pass


def sweep(ledger: Ledger, state_dir: str, age: float, wall: Callable[[], float] = time.time) -> None:
    """Remove the files of tasks that the ledger does not know any more, and reports that are too old."""
    names = reports.kept(state_dir)
    with ledger.read() as c:
        gone = [name for name in names if c.value("SELECT 1 FROM task WHERE id = :id", {"id": name}) is None]
    for name in gone:
        reports.remove(state_dir, name)
    for name in set(names) - set(gone):
        place = reports.report_place(state_dir, name)
        if age > 0 and os.path.exists(place) and wall() - os.stat(place).st_mtime > age:
            os.unlink(place)
