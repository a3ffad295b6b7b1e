"""Paths of the server: only inside volumes, and nothing of a connection that reaches into the server itself.

Here names are checked, and the root of a volume is pinned to the directory that it really is. The movers open below
the root step by step and follow no link (``storage.posix``), so that nothing can be slipped in between.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass

from entrepot.model.connection import Connection
from entrepot.model.errors import PlaceError, RequestError, UsageError

SCHEME = "volume://"
PATH_MAX = 4096
_NAME = re.compile(r"[a-z]([a-z0-9-]{0,61}[a-z0-9])?", re.ASCII)
_LOCAL_OPTIONS = frozenset({"key_file", "known_hosts", "token_file", "token", "ca_file", "credential_process"})
_SYSTEM = ("/proc", "/sys", "/dev", "/run", "/boot", "/etc")


@dataclass(slots=True, frozen=True)
class VolumePath:
    """A place inside a volume: ``path`` is relative, without ``.`` and ``..``; empty is the root itself."""

    volume: str
    path: str

    def __str__(self) -> str:
        return f"{SCHEME}{self.volume}/{self.path}"


def check_name(name: str) -> str:
    """``name`` when it can name a volume. Raises RequestError."""
    if not _NAME.fullmatch(name):
        raise RequestError(
            "name", "no name for a volume", hint="a small letter, then small letters, digits and - (at most 63)"
        )
    return name


def parse(text: str) -> VolumePath:
    """Read ``volume://name/path``. Raises UsageError for a path that could lead out, or cannot be one."""
    if not text.startswith(SCHEME):
        raise UsageError("that is no place in a volume", hint="write volume://NAME/path")
    name, _, path = text[len(SCHEME) :].partition("/")
    if not _NAME.fullmatch(name):
        raise UsageError("the name of the volume is none", hint="write volume://NAME/path")
    return VolumePath(name, clean_path(path))


def clean_path(path: str) -> str:
    """A relative path in its one spelling. Raises UsageError for ``..``, absolute paths, NUL and over-long ones.

    Empty parts and ``.`` are left out; nothing is decoded: ``%2e%2e`` is a name of six characters.
    """
    if "\0" in path:
        raise UsageError("the path holds a NUL character", hint="leave it out")
    if path.startswith("/"):
        raise UsageError("the path is absolute", hint="it is relative to the volume: volume://NAME/path")
    parts = [part for part in path.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise UsageError("the path holds '..'", hint="name the directory itself")
    if len(os.fsencode(path)) > PATH_MAX or any(len(os.fsencode(part)) > 255 for part in parts):
        raise UsageError("the path is too long", hint=f"at most {PATH_MAX} bytes, 255 for each part")
    return "/".join(parts)


def open_root(path: str, *, outside: str = "") -> str:
    """The directory that a volume of ``path`` will be, with all links followed now: what an operator opens.

    ``outside`` is the server's own data: a volume may neither hold it nor lie in it. Raises RequestError.
    """
    if not os.path.isabs(path) or "\0" in path or not path.isprintable():
        raise RequestError("path", "not an absolute path", hint="the whole path, from / on")
    real = os.path.realpath(path)
    if not os.path.isdir(real):
        raise RequestError("path", "no such directory on the server", hint="make it first")
    if real == "/" or any(within(real, system) for system in _SYSTEM):
        raise RequestError("path", "a directory of the system", hint="open a directory that holds data only")
    data = os.path.realpath(outside) if outside else ""
    if data and (within(real, data) or within(data, real)):
        raise RequestError("path", "the server's own data lies there", hint="open another directory")
    return real


def resolve(text: str, roots: Mapping[str, str]) -> str:
    """The path on the server of ``volume://name/path``; ``roots`` are the opened ones (:func:`open_root`).

    Raises PlaceError when there is no such volume, when its root was replaced by a link since it was opened, or when
    a link on the way leads out of it.
    """
    place = parse(text)
    root = roots.get(place.volume)
    if root is None:
        raise PlaceError(f"there is no volume {place.volume!r}", hint="an administrator can open one")
    if os.path.realpath(root) != root:
        raise PlaceError(
            f"the directory of volume {place.volume!r} was replaced by a link",
            hint="an administrator must open it anew",
        )
    whole = os.path.join(root, place.path) if place.path else root
    if not within(os.path.realpath(whole), root):
        raise PlaceError(f"{place} leads out of the volume by a link", hint="links out of a volume are not followed")
    return whole


def within(path: str, root: str) -> bool:
    """Whether ``path`` is ``root`` or below it, by whole names. Both without links and dots."""
    return root in (path, "/") or path.startswith(root.rstrip("/") + "/")


def check_connection(connection: Connection) -> None:
    """Refuse what would make the server use files or identities of its own for somebody else.

    Raises RequestError that names the field.
    """
    for field in ("profile", "ca_file"):
        if getattr(connection, field):
            raise RequestError(field, "files of the server cannot be used by connections", hint="leave it out")
    for option in connection.options:
        if option in _LOCAL_OPTIONS and not (option == "token" and connection.options[option] == "anon"):
            raise RequestError(
                f"options.{option}", "files of the server cannot be used by connections", hint="leave it out"
            )
    if connection.provider == "azure" and not connection.access_key:
        # An empty one would be filled from the server's environment.
        raise RequestError("access_key", "the storage account is missing", hint="give the name of the account")
    if connection.provider == "gcs" and connection.options.get("token") != "anon":
        raise RequestError(
            "options.token",
            "the server's own identity at Google cannot be used by connections",
            hint="use HMAC keys with provider generic and endpoint https://storage.googleapis.com, or token anon",
        )
