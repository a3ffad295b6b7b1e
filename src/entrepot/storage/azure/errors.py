"""Error replies of Azure Blob, turned into the error tree.

The code stands in ``x-ms-error-code`` (HEAD replies have no body) and in the XML body. Only the first line of
the store's message is quoted, cut: the detail of a refused signature repeats the string to sign.
"""

from __future__ import annotations

import html
import re
from typing import NamedTuple

from entrepot.model.errors import (
    ArchivedError,
    ChangedError,
    CorruptError,
    ForbiddenError,
    FormatError,
    LockedError,
    NameNotPossibleError,
    NotFoundError,
    QuotaError,
    StoreError,
    StoreTimeoutError,
    ThrottledError,
    UnexpectedReplyError,
)

KEY_HINT = "check the account and its key or SAS token (it may have expired)"


class _Rule(NamedTuple):
    kind: type[StoreError]
    text: str
    hint: str = ""
    retryable: bool | None = None


_BUSY = _Rule(ThrottledError, "the store asks to slow down")
_FAULT = _Rule(UnexpectedReplyError, "the store failed", retryable=True)
_METADATA = _Rule(FormatError, "the store refuses the metadata", "leave it out with --preserve mtime")
_RULES: dict[str, _Rule] = {
    "BlobNotFound ResourceNotFound": _Rule(NotFoundError, "the blob does not exist"),
    "ContainerNotFound": _Rule(
        NotFoundError, "the container does not exist", "check the container name and the account"
    ),
    "ContainerBeingDeleted ContainerDisabled": _Rule(NotFoundError, "the container is being deleted"),
    "AuthenticationFailed NoAuthenticationInformation InvalidAuthenticationInfo": _Rule(
        ForbiddenError, "the credentials were refused", KEY_HINT
    ),
    "AuthorizationFailure AuthorizationPermissionMismatch AuthorizationProtocolMismatch "
    "AuthorizationResourceTypeMismatch AuthorizationServiceMismatch AuthorizationSourceIPMismatch "
    "InsufficientAccountPermissions UnauthorizedBlobOverwrite PublicAccessNotPermitted "
    "KeyBasedAuthenticationNotPermitted CannotVerifyCopySource": _Rule(
        ForbiddenError, "access denied", "the credentials are known but do not allow this; " + KEY_HINT
    ),
    "AccountIsDisabled": _Rule(ForbiddenError, "the storage account is disabled"),
    "ServerBusy TooManyRequests AccountIopsLimitExceeded": _BUSY,
    "OperationTimedOut RequestTimeout": _Rule(StoreTimeoutError, "the store gave up waiting"),
    "InternalError": _FAULT,
    "ConditionNotMet SourceConditionNotMet TargetConditionNotMet CopySourceConditionNotMet": _Rule(
        ChangedError, "the blob is not the expected version"
    ),
    "InvalidRange": _Rule(ChangedError, "the blob is shorter than expected"),
    "BlobAlreadyExists": _Rule(ChangedError, "the blob exists already"),
    "BlobArchived BlobBeingRehydrated CannotChangeToLowerTier": _Rule(
        ArchivedError, "the blob lies in the archive tier", "rehydrate it first, then run again"
    ),
    "BlobImmutableDueToPolicy BlobImmutableDueToLegalHold LeaseIdMissing LeaseAlreadyPresent LeaseLost "
    "LeaseIdMismatchWithBlobOperation SnapshotsPresent PendingCopyOperation": _Rule(
        LockedError, "the blob is locked", "a lease, legal hold or retention rule must end first"
    ),
    "InvalidBlobType SequenceNumberConditionNotMet": _Rule(
        FormatError, "the blob is of another type (page or append)", "delete it at the destination first"
    ),
    "InvalidMetadata MetadataTooLarge EmptyMetadataKey InvalidHeaderValue UnsupportedHeader": _METADATA,
    "RequestBodyTooLarge BlockCountExceedsLimit": _Rule(FormatError, "the store refuses this size"),
    "InvalidUri InvalidResourceName RequestUrlFailedToParse OutOfRangeInput": _Rule(
        NameNotPossibleError, "the store cannot hold this name"
    ),
    "Md5Mismatch Crc64Mismatch InvalidMd5": _Rule(
        CorruptError, "the bytes that arrived differ from the bytes sent"
    ),
    "InvalidBlockList InvalidBlobOrBlock InvalidBlockId BlockListTooLong": _Rule(
        NotFoundError, "the store does not hold the blocks of this upload (any more)"
    ),
    "FeatureVersionMismatch UnsupportedHttpVerb UnsupportedQueryParameter APINotImplemented "
    "NotImplemented": _Rule(UnexpectedReplyError, "the endpoint does not offer this request"),
    "AccountQuotaExceeded InsufficientStorage": _Rule(
        QuotaError, "no space or quota left", "raise the quota, then run again"
    ),
}  # fmt: skip
_CODES = {code: rule for codes, rule in _RULES.items() for code in codes.split()}
_STATUS: dict[int, _Rule] = {
    401: _CODES["AuthenticationFailed"],
    403: _Rule(ForbiddenError, "access denied", KEY_HINT),
    404: _Rule(NotFoundError, "not found"),
    405: _CODES["UnsupportedHttpVerb"],
    408: _CODES["OperationTimedOut"],
    409: _Rule(UnexpectedReplyError, "another request was in the way", retryable=True),
    412: _CODES["ConditionNotMet"],
    413: _CODES["RequestBodyTooLarge"],
    414: _CODES["InvalidUri"],
    416: _CODES["InvalidRange"],
    429: _BUSY,
    501: _CODES["NotImplemented"],
    503: _BUSY,
    507: _CODES["InsufficientStorage"],
}
_REFUSED = _Rule(UnexpectedReplyError, "the store refused the request")

