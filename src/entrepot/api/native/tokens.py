"""/api/v1/tokens and /api/v1/access-keys: made, shown once, revoked."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Path, Query
from pydantic import Field
from starlette.responses import Response

from entrepot.api import idempotency, paging
from entrepot.api.auth import Ask
from entrepot.api.shape import Answer, Login, PageSize, PageToken, Short, Wanted, answer, encode, moment, only_known
from entrepot.control import grants as stored
from entrepot.control import tokens
from entrepot.control.tokens import AccessKey, Fresh, Token

from .users import GrantAnswer, GrantModel, read_grants

router = APIRouter(prefix="/api/v1", tags=["tokens"], dependencies=[Depends(only_known)])

UserQuery = Annotated[
    str, Query(max_length=128, pattern=r"^([A-Za-z0-9][A-Za-z0-9._@+-]*|\*)?$", description="whose; * for everybody's")
]
TokenId = Annotated[str, Path(max_length=64, pattern=r"^[0-9A-Za-z-]+$")]


class NewToken(Wanted):
    """A token to be made. ``grants`` narrow it: they must be among those of its owner."""

    user: Login | None = Field(default=None, description="whose; left out: one's own")
    name: Short = ""
    grants: list[GrantModel] | None = Field(default=None, max_length=stored.GRANTS_MAX)
    expires_days: float | None = Field(
        default=None, ge=0, le=3650, description="0: never; left out: as the server is set"
    )


class NewAccessKey(Wanted):
    """A pair of keys to be made."""

    user: Login | None = Field(default=None, description="whose; left out: one's own")


class TokenAnswer(Answer):
    """A token without its secret."""

    id: str
    user: str
    name: str
    grants: list[GrantAnswer] | None
    created: str
    expires: str | None
    last_used: str | None
    revoked: str | None


class FreshToken(TokenAnswer):
    """A token that was just made. ``token`` is never shown again."""

    token: str


class Tokens(Answer):
    """One page of them."""

    tokens: list[TokenAnswer]
    next_page_token: str


class KeyAnswer(Answer):
    """An access key without its secret key."""

    access_key: str
    user: str
    created: str
    last_used: str | None
    revoked: str | None


class FreshKey(KeyAnswer):
    """A pair that was just made. ``secret_key`` is never shown again."""

    secret_key: str


class Keys(Answer):
    """One page of them."""

    access_keys: list[KeyAnswer]
    next_page_token: str


@router.post("/tokens", response_model=FreshToken, status_code=201)
def mint(ask: Ask, wanted: NewToken, idempotency_key: idempotency.Key = "") -> Response:
    """Make a token. Its text is in this answer and nowhere else."""
    given = None if wanted.grants is None else read_grants(wanted.grants)
    return idempotency.created(
        ask,
        idempotency_key,
        lambda once: tokens.mint(
            ask.control,
            ask.who,
            user=wanted.user or "",
            name=wanted.name,
            grants=given,
            days=wanted.expires_days,
            once=once,
        ),
        _fresh,
        secret=True,
    )


@router.get("/tokens", response_model=Tokens)
def listing(ask: Ask, user: UserQuery = "", page_size: PageSize = 100, page_token: PageToken = "") -> Response:
    """Tokens of oneself, or of others for those who may see them."""
    after = paging.mark(page_token, (str,), user)
    rows = tokens.listing(ask.control, ask.who, user, after[0] if after else "", page_size + 1)
    following = paging.token((rows[page_size - 1].id,) if len(rows) > page_size else None, user)
    return answer({"tokens": [_token(row) for row in rows[:page_size]], "next_page_token": following})


@router.delete("/tokens/{token_id}", status_code=204, response_class=Response)
def revoke(ask: Ask, token_id: TokenId) -> Response:
    """Revoke a token: from now on it opens nothing."""
    tokens.revoke(ask.control, ask.who, token_id)
    return Response(status_code=204)


@router.post("/access-keys", response_model=FreshKey, status_code=201)
def make_key(ask: Ask, wanted: NewAccessKey, idempotency_key: idempotency.Key = "") -> Response:
    """Make a pair of access key and secret key, for signed requests."""
    return idempotency.created(
        ask,
        idempotency_key,
        lambda once: tokens.make_key(ask.control, ask.who, user=wanted.user or "", once=once),
        _fresh,
        secret=True,
    )


@router.get("/access-keys", response_model=Keys)
def keys(ask: Ask, user: UserQuery = "", page_size: PageSize = 100, page_token: PageToken = "") -> Response:
    """Access keys of oneself, or of others for those who may see them."""
    after = paging.mark(page_token, (str,), user)
    rows = tokens.keys(ask.control, ask.who, user, after[0] if after else "", page_size + 1)
    following = paging.token((rows[page_size - 1].id,) if len(rows) > page_size else None, user)
    return answer({"access_keys": [_key(row) for row in rows[:page_size]], "next_page_token": following})


@router.delete("/access-keys/{access_key}", status_code=204, response_class=Response)
def revoke_key(ask: Ask, access_key: TokenId) -> Response:
    """Revoke a pair of keys."""
    tokens.revoke_key(ask.control, ask.who, access_key)
    return Response(status_code=204)


def _fresh(fresh: Fresh) -> bytes:
    if isinstance(fresh.made, Token):
        return encode({**_token(fresh.made), "token": fresh.secret.reveal()})
    return encode({**_key(fresh.made), "secret_key": fresh.secret.reveal()})


def _token(row: Token) -> dict[str, Any]:
    grants = None if row.grants is None else [{"role": str(one.role), "scope": one.scope} for one in row.grants]
    return {
        "id": row.id, "user": row.user, "name": row.name, "grants": grants, "created": moment(row.created),
        "expires": moment(row.expires), "last_used": moment(row.last_used), "revoked": moment(row.revoked),
    }  # fmt: skip


def _key(row: AccessKey) -> dict[str, Any]:
    return {
        "access_key": row.id, "user": row.user, "created": moment(row.created),
        "last_used": moment(row.last_used), "revoked": moment(row.revoked),
    }  # fmt: skip
