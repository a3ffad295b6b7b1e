"""A directory as a store: the calls for control. The data path uses the other modules of this room."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from typing import Any

from entrepot.model.entry import Info, Page, Row
from entrepot.model.errors import InternalError, NameNotPossibleError, NotFoundError, VanishedError
from entrepot.model.location import Location
from entrepot.storage.base import Capabilities, Columns, Lane, Part, Store

from .names import STAGING_PREFIX, show
from .reader import SourceFile
from .root import Root
from .scan import Symlinks
from .staging import Staging
from .walk import open_root, walk

_CHILDREN = 1000


class PosixStore:
    """The directory ``root``. Keys are relative paths; nothing is opened before the first call."""

    def __init__(self, root: bytes, *, symlinks: Symlinks = "skip", escape: bool = False) -> None:
        self.path = os.path.abspath(root)
        self.symlinks: Symlinks = symlinks
        self.escape = escape
        self.location = Location("file", "", self.path)
        self.caps = Capabilities(server_copy=True, multipart=False, key_max=4095, start_after=True, lists_mtime=True)

    def root(self, create: bool = False) -> Root:
        """The directory, opened for reading and writing beneath it. The caller closes it."""
        return Root(self.path, create, follow=self.symlinks == "follow", escape=self.escape)

    def check(self) -> None:
        """Raise NotFoundError or ForbiddenError with a clear message if the directory cannot be used."""
        self._readable().close()

    def _readable(self) -> Root:
        os.close(open_root(self.path))
        return self.root()

    def identity(self) -> tuple[str, bytes]:
        """``file`` and the real path with a slash: equal for every name of one directory."""
        real = os.path.realpath(self.path)
        return "file", real if real.endswith(b"/") else real + b"/"

    def can_server_copy_from(self, source: Store) -> bool:
        """True for another directory."""
        return source.location.is_file

    def lane(self, reactor: Any, options: Any) -> Lane:
        """File systems have no lane."""
        raise InternalError("a file system has no lane: its calls do not wait for a network")

    def head(self, key: bytes) -> Info:
        """One file. Raises NotFoundError."""
        with self._readable() as root:
            try:
                state = root.lstat(key)
            except VanishedError:
                raise _missing(key) from None
        if not stat.S_ISREG(state.st_mode):
            raise NotFoundError(f"{show(key)}: not a regular file", subject=show(key))
        return Info(key, state.st_size, state.st_mtime_ns)

    def pages(self, after: bytes = b"", columns: Columns = "mtime") -> Iterator[Page]:
        """All files after ``after``, sorted by key, page by page; rows carry mtimes."""
        return walk(self.path, after=after, symlinks=self.symlinks, escape=self.escape)

    def children(self, prefix: bytes) -> Iterator[tuple[list[Row], list[bytes]]]:
        """One level below the directory ``prefix`` (empty, or with slash): (files, directories)."""
        if prefix and not prefix.endswith(b"/"):
            raise NameNotPossibleError(f"{show(prefix)}: a directory key ends in a slash", subject=show(prefix))
        with self._readable() as root:
            try:
                fd = root.open_directory(prefix[:-1])
            except VanishedError:
                raise _missing(prefix) from None
        rows: list[Row] = []
        names: list[bytes] = []
        try:
            for name in sorted(map(os.fsencode, os.listdir(fd))):
                if name.startswith(STAGING_PREFIX):
                    continue
                try:
                    state = os.stat(name, dir_fd=fd, follow_symlinks=self.symlinks == "follow")
                except OSError:
                    continue
                if stat.S_ISDIR(state.st_mode):
                    names.append(prefix + name + b"/")
                elif stat.S_ISREG(state.st_mode):
                    rows.append((prefix + name, state.st_mtime_ns, state.st_size))
                if len(rows) + len(names) >= _CHILDREN:
                    yield rows, names
                    rows, names = [], []
        finally:
            os.close(fd)
        if rows or names:
            yield rows, names

    def read(self, key: bytes) -> bytes:
        """A whole small file. Raises NotFoundError."""
        with self._readable() as root:
            try:
                with SourceFile(root, key) as file, os.fdopen(os.dup(file.fd), "rb") as stream:
                    data = stream.read()
                    file.recheck()
                    return data
            except VanishedError:
                raise _missing(key) from None

    def write(self, key: bytes, data: bytes) -> None:
        """Write a small file (and its parents): complete or not at all."""
        with Root(self.path, True, escape=self.escape) as root:
            staging = Staging(root, f"w{os.getpid()}-{os.urandom(6).hex()}")
            try:
                staging.write_small(key, data)
            finally:
                staging.close(remove=True)

    def uploads(self, prefix: bytes) -> Iterator[tuple[bytes, str, float]]:
        """File systems have no uploads."""
        return iter(())

    def upload_parts(self, key: bytes, upload_id: str) -> list[Part]:
        """File systems have no uploads: always NotFoundError."""
        raise NotFoundError(f"{show(key)}: a file system has no multipart uploads", subject=show(key))

    def abort_upload(self, key: bytes, upload_id: str) -> None:
        """File systems have no uploads: nothing to do."""


def _missing(key: bytes) -> NotFoundError:
    return NotFoundError(f"{show(key)}: no such file", subject=show(key))
