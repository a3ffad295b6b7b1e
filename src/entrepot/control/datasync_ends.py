"""The ends of a datasync task: from bucket, volume or third-party fields to places that may be used."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Literal

from entrepot.ledger import datasyncs as rows
from entrepot.ledger import places
from entrepot.ledger.database import Connection as Ledger
from entrepot.ledger.database import Row
from entrepot.model.connection import Connection
from entrepot.model.errors import EntrepotError, RequestError, UsageError
from entrepot.model.location import Location
from entrepot.model.secret import Secret
from entrepot.security.identity import Action, Principal, allows, covers
from entrepot.storage.s3.thirdparty import place_for

from .connections import masked
from .context import Control
from .locations import spot

Kind = Literal["bucket", "volume", "third"]


@dataclass(slots=True, frozen=True)
class End:
    """A bucket and prefix, or a volume and path, as the family names them. Empty: not said."""

    id: str = ""
    region: str = ""
    prefix: str = ""
    name: str = ""
    endpoint: str = ""
    zone: str = ""


@dataclass(slots=True, frozen=True)
class Third:
    """A place at another cloud, with the keys for it."""

    type: str = ""
    host: str = ""
    ak: str = ""
    sk: Secret = field(default_factory=lambda: Secret(""))
    path: str = ""

    def shown(self) -> dict[str, str]:
        """As it is answered: nobody sees the keys again."""
        return {"type": self.type, "host": self.host, "ak": masked(self.ak), "sk": "", "path": self.path}


@dataclass(slots=True, frozen=True)
class Found:
    """An end that may be used: the location as the ledger keeps it, and the fields as they are answered."""

    location: str
    end: End
    connection_id: str = ""
    hidden: Connection | None = None


@dataclass(slots=True, frozen=True)
class Surroundings:
    """Who looks for ends, and where: the tool's scope and zone, and the connection that its owner chose."""

    control: Control
    c: Ledger
    who: Principal
    scope: str
    zone: str
    connection: str = ""


def bucket(about: Surroundings, field_name: str, end: End, *, writing: bool) -> Found:
    """A bucket of the connection with the endpoint, else of the default one. Raises RequestError."""
    name = end.name or end.id
    if not name:
        raise RequestError(f"{field_name}.name", "missing", hint="the name of a bucket")
    if "/" in name:
        raise RequestError(f"{field_name}.name", "the name of the bucket is none", hint="the rest belongs into prefix")
    row = _by_endpoint(about, field_name, end) if end.endpoint else _default(about, field_name)
    prefix = _prefix(field_name, end.prefix)
    found = spot(about.c, about.who, about.scope, f"{field_name}.name", f"{row.name}:{name}/{prefix}", writing=writing)
    if found.connection_id != row.id:
        raise RequestError(
            f"{field_name}.endpoint", f"two connections are named {row.name!r}", hint="give one another name"
        )
    shown = replace(
        end, id=end.id or name, name=name, prefix=prefix, endpoint=end.endpoint or row.endpoint,
        zone=end.zone or about.zone,
    )  # fmt: skip
    return Found(found.text, shown, found.connection_id)


def volume(about: Surroundings, field_name: str, end: End, *, writing: bool) -> Found:
    """A volume by its name or id. Raises RequestError."""
    if not (end.name or end.id):
        raise RequestError(f"{field_name}.name", "missing", hint="the name or the id of a volume")
    row = None
    for wanted in (end.name, end.id):
        row = row or (_volume(about, wanted) if wanted else None)
    if row is None:
        shown_name = (end.name or end.id)[:80]
        raise RequestError(f"{field_name}.name", f"there is no volume {shown_name!r}", hint="its name or its id")
    prefix = _prefix(field_name, end.prefix)
    if any(part in ("..", ".") for part in prefix.split("/")):
        raise RequestError(f"{field_name}.prefix", "a path inside the volume has no . and no ..")
    found = spot(
        about.c, about.who, about.scope, f"{field_name}.name", f"volume://{row.name}/{prefix}", writing=writing
    )
    return Found(found.text, replace(end, id=row.id, name=row.name, prefix=prefix, zone=end.zone or about.zone))


