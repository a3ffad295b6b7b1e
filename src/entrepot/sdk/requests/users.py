"""Users: who may come in, with which roles."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal

from entrepot.sdk.call import Call, Pages, creating, given, nothing, pages
from entrepot.sdk.reading import reader
from entrepot.sdk.values import Grant, Myself, User

from .paths import path

Grants = Iterable[Grant | Mapping[str, str] | str]
"""Roles: ``Grant("editor", "team/a")``, ``{"role": …, "scope": …}``, or just ``"editor"`` for everything."""
_user = reader(User)


def create(
    name: str, *, grants: Grants = (), kind: Literal["user", "service"] = "user", idempotency_key: str = ""
) -> Call[User]:
    """Let somebody in: a person, or a program (``service``). Nobody gives a role that they do not have."""
    body = {"name": name, "kind": kind, "grants": grants_out(grants)}
    return creating(path("users"), body, _user, idempotency_key)


def list_(*, page_size: int = 0) -> Pages[User]:
    """Users by name."""
    return pages(path("users"), "users", _user, {}, page_size)


def get(name: str) -> Call[User]:
    """One user."""
    return Call("GET", path("users", name), _user)


def me() -> Call[Myself]:
    """Who the credentials belong to."""
    return Call("GET", path("users", "-", "me"), reader(Myself))


def update(name: str, *, grants: Grants | None = None, disabled: bool | None = None) -> Call[User]:
    """Give other roles, shut out, or let in again."""
    body = given(grants=None if grants is None else grants_out(grants), disabled=disabled)
    return Call("PATCH", path("users", name), _user, body=body, again=True)


def delete(name: str) -> Call[None]:
    """Forget a user with all tokens and access keys."""
    return Call("DELETE", path("users", name), nothing)


def grants_out(grants: Grants) -> list[dict[str, Any]]:
    """Roles as a request has them."""
    found: list[dict[str, Any]] = []
    for one in grants:
        if isinstance(one, Grant):
            found.append({"role": one.role, "scope": one.scope})
        else:
            found.append({"role": one, "scope": ""} if isinstance(one, str) else dict(one))
    return found
