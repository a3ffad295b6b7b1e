"""Looks after schedules: the scheduler that holds the leader lease calls it, and learns when to call again."""

from __future__ import annotations

import logging
from typing import Final

from entrepot.control.context import Control
from entrepot.control.starting import fail, fire
from entrepot.ledger import schedules
from entrepot.ledger.dialect import LedgerError
from entrepot.model.errors import InternalError

LOG = logging.getLogger("entrepot.planner")

WAITING_SECONDS: Final = 1.0
"""How often it is looked whether the task has ended that a due run waits for."""


LOOK_SECONDS: Final = 5.0
"""The longest time between two looks: so much later at most does a schedule run that was made in between."""


def due(control: Control, now: float | None = None) -> float | None:
    """Start what is due; what was missed while no server ran is made up for by one run of each schedule.

    Answers when there is something to do again (Unix time by the ledger's clock), None: not before a schedule is
    made or changed. Others may do the same at the same time: each run is started once.
    """
    with control.pool.read() as c:
        moment = float(c.value("SELECT now()")) if now is None else now
        found = [*schedules.due(c, moment), *schedules.ready(c)]
    for schedule_id in dict.fromkeys(found):
        _fire(control, schedule_id, moment)
    with control.pool.read() as c:
        following = schedules.next_due(c)
        if schedules.any_waiting(c):
            soon = moment + WAITING_SECONDS
            following = soon if following is None else min(following, soon)
    return following


def look(control: Control) -> float:
    """As :func:`due`; answers in how many seconds to look again. Soon, for a schedule may be made at any time."""
    following = due(control)
    if following is None:
        return LOOK_SECONDS
    with control.pool.read() as c:
        left = following - float(c.value("SELECT now()"))
    return min(max(left, 0.0), LOOK_SECONDS)


def _fire(control: Control, schedule_id: str, now: float) -> None:
    """One schedule that cannot be run must not keep the others from it."""
    try:
        fire(control, schedule_id, now)
    except LedgerError:
        raise
    except Exception:
        LOG.exception("schedule %s could not be run", schedule_id)
        try:
            fail(control, schedule_id, now, InternalError("the server failed to start it; its log says why"))
        except Exception:
            LOG.exception("schedule %s could not be put off", schedule_id)
