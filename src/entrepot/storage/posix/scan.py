"""Scanning one directory: its files as sorted rows, its subdirectories in key order, and everything else."""

from __future__ import annotations

import errno
import os
import stat
import sys
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Literal

from entrepot.model.entry import Evidence, Problem, Row, Special
from entrepot.model.errors import NameNotPossibleError

from .faults import listing_failure
from .names import STAGING_PREFIX, from_name, show
from .spill import Spill

Symlinks = Literal["skip", "copy", "follow"]

SPILL = 100_000
"""Names of one directory held in memory; more go through a temporary file."""

_ENCODING = sys.getfilesystemencoding()
_KIND = 0o170000
_NFS = b".nfs"
_KINDS = {
    stat.S_IFIFO: "fifo",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}


@dataclass(slots=True)
class Sub:
    """A subdirectory: its key with ``/``, its name on disk, and whether a symbolic link leads to it."""

    key: bytes
    name: bytes
    linked: bool = False


@dataclass(slots=True)
class Level:
    """What one directory holds. ``lazy`` is set instead of the lists when it has more than SPILL names."""

    files: list[Row] = field(default_factory=list)
    subs: list[Sub] = field(default_factory=list)
    specials: list[Special] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    lazy: Iterator[bytes] | None = None
    spill: Spill | None = None


class Scanner:
    """How directories are read. ``low``/``high`` bound the keys (``low < key <= high``) where they matter."""

    __slots__ = ("after", "changed", "escape", "limit", "symlinks", "until")

    def __init__(
        self, symlinks: Symlinks, escape: bool, after: bytes, until: bytes | None, *, changed: bool = False
    ) -> None:
        self.changed = changed
        """Rows carry (mtime, ctime) instead of the mtime."""
        self.symlinks = symlinks
        self.escape = escape
        self.after = after
        self.until = until
        self.limit = SPILL

    def scan(self, fd: int, prefix: bytes) -> Level:
        """Read the directory ``fd``, whose key is ``prefix``. OSErrors become problems."""
        level = Level()
        bounded = (self.after != b"" and self.after.startswith(prefix)) or (
            self.until is not None and self.until.startswith(prefix)
        )
        try:
            if not bounded and self._scan_all(fd, prefix, level):
                level.files.sort()
            else:
                level = self._scan_names(fd, prefix)
        except OSError as error:
            level.problems.append(problem(prefix, error))
            level.files.sort()
        if level.subs:
            level.subs.sort(key=_sub_key)
        if level.files:
            _drop_reserved(level, prefix)
        return level

    def wanted(self, sub: bytes) -> bool:
        """True when the directory key ``sub`` or keys below it can lie in the range."""
        after = self.after
        if after >= sub and not after.startswith(sub):
            return False
        return self.until is None or self.until >= sub

    def look(self, fd: int, prefix: bytes, name: bytes, level: Level) -> None:
        """Stat one entry and put it where it belongs."""
        try:
            state = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return
        kind = state.st_mode & _KIND
        if kind == stat.S_IFREG and not self.escape:
            level.files.append((prefix + name, self._evidence(state), state.st_size))
        else:
            self._other(fd, prefix, name, state, level)

    def _evidence(self, state: os.stat_result) -> Evidence:
        return (state.st_mtime_ns, state.st_ctime_ns) if self.changed else state.st_mtime_ns

    def _scan_all(self, fd: int, prefix: bytes, level: Level) -> bool:
        """The fast way, for a directory wholly inside the range. False when it has too many names."""
        add = level.files.append
        plain = not self.escape and not self.changed
        both = not self.escape and self.changed
        regular = stat.S_IFREG
        with os.scandir(fd) as entries:
            for entry in islice(entries, self.limit):
                try:
                    state = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                name = entry.name.encode(_ENCODING, "surrogateescape")
                if plain and state.st_mode & 0o170000 == regular:
                    add((prefix + name, state.st_mtime_ns, state.st_size))
                elif both and state.st_mode & 0o170000 == regular:
                    add((prefix + name, (state.st_mtime_ns, state.st_ctime_ns), state.st_size))
                else:
                    self._other(fd, prefix, name, state, level)
            return next(entries, None) is None

    def _scan_names(self, fd: int, prefix: bytes) -> Level:
        """Names first, so that only those in the range are looked at; many go through a temporary file."""
        level = Level()
        names: list[bytes] = []
        spill: Spill | None = None
        follow = self.symlinks == "follow"
        with os.scandir(fd) as entries:
            for entry in entries:
                name = entry.name.encode(_ENCODING, "surrogateescape")
                directory = _is_directory(entry, follow)
                if name[:1] == b"." and name.startswith((STAGING_PREFIX, _NFS)):
                    if name.startswith(STAGING_PREFIX):
                        continue
                    if not directory:
                        if self._in_range(prefix, name):
                            level.specials.append(Special(prefix + name, "nfs"))
                        continue
                if directory:
                    name += b"/"
                if not self._in_range(prefix, name):
                    continue
                if spill is not None:
                    spill.add(name)
                    continue
                names.append(name)
                if len(names) > self.limit and not self.escape:
                    spill = Spill(self.limit)
                    for name in names:
                        spill.add(name)
                    names = []
        if spill is not None:
            level.spill = spill
            level.lazy = iter(spill)
            return level
        for name in names:
            self.look(fd, prefix, name.rstrip(b"/"), level)
        level.files.sort()
        return level

    def _in_range(self, prefix: bytes, name: bytes) -> bool:
        key = prefix + name
        if self.escape and (b"%" in name or not name.isascii()):
            return True  # judged by its key, when that is known
        if name.endswith(b"/"):
            return self.wanted(key)
        return key > self.after and (self.until is None or key <= self.until)

    def _other(self, fd: int, prefix: bytes, name: bytes, state: os.stat_result, level: Level) -> None:
        """Everything but the plain case: directories, links, specials, and files under escaped names."""
        if name.startswith(STAGING_PREFIX):
            return
        kind = state.st_mode & _KIND
        linked = kind == stat.S_IFLNK
        if linked and self.symlinks == "follow":
            try:
                state = os.stat(name, dir_fd=fd)
            except OSError as error:
                level.problems.append(_broken_link(prefix + name, error))
                return
            kind = state.st_mode & _KIND
        part = name
        if self.escape:
            try:
                part = from_name(name, kind == stat.S_IFDIR)
            except NameNotPossibleError as error:
                slash = b"/" if kind == stat.S_IFDIR else b""
                level.problems.append(Problem(prefix + name + slash, error.failure.value, error.message))
                return
        key = prefix + part
        if kind == stat.S_IFDIR:
            if self.wanted(key + b"/"):
                level.subs.append(Sub(key + b"/", name, linked))
            return
        if key <= self.after or (self.until is not None and key > self.until):
            return
        if kind == stat.S_IFREG:
            level.files.append((key, self._evidence(state), state.st_size))
        elif kind == stat.S_IFLNK:
            level.specials.append(self._link(fd, key, name))
        else:
            level.specials.append(Special(key, _KINDS.get(kind, "device")))

    def _link(self, fd: int, key: bytes, name: bytes) -> Special:
        if self.symlinks == "skip":
            return Special(key, "symlink-skipped")
        try:
            return Special(key, "symlink", os.readlink(name, dir_fd=fd))
        except OSError:
            return Special(key, "symlink-skipped")


