"""Which scope a request is about: the one it names, else the only one that the asker has."""

from __future__ import annotations

from entrepot.model.errors import RequestError, UsageError
from entrepot.security.identity import Action, Principal, check_scope, covers, visible_scopes


def scope_of(who: Principal, action: Action, wanted: str | None) -> str:
    """The scope to act in. Raises RequestError for a malformed one, or when it must be named.

    Whether ``who`` may act there is not decided here.
    """
    if wanted is not None:
        return checked(wanted)
    scopes = visible_scopes(who, action)
    if len(scopes) > 1:
        raise RequestError("scope", "you have several: name one", hint="one of: " + ", ".join(scopes[:20]))
    return scopes[0] if scopes else ""


def readable(who: Principal, action: Action, wanted: str | None) -> tuple[str, ...]:
    """The scopes that a list is made of: what ``who`` may see of ``wanted`` and below, or of everything."""
    scopes = visible_scopes(who, action)
    if wanted is None:
        return scopes
    wanted = checked(wanted)
    return tuple(
        dict.fromkeys(
            wanted if covers(one, wanted) else one for one in scopes if covers(one, wanted) or covers(wanted, one)
        )
    )


def checked(text: str) -> str:
    """``text`` when it is a scope. Raises RequestError."""
    try:
        return check_scope(text)
    except UsageError as fault:
        raise RequestError("scope", fault.message, hint=fault.hint) from None
