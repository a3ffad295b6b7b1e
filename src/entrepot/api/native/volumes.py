"""/api/v1/volumes: directories of the server that an administrator opens by name."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path
from pydantic import StringConstraints
from starlette.responses import Response

from entrepot.api import idempotency, paging
from entrepot.api.auth import Ask
from entrepot.api.shape import Answer, PageSize, PageToken, Place, Scope, Wanted, answer, encode, moment, only_known
from entrepot.control import volumes

router = APIRouter(prefix="/api/v1/volumes", tags=["volumes"], dependencies=[Depends(only_known)])

_PATTERN = r"^[a-z]([a-z0-9-]{0,61}[a-z0-9])?$"
VolumeName = Annotated[str, Path(max_length=63, pattern=_PATTERN)]


class NewVolume(Wanted):
    """A directory to be opened."""

    name: Annotated[str, StringConstraints(max_length=63, pattern=_PATTERN)]
    path: Place
    scope: Scope = ""
    read_only: bool = False


class Volume(Answer):
    """An opened directory; ``path`` is shown only to those who may open some."""

    id: str
    name: str
    path: str
    scope: str
    read_only: bool
    creator: str
    created: str


class Volumes(Answer):
    """One page of them."""

    volumes: list[Volume]
    next_page_token: str


@router.post("", response_model=Volume, status_code=201)
def create(ask: Ask, wanted: NewVolume, idempotency_key: idempotency.Key = "") -> Response:
    """Open a directory that exists, for tasks in a scope and below (empty: for all)."""
    return idempotency.created(
        ask,
        idempotency_key,
        lambda once: volumes.create(
            ask.control, ask.who, wanted.name, wanted.path, scope=wanted.scope, read_only=wanted.read_only, once=once
        ),
        lambda made: encode(shown(made)),
    )


@router.get("", response_model=Volumes)
def listing(ask: Ask, page_size: PageSize = 100, page_token: PageToken = "") -> Response:
    """Volumes by name."""
    after = paging.mark(page_token, (str,), "volumes")
    rows = volumes.listing(ask.control, ask.who, after[0] if after else "", page_size + 1)
    following = paging.token((rows[page_size - 1].name,) if len(rows) > page_size else None, "volumes")
    return answer({"volumes": [shown(row) for row in rows[:page_size]], "next_page_token": following})


@router.get("/{name}", response_model=Volume)
def read(ask: Ask, name: VolumeName) -> Response:
    """One volume."""
    return answer(shown(volumes.read(ask.control, ask.who, name)))


@router.delete("/{name}", status_code=204, response_class=Response)
def remove(ask: Ask, name: VolumeName) -> Response:
    """Close a volume; its files stay."""
    volumes.remove(ask.control, ask.who, name)
    return Response(status_code=204)


def shown(row: volumes.Volume) -> dict[str, Any]:
    """A volume as it is answered."""
    return {
        "id": row.id, "name": row.name, "path": row.path, "scope": row.scope, "read_only": row.read_only,
        "creator": row.creator, "created": moment(row.created),
    }  # fmt: skip
