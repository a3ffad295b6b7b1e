"""Users and programs: who may come in, with which roles. Nobody gives a role that they do not have."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

from entrepot.ledger import access
from entrepot.ledger.database import Connection, Row
from entrepot.ledger.ids import new_id
from entrepot.model.errors import AccessError, Conflict, NoSuch, WrongState
from entrepot.model.secret import Secret
from entrepot.security import tokens
from entrepot.security.identity import (
    SYSTEM,
    Action,
    Grant,
    Kind,
    Principal,
    Role,
    allows,
    covers,
    may_grant,
    visible_scopes,
)

from . import grants as stored
from .auditing import allow, change, record
from .context import Control
from .once import NEVER, Once

FIRST = "admin"
"""The name of the first administrator."""


@dataclass(slots=True, frozen=True)
class User:
    """Somebody who may come in."""

    id: str
    name: str
    kind: str
    grants: tuple[Grant, ...]
    disabled: bool
    created: float


def create(
    control: Control,
    who: Principal,
    name: str,
    grants: Sequence[Grant] = (),
    *,
    kind: Kind = Kind.USER,
    once: Once = NEVER,
) -> User:
    """Make a user; tokens and access keys come apart."""
    with change(control, who, Action.USER_WRITE, f"user {name}", _where(who), stored.to_json(grants)) as c:
        may_give(who, grants)
        once.begin(c, who)
        if access.principal(c, name) is not None:
            raise Conflict(f"a user named {name!r} exists already", hint="choose another name")
        access.add_principal(c, new_id(), name, kind, stored.to_json(grants))
        made = _user(cast(Row, access.principal(c, name)))
        once.keep(c, who, made)
    return made


def update(
    control: Control, who: Principal, name: str, *, grants: Sequence[Grant] | None = None, disabled: bool | None = None
) -> User:
    """Give other roles, shut out or let in again. Old roles that one could not give cannot be taken either."""
    detail = "" if grants is None else stored.to_json(grants)
    if disabled is not None:
        detail += " disabled" if disabled else " enabled"
    with change(control, who, Action.USER_WRITE, f"user {name}", _where(who), detail.strip()) as c:
        before = _existing(c, name, to_change=True)
        may_give(who, before.grants)
        if grants is not None:
            may_give(who, grants)
        after = before.grants if grants is None else tuple(grants)
        out = before.disabled if disabled is None else disabled
        if before.id == who.id and (out or not _rules(after)):
            raise WrongState("you cannot shut yourself out", hint="let another administrator do it")
        access.change_principal(c, before.id, stored.to_json(after), out)
        return User(before.id, name, before.kind, after, out, before.created)


def read(control: Control, who: Principal, name: str) -> User:
    """One user; oneself always."""
    if name != who.name:
        allow(control, who, Action.USER_READ, f"user {name}", _where(who))
    with control.pool.read() as c:
        found = _existing(c, name)
    if name != who.name and not sees(who, Action.USER_READ, found.grants):
        raise NoSuch(f"there is no user {name!r}")
    return found


def listing(control: Control, who: Principal, after: str = "", limit: int = 100) -> list[User]:
    """Users by name."""
    allow(control, who, Action.USER_READ, "users", _where(who))
    found: list[User] = []
    with control.pool.read() as c:
        while len(found) < limit:
            rows = access.principals(c, after, limit)
            users = [_user(row) for row in rows]
            found += [user for user in users if sees(who, Action.USER_READ, user.grants)]
            if len(rows) < limit:
                break
            after = rows[-1].name
    return found[:limit]


def remove(control: Control, who: Principal, name: str) -> None:
    """Forget a user with tokens and access keys."""
    with change(control, who, Action.USER_WRITE, f"user {name} (removed)", _where(who)) as c:
        found = _existing(c, name, to_change=True)
        may_give(who, found.grants)
        if found.id == who.id:
            raise WrongState("you cannot remove yourself", hint="let another administrator do it")
        access.remove_principal(c, found.id)


def first_admin(control: Control) -> Secret | None:
    """Make the first administrator when nobody is there, or the token of ``admin_token`` theirs.

    Answers a token that was made and must be shown now, once; None when there is nothing to show.
    """
    given = control.settings.admin_token
    with control.pool.write() as c:
        c.alone("first-admin")
        minted = tokens.adopt(given.reveal()) if given else None
        if minted is not None:
            known = access.token(c, minted.id)
            if known is not None and known.digest == minted.digest and known.revoked is None:
                return None
        elif access.any_principal(c):
            return None
        row = access.principal(c, FIRST)
        if row is None:
            access.add_principal(c, new_id(), FIRST, Kind.USER, stored.to_json([Grant(Role.ADMIN)]))
            row = cast(Row, access.principal(c, FIRST))
        made = minted or tokens.mint(os.urandom)
        if access.token(c, made.id) is not None:
            access.replace_digest(c, made.id, made.digest)
        else:
            access.add_token(c, access.NewToken(made.id, row.id, made.digest, "first"))
        record(c, SYSTEM, Action.TOKEN_WRITE, f"first token {made.id} of {FIRST}")
    return None if minted is not None else made.text


def sees(who: Principal, action: Action, grants: Sequence[Grant]) -> bool:
    """Whether somebody with ``grants`` is known where ``who`` may do ``action``."""
    scopes = visible_scopes(who, action)
    return "" in scopes or any(covers(scope, grant.scope) for scope in scopes for grant in grants)


def _where(who: Principal) -> str:
    """Users have no scope of their own: who may make users anywhere may make them, with roles for there."""
    for grant in who.grants:
        if allows(who, Action.USER_WRITE, grant.scope):
            return grant.scope
    return who.grants[0].scope if who.grants else ""


def may_give(who: Principal, grants: Sequence[Grant]) -> None:
    """Raise AccessError unless ``who`` could give all of ``grants``."""
    for grant in grants:
        if not may_grant(who, grant):
            where = f" in {grant.scope!r}" if grant.scope else ""
            raise AccessError(f"{who.name} cannot give or take the role {grant.role}{where}", hint="ask who has it")


def _rules(grants: Sequence[Grant]) -> bool:
    return any(grant.role is Role.ADMIN for grant in grants)


def _existing(c: Connection, name: str, *, to_change: bool = False) -> User:
    row = access.principal(c, name, to_change=to_change)
    if row is None:
        raise NoSuch(f"there is no user {name!r}")
    return _user(row)


def _user(row: Row) -> User:
    return User(row.id, row.name, row.kind, stored.from_json(row.grants), bool(row.disabled), row.created)
