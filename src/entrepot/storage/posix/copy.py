"""From one file system to another (or the same): reflinks, holes, hard links and attributes are kept.

Small files are read and written whole. Large ones are cloned where the file system can share blocks; else
only their data is copied, inside the kernel where possible, so that holes stay holes.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Collection

from entrepot.model.entry import Row
from entrepot.model.errors import StoreError

from .attributes import DEFAULT_PRESERVE, owner_of
from .faults import read_error, write_error
from .links import Links
from .reader import SourceFile, read_whole, read_xattrs
from .root import Root
from .staging import Staged, Staging

SMALL = 256 << 10
"""Files up to this size (bytes) are read and written in one piece."""
_PIECE = 64 << 20
_FICLONE = 0x40049409
_NO_CLONE = frozenset(
    {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.ETXTBSY}
)
_NO_RANGE = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ETXTBSY})

Progress = Callable[[int], None]


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

    It appears complete under its final name, or not at all. ``progress`` is told of bytes every 64 MiB, and
    may raise to give up. Raises ChangedError when the source is not (or no longer) what ``row`` says,
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
            _copy_content(file, staged, key, progress)
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


def _copy_content(file: SourceFile, staged: Staged, key: bytes, progress: Progress | None) -> None:
    try:
        fcntl.ioctl(staged.fd, _FICLONE, file.fd)
        if progress is not None:
            progress(file.size)
        return
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise write_error(error, key) from None
    offset = 0
    while offset < file.size:
        start, end = _next_data(file.fd, offset, file.size)
        if start >= file.size:
            break
        _copy_extent((file.fd, staged.fd), start, end, key, progress)
        offset = end


def _next_data(fd: int, offset: int, size: int) -> tuple[int, int]:
    """The next stretch of data at or after ``offset``; (size, size) when only a hole is left."""
    try:
        start = os.lseek(fd, offset, os.SEEK_DATA)
        return start, min(os.lseek(fd, start, os.SEEK_HOLE), size)
    except OSError as error:
        if error.errno == errno.ENXIO:
            return size, size
        return offset, size


def _copy_extent(fds: tuple[int, int], start: int, end: int, key: bytes, progress: Progress | None) -> None:
    source, target = fds
    while start < end:
        done = _in_kernel(source, target, start, min(_PIECE, end - start), key)
        if done <= 0:
            return  # shorter than it was: the re-check will say so
        start += done
        if progress is not None:
            progress(done)


def _in_kernel(source: int, target: int, start: int, length: int, key: bytes) -> int:
    try:
        return os.copy_file_range(source, target, length, start, start)
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise _either(error, key) from None
    try:
        os.lseek(target, start, os.SEEK_SET)
        return os.sendfile(target, source, start, length)
    except OSError as error:
        if error.errno not in _NO_RANGE:
            raise _either(error, key) from None
    return _by_hand(source, target, start, min(length, 1 << 20), key)


def _by_hand(source: int, target: int, start: int, length: int, key: bytes) -> int:
    try:
        data = os.pread(source, length, start)
    except OSError as error:
        raise read_error(error, key) from None
    rest = memoryview(data)
    try:
        while rest:
            done = os.pwrite(target, rest, start)
            rest = rest[done:]
            start += done
    except OSError as error:
        raise write_error(error, key) from None
    return len(data)


def _either(error: OSError, key: bytes) -> StoreError:
    """A call that reads and writes at once: only some errors tell which side failed."""
    return read_error(error, key) if error.errno in (errno.EIO, errno.ESTALE) else write_error(error, key)


def _small_xattrs(source: Root, key: bytes) -> dict[str, bytes]:
    fd = source.open_read(key)
    try:
        return read_xattrs(fd)
    finally:
        os.close(fd)
