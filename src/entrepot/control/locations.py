"""Locations in requests: on a server only stored connections and volumes are places, and only for who may use them."""

from __future__ import annotations

import re
from dataclasses import dataclass

from entrepot.ledger import places
from entrepot.ledger.database import Connection, Row
from entrepot.model.errors import RequestError, UsageError
from entrepot.model.location import Location, parse_location
from entrepot.security.identity import Action, Principal, allows, covers

_NAMED = re.compile(r"([A-Za-z][A-Za-z0-9_-]{0,62}):(?!//)([^/]*)(?:/(.*))?", re.DOTALL)
_HINT = "write NAME:bucket/prefix of a stored connection, or volume://name/path"


@dataclass(slots=True, frozen=True)
class Spot:
    """A place of a request that may be used: as the ledger keeps it, and what it stands on."""

    text: str
    location: Location
    connection: Row | None = None
    volume: Row | None = None

    @property
    def connection_id(self) -> str:
        """The stored connection's id; empty for a volume."""
        return str(self.connection.id) if self.connection is not None else ""


def spot(c: Connection, who: Principal, scope: str, field: str, text: str, *, writing: bool = False) -> Spot:
    """The place that ``text`` means to a task in ``scope``.

    Raises RequestError that names ``field`` for everything else; a place that exists but is not for ``who`` is
    answered as one that does not exist.
    """
    if text.lower().startswith("volume://"):
        return _volume(c, who, scope, field, text, writing)
    named = _NAMED.fullmatch(text)
    if not named:
        raise RequestError(field, "only stored connections and volumes are places on a server", hint=_HINT)
    name, bucket, prefix = named[1], named[2], named[3] or ""
    found = places.find_connection(c, scope, name)
    if found is None or not allows(who, Action.CONNECTION_USE, found.scope or scope):
        raise RequestError(field, f"there is no connection {name!r} here", hint=_HINT)
    if not bucket and found.provider not in {"webdav", "sftp"}:
        raise RequestError(field, "no bucket is named", hint=f"write {name}:BUCKET/prefix")
    if not bucket.isprintable() or len(bucket) > 255 or bucket in {".", ".."} or set(bucket) & set("?#\\@ "):
        raise RequestError(field, "the name of the bucket is none")
    raw = prefix.encode()
    location = Location("connection", bucket, raw if not raw or raw.endswith(b"/") else raw + b"/", connection=name)
    return Spot(str(location), location, connection=found)


def _volume(c: Connection, who: Principal, scope: str, field: str, text: str, writing: bool) -> Spot:
    try:
        location = parse_location(text)
    except UsageError as fault:
        raise RequestError(field, fault.message, hint=fault.hint) from None
    found = places.volume(c, location.bucket)
    if found is None or not covers(found.scope, scope) or not allows(who, Action.VOLUME_USE, scope):
        raise RequestError(field, f"there is no volume {location.bucket!r}", hint=_HINT)
    if writing and found.read_only:
        raise RequestError(field, f"the volume {location.bucket!r} is for reading only")
    return Spot(str(location), location, volume=found)
