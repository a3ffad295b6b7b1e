"""Schedules: requests that become tasks again and again."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal, Unpack

from entrepot.sdk.call import Call, Pages, creating, given, nothing, pages
from entrepot.sdk.reading import moment, reader
from entrepot.sdk.values import Schedule, ScheduledSync

from .paths import path
from .syncs import Kind, SyncOptions, options_out

Overlap = Literal["skip", "queue", "cancel_running"]
_schedule = reader(Schedule)


def create(
    name: str,
    cron: str,
    source: str,
    destination: str,
    *,
    zone: str = "UTC",
    kind: Kind = "sync",
    scope: str | None = None,
    priority: int = 0,
    enabled: bool = True,
    max_count: int = 0,
    overlap: Overlap = "skip",
    idempotency_key: str = "",
    **options: Unpack[SyncOptions],
) -> Call[Schedule]:
    """Run a sync when ``cron`` says so, as whoever makes the schedule. ``max_count`` 0: no limit."""
    request = given(source=source, destination=destination, kind=kind, priority=priority, options=options_out(options))
    body = given(
        name=name, cron=cron, zone=zone, scope=scope, enabled=enabled, max_count=max_count, overlap=overlap,
        request=request,
    )  # fmt: skip
    return creating(path("schedules"), body, _schedule, idempotency_key)


def list_(*, scope: str | None = None, page_size: int = 0) -> Pages[Schedule]:
    """Schedules, oldest first."""
    return pages(path("schedules"), "schedules", _schedule, {"scope": scope}, page_size)


def get(schedule_id: str) -> Call[Schedule]:
    """One schedule."""
    return Call("GET", path("schedules", schedule_id), _schedule)


def update(
    schedule_id: str,
    *,
    name: str | None = None,
    cron: str | None = None,
    zone: str | None = None,
    request: ScheduledSync | Mapping[str, Any] | None = None,
    enabled: bool | None = None,
    max_count: int | None = None,
    overlap: Overlap | None = None,
) -> Call[Schedule]:
    """Change what is given; the rest stays. Who sets ``request``, or enables again, is whom it runs as."""
    body = given(
        name=name, cron=cron, zone=zone, request=_request(request), enabled=enabled, max_count=max_count,
        overlap=overlap,
    )  # fmt: skip
    return Call("PATCH", path("schedules", schedule_id), _schedule, body=body, again=True)


def pause(schedule_id: str) -> Call[Schedule]:
    """Let it rest: what is due meanwhile is not made up for."""
    return update(schedule_id, enabled=False)


def resume(schedule_id: str) -> Call[Schedule]:
    """Let it go on."""
    return update(schedule_id, enabled=True)


def run(schedule_id: str) -> Call[Schedule]:
    """Run it once at once; that counts. ``last_task`` is the new task, unless it waits for the one that runs."""
    return Call("POST", path("schedules", schedule_id, verb="run"), _schedule)


def delete(schedule_id: str) -> Call[None]:
    """Forget a schedule. Its tasks stay and go on."""
    return Call("DELETE", path("schedules", schedule_id), nothing)


def preview(cron: str, *, zone: str = "UTC", count: int = 5) -> Call[tuple[datetime, ...]]:
    """The next times at which an expression is due."""
    body = {"cron": cron, "zone": zone, "count": count}
    return Call("POST", path("schedules", verb="preview"), _times, body=body, again=True)


def _times(value: Any) -> tuple[datetime, ...]:
    return tuple(moment(one) for one in value["times"])


def _request(request: ScheduledSync | Mapping[str, Any] | None) -> dict[str, Any] | None:
    if isinstance(request, ScheduledSync):
        return {name: getattr(request, name) for name in ScheduledSync.__slots__}
    return None if request is None else dict(request)
