"""/api/v1/usage: what was moved, by scope and day, and the quotas that limit it."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field, StringConstraints
from starlette.responses import Response

from entrepot.api import paging
from entrepot.api.auth import Ask
from entrepot.api.shape import Answer, PageSize, PageToken, Scope, Wanted, answer, only_known
from entrepot.control import usage
from entrepot.ledger.usage import Quota as Limit

router = APIRouter(prefix="/api/v1/usage", tags=["usage"], dependencies=[Depends(only_known)])

Day = Annotated[str, StringConstraints(max_length=10), Field(description="a day (UTC) such as 2026-11-22")]
ScopeQuery = Annotated[Scope | None, Query(description="this scope and those below it; else all that one may see")]
QuotaName = Literal["max_queued", "max_running"]
_DAYS = 30


class DayOfScope(Answer):
    """What the tasks of one scope that ended on one day did: entries and bytes that were copied, entries that failed.

    A task that is retried counts on the day on which it ended last; what it had moved before stays where it was.
    """

    scope: str
    day: str
    tasks: int
    entries: int
    bytes: int
    failed: int


class Usage(Answer):
    """One page of it, by day and scope."""

    usage: list[DayOfScope]
    next_page_token: str


class QuotaWanted(Wanted):
    """A limit on a scope and everything below it."""

    scope: Scope = ""
    name: QuotaName
    amount: int = Field(ge=0, le=2**62)


class Quota(Answer):
    """A limit on a scope and everything below it."""

    scope: str
    name: QuotaName
    amount: int


class Quotas(Answer):
    """All of them."""

    quotas: list[Quota]


@router.get("", response_model=Usage)
def read(
    ask: Ask,
    first: Annotated[Day, Query(alias="from")] = "",
    last: Annotated[Day, Query(alias="to")] = "",
    scope: ScopeQuery = None,
    page_size: PageSize = 1000,
    page_token: PageToken = "",
) -> Response:
    """What was moved from one day to another, both included; else in the last 30 days."""
    today = datetime.fromtimestamp(ask.control.wall(), UTC).date()
    last = last or today.isoformat()
    if not first:
        first = max(date(1970, 1, 1), usage.day("to", last) - timedelta(days=_DAYS - 1)).isoformat()
    question = [first, last, scope]
    after = paging.mark(page_token, (str, str), question)
    rows = usage.read(
        ask.control, ask.who, first, last, scope, after=(after[0], after[1]) if after else None, limit=page_size + 1
    )
    page, more = rows[:page_size], len(rows) > page_size
    following = paging.token((page[-1].day, page[-1].scope) if more else None, question)
    shown = [
        {"scope": r.scope, "day": r.day, "tasks": r.tasks, "entries": r.entries, "bytes": r.bytes, "failed": r.failed}
        for r in page
    ]
    return answer({"usage": shown, "next_page_token": following})


@router.get("/quotas", response_model=Quotas)
def quotas(ask: Ask, scope: ScopeQuery = None) -> Response:
    """Quotas that are set."""
    return answer({"quotas": [_quota(row) for row in usage.quotas(ask.control, ask.who, scope)]})


@router.put("/quotas", response_model=Quota)
def set_quota(ask: Ask, wanted: QuotaWanted) -> Response:
    """Set a quota, or another amount of it."""
    limit = Limit(wanted.scope, wanted.name, wanted.amount)
    return answer(_quota(usage.set_quota(ask.control, ask.who, limit)))


@router.delete("/quotas", status_code=204, response_class=Response)
def drop_quota(ask: Ask, name: QuotaName, scope: Annotated[Scope, Query()] = "") -> Response:
    """Take a quota away."""
    usage.drop_quota(ask.control, ask.who, scope, name)
    return Response(status_code=204)


def _quota(row: Limit) -> dict[str, Any]:
    return {"scope": row.scope, "name": row.name, "amount": row.amount}
