"""One request to a server and what its answer becomes, apart from how it is sent: both clients send the same ones."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

T = TypeVar("T")

RETRIED = frozenset({429, 502, 503, 504})
"""Answers after which the same request may succeed a moment later."""
PAUSES = (0.2, 0.6, 1.5, 3.0)
"""Seconds before the second, third, … try of a request that may be repeated."""


@dataclass(slots=True, frozen=True)
class Call(Generic[T]):
    """A request. ``read`` makes the result of the answer's JSON; ``key`` lets it be repeated without harm."""

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    key: str = ""

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.method in {"GET", "HEAD", "PUT", "DELETE"} or bool(self.key)

    def headers(self) -> dict[str, str]:
        """What it needs besides the credentials."""
        return {"Idempotency-Key": self.key} if self.key else {}

    def parameters(self) -> list[tuple[str, str | int | float | bool | None]]:
        """The query: empty values are left out, lists are repeated."""
        return [
            (name, str(one).lower() if isinstance(one, bool) else str(one))
            for name, value in self.query.items()
            for one in (value if isinstance(value, (list, tuple)) else [value])
            if one is not None and one != ""
        ]


def creating(path: str, body: Any, read: Callable[[Any], T], key: str = "") -> Call[T]:
    """A POST that makes something, under an idempotency key of its own."""
    return Call("POST", path, read, body=body, key=key or uuid.uuid4().hex)


def nothing(_value: Any) -> None:
    """The result of answers without content."""


def as_is(value: Any) -> Any:
    """The answer's JSON itself."""
    return value


def pause_before(attempt: int, retry_after: float) -> float | None:
    """Seconds to wait before try number ``attempt`` (the second is 1); None when there shall be none."""
    if attempt > len(PAUSES):
        return None
    return max(PAUSES[attempt - 1], min(retry_after, 30.0))
