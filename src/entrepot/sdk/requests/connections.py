"""Connections: stored endpoints and credentials; secrets go in and never come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from entrepot.model.connection import Addressing, Provider
from entrepot.model.secret import Secret
from entrepot.sdk.call import Call, Page, Pages, creating, given, nothing, pages
from entrepot.sdk.reading import moment, reader
from entrepot.sdk.values import Checks, Connection, Entry

from .paths import path

SecretText = str | Secret
_connection = reader(Connection)


def create(
    name: str,
    provider: Provider,
    *,
    endpoint: str = "",
    region: str = "",
    access_key: str = "",
    secret_key: SecretText = "",
    session_token: SecretText = "",
    sas: SecretText = "",
    addressing: Addressing = "auto",
    insecure_skip_verify: bool = False,
    disable_ssl: bool = False,
    requester_pays: bool = False,
    options: Mapping[str, str] | None = None,
    max_tasks: int = 0,
    scope: str | None = None,
    idempotency_key: str = "",
) -> Call[Connection]:
    """Store a connection. ``max_tasks`` is how many tasks may use it at once; 0: no limit."""
    body = given(
        name=name, provider=provider, endpoint=endpoint, region=region, access_key=access_key,
        secret_key=_text(secret_key), session_token=_text(session_token), sas=_text(sas), addressing=addressing,
        insecure_skip_verify=insecure_skip_verify, disable_ssl=disable_ssl, requester_pays=requester_pays,
        options=None if options is None else dict(options), max_tasks=max_tasks, scope=scope,
    )  # fmt: skip
    return creating(path("connections"), body, _connection, idempotency_key)


def update(
    name: str,
    *,
    provider: Provider | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    access_key: str | None = None,
    secret_key: SecretText | None = None,
    session_token: SecretText | None = None,
    sas: SecretText | None = None,
    addressing: Addressing | None = None,
    insecure_skip_verify: bool | None = None,
    disable_ssl: bool | None = None,
    requester_pays: bool | None = None,
    options: Mapping[str, str] | None = None,
    max_tasks: int | None = None,
    scope: str | None = None,
) -> Call[Connection]:
    """Change what is given; the rest stays. A new endpoint needs the secrets again."""
    body = given(
        provider=provider, endpoint=endpoint, region=region, access_key=access_key, secret_key=_text(secret_key),
        session_token=_text(session_token), sas=_text(sas), addressing=addressing,
        insecure_skip_verify=insecure_skip_verify, disable_ssl=disable_ssl, requester_pays=requester_pays,
        options=None if options is None else dict(options), max_tasks=max_tasks,
    )  # fmt: skip
    return Call("PATCH", path("connections", name), _connection, query={"scope": scope}, body=body, again=True)


def list_(*, scope: str | None = None, page_size: int = 0) -> Pages[Connection]:
    """Connections by name."""
    return pages(path("connections"), "connections", _connection, {"scope": scope}, page_size)


def get(name: str, *, scope: str | None = None) -> Call[Connection]:
    """One connection, without its secrets."""
    return Call("GET", path("connections", name), _connection, query={"scope": scope})


def delete(name: str, *, scope: str | None = None) -> Call[None]:
    """Forget a connection and its secrets."""
    return Call("DELETE", path("connections", name), nothing, query={"scope": scope})


def test(name: str, place: str = "", *, write: bool = True, scope: str | None = None) -> Call[Checks]:
    """Try a connection step by step. With ``place`` (BUCKET or BUCKET/prefix) also list it, and write and delete."""
    body = {"place": place, "write": write}
    return Call("POST", path("connections", name, verb="test"), reader(Checks), query={"scope": scope}, body=body)


def browse(name: str, place: str = "", *, scope: str | None = None, page_size: int = 0) -> Pages[Entry]:
    """One level of BUCKET or BUCKET/prefix/: what is below a common prefix, and entries."""
    query = {"place": place, "scope": scope, "page_size": page_size or None}
    return Pages(Call("GET", path("connections", name, "browse"), _level, query=query))


def _level(value: Any) -> Page[Entry]:
    prefixes = [Entry(key, prefix=True) for key in value.get("prefixes", ())]
    entries = [
        Entry(one["key"], one["size"], moment(one["modified"]) if one.get("modified") else None)
        for one in value["entries"]
    ]
    return Page((*prefixes, *entries), str(value.get("next_page_token") or ""))


def _text(secret: SecretText | None) -> str | None:
    return secret.reveal() if isinstance(secret, Secret) else secret
