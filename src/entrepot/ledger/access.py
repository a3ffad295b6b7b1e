"""Who may come in: principals, their tokens (digests only) and their access keys (secrets sealed)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .database import Connection, Row

_ADD_PRINCIPAL = """INSERT INTO principal (id, name, kind, grants, disabled, created)
    VALUES (:id, :name, :kind, :grants, 0, now())"""
_PRINCIPALS = "SELECT * FROM principal WHERE name > :after ORDER BY name LIMIT :limit"

_ADD_BEARER = """INSERT INTO token (id, principal_id, name, digest, grants, created, expires)
    VALUES (:id, :principal_id, :name, :digest, :grants, now(), :expires)"""
_BEARER = """SELECT token.*, principal.name AS principal_name, principal.kind AS principal_kind,
        principal.grants AS principal_grants, principal.disabled AS principal_disabled, now() AS moment
    FROM token JOIN principal ON principal.id = token.principal_id WHERE token.id = :id"""
_BEARERS = """SELECT token.*, principal.name AS principal_name FROM token
    JOIN principal ON principal.id = token.principal_id
    WHERE token.id > :after{narrow} ORDER BY token.id LIMIT :limit"""
_OF_PRINCIPAL = " AND token.principal_id = :principal_id"
_REVOKE = "UPDATE {table} SET revoked = now() WHERE id = :id AND revoked IS NULL"
_TOUCH = "UPDATE {table} SET last_used = now() WHERE id = :id"

_ADD_KEY = """INSERT INTO access_key (id, principal_id, secret, created)
    VALUES (:id, :principal_id, :secret, now())"""
_KEY = """SELECT access_key.*, principal.name AS principal_name, principal.kind AS principal_kind,
        principal.grants AS principal_grants, principal.disabled AS principal_disabled, now() AS moment
    FROM access_key JOIN principal ON principal.id = access_key.principal_id WHERE access_key.id = :id"""
_KEYS = """SELECT access_key.*, principal.name AS principal_name FROM access_key
    JOIN principal ON principal.id = access_key.principal_id
    WHERE access_key.id > :after{narrow} ORDER BY access_key.id LIMIT :limit"""


@dataclass(slots=True, frozen=True)
class NewToken:
    """A token to be kept. ``grants`` is JSON, empty for all that its owner may do; ``expires`` is Unix time."""

    id: str
    principal_id: str
    digest: str
    name: str = ""
    grants: str = ""
    expires: float | None = None


def add_principal(c: Connection, principal_id: str, name: str, kind: str, grants: str) -> None:
    """Insert one; the name must be free."""
    c.change(_ADD_PRINCIPAL, {"id": principal_id, "name": name, "kind": kind, "grants": grants})


def principal(c: Connection, name: str, *, to_change: bool = False) -> Row | None:
    """The principal of that name."""
    return c.first("SELECT * FROM principal WHERE name = :name" + (" FOR UPDATE" if to_change else ""), {"name": name})


def principal_by_id(c: Connection, principal_id: str) -> Row | None:
    """The principal of that id."""
    return c.first("SELECT * FROM principal WHERE id = :id", {"id": principal_id})


def principals(c: Connection, after: str, limit: int) -> list[Row]:
    """Principals by name."""
    return c.execute(_PRINCIPALS, {"after": after, "limit": limit})


def any_principal(c: Connection) -> bool:
    """Whether there is any."""
    return c.value("SELECT 1 FROM principal LIMIT 1") is not None


def change_principal(c: Connection, principal_id: str, grants: str, disabled: bool) -> None:
    """Give it other grants, or shut it out."""
    c.change(
        "UPDATE principal SET grants = :grants, disabled = :disabled WHERE id = :id",
        {"id": principal_id, "grants": grants, "disabled": int(disabled)},
    )


def remove_principal(c: Connection, principal_id: str) -> None:
    """Forget it with its tokens and access keys."""
    for table in ("token", "access_key"):
        c.change(f"DELETE FROM {table} WHERE principal_id = :id", {"id": principal_id})
    c.change("DELETE FROM principal WHERE id = :id", {"id": principal_id})


def add_token(c: Connection, new: NewToken) -> None:
    """Keep a token's digest."""
    values = {name: getattr(new, name) for name in NewToken.__slots__}
    c.change(_ADD_BEARER, values)


def token(c: Connection, token_id: str) -> Row | None:
    """A token with its principal, and ``moment``: the time of the database."""
    return c.first(_BEARER, {"id": token_id})


def tokens(c: Connection, principal_id: str, after: str, limit: int) -> list[Row]:
    """Tokens of one principal, or of all (``principal_id`` "")."""
    query = _BEARERS.format(narrow=_OF_PRINCIPAL if principal_id else "")
    return c.execute(query, {"principal_id": principal_id, "after": after, "limit": limit})


def replace_digest(c: Connection, token_id: str, digest: str) -> None:
    """For the token that an operator brings along: the same one again."""
    c.change("UPDATE token SET digest = :digest, revoked = NULL WHERE id = :id", {"id": token_id, "digest": digest})


def revoke_token(c: Connection, token_id: str) -> bool:
    """From now on it opens nothing; False when it was revoked before."""
    return c.change(_REVOKE.format(table="token"), {"id": token_id}) > 0


def touch(c: Connection, kind: str, row_id: str) -> None:
    """Note that a "token" or an "access_key" was used."""
    c.change(_TOUCH.format(table="token" if kind == "token" else "access_key"), {"id": row_id})


def add_key(c: Connection, key_id: str, principal_id: str, secret: str) -> None:
    """Keep a pair of keys, the secret one sealed."""
    c.change(_ADD_KEY, {"id": key_id, "principal_id": principal_id, "secret": secret})


def key(c: Connection, key_id: str) -> Row | None:
    """An access key with its principal, and ``moment``: the time of the database."""
    return c.first(_KEY, {"id": key_id})


def keys(c: Connection, principal_id: str, after: str, limit: int) -> list[Row]:
    """Access keys of one principal, or of all (``principal_id`` "")."""
    narrow = " AND access_key.principal_id = :principal_id" if principal_id else ""
    values: dict[str, Any] = {"principal_id": principal_id, "after": after, "limit": limit}
    return c.execute(_KEYS.format(narrow=narrow), values)


def revoke_key(c: Connection, key_id: str) -> bool:
    """From now on it opens nothing; False when it was revoked before."""
    return c.change(_REVOKE.format(table="access_key"), {"id": key_id}) > 0
