"""A directory that is never left: files and directories are opened beneath it, one segment at a time.

Directory descriptors are kept for the parents used last. They are dropped and looked up again every second,
so that a directory that was moved away or swapped for a link is noticed. No segment may be a symbolic link,
unless the root was opened with ``follow`` (reading with ``symlinks=follow``).
"""

from __future__ import annotations

import errno
import os
import stat
from time import monotonic

from entrepot.model.errors import NameNotPossibleError, PlaceError, StoreError

from .faults import read_error, write_error
from .folding import folds_names, refuse_other_spelling
from .names import show, to_path

_DIRECTORY = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_DIRECTORY_FOLLOW = os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_READ_FOLLOW = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC
_KEPT = 128
_FRESH_SECONDS = 1.0
_NOWHERE = b"/"
"""No relative path is this."""


class Root:
    """The root directory ``path``, opened. ``create`` makes it (and its parents) when it is missing.

    Raises PlaceError when it is missing, no directory, or may not be entered. ``escape`` maps keys to
    names by the rule in ``names``.
    """

    def __init__(
        self,
        path: bytes,
        create: bool = False,
        *,
        follow: bool = False,
        escape: bool = False,
        durable: bool = False,
    ) -> None:
        self.path = path
        self.follow = follow
        self.escape = escape
        self.durable = durable
        """fsync the parent of every directory made."""
        self.folds: bool | None = None
        """Whether names that differ in case or composition are one name here; asked before the first write."""
        self._parents: dict[bytes, int] = {}
        self._stale_at = 0.0
        self._near = _NOWHERE
        """The parent used last, and its descriptor: the short way for its other entries."""
        self._near_fd = -1
        self._directory = _DIRECTORY_FOLLOW if follow else _DIRECTORY
        self.read_flags = _READ_FOLLOW if follow else _READ
        self.fd = _open_root(path, create)

    def open_read(self, key: bytes) -> int:
        """A descriptor of the file ``key``, for reading. Raises VanishedError, ForbiddenError, ChangedError…

        Never blocks on a fifo; the caller checks by fstat that it is a regular file.
        """
        try:
            parent, name = self.place(key)
            try:
                return os.open(name, self.read_flags, dir_fd=parent)
            except FileNotFoundError:
                self.forget()
                parent, name = self.place(key)
                return os.open(name, self.read_flags, dir_fd=parent)
        except OSError as error:
            raise read_error(error, key) from None

    def open_directory(self, key: bytes) -> int:
        """A descriptor of the directory ``key`` (without slash; empty for the root), for listing it."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        try:
            if not key:
                return os.open(b".", flags, dir_fd=self.fd)
            parent, name = self.place(key)
            return os.open(name, flags if self.follow else flags | os.O_NOFOLLOW, dir_fd=parent)
        except OSError as error:
            raise read_error(error, key) from None

    def lstat(self, key: bytes) -> os.stat_result:
        """The state of ``key`` itself (links are not followed, unless the root was opened so)."""
        try:
            parent, name = self.place(key)
            return os.stat(name, dir_fd=parent, follow_symlinks=self.follow)
        except OSError as error:
            raise read_error(error, key) from None

    def place(self, key: bytes) -> tuple[int, bytes]:
        """(descriptor of the parent directory, last segment); the descriptor is lent, for use at once.

        Raises OSError and NameNotPossibleError.
        """
        cut = key.rfind(b"/")
        if (
            cut > 0
            and key[:cut] == self._near
            and key[cut + 1 : cut + 2] not in b"."
            and b"\0" not in key
            and monotonic() < self._stale_at
        ):
            return self._near_fd, key[cut + 1 :]
        path = to_path(key, self.escape)
        parent, _, name = path.rpartition(b"/")
        return (self.directory(parent) if parent else self.fd), name

    def place_for_write(self, key: bytes) -> tuple[int, bytes]:
        """Like :meth:`place`, and makes missing parents. Raises NameNotPossibleError on collisions."""
        cut = key.rfind(b"/")
        if (
            self.folds is False
            and cut > 0
            and key[:cut] == self._near
            and key[cut + 1 : cut + 2] not in b"."
            and b"\0" not in key
            and monotonic() < self._stale_at
        ):
            return self._near_fd, key[cut + 1 :]
        path = to_path(key, self.escape)
        above, _, name = path.rpartition(b"/")
        if self.folds is None:
            self.folds = folds_names(self.fd)
        parent = self.make_directory(above, key) if above else self.fd
        if self.folds:
            refuse_other_spelling(parent, name, key)
        return parent, name

    def directory(self, path: bytes) -> int:
        """A lent descriptor (O_PATH) of the directory at relative ``path``. Raises OSError."""
        return self._descend(path, create=False)

    def make_directory(self, path: bytes, key: bytes = b"") -> int:
        """A lent descriptor of the directory at relative ``path``, made with its parents where missing."""
        if self.folds is None:
            self.folds = folds_names(self.fd)
        try:
            return self._descend(path, create=True)
        except OSError as error:
            raise self._collision(error, path, key or path) from None

    def forget(self) -> None:
        """Drop all kept descriptors: the next use looks again."""
        for fd in self._parents.values():
            os.close(fd)
        self._parents.clear()
        self._near = _NOWHERE

    def close(self) -> None:
        """Close all descriptors."""
        self.forget()
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Root:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _descend(self, path: bytes, create: bool) -> int:
        now = monotonic()
        if now >= self._stale_at:
            self.forget()
            self._stale_at = now + _FRESH_SECONDS
        parents = self._parents
        above = path
        todo: list[bytes] = []
        fd = self.fd
        while above:
            kept = parents.get(above)
            if kept is not None:
                fd = kept
                break
            above, _, name = above.rpartition(b"/")
            todo.append(name)
        while todo:
            name = todo.pop()
            fd = self._step(fd, name, create)
            above = above + b"/" + name if above else name
            parents[above] = fd
            if len(parents) > _KEPT:
                self._near = _NOWHERE
                os.close(parents.pop(next(iter(parents))))
        if not self.escape:
            self._near, self._near_fd = path, fd
        return fd

    def _step(self, fd: int, name: bytes, create: bool) -> int:
        if create and self.folds:
            refuse_other_spelling(fd, name, name)
        try:
            return os.open(name, self._directory, dir_fd=fd)
        except FileNotFoundError:
            if not create:
                raise
        try:
            os.mkdir(name, dir_fd=fd)
        except FileExistsError:
            pass
        if self.durable:
            sync_directory(fd)
        return os.open(name, self._directory, dir_fd=fd)

    def _collision(self, error: OSError, path: bytes, key: bytes) -> StoreError:
        """Say which part of ``path`` is in the way."""
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            return write_error(error, key)
        segments = path.split(b"/")
        for count in range(1, len(segments) + 1):
            part = b"/".join(segments[:count])
            try:
                mode = os.stat(part, dir_fd=self.fd, follow_symlinks=False).st_mode
            except OSError:
                break
            if stat.S_ISLNK(mode):
                return NameNotPossibleError(
                    f"{show(key)}: unsafe path, {show(part)} is a symbolic link in the destination",
                    subject=show(key),
                    hint="links inside a destination are not followed; remove the link or sync to its target",
                )
            if not stat.S_ISDIR(mode):
                return NameNotPossibleError(
                    f"{show(key)}: {show(part)} is a file, so nothing can lie below it",
                    subject=show(key),
                    hint="a file and a directory of one name cannot both exist; rename one of the two",
                )
        return write_error(error, key)


def sync_directory(fd: int) -> None:
    """fsync the directory behind ``fd`` (which may be an O_PATH descriptor)."""
    real = os.open(b".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=fd)
    try:
        os.fsync(real)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EROFS):
            raise
    finally:
        os.close(real)


def _open_root(path: bytes, create: bool) -> int:
    name = show(path)
    try:
        if create:
            os.makedirs(path, exist_ok=True)
        return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except FileNotFoundError:
        raise PlaceError(f"{name}: no such directory", hint="check the path") from None
    except (NotADirectoryError, FileExistsError):
        raise PlaceError(f"{name}: not a directory", hint="give a directory; one file goes with cp") from None
    except PermissionError:
        raise PlaceError(f"{name}: no permission to open it", hint="check its owner and mode") from None
    except OSError as error:
        raise PlaceError(f"{name}: cannot open it ({error.strerror})") from None
