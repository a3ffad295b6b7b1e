"""/api/v1/syncs: create a sync, or preview what it would do."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, Depends
from pydantic import Field, StringConstraints
from starlette.responses import Response

from entrepot.api import idempotency
from entrepot.api.auth import Ask, Asked
from entrepot.api.shape import Place, Scope, Short, Wanted, encode, only_known, seconds
from entrepot.control import syncs
from entrepot.control.once import Once
from entrepot.control.tasks import Detail
from entrepot.model.options import Compare, Delete, OnError, Symlinks, Verify

from .showing import TaskDetail, detail

router = APIRouter(prefix="/api/v1/syncs", tags=["syncs"], dependencies=[Depends(only_known)])

Pattern = Annotated[str, StringConstraints(max_length=1026, pattern=r"^[^\x00-\x1f\x7f]*$")]
Count = Annotated[int, Field(ge=0, le=2**62)]
MomentText = Annotated[str, StringConstraints(max_length=64)]


class Options(Wanted):
    """How a sync works; what is left out has the default of the command line."""

    compare: Compare | None = Field(default=None, description="what makes two entries equal")
    verify: Verify | None = Field(
        default=None, description="checksum in flight, or read the destination again too (full)"
    )
    delete: Delete | None = Field(default=None, description="destination: delete there what the source does not have")
    delete_max_count: Count | None = Field(
        default=None, description="more deletes than that wait for approval; 0: no cap"
    )
    delete_max_share: float | None = Field(default=None, ge=0, le=1, description="a larger share waits for approval")
    delete_excluded: bool | None = None
    allow_empty_source: bool | None = None
    filters: list[Pattern] | None = Field(
        default=None, max_length=1000, description="'+ PATTERN' or '- PATTERN', in order"
    )
    include: list[Pattern] | None = Field(default=None, max_length=1000, description="after filters, before exclude")
    exclude: list[Pattern] | None = Field(default=None, max_length=1000)
    min_size: Count | None = None
    max_size: Count | None = None
    modified_after: MomentText | None = None
    modified_before: MomentText | None = None
    list_: Place | None = Field(default=None, alias="list", description="a file of keys: volume://NAME/path")
    symlinks: Symlinks | None = None
    preserve: list[Literal["mtime", "mode", "owner", "xattr", "metadata", "tags", "storage_class"]] | None = Field(
        default=None, max_length=7
    )
    storage_class: Annotated[str, StringConstraints(max_length=64)] | None = None
    bandwidth: Count | None = Field(default=None, description="bytes a second; 0: no limit")
    bandwidth_windows: list[Annotated[str, StringConstraints(max_length=64)]] | None = Field(
        default=None, max_length=48, description="HH:MM-HH:MM=BYTES_PER_SECOND in the server's time; the first wins"
    )
    max_requests: int | None = Field(default=None, ge=0, le=1_000_000, description="requests a second; 0: no limit")
    on_error: OnError | None = None
    max_failures: Count | None = None
    dry_run: bool | None = None
    report: bool | None = Field(default=None, description="keep what became of every entry, for /tasks/{id}/report")
    fsync: bool | None = None
    part_size: Count | None = None
    concurrency: int | None = Field(default=None, ge=0, le=1024)
    escape_names: bool | None = None
    server_side: bool | None = None
    resource_spec: Annotated[str, StringConstraints(max_length=32)] | None = Field(
        default=None, examples=["4Core_8GiB"]
    )


class NewSync(Wanted):
    """From where, to where, how. Places are NAME:bucket/prefix of a stored connection, or volume://name/path."""

    source: Place
    destination: Place
    name: Short = ""
    kind: Literal["sync", "verify"] = "sync"
    options: Options = Options()
    scope: Scope | None = None
    priority: int = Field(default=0, ge=syncs.PRIORITIES[0], le=syncs.PRIORITIES[1], description="higher goes first")
    not_before: Annotated[str, StringConstraints(max_length=64)] | None = Field(
        default=None, description="a time such as 2026-11-22T08:30:00Z"
    )


@router.post("", response_model=TaskDetail, status_code=201)
def create(ask: Ask, wanted: NewSync, idempotency_key: idempotency.Key = "") -> Response:
    """Put a sync into the queue; the answer is its task."""
    return _create(ask, wanted, idempotency_key, preview=False)


@router.post(":preview", response_model=TaskDetail, status_code=201)
def preview(ask: Ask, wanted: NewSync, idempotency_key: idempotency.Key = "") -> Response:
    """Look what the sync would do and change nothing: a task with ``dry_run``, whose totals are the answer."""
    return _create(ask, wanted, idempotency_key, preview=True)


def _create(ask: Asked, wanted: NewSync, key: str, *, preview: bool) -> Response:
    sync = read_sync(wanted)

    def make(once: Once) -> Detail:
        return syncs.create(ask.control, ask.who, sync, once, preview=preview)

    return idempotency.created(ask, key, make, lambda made: encode(detail(made)))


def read_sync(wanted: NewSync) -> syncs.Sync:
    """A request as the control plane takes it. Raises RequestError."""
    return syncs.Sync(
        source=wanted.source,
        destination=wanted.destination,
        name=wanted.name,
        kind=wanted.kind,
        options=wanted.options.model_dump(exclude_none=True, by_alias=True),
        scope=wanted.scope,
        priority=wanted.priority,
        not_before=seconds("not_before", wanted.not_before) if wanted.not_before else None,
    )
