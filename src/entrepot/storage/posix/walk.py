"""Walking a directory tree in the order of an object store: by key bytes, a directory as if named ``d/``.

Memory is bounded by one directory per level, and a directory with more than ``scan.SPILL`` names goes to a
temporary file in sorted runs. No recursion and few open descriptors: a tree may be deeper than PATH_MAX.

What is not a plain file comes as ``Special``, not later than any row after it, with kind: symlink (policy
copy), symlink-skipped (policy skip), loop (policy follow: a link to a directory that it lies in), fifo,
socket, device, nfs (``.nfs*`` names of deleted open files), directory (when asked for; its key ends in
``/``). What could not be read comes as ``Problem``; its prefix is the directory's key with ``/``, or the
entry's key.
"""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterator

from entrepot.model.entry import Page, Special
from entrepot.model.errors import ForbiddenError, NotFoundError, StoreError, UnexpectedReplyError

from .names import show
from .scan import Level, Scanner, Sub, Symlinks, problem, replaced

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
_PATH_STEP = 2048
"""A relative path longer than this gets a descriptor of its own to start from (PATH_MAX is 4096)."""
_QUIET = 4096
"""Directories visited without a full page before an unfilled one is handed out: the caller stays awake."""
_AFTER_EQUAL = float("inf")


def walk(
    root: int | bytes,
    *,
    after: bytes = b"",
    until: bytes | None = None,
    rows: int = 1000,
    symlinks: Symlinks = "skip",
    directories: bool = False,
    escape: bool = False,
    changed: bool = False,
) -> Iterator[Page]:
    """All entries with ``after < key <= until`` below ``root``, sorted by key, in pages of up to ``rows``
    rows.

    Rows are (key, mtime in ns, size), or with ``changed`` (key, (mtime, ctime), size). The last page has
    ``last`` set (and may be empty). ``escape`` gives keys by ``names.from_path``. Raises NotFoundError or
    ForbiddenError when the root itself cannot be listed.
    """
    fd = open_root(root)
    walker = _Walker(fd, Scanner(symlinks, escape, after, until, changed=changed), rows, directories)
    try:
        yield from walker.pages()
    finally:
        walker.close()
        os.close(fd)


class _Frame:
    """One directory on the way down: its sorted content, and how far it has been handed out."""

    __slots__ = ("base", "fd", "identity", "level", "path", "position", "prefix", "sub")

    def __init__(self, prefix: bytes, base: int, path: bytes) -> None:
        self.prefix = prefix
        self.base = base
        self.path = path
        self.fd = -1
        """A descriptor of this directory, kept only as a base for long paths or while it is read lazily."""
        self.level = Level()
        self.position = 0
        self.sub = 0
        self.identity = (0, 0)


