"""/api/v1/connections: stored endpoints and credentials; secrets go in and never come out."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field, StringConstraints
from starlette.responses import Response

from entrepot.api import idempotency, paging
from entrepot.api.auth import Ask
from entrepot.api.shape import (
    Answer,
    Line,
    Name,
    PageSize,
    PageToken,
    Scope,
    Short,
    Wanted,
    answer,
    encode,
    moment,
    only_known,
)
from entrepot.control import connections, probing
from entrepot.control.connections import Described, Draft
from entrepot.model.connection import Addressing, Provider
from entrepot.model.secret import Secret

router = APIRouter(prefix="/api/v1/connections", tags=["connections"], dependencies=[Depends(only_known)])

Credential = Annotated[str, StringConstraints(max_length=16384, pattern=r"^[\x20-\x7e]*$")]
ConnectionName = Annotated[str, Path(max_length=63, pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
ScopeQuery = Annotated[Scope | None, Query(description="where it is; needed only by those who have several")]
Options = dict[Annotated[str, StringConstraints(max_length=64)], Line]


class ConnectionChange(Wanted):
    """What to change; what is left out stays."""

    provider: Provider | None = None
    endpoint: Line | None = None
    region: Short | None = None
    access_key: Credential | None = None
    secret_key: Credential | None = None
    session_token: Credential | None = None
    sas: Credential | None = None
    addressing: Addressing | None = None
    insecure_skip_verify: bool | None = None
    disable_ssl: bool | None = None
    requester_pays: bool | None = None
    options: Options | None = Field(default=None, max_length=16, description='anonymous: "true" for public buckets')
    max_tasks: int | None = Field(default=None, ge=0, le=100_000, description="tasks that use it at once; 0: no limit")


class NewConnection(ConnectionChange):
    """A connection to be stored."""

    name: Name
    provider: Provider
    scope: Scope | None = None


class Connection(Answer):
    """A stored connection. Secrets are shown as empty texts; ``has`` names those that are set."""

    id: str
    name: str
    scope: str
    provider: str
    endpoint: str
    region: str
    access_key: str
    secret_key: Literal[""]
    session_token: Literal[""]
    sas: Literal[""]
    has: list[str]
    addressing: str
    insecure_skip_verify: bool
    disable_ssl: bool
    requester_pays: bool
    options: dict[str, str]
    max_tasks: int
    creator: str
    created: str
    updated: str


class Connections(Answer):
    """One page of them."""

    connections: list[Connection]
    next_page_token: str


class Trial(Wanted):
    """What to try."""

    place: Line = Field(
        default="", description="BUCKET or BUCKET/prefix: also list it, and write and delete one object"
    )
    write: bool = Field(default=True, description="try to write; false only reads")


class Check(Answer):
    """One step of a test."""

    name: str
    verdict: Literal["ok", "warn", "fail"]
    text: str
    hint: str


class Checks(Answer):
    """What a test found, up to the first step that failed."""

    good: bool
    checks: list[Check]


class Entry(Answer):
    """An object or file; ``key`` is relative to the place that was looked at."""

    key: str
    size: int
    modified: str | None


class Level(Answer):
    """One page of one level of a place."""

    prefixes: list[str]
    entries: list[Entry]
    next_page_token: str


@router.post("", response_model=Connection, status_code=201)
def create(ask: Ask, wanted: NewConnection, idempotency_key: idempotency.Key = "") -> Response:
    """Store a connection."""
    draft = _draft(wanted.name, wanted.scope, wanted)
    return idempotency.created(
        ask, idempotency_key, lambda once: connections.create(ask.control, ask.who, draft, once), _encoded
    )


@router.get("", response_model=Connections)
def listing(ask: Ask, scope: ScopeQuery = None, page_size: PageSize = 100, page_token: PageToken = "") -> Response:
    """Connections by name."""
    after = paging.mark(page_token, (str, str), scope or "*")
    rows = connections.listing(ask.control, ask.who, scope, (after[0], after[1]) if after else ("", ""), page_size + 1)
    more = len(rows) > page_size
    rows = rows[:page_size]
    following = paging.token((rows[-1].name, rows[-1].scope) if more else None, scope or "*")
    return answer({"connections": [shown(row) for row in rows], "next_page_token": following})


@router.get("/{name}", response_model=Connection)
def read(ask: Ask, name: ConnectionName, scope: ScopeQuery = None) -> Response:
    """One connection, without its secrets."""
    return answer(shown(connections.read(ask.control, ask.who, name, scope)))


@router.patch("/{name}", response_model=Connection)
def update(ask: Ask, name: ConnectionName, wanted: ConnectionChange, scope: ScopeQuery = None) -> Response:
    """Change a connection. A new endpoint needs the secrets again."""
    return answer(shown(connections.update(ask.control, ask.who, _draft(name, scope, wanted))))


@router.delete("/{name}", status_code=204, response_class=Response)
def remove(ask: Ask, name: ConnectionName, scope: ScopeQuery = None) -> Response:
    """Forget a connection and its secrets."""
    connections.remove(ask.control, ask.who, name, scope)
    return Response(status_code=204)


@router.post("/{name}:test", response_model=Checks)
def test(ask: Ask, name: ConnectionName, wanted: Trial, scope: ScopeQuery = None) -> Response:
    """Try a connection step by step: resolve, connect, TLS, clock, keys, and what the store can do."""
    found = probing.test(ask.control, ask.who, name, wanted.place, scope=scope, write=wanted.write)
    checks = [{"name": c.name, "verdict": c.verdict, "text": c.text, "hint": c.hint} for c in found]
    return answer({"good": all(c.verdict != "fail" for c in found), "checks": checks})


@router.get("/{name}/browse", response_model=Level)
def browse(
    ask: Ask,
    name: ConnectionName,
    place: Annotated[Line, Query(description="BUCKET or BUCKET/prefix/")] = "",
    scope: ScopeQuery = None,
    page_size: PageSize = 100,
    page_token: PageToken = "",
) -> Response:
    """One page of one level: sub-prefixes and entries, in order."""
    after = paging.mark(page_token, (int,), [name, place, scope])
    skip = after[0] if after else 0
    found = probing.browse(ask.control, ask.who, name, place, scope=scope, skip=skip, limit=page_size)
    entries = [{"key": key, "size": size, "modified": moment(at)} for key, size, at in found.entries]
    following = paging.token((found.following,) if found.following else None, [name, place, scope])
    return answer({"prefixes": found.prefixes, "entries": entries, "next_page_token": following})


def shown(row: Described) -> dict[str, Any]:
    """A connection as it is answered."""
    return {
        "id": row.id, "name": row.name, "scope": row.scope, "provider": row.provider, "endpoint": row.endpoint,
        "region": row.document["region"], "access_key": row.access_key, "secret_key": "", "session_token": "",
        "sas": "", "has": list(row.held), "addressing": row.document["addressing"],
        "insecure_skip_verify": row.document["insecure_skip_verify"], "disable_ssl": row.document["disable_ssl"],
        "requester_pays": row.document["requester_pays"], "options": row.document["options"],
        "max_tasks": row.max_tasks, "creator": row.creator, "created": moment(row.created),
        "updated": moment(row.updated),
    }  # fmt: skip


def _encoded(row: Described) -> bytes:
    return encode(shown(row))


def _draft(name: str, scope: str | None, wanted: ConnectionChange) -> Draft:
    return Draft(
        name=name,
        scope=scope,
        provider=wanted.provider,
        endpoint=wanted.endpoint,
        region=wanted.region,
        access_key=_secret(wanted.access_key),
        secret_key=_secret(wanted.secret_key),
        session_token=_secret(wanted.session_token),
        sas=_secret(wanted.sas),
        addressing=wanted.addressing,
        insecure_skip_verify=wanted.insecure_skip_verify,
        disable_ssl=wanted.disable_ssl,
        requester_pays=wanted.requester_pays,
        options=wanted.options,
        max_tasks=wanted.max_tasks,
    )


def _secret(text: str | None) -> Secret | None:
    return None if text is None else Secret(text)
