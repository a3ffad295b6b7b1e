"""Tasks: lists, one of them, what is asked of it, what it left behind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Literal

from entrepot.sdk.call import Call, Pages, given, nothing, pages
from entrepot.sdk.reading import moment, reader, text_of
from entrepot.sdk.stream import Event
from entrepot.sdk.values import Failure, Task, TaskEvent

from .paths import path

Format = Literal["jsonl", "csv", "parquet"]
_task = reader(Task)


def list_(
    *,
    kind: str | Sequence[str] = (),
    state: str | Sequence[str] = (),
    family: str | Sequence[str] = (),
    scope: str | None = None,
    creator: str = "",
    text: str = "",
    created_after: datetime | str | None = None,
    created_before: datetime | str | None = None,
    oldest_first: bool = False,
    page_size: int = 0,
) -> Pages[Task]:
    """Tasks that one may see, the newest first. ``text`` is a part of the name; ``scope`` means it and below."""
    query: dict[str, Any] = {
        "kind": several(kind),
        "state": several(state),
        "family": several(family),
        "scope": scope,
        "creator": creator,
        "text": text,
        "created_after": text_of(created_after),
        "created_before": text_of(created_before),
        "sort": "created" if oldest_first else None,
    }
    return pages(path("tasks"), "tasks", _task, query, page_size)


def get(task_id: str) -> Call[Task]:
    """One task, with its options, its failures by class, and its legs."""
    return Call("GET", path("tasks", task_id), _task)


def pause(task_id: str) -> Call[Task]:
    """Let a task finish what is in its hands, and wait."""
    return Call("POST", path("tasks", task_id, verb="pause"), _task, again=True)


def resume(task_id: str) -> Call[Task]:
    """Let a paused task go on where it was."""
    return Call("POST", path("tasks", task_id, verb="resume"), _task, again=True)


def cancel(task_id: str) -> Call[Task]:
    """End a task and take away what it left half-moved."""
    return Call("POST", path("tasks", task_id, verb="cancel"), _task, again=True)


def retry(task_id: str) -> Call[Task]:
    """Do once more what failed, and only that."""
    return Call("POST", path("tasks", task_id, verb="retry"), _task)


def approve(task_id: str, reason: str = "") -> Call[Task]:
    """Let the deletes of a task that waits for review pass."""
    return Call("POST", path("tasks", task_id, verb="approve"), _task, body=given(reason=reason))


def reject(task_id: str, reason: str = "") -> Call[Task]:
    """End a task that waits for review."""
    return Call("POST", path("tasks", task_id, verb="reject"), _task, body=given(reason=reason))


def delete(task_id: str) -> Call[None]:
    """Forget an ended task with everything of its own."""
    return Call("DELETE", path("tasks", task_id), nothing)


def failures(task_id: str, *, page_size: int = 1000) -> Pages[Failure]:
    """Entries that could not be done, the latest first."""
    return pages(path("tasks", task_id, "failures"), "failures", reader(Failure), {}, page_size)


def report(task_id: str, format: Format) -> Call[None]:  # noqa: A002
    """What became of every entry; the answer is a file."""
    return Call("GET", path("tasks", task_id, "report"), nothing, query={"format": format})


def events(task_id: str) -> str:
    """Where the live stream of a task is."""
    return path("tasks", task_id, "events")


def event_of(event: Event) -> TaskEvent:
    """One message of the stream as a value."""
    if event.kind in {"progress", "end"}:
        return TaskEvent(event.kind, _task(event.data))
    said = event.data if isinstance(event.data, dict) else {}
    at = said.get("at")
    when = datetime.fromtimestamp(at).astimezone() if isinstance(at, (int, float)) else moment(at) if at else None
    return TaskEvent(event.kind, None, str(said.get("text", "")), when)


def several(value: str | Sequence[str]) -> list[str]:
    """One or more."""
    return [value] if isinstance(value, str) else list(value)
