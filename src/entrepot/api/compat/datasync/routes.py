"""The paths of the datasync family: HTTP on one side, the control plane on the other."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from entrepot.api import idempotency, paging
from entrepot.api.auth import Ask
from entrepot.api.shape import PageSize, PageToken, answer, encode
from entrepot.control import datasyncs
from entrepot.control.datasync_ends import End, Third
from entrepot.control.datasync_making import NewJob
from entrepot.control.datasyncs import Job
from entrepot.model.secret import Secret

from . import project, shapes
from .shapes import Where

BASE = (
    "/storage/ads/data/v1/subscriptions/{subscription_name}/resourceGroups/{resource_group_name}"
    "/zones/{zone}/dataSyncs/{data_sync_name}"
)
PAGE_SIZE = 10

router = APIRouter(prefix=BASE, tags=["datasync"])


@router.post("/tasks:list", response_model=shapes.Tasks)
def list_tasks(ask: Ask, where: Where, wanted: shapes.ListTasks) -> Response:
    """Tasks of a tool, newest first."""
    page = wanted.page
    number = 1 if page is None or page.page is None else page.page
    size = PAGE_SIZE if page is None or page.page_size is None else page.page_size
    narrow = datasyncs.filter_of(
        where,
        types=(wanted.type,) if wanted.type else (),
        states=_states(wanted),
        text=wanted.task_name or "",
    )
    found = datasyncs.listing(ask.control, ask.who, where, narrow, number, size)
    return answer(
        {
            "data_sync_task": [project.task(job) for job in found.jobs],
            "page": {"page": number, "page_size": size, "total": found.total},
        }
    )


@router.post("/tasks", response_model=shapes.Task)
def create(ask: Ask, where: Where, wanted: shapes.NewTask, idempotency_key: idempotency.Key = "") -> Response:
    """Make a task; it starts as soon as there is room."""
    new = NewJob(
        wanted.task_name,
        wanted.type,
        tuple(_end(one) for one in wanted.src_info or ()),
        _end(wanted.dst_info),
        _third(wanted.src_third_info),
        wanted.options or {},
    )
    return idempotency.created(
        ask,
        idempotency_key,
        lambda once: datasyncs.create(ask.control, ask.who, where, new, once),
        _encoded,
        status=200,
    )


@router.get("/tasks/{task_id}", response_model=shapes.Task)
def read(ask: Ask, where: Where, task_id: shapes.TaskId) -> Response:
    """One task."""
    return answer(project.task(datasyncs.read(ask.control, ask.who, where, task_id)))


@router.delete("/tasks/{task_id}", response_model=shapes.Nothing)
def remove(ask: Ask, where: Where, task_id: shapes.TaskId) -> Response:
    """Forget an ended task."""
    datasyncs.remove(ask.control, ask.who, where, task_id)
    return answer({})


@router.post("/tasks/{task_id}:pause", response_model=shapes.Task)
def pause(ask: Ask, where: Where, task_id: shapes.TaskId) -> Response:
    """Stop where it is, to go on later."""
    return answer(project.task(datasyncs.order(ask.control, ask.who, where, task_id, "pause")))


@router.post("/tasks/{task_id}:resume", response_model=shapes.Task)
def resume(ask: Ask, where: Where, task_id: shapes.TaskId) -> Response:
    """Go on."""
    return answer(project.task(datasyncs.order(ask.control, ask.who, where, task_id, "resume")))


@router.post("/tasks/{task_id}:cancel", response_model=shapes.Task)
def cancel(ask: Ask, where: Where, task_id: shapes.TaskId) -> Response:
    """End it; nothing half-moved is left."""
    return answer(project.task(datasyncs.order(ask.control, ask.who, where, task_id, "cancel")))


@router.post("/tasks/{task_id}:retry", response_model=shapes.Task)
def retry(ask: Ask, where: Where, task_id: shapes.TaskId) -> Response:
    """Do again what failed, and whatever it had not come to."""
    return answer(project.task(datasyncs.order(ask.control, ask.who, where, task_id, "retry")))


@router.get("/tasks/{task_id}/failures", response_model=shapes.Failures)
def failures(
    ask: Ask, where: Where, task_id: shapes.TaskId, page_size: PageSize = 100, page_token: PageToken = ""
) -> Response:
    """Entries that could not be done, latest first."""
    mark = paging.mark(page_token, (int,), task_id)
    before = mark[0] if mark else 0
    rows, following = datasyncs.failures(ask.control, ask.who, where, task_id, before, page_size)
    return answer(
        {
            "failures": [project.failure(one) for one in rows],
            "next_page_token": paging.token((following,) if following else None, task_id),
        }
    )


@router.get("", response_model=shapes.Tool)
def tool(ask: Ask, where: Where) -> Response:
    """The tool resource."""
    return answer(project.tool(datasyncs.tool(ask.control, ask.who, where)))


@router.put("", response_model=shapes.Tool)
def put_tool(ask: Ask, where: Where, wanted: shapes.WantedTool) -> Response:
    """Make or change the tool resource."""
    about: dict[str, Any] = wanted.model_dump(exclude_none=True)
    return answer(project.tool(datasyncs.put_tool(ask.control, ask.who, where, about)))


@router.delete("", response_model=shapes.Nothing)
def remove_tool(ask: Ask, where: Where) -> Response:
    """Forget the tool resource and its ended tasks."""
    datasyncs.remove_tool(ask.control, ask.who, where)
    return answer({})


def _states(wanted: shapes.ListTasks) -> tuple[str, ...]:
    """The wanted native states; empty: all of them."""
    kinds = {None: None, True: project.HISTORY, False: project.LIVE}[wanted.history]
    if not wanted.state:
        return project.native_states(kinds or ())
    words = [word for word in wanted.state if kinds is None or word in kinds]
    return project.native_states(words) if words else ("none",)


def _end(given: shapes.WantedEnd) -> End:
    return End(**{name: value or "" for name, value in given.model_dump().items()})


def _third(given: shapes.WantedThird | None) -> Third | None:
    if given is None:
        return None
    return Third(given.type, given.host or "", given.ak or "", Secret(given.sk or ""), given.path)


def _encoded(job: Job) -> bytes:
    return encode(project.task(job))