_CODE_HEADER = re.compile(rb"(?im)^x-ms-error-code:[ \t]*([A-Za-z0-9]{1,80})[ \t]*\r?$")
_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9]{1,80})\s*</Code>")
_MESSAGE = re.compile(rb"<Message>\s*([^<\r\n]{1,500})")
_NAMED_HEADER = re.compile(rb"<HeaderName>\s*([A-Za-z0-9-]{1,80})\s*</HeaderName>")
_SENSITIVE = re.compile(r"(?i)\b(sig|signature|sharedkey|authorization)(\s*[=: ]\s*)[^\s&;,]+")


def azure_error(status: int, headers: bytes, body: bytes, subject: str) -> StoreError:
    """The error that a reply means; its ``code`` is the store's code, or the status as text."""
    code = error_code(headers, body)
    rule = _CODES.get(code) or _STATUS.get(status) or (_FAULT if status >= 500 else _REFUSED)
    label = f"{status} {code}".strip() if code else f"HTTP {status}"
    said = _message(body)
    text = f"{subject}: {rule.text} ({label}: {said})" if said else f"{subject}: {rule.text} ({label})"
    error = rule.kind(text, subject=subject, hint=rule.hint, retryable=rule.retryable)
    error.code = code or str(status)
    return error


def error_code(headers: bytes, body: bytes) -> str:
    """The store's own code, or empty."""
    found = _CODE_HEADER.search(headers) or _CODE.search(body[:4096])
    return found.group(1).decode() if found else ""


def refused_header(body: bytes) -> str:
    """The header that an InvalidHeaderValue names, in lower case; empty when it names none."""
    found = _NAMED_HEADER.search(body[:4096])
    return found.group(1).decode().lower() if found else ""


def skewed(code: str, body: bytes) -> bool:
    """True when a signature was refused because the clocks differ: learn the offset and sign again."""
    return code == "AuthenticationFailed" and b"x-ms-date" in body.lower() and b"too old" in body.lower()


def _message(body: bytes) -> str:
    found = _MESSAGE.search(body[:4096])
    if not found:
        return ""
    text = html.unescape(found.group(1).decode("utf-8", "replace"))
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _SENSITIVE.sub(r"\1\2***", line)
    return line if len(line) <= 200 else line[:197] + "..."
