"""What was moved, by scope and day, and the quotas that limit it."""

from __future__ import annotations

import re
from datetime import date
from typing import Final

from entrepot.ledger import usage
from entrepot.ledger.usage import QUOTAS, Quota, Usage
from entrepot.model.errors import NoSuch, RequestError
from entrepot.security.identity import Action, Principal

from .auditing import allow
from .auditing import change as changing
from .context import Control
from .scoping import checked, readable

AMOUNT_MAX: Final = 2**62
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}", re.ASCII)


def read(
    control: Control,
    who: Principal,
    first: str,
    last: str,
    scope: str | None = None,
    *,
    after: tuple[str, str] | None = None,
    limit: int = 1000,
) -> list[Usage]:
    """Usage of the days ``first`` to ``last`` (both included) in ``scope`` and below, as far as one may see it."""
    one, two = day("from", first), day("to", last)
    if one > two:
        raise RequestError("to", "a day before from")
    scopes = _scopes(control, who, scope)
    with control.pool.read() as c:
        return usage.read(c, first, last, scopes, after=after, limit=limit)


def quotas(control: Control, who: Principal, scope: str | None = None) -> list[Quota]:
    """Quotas in ``scope`` and below, as far as one may see them."""
    scopes = _scopes(control, who, scope)
    with control.pool.read() as c:
        return usage.quotas(c, scopes)


def set_quota(control: Control, who: Principal, wanted: Quota) -> Quota:
    """Make or change a quota. Raises RequestError, NotAllowed."""
    _check_name(wanted.name)
    scope = checked(wanted.scope)
    if not 0 <= wanted.amount <= AMOUNT_MAX:
        raise RequestError("amount", "a number from 0 to 2^62")
    with changing(control, who, Action.SETTINGS_WRITE, f"quota {wanted.name} {wanted.amount}", scope) as c:
        usage.set_quota(c, wanted)
    return wanted


def drop_quota(control: Control, who: Principal, scope: str, name: str) -> None:
    """Take a quota away. Raises NoSuch when there is none."""
    _check_name(name)
    with changing(control, who, Action.SETTINGS_WRITE, f"quota {name}", checked(scope)) as c:
        if not usage.drop_quota(c, scope, name):
            raise NoSuch(f"there is no quota {name} on {scope or 'the server'}")


def day(field: str, text: str) -> date:
    """A day such as ``2026-11-22``. Raises RequestError."""
    try:
        if not _DAY.fullmatch(text) or text < "1970":
            raise ValueError
        return date.fromisoformat(text)
    except ValueError:
        raise RequestError(field, "no day from 1970 on of the form 2026-11-22") from None


def _check_name(name: str) -> None:
    if name not in QUOTAS:
        raise RequestError("name", "there is no such quota", hint="one of: " + ", ".join(QUOTAS))


def _scopes(control: Control, who: Principal, wanted: str | None) -> tuple[str, ...]:
    scopes = readable(who, Action.USAGE_READ, wanted)
    if not scopes:
        allow(control, who, Action.USAGE_READ, "usage", wanted or "")
    return scopes
