"""/api/v1/tasks: lists, one task, what is asked of it, its live stream, its failures, its report."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Annotated, Any, Literal

from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query
from starlette.responses import Response, StreamingResponse

from entrepot.api import paging
from entrepot.api.auth import Ask, Asked, presented
from entrepot.api.live import Hub
from entrepot.api.shape import (
    Answer,
    Id,
    Line,
    PageSize,
    PageToken,
    Scope,
    Short,
    Wanted,
    answer,
    only_known,
    seconds,
)
from entrepot.control import reports, tasks
from entrepot.control.identify import identify
from entrepot.control.tasks import Detail
from entrepot.model.errors import EntrepotError, RequestError
from entrepot.model.task import END_STATES, TaskState

from .showing import State, Task, TaskDetail, detail, task

router = APIRouter(prefix="/api/v1/tasks", tags=["tasks"], dependencies=[Depends(only_known)])

Moment = Annotated[str, Query(max_length=64, description="a time such as 2026-11-22T08:30:00Z")]
Deciding = Callable[[Any, Any, str], Detail]


class Tasks(Answer):
    """One page of tasks; ``total`` counts all that the filters leave."""

    tasks: list[Task]
    total: int
    next_page_token: str


class Decision(Wanted):
    """Why, for those who read it later."""

    reason: Line = ""


class Failed(Answer):
    """An entry that could not be done. ``key_hex`` has the bytes of a key that is no text, else it is empty."""

    key: str
    key_hex: str
    failure: str
    message: str
    attempts: int
    size: int


class Failures(Answer):
    """One page of them, the latest first."""

    failures: list[Failed]
    next_page_token: str


@router.get("", response_model=Tasks)
def listing(
    ask: Ask,
    kind: Annotated[list[Literal["sync", "verify"]], Query()] = [],  # noqa: B006
    state: Annotated[list[State], Query()] = [],  # noqa: B006
    family: Annotated[list[Literal["native", "datasync"]], Query()] = [],  # noqa: B006
    scope: Annotated[Scope | None, Query(description="those in it and below")] = None,
    creator: Annotated[Short, Query()] = "",
    text: Annotated[Short, Query(description="a part of the name")] = "",
    created_after: Moment = "",
    created_before: Moment = "",
    sort: Literal["-created", "created"] = "-created",
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> Response:
    """Tasks that one may see, the newest first."""
    question = [sorted(kind), sorted(state), sorted(family), scope, creator, text, created_after, created_before, sort]
    mark = paging.mark(page_token, (str,), question)
    found = tasks.listing(
        ask.control,
        ask.who,
        scope=scope,
        kinds=kind,
        families=family,
        states=state,
        creator=creator,
        text=text,
        created_after=seconds("created_after", created_after) if created_after else None,
        created_before=seconds("created_before", created_before) if created_before else None,
        oldest_first=sort == "created",
        mark=mark[0] if mark else "",
        limit=page_size,
    )
    following = paging.token((found.mark,) if found.mark else None, question)
    shown = {"tasks": [task(one) for one in found.tasks], "total": found.total, "next_page_token": following}
    return answer(shown)


@router.get("/{task_id}", response_model=TaskDetail)
def read(ask: Ask, task_id: Id) -> Response:
    """One task."""
    return answer(detail(tasks.read(ask.control, ask.who, task_id)))


@router.delete("/{task_id}", status_code=204, response_class=Response)
def remove(ask: Ask, task_id: Id) -> Response:
    """Forget an ended task with everything of its own."""
    tasks.remove(ask.control, ask.who, task_id)
    reports.drop(ask.control, task_id)
    return Response(status_code=204)


@router.post("/{task_id}:cancel", response_model=TaskDetail)
def cancel(ask: Ask, task_id: Id) -> Response:
    """End a task and take away what it left half-moved."""
    return answer(detail(tasks.cancel(ask.control, ask.who, task_id)))


@router.post("/{task_id}:pause", response_model=TaskDetail)
def pause(ask: Ask, task_id: Id) -> Response:
    """Let a task finish what is in its hands, and wait."""
    return answer(detail(tasks.pause(ask.control, ask.who, task_id)))


@router.post("/{task_id}:resume", response_model=TaskDetail)
def resume(ask: Ask, task_id: Id) -> Response:
    """Let a paused task go on where it was."""
    return answer(detail(tasks.resume(ask.control, ask.who, task_id)))


@router.post("/{task_id}:retry", response_model=TaskDetail)
def retry(ask: Ask, task_id: Id) -> Response:
    """Do once more what failed, and only that."""
    return answer(detail(tasks.retry(ask.control, ask.who, task_id)))


@router.post("/{task_id}:approve", response_model=TaskDetail)
def approve(ask: Ask, task_id: Id, wanted: Decision | None = None) -> Response:
    """Let the deletes of a task that waits for review pass."""
    return answer(detail(tasks.approve(ask.control, ask.who, task_id, wanted.reason if wanted else "")))


@router.post("/{task_id}:reject", response_model=TaskDetail)
def reject(ask: Ask, task_id: Id, wanted: Decision | None = None) -> Response:
    """End a task that waits for review."""
    return answer(detail(tasks.reject(ask.control, ask.who, task_id, wanted.reason if wanted else "")))


@router.get("/{task_id}/failures", response_model=Failures)
def failures(ask: Ask, task_id: Id, page_size: PageSize = 100, page_token: PageToken = "") -> Response:
    """Entries that could not be done, with class and message."""
    mark = paging.mark(page_token, (int,), task_id)
    found, before = tasks.failures(ask.control, ask.who, task_id, mark[0] if mark else 0, page_size)
    shown = [
        {
            "key": one.key.decode("utf-8", "backslashreplace"),
            "key_hex": _hex(one.key),
            "failure": str(one.failure),
            "message": one.message,
            "attempts": one.attempts,
            "size": one.size,
        }
        for one in found
    ]
    return answer({"failures": shown, "next_page_token": paging.token((before,) if before else None, task_id)})


@router.get(
    "/{task_id}/report",
    response_class=Response,
    responses={200: {"content": {media.partition(";")[0]: {} for media in reports.FORMATS.values()}}},
)
def report(ask: Ask, task_id: Id, format: Literal["jsonl", "csv", "parquet"] = "jsonl") -> Response:  # noqa: A002
    """What became of every entry, once the task has ended; only with the option ``report``."""
    pieces = reports.open_report(ask.control, ask.who, task_id, format)
    headers = {"Content-Disposition": f'attachment; filename="{task_id}.{format}"'}
    return StreamingResponse(pieces, 200, headers, reports.FORMATS[format])


@router.get(
    "/{task_id}/events",
    response_class=Response,
    responses={
        200: {"content": {"text/event-stream": {}}},
        204: {"description": "the task has ended and the last event was seen: do not come again"},
    },
)
async def follow(
    ask: Ask,
    task_id: Id,
    last_event_id: Annotated[str, Header(max_length=20, description="go on after this event")] = "",
) -> Response:
    """Server-sent events: ``state``, ``warning``, ``progress`` (the task with counters, rate and ETA), ``end``."""
    if last_event_id and not (last_event_id.isascii() and last_event_id.isdigit() and len(last_event_id) < 19):
        raise RequestError("Last-Event-ID", "no id of an event")
    after = int(last_event_id or 0)
    found = await to_thread.run_sync(tasks.read, ask.control, ask.who, task_id)
    if after and TaskState(found.found.row.state) in END_STATES:
        newer = await to_thread.run_sync(tasks.history, ask.control, ask.who, task_id, after, 1)
        if not newer:
            return Response(status_code=204)
    hub: Hub = ask.request.app.state.hub
    name = ask.who.token_id or ask.who.id
    hub.streams.enter(name)
    headers = {"X-Accel-Buffering": "no"}
    return StreamingResponse(_held(ask, hub, name, task_id, after), 200, headers, "text/event-stream")


async def _held(ask: Asked, hub: Hub, name: str, task_id: str, after: int) -> AsyncIterator[bytes]:
    try:
        async for piece in hub.follow(task_id, after, lambda: _still_good(ask, task_id)):
            yield piece
    finally:
        hub.streams.leave(name)


async def _still_good(ask: Asked, task_id: str) -> bool:
    """Whether the one who asked may still see the task: tokens end, roles change."""

    def look() -> None:
        who = identify(ask.control, presented(dict(ask.request.scope["headers"])))
        tasks.read(ask.control, who, task_id)

    try:
        await to_thread.run_sync(look)
    except EntrepotError:
        return False
    return True


def _hex(key: bytes) -> str:
    try:
        key.decode("utf-8")
    except UnicodeDecodeError:
        return key.hex()
    return ""
