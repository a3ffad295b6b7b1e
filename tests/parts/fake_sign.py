"""Checks AWS Signature Version 4 (header and query form) as a store does: a wrong signature is refused."""

from __future__ import annotations

import calendar
import hashlib
import hmac
import time
from functools import lru_cache
from urllib.parse import quote, unquote_to_bytes

from parts.fake_http import Request, S3Error

SKEW = 900.0


@lru_cache(maxsize=64)
def _signing_key(secret: str, day: str, region: str, service: str) -> bytes:
    key = ("AWS4" + secret).encode()
    for part in (day, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key


def verify(request: Request, secrets: dict[str, str], tokens: dict[str, str], region: str, now: float) -> str:
    """The access key that signed; S3Error when anything is wrong. ``region`` empty accepts every region."""
    auth = request.headers.get("authorization", "")
    if auth.startswith("AWS4-HMAC-SHA256 "):
        fields = dict(f.strip().split("=", 1) for f in auth[17:].split(",") if "=" in f)
        signed, given = fields.get("SignedHeaders", ""), fields.get("Signature", "")
        credential = fields.get("Credential", "")
        stamp = request.headers.get("x-amz-date", "")
        payload = request.headers.get("x-amz-content-sha256", "")
        token = request.headers.get("x-amz-security-token", "")
        if not payload:
            raise S3Error(400, "MissingSecurityHeader", "x-amz-content-sha256 is required")
        _all_signed(request, signed.split(";"))
    elif "X-Amz-Signature" in request.query:
        q = request.query
        signed, given, credential = (
            q.get("X-Amz-SignedHeaders", ""),
            q["X-Amz-Signature"],
            q["X-Amz-Credential"],
        )
        stamp, payload, token = q.get("X-Amz-Date", ""), "UNSIGNED-PAYLOAD", q.get("X-Amz-Security-Token", "")
    else:
        raise S3Error(403, "AccessDenied", "no signature")
    access, day, scope_region, service, last = _scope(credential)
    _fresh(stamp, day, now)
    if access not in secrets:
        raise S3Error(403, "InvalidAccessKeyId", "the access key does not exist")
    if tokens.get(access, "") != token:
        raise S3Error(400, "ExpiredToken" if token else "InvalidToken", "the provided token has expired")
    if region and scope_region != region:
        raise S3Error(
            400,
            "AuthorizationHeaderMalformed",
            f"the region '{scope_region}' is wrong; expecting '{region}'",
            extra=f"<Region>{region}</Region>",
        )
    canonical = canonical_request(request, signed.split(";"), payload)
    scope = f"{day}/{scope_region}/{service}/{last}"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical).hexdigest()}"
    expected = hmac.digest(_signing_key(secrets[access], day, scope_region, service), text.encode(), "sha256").hex()
    if not hmac.compare_digest(expected, given):
        raise S3Error(
            403,
            "SignatureDoesNotMatch",
            "the signature does not match; the canonical request was "
            + canonical.decode("utf-8", "replace").replace("\n", " | "),
        )
    if len(payload) == 64 and payload != hashlib.sha256(request.raw_body).hexdigest():
        raise S3Error(400, "XAmzContentSHA256Mismatch", "x-amz-content-sha256 does not match the body")
    return access


def canonical_request(request: Request, signed: list[str], payload: str) -> bytes:
    """The text that is signed, as the store builds it from what it received."""
    path = quote(unquote_to_bytes(request.path), safe="/-_.~")
    pairs = sorted(
        (
            quote(k.encode("utf-8", "surrogateescape"), safe="-_.~"),
            quote(v.encode("utf-8", "surrogateescape"), safe="-_.~"),
        )
        for k, v in request.query.items()
        if k != "X-Amz-Signature"
    )
    query = "&".join(f"{k}={v}" for k, v in pairs)
    headers = "".join(f"{name}:{' '.join(request.headers.get(name, '').split())}\n" for name in signed)
    text = f"{request.method}\n{path}\n{query}\n{headers}\n{';'.join(signed)}\n{payload}"
    return text.encode("utf-8", "surrogateescape")


def _all_signed(request: Request, signed: list[str]) -> None:
    missing = [n for n in request.headers if n.startswith("x-amz-") and n not in signed]
    if "host" not in signed or missing:
        names = ", ".join(missing or ["host"])
        raise S3Error(403, "AccessDenied", f"there were headers present which were not signed: {names}")


def _scope(credential: str) -> tuple[str, str, str, str, str]:
    parts = credential.rsplit("/", 4)
    if len(parts) != 5 or parts[3] != "s3" or parts[4] != "aws4_request":
        raise S3Error(400, "AuthorizationHeaderMalformed", "the credential is malformed")
    return parts[0], parts[1], parts[2], parts[3], parts[4]


def _fresh(stamp: str, day: str, now: float) -> None:
    try:
        signed_at = calendar.timegm(time.strptime(stamp, "%Y%m%dT%H%M%SZ"))
    except ValueError:
        raise S3Error(403, "AccessDenied", "x-amz-date is missing or malformed") from None
    if abs(signed_at - now) > SKEW:
        raise S3Error(
            403,
            "RequestTimeTooSkewed",
            "the difference between the request time and the current time is too large",
            extra=f"<RequestTime>{stamp}</RequestTime>",
        )
    if not stamp.startswith(day):
        raise S3Error(400, "AuthorizationHeaderMalformed", "the date of the credential is wrong")
