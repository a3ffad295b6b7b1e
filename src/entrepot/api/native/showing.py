"""Tasks as the native API writes them: plain dicts on the way to bytes, the same in lists, details and live streams."""

from __future__ import annotations

from typing import Any, Literal

from entrepot.api.shape import Answer, moment
from entrepot.control.tasks import Detail, Found, options_of

KINDS = ("total", "copied", "equal", "deleted", "skipped", "failed")
State = Literal["QUEUED", "SCANNING", "RUNNING", "PAUSED", "REVIEW", "SUCCEEDED", "FAILED", "CANCELLED", "REJECTED"]


class Amount(Answer):
    """So many entries with so many bytes."""

    entries: int
    bytes: int


class Totals(Answer):
    """Entries by outcome; ``total`` are the entries of the source that were seen so far."""

    total: Amount
    copied: Amount
    equal: Amount
    deleted: Amount
    skipped: Amount
    failed: Amount


class Task(Answer):
    """A task. ``stop`` is what was asked of it and is not yet done; rates and ETA are null while nothing is known."""

    id: str
    name: str
    kind: str
    type: str
    family: str
    scope: str
    state: State
    reason: str
    stop: str
    source: str
    destination: str
    creator: str
    priority: int
    percent: int
    legs: int
    parent: str
    schedule_id: str
    dry_run: bool
    resumed: int
    created: str
    started: str | None
    finished: str | None
    not_before: str | None
    totals: Totals
    retries: int
    phase: str | None
    scanning: bool | None
    rate_bytes: float | None
    rate_entries: float | None
    eta_seconds: float | None


class TaskDetail(Task):
    """A task with its options, its failures by class, and its legs.

    ``requests`` to the stores are by verb, over all runs; ``peak_rss_bytes`` is the largest memory of one process.
    """

    options: dict[str, Any]
    failures: dict[str, int]
    leg_tasks: list[Task]
    requests: dict[str, int]
    peak_rss_bytes: int


def task(found: Found) -> dict[str, Any]:
    """A task as lists show it."""
    row, live = found.row, found.live
    return {
        "id": row.id,
        "name": row.name,
        "kind": row.kind,
        "type": row.type,
        "family": row.family,
        "scope": row.scope,
        "state": row.state,
        "reason": row.reason,
        "stop": row.stop,
        "source": row.source,
        "destination": row.destination,
        "creator": row.creator,
        "priority": row.priority,
        "percent": row.percent,
        "legs": row.legs,
        "parent": row.parent,
        "schedule_id": row.schedule_id,
        "dry_run": '"dry_run":true' in row.options,
        "resumed": row.resumed,
        "created": moment(row.created),
        "started": moment(row.started),
        "finished": moment(row.finished),
        "not_before": moment(row.not_before),
        "totals": {kind: {"entries": getattr(row, kind), "bytes": getattr(row, f"{kind}_bytes")} for kind in KINDS},
        "retries": row.retries,
        "phase": live.phase if live else None,
        "scanning": live.scanning if live else None,
        "rate_bytes": round(live.rate_bytes, 1) if live else None,
        "rate_entries": round(live.rate_entries, 1) if live else None,
        "eta_seconds": round(live.eta, 1) if live and live.eta is not None else None,
    }


def detail(found: Detail) -> dict[str, Any]:
    """One task with what belongs to it."""
    return {
        **task(found.found),
        "options": options_of(found.found.row),
        "failures": dict(found.failures),
        "leg_tasks": [task(leg) for leg in found.legs],
        "requests": dict(found.requests),
        "peak_rss_bytes": found.peak_rss_bytes,
    }
