"""/api/v1/schedules: requests that become tasks again and again."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Query
from pydantic import Field, StringConstraints
from starlette.responses import Response

from entrepot.api import idempotency, paging
from entrepot.api.auth import Ask
from entrepot.api.shape import (
    Answer,
    Id,
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
from entrepot.control import schedules, starting
from entrepot.control.schedules import Changes, NewSchedule, Shown

router = APIRouter(prefix="/api/v1/schedules", tags=["schedules"], dependencies=[Depends(only_known)])

Expression = Annotated[
    str,
    StringConstraints(min_length=1, max_length=200, pattern=r"^[\x20-\x7e\t]*$"),
    Field(description="minute hour day-of-month month day-of-week, or @hourly, @daily, @weekly, @monthly, @yearly"),
]
Zone = Annotated[str, StringConstraints(max_length=64, pattern=r"^[A-Za-z0-9_+/-]*$"), Field(description="IANA name")]
Overlap = Literal["skip", "queue", "cancel_running"]
Count = Annotated[int, Field(ge=0, le=schedules.COUNT_MAX, description="it runs so often at most; 0: no limit")]
ScopeQuery = Annotated[Scope | None, Query(description="this scope and those below it; else all that one may see")]
