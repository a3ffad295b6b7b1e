"""Reading source files, pinned to what the listing said: a changed file is an error, never a mixture."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass, field

from entrepot.model.entry import Evidence, Row
from entrepot.model.errors import ChangedError, StoreError

from .faults import read_error
from .names import show
from .root import Root

_REGULAR = stat.S_IFREG


@dataclass(slots=True)
class Attributes:
    """What a file system keeps beside the bytes. ``xattrs`` maps names to values."""

    mode: int
    uid: int
    gid: int
    xattrs: dict[str, bytes] = field(default_factory=dict)


def matches(state: os.stat_result, evidence: Evidence | None) -> bool:
    """True when a file's times are those that its row was listed with: the mtime, or (mtime, ctime)."""
    if type(evidence) is tuple:
        return (state.st_mtime_ns, state.st_ctime_ns) == evidence
    return evidence is None or state.st_mtime_ns == evidence


def read_small(root: Root, key: bytes, size: int, mtime_ns: Evidence | None = None) -> tuple[bytes, int]:
    """(bytes, mtime_ns) of the file ``key``, which was listed with ``size`` (and ``mtime_ns``).

    Raises ChangedError, VanishedError, ForbiddenError, …
    """
    data, state = read_whole(root, key, size, mtime_ns)
    return data, state.st_mtime_ns


def read_whole(root: Root, key: bytes, size: int, listed: Evidence | None = None) -> tuple[bytes, os.stat_result]:
    """Like :func:`read_small`, with the file's state, which is taken after its bytes were read."""
    fd = root.open_read(key)
    try:
        # One byte more than listed shows growth; much more would make the read allocate by mmap.
        data = os.read(fd, size + 1)
        if len(data) < size:
            data = _read_on(fd, data, size)
        state = os.fstat(fd)
    except OSError as error:
        raise read_error(error, key) from None
    finally:
        os.close(fd)
    if (
        len(data) != size
        or state.st_size != size
        or state.st_mode & 0o170000 != _REGULAR
        or (state.st_mtime_ns != listed and not matches(state, listed))
    ):
        raise changed(key, listed, state, size)
    return data, state


class SourceFile:
    """An open source file: ``fd``, ``size``, ``mtime_ns``, ``mode``, and its full ``state`` at opening.

    Raises ChangedError when it is not the file that ``row`` (when given) lists, VanishedError,
    ForbiddenError, …
    """

    __slots__ = ("fd", "key", "mode", "mtime_ns", "size", "state")

    def __init__(self, root: Root, key: bytes, row: Row | None = None) -> None:
        self.key = key
        self.fd = root.open_read(key)
        try:
            self.state = self._checked(row)
        except BaseException:
            self.close()
            raise
        self.size = self.state.st_size
        self.mtime_ns = self.state.st_mtime_ns
        self.mode = stat.S_IMODE(self.state.st_mode)

    def recheck(self, row: Row | None = None) -> None:
        """Raise ChangedError unless the file is still as ``row`` lists it, or as it was at opening."""
        self._checked(row if row is not None else (self.key, self.mtime_ns, self.size))

    def close(self) -> None:
        """Close the descriptor; safe to repeat."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> SourceFile:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _checked(self, row: Row | None) -> os.stat_result:
        try:
            state = os.fstat(self.fd)
        except OSError as error:
            raise read_error(error, self.key) from None
        if state.st_mode & 0o170000 != _REGULAR:
            raise changed(self.key, None, state, 0)
        if row is not None and (state.st_size != row[2] or not matches(state, row[1])):
            raise changed(self.key, row[1], state, row[2])
        return state


def attributes(fd: int, *, xattrs: bool = True) -> Attributes:
    """Mode, owner and (those readable of) the extended attributes of an open file."""
    state = os.fstat(fd)
    return Attributes(stat.S_IMODE(state.st_mode), state.st_uid, state.st_gid, read_xattrs(fd) if xattrs else {})


def read_xattrs(fd: int) -> dict[str, bytes]:
    """The extended attributes that may be read; empty where the file system has none."""
    try:
        names = os.listxattr(fd)
    except OSError:
        return {}
    found = {}
    for name in names:
        try:
            found[name] = os.getxattr(fd, name)
        except OSError:
            continue
    return found


def changed(key: bytes, listed: Evidence | None, state: os.stat_result, size: int) -> StoreError:
    """The ChangedError that says what differs."""
    name = show(key)
    if not stat.S_ISREG(state.st_mode):
        what = "it is no longer a regular file"
    elif state.st_size != size:
        what = f"listed with {size} bytes, now {state.st_size}"
    elif not matches(state, listed):
        what = "it was written since it was listed"
    else:
        what = "its size does not match its content"
    return ChangedError(f"{name}: {what}", subject=name, hint="run again when the source is at rest")


def _read_on(fd: int, data: bytes, size: int) -> bytes:
    """Go on after a short read."""
    pieces = [data]
    have = len(data)
    while have <= size:
        piece = os.read(fd, size + 1 - have)
        if not piece:
            break
        pieces.append(piece)
        have += len(piece)
    return b"".join(pieces)
