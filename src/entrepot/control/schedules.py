"""Schedules: requests that become tasks again and again. Each runs as the person who set its request."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

from entrepot.ledger import access, schedules
from entrepot.ledger.database import Connection
from entrepot.ledger.ids import new_id
from entrepot.ledger.schedules import OVERLAPS, Schedule
from entrepot.model import cron
from entrepot.model.cron import Cron
from entrepot.model.errors import AccessError, Conflict, NoSuch, RequestError, UsageError, WrongState
from entrepot.security.identity import Action, Principal, allows

from .auditing import allow
from .auditing import change as changing
from .context import Control
from .once import NEVER, Once
from .scoping import readable, scope_of
from .starting import Refused, check, start

MOST: Final = 10_000
COUNT_MAX: Final = 1_000_000_000
PREVIEW_MAX: Final = 100


@dataclass(slots=True, frozen=True)
class NewSchedule:
    """What is wanted; ``request`` is that of a sync."""

    name: str
    cron: str
    request: Mapping[str, Any]
    scope: str | None = None
    zone: str = "UTC"
    enabled: bool = True
    max_count: int = 0
    overlap: str = "skip"


@dataclass(slots=True, frozen=True)
class Changes:
    """What is to be different; None: as it is."""

    name: str | None = None
    cron: str | None = None
    zone: str | None = None
    request: Mapping[str, Any] | None = None
    enabled: bool | None = None
    max_count: int | None = None
    overlap: str | None = None


@dataclass(slots=True, frozen=True)
class Shown:
    """A schedule as it is answered, with the name of whom it runs as (empty: somebody who is gone)."""

    schedule: Schedule
    creator: str


def create(control: Control, who: Principal, new: NewSchedule, once: Once = NEVER) -> Shown:
    """Make a schedule; its request is checked as if it were run now. Raises RequestError, Conflict, NotAllowed."""
    _check_name(new.name)
    _check_choices(new.max_count, new.overlap)
    scope = scope_of(who, Action.SCHEDULE_WRITE, new.scope)
    with changing(control, who, Action.SCHEDULE_WRITE, f"schedule {new.name}", scope) as c:
        once.begin(c, who)
        now = _now(c)
        timer = _timer(new.cron, new.zone, now)
        _check_runner(c, who)
        request = check(c, who, scope, new.request)
        c.alone("schedule")
        _check_free(c, scope, new.name)
        if int(c.value("SELECT count(*) FROM schedule")) >= MOST:
            raise UsageError(f"there are {MOST} schedules already", hint="remove one that is no longer needed")
        made = Schedule(
            id=new_id(),
            name=new.name,
            scope=scope,
            cron=timer.text,
            zone=timer.zone,
            request=json.dumps(request, sort_keys=True),
            enabled=new.enabled,
            max_count=new.max_count,
            runs=0,
            next_due=timer.after(now) if new.enabled else None,
            last_task="",
            last_error="",
            creator=who.id,
            created=now,
            overlap=new.overlap,
        )
        schedules.add(c, made)
        shown = Shown(made, who.name)
        once.keep(c, who, shown)
    control.wake()
    return shown


def read(control: Control, who: Principal, schedule_id: str) -> Shown:
    """One schedule. Raises NoSuch, also where it must not be known."""
    with control.pool.read() as c:
        return _shown(c, _seen(c, who, schedule_id))


def listing(
    control: Control, who: Principal, scope: str | None = None, *, after: str = "", limit: int = 100
) -> list[Shown]:
    """The schedules that one may see, oldest first."""
    scopes = readable(who, Action.SCHEDULE_READ, scope)
    names: dict[str, str] = {}
    with control.pool.read() as c:
        found = schedules.listing(c, scopes, after=after, limit=limit)
        for creator in {schedule.creator for schedule in found}:
            names[creator] = _name(c, creator)
    return [Shown(schedule, names[schedule.creator]) for schedule in found]


def change(control: Control, who: Principal, schedule_id: str, wanted: Changes) -> Shown:
    """Change a schedule. Who sets its request, or enables it again, is the one it runs as from then on."""
    if wanted.name is not None:
        _check_name(wanted.name)
    _check_choices(wanted.max_count, wanted.overlap)
    old = read(control, who, schedule_id).schedule
    with changing(control, who, Action.SCHEDULE_WRITE, f"schedule {old.name}", old.scope) as c:
        c.alone("schedule")
        old = _there(c, schedule_id)
        if wanted.name is not None and wanted.name != old.name:
            _check_free(c, old.scope, wanted.name)
        now = _now(c)
        new = replace(
            old,
            name=_or(wanted.name, old.name),
            overlap=_or(wanted.overlap, old.overlap),
            max_count=_or(wanted.max_count, old.max_count),
            enabled=_or(wanted.enabled, old.enabled),
        )
        new = _owned(c, who, old, new, wanted.request)
        new = _timed(old, new, _timer(_or(wanted.cron, old.cron), _or(wanted.zone, old.zone), now), now)
        schedules.change(c, new)
        shown = _shown(c, new)
    control.wake()
    return shown


def remove(control: Control, who: Principal, schedule_id: str) -> None:
    """Forget a schedule; its tasks stay and go on."""
    old = read(control, who, schedule_id).schedule
    with changing(control, who, Action.SCHEDULE_WRITE, f"schedule {old.name} (removed)", old.scope) as c:
        _there(c, schedule_id)
        schedules.remove(c, schedule_id)


def run_now(control: Control, who: Principal, schedule_id: str) -> Shown:
    """Run it once more at once; it counts as a run. Raises WrongState while a run goes on that must not be overlapped.

    ``last_task`` is the new task, unless it waits for the one that runs (``waiting``).
    """
    old = read(control, who, schedule_id).schedule
    try:
        with changing(control, who, Action.SCHEDULE_WRITE, f"schedule {old.name} (run now)", old.scope) as c:
            new = start(control, c, _there(c, schedule_id), _now(c))
            schedules.change(c, new)
            shown = _shown(c, new)
    except Refused as refused:
        raise WrongState(refused.message, hint=refused.hint) from None
    control.wake()
    return shown


def preview(control: Control, who: Principal, text: str, zone: str, count: int = 5) -> list[float]:
    """The next times at which an expression is due."""
    if not 1 <= count <= PREVIEW_MAX:
        raise RequestError("count", f"a number from 1 to {PREVIEW_MAX}")
    if not readable(who, Action.SCHEDULE_READ, None):
        allow(control, who, Action.SCHEDULE_READ, "schedule")
    now = control.wall()
    timer = _timer(text, zone, now)
    found: list[float] = []
    moment = timer.after(now)
    while moment is not None and len(found) < count:
        found.append(moment)
        moment = timer.after(moment)
    return found


def _owned(c: Connection, who: Principal, old: Schedule, new: Schedule, request: Mapping[str, Any] | None) -> Schedule:
    """Nobody lets another one's rights work for a request of their own."""
    if request is None and not (new.enabled and not old.enabled):
        return new
    _check_runner(c, who)
    given = json.loads(old.request) if request is None else request
    checked = check(c, who, old.scope, given)
    return replace(new, request=json.dumps(checked, sort_keys=True), creator=who.id)


