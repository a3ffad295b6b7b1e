"""/api/v1/audit: who did what; the check that nothing of it was changed, and all of it as lines of JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field, StringConstraints
from starlette.responses import Response, StreamingResponse

from entrepot.api import paging
from entrepot.api.auth import Ask
from entrepot.api.shape import (
    Answer,
    Line,
    PageSize,
    PageToken,
    Scope,
    Wanted,
    answer,
    encode,
    moment,
    only_known,
    seconds,
)
from entrepot.control import audit
from entrepot.control.audit import Record as Row
from entrepot.ledger.trail import Filters

router = APIRouter(prefix="/api/v1", tags=["audit"], dependencies=[Depends(only_known)])

_LINES: dict[str, Any] = {"application/x-ndjson": {"schema": {"type": "string"}}}
Outcome = Literal["done", "refused"]
Time = Annotated[str, StringConstraints(max_length=40), Field(description="RFC 3339, such as 2026-11-22T08:30:00Z")]


class AuditRecord(Answer):
    """Who did what to which object, from which address, and whether it was done."""

    id: int
    at: str
    principal: str
    action: str
    subject: str
    scope: str
    outcome: Outcome
    address: str
    detail: str
    hash: str


class AuditRecords(Answer):
    """One page of them, youngest first."""

    records: list[AuditRecord]
    next_page_token: str


class AuditHead(Wanted):
    """The last row of an earlier check."""

    id: int = Field(ge=1, le=2**62)
    hash: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]


class AuditCheck(Wanted):
    """What to check besides the chain itself: with a head that was kept, a cut at the end shows too."""

    known: AuditHead | None = None


class AuditVerdict(Answer):
    """What the check found. ``broken`` is the first row that is not right; keep ``head`` for the next check."""

    good: bool
    rows: int
    head: int
    head_hash: str
    broken: int | None
    reason: str


class Wish:
    """The filters of a list, as query parameters."""

    def __init__(
        self,
        principal: Annotated[Line, Query(description="name of a user; with its tokens")] = "",
        action: Annotated[Line, Query(description="such as connection.write")] = "",
        subject: Annotated[Line, Query(description="the object, exactly")] = "",
        text: Annotated[Line, Query(description="a part of the subject")] = "",
        scope: Annotated[Scope, Query(description="this scope and those below it")] = "",
        outcome: Annotated[Outcome | None, Query()] = None,
        address: Annotated[Line, Query(description="where the request came from")] = "",
        since: Annotated[Time, Query()] = "",
        until: Annotated[Time, Query(description="not included")] = "",
    ) -> None:
        self.filters = Filters(
            principal=principal,
            action=action,
            subject=subject,
            text=text,
            scope=scope,
            outcome=outcome or "",
            address=address,
            since=seconds("since", since) if since else None,
            until=seconds("until", until) if until else None,
        )

    @property
    def question(self) -> list[Any]:
        """For page tokens."""
        return [getattr(self.filters, name) for name in Filters.__slots__]


Wished = Annotated[Wish, Depends(Wish)]


@router.get("/audit", response_model=AuditRecords)
def listing(ask: Ask, wish: Wished, page_size: PageSize = 100, page_token: PageToken = "") -> Response:
    """What was done and refused, youngest first."""
    before = paging.mark(page_token, (int,), wish.question)
    rows = audit.listing(ask.control, ask.who, wish.filters, before=before[0] if before else 0, limit=page_size + 1)
    page, more = rows[:page_size], len(rows) > page_size
    following = paging.token((page[-1].id,) if more else None, wish.question)
    return answer({"records": [_shown(row) for row in page], "next_page_token": following})


@router.get(
    "/audit:export",
    response_class=StreamingResponse,
    responses={
        200: {"description": "one record a line", "content": {"application/x-ndjson": {"schema": {"type": "string"}}}}
    },
)
def export(ask: Ask, wish: Wished) -> Response:
    """All of it as lines of JSON, youngest first."""
    rows = audit.export(ask.control, ask.who, wish.filters)
    name = {"Content-Disposition": 'attachment; filename="audit.jsonl"'}
    return StreamingResponse(_lines(rows), 200, name, "application/x-ndjson")


@router.post("/audit:verify", response_model=AuditVerdict)
def verify(ask: Ask, wanted: AuditCheck) -> Response:
    """Check the chain of hashes from the first row to the last."""
    known = None if wanted.known is None else (wanted.known.id, wanted.known.hash)
    found = audit.verify(ask.control, ask.who, known)
    return answer(
        {
            "good": found.good,
            "rows": found.rows,
            "head": found.head,
            "head_hash": found.head_hash,
            "broken": found.broken,
            "reason": found.reason,
        }
    )


def _lines(rows: Iterator[Row]) -> Iterator[bytes]:
    lines: list[bytes] = []
    for row in rows:
        lines.append(encode(_shown(row)))
        if len(lines) == 200:
            yield b"\n".join(lines) + b"\n"
            lines.clear()
    if lines:
        yield b"\n".join(lines) + b"\n"


def _shown(row: Row) -> dict[str, Any]:
    shown: dict[str, Any] = {name: getattr(row, name) for name in Row.__slots__}
    return {**shown, "at": moment(row.at)}
