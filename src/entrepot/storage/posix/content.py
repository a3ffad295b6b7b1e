"""The bytes of one large file on their way into another: cloned, else by the kernel, else by two threads.

Holes stay holes. Which way is best depends on the file systems: some clone, some copy inside the server or the
device. Where a copy is nothing but memory moving through a processor, two processors do it sooner than one.
"""

from __future__ import annotations

import errno
import fcntl
import os
import threading
from collections.abc import Callable, Iterator

from entrepot.model.errors import StoreError

from .faults import read_error, write_error

Progress = Callable[[int], None]
Files = tuple[int, int]
"""Descriptors: to read from, to write to."""

TWO_FROM = 32 << 20
"""Files from this size (bytes) are worth a second thread."""
CHUNK = 1 << 20
"""What one of two threads takes at a time: little enough to stay in a processor's cache, and worth a turn."""
_PIECE = 64 << 20
_FICLONE = 0x40049409
_NO_CLONE = frozenset(
    {errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS, errno.EPERM, errno.ETXTBSY}
)
_NO_RANGE = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EPERM, errno.ETXTBSY})
_NEAR = frozenset({"ext2", "ext3", "ext4", "f2fs", "overlay", "ramfs", "tmpfs", "xfs"})
"""File systems whose copy_file_range, where cloning failed, is the kernel's own loop over pages."""


def copy_content(source: int, target: int, size: int, key: bytes, progress: Progress | None) -> None:
    """Bring the first ``size`` bytes into ``target``, which has that size already.

    A source that turns out shorter is left for the caller's check of its state. ``progress`` is told of bytes
    now and then, always from the caller's thread, and may raise to give up. Raises StoreError.
    """
    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno not in _NO_CLONE:
            raise write_error(error, key) from None
    else:
        if progress is not None:
            progress(size)
        return
    if size >= TWO_FROM and _is_near(source) and _is_near(target) and len(os.sched_getaffinity(0)) > 1:
        _Pair((source, target), size, key, progress).run()
        return
    for start, end in stretches(source, size):
        _copy_stretch((source, target), start, end, key, progress)


def stretches(fd: int, size: int) -> Iterator[tuple[int, int]]:
    """Where there is data, (start, end) in order; what lies between is holes."""
    offset = 0
    while offset < size:
        try:
            start = os.lseek(fd, offset, os.SEEK_DATA)
            end = min(os.lseek(fd, start, os.SEEK_HOLE), size)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return
            start, end = offset, size
        if start >= size:
            return
        yield start, end
        offset = end


# -- inside the kernel ---------------------------------------------------------------------------------------------


def _copy_stretch(files: Files, start: int, end: int, key: bytes, progress: Progress | None) -> None:
    while start < end:
        done = _in_kernel(files, start, min(_PIECE, end - start), key)
        if done <= 0:
            return  # shorter than it was: the re-check will say so
        start += done
        if progress is not None:
            progress(done)


def _in_kernel(files: Files, start: int, length: int, key: bytes) -> int:
    source, target = files
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
    return _by_hand(files, start, memoryview(bytearray(min(length, 1 << 20))), key)


def _either(error: OSError, key: bytes) -> StoreError:
    """A call that reads and writes at once: only some errors tell which side failed."""
    return read_error(error, key) if error.errno in (errno.EIO, errno.ESTALE) else write_error(error, key)


# -- by hand -------------------------------------------------------------------------------------------------------


def _by_hand(files: Files, start: int, room: memoryview, key: bytes) -> int:
    """Move what one read into ``room`` brings; its length."""
    count = _read(files[0], start, room, key)
    _write(files[1], start, room[:count], key)
    return count


def _read(fd: int, start: int, room: memoryview, key: bytes) -> int:
    try:
        return os.preadv(fd, [room], start)
    except OSError as error:
        raise read_error(error, key) from None


def _write(fd: int, start: int, data: memoryview, key: bytes) -> None:
    try:
        while data:
            done = os.pwrite(fd, data, start)
            data = data[done:]
            start += done
    except OSError as error:
        raise write_error(error, key) from None


class _Pair:
    """Two threads, each with a buffer, that take the next chunk in turn: while one writes, the other reads.

    The writes of one file exclude each other in the kernel, its reads do not. Who has to wait there waits in a
    busy loop, so we take turns before it comes to that.
    """

    def __init__(self, files: Files, size: int, key: bytes, progress: Progress | None) -> None:
        self._files = files
        self._key = key
        self._progress = progress
        self._chunks = _chunks(files[0], size)
        self._turn = threading.Lock()
        self._pen = threading.Lock()
        self._done = 0
        self._ended = False
        self._fault: BaseException | None = None

    def run(self) -> None:
        """Until all is copied. Raises what either thread met."""
        helper = threading.Thread(target=self._help, name="copy", daemon=True)
        helper.start()
        try:
            self._carry(self._tell)
        finally:
            self._ended = True
            helper.join()
        if self._fault is not None:
            raise self._fault
        self._tell()

    def _help(self) -> None:
        try:
            self._carry(None)
        except BaseException as fault:
            self._fault = fault
            self._ended = True

    def _carry(self, tell: Callable[[], None] | None) -> None:
        with memoryview(bytearray(CHUNK)) as room:
            while True:
                with self._turn:  # telling in turn, too: a limit that makes us sleep holds both
                    if tell is not None:
                        tell()
                    chunk = None if self._ended else next(self._chunks, None)
                if chunk is None:
                    return
                start, end = chunk
                while start < end:
                    count = _read(self._files[0], start, room[: end - start], self._key)
                    if not count:
                        self._ended = True  # shorter than it was: the re-check will say so
                        return
                    with self._pen:
                        _write(self._files[1], start, room[:count], self._key)
                    start += count
                with self._turn:
                    self._done += chunk[1] - chunk[0]

    def _tell(self) -> None:
        count, self._done = self._done, 0
        if count and self._progress is not None:
            self._progress(count)


def _chunks(fd: int, size: int) -> Iterator[tuple[int, int]]:
    for start, end in stretches(fd, size):
        for at in range(start, end, CHUNK):
            yield at, min(at + CHUNK, end)


# -- which file systems --------------------------------------------------------------------------------------------

_kinds: dict[int, bool] = {}


def _is_near(fd: int) -> bool:
    """Whether copying by hand loses nothing on the file system of ``fd``."""
    device = os.fstat(fd).st_dev
    known = _kinds.get(device)
    if known is None:
        known = _kinds[device] = _kind(device) in _NEAR
    return known


def _kind(device: int) -> str:
    """The type of the file system with this device number; empty if it cannot be told."""
    wanted = b"%d:%d" % (os.major(device), os.minor(device))
    try:
        with open("/proc/self/mountinfo", "rb") as table:
            for line in table:
                fields, _, rest = line.partition(b" - ")
                if fields.split(b" ", 3)[2] == wanted:
                    return rest.split(b" ", 1)[0].decode("ascii", "replace")
    except (OSError, IndexError):
        pass
    return ""
