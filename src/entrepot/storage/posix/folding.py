"""Destinations that fold names: file systems that ignore case, or compose characters, and so merge two keys into one.

Found out by one small file when the first entry is written. On such a file system an entry may only take a name that
is free, or that the directory holds letter by letter.
"""

from __future__ import annotations

import os

from entrepot.model.errors import NameNotPossibleError

from .files import unlink_quietly
from .names import show

_PROBE = ".entrepot-folds-a\u00e9"
_OTHERS = (".ENTREPOT-FOLDS-A\u00e9", ".entrepot-folds-ae\u0301")


def folds_names(home: int) -> bool:
    """Whether names that differ in case or composition only are one name in the directory ``home``."""
    name = f"{_PROBE}{os.getpid()}".encode()
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=home))
    except OSError:
        return False
    try:
        return any(_exists(home, f"{other}{os.getpid()}".encode()) for other in _OTHERS)
    finally:
        unlink_quietly(name, home)


def refuse_other_spelling(parent: int, name: bytes, key: bytes) -> None:
    """Raise NameNotPossibleError when ``name`` is in the directory ``parent``, but spelt otherwise."""
    if not _exists(parent, name):
        return
    there = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=parent)
    try:
        names = {os.fsencode(entry) for entry in os.listdir(there)}
    finally:
        os.close(there)
    if name not in names:
        raise NameNotPossibleError(
            f"{show(key)}: the destination holds a name that differs only in case or composition from {show(name)}",
            subject=show(key),
            hint="this file system takes both for one; rename one of the two",
        )


def _exists(parent: int, name: bytes) -> bool:
    try:
        os.stat(name, dir_fd=parent, follow_symlinks=False)
    except OSError:
        return False
    return True
