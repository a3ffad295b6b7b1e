"""How a task and a tool look in the datasync family: its words, its units, its types."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from entrepot.control.datasyncs import STATES, Job, Tool
from entrepot.ledger.datasyncs import Failed
from entrepot.model.task import TaskState

NATIVE: Final[dict[str, tuple[TaskState, ...]]] = {
    word: tuple(state for state in TaskState if STATES[state] == word) for word in dict.fromkeys(STATES.values())
}
"""The native states behind each word of the family."""
HISTORY: Final = ("COMPLETED", "FAILED", "CANCELLED")
LIVE: Final = ("SCANNING", "DOING", "PAUSED")
UNITS: Final = ("B", "KB", "MB", "GB", "TB", "PB", "EB")

_WITH_REASON = frozenset({TaskState.FAILED, TaskState.REJECTED, TaskState.REVIEW})
_NO_END: Final = {"id": "", "region": "", "prefix": "", "name": "", "endpoint": "", "zone": ""}
_NO_THIRD: Final = {"type": "", "host": "", "ak": "", "sk": "", "path": ""}


def task(job: Job) -> dict[str, Any]:
    """A task, with exactly the fields of the published page."""
    row, request = job.row, job.request
    size, unit = measure(row.total_bytes)
    shown = {
        "task_id": row.id,
        "task_name": row.name,
        "uid": request.get("uid", ""),
        "user_id": row.creator,
        "tenant_id": request.get("tenant", ""),
        "type": row.type,
        "state": STATES[job.state],
        "src_info": request.get("src_info", []),
        "dst_info": request.get("dst_info", _NO_END),
        "size_unit": unit,
        "size": size,
        "start": int(row.started or 0),
        "end": int(row.finished or 0),
        "percent": row.percent,
        "rate": rate(job.rate),
        "time_cost": duration(job.seconds),
        "create": int(row.created),
    }
    third = request.get("src_third_info")
    if third is not None:
        shown["src_third_info"] = {**third, "sk": ""}
    shown["err_msg"] = _reason(job)
    shown["total_num"] = row.total
    shown["complete_num"] = row.copied
    shown["exist_num"] = row.equal
    return shown


def _reason(job: Job) -> str:
    """Why it failed or waits; empty for all others."""
    if job.state not in _WITH_REASON:
        return ""
    return job.row.reason or f"{job.row.failed} of {job.row.total} entries failed"


def tool(found: Tool) -> dict[str, Any]:
    """The tool resource, in the platform's envelope."""
    site, about = found.site, found.about
    return {
        "id": f"/subscriptions/{site.subscription}/resourceGroups/{site.group}/zones/{site.zone}/dataSyncs/{site.name}",
        "name": site.name,
        "display_name": about.get("display_name", ""),
        "description": about.get("description", ""),
        "uid": found.id,
        "resource_type": "storage.ads.v1.dataSync",
        "creator_id": found.creator,
        "owner_id": found.creator,
        "tenant_id": site.subscription,
        "zone": site.zone,
        "state": "ACTIVE",
        "tags": about.get("tags", {}),
        "properties": about.get("properties", {}),
        "deleted": False,
        "create_time": int(found.created),
        "update_time": int(found.updated),
    }


def failure(one: Failed) -> dict[str, Any]:
    """A failed entry. Bytes of a key that are no UTF-8 are shown as ``\\xNN``."""
    return {
        "key": one.key.decode("utf-8", "backslashreplace"),
        "class": one.failure,
        "message": one.message,
        "attempts": one.attempts,
        "size": one.size,
    }


def native_states(words: Sequence[str]) -> tuple[str, ...]:
    """The native states of some words, each once."""
    return tuple(str(state) for word in dict.fromkeys(words) for state in NATIVE[word])


def measure(count: int) -> tuple[float | int, str]:
    """Bytes in the largest unit (of 1024) in which they are at least 1, to two decimals."""
    value, at = float(count), 0
    while value >= 1024 and at < len(UNITS) - 1:
        value, at = value / 1024, at + 1
    rounded = round(value, 2)
    return (int(rounded) if rounded == int(rounded) else rounded), UNITS[at]


def rate(per_second: float) -> str:
    """Such as ``118.4 MB/s``."""
    value, at = max(per_second, 0.0), 0
    while value >= 1024 and at < len(UNITS) - 1:
        value, at = value / 1024, at + 1
    return f"{value:.1f} {UNITS[at]}/s"


def duration(seconds: float) -> str:
    """Such as ``1h02m03s``; without hours or minutes that are none."""
    whole = int(seconds)
    hours, minutes, rest = whole // 3600, whole // 60 % 60, whole % 60
    if hours:
        return f"{hours}h{minutes:02d}m{rest:02d}s"
    return f"{minutes}m{rest:02d}s" if minutes else f"{rest}s"
