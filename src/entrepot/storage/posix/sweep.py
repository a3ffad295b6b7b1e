"""Removing what dead runs left: staging directories, and temporary names beside final ones."""

from __future__ import annotations

import os
from collections.abc import Collection

from .files import unlink_quietly
from .names import STAGING_PREFIX
from .root import Root

FOREIGN = b"foreign"
"""A file in a staging directory that names the directories where temporary names lie beside final ones."""

_OPEN_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def sweep(root: Root, tags_alive: Collection[str]) -> list[str]:
    """Remove the staging directories of all tags but those alive; their names, for the log."""
    gone = []
    for name in os.listdir(root.fd):
        raw = os.fsencode(name)
        if not raw.startswith(STAGING_PREFIX) or name[len(STAGING_PREFIX) :] in tags_alive:
            continue
        if remove_staging(root, raw):
            gone.append(name)
    return gone


def remove_staging(root: Root, name: bytes) -> bool:
    """Remove one staging directory with all it holds, and what it left beside final names."""
    try:
        fd = os.open(name, _OPEN_DIRECTORY, dir_fd=root.fd)
    except OSError:
        return False
    try:
        for entry in os.listdir(fd):
            raw = os.fsencode(entry)
            if raw == FOREIGN:
                _sweep_foreign(root, fd, name + b"-")
            unlink_quietly(raw, fd)
    finally:
        os.close(fd)
    try:
        os.rmdir(name, dir_fd=root.fd)
    except OSError:
        return False
    return True


def _sweep_foreign(root: Root, fd: int, prefix: bytes) -> None:
    notes = os.open(FOREIGN, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=fd)
    with os.fdopen(notes, "rb") as file:
        parents = file.read().split(b"\0")[:-1]
    for parent in parents:
        try:
            home = root.directory(parent)
            real = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=home)
        except OSError:
            continue
        try:
            for entry in os.listdir(real):
                if os.fsencode(entry).startswith(prefix):
                    unlink_quietly(os.fsencode(entry), real)
        finally:
            os.close(real)
