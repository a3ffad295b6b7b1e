"""What a task of the server stands on: its connections with their secrets, and the directories of its volumes."""

from __future__ import annotations

from dataclasses import dataclass, field

from entrepot.control.connections import opened
from entrepot.ledger import places
from entrepot.ledger.database import Connection as Transaction
from entrepot.ledger.tasks import Task
from entrepot.model.connection import Connection
from entrepot.model.errors import UsageError
from entrepot.model.location import Location, parse_location
from entrepot.security.keyring import Keyring


@dataclass(slots=True)
class Places:
    """By the names that the task's locations use."""

    connections: dict[str, Connection] = field(default_factory=dict)
    volumes: dict[str, str] = field(default_factory=dict)


def resolve(c: Transaction, keyring: Keyring, task: Task) -> Places:
    """Everything that the task's locations name, as it is now. Raises UsageError; no message holds a secret."""
    found = Places()
    ends = (
        (task.spec.source, task.filing.source_connection, False),
        (task.spec.destination, task.filing.destination_connection, task.spec.kind == "sync"),
    )
    for text, connection_id, writing in ends:
        location = parse_location(text)
        if location.scheme == "connection":
            _connect(c, keyring, task, location, connection_id, found)
        elif location.scheme == "volume":
            found.volumes[location.bucket] = _volume(c, location, writing)
        else:
            raise UsageError(
                f"{location}: only stored connections and volumes are places on a server",
                hint="write NAME:bucket/prefix, or volume://name/path",
            )
    return found


def _connect(
    c: Transaction, keyring: Keyring, task: Task, location: Location, connection_id: str, found: Places
) -> None:
    """The connection that was meant when the task was made; one of that name when it is gone."""
    row = places.connection(c, connection_id) if connection_id else None
    if row is None or row.name != location.connection:
        row = places.find_connection(c, task.filing.scope, location.connection)
    if row is None:
        raise UsageError(f"{location}: there is no connection named {location.connection!r} any more")
    known = found.connections.get(location.connection)
    stored = opened(keyring, row)
    if known is not None and known != stored:
        raise UsageError(f"{location}: source and destination mean different connections by {location.connection!r}")
    found.connections[location.connection] = stored


def _volume(c: Transaction, location: Location, writing: bool) -> str:
    row = places.volume(c, location.bucket)
    if row is None:
        raise UsageError(f"{location}: there is no volume named {location.bucket!r} any more")
    if writing and row.read_only:
        raise UsageError(f"{location}: the volume {location.bucket} is for reading only")
    return str(row.path)
