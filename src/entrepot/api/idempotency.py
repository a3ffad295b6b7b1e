"""The Idempotency-Key header: from a creating request to the answer that it gets, now or a second time."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any

from fastapi import Header
from starlette.responses import Response

from entrepot.control.once import Answered, Once
from entrepot.model.errors import RequestError

from .auth import Asked

Key = Annotated[
    str,
    Header(alias="Idempotency-Key", description="the same key and body get the same answer for 24 hours"),
]
"""The type of the parameter: ``idempotency_key: Key = ""``."""
_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def created(
    ask: Asked,
    key: str,
    make: Callable[[Once], Any],
    render: Callable[[Any], bytes],
    *,
    status: int = 201,
    secret: bool = False,
) -> Response:
    """Answer a creating request. ``make`` gets what it has to hand to the control plane.

    ``secret``: the answer shows something but once, so it is kept sealed.
    """
    if key and not _KEY.fullmatch(key):
        raise RequestError("Idempotency-Key", "1 to 255 printable characters without blanks")
    request = ask.request
    route = f"{request.method} {request.url.path}?{request.url.query}"
    once = Once(key, route, ask.body, status, render, ask.control.keyring if secret else None)
    try:
        body = render(make(once))
    except Answered as before:
        return Response(before.answer, before.status, {"Idempotent-Replay": "true"}, "application/json")
    return Response(body, status, media_type="application/json")
