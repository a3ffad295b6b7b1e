"""Error replies of the S3 family, turned into the error tree.

Codes come from the S3 API reference ("Error responses") and from what the other providers and servers add:
OSS (SecondLevelDomainForbidden, FileImmutable, QpsLimitExceeded), OBS (InsufficientStorageSpace), MinIO
(XMinio…), Ceph, SeaweedFS. A code that is not known is judged by its HTTP status. Only the ``Message`` is
quoted, cut and scrubbed: the body of a signature error repeats the string to sign, key and signature.
"""

from __future__ import annotations

import html
import json
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

EXPIRED = frozenset({"ExpiredToken", "TokenRefreshRequired", "ExpiredTokenException", "RequestExpired"})
"""The keys were good once: fetch fresh ones and send the request again."""
SKEWED = frozenset({"RequestTimeTooSkewed", "RequestInTheFuture"})
"""Our clock and the server's differ: learn the offset from Date and send the request again."""
MOVED = frozenset(
    {
        "PermanentRedirect", "TemporaryRedirect", "Redirect", "AuthorizationHeaderMalformed",
        "IllegalLocationConstraintException", "301", "302", "307", "308",
    }
)  # fmt: skip
"""The bucket lives in another region: :func:`told_region` may say in which."""

_UNQUOTED = frozenset({"SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "ExpiredToken"})
"""Their messages may hold keys, signatures or what was signed, and say no more than the code."""

KEY_HINT = "check the access key, or store the place with `entrepot connection add`"


class _Rule(NamedTuple):
    kind: type[StoreError]
    text: str
    hint: str = ""
    retryable: bool | None = None


def _rules(table: dict[str, _Rule]) -> dict[str, _Rule]:
    return {code: rule for codes, rule in table.items() for code in codes.split()}


_CODES = _rules(
    {
        "NoSuchKey NoSuchObject NoSuchVersion XMinioObjectNotFound ObjectNotExist": _Rule(
            NotFoundError, "the object does not exist"
        ),
        "NoSuchBucket InvalidBucketName NoSuchBucketName BucketNotFound": _Rule(
            NotFoundError, "the bucket does not exist", "check the bucket name, the endpoint and the region"
        ),
        "NoSuchUpload": _Rule(NotFoundError, "the multipart upload does not exist (any more)"),
        "AccessDenied Forbidden UnauthorizedAccess AccessForbidden": _Rule(
            ForbiddenError, "access denied", "the credentials are known but do not allow this"
        ),
        "InvalidAccessKeyId InvalidAccessKey NoSuchAccessKey": _Rule(
            ForbiddenError, "the endpoint does not know this access key", KEY_HINT
        ),
        "SignatureDoesNotMatch InvalidSignature": _Rule(
            ForbiddenError,
            "the signature was refused",
            "the secret key is wrong, or the endpoint expects another region; check both",
        ),
        "ExpiredToken TokenRefreshRequired ExpiredTokenException RequestExpired": _Rule(
            ForbiddenError,
            "the credentials have expired",
            "renew them and run again: it goes on where it was",
        ),
        "InvalidToken InvalidSecurityToken InvalidClientTokenId UnrecognizedClientException": _Rule(
            ForbiddenError, "the session token was refused", "renew the temporary credentials"
        ),
        "RequestTimeTooSkewed RequestInTheFuture": _Rule(
            ForbiddenError, "the clocks differ too much", "set this machine's clock (NTP)"
        ),
        "AccountProblem AllAccessDisabled UserDisable NotSignedUp InArrearOrInsufficientBalance "
        "AccountArrears Arrearage": _Rule(
            ForbiddenError, "the account is blocked", "the provider has closed the account or it owes money"
        ),
        "KMS.DisabledException KMS.NotFoundException": _Rule(
            ForbiddenError, "the encryption key may not be used", "check the key policy of the bucket"
        ),
        "BucketAlreadyExists BucketAlreadyOwnedByYou": _Rule(
            ForbiddenError, "the bucket name is taken", "choose another bucket name"
        ),
        "SecondLevelDomainForbidden VirtualHostDomainRequired PathStyleDomainForbidden": _Rule(
            ForbiddenError, "the endpoint wants the bucket in the host name", "set addressing to virtual"
        ),
        "SlowDown SlowDownRead SlowDownWrite TooManyRequests Throttling ThrottlingException "
        "ServiceUnavailable RequestLimitExceeded RequestThrottled QpsLimitExceeded ServerBusy Busy "
        "BandwidthLimitExceeded DownloadTrafficRateLimitExceeded UploadTrafficRateLimitExceeded "
        "XMinioServerNotInitialized": _Rule(ThrottledError, "the store asks to slow down"),
        "RequestTimeout OperationTimedOut XMinioOperationTimedOut": _Rule(
            StoreTimeoutError, "the store gave up waiting"
        ),
        "InternalError InternalFailure InternalServerError ServerError": _Rule(
            UnexpectedReplyError, "the store failed", retryable=True
        ),
        "OperationAborted": _Rule(UnexpectedReplyError, "another request was in the way", retryable=True),
        "PreconditionFailed": _Rule(ChangedError, "the object is not the expected version"),
        "ConditionalRequestConflict": _Rule(
            ChangedError, "another write of the same object was under way", retryable=True
        ),
        "InvalidRange": _Rule(ChangedError, "the object is shorter than expected"),
        "InvalidObjectState RestoreAlreadyInProgress ObjectNotRestored": _Rule(
            ArchivedError, "the object lies in an archive tier", "restore it first, then run again"
        ),
        "ObjectLocked FileImmutable ObjectImmutable InvalidRetentionPeriod XMinioObjectLocked": _Rule(
            LockedError, "the object is locked", "its retention rule must end first"
        ),
        "QuotaExceeded BucketQuotaExceeded XMinioAdminBucketQuotaExceeded InsufficientStorageSpace "
        "XMinioStorageFull StorageFull InsufficientStorage TooManyBuckets UserQuotaExceeded": _Rule(
            QuotaError, "no space or quota left", "free space or raise the quota, then run again"
        ),
        "EntityTooLarge EntityTooSmall MaxMessageLengthExceeded": _Rule(FormatError, "the store refuses this size"),
        "MetadataTooLarge InvalidTag InvalidStorageClass UnsupportedHeader": _Rule(
            FormatError, "the store refuses the metadata", "leave it out with --preserve mtime"
        ),
        "KeyTooLongError KeyTooLong InvalidObjectName InvalidURI InvalidKey XMinioInvalidObjectName "
        "XMinioParentIsObject XMinioObjectExistsAsDirectory": _Rule(
            NameNotPossibleError, "the store cannot hold this key"
        ),
        "BadDigest InvalidDigest XAmzContentSHA256Mismatch XAmzContentChecksumMismatch IncompleteBody": _Rule(
            CorruptError, "the bytes that arrived differ from the bytes sent"
        ),
        "InvalidPart InvalidPartOrder": _Rule(
            CorruptError, "the store does not hold the parts of this upload", retryable=False
        ),
        "PermanentRedirect TemporaryRedirect Redirect AuthorizationHeaderMalformed "
        "IllegalLocationConstraintException": _Rule(
            ForbiddenError, "the bucket belongs to another region", "set the region of the connection"
        ),
        "NotImplemented XNotImplemented MethodNotAllowed": _Rule(
            UnexpectedReplyError, "the endpoint does not offer this request"
        ),
    }
)

_STATUS: dict[int, _Rule] = {
    301: _CODES["PermanentRedirect"],
    302: _CODES["PermanentRedirect"],
    307: _CODES["PermanentRedirect"],
    308: _CODES["PermanentRedirect"],
    401: _Rule(ForbiddenError, "the credentials were refused", KEY_HINT),
    403: _Rule(ForbiddenError, "access denied", "the credentials are wrong or do not allow this"),
    404: _Rule(NotFoundError, "not found"),
    405: _CODES["NotImplemented"],
    408: _CODES["RequestTimeout"],
    409: _CODES["OperationAborted"],
    412: _CODES["PreconditionFailed"],
    413: _CODES["EntityTooLarge"],
    414: _CODES["KeyTooLong"],
    416: _CODES["InvalidRange"],
    429: _CODES["SlowDown"],
    431: _CODES["MetadataTooLarge"],
    501: _CODES["NotImplemented"],
    503: _CODES["SlowDown"],
    507: _CODES["QuotaExceeded"],
    573: _CODES["SlowDown"],  # Qiniu: one resource is asked too often
}
_SERVER_FAULT = _CODES["InternalError"]
_REFUSED = _Rule(UnexpectedReplyError, "the store refused the request")

_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9._:-]{1,80})\s*</Code>")
_MESSAGE = re.compile(rb"<Message>\s*([^<]{1,2000}?)\s*</Message>", re.DOTALL)
_REGION = re.compile(rb"<Region>\s*([A-Za-z0-9-]{1,40})\s*</Region>")
_REGION_HEADER = re.compile(rb"(?im)^x-amz-bucket-region:[ \t]*([A-Za-z0-9-]{1,40})[ \t]*\r?$")
_EXPECTING = re.compile(rb"expecting '([A-Za-z0-9-]{1,40})'")
_LOCK_WORDS = re.compile(r"\b(worm|retention|legal hold|object.?lock(ed)?|immutable)\b", re.IGNORECASE)
_METADATA_WORDS = re.compile(r"metadata|content-type|user-defined|x-amz-meta", re.IGNORECASE)
_SIGNED_REGION = re.compile(r"signing region", re.IGNORECASE)
_SECOND_LEVEL = re.compile(r"second.level domain|virtual.host", re.IGNORECASE)
_SENSITIVE = re.compile(
    r"(?i)\b(x-amz-signature|x-amz-security-token|x-amz-credential|signature|credential|awsaccesskeyid|"
    r"accesskeyid|authorization|security-?token|secret[a-z-]*)(\s*[=:]\s*)(?:AWS4-HMAC-SHA256\s+)?[^\s,&;]+"
)
_KEY_IDS = re.compile(r"\b(?:AKIA|ASIA|LTAI|AKID)[A-Za-z0-9]{12,}\b|\b[A-Fa-f0-9]{64}\b")


