"""Volumes: directories of the server that an administrator opens by name."""

from __future__ import annotations

from entrepot.sdk.call import Call, Pages, creating, nothing, pages
from entrepot.sdk.reading import reader
from entrepot.sdk.values import Volume

from .paths import path as path_of

_volume = reader(Volume)


def create(
    name: str, path: str, *, scope: str = "", read_only: bool = False, idempotency_key: str = ""
) -> Call[Volume]:
    """Open a directory that exists at the server, for tasks in a scope and below (empty: for all)."""
    body = {"name": name, "path": path, "scope": scope, "read_only": read_only}
    return creating(path_of("volumes"), body, _volume, idempotency_key)


def list_(*, page_size: int = 0) -> Pages[Volume]:
    """Volumes by name."""
    return pages(path_of("volumes"), "volumes", _volume, {}, page_size)


def get(name: str) -> Call[Volume]:
    """One volume."""
    return Call("GET", path_of("volumes", name), _volume)


def delete(name: str) -> Call[None]:
    """Close a volume; its files stay."""
    return Call("DELETE", path_of("volumes", name), nothing)
