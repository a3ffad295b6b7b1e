"""The two places of a task: opening what was typed, and every check before anything is written."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from entrepot.model.connection import Connection
from entrepot.model.errors import GuardError, PlaceError, StoreError, UsageError
from entrepot.model.location import Location, parse_location
from entrepot.model.options import PRESERVABLE, SyncOptions
from entrepot.model.task import TaskSpec
from entrepot.storage.base import Store
from entrepot.storage.registry import open_store, preload

from .environment import WorkEnvironment

if TYPE_CHECKING:
    from entrepot.transfer.keyfile import KeyFile


@dataclass(slots=True, frozen=True)
class PreflightResult:
    """Canonical names of both places (``place|prefix``), and what the person should know."""

    source_identity: str
    destination_identity: str
    warnings: tuple[str, ...] = ()


def prepare(spec: TaskSpec, env: WorkEnvironment) -> None:
    """Load the code that both places need. Raises UsageError for places that nothing serves."""
    for text in (spec.source, spec.destination):
        location = parse_location(text)
        preload(*(Location("file", "", b"/"), None) if location.scheme == "volume" else locate(text, env))


def open_place(text: str, env: WorkEnvironment, *, create: bool = False) -> Store:
    """Open what a person typed, with its stored connection if it names one.

    ``create`` makes a directory in a volume that is missing.
    """
    return open_store(*locate(text, env, create=create), state_dir=env.state_dir)


def locate(text: str, env: WorkEnvironment, *, create: bool = False) -> tuple[Location, Connection | None]:
    """The place that a text means to this task, and the connection that it names. Raises UsageError."""
    location = parse_location(text)
    connection: Connection | None = None
    if location.scheme == "volume":
        return _in_volume(location, env, create), None
    if location.scheme == "connection":
        connection = env.connection(location.connection)
        if connection is None:
            raise UsageError(
                f"there is no connection named {location.connection!r}",
                hint="`entrepot connection list` shows them; `entrepot connection add` makes one",
            )
    return location, connection


def _in_volume(location: Location, env: WorkEnvironment, create: bool) -> Location:
    root = env.volume(location.bucket)
    if root is None:
        raise UsageError(
            f"there is no volume named {location.bucket!r}", hint="volumes are made by the operator of a server"
        )
    # Only servers have volumes: a run of the command line does not load this.
    from entrepot.storage.posix.volume import inside

    return inside(location, root, create=create)


def preflight(spec: TaskSpec, env: WorkEnvironment) -> PreflightResult:
    """Check both places before anything is written.

    Raises PlaceError (missing, not allowed), GuardError (overlap) or UsageError.
    """
    options = SyncOptions.from_json(spec.options)
    source, destination = open_place(spec.source, env), open_place(spec.destination, env)
    if options.list and options.delete != "none":
        raise UsageError("a key list cannot be combined with delete", hint="leave one of them out")
    if options.list:
        listed_keys(options.list, env).close()
    if options.symlinks == "copy" and not (source.location.is_file and destination.location.is_file):
        raise UsageError("symlinks can be copied between file systems only", hint="use --symlinks skip or follow")
    if options.symlinks == "follow" and source.location.shown:
        raise UsageError(f"{source.location}: links in a volume are not followed", hint="choose symlinks skip or copy")
    refuse_overlap(source, destination)
    _refuse_tags(source, destination, options)
    check_place(source, "source")
    if not destination.location.is_file:
        check_place(destination, "destination")
    else:
        _check_directory(destination.location)
    return PreflightResult(_name(source), _name(destination))


def refuse_overlap(source: Store, destination: Store) -> None:
    """Raise GuardError when one place lies in the other (fault case 29; alias-aware by identity)."""
    (here, mine), (there, theirs) = source.identity(), destination.identity()
    if here != there:
        return
    if source.location.is_file:
        theirs = _one_name(theirs, mine)
        mine = _one_name(mine, theirs)
    if mine == theirs:
        raise GuardError(f"source and destination are the same place: {source.location}")
    if theirs.startswith(mine):
        raise GuardError(
            f"the destination {destination.location} lies inside the source {source.location}",
            hint="choose places that do not contain each other",
        )
    if mine.startswith(theirs):
        raise GuardError(
            f"the source {source.location} lies inside the destination {destination.location}",
            hint="choose places that do not contain each other",
        )


def _refuse_tags(source: Store, destination: Store, options: SyncOptions) -> None:
    """Tags travel only in copies inside one store; who asks for them (by name) shall not lose them in silence."""
    if "tags" not in options.preserve or set(options.preserve) == set(PRESERVABLE):
        return
    inside = not (source.location.is_file or destination.location.is_file) and options.server_side
    if not inside or options.storage_class or not destination.can_server_copy_from(source):
        raise UsageError(
            "tags can be kept only by copies inside one store",
            hint="leave tags out of --preserve, or let the store copy by itself",
        )


def _one_name(path: bytes, other: bytes) -> bytes:
    """``path`` in terms of ``other`` where a directory above it is the same one (mounted a second time)."""
    try:
        wanted = os.stat(other)
    except OSError:
        return path
    above = path
    while len(above) > 1:
        try:
            found = os.stat(above)
        except OSError:
            pass
        else:
            if (found.st_dev, found.st_ino) == (wanted.st_dev, wanted.st_ino):
                return other + path[len(above) :]
        above = above[: above.rstrip(b"/").rfind(b"/") + 1]
    return path


def check_place(store: Store, role: str) -> None:
    """Raise PlaceError when a store cannot be used."""
    try:
        store.check()
    except StoreError as error:
        message, here = error.message, store.location
        if here.shown:
            message = message.replace(os.fsdecode(here.prefix), here.shown)
        raise PlaceError(f"{role}: {message}", hint=error.hint) from error


def _check_directory(location: Location) -> None:
    path = os.fsdecode(location.prefix)
    if os.path.lexists(path) and not os.path.isdir(path):
        raise PlaceError(
            f"destination: {location} is not a directory",
            hint="sync works on directories; use `entrepot cp` for one file",
        )


def _name(store: Store) -> str:
    place, prefix = store.identity()
    return f"{place}|{os.fsdecode(prefix)}"


def listed_keys(path: str, env: WorkEnvironment) -> KeyFile:
    """The keys of a list. Raises UsageError that names the line."""
    # Few runs have a list: its module stays out of the start of all others.
    from entrepot.transfer.keyfile import open_keys

    return open_keys(path, env.state_dir)
