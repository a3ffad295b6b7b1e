"""Small moves on open files that the standard library lacks."""

from __future__ import annotations

import ctypes
import errno
import os


def current_umask() -> int:
    """The umask, read without changing it where the system allows."""
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"Umask:"):
                    return int(line.split()[1], 8)
    except OSError:
        pass
    mask = os.umask(0o077)
    os.umask(mask)
    return mask


def unlink_quietly(name: bytes, dir_fd: int) -> None:
    """Unlink if that is possible."""
    try:
        os.unlink(name, dir_fd=dir_fd)
    except OSError:
        pass


def write_rest(fd: int, rest: memoryview) -> None:
    """Write all of ``rest``, however many calls it takes."""
    while rest:
        rest = rest[os.write(fd, rest) :]


def allocate(fd: int, size: int) -> None:
    """Reserve space where the file system can; else only set the size (never write zeros)."""
    room = os.fstatvfs(fd)
    if room.f_frsize and room.f_blocks and size > room.f_bfree * room.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))  # fallocate would fill the disk to find out
    result = _FALLOCATE(fd, 0, 0, size)
    if result == 0:
        return
    code = ctypes.get_errno()
    if code in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EINTR):
        os.ftruncate(fd, size)
        return
    raise OSError(code, os.strerror(code))


_FALLOCATE = ctypes.CDLL(None, use_errno=True).fallocate
_FALLOCATE.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
