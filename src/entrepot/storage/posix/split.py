"""Cutting a tree into key ranges of about equal work, by a look at its upper levels only."""

from __future__ import annotations

import os

from entrepot.model.errors import NameNotPossibleError

from .names import STAGING_PREFIX, from_path
from .walk import open_root

_LOOK_MAX = 30_000
"""Directory entries looked at in all."""
_BYTES_PER_NAME = 24
"""For directories that were not opened: their own size tells roughly how many names they hold."""

_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def boundaries(
    root: int | bytes, n: int, after: bytes = b"", until: bytes | None = None, *, escape: bool = False
) -> list[bytes]:
    """Up to ``n - 1`` ascending keys that cut ``(after, until]`` into ranges with about equal numbers of entries."""
    if n < 2:
        return []
    fd = open_root(root)
    try:
        pieces = _pieces(fd, n)
    finally:
        os.close(fd)
    if escape:
        pieces = sorted((_key(path), weight) for path, weight in pieces)
    pieces = [(k, w) for k, w in pieces if k > after and (until is None or k < until)]
    total = sum(weight for _, weight in pieces)
    cuts: list[bytes] = []
    done = 0.0
    for key, weight in pieces:
        # A cut at ``key`` leaves everything before this piece on the left side.
        if done >= total * (len(cuts) + 1) / n and (not cuts or key > cuts[-1]):
            cuts.append(key)
            if len(cuts) == n - 1:
                break
        done += weight
    return cuts


def _pieces(root: int, n: int) -> list[tuple[bytes, float]]:
    """(path of a file, or of a directory with ``/``; entries in it), sorted: two levels where they are cheap."""
    budget = _LOOK_MAX
    files, directories, cost = _look(root, b"", budget)
    budget -= cost
    pieces = [(path, 1.0) for path in files]
    if len(files) < 64 * n:
        # The heaviest first, so that the budget goes where the work is.
        directories.sort(key=lambda piece: -piece[1])
        rest = []
        for path, weight in directories:
            if budget <= 0:
                rest.append((path, weight))
                continue
            found = _expand(root, path, budget)
            if found is None:
                rest.append((path, weight))
                continue
            budget -= found[1]
            pieces += found[0]
        directories = rest
    pieces += directories
    pieces.sort()
    return pieces


def _expand(root: int, path: bytes, budget: int) -> tuple[list[tuple[bytes, float]], int] | None:
    try:
        fd = os.open(path, _DIRECTORY, dir_fd=root)
    except OSError:
        return None
    try:
        files, directories, cost = _look(fd, path, budget)
    except OSError:
        return None
    finally:
        os.close(fd)
    return [(name, 1.0) for name in files] + directories, cost


def _look(fd: int, prefix: bytes, budget: int) -> tuple[list[bytes], list[tuple[bytes, float]], int]:
    files: list[bytes] = []
    directories: list[tuple[bytes, float]] = []
    cost = 0
    with os.scandir(fd) as entries:
        for entry in entries:
            cost += 1
            if cost > budget:
                break
            name = os.fsencode(entry.name)
            if name.startswith(STAGING_PREFIX):
                continue
            if entry.is_dir(follow_symlinks=False):
                weight = max(1.0, entry.stat(follow_symlinks=False).st_size / _BYTES_PER_NAME)
                directories.append((prefix + name + b"/", weight))
                cost += 2
            else:
                files.append(prefix + name)
    return files, directories, cost


def _key(path: bytes) -> bytes:
    try:
        if path.endswith(b"/"):
            return from_path(path + b"_", True)[:-1]
        return from_path(path, True)
    except NameNotPossibleError:
        return path