def _timed(old: Schedule, new: Schedule, timer: Cron, now: float) -> Schedule:
    new = replace(new, cron=timer.text, zone=timer.zone)
    if not new.enabled or new.exhausted:
        return replace(new, next_due=None, waiting=new.waiting and new.enabled)
    if (old.cron, old.zone) == (new.cron, new.zone) and old.enabled and old.next_due is not None:
        return new
    fresh = "" if not old.enabled else new.last_error
    return replace(new, next_due=timer.after(now), last_error=fresh)


def _timer(text: str, zone: str, now: float) -> Cron:
    try:
        cron.check_zone(zone)
    except UsageError as fault:
        raise RequestError("zone", fault.message, hint=fault.hint) from None
    try:
        return cron.parse(text, zone, now=now)
    except UsageError as fault:
        raise RequestError("cron", fault.message, hint=fault.hint) from None


def _check_runner(c: Connection, who: Principal) -> None:
    """At each run the rights are looked up anew: they must be there to be looked up."""
    if access.principal_by_id(c, who.id) is None:
        raise AccessError(
            "only users of this server can have schedules: you are known by another issuer",
            hint="let a user of this server make it",
        )


def _check_name(name: str) -> None:
    if not name.strip() or len(name) > 128 or not name.isprintable():
        raise RequestError("name", "1 to 128 printable characters")


def _check_choices(max_count: int | None, overlap: str | None) -> None:
    if max_count is not None and not 0 <= max_count <= COUNT_MAX:
        raise RequestError("max_count", f"a number from 0 (no limit) to {COUNT_MAX}")
    if overlap is not None and overlap not in OVERLAPS:
        raise RequestError("overlap", "no such policy", hint="one of: " + ", ".join(OVERLAPS))


def _check_free(c: Connection, scope: str, name: str) -> None:
    if schedules.named(c, scope, name) is not None:
        raise Conflict(f"there is a schedule {name!r} already", hint="choose another name, or change that one")


def _seen(c: Connection, who: Principal, schedule_id: str) -> Schedule:
    found = schedules.read(c, schedule_id)
    if found is None or not allows(who, Action.SCHEDULE_READ, found.scope):
        raise NoSuch(f"there is no schedule {schedule_id}")
    return found


def _there(c: Connection, schedule_id: str) -> Schedule:
    found = schedules.read(c, schedule_id, to_change=True)
    if found is None:
        raise NoSuch(f"there is no schedule {schedule_id}")
    return found


def _shown(c: Connection, schedule: Schedule) -> Shown:
    return Shown(schedule, _name(c, schedule.creator))


def _name(c: Connection, creator: str) -> str:
    row = access.principal_by_id(c, creator)
    return row.name if row is not None else ""


def _now(c: Connection) -> float:
    return float(c.value("SELECT now()"))


def _or(wanted: Any, old: Any) -> Any:
    return old if wanted is None else wanted
