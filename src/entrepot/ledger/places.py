"""The places that a server knows by name: connections (secrets sealed) and volumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from .database import Connection, Row
from .scopes import within

_LIVE = "'QUEUED', 'SCANNING', 'RUNNING', 'PAUSED', 'REVIEW'"

_ADD = """INSERT INTO connection
    (id, name, scope, task_id, provider, endpoint, document, secrets, max_tasks, creator, created, updated)
    VALUES (:id, :name, :scope, :task_id, :provider, :endpoint, :document, :secrets, :max_tasks, :creator,
        now(), now())"""
_CHANGE = """UPDATE connection SET provider = :provider, endpoint = :endpoint, document = :document,
    secrets = :secrets, max_tasks = :max_tasks, updated = now() WHERE id = :id"""
_NAMED = "SELECT * FROM connection WHERE name = :name AND scope = :scope AND task_id = ''"
_BY_ENDPOINT = """SELECT * FROM connection WHERE endpoint = :endpoint AND scope IN (:scope, '') AND task_id = ''
    ORDER BY scope DESC, created, id LIMIT 1"""
_LISTING = """SELECT * FROM connection WHERE task_id = '' AND {condition}
    AND (name > :name OR (name = :name AND scope > :scope)) ORDER BY name, scope LIMIT :limit"""
_USED = f"""SELECT id FROM task WHERE state IN ({_LIVE})
    AND (source_connection = :id OR destination_connection = :id) LIMIT 1"""

_ADD_VOLUME = """INSERT INTO volume (id, name, path, scope, read_only, creator, created)
    VALUES (:id, :name, :path, :scope, :read_only, :creator, now())"""
_VOLUME_USED = f"""SELECT id FROM task WHERE state IN ({_LIVE})
    AND (source = :root OR destination = :root OR source LIKE :below ESCAPE '\\' OR destination LIKE :below ESCAPE '\\')
    LIMIT 1"""


@dataclass(slots=True, frozen=True)
class StoredConnection:
    """A row to be written. ``document`` is JSON without secrets, ``secrets`` JSON of sealed texts by field.

    A hidden one (``task_id``) belongs to that task and goes with it.
    """

    id: str
    name: str
    provider: str
    endpoint: str
    document: str
    secrets: str
    scope: str = ""
    task_id: str = ""
    max_tasks: int = 0
    creator: str = ""


def add_connection(c: Connection, new: StoredConnection) -> None:
    """Insert one; the name must be free in its scope."""
    c.change(_ADD, _values(new))


def change_connection(c: Connection, new: StoredConnection) -> None:
    """Write it anew; name, scope, task and creator stay."""
    c.change(_CHANGE, _values(new))


def _values(new: StoredConnection) -> dict[str, Any]:
    return {name: getattr(new, name) for name in StoredConnection.__slots__}


def connection(c: Connection, connection_id: str) -> Row | None:
    """The connection of that id, hidden ones too."""
    return c.first("SELECT * FROM connection WHERE id = :id", {"id": connection_id})


def connection_in(c: Connection, scope: str, name: str, *, to_change: bool = False) -> Row | None:
    """The connection of that name in exactly this scope."""
    return c.first(_NAMED + (" FOR UPDATE" if to_change else ""), {"scope": scope, "name": name})


def find_connection(c: Connection, scope: str, name: str) -> Row | None:
    """What a name means to a task: the connection in the task's scope, else the one for all."""
    return connection_in(c, scope, name) or (connection_in(c, "", name) if scope else None)


def find_by_endpoint(c: Connection, scope: str, endpoint: str) -> Row | None:
    """The oldest connection to an endpoint, in a scope before the ones for all."""
    return c.first(_BY_ENDPOINT, {"scope": scope, "endpoint": endpoint})


def connections(
    c: Connection,
    scopes: Sequence[str],
    after: tuple[str, str] = ("", ""),
    limit: int = 100,
    *,
    shared: bool = False,
) -> list[Row]:
    """Connections at and below ``scopes`` by (name, scope); with ``shared`` also those for all."""
    condition, values = within("scope", scopes)
    if shared:
        condition = f"({condition} OR scope = '')"
    named = {"name": after[0], "scope": after[1], "limit": limit, **values}
    return c.execute(_LISTING.format(condition=condition), named)


def remove_connection(c: Connection, connection_id: str) -> None:
    """Forget it and its secrets."""
    c.change("DELETE FROM connection WHERE id = :id", {"id": connection_id})


def user_of(c: Connection, connection_id: str) -> str:
    """A task that is not done and uses the connection; empty when there is none."""
    return str(c.value(_USED, {"id": connection_id}) or "")


@dataclass(slots=True, frozen=True)
class StoredVolume:
    """A directory that is opened, for tasks at and below ``scope``."""

    id: str
    name: str
    path: str
    scope: str = ""
    read_only: bool = False
    creator: str = ""


def add_volume(c: Connection, new: StoredVolume) -> None:
    """Insert one; the name must be free."""
    values = {name: getattr(new, name) for name in StoredVolume.__slots__}
    c.change(_ADD_VOLUME, {**values, "read_only": int(new.read_only)})


def volume(c: Connection, name: str, *, to_change: bool = False) -> Row | None:
    """The volume of that name."""
    return c.first("SELECT * FROM volume WHERE name = :name" + (" FOR UPDATE" if to_change else ""), {"name": name})


def volumes(c: Connection, after: str = "", limit: int = 100) -> list[Row]:
    """Volumes by name."""
    query = "SELECT * FROM volume WHERE name > :after ORDER BY name LIMIT :limit"
    return c.execute(query, {"after": after, "limit": limit})


def remove_volume(c: Connection, volume_id: str) -> None:
    """Close it to the server; its files stay."""
    c.change("DELETE FROM volume WHERE id = :id", {"id": volume_id})


def volume_user(c: Connection, name: str) -> str:
    """A task that is not done and uses the volume; empty when there is none."""
    below = f"volume://{name}/".replace("\\", "\\\\").replace("_", "\\_").replace("%", "\\%") + "%"
    return str(c.value(_VOLUME_USED, {"root": f"volume://{name}", "below": below}) or "")