class _Walker:
    def __init__(self, root: int, scanner: Scanner, limit: int, directories: bool) -> None:
        self.root = root
        self.scanner = scanner
        self.limit = limit
        self.directories = directories
        self.page = Page([])
        self.frames: list[_Frame] = []
        self.quiet = 0

    def pages(self) -> Iterator[Page]:
        frame = _Frame(b"", self.root, b"")
        self._fill(frame, os.dup(self.root))
        self.frames.append(frame)
        while self.frames:
            frame = self.frames[-1]
            if frame.level.lazy is not None:
                sub = self._next_lazy(frame)
            elif frame.sub < len(frame.level.subs):
                sub = frame.level.subs[frame.sub]
                frame.sub += 1
                end = bisect_left(frame.level.files, (sub.key, _AFTER_EQUAL), frame.position)
                yield from self._hand_out(frame, end)
            else:
                yield from self._hand_out(frame, len(frame.level.files))
                sub = None
                self._leave()
            if sub is not None:
                self._enter(frame, sub)
            page = self.page
            if self.quiet >= _QUIET or max(len(page.rows), len(page.specials), len(page.problems)) >= self.limit:
                yield self._turn()
        self.page.last = True
        yield self._turn()

    def close(self) -> None:
        while self.frames:
            self._leave()

    def _turn(self) -> Page:
        page, self.page = self.page, Page([])
        self.quiet = 0
        return page

    def _hand_out(self, frame: _Frame, end: int) -> Iterator[Page]:
        files = frame.level.files
        position = frame.position
        frame.position = end
        room = self.limit - len(self.page.rows)
        while end - position >= room:
            self.page.rows += files[position : position + room]
            position += room
            yield self._turn()
            room = self.limit
        if position < end:
            self.page.rows += files[position:end]

    def _enter(self, above: _Frame, sub: Sub) -> None:
        scanner = self.scanner
        if self.directories and sub.key > scanner.after:
            self.page.specials.append(Special(sub.key, "directory"))
        if scanner.until == sub.key:
            return
        self.quiet += 1
        base, path = (above.fd, sub.name) if above.path == b"" and above.fd >= 0 else (above.base, sub.name)
        if above.path:
            path = above.path + b"/" + sub.name
        frame = _Frame(sub.key, base, path)
        try:
            fd = os.open(path, _DIRECTORY if sub.linked else _DIRECTORY | os.O_NOFOLLOW, dir_fd=base)
        except OSError as error:
            self.page.problems.append(problem(sub.key, error))
            return
        if len(path) > _PATH_STEP:
            frame.fd = os.dup(fd)
            frame.path = b""
        self._fill(frame, fd, sub.linked)
        self.frames.append(frame)

    def _fill(self, frame: _Frame, fd: int, linked: bool = False) -> None:
        """Scan the directory, and close ``fd`` unless it is needed later."""
        try:
            if self.scanner.symlinks == "follow":
                state = os.fstat(fd)
                frame.identity = (state.st_dev, state.st_ino)
                if linked and any(other.identity == frame.identity for other in self.frames):
                    self.page.specials.append(Special(frame.prefix[:-1], "loop"))
                    return
            level = frame.level = self.scanner.scan(fd, frame.prefix)
            if level.lazy is not None and frame.fd < 0:
                frame.fd = os.dup(fd)
        finally:
            os.close(fd)
        self.page.specials += level.specials
        self.page.problems += level.problems

    def _leave(self) -> None:
        frame = self.frames.pop()
        if frame.fd >= 0:
            os.close(frame.fd)
        if frame.level.spill is not None:
            frame.level.spill.close()

    def _next_lazy(self, frame: _Frame) -> Sub | None:
        """Look at names of a very large directory in order, until a subdirectory or a full page comes."""
        level = frame.level
        names = level.lazy
        assert names is not None
        found = Level()
        rows = self.page.rows
        for name in names:
            plain = name.rstrip(b"/")
            try:
                self.scanner.look(frame.fd, frame.prefix, plain, found)
            except OSError as error:
                self.page.problems.append(problem(frame.prefix + name, error))
            if found.files and plain == name:
                rows.append(found.files.pop())
            elif found.subs and plain != name:
                return found.subs.pop()
            elif found.files or found.subs:
                found = Level()
                self.page.problems.append(replaced(frame.prefix + plain))
            elif found.specials or found.problems:
                self.page.specials += found.specials
                self.page.problems += found.problems
                found = Level()
            if len(rows) >= self.limit:
                return None
        level.lazy = None
        return None


def open_root(root: int | bytes) -> int:
    """A new descriptor of the directory ``root``. Raises NotFoundError, ForbiddenError."""
    name = show(root) if isinstance(root, bytes) else "the root directory"
    try:
        if isinstance(root, int):
            return os.open(b".", _DIRECTORY, dir_fd=root)
        return os.open(root, _DIRECTORY)
    except (FileNotFoundError, NotADirectoryError):
        raise NotFoundError(f"{name}: no such directory", subject=name, hint="check the path") from None
    except PermissionError:
        raise ForbiddenError(f"{name}: no permission to list it", subject=name) from None
    except OSError as error:
        fault: StoreError = UnexpectedReplyError(f"{name}: cannot list it ({error.strerror})", subject=name)
        raise fault from None