def s3_error(status: int, headers: bytes, body: bytes, subject: str) -> StoreError:
    """The error that a reply means; ``code`` is the store's code, or the status as text.

    ``headers`` is the raw header block. A 200 with an error document in its body is welcome too.
    """
    code, said = error_text(body)
    rule = _by_style(status, said) or _CODES.get(code) or _by_words(code, said) or _by_status(status)
    if rule.kind is ForbiddenError and _LOCK_WORDS.search(said):
        rule = _CODES["ObjectLocked"]
    if code in _UNQUOTED:
        said = ""
    label = f"{status} {code}".strip() if code else f"HTTP {status}"
    text = f"{subject}: {rule.text} ({label}: {said})" if said else f"{subject}: {rule.text} ({label})"
    hint = rule.hint
    region = told_region(headers, body) if code in MOVED or str(status) in MOVED else ""
    if region:
        hint = f"set the region to {region}"
    error = rule.kind(text, subject=subject, hint=hint, retryable=rule.retryable)
    error.code = code or str(status)
    return error


def told_region(headers: bytes, body: bytes) -> str:
    """The region that a redirect or a refused signature names; empty when it names none."""
    found = _REGION_HEADER.search(headers) or _REGION.search(body) or _EXPECTING.search(html_plain(body))
    return found.group(1).decode() if found else ""


