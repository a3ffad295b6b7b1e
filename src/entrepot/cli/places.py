"""What people type as a place, checked before anything starts: schemes, connections, common slips."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from entrepot.model.connection import Connection
from entrepot.model.errors import UsageError
from entrepot.model.location import AZURE_SCHEMES, BRIDGE_SCHEMES, S3_SCHEMES, Location, parse_location

_SCHEMES = sorted(S3_SCHEMES | AZURE_SCHEMES | BRIDGE_SCHEMES | {"file"})
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)(:/{1,3})(.*)", re.DOTALL)


def read_place(text: str, *, directory: bool = True) -> Location:
    """A location from what was typed. Raises UsageError with what was probably meant."""
    found = _SCHEME.fullmatch(text)
    if found and not os.path.lexists(text):
        _check_scheme(text, found[1].lower(), found[2], found[3])
    return parse_location(text, directory=directory)


def _check_scheme(text: str, scheme: str, slashes: str, rest: str) -> None:
    if scheme in {"http", "https"}:
        raise UsageError(
            f"{text}: an endpoint is not a place",
            hint="store it: entrepot connection add NAME --endpoint URL …, then use NAME:BUCKET/PREFIX",
        )
    if scheme in _SCHEMES:
        if slashes == ":/" and not stored_names(scheme):
            raise UsageError(f"{text}: a slash is missing", hint=f"did you mean {scheme}://{rest}?")
        return
    if slashes != "://":
        return
    import difflib

    near = difflib.get_close_matches(scheme, _SCHEMES, n=1, cutoff=0.5)
    named = [name for name in stored_names() if name.lower() == scheme]
    hint = "known schemes: " + ", ".join(_SCHEMES)
    if near:
        hint = f"did you mean {near[0]}://{rest}?"
    if named:
        hint = f"did you mean {named[0]}:{rest}?"
    raise UsageError(f"{text}: unknown scheme {scheme}://", hint=hint)


def full_place(text: str) -> str:
    """What was typed, checked, and with a local path made whole: a task is remembered beyond its directory."""
    location = read_place(text)
    return os.fsdecode(location.prefix) if location.is_file else text


def stored_names(only: str = "") -> list[str]:
    """Names of the stored connections (or just ``only``, if it is one); empty when they cannot be read."""
    from entrepot.service.connections import ConnectionStore

    try:
        return [name for name in ConnectionStore().names() if not only or name == only]
    except UsageError:
        return []


def connection_lookup(*places: str) -> Callable[[str], Connection]:
    """How the engine finds the connection of a ``NAME:…`` place.

    Those of ``places`` are read now: what is wrong with them is told before anything starts, and a run keeps the
    keys it began with in all its processes.
    """
    from entrepot.service.connections import ConnectionStore

    store = ConnectionStore()
    found: dict[str, Connection] = {}

    def find(name: str) -> Connection:
        if name not in found:
            try:
                found[name] = store.get(name)
            except UsageError as fault:
                if name in store:
                    raise
                raise UsageError(fault.message, hint=f"{fault.hint}; a local path is written ./{name}:…") from None
        return found[name]

    for place in places:
        location = parse_location(place)
        if location.scheme == "connection":
            find(location.connection)
    return find


def open_store(location: Location) -> Store:
    """Open a place outside the file system, with its stored connection or the environment."""
    from entrepot.service.statedir import state_directory
    from entrepot.storage import registry

    connection = connection_lookup()(location.connection) if location.scheme == "connection" else None
    return registry.open_store(location, connection, state_dir=state_directory())


if TYPE_CHECKING:
    from entrepot.storage.base import Store

    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType


class Place(_ParamType):
    """The type of SOURCE and DESTINATION: the text itself, completed with connections and paths."""

    name = "place"

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[Any]:
        from click.shell_completion import CompletionItem

        names = [f"{name}:" for name in stored_names() if name.startswith(incomplete)] if ":" not in incomplete else []
        if incomplete and names:
            return [CompletionItem(name) for name in names]
        return [CompletionItem(incomplete, type="file")]


PLACE = Place()
