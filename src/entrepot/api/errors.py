"""Errors as every face but octopus shows them: ``google.rpc.Status`` in JSON, and nothing from inside the server."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from entrepot.ledger.dialect import LedgerError
from entrepot.model.errors import (
    AccessError,
    AuthenticationError,
    Conflict,
    EntrepotError,
    FailureClass,
    GuardError,
    LeaseLost,
    NoSuch,
    PlaceError,
    RequestError,
    StoreError,
    TooMany,
    UsageError,
    WrongState,
)
from entrepot.security.redact import redact

LOG = logging.getLogger("entrepot.api")
REQUEST: ContextVar[str] = ContextVar("entrepot_request", default="-")
"""The id of the request that is being answered, for the log."""
TYPE = "type.googleapis.com/google.rpc."
DOMAIN = "entrepot"

_CODES = {
    400: 3, 401: 16, 403: 7, 404: 5, 405: 12, 408: 4, 409: 6, 411: 3, 413: 3, 414: 3, 415: 3, 429: 8, 431: 3,
    500: 13, 501: 12, 503: 14, 504: 4,
}  # fmt: skip
FAILED_PRECONDITION = 9
ABORTED = 10


@dataclass(slots=True, frozen=True)
class Problem:
    """One refused or failed request, as it is told."""

    status: int
    code: int
    message: str
    fields: tuple[tuple[str, str], ...] = ()
    reason: str = ""
    hint: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def body(self, request_id: str = "") -> bytes:
        """``{"code", "message", "details"}``."""
        details: list[dict[str, Any]] = []
        if self.fields:
            violations = [{"field": name, "description": text} for name, text in self.fields]
            details.append({"@type": TYPE + "BadRequest", "fieldViolations": violations})
        if self.reason or self.hint:
            metadata = {"hint": self.hint} if self.hint else {}
            details.append({"@type": TYPE + "ErrorInfo", "reason": self.reason, "domain": DOMAIN, "metadata": metadata})
        if request_id:
            details.append({"@type": TYPE + "RequestInfo", "requestId": request_id})
        shown = {"code": self.code, "message": self.message, "details": details}
        return json.dumps(shown, ensure_ascii=False, separators=(",", ":")).encode("utf-8", "backslashreplace")

    def response(self, request_id: str = "") -> Response:
        """As an answer."""
        return Response(self.body(request_id), self.status, self.headers, "application/json")


def plain(
    status: int, message: str, *, hint: str = "", reason: str = "", headers: dict[str, str] | None = None
) -> Problem:
    """A problem with the code that usually goes with an HTTP status."""
    code = _CODES.get(status, 13 if status >= 500 else 3)
    return Problem(status, code, message, reason=reason, hint=hint, headers=headers or {})


INTERNAL = plain(500, "the server failed; its log says why, under the id of this request", reason="INTERNAL")


def explain(error: Exception) -> Problem:
    """What is told about an error. What must not be told is logged instead."""
    if isinstance(error, EntrepotError):
        return _known(error)
    if isinstance(error, RequestValidationError):
        return _invalid(error.errors())
    if isinstance(error, HTTPException):
        return _http(error)
    LOG.error("request %s failed", REQUEST.get(), exc_info=error)
    return INTERNAL


def _known(error: EntrepotError) -> Problem:
    if isinstance(error, RequestError):
        fields = ((error.field, error.description),) if error.field else ()
        return Problem(400, 3, error.message, fields, "INVALID", error.hint)
    if isinstance(error, TooMany):
        headers = {"Retry-After": str(max(1, int(error.retry_after + 0.999)))}
        return plain(429, error.message, hint=error.hint, reason="TOO_MANY", headers=headers)
    if isinstance(error, StoreError):
        return _store(error)
    if isinstance(error, LedgerError) and error.retryable:
        LOG.warning("request %s: the ledger was too busy: %s", REQUEST.get(), error.message)
        return plain(503, "the ledger is too busy", hint="try again", reason="BUSY", headers={"Retry-After": "1"})
    for kind, status, code, reason in _TABLE:
        if isinstance(error, kind):
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else {}
            return Problem(status, code, error.message, (), reason, error.hint, headers)
    LOG.error("request %s failed: %s", REQUEST.get(), error.message, exc_info=error)
    return INTERNAL


_TABLE: tuple[tuple[type[EntrepotError], int, int, str], ...] = (
    (AuthenticationError, 401, 16, "UNAUTHENTICATED"),
    (AccessError, 403, 7, "NOT_ALLOWED"),
    (NoSuch, 404, 5, "NO_SUCH"),
    (Conflict, 409, 6, "CONFLICT"),
    (LeaseLost, 409, ABORTED, "LEASE_LOST"),
    (WrongState, 400, FAILED_PRECONDITION, "WRONG_STATE"),
    (UsageError, 400, 3, "INVALID"),
    (PlaceError, 400, FAILED_PRECONDITION, "PLACE"),
    (GuardError, 400, FAILED_PRECONDITION, "GUARD"),
)


def _store(error: StoreError) -> Problem:
    """A store that said no is not this server's fault, nor does it judge the rights of the one who asks here."""
    reason = f"STORE_{error.failure.upper()}"
    # Part of it may be the store's own words, and they may hold what was sent to it.
    message = redact(error.message)
    if error.failure is FailureClass.NOT_FOUND:
        return plain(404, message, hint=error.hint, reason=reason)
    if error.failure in (FailureClass.THROTTLED, FailureClass.TIMEOUT):
        return plain(503, message, hint=error.hint, reason=reason, headers={"Retry-After": "5"})
    return Problem(400, FAILED_PRECONDITION, message, (), reason, error.hint)


def _http(error: HTTPException) -> Problem:
    words = {404: "there is nothing at this path", 405: "this path does not take that method"}
    message = words.get(error.status_code) or str(error.detail)
    return plain(error.status_code, message, headers=dict(error.headers or {}))


def _invalid(errors: Iterable[Any]) -> Problem:
    """What pydantic found, without the values: they may be secrets."""
    fields = tuple(dict.fromkeys((_field(one["loc"]), _describe(one)) for one in errors))[:20]
    name, text = fields[0] if fields else ("", "the request is not understood")
    return Problem(400, 3, f"{name}: {text}" if name else text, fields, "INVALID")


def _field(place: Iterable[Any]) -> str:
    parts = [str(part) for part in place]
    if parts[:1] and parts[0] in {"body", "query", "path", "header", "cookie"}:
        parts = parts[1:] or parts
    return ".".join(parts)[:200]


def _describe(one: Any) -> str:
    if one["type"] == "extra_forbidden":
        return "there is no such field"
    if one["type"] == "json_invalid":
        return "the body is no JSON"
    text = str(one["msg"])
    return text.removeprefix("Value error, ")[:500]


__all__ = ["INTERNAL", "Problem", "explain", "plain"]
