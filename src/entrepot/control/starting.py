"""From a schedule to its next task, in one transaction: of several schedulers at the same schedule one starts it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from entrepot.ledger import access, orders, schedules
from entrepot.ledger.database import Connection
from entrepot.ledger.dialect import LedgerError
from entrepot.ledger.schedules import Schedule
from entrepot.model.cron import Cron
from entrepot.model.errors import EntrepotError, RequestError, UsageError
from entrepot.security.identity import SYSTEM, Action, Kind, Principal, require

from . import syncs
from .auditing import record
from .context import Control
from .grants import from_json
from .syncs import Checked


class Refused(UsageError):
    """The run before goes on, and the schedule says that there must not be two."""


class Unfit(UsageError):
    """The schedule can never start anything as it is: it is switched off with this reason."""


def check(c: Connection, who: Principal, scope: str, request: Mapping[str, Any]) -> dict[str, Any]:
    """The request as it is kept, once it is certain that ``who`` could run it now. Raises RequestError, NotAllowed."""
    kept = _checked(c, who, scope, request).sync.to_json()
    return {name: value for name, value in kept.items() if name not in ("scope", "not_before")}


def _checked(c: Connection, who: Principal, scope: str, request: Mapping[str, Any]) -> Checked:
    require(who, Action.TASK_CREATE, scope)
    try:
        sync = syncs.from_json(request)
        if sync.scope is not None and sync.scope != scope:
            raise RequestError("scope", "not that of the schedule", hint="leave it out")
        if sync.not_before is not None:
            raise RequestError("not_before", "the schedule says when it runs", hint="leave it out")
        return syncs.check(c, who, scope, replace(sync, scope=scope))
    except RequestError as fault:
        raise RequestError(f"request.{fault.field}", fault.description, hint=fault.hint) from None


def start(control: Control, c: Connection, schedule: Schedule, now: float) -> Schedule:
    """Start the schedule's task in this transaction, or let it wait for the one that runs; the row as it is then.

    Raises Refused when it must do neither, Unfit when there is nobody to run it as, and whatever refuses the task.
    """
    live = schedules.live_task(c, schedule.id)
    if live is not None and schedule.overlap == "cancel_running":
        _cancel(c, live[0], schedule)
        live = schedules.live_task(c, schedule.id)
    if live is not None and schedule.overlap == "skip":
        raise Refused(
            f"task {live[0]} of the run before is {live[1]}: this run was skipped",
            hint="wait for it, cancel it, or choose the overlap queue or cancel_running",
        )
    if live is not None:
        return replace(schedule, waiting=True)
    creator = _creator(c, schedule)
    task_id = _create(control, c, creator, schedule)
    started = replace(schedule, runs=schedule.runs + 1, last_task=task_id, last_run=now, last_error="", waiting=False)
    return replace(started, next_due=None) if started.exhausted else started


def _creator(c: Connection, schedule: Schedule) -> Principal:
    """Whom it runs as, with the rights of today."""
    row = access.principal_by_id(c, schedule.creator)
    if row is None:
        raise Unfit("the user that it runs as is gone", hint="enable it again to run it as yourself")
    if row.disabled:
        raise Unfit(f"the user that it runs as, {row.name}, is disabled", hint="enable it again to run it as yourself")
    return Principal(row.id, row.name, Kind(row.kind), from_json(row.grants))


def _create(control: Control, c: Connection, creator: Principal, schedule: Schedule) -> str:
    checked = _checked(c, creator, schedule.scope, request_of(schedule))
    if not checked.sync.name:
        checked = replace(checked, sync=replace(checked.sync, name=schedule.name))
    task_id = syncs.place(control, c, creator, checked, schedule_id=schedule.id)
    record(c, creator, Action.TASK_CREATE, f"task {task_id} of schedule {schedule.name}", scope=schedule.scope)
    return task_id


def _cancel(c: Connection, task_id: str, schedule: Schedule) -> None:
    orders.cancel(c, task_id)
    record(c, SYSTEM, Action.TASK_CONTROL, f"cancel task {task_id} for schedule {schedule.name}", scope=schedule.scope)


def fire(control: Control, schedule_id: str, now: float) -> bool:
    """Do what is due for one schedule at ``now``; False when another scheduler did it, or it is no longer due.

    What was missed while no server ran is made up for by one run.
    """
    try:
        done = control.pool.settle(lambda c: _fire(control, c, schedule_id, now))
    except LedgerError:
        raise
    except EntrepotError as error:
        return fail(control, schedule_id, now, error)
    if done:
        control.wake()
    return done


def fail(control: Control, schedule_id: str, now: float, error: EntrepotError) -> bool:
    """A start that failed was taken back altogether: keep the reason, and go on to the next time."""
    return control.pool.settle(lambda c: _note(c, schedule_id, now, error))


def _fire(control: Control, c: Connection, schedule_id: str, now: float) -> bool:
    found = schedules.read(c, schedule_id, to_change=True)
    if found is None or not _is_due(found, now):
        return False
    if found.waiting and schedules.live_task(c, schedule_id) is not None:
        # It waits for the end of the run before: one more is not put behind it.
        if _reached(found, now):
            schedules.change(c, replace(found, next_due=_after(found, now)))
        return False
    advanced = replace(found, next_due=_after(found, now)) if _reached(found, now) else found
    schedules.change(c, start(control, c, advanced, now))
    return True


def _note(c: Connection, schedule_id: str, now: float, error: EntrepotError) -> bool:
    found = schedules.read(c, schedule_id, to_change=True)
    if found is None or not _is_due(found, now):
        return False
    following = found.next_due
    try:
        following = _after(found, now) if _reached(found, now) else following
    except Unfit as unfit:
        error = unfit
    noted = replace(found, last_error=error.message, waiting=False, next_due=following)
    if isinstance(error, Unfit):
        noted = replace(noted, enabled=False, next_due=None)
        subject = f"schedule {found.name} (disabled)"
        record(c, SYSTEM, Action.SCHEDULE_WRITE, subject, scope=found.scope, detail=error.message)
    schedules.change(c, noted)
    return True


def _is_due(found: Schedule, now: float) -> bool:
    return found.waiting or (found.enabled and not found.exhausted and _reached(found, now))


def _reached(found: Schedule, now: float) -> bool:
    return found.next_due is not None and found.next_due <= now


def _after(found: Schedule, now: float) -> float | None:
    try:
        return Cron(found.cron, found.zone).after(now)
    except (KeyError, OSError, ValueError) as fault:
        raise Unfit(f"its time zone {found.zone} is not known any more ({type(fault).__name__})") from None


def request_of(schedule: Schedule) -> dict[str, Any]:
    """The kept request."""
    found: dict[str, Any] = json.loads(schedule.request)
    return found
