"""Deleting a file only if it is still the one that was listed."""

from __future__ import annotations

import os
import stat

from entrepot.model.entry import Row
from entrepot.model.errors import ChangedError, VanishedError

from .faults import write_error
from .names import show, to_path
from .reader import matches
from .root import Root


def delete(root: Root, key: bytes, row: Row, *, prune: bool = False) -> bool:
    """Unlink the file ``key`` if its times and size still equal ``row``. False when it was gone already.

    ``prune`` also removes parent directories that became empty. Links are never followed. Raises
    ChangedError, ForbiddenError, …
    """
    try:
        parent, name = root.place(key)
        state = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISREG(state.st_mode) or state.st_size != row[2] or not matches(state, row[1]):
            raise ChangedError(f"{show(key)}: changed since it was listed, so it was not deleted", subject=show(key))
        os.unlink(name, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError, VanishedError):
        return False
    except OSError as error:
        raise write_error(error, key) from None
    if prune:
        prune_parents(root, key)
    return True


def delete_link(root: Root, key: bytes) -> bool:
    """Unlink ``key`` if it is a symbolic link. False when it was gone already."""
    try:
        parent, name = root.place(key)
        if not stat.S_ISLNK(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
            raise ChangedError(f"{show(key)}: no longer a link, so it was not deleted", subject=show(key))
        os.unlink(name, dir_fd=parent)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError as error:
        raise write_error(error, key) from None
    return True


def prune_parents(root: Root, key: bytes) -> int:
    """Remove the directories above ``key`` that are empty, up to the root; how many went."""
    path = to_path(key, root.escape).rpartition(b"/")[0]
    count = 0
    while path:
        above, _, name = path.rpartition(b"/")
        try:
            os.rmdir(name, dir_fd=root.directory(above) if above else root.fd)
        except OSError:
            break
        count += 1
        path = above
    if count:
        root.forget()
    return count
