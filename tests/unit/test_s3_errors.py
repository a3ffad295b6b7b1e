"""Error replies of the S3 family: the class of each, what is quoted, and what must never be."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model import errors as model
from entrepot.storage.s3.errors import error_text, s3_error, scrub, told_region


def document(code: str, message: str = "", extra: str = "") -> bytes:
    return f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>{message}</Message>{extra}</Error>".encode()


@pytest.mark.parametrize(
    ("status", "code", "kind", "retryable"),
    [
        (404, "NoSuchKey", model.NotFoundError, False),
        (404, "NoSuchBucket", model.NotFoundError, False),
        (404, "NoSuchUpload", model.NotFoundError, False),
        (403, "AccessDenied", model.ForbiddenError, False),
        (403, "SignatureDoesNotMatch", model.ForbiddenError, False),
        (403, "InvalidAccessKeyId", model.ForbiddenError, False),
        (400, "ExpiredToken", model.ForbiddenError, False),
        (403, "RequestTimeTooSkewed", model.ForbiddenError, False),
        (403, "SecondLevelDomainForbidden", model.ForbiddenError, False),
        (503, "SlowDown", model.ThrottledError, True),
        (503, "ServiceUnavailable", model.ThrottledError, True),
        (429, "TooManyRequests", model.ThrottledError, True),
        (500, "InternalError", model.UnexpectedReplyError, True),
        (200, "InternalError", model.UnexpectedReplyError, True),
        (400, "RequestTimeout", model.StoreTimeoutError, True),
        (412, "PreconditionFailed", model.ChangedError, False),
        (409, "ConditionalRequestConflict", model.ChangedError, True),
        (403, "InvalidObjectState", model.ArchivedError, False),
        (403, "ObjectLocked", model.LockedError, False),
        (409, "FileImmutable", model.LockedError, False),
        (403, "QuotaExceeded", model.QuotaError, False),
        (507, "XMinioStorageFull", model.QuotaError, False),
        (400, "EntityTooLarge", model.FormatError, False),
        (400, "EntityTooSmall", model.FormatError, False),
        (400, "MetadataTooLarge", model.FormatError, False),
        (400, "KeyTooLongError", model.NameNotPossibleError, False),
        (400, "XMinioInvalidObjectName", model.NameNotPossibleError, False),
        (400, "BadDigest", model.CorruptError, True),
        (400, "XAmzContentSHA256Mismatch", model.CorruptError, True),
        (400, "XAmzContentChecksumMismatch", model.CorruptError, True),
        (400, "InvalidPart", model.CorruptError, False),
        (501, "NotImplemented", model.UnexpectedReplyError, False),
        (400, "SomethingNew", model.UnexpectedReplyError, False),
    ],
)
def test_codes(status: int, code: str, kind: type[model.StoreError], retryable: bool) -> None:
    error = s3_error(status, b"", document(code, "said"), "s3://b/k")
    assert type(error) is kind
    assert (error.retryable, error.code, error.subject) == (retryable, code, "s3://b/k")
    assert error.message.startswith("s3://b/k: ")
    assert code in error.message


@pytest.mark.parametrize(
    ("status", "kind", "retryable"),
    [
        (301, model.ForbiddenError, False),
        (400, model.UnexpectedReplyError, False),
        (401, model.ForbiddenError, False),
        (403, model.ForbiddenError, False),
        (404, model.NotFoundError, False),
        (408, model.StoreTimeoutError, True),
        (412, model.ChangedError, False),
        (416, model.ChangedError, False),
        (429, model.ThrottledError, True),
        (500, model.UnexpectedReplyError, True),
        (502, model.UnexpectedReplyError, True),
        (503, model.ThrottledError, True),
        (504, model.UnexpectedReplyError, True),
        (507, model.QuotaError, False),
        (599, model.UnexpectedReplyError, True),
    ],
)
def test_replies_without_a_document(status: int, kind: type[model.StoreError], retryable: bool) -> None:
    error = s3_error(status, b"", b"", "s3://b/k")
    assert (type(error), error.retryable, error.code) == (kind, retryable, str(status))


def test_the_message_decides_where_the_code_does_not() -> None:
    """Cases 58 and 60."""
    locked = "Access Denied because object protected by object lock."
    assert type(s3_error(403, b"", document("AccessDenied", locked), "k")) is model.LockedError
    blocked = "your account is blocked"
    assert type(s3_error(403, b"", document("AccessDenied", blocked), "k")) is model.ForbiddenError
    metadata = "Metadata value is invalid"
    assert type(s3_error(400, b"", document("InvalidArgument", metadata), "k")) is model.FormatError
    assert type(s3_error(400, b"", document("InvalidArgument", "bad marker"), "k")) is model.UnexpectedReplyError


def test_hints_tell_the_kinds_of_forbidden_apart() -> None:
    codes = ("AccessDenied", "SignatureDoesNotMatch", "InvalidAccessKeyId", "ExpiredToken", "RequestTimeTooSkewed")
    hints = {s3_error(403, b"", document(code), "k").hint for code in codes}
    assert len(hints) == len(codes)
    assert all(hints)


def test_regions_are_found_wherever_they_are_told() -> None:
    header = b"HTTP/1.1 301 Moved\r\nX-Amz-Bucket-Region: eu-west-1\r\n"
    assert told_region(header, b"") == "eu-west-1"
    assert told_region(b"", document("AuthorizationHeaderMalformed", "", "<Region>ap-south-1</Region>")) == "ap-south-1"
    said = "the region 'us-east-1' is wrong; expecting &apos;cn-north-1&apos;"
    assert told_region(b"", document("AuthorizationHeaderMalformed", said)) == "cn-north-1"
    assert told_region(b"date: x", b"") == ""
    moved = s3_error(301, header, document("PermanentRedirect"), "k")
    assert moved.hint == "set the region to eu-west-1"


def test_native_json_errors_are_read() -> None:
    assert error_text(b'{"error":"no such bucket"}') == ("", "no such bucket")
    assert error_text(b'{"RetCode":-30010,"ErrMsg":"bad token"}') == ("", "bad token")
    assert error_text(b'{"code":"AccessDenied","message":"no"}') == ("AccessDenied", "no")
    assert error_text(b"{broken") == ("", "")
    assert error_text(b"[1]") == ("", "")


SECRETS = (
    "Signature=3f5ae1b7c9d2",
    "X-Amz-Signature=3f5ae1b7c9d2",
    "x-amz-security-token: 3f5ae1b7c9d2",
    "Authorization: AWS4-HMAC-SHA256 Credential=3f5ae1b7c9d2/20260101/r/s3/aws4_request",
    "AWSAccessKeyId=3f5ae1b7c9d2&Expires=1",
    "secret-key: 3f5ae1b7c9d2",
    "AKIA3F5AE1B7C9D2AAAA",
    "3f5ae1b7c9d2" + "0" * 52,
)


@pytest.mark.parametrize("secret", SECRETS)
def test_messages_are_scrubbed(secret: str) -> None:
    """Case 78."""
    text = str(s3_error(400, b"", document("InvalidRequest", f"refused: {secret} ."), "k"))
    assert "3f5ae1b7c9d2" not in text.lower()
    assert "refused" in text


def test_the_documents_of_signature_errors_are_not_quoted() -> None:
    extra = (
        "<AWSAccessKeyId>AK1</AWSAccessKeyId><SignatureProvided>beef</SignatureProvided><StringToSign>x</StringToSign>"
    )
    error = s3_error(403, b"", document("SignatureDoesNotMatch", "we made beef of it", extra), "k")
    assert "beef" not in f"{error} {error.hint}"
    assert "AK1" not in f"{error} {error.hint}"


@given(st.integers(200, 599), st.binary(max_size=300), st.binary(max_size=600))
def test_any_reply_becomes_an_error(status: int, headers: bytes, body: bytes) -> None:
    error = s3_error(status, headers, body, "s3://b/k")
    assert isinstance(error, model.StoreError)
    assert error.code


@given(st.text(max_size=2000))
def test_scrubbed_text_is_one_short_line(text: str) -> None:
    line = scrub(text)
    assert len(line) <= 240
    assert line.isprintable()