def problem(prefix: bytes, error: OSError) -> Problem:
    """A directory that could not be (wholly) read."""
    failure = listing_failure(error)
    where = show(prefix) if prefix else "the root"
    reason = os.strerror(error.errno) if error.errno else str(error)
    return Problem(prefix, failure, f"{where}: cannot list it ({reason})")


def replaced(key: bytes) -> Problem:
    """A file that became a directory, or the reverse, while it was listed."""
    return Problem(key, "vanished", f"{show(key)}: replaced while it was listed")


def _is_directory(entry: os.DirEntry[str], follow: bool) -> bool:
    try:
        return entry.is_dir(follow_symlinks=follow)
    except OSError:
        return False


def _broken_link(key: bytes, error: OSError) -> Problem:
    if error.errno == errno.ELOOP:
        return Problem(key, "not_found", f"{show(key)}: a symbolic link that leads to itself")
    if error.errno in (errno.EACCES, errno.EPERM):
        return Problem(key, "forbidden", f"{show(key)}: no permission to follow this symbolic link")
    return Problem(key, "not_found", f"{show(key)}: a broken symbolic link")


def _drop_reserved(level: Level, prefix: bytes) -> None:
    """Take out our temporary files, and (as specials) the ``.nfs`` names of deleted files still open."""
    files = level.files
    at = bisect_left(files, (prefix + b".",))
    if at == len(files) or not files[at][0].startswith(prefix + b"."):
        return
    for reserved in (STAGING_PREFIX, _NFS):
        start = bisect_left(files, (prefix + reserved,), at)
        end = start
        while end < len(files) and files[end][0].startswith(prefix + reserved):
            end += 1
        if reserved is _NFS:
            level.specials += [Special(row[0], "nfs") for row in files[start:end]]
        del files[start:end]


def _sub_key(sub: Sub) -> bytes:
    return sub.key
