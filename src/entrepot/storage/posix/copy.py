"""From one file system to another (or the same): reflinks, holes, hard links and attributes are kept.

Small files are read and written whole. Of large ones only the data is copied (``content`` knows how), so that
holes stay holes.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Collection

from entrepot.model.entry import Row

from .attributes import DEFAULT_PRESERVE, owner_of
from .content import Progress, copy_content
from .links import Links
from .reader import SourceFile, read_whole, read_xattrs
from .root import Root
from .staging import Staging

SMALL = 256 << 10
"""Files up to this size (bytes) are read and written in one piece."""


def copy_file(
    source: Root,
    target: Staging,
    key: bytes,
    row: Row,
    preserve: Collection[str] = DEFAULT_PRESERVE,
    *,
    links: Links | None = None,
    progress: Progress | None = None,
) -> int:
    """Copy the file ``key``, listed as ``row``; bytes of content copied (0 for a hard link made).

    It appears complete under its final name, or not at all. ``progress`` is told of bytes now and
    then, and may raise to give up. Raises ChangedError when the source is not (or no longer) what ``row`` says,
    VanishedError, …
    """
    size = row[2]
    if size > SMALL:
        return _copy_large(source, target, key, row, preserve, links, progress)
    data, state = read_whole(source, key, size, row[1])
    if links is not None and state.st_nlink > 1 and links.link(key, state):
        return 0
    xattrs = _small_xattrs(source, key) if "xattr" in preserve else None
    target.write_small(
        key,
        data,
        state.st_mtime_ns if "mtime" in preserve else None,
        stat.S_IMODE(state.st_mode) if "mode" in preserve else None,
        owner=owner_of(state, preserve),
        xattrs=xattrs,
    )
    if links is not None and state.st_nlink > 1:
        links.remember(key, state)
    return size


def _copy_large(
    source: Root,
    target: Staging,
    key: bytes,
    row: Row,
    preserve: Collection[str],
    links: Links | None,
    progress: Progress | None,
) -> int:
    with SourceFile(source, key, row) as file:
        state = file.state
        shared = links is not None and state.st_nlink > 1
        if shared and links is not None and links.link(key, state):
            return 0
        staged = target.begin_fresh(file.size)
        try:
            copy_content(file.fd, staged.fd, file.size, key, progress)
            file.recheck(row)
            if "xattr" in preserve:
                staged.xattrs = read_xattrs(file.fd)
        except BaseException:
            target.discard(staged)
            raise
        target.commit(
            staged,
            key,
            state.st_mtime_ns if "mtime" in preserve else None,
            file.mode if "mode" in preserve else None,
            owner=owner_of(state, preserve),
        )
        if shared and links is not None:
            links.remember(key, state)
        return file.size


def _small_xattrs(source: Root, key: bytes) -> dict[str, bytes]:
    fd = source.open_read(key)
    try:
        return read_xattrs(fd)
    finally:
        os.close(fd)
