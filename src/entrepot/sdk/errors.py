"""What a server's refusals become: one class for each kind, all of them below :class:`ApiError`."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from entrepot.model.errors import EntrepotError


@dataclass(slots=True, frozen=True)
class FieldError:
    """What is wrong with one field of a request."""

    field: str
    description: str


class ApiError(EntrepotError):
    """A server refused or failed a request.

    ``status`` is the HTTP status (0: there was no answer), ``code`` the ``google.rpc.Code``, ``reason`` the server's
    short word for it, ``fields`` what is wrong with which field, ``request_id`` what to tell the operator.
    """

    exit_code = 5

    def __init__(
        self,
        message: str,
        *,
        hint: str = "",
        status: int = 0,
        code: int = 0,
        reason: str = "",
        fields: tuple[FieldError, ...] = (),
        request_id: str = "",
        retry_after: float = 0.0,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.code = code
        self.reason = reason
        self.fields = fields
        self.request_id = request_id
        self.retry_after = retry_after


class NotReachable(ApiError):
    """There was no answer: no server there, a name that does not resolve, a cut connection, TLS trouble."""

    exit_code = 3


class InvalidRequest(ApiError):
    """A field is wrong (400); ``fields`` names it. Nothing was changed."""

    exit_code = 2


class WrongState(ApiError):
    """It does not go with the state that the object is in (400, FAILED_PRECONDITION)."""

    exit_code = 2


class NotAuthenticated(ApiError):
    """No credentials, or none that are good (401)."""

    exit_code = 3


class Forbidden(ApiError):
    """The credentials give no right to it (403)."""

    exit_code = 3


class NotFound(ApiError):
    """There is no such object, or none that you may know of (404)."""

    exit_code = 3


class Conflict(ApiError):
    """It exists already, or an idempotency key was used for something else (409)."""

    exit_code = 2


class RateLimited(ApiError):
    """Too many requests (429); ``retry_after`` is in seconds."""

    exit_code = 3


class ServerError(ApiError):
    """The server failed (5xx)."""


class StillGoing(EntrepotError, TimeoutError):
    """A task did not end in the time that was given; it goes on. ``task`` is how it was last seen."""

    exit_code = 3

    def __init__(self, message: str, task: Any) -> None:
        super().__init__(message, hint="wait longer, or look at it later")
        self.task = task


_BY_STATUS: dict[int, type[ApiError]] = {
    400: InvalidRequest,
    401: NotAuthenticated,
    403: Forbidden,
    404: NotFound,
    405: InvalidRequest,
    409: Conflict,
    413: InvalidRequest,
    422: InvalidRequest,
    429: RateLimited,
}
_FAILED_PRECONDITION = 9
_EXITS = {"GUARD": 4, "PLACE": 3, "STORE": 3}
"""By the first word of the server's reason: what a store or a place is to blame for is not wrong usage."""


def error_from(status: int, body: bytes, retry_after: str = "", *, fallback: str = "", hint: str = "") -> ApiError:
    """The error that an answer with a failing status means.

    ``fallback`` and ``hint`` are for answers that are not of the API's form: a proxy's, another program's.
    """
    said = _said(body)
    code = said.get("code", 0)
    kind = _BY_STATUS.get(status, ServerError if status >= 500 else InvalidRequest)
    if status == 400 and code == _FAILED_PRECONDITION:
        kind = WrongState
    details = said.get("details", [])
    info = _detail(details, "ErrorInfo")
    violations = _detail(details, "BadRequest").get("fieldViolations", [])
    reason = str(info.get("reason", ""))
    message = str(said.get("message") or "")
    found = kind(
        message or fallback or f"the server answered {status}",
        hint=str(info.get("metadata", {}).get("hint", "")) if message else hint,
        status=status,
        code=code if isinstance(code, int) else 0,
        reason=reason,
        fields=tuple(FieldError(str(v.get("field", "")), str(v.get("description", ""))) for v in violations),
        request_id=str(_detail(details, "RequestInfo").get("requestId", "")),
        retry_after=_seconds(retry_after),
    )
    found.exit_code = _EXITS.get(reason.partition("_")[0], found.exit_code)
    return found


def _said(body: bytes) -> dict[str, Any]:
    try:
        found = json.loads(body)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def _detail(details: Any, kind: str) -> dict[str, Any]:
    for detail in details if isinstance(details, list) else []:
        if isinstance(detail, dict) and str(detail.get("@type", "")).endswith(f".{kind}"):
            return detail
    return {}


def _seconds(text: str) -> float:
    try:
        return max(0.0, float(text))
    except ValueError:
        return 0.0
