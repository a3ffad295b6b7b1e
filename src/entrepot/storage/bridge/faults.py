"""What the libraries of the bridge raise, turned into the error tree.

The libraries are not imported for that: errno, HTTP status and SFTP codes are read where an exception has
them.
"""

from __future__ import annotations

import errno
import ssl

from entrepot.model.errors import (
    ForbiddenError,
    FormatError,
    InternalError,
    LockedError,
    NameNotPossibleError,
    NotFoundError,
    QuotaError,
    StoreError,
    StoreTimeoutError,
    ThrottledError,
    UnexpectedReplyError,
    UsageError,
)

_ERRNO: dict[int, type[StoreError]] = {
    errno.ENOENT: NotFoundError,
    errno.EACCES: ForbiddenError,
    errno.EPERM: ForbiddenError,
    errno.ENOSPC: QuotaError,
    errno.EDQUOT: QuotaError,
    errno.EROFS: QuotaError,
    errno.ENAMETOOLONG: NameNotPossibleError,
    errno.EISDIR: NameNotPossibleError,
    errno.ENOTDIR: NameNotPossibleError,
    errno.EINVAL: NameNotPossibleError,
}
_SFTP: dict[int, type[StoreError]] = {
    2: NotFoundError, 3: ForbiddenError, 10: NotFoundError, 12: QuotaError, 14: QuotaError, 15: QuotaError,
    17: LockedError, 19: NameNotPossibleError, 20: NameNotPossibleError, 24: NameNotPossibleError,
}  # fmt: skip
_HTTP: dict[int, type[StoreError]] = {
    400: FormatError, 401: ForbiddenError, 403: ForbiddenError, 404: NotFoundError, 408: StoreTimeoutError,
    409: NotFoundError, 410: NotFoundError, 413: FormatError, 414: NameNotPossibleError, 423: LockedError,
    429: ThrottledError, 503: ThrottledError, 504: StoreTimeoutError, 507: QuotaError,
}  # fmt: skip
_HINTS: dict[type[StoreError], str] = {
    ForbiddenError: "check user, password or key, and the rights at that place",
    StoreTimeoutError: "check the network between this machine and the store",
    QuotaError: "free space or raise the quota, then run again",
}


class HttpStatus(Exception):
    """An HTTP reply that is no success; :func:`store_error` knows what it means."""

    def __init__(self, status: int, reason: str = "") -> None:
        super().__init__(f"HTTP {status} {reason}".strip())
        self.status = status


def store_error(fault: Exception, subject: str) -> StoreError:
    """The StoreError that ``fault`` is, for ``subject``."""
    if isinstance(fault, StoreError):
        return fault
    kind, code = _kind(fault)
    # A lock (HTTP 423) is mostly another request of ours to the same directory.
    retryable = (
        kind in {StoreTimeoutError, ThrottledError} or code == "423" or (kind is UnexpectedReplyError and _server(code))
    )
    error = kind(f"{subject}: {_said(fault)}", subject=subject, hint=_HINTS.get(kind, ""), retryable=retryable)
    error.code = code
    return error


def missing_extra(what: str, fault: ImportError) -> UsageError:
    """The error for a library that is not installed."""
    return UsageError(
        f"{what} needs packages that are not installed ({fault.name or fault})",
        hint="pip install 'entrepot[bridge]' (and 'entrepot[parquet]' for HDFS)",
    )


def _kind(fault: Exception) -> tuple[type[StoreError], str]:
    status = getattr(fault, "status", None) or getattr(getattr(fault, "response", None), "status_code", None)
    code = getattr(fault, "code", None)
    name = type(fault).__name__
    if isinstance(status, int):
        return _http(status), str(status)
    if isinstance(fault, ssl.SSLCertVerificationError) or "HostKey" in name or name == "PermissionDenied":
        return ForbiddenError, name
    if type(fault).__module__.startswith("asyncssh"):
        if name.startswith("SFTP") and isinstance(code, int):
            if code in {6, 7}:
                return StoreTimeoutError, name
            return _SFTP.get(code, UnexpectedReplyError), name
        return StoreTimeoutError, name
    if type(fault).__module__.startswith("gcsfs") and code is not None:
        return (_http(int(code)), str(code)) if str(code).isdigit() else (UnexpectedReplyError, str(code))
    if isinstance(fault, FileNotFoundError):
        return NotFoundError, "ENOENT"
    if isinstance(fault, IsADirectoryError | NotADirectoryError | FileExistsError):
        return NameNotPossibleError, name
    if isinstance(fault, PermissionError):
        return ForbiddenError, name
    if isinstance(fault, OSError) and fault.errno in _ERRNO:
        return _ERRNO[fault.errno], errno.errorcode[fault.errno]
    if isinstance(fault, OSError | TimeoutError | EOFError):
        return StoreTimeoutError, name
    if isinstance(fault, MemoryError | AssertionError):
        raise InternalError(f"the bridge failed: {name}") from fault
    return UnexpectedReplyError, name


def _http(status: int) -> type[StoreError]:
    return _HTTP.get(status, UnexpectedReplyError)


def _server(code: str) -> bool:
    return code.isdigit() and int(code) >= 500 and code != "501"


def _said(fault: Exception) -> str:
    text = " ".join(str(fault).split()) or type(fault).__name__
    # A URL with credentials or a signature must not reach a message.
    words = [word if "@" not in word and "token=" not in word.lower() else "…" for word in text.split(" ")]
    line = " ".join(words)
    return line if len(line) <= 200 else line[:197] + "..."
