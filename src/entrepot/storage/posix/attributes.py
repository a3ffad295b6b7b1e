"""Symbolic links and directories of a copied tree, and what is kept of them."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Iterable

from entrepot.model.errors import ChangedError, StoreError

from .faults import read_error, write_error
from .names import show, to_path
from .reader import read_xattrs
from .root import Root, sync_directory
from .staging import Owner, Staging

DEFAULT_PRESERVE = frozenset({"mtime", "mode"})

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def owner_of(state: os.stat_result, preserve: Collection[str]) -> Owner | None:
    """The owner to give to a copy, if owners are kept."""
    return (state.st_uid, state.st_gid) if "owner" in preserve else None


def copy_link(source: Root, target: Staging, key: bytes, preserve: Collection[str] = DEFAULT_PRESERVE) -> bool:
    """Copy the symbolic link ``key`` as a link, target unchanged. False when the destination has it."""
    try:
        parent, name = source.place(key)
        state = os.stat(name, dir_fd=parent, follow_symlinks=False)
        if not stat.S_ISLNK(state.st_mode):
            raise ChangedError(f"{show(key)}: no longer a symbolic link", subject=show(key))
        to = os.readlink(name, dir_fd=parent)
    except OSError as error:
        raise read_error(error, key) from None
    parent, leaf = target.root.place_for_write(key)
    try:
        if os.readlink(leaf, dir_fd=parent) == to:
            return False
    except OSError:
        pass
    home = target.fd
    staged = target.fresh_name()
    try:
        os.symlink(to, staged, dir_fd=home)
        _link_attributes(staged, target, state, preserve)
    except OSError as error:
        raise write_error(error, key) from None
    target.rename_in(staged, key)
    return True


def make_directory(target: Root, key: bytes) -> bool:
    """Make the directory ``key`` (a trailing slash is allowed) and its parents. False when it was there."""
    path = directory_path(target, key)
    try:
        os.close(os.open(path, _DIRECTORY, dir_fd=target.fd))
        present = True
    except OSError:
        present = False
    target.make_directory(path, key)
    return not present


def finish_directories(
    source: Root, target: Root, keys: Iterable[bytes], preserve: Collection[str] = DEFAULT_PRESERVE
) -> list[StoreError]:
    """Give the directories ``keys`` their owner, mode and times, deepest first; the faults met are returned.

    To be called last: writing into a directory changes its mtime, and a read-only one takes no files. Missing
    ones are made.
    """
    faults: list[StoreError] = []
    for key in sorted({key.rstrip(b"/") + b"/" for key in keys}, reverse=True):
        try:
            _finish(source, target, key, preserve)
        except StoreError as error:
            faults.append(error)
    return faults


def directory_path(root: Root, key: bytes) -> bytes:
    """The relative path of a directory key, with or without its slash."""
    plain = key.rstrip(b"/") if not root.escape else key[:-1] if key.endswith(b"/") else key
    return to_path(plain, root.escape)


def _finish(source: Root, target: Root, key: bytes, preserve: Collection[str]) -> None:
    try:
        path = directory_path(source, key)
        origin = _open_directory(source, path)
    except OSError as error:
        raise read_error(error, key) from None
    try:
        state = os.fstat(origin)
        xattrs = read_xattrs(origin) if "xattr" in preserve else {}
    finally:
        os.close(origin)
    path = directory_path(target, key)
    target.make_directory(path, key)
    try:
        fd = _open_directory(target, path)
        try:
            if "owner" in preserve:
                os.fchown(fd, state.st_uid, state.st_gid)
            for name, value in xattrs.items():
                os.setxattr(fd, name, value)
            if "mode" in preserve:
                os.fchmod(fd, stat.S_IMODE(state.st_mode) & (0o7777 if "owner" in preserve else 0o1777))
            if "mtime" in preserve:
                os.utime(fd, ns=(state.st_mtime_ns, state.st_mtime_ns))
            if target.durable:
                sync_directory(fd)
        finally:
            os.close(fd)
    except OSError as error:
        raise write_error(error, key) from None


def _open_directory(root: Root, path: bytes) -> int:
    """A descriptor of its own, for reading attributes and setting them."""
    above, _, name = path.rpartition(b"/")
    flags = _DIRECTORY & ~os.O_NOFOLLOW if root.follow else _DIRECTORY
    return os.open(name, flags, dir_fd=root.directory(above) if above else root.fd)


def _link_attributes(name: bytes, target: Staging, state: os.stat_result, preserve: Collection[str]) -> None:
    if "owner" in preserve:
        try:
            os.chown(name, state.st_uid, state.st_gid, dir_fd=target.fd, follow_symlinks=False)
        except OSError:
            target.warnings += 1
    if "mtime" in preserve:
        times = (state.st_mtime_ns, state.st_mtime_ns)
        os.utime(name, ns=times, dir_fd=target.fd, follow_symlinks=False)
