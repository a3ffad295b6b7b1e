"""API tokens and access keys: made, shown once, listed without their secrets, revoked."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from entrepot.ledger import access
from entrepot.ledger.database import Connection, Row
from entrepot.model.errors import AccessError, NoSuch, RequestError
from entrepot.model.secret import Secret
from entrepot.security import signing
from entrepot.security import tokens as forms
from entrepot.security.identity import Action, Grant, Kind, Principal, allows, holds

from . import grants as stored
from .auditing import allow, change
from .context import Control
from .identify import key_place
from .once import NEVER, Once
from .users import may_give, sees

LONGEST: Final = 3650 * 86400.0


@dataclass(slots=True, frozen=True)
class Token:
    """A token as it is listed; ``grants`` None: all that its owner may."""

    id: str
    user: str
    name: str
    grants: tuple[Grant, ...] | None
    created: float
    expires: float | None
    last_used: float | None
    revoked: float | None


@dataclass(slots=True, frozen=True)
class AccessKey:
    """An access key as it is listed."""

    id: str
    user: str
    created: float
    last_used: float | None
    revoked: float | None


@dataclass(slots=True, frozen=True)
class Fresh:
    """What was just made, with the secret that is never shown again."""

    made: Token | AccessKey
    secret: Secret


def mint(
    control: Control,
    who: Principal,
    *,
    user: str = "",
    name: str = "",
    grants: Sequence[Grant] | None = None,
    days: float | None = None,
    once: Once = NEVER,
) -> Fresh:
    """Make a token for oneself, or for another ``user``. ``grants`` narrow it; ``days`` 0: it never expires."""
    owner = user or who.name
    with change(control, who, _action(who, owner), f"token of {owner}", _home(who)) as c:
        once.begin(c, who)
        row = _owner(c, who, owner)
        _check_reach(who, row, grants)
        minted = forms.mint(os.urandom)
        expires = _expiry(control, c, days)
        narrowed = "" if grants is None else stored.to_json(grants)
        access.add_token(c, access.NewToken(minted.id, row.id, minted.digest, name, narrowed, expires))
        fresh = Fresh(_token(_found(c, minted.id)), minted.text)
        once.keep(c, who, fresh)
    return fresh


def listing(control: Control, who: Principal, user: str = "", after: str = "", limit: int = 100) -> list[Token]:
    """Tokens of oneself, of another ``user``, or of all (``user`` "*")."""
    whose = _whose(control, who, user)
    with control.pool.read() as c:
        return [_token(row) for row in access.tokens(c, whose, after, limit)]


def revoke(control: Control, who: Principal, token_id: str) -> None:
    """From now on the token opens nothing."""
    with control.pool.read() as c:
        row = access.token(c, token_id)
    _may_end(who, row, f"token {token_id}")
    assert row is not None
    with change(control, who, _action(who, row.principal_name), f"token {token_id} (revoked)", _home(who)) as c:
        access.revoke_token(c, token_id)


def make_key(control: Control, who: Principal, *, user: str = "", once: Once = NEVER) -> Fresh:
    """Make a pair of access key and secret key, for oneself or for another ``user``."""
    owner = user or who.name
    with change(control, who, _action(who, owner), f"access key of {owner}", _home(who)) as c:
        once.begin(c, who)
        row = _owner(c, who, owner)
        _check_reach(who, row, None)
        key_id, secret = signing.new_access_key(os.urandom)
        access.add_key(c, key_id, row.id, control.keyring.seal(secret, key_place(key_id), os.urandom))
        found = access.key(c, key_id)
        assert found is not None
        fresh = Fresh(_key(found), secret)
        once.keep(c, who, fresh)
    return fresh


def keys(control: Control, who: Principal, user: str = "", after: str = "", limit: int = 100) -> list[AccessKey]:
    """Access keys of oneself, of another ``user``, or of all (``user`` "*")."""
    whose = _whose(control, who, user)
    with control.pool.read() as c:
        return [_key(row) for row in access.keys(c, whose, after, limit)]


def revoke_key(control: Control, who: Principal, key_id: str) -> None:
    """From now on the access key opens nothing."""
    with control.pool.read() as c:
        row = access.key(c, key_id)
    _may_end(who, row, f"access key {key_id}")
    assert row is not None
    with change(control, who, _action(who, row.principal_name), f"access key {key_id} (revoked)", _home(who)) as c:
        access.revoke_key(c, key_id)


def _action(who: Principal, owner: str) -> Action:
    return Action.TOKEN_OWN if owner == who.name else Action.TOKEN_WRITE


def _home(who: Principal) -> str:
    """Tokens have no scope of their own."""
    for grant in who.grants:
        if allows(who, Action.TOKEN_WRITE, grant.scope):
            return grant.scope
    return who.grants[0].scope if who.grants else ""


def _owner(c: Connection, who: Principal, name: str) -> Row:
    row = access.principal_by_id(c, who.id) if name == who.name else access.principal(c, name)
    if row is None and name == who.name:
        raise AccessError("you are known by another issuer, or as a runner: you can have no token of this server")
    if row is None:
        raise NoSuch(f"there is no user {name!r}")
    return row


def _check_reach(who: Principal, owner: Row, grants: Sequence[Grant] | None) -> None:
    """A token reaches no further than who makes it, nor than who owns it."""
    theirs = Principal(owner.id, owner.name, Kind(owner.kind), stored.from_json(owner.grants))
    if grants is None:
        if owner.id != who.id:
            may_give(who, theirs.grants)
        elif not all(holds(who, grant) for grant in theirs.grants):
            raise RequestError("grants", "your token reaches less far than you: say what the new one may do")
        return
    for number, grant in enumerate(grants):
        if not holds(theirs, grant) or not holds(who, grant):
            raise RequestError(f"grants.{number}", f"{owner.name} does not hold this role there")


def _expiry(control: Control, c: Connection, days: float | None) -> float | None:
    chosen = control.settings.token_days if days is None else days
    return float(c.value("SELECT now()")) + min(chosen * 86400.0, LONGEST) if chosen > 0 else None


def _whose(control: Control, who: Principal, user: str) -> str:
    """The principal's id to list for; empty for all."""
    if user in ("", who.name):
        return who.id
    if user == "*":
        allow(control, who, Action.TOKEN_READ, "tokens of all")
        return ""
    allow(control, who, Action.TOKEN_READ, f"tokens of {user}", _home(who))
    with control.pool.read() as c:
        row = access.principal(c, user)
    if row is None or not sees(who, Action.TOKEN_READ, stored.from_json(row.grants)):
        raise NoSuch(f"there is no user {user!r}")
    return str(row.id)


def _may_end(who: Principal, row: Row | None, what: str) -> None:
    """Others' tokens do not exist for those who may not see them."""
    if row is None:
        raise NoSuch(f"there is no {what}")
    if row.principal_id != who.id:
        theirs = stored.from_json(row.principal_grants)
        if not allows(who, Action.TOKEN_WRITE, _home(who)) or not sees(who, Action.TOKEN_WRITE, theirs):
            raise NoSuch(f"there is no {what}")


def _found(c: Connection, token_id: str) -> Row:
    row = access.token(c, token_id)
    assert row is not None
    return row


def _token(row: Row) -> Token:
    grants = stored.from_json(row.grants) if row.grants else None
    return Token(row.id, row.principal_name, row.name, grants, row.created, row.expires, row.last_used, row.revoked)


def _key(row: Row) -> AccessKey:
    return AccessKey(row.id, row.principal_name, row.created, row.last_used, row.revoked)
