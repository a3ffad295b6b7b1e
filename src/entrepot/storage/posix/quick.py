"""Runs of small files, directory by directory: the plain case with everything at hand, and no other case at all.

A small file is nine calls of the kernel; looking up for each what is the same for its whole directory costs half
as much again. So this does what ``copy.copy_file`` does, by the same calls in the same order, as long as nothing is
out of the ordinary. What is, it leaves undone and untold: ``copy_file`` then finds out and says so.
"""

from __future__ import annotations

import os
import stat
from collections import deque
from collections.abc import Callable

from entrepot.model.entry import Row
from entrepot.model.errors import StoreError

from .copy import SMALL
from .files import unlink_quietly
from .reader import matches
from .root import Root
from .staging import CREATE, Staging


class Quick:
    """Copies from ``source`` to ``target``. ``mtime`` and ``mode``: whether these are kept."""

    def __init__(self, source: Root, target: Staging, *, mtime: bool, mode: bool, links: bool) -> None:
        self._source = source
        self._target = target
        self._mtime = mtime
        self._mode = mode
        self._links = links
        """Whether files with several names are left alone."""

    def copy(self, rows: deque[Row], until: float, clock: Callable[[], float]) -> list[Row]:
        """Copy rows from the left, until one needs more care or the time is up; those copied are taken out."""
        done: list[Row] = []
        target = self._target
        if not target.plain or target.root.escape or self._source.escape:
            return done
        while rows and clock() < until:
            before = len(done)
            try:
                self._directory(rows, until, clock, done)
            except (OSError, StoreError, ValueError):
                break
            if len(done) == before:
                break
        return done

    def _directory(self, rows: deque[Row], until: float, clock: Callable[[], float], done: list[Row]) -> None:
        """Rows of one directory. Raises what the calls raise; the row that met it is still there."""
        first = rows[0][0]
        prefix = first[: first.rfind(b"/") + 1]
        target = self._target
        origin, _ = self._source.place(first)
        parent, _ = target.root.place_for_write(first)
        if target.root.folds is not False:
            return
        home, temporary = target.fd, target.fresh_name()
        flags, cut, regular = self._source.read_flags, len(prefix), stat.S_IFREG
        links, set_time, set_mode = self._links, self._mtime, self._mode
        beyond = (target.umask | 0o7000) if set_mode else 0  # bits that creating a file does not give it
        count = 0
        try:
            for key, listed, size in rows:
                name = key[cut:]
                if size > SMALL or not key.startswith(prefix) or b"/" in name or name[:1] in b"." or clock() >= until:
                    return
                fd = os.open(name, flags, dir_fd=origin)
                try:
                    data = os.read(fd, size + 1)
                    state = os.fstat(fd)
                finally:
                    os.close(fd)
                bits, written = state.st_mode, state.st_mtime_ns
                if (
                    len(data) != size
                    or state.st_size != size
                    or bits & 0o170000 != regular
                    or (written != listed and not matches(state, listed))
                    or (links and state.st_nlink > 1)
                ):
                    return
                fd = os.open(temporary, CREATE, bits & 0o777 if set_mode else 0o666, dir_fd=home)
                try:
                    try:
                        if os.write(fd, data) != size:
                            raise OSError
                        if bits & beyond:
                            os.fchmod(fd, bits & 0o1777)
                        if set_time:
                            os.utime(fd, ns=(written, written))
                    finally:
                        os.close(fd)
                    os.rename(temporary, name, src_dir_fd=home, dst_dir_fd=parent)
                except BaseException:
                    unlink_quietly(temporary, home)
                    raise
                count += 1
        finally:
            done += [rows.popleft() for _ in range(count)]
