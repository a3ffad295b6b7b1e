"""Tokens and access keys: made, shown once, revoked."""

from __future__ import annotations

from entrepot.sdk.call import Call, Pages, creating, given, nothing, pages
from entrepot.sdk.reading import reader
from entrepot.sdk.values import AccessKey, FreshAccessKey, FreshToken, Token

from .paths import path
from .users import Grants, grants_out


def create(
    *,
    name: str = "",
    user: str | None = None,
    grants: Grants | None = None,
    expires_days: float | None = None,
    idempotency_key: str = "",
) -> Call[FreshToken]:
    """Make a token, one's own unless ``user`` is given. ``grants`` narrow it; ``expires_days`` 0: never.

    Its text is in this answer and nowhere else.
    """
    narrowed = None if grants is None else grants_out(grants)
    body = given(name=name, user=user, grants=narrowed, expires_days=expires_days)
    return creating(path("tokens"), body, reader(FreshToken), idempotency_key)


def list_(*, user: str = "", page_size: int = 0) -> Pages[Token]:
    """Tokens of oneself, of ``user``, or (``*``) of everybody, for those who may see them."""
    return pages(path("tokens"), "tokens", reader(Token), {"user": user}, page_size)


def revoke(token_id: str) -> Call[None]:
    """From now on it opens nothing."""
    return Call("DELETE", path("tokens", token_id), nothing)


def create_key(*, user: str | None = None, idempotency_key: str = "") -> Call[FreshAccessKey]:
    """Make a pair of access key and secret key, for signed requests."""
    return creating(path("access-keys"), given(user=user), reader(FreshAccessKey), idempotency_key)


def list_keys(*, user: str = "", page_size: int = 0) -> Pages[AccessKey]:
    """Access keys, as :func:`list_` does."""
    return pages(path("access-keys"), "access_keys", reader(AccessKey), {"user": user}, page_size)


def revoke_key(access_key: str) -> Call[None]:
    """Revoke a pair of keys."""
    return Call("DELETE", path("access-keys", access_key), nothing)
