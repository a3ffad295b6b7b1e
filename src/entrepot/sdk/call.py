"""One request to a server and what its answer becomes, apart from how it is sent: both clients send the same ones."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeVar

T = TypeVar("T")

RETRIED = frozenset({429, 502, 503, 504})
"""Answers after which the same request may succeed a moment later."""
PAUSES = (0.2, 0.6, 1.5, 3.0)
"""Seconds before the second, third, … try of a request that may be repeated."""
LONGEST_PAUSE = 30.0


@dataclass(slots=True, frozen=True)
class Call(Generic[T]):
    """A request. ``read`` makes the result of the answer's JSON.

    ``key`` (an idempotency key) or ``again`` (twice is the same as once) let it be repeated without harm.
    """

    method: str
    path: str
    read: Callable[[Any], T]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Any = None
    key: str = ""
    again: bool = False

    @property
    def repeatable(self) -> bool:
        """Whether sending it twice does no more than sending it once."""
        return self.method in {"GET", "HEAD", "PUT", "DELETE"} or bool(self.key) or self.again

    def headers(self) -> dict[str, str]:
        """What it needs besides the credentials."""
        return {"Idempotency-Key": self.key} if self.key else {}

    def parameters(self) -> list[tuple[str, str | int | float | bool | None]]:
        """The query: values that are None or empty are left out, lists are repeated."""
        return [
            (name, str(one).lower() if isinstance(one, bool) else str(one))
            for name, value in self.query.items()
            for one in (value if isinstance(value, (list, tuple)) else [value])
            if one is not None and one != ""
        ]


@dataclass(slots=True, frozen=True)
class Page(Generic[T]):
    """A part of a list. ``total`` counts what all pages hold, where the server counts it."""

    items: tuple[T, ...]
    next_page_token: str = ""
    total: int | None = None


@dataclass(slots=True, frozen=True)
class Pages(Generic[T]):
    """A list that is asked for page by page."""

    first: Call[Page[T]]

    def after(self, page: Page[T]) -> Call[Page[T]] | None:
        """The request for what follows ``page``; None when nothing does."""
        if not page.next_page_token:
            return None
        return replace(self.first, query={**self.first.query, "page_token": page.next_page_token})


def pages(path: str, name: str, read: Callable[[Any], T], query: Mapping[str, Any], page_size: int) -> Pages[T]:
    """A list that is answered under ``name``."""

    def read_page(value: Any) -> Page[T]:
        total = value.get("total")
        return Page(
            tuple(read(one) for one in value[name]),
            str(value.get("next_page_token") or ""),
            total if isinstance(total, int) else None,
        )

    return Pages(Call("GET", path, read_page, query={**query, "page_size": page_size or None}))


def creating(path: str, body: Any, read: Callable[[Any], T], key: str = "", **query: Any) -> Call[T]:
    """A POST that makes something, under an idempotency key of its own."""
    return Call("POST", path, read, query=query, body=body, key=key or uuid.uuid4().hex)


def given(**values: Any) -> dict[str, Any]:
    """A body of what is not None."""
    return {name: value for name, value in values.items() if value is not None}


def nothing(_value: Any) -> None:
    """The result of answers without content."""


def as_is(value: Any) -> Any:
    """The answer's JSON itself."""
    return value


def pause_before(attempt: int, retry_after: float, most: int = len(PAUSES)) -> float | None:
    """Seconds to wait before try number ``attempt`` (the second is 1); None when there shall be none."""
    if attempt > most:
        return None
    return max(PAUSES[min(attempt, len(PAUSES)) - 1], min(retry_after, LONGEST_PAUSE))
