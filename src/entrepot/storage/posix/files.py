"""Small moves on open files that the standard library lacks."""

from __future__ import annotations

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
    """Set the size if the file system has room for it, so that a full disk shows now.

    Blocks are not reserved: where memory stands behind the file system (tmpfs) that would write every page twice.
    """
    room = os.fstatvfs(fd)
    if room.f_frsize and room.f_blocks and size > room.f_bfree * room.f_frsize:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    os.ftruncate(fd, size)
