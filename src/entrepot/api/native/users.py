"""/api/v1/users: who may come in, with which roles."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Path
from pydantic import Field
from starlette.responses import Response

from entrepot.api import idempotency, paging
from entrepot.api.auth import Ask
from entrepot.api.shape import Answer, Login, PageSize, PageToken, Scope, Wanted, answer, encode, moment, only_known
from entrepot.control import grants as stored
from entrepot.control import users
from entrepot.security.identity import Grant, Kind

router = APIRouter(prefix="/api/v1/users", tags=["users"], dependencies=[Depends(only_known)])

LoginPath = Annotated[str, Path(max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9._@+-]*$")]


class GrantModel(Wanted):
    """A role in a scope and everything below it; the empty scope is everything."""

    role: Literal["admin", "operator", "editor", "reviewer", "reader", "runner"]
    scope: Scope = ""


class NewUser(Wanted):
    """Somebody to let in: a person, or a program (``service``)."""

    name: Login
    kind: Literal["user", "service"] = "user"
    grants: list[GrantModel] = Field(default=[], max_length=stored.GRANTS_MAX)


class UserChange(Wanted):
    """What to change; what is left out stays."""

    grants: list[GrantModel] | None = Field(default=None, max_length=stored.GRANTS_MAX)
    disabled: bool | None = None


class GrantAnswer(Answer):
    """A role in a scope."""

    role: str
    scope: str


class User(Answer):
    """Somebody who may come in."""

    id: str
    name: str
    kind: str
    grants: list[GrantAnswer]
    disabled: bool
    created: str


class Users(Answer):
    """One page of them."""

    users: list[User]
    next_page_token: str


class Myself(Answer):
    """Who the credentials belong to, and what they allow."""

    id: str
    name: str
    kind: str
    token_id: str
    grants: list[GrantAnswer]


@router.post("", response_model=User, status_code=201)
def create(ask: Ask, wanted: NewUser, idempotency_key: idempotency.Key = "") -> Response:
    """Make a user. Nobody gives a role that they do not have."""
    given = read_grants(wanted.grants)
    return idempotency.created(
        ask,
        idempotency_key,
        lambda once: users.create(ask.control, ask.who, wanted.name, given, kind=Kind(wanted.kind), once=once),
        lambda made: encode(shown(made)),
    )


@router.get("", response_model=Users)
def listing(ask: Ask, page_size: PageSize = 100, page_token: PageToken = "") -> Response:
    """Users by name."""
    after = paging.mark(page_token, (str,), "users")
    rows = users.listing(ask.control, ask.who, after[0] if after else "", page_size + 1)
    following = paging.token((rows[page_size - 1].name,) if len(rows) > page_size else None, "users")
    return answer({"users": [shown(row) for row in rows[:page_size]], "next_page_token": following})


@router.get("/-/me", response_model=Myself)
def myself(ask: Ask) -> Response:
    """Who I am."""
    who = ask.who
    grants = [{"role": str(grant.role), "scope": grant.scope} for grant in who.grants]
    return answer({"id": who.id, "name": who.name, "kind": str(who.kind), "token_id": who.token_id, "grants": grants})


@router.get("/{name}", response_model=User)
def read(ask: Ask, name: LoginPath) -> Response:
    """One user."""
    return answer(shown(users.read(ask.control, ask.who, name)))


@router.patch("/{name}", response_model=User)
def update(ask: Ask, name: LoginPath, wanted: UserChange) -> Response:
    """Give other roles, shut out, or let in again."""
    given = None if wanted.grants is None else read_grants(wanted.grants)
    return answer(shown(users.update(ask.control, ask.who, name, grants=given, disabled=wanted.disabled)))


@router.delete("/{name}", status_code=204, response_class=Response)
def remove(ask: Ask, name: LoginPath) -> Response:
    """Forget a user with all tokens and access keys."""
    users.remove(ask.control, ask.who, name)
    return Response(status_code=204)


def read_grants(wanted: list[GrantModel]) -> tuple[Grant, ...]:
    """Grants from a request. Raises RequestError."""
    return stored.read([{"role": one.role, "scope": one.scope} for one in wanted])


def shown(row: users.User) -> dict[str, Any]:
    """A user as it is answered."""
    grants = [{"role": str(grant.role), "scope": grant.scope} for grant in row.grants]
    return {
        "id": row.id, "name": row.name, "kind": row.kind, "grants": grants, "disabled": row.disabled,
        "created": moment(row.created),
    }  # fmt: skip
