"""Usage: what was moved, by scope and day, and the quotas that limit it."""

from __future__ import annotations

from datetime import date
from typing import Any, Literal

from entrepot.sdk.call import Call, Pages, nothing, pages
from entrepot.sdk.reading import reader
from entrepot.sdk.values import Quota, Usage

from .paths import path

QuotaName = Literal["max_queued", "max_running"]
_quota = reader(Quota)


def list_(
    *, first: date | str = "", last: date | str = "", scope: str | None = None, page_size: int = 0
) -> Pages[Usage]:
    """What was moved from one day (UTC) to another, both included; else in the last 30 days."""
    query = {"from": str(first), "to": str(last), "scope": scope}
    return pages(path("usage"), "usage", reader(Usage), query, page_size)


def quotas(*, scope: str | None = None) -> Call[tuple[Quota, ...]]:
    """Quotas that are set."""
    return Call("GET", path("usage", "quotas"), _quotas, query={"scope": scope})


def set_quota(name: QuotaName, amount: int, *, scope: str = "") -> Call[Quota]:
    """Set a quota, or another amount of it."""
    return Call("PUT", path("usage", "quotas"), _quota, body={"scope": scope, "name": name, "amount": amount})


def delete_quota(name: QuotaName, *, scope: str = "") -> Call[None]:
    """Take a quota away."""
    return Call("DELETE", path("usage", "quotas"), nothing, query={"name": name, "scope": scope})


def _quotas(value: Any) -> tuple[Quota, ...]:
    return tuple(_quota(one) for one in value["quotas"])
