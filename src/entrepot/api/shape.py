"""The shapes of native requests and answers: what is not known is refused, what is too long or unprintable too."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Annotated, Any

from fastapi import Path, Query, Request
from pydantic import AfterValidator, BaseModel, ConfigDict, StringConstraints
from starlette.responses import Response

from entrepot.model.errors import RequestError

from .openapi import query_parameters

_PRINTABLE = r"^[^\x00-\x1f\x7f]*$"
_MOST = 253_402_300_799.0
"""The last second that has four digits for its year."""


class Wanted(BaseModel):
    """Base of request bodies: exact types, no other fields."""

    model_config = ConfigDict(extra="forbid", strict=True, hide_input_in_errors=True, allow_inf_nan=False)


class Answer(BaseModel):
    """Base of answers, for the OpenAPI document; hot routes write the JSON themselves."""


def _no_surrogates(text: str) -> str:
    text.encode()
    return text


Line = Annotated[str, StringConstraints(max_length=1024, pattern=_PRINTABLE), AfterValidator(_no_surrogates)]
"""One line of text without control characters."""
Short = Annotated[str, StringConstraints(max_length=256, pattern=_PRINTABLE)]
"""The same, for names that people give."""
Place = Annotated[str, StringConstraints(min_length=1, max_length=4096, pattern=_PRINTABLE)]
"""A location."""
Name = Annotated[str, StringConstraints(max_length=63, pattern=r"^[A-Za-z][A-Za-z0-9_-]*$")]
"""The name of a connection or volume."""
Login = Annotated[str, StringConstraints(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$")]
"""The name of a user."""
Scope = Annotated[str, StringConstraints(max_length=1024, pattern=_PRINTABLE)]
"""A slash path; its form is checked by the control plane."""
Id = Annotated[str, Path(pattern=r"^[0-9A-HJKMNP-TV-Z]{26}$", description="an id, as it was answered")]
"""The id of a task, in a path."""
PageSize = Annotated[int, Query(ge=1, le=1000, description="how many of them at most")]
PageToken = Annotated[str, Query(max_length=4096, description="next_page_token of the former page")]


def answer(body: Any, status: int = 200) -> Response:
    """JSON as it is."""
    return Response(encode(body), status, media_type="application/json")


def encode(body: Any) -> bytes:
    """Compact JSON in UTF-8."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")


def moment(at: float | None) -> str | None:
    """A time as the native API writes it: RFC 3339 in UTC with milliseconds."""
    if at is None:
        return None
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S.%f")[:-3] + "Z"


def seconds(field: str, text: str) -> float:
    """Unix time from RFC 3339. Raises RequestError that names the field."""
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None or "T" not in text.upper():
            raise ValueError
        at = found.timestamp()
    except (ValueError, OverflowError):
        raise RequestError(field, "no time of the form 2026-11-22T08:30:00Z") from None
    if not 0 <= at <= _MOST:
        raise RequestError(field, "a time before 1970 or after 9999")
    return at


async def only_known(request: Request) -> None:
    """Refuse query parameters that the endpoint does not have, or that come twice where one is meant."""
    query = request.query_params
    if not query:
        return
    known = query_parameters(request.app, request.scope["route"].path, request.method)
    for name in query:
        if name not in known:
            raise RequestError(name[:100], "there is no such parameter")
        if not known[name] and len(query.getlist(name)) > 1:
            raise RequestError(name, "it is given more than once")
