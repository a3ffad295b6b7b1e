"""Cutting a tree into key ranges of about equal work, by a short look at its upper levels only."""

from __future__ import annotations

import os
from dataclasses import dataclass

from entrepot.model.errors import NameNotPossibleError

from .names import STAGING_PREFIX, from_path
from .walk import open_root

_LOOK_MAX = 4000
"""Directory entries looked at in all: a few milliseconds."""
_OPEN_MAX = 128
"""Directories opened in all."""
_NAMES_PER_BYTE = 1 / 24
"""A directory's own size tells roughly how many names it holds; corrected by those that were read."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(slots=True)
class _Piece:
    """A file, or a directory (path with ``/``), and how many entries it is thought to hold."""

    path: bytes
    weight: float = 1.0


def boundaries(
    root: int | bytes, n: int, after: bytes = b"", until: bytes | None = None, *, escape: bool = False
) -> list[bytes]:
    """Up to ``n - 1`` ascending keys that cut ``(after, until]`` into ranges of about equal work.

    Raises NotFoundError or ForbiddenError when the root cannot be listed.
    """
    if n < 2:
        return []
    fd = open_root(root)
    try:
        pieces = _Look(fd, n, after, until).pieces()
    finally:
        os.close(fd)
    if escape:
        for piece in pieces:
            piece.path = _key(piece.path)
        pieces.sort(key=_path)
    total = sum(piece.weight for piece in pieces)
    cuts: list[bytes] = []
    done = 0.0
    for piece in pieces:
        key = piece.path
        # A cut at ``key`` leaves everything before this piece on the left side.
        due = done >= total * (len(cuts) + 1) / n
        if due and key > (cuts[-1] if cuts else after) and (until is None or key < until):
            cuts.append(key)
            if len(cuts) == n - 1:
                break
        done += piece.weight
    return cuts


class _Look:
    """One look at the upper levels, within the budget."""

    def __init__(self, root: int, n: int, after: bytes, until: bytes | None) -> None:
        self.root = root
        self.n = n
        self.after = after
        self.until = until
        self.names = _LOOK_MAX
        self.opens = _OPEN_MAX
        self.ratio = _NAMES_PER_BYTE

    def pieces(self) -> list[_Piece]:
        """All pieces found, sorted by path: heavy directories opened first, then light ones, level by
        level."""
        done, level = self._read(self.root, b"", 0.0)
        while level and self.names > 0 and self.opens > 0:
            total = sum(piece.weight for piece in done) + sum(piece.weight for piece in level)
            level.sort(key=lambda piece: piece.weight, reverse=True)
            heavy = sum(piece.weight > total / (4 * self.n) for piece in level)
            deeper: list[_Piece] = []
            for piece in level[:heavy] + level[: heavy - 1 : -1] if heavy else level[::-1]:
                found = self._open(piece) if self.names > 0 and self.opens > 0 else None
                if found is None:
                    done.append(piece)
                else:
                    done += found[0]
                    deeper += found[1]
            level = deeper
        done += level
        done.sort(key=_path)
        return done

    def _open(self, piece: _Piece) -> tuple[list[_Piece], list[_Piece]] | None:
        self.opens -= 1
        try:
            fd = os.open(piece.path, _DIRECTORY, dir_fd=self.root)
        except OSError:
            return None
        try:
            return self._read(fd, piece.path, piece.weight)
        except OSError:
            return None
        finally:
            os.close(fd)

    def _read(self, fd: int, prefix: bytes, weight: float) -> tuple[list[_Piece], list[_Piece]]:
        """(files, directories) of one directory; when the budget ends first, a sample that weighs the
        whole."""
        files: list[_Piece] = []
        directories: list[_Piece] = []
        count = 0
        with os.scandir(fd) as entries:
            for entry in entries:
                if count >= self.names:
                    weight = max(weight, os.fstat(fd).st_size * self.ratio)
                    break
                count += 1
                path = prefix + os.fsencode(entry.name)
                if entry.is_dir(follow_symlinks=False):
                    path += b"/"
                    if self._outside(path) or path[len(prefix) :].startswith(STAGING_PREFIX):
                        continue
                    size = entry.stat(follow_symlinks=False).st_size
                    directories.append(_Piece(path, max(1.0, size * self.ratio)))
                elif path > self.after and (self.until is None or path <= self.until):
                    files.append(_Piece(path))
            else:
                weight = 0.0
                size = os.fstat(fd).st_size
                if count >= 200 and size:
                    self.ratio = count / size
        self.names -= count
        if weight > count:
            for piece in files:
                piece.weight = (weight - len(directories)) / max(1, len(files))
        return files, directories

    def _outside(self, path: bytes) -> bool:
        if self.until is not None and path > self.until:
            return True
        return self.after >= path and not self.after.startswith(path)


def _path(piece: _Piece) -> bytes:
    return piece.path


def _key(path: bytes) -> bytes:
    try:
        if path.endswith(b"/"):
            return from_path(path + b"_", True)[:-1]
        return from_path(path, True)
    except NameNotPossibleError:
        return path