def third(about: Surroundings, field_name: str, wanted: Third, hidden_name: str) -> Found:
    """A place at another cloud, by a connection of its own. Raises RequestError."""
    try:
        place = place_for(wanted.type, wanted.host, wanted.ak, wanted.sk.reveal(), wanted.path)
    except UsageError as fault:
        name, _, text = fault.message.partition(": ")
        known = name in Third.__slots__
        where = f"{field_name}.{name}" if known else field_name
        raise RequestError(where, text if known else fault.message, hint=fault.hint) from None
    connection = replace(place.connection, name=hidden_name)
    if connection.endpoint:
        try:
            about.control.egress.check_url(connection.endpoint, ("http", "https"))
        except EntrepotError as fault:
            raise RequestError(f"{field_name}.host", fault.message, hint=fault.hint) from None
    prefix = _prefix(field_name, place.prefix, "path")
    raw = prefix.encode()
    location = Location("connection", place.bucket, raw + b"/" if raw else b"", connection=hidden_name)
    shown = End(place.bucket, connection.region, prefix, place.bucket, wanted.host, "")
    return Found(str(location), shown, hidden=connection)


def below(found: Found, name: str) -> str:
    """The location of a directory right below an end."""
    return f"{found.location.rstrip('/')}/{name}/"


def _prefix(field_name: str, text: str, name: str = "prefix") -> str:
    """Without slashes around it."""
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise RequestError(f"{field_name}.{name}", "it holds control characters")
    return text.strip("/")


def _by_endpoint(about: Surroundings, field_name: str, end: End) -> Row:
    for endpoint in _spellings(end.endpoint, end.name or end.id):
        row = places.find_by_endpoint(about.c, about.scope, endpoint)
        if row is not None and _usable(about, row):
            return row
    raise RequestError(
        f"{field_name}.endpoint", "there is no connection to this endpoint here", hint="store one, or leave it empty"
    )


def _spellings(endpoint: str, bucket_name: str) -> list[str]:
    """How a connection may have the same endpoint: with or without scheme, slash, and the bucket in front."""
    scheme, mark, rest = endpoint.strip().partition("://")
    schemes = [scheme.lower()] if mark else ["https", "http"]
    host = (rest if mark else scheme).rstrip("/")
    hosts = dict.fromkeys((host, host.lower(), host.lower().removeprefix(f"{bucket_name.lower()}.")))
    bare = [f"{one}://{name}" for name in hosts for one in schemes]
    return [endpoint, *bare, *(f"{one}/" for one in bare), *hosts]


def _default(about: Surroundings, field_name: str) -> Row:
    if about.connection:
        row = places.find_connection(about.c, about.scope, about.connection)
        if row is not None and _usable(about, row):
            return row
        raise RequestError(
            f"{field_name}.endpoint", f"the tool's connection {about.connection!r} is not there", hint="store it"
        )
    row = places.find_connection(about.c, about.scope, "default")
    if row is not None and _usable(about, row):
        return row
    known = [row for row in rows.object_stores(about.c, about.scope) if _usable(about, row)]
    if len(known) == 1:
        return known[0]
    text = "there are several connections: name the endpoint of one" if known else "there is no connection here"
    raise RequestError(
        f"{field_name}.endpoint", text, hint="or store one named default, or set properties.connection of the tool"
    )


def _usable(about: Surroundings, row: Row) -> bool:
    return allows(about.who, Action.CONNECTION_USE, row.scope or about.scope)


def _volume(about: Surroundings, wanted: str) -> Row | None:
    row = places.volume(about.c, wanted) or rows.volume_by_id(about.c, wanted)
    seen = row is not None and covers(row.scope, about.scope) and allows(about.who, Action.VOLUME_USE, about.scope)
    return row if seen else None
