"""Connections of a server: endpoints with credentials, kept sealed, shown without their secrets."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass, replace
from typing import Any, Final, cast, get_args

from entrepot.ledger import places
from entrepot.ledger.database import Connection as Ledger
from entrepot.ledger.database import Row
from entrepot.ledger.ids import new_id
from entrepot.ledger.places import StoredConnection
from entrepot.model.connection import Addressing, Connection, Provider
from entrepot.model.errors import Conflict, EntrepotError, NoSuch, RequestError, WrongState
from entrepot.model.secret import Secret
from entrepot.security import volumes as local
from entrepot.security.identity import Action, Principal, allows
from entrepot.security.keyring import Keyring

from .auditing import change
from .context import Control
from .once import NEVER, Once
from .scoping import readable, scope_of

SECRETS: Final = ("access_key", "secret_key", "session_token", "sas")
"""Fields that are sealed at rest."""
_OPEN: Final = ("region", "addressing", "insecure_skip_verify", "disable_ssl", "requester_pays", "options")
_KEYLESS: Final = frozenset({"hdfs"})
"""Providers whose libraries connect by themselves, past the policy for outgoing connections."""


@dataclass(slots=True, frozen=True)
class Described:
    """A stored connection without its secrets. ``held`` names those that are set; ``access_key`` is masked."""

    id: str
    name: str
    scope: str
    provider: str
    endpoint: str
    access_key: str
    held: tuple[str, ...]
    document: dict[str, Any]
    max_tasks: int
    creator: str
    created: float
    updated: float


@dataclass(slots=True, frozen=True)
class Draft:
    """A connection to be stored. In a change ``None`` leaves what is there."""

    name: str
    scope: str | None = None
    provider: str | None = None
    endpoint: str | None = None
    access_key: Secret | None = None
    secret_key: Secret | None = None
    session_token: Secret | None = None
    sas: Secret | None = None
    region: str | None = None
    addressing: str | None = None
    insecure_skip_verify: bool | None = None
    disable_ssl: bool | None = None
    requester_pays: bool | None = None
    options: dict[str, str] | None = None
    max_tasks: int | None = None


def create(control: Control, who: Principal, draft: Draft, once: Once = NEVER) -> Described:
    """Store a connection; its name must be free in its scope."""
    scope = scope_of(who, Action.CONNECTION_WRITE, draft.scope)
    connection = _checked(control, _built(draft, Connection(draft.name, "generic")))
    stored = seal(control.keyring, connection, scope=scope, max_tasks=draft.max_tasks or 0, creator=who.name)
    with change(control, who, Action.CONNECTION_WRITE, f"connection {draft.name}", scope) as c:
        once.begin(c, who)
        if places.connection_in(c, scope, draft.name) is not None:
            raise Conflict(
                f"a connection named {draft.name!r} exists already", hint="choose another name, or change it"
            )
        places.add_connection(c, stored)
        made = _described(cast(Row, places.connection(c, stored.id)))
        once.keep(c, who, made)
    return made


def update(control: Control, who: Principal, draft: Draft) -> Described:
    """Change what the draft names; secrets that it does not name stay, unless the endpoint becomes another one."""
    scope = scope_of(who, Action.CONNECTION_WRITE, draft.scope)
    changed = ", ".join(name for name in Draft.__slots__ if getattr(draft, name) is not None and name != "name")
    with change(control, who, Action.CONNECTION_WRITE, f"connection {draft.name}", scope, changed) as c:
        row = _existing(c, who, scope, draft.name, Action.CONNECTION_WRITE, to_change=True)
        before = opened(control.keyring, row)
        _keep_secrets_at_home(before, draft)
        after = _checked(control, _built(draft, before))
        most = row.max_tasks if draft.max_tasks is None else draft.max_tasks
        stored = seal(control.keyring, after, scope=scope, max_tasks=most, creator=row.creator, connection_id=row.id)
        places.change_connection(c, stored)
        return _described(cast(Row, places.connection(c, row.id)))


def read(control: Control, who: Principal, name: str, scope: str | None = None) -> Described:
    """One connection; without ``scope`` also one that is for all."""
    with control.pool.read() as c:
        return _described(_meant(c, who, scope, name, Action.CONNECTION_READ))


def listing(
    control: Control, who: Principal, scope: str | None = None, after: tuple[str, str] = ("", ""), limit: int = 100
) -> list[Described]:
    """Connections that ``who`` may see, by name, those for all among them; with ``scope`` those in it and below."""
    scopes = readable(who, Action.CONNECTION_READ, scope)
    with control.pool.read() as c:
        rows = places.connections(c, scopes, after, limit, shared=scope is None and bool(scopes))
    return [_described(row) for row in rows]


def remove(control: Control, who: Principal, name: str, scope: str | None = None) -> None:
    """Forget a connection and its secrets. Raises WrongState while a task that is not done uses it."""
    scope = scope_of(who, Action.CONNECTION_WRITE, scope)
    with change(control, who, Action.CONNECTION_WRITE, f"connection {name} (removed)", scope) as c:
        row = _existing(c, who, scope, name, Action.CONNECTION_WRITE, to_change=True)
        user = places.user_of(c, row.id)
        if user:
            raise WrongState(f"task {user} uses the connection {name!r}", hint="wait for it, or cancel it first")
        places.remove_connection(c, row.id)


def to_use(control: Control, who: Principal, name: str, scope: str | None = None) -> Connection:
    """A connection with its secrets, for a test or a look. It stays inside the server."""
    with control.pool.read() as c:
        row = _meant(c, who, scope, name, Action.CONNECTION_USE)
    return opened(control.keyring, row)


def opened(keyring: Keyring, row: Row) -> Connection:
    """The connection of a row, its secrets opened."""
    document: dict[str, Any] = json.loads(row.document)
    sealed: dict[str, str] = json.loads(row.secrets)
    secrets = {name: keyring.open(text, place(row.id, name)) for name, text in sealed.items() if name in SECRETS}
    return Connection(
        name=row.name,
        provider=cast(Provider, row.provider),
        endpoint=row.endpoint,
        access_key=secrets["access_key"].reveal() if "access_key" in secrets else "",
        secret_key=secrets.get("secret_key", Secret("")),
        session_token=secrets.get("session_token", Secret("")),
        sas=secrets.get("sas", Secret("")),
        **{name: document[name] for name in _OPEN if name in document},
    )


def seal(
    keyring: Keyring,
    connection: Connection,
    *,
    scope: str = "",
    task_id: str = "",
    max_tasks: int = 0,
    creator: str = "",
    connection_id: str = "",
) -> StoredConnection:
    """The row of a connection, its secrets sealed. One with a ``task_id`` is hidden and goes with that task."""
    connection_id = connection_id or new_id()
    document = {name: getattr(connection, name) for name in _OPEN}
    document["access_key"] = masked(connection.access_key)
    secrets = {}
    for name in SECRETS:
        value = getattr(connection, name)
        text = value.reveal() if isinstance(value, Secret) else value
        if text:
            secrets[name] = keyring.seal(Secret(text), place(connection_id, name), os.urandom)
    return StoredConnection(
        connection_id, connection.name, connection.provider, connection.endpoint, json.dumps(document),
        json.dumps(secrets), scope, task_id, max_tasks, creator,
    )  # fmt: skip


def place(connection_id: str, name: str) -> str:
    """What a secret of a connection is sealed for."""
    return f"connection/{connection_id}/{name}"


def masked(access_key: str) -> str:
    """Enough of an access key to know it again."""
    if not access_key:
        return ""
    return f"{access_key[:4]}…{access_key[-2:]}" if len(access_key) >= 12 else "…"


def _existing(c: Ledger, who: Principal, scope: str, name: str, action: Action, *, to_change: bool = False) -> Row:
    found = places.connection_in(c, scope, name, to_change=to_change)
    if found is None or not allows(who, action, scope):
        raise NoSuch(f"there is no connection {name!r}" + (f" in {scope!r}" if scope else ""))
    return found


def _meant(c: Ledger, who: Principal, scope: str | None, name: str, action: Action) -> Row:
    """What a name means to ``who``: as it means to their tasks."""
    own = scope_of(who, action, scope)
    found = places.connection_in(c, own, name) if scope is not None else places.find_connection(c, own, name)
    if found is None or not allows(who, action, own):
        raise NoSuch(f"there is no connection {name!r}" + (f" in {own!r}" if own else ""))
    return found


def _described(row: Row) -> Described:
    document: dict[str, Any] = json.loads(row.document)
    held = tuple(name for name in SECRETS if name in json.loads(row.secrets))
    access_key = str(document.pop("access_key", ""))
    return Described(
        row.id, row.name, row.scope, row.provider, row.endpoint, access_key, held, document, row.max_tasks,
        row.creator, row.created, row.updated,
    )  # fmt: skip


def _built(draft: Draft, before: Connection) -> Connection:
    given: dict[str, Any] = {}
    for name in ("provider", "endpoint", *_OPEN, "secret_key", "session_token", "sas"):
        value = getattr(draft, name)
        if value is not None:
            given[name] = value
    if draft.access_key is not None:
        given["access_key"] = draft.access_key.reveal()
    return replace(before, **given)


def _keep_secrets_at_home(before: Connection, draft: Draft) -> None:
    """Who may change a connection must not thereby get its secrets sent to a host of theirs."""
    moves = any(
        getattr(draft, name) not in (None, getattr(before, name))
        for name in ("endpoint", "provider", "region", "disable_ssl", "insecure_skip_verify")
    )
    for name in ("secret_key", "session_token", "sas"):
        if moves and getattr(before, name) and getattr(draft, name) is None:
            raise RequestError(name, "it must be given again when the endpoint changes", hint="or give it empty")


def _checked(control: Control, connection: Connection) -> Connection:
    """Raise RequestError for a connection that could not work, or that must not."""
    if connection.provider not in get_args(Provider) or connection.provider in _KEYLESS:
        known = [name for name in get_args(Provider) if name not in _KEYLESS]
        raise RequestError("provider", "no such provider", hint="one of: " + ", ".join(known))
    if connection.addressing not in get_args(Addressing):
        raise RequestError("addressing", "no such way", hint="one of: " + ", ".join(get_args(Addressing)))
    if bool(connection.access_key) != bool(connection.secret_key) and connection.provider not in {"azure", "sftp"}:
        missing = "secret_key" if connection.access_key else "access_key"
        raise RequestError(missing, "access_key and secret_key belong together")
    local.check_connection(connection)
    for name in connection.options:
        if name not in {"anonymous", "token"}:
            raise RequestError(f"options.{name[:64]}", "there is no such option")
    _check_endpoint(control, connection)
    return connection


def _check_endpoint(control: Control, connection: Connection) -> None:
    text = connection.endpoint
    if not text:
        if connection.provider in {"minio", "seaweedfs", "generic", "webdav", "sftp", "aoss"}:
            raise RequestError("endpoint", "this provider needs one", hint="write https://HOST[:PORT]")
        return
    schemes = ("sftp",) if connection.provider == "sftp" else ("http", "https")
    try:
        control.egress.check_url(text, schemes)
    except EntrepotError as fault:
        raise RequestError("endpoint", fault.message, hint=fault.hint) from None
    if "?" in text or "#" in text:
        raise RequestError("endpoint", "it has a query", hint="write https://HOST[:PORT]")
