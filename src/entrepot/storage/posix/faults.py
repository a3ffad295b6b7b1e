"""What an OSError of a file system means: its failure class, in words that name the file."""

from __future__ import annotations

import errno
import os

from entrepot.model.errors import (
    ChangedError,
    ForbiddenError,
    FormatError,
    NameNotPossibleError,
    QuotaError,
    StoreError,
    StoreTimeoutError,
    UnexpectedReplyError,
    VanishedError,
)

from .names import show

_FULL = {
    errno.ENOSPC: "no space left",
    errno.EDQUOT: "the quota is used up",
    errno.EROFS: "it is mounted read-only",
}
_BAD_NAME = frozenset({errno.ENAMETOOLONG, errno.EILSEQ, errno.EINVAL})
_GONE = frozenset({errno.ENOENT, errno.ENOTDIR})
_RETRYABLE = frozenset({errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN})


def read_error(error: OSError, key: bytes) -> StoreError:
    """The StoreError for a failed look at, or read of, the source file ``key``."""
    name = show(key)
    code = error.errno
    if code in _GONE:
        return VanishedError(f"{name}: gone since it was listed", subject=name)
    if code in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.ENODEV):
        return ChangedError(f"{name}: no longer a regular file", subject=name)
    if code in _BAD_NAME:
        return NameNotPossibleError(f"{name}: the file system refuses this name ({_why(error)})", subject=name)
    return _common(error, name, "read")


def write_error(error: OSError, key: bytes) -> StoreError:
    """The StoreError for a failed write, rename, link or unlink of the destination file ``key``."""
    name = show(key)
    code = error.errno
    if code in _FULL:
        return QuotaError(
            f"{name}: cannot write, {_FULL[code]}",
            subject=name,
            hint="make room on the destination, then resume",
        )
    if code in (errno.EISDIR, errno.ENOTEMPTY, errno.EEXIST):
        return NameNotPossibleError(
            f"{name}: a directory of this name is in the way", subject=name, hint="rename one of the two"
        )
    if code in (errno.ENOTDIR, errno.ELOOP):
        return NameNotPossibleError(
            f"{name}: a part of its path is a file or a symbolic link, not a directory",
            subject=name,
            hint="Entrepot never writes through links or over files that stand for directories",
        )
    if code in _BAD_NAME:
        return NameNotPossibleError(f"{name}: the file system refuses this name ({_why(error)})", subject=name)
    if code == errno.EFBIG:
        return FormatError(f"{name}: larger than a file may be on this file system", subject=name)
    if code == errno.ENOENT:
        return UnexpectedReplyError(
            f"{name}: its directory was removed while it was written", subject=name, retryable=True
        )
    return _common(error, name, "write")


def listing_failure(error: OSError) -> str:
    """The failure class of a directory that could not be listed."""
    if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
        return "vanished"
    if error.errno in (errno.EACCES, errno.EPERM):
        return "forbidden"
    if error.errno == errno.ETIMEDOUT:
        return "timeout"
    return "name" if error.errno == errno.ENAMETOOLONG else "internal"


def _common(error: OSError, name: str, verb: str) -> StoreError:
    code = error.errno
    if code == errno.EPERM:
        return ForbiddenError(
            f"{name}: not permitted to {verb} it",
            subject=name,
            hint="the file may be immutable or append-only (lsattr), or belong to someone else",
        )
    if code == errno.EACCES:
        return ForbiddenError(
            f"{name}: no permission to {verb} it",
            subject=name,
            hint="check owner and mode of it and its directories",
        )
    if code == errno.ETIMEDOUT:
        return StoreTimeoutError(f"{name}: the file system did not answer in time", subject=name)
    return UnexpectedReplyError(f"{name}: cannot {verb} it ({_why(error)})", subject=name, retryable=code in _RETRYABLE)


def _why(error: OSError) -> str:
    return os.strerror(error.errno) if error.errno else str(error)
