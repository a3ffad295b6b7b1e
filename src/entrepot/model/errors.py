"""The error tree, and the class of every failure.

EntrepotError
├── UsageError          wrong usage or settings                        exit 2
│   ├── RequestError    one field of a request is wrong
│   └── WrongState      not possible in the state that it is in
├── PlaceError          source or destination not found / not allowed  exit 3
├── GuardError          a guard refused (overlap, delete cap, …)       exit 4
├── AuthenticationError nobody knows who is asking                     exit 3
├── AccessError         the one who asks has no right to it            exit 3
├── NoSuch              there is none of that name, or not for the one who asks
├── Conflict            there is one of that name already, or it was asked for otherwise
├── TooMany             a limit was reached; later it may work          (HTTP 429)
├── LeaseLost           the work now belongs to another runner
├── InternalError       a fault of Entrepot's own                      exit 5
└── StoreError          a store or file system said no; has a FailureClass
    ├── NotFoundError, ForbiddenError, ChangedError, VanishedError, CorruptError,
    │   ThrottledError, StoreTimeoutError, NameNotPossibleError, QuotaError,
    │   FormatError, ArchivedError, LockedError, UnexpectedReplyError

Every message says what happened and to which object; ``hint`` says what to do.
Messages never hold credentials.
"""

from __future__ import annotations

from enum import StrEnum


class FailureClass(StrEnum):
    """Why one entry (or one range) could not be done; the same names in reports, API and docs."""

    NOT_FOUND = "not_found"
    FORBIDDEN = "forbidden"
    CHANGED = "changed"
    VANISHED = "vanished"
    CORRUPT = "corrupt"
    THROTTLED = "throttled"
    TIMEOUT = "timeout"
    NAME = "name"
    QUOTA = "quota"
    FORMAT = "format"
    ARCHIVED = "archived"
    LOCKED = "locked"
    INTERNAL = "internal"


class EntrepotError(Exception):
    """Root of all errors that Entrepot raises on purpose."""

    exit_code = 5

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return self.message


class UsageError(EntrepotError):
    """Wrong usage or settings: nothing was touched."""

    exit_code = 2


class RequestError(UsageError):
    """One field of a request is wrong (HTTP 400): nothing was touched."""

    def __init__(self, field: str, message: str, *, hint: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message, hint=hint)
        self.field = field
        self.description = message


class WrongState(UsageError):
    """What was asked for does not go with the state that the object is in (HTTP 400, FAILED_PRECONDITION)."""


class PlaceError(EntrepotError):
    """The source or destination does not exist or may not be used: nothing was touched."""

    exit_code = 3


class GuardError(EntrepotError):
    """A guard refused the run (overlap, delete cap, unsafe path, another live run)."""

    exit_code = 4


class AuthenticationError(EntrepotError):
    """Credentials are missing, malformed, wrong or expired (HTTP 401)."""

    exit_code = 3


class AccessError(EntrepotError):
    """The credentials are good, but give no right to this (HTTP 403)."""

    exit_code = 3


NotAllowed = AccessError
"""The name that the control plane uses."""


class NoSuch(EntrepotError):
    """There is no such object, or none that the one who asks may know of (HTTP 404)."""

    exit_code = 3


class Conflict(EntrepotError):
    """An object of that name exists, or the same request was made with other content (HTTP 409)."""

    exit_code = 2


class TooMany(EntrepotError):
    """A rate, a quota or a number of open things is used up (HTTP 429); ``retry_after`` is in seconds."""

    def __init__(self, message: str, *, hint: str = "", retry_after: float = 1.0) -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class InternalError(EntrepotError):
    """A fault of Entrepot's own."""

    exit_code = 5


class LeaseLost(EntrepotError):
    """The shard now belongs to another runner; this result was refused."""


class StoreError(EntrepotError):
    """A store or file system refused or failed one operation.

    ``subject`` names the object or place; ``retryable`` says whether the same request may succeed later;
    ``code`` is the store's own word for it (``SlowDown``), or the HTTP status as text; empty when it gave none.
    """

    failure = FailureClass.INTERNAL
    retryable = False
    code: str = ""

    def __init__(self, message: str, *, subject: str = "", hint: str = "", retryable: bool | None = None) -> None:
        super().__init__(message, hint=hint)
        self.subject = subject
        if retryable is not None:
            self.retryable = retryable


class NotFoundError(StoreError):
    """The object, bucket or directory does not exist."""

    failure = FailureClass.NOT_FOUND


class ForbiddenError(StoreError):
    """The credentials or the file mode do not allow it."""

    failure = FailureClass.FORBIDDEN


class ChangedError(StoreError):
    """The source changed while it was read; nothing was committed."""

    failure = FailureClass.CHANGED


class VanishedError(StoreError):
    """The source disappeared between listing and reading; the destination is untouched."""

    failure = FailureClass.VANISHED


class CorruptError(StoreError):
    """Bytes did not match their checksum, length or range."""

    failure = FailureClass.CORRUPT
    retryable = True


class ThrottledError(StoreError):
    """The store asks to slow down (429, 503)."""

    failure = FailureClass.THROTTLED
    retryable = True


class StoreTimeoutError(StoreError):
    """No answer, a cut connection, or no progress within the stall time."""

    failure = FailureClass.TIMEOUT
    retryable = True


class NameNotPossibleError(StoreError):
    """The key cannot be represented at the destination, or would leave its root."""

    failure = FailureClass.NAME


class QuotaError(StoreError):
    """No space, quota used up, or a read-only file system."""

    failure = FailureClass.QUOTA


class FormatError(StoreError):
    """The object or its metadata has a form that the destination refuses."""

    failure = FailureClass.FORMAT


class ArchivedError(StoreError):
    """The object lies in an archive tier and must be restored first."""

    failure = FailureClass.ARCHIVED


class LockedError(StoreError):
    """The destination object is under a lock or retention rule."""

    failure = FailureClass.LOCKED


class UnexpectedReplyError(StoreError):
    """A reply that the protocol does not allow, or a server fault (5xx) that retries did not cure."""

    failure = FailureClass.INTERNAL