def error_text(body: bytes) -> tuple[str, str]:
    """(code, scrubbed message) of an error document: S3 XML, or the JSON of a provider's native API."""
    start = body[:8192]
    code = _CODE.search(start)
    if code:
        message = _MESSAGE.search(start)
        return code.group(1).decode(), scrub(_plain(message.group(1))) if message else ""
    if start.lstrip()[:1] == b"{":
        return _from_json(start)
    return "", ""


def html_plain(body: bytes) -> bytes:
    """``body`` with its character references for quotes resolved."""
    return body[:8192].replace(b"&#39;", b"'").replace(b"&apos;", b"'")


def scrub(text: str) -> str:
    """``text`` in one short line without anything that looks like a key or a signature."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    line = _SENSITIVE.sub(r"\1\2***", line)
    line = _KEY_IDS.sub("***", line)
    return line if len(line) <= 240 else line[:237] + "..."


def _from_json(start: bytes) -> tuple[str, str]:
    try:
        document = json.loads(start)
    except ValueError:
        return "", ""
    if not isinstance(document, dict):
        return "", ""
    said = next((document[k] for k in ("message", "ErrMsg", "error") if isinstance(document.get(k), str)), "")
    code = document.get("code")
    return (scrub(code) if isinstance(code, str) else ""), scrub(said)


def _plain(raw: bytes) -> str:
    return html.unescape(raw.decode("utf-8", "replace"))


def _by_style(status: int, said: str) -> _Rule | None:
    """The wish for the other addressing style, which comes under many codes."""
    if status in {400, 403} and _SECOND_LEVEL.search(said):
        return _CODES["SecondLevelDomainForbidden"]
    return None


def _by_words(code: str, said: str) -> _Rule | None:
    """A code that means several things, or none: the message decides."""
    if code == "InvalidArgument" and _SIGNED_REGION.search(said):
        return _CODES["AuthorizationHeaderMalformed"]
    if code in {"InvalidArgument", "InvalidRequest"} and _METADATA_WORDS.search(said):
        return _CODES["MetadataTooLarge"]
    if code.startswith("KMS."):
        return _CODES["KMS.DisabledException"]
    return None


def _by_status(status: int) -> _Rule:
    return _STATUS.get(status) or (_SERVER_FAULT if status >= 500 or status == 200 else _REFUSED)
