"""/api/v1/schedules: requests that become tasks again and again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field, StringConstraints
from starlette.responses import Response

from entrepot.api import idempotency, paging
from entrepot.api.auth import Ask
from entrepot.api.shape import (
    Answer,
    Id,
    PageSize,
    PageToken,
    Place,
    Scope,
    Short,
    Wanted,
    answer,
    encode,
    moment,
    only_known,
)
from entrepot.control import schedules, starting
from entrepot.control.schedules import Changes, NewSchedule, Shown
from entrepot.control.syncs import PRIORITIES

from .syncs import Options

router = APIRouter(prefix="/api/v1/schedules", tags=["schedules"], dependencies=[Depends(only_known)])

Expression = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=r"^[\x20-\x7e\t]*$"),
    Field(description="minute hour day-of-month month day-of-week, or @hourly, @daily, @weekly, @monthly, @yearly"),
]
Zone = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9_+/-]*$"), Field(description="IANA name")]
Overlap = Literal["skip", "queue", "cancel_running"]
Count = Annotated[int, Field(ge=0, le=schedules.COUNT_MAX, description="it runs so often at most; 0: no limit")]
ScopeQuery = Annotated[Scope | None, Query(description="this scope and those below it; else all that one may see")]


class SyncToSchedule(Wanted):
    """The sync that is run; as for /syncs. Its scope is the schedule's, and its name too where it has none."""

    source: Place
    destination: Place
    name: Short = ""
    kind: Literal["sync", "verify"] = "sync"
    options: Options = Options()
    priority: int = Field(0, ge=PRIORITIES[0], le=PRIORITIES[1], description="higher goes first")


class ScheduleWanted(Wanted):
    """A schedule to be made: when, and what. It runs as whoever makes it."""

    name: Short
    cron: Expression
    zone: Zone = "UTC"
    request: SyncToSchedule
    scope: Scope | None = None
    enabled: bool = True
    max_count: Count = 0
    overlap: Overlap = "skip"


class ScheduleChange(Wanted):
    """What to change; what is left out stays. Who sets the request, or enables it again, is whom it runs as."""

    name: Short | None = None
    cron: Expression | None = None
    zone: Zone | None = None
    request: SyncToSchedule | None = None
    enabled: bool | None = None
    max_count: Count | None = None
    overlap: Overlap | None = None


class ScheduledSync(Answer):
    """The sync that is run."""

    source: str
    destination: str
    name: str
    kind: Literal["sync", "verify"]
    options: dict[str, Any]
    priority: int


class Schedule(Answer):
    """A schedule. ``next_due`` is null when it never runs again by itself.

    ``waiting``: a run is due and begins when the one before has ended. ``last_error`` says why the last run was not
    started, or why the schedule was disabled.
    """

    id: str
    name: str
    scope: str
    cron: str
    zone: str
    request: ScheduledSync
    enabled: bool
    max_count: int
    overlap: Overlap
    runs: int
    next_due: str | None
    last_run: str | None
    last_task: str
    last_error: str
    waiting: bool
    creator: str
    created: str


class Schedules(Answer):
    """One page of them, oldest first."""

    schedules: list[Schedule]
    next_page_token: str


class SchedulePreview(Wanted):
    """An expression to be tried."""

    cron: Expression
    zone: Zone = "UTC"
    count: Annotated[int, Field(ge=1, le=schedules.PREVIEW_MAX)] = 5


class ScheduleTimes(Answer):
    """When it would be due."""

    times: list[str]


@router.post("", response_model=Schedule, status_code=201)
def create(ask: Ask, wanted: ScheduleWanted, idempotency_key: idempotency.Key = "") -> Response:
    """Make a schedule. Its request is checked as if it were run now, and again at each run."""
    new = NewSchedule(
        name=wanted.name,
        cron=wanted.cron,
        request=_plain(wanted.request),
        scope=wanted.scope,
        zone=wanted.zone,
        enabled=wanted.enabled,
        max_count=wanted.max_count,
        overlap=wanted.overlap,
    )
    return idempotency.created(
        ask, idempotency_key, lambda once: schedules.create(ask.control, ask.who, new, once), _encoded
    )


@router.get("", response_model=Schedules)
def listing(ask: Ask, scope: ScopeQuery = None, page_size: PageSize = 100, page_token: PageToken = "") -> Response:
    """Schedules, oldest first."""
    after = paging.mark(page_token, (str,), scope)
    rows = schedules.listing(ask.control, ask.who, scope, after=after[0] if after else "", limit=page_size + 1)
    page, more = rows[:page_size], len(rows) > page_size
    following = paging.token((page[-1].schedule.id,) if more else None, scope)
    return answer({"schedules": [_shown(row) for row in page], "next_page_token": following})


@router.get("/{schedule_id}", response_model=Schedule)
def read(ask: Ask, schedule_id: Id) -> Response:
    """One schedule."""
    return answer(_shown(schedules.read(ask.control, ask.who, schedule_id)))


@router.patch("/{schedule_id}", response_model=Schedule)
def change(ask: Ask, schedule_id: Id, wanted: ScheduleChange) -> Response:
    """Change a schedule, pause it (``enabled`` false) or let it go on: what was missed meanwhile is not made up for."""
    changes = Changes(
        name=wanted.name,
        cron=wanted.cron,
        zone=wanted.zone,
        request=None if wanted.request is None else _plain(wanted.request),
        enabled=wanted.enabled,
        max_count=wanted.max_count,
        overlap=wanted.overlap,
    )
    return answer(_shown(schedules.change(ask.control, ask.who, schedule_id, changes)))


@router.delete("/{schedule_id}", status_code=204, response_class=Response)
def remove(ask: Ask, schedule_id: Id) -> Response:
    """Forget a schedule. Its tasks stay and go on."""
    schedules.remove(ask.control, ask.who, schedule_id)
    return Response(status_code=204)


@router.post("/{schedule_id}:run", response_model=Schedule)
def run(ask: Ask, schedule_id: Id) -> Response:
    """Run it once at once; that counts. ``last_task`` is the new task, unless it waits for the one that runs."""
    return answer(_shown(schedules.run_now(ask.control, ask.who, schedule_id)))


@router.post(":preview", response_model=ScheduleTimes)
def preview(ask: Ask, wanted: SchedulePreview) -> Response:
    """The next times at which an expression is due."""
    found = schedules.preview(ask.control, ask.who, wanted.cron, wanted.zone, wanted.count)
    return answer({"times": [moment(at) for at in found]})


def _plain(wanted: SyncToSchedule) -> dict[str, Any]:
    return wanted.model_dump(exclude_none=True, by_alias=True)


def _encoded(shown: Shown) -> bytes:
    return encode(_shown(shown))


def _shown(shown: Shown) -> dict[str, Any]:
    row = shown.schedule
    return {
        "id": row.id, "name": row.name, "scope": row.scope, "cron": row.cron, "zone": row.zone,
        "request": starting.request_of(row), "enabled": row.enabled, "max_count": row.max_count,
        "overlap": row.overlap, "runs": row.runs, "next_due": moment(row.next_due), "last_run": moment(row.last_run),
        "last_task": row.last_task, "last_error": row.last_error, "waiting": row.waiting, "creator": shown.creator,
        "created": moment(row.created),
    }  # fmt: skip
