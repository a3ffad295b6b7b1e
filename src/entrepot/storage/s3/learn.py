"""What a reply teaches about an endpoint: facts are written into the target, and the request goes out again.

Nothing here costs a request. The lane and the control calls hand every refusal to :func:`learn` before they
believe it, and the first listing to :func:`observe_listing`.
"""

from __future__ import annotations

import re
import time
from urllib.parse import urlsplit

from entrepot.storage.httpdate import unix_time

from . import errors, profiles
from .documents import element
from .providers import PROVIDERS
from .target import S3Target

SKEW_MIN = 60.0
"""Offsets below this many seconds are not corrected: Date has whole seconds and travels."""
_DATE = re.compile(rb"(?im)^date:[ \t]*([^\r\n]+)")
_LOCATION = re.compile(rb"(?im)^location:[ \t]*([^\r\n]+)")
_REFUSED_HEADER = frozenset(
    {
        "NotImplemented",
        "XNotImplemented",
        "InvalidArgument",
        "InvalidRequest",
        "UnsupportedHeader",
        "400",
        "501",
    }
)
_CHECKSUM_WORDS = re.compile(r"checksum|crc32|crc64|x-amz-sdk|trailer|aws-chunked", re.IGNORECASE)
_MD5_WORDS = re.compile(r"content-?md5", re.IGNORECASE)
_PAYLOAD_WORDS = re.compile(r"x-amz-content-sha256|unsigned.payload", re.IGNORECASE)
_CONDITION_WORDS = re.compile(r"if-none-match|conditional", re.IGNORECASE)


def learn(target: S3Target, verb: str, status: int, headers: bytes, body: bytes) -> bool:
    """Correct ``target`` by a refusal; True when it changed, so that the request deserves another try.

    ``verb`` is list, get, head, put, part, complete, copy, delete or other. Each change happens once: a
    reply that repeats itself teaches nothing more and is an error.
    """
    if status < 300:
        return False
    code, said = errors.error_text(body)
    code = code or str(status)
    if code in errors.EXPIRED:
        return target.credentials(False) != target.credentials(True)
    if code in errors.SKEWED or (status == 403 and code == "403" and _skew(headers) is not None):
        return learn_clock(target, headers)
    if code in errors.MOVED or status in {301, 302, 307, 308} or (status == 400 and verb == "head"):
        return _learn_region(target, headers, body)
    if code == "AccessDenied" and element(body[:8192], b"Endpoint"):  # OSS: the bucket of another region
        return _learn_region(target, headers, body)
    if _wants_virtual(status, code, said):
        return _learn_style(target)
    if code == "SignatureDoesNotMatch":
        return _learn_spelling(target)
    if status in {400, 405, 411, 501}:
        header = element(body[:8192], b"Header").decode("latin-1")
        return _learn_form(target, verb, code, f"{code} {said} {header}")
    return False


def observe_listing(target: S3Target, body: bytes) -> bool:
    """Look at a good listing; True when the endpoint answered ListObjects although V2 was asked for."""
    profile = target.profile
    if profile.encoding_url and element(body, b"EncodingType") != b"url" and b"<Contents>" in body:
        profile.encoding_url = False
    if not profile.list_v1 and is_v1(body):
        profile.list_v1 = True
        return True
    return False


def is_v1(body: bytes) -> bool:
    """True for the answer of an endpoint that overlooked ``list-type=2``."""
    v2 = b"<KeyCount>" in body or b"<NextContinuationToken>" in body or b"<StartAfter" in body
    return not v2 and (b"<Marker" in body or b"<NextMarker>" in body)


def _learn_form(target: S3Target, verb: str, code: str, said: str) -> bool:
    """The request itself was refused: leave out what such an endpoint may not know."""
    profile = target.profile
    if profile.payload == "unsigned" and _PAYLOAD_WORDS.search(said):
        profile.payload = "signed"
        return True
    if verb == "list" and not profile.list_v1 and code in _REFUSED_HEADER | {"405", "MethodNotAllowed"}:
        profile.list_v1 = True
        return True
    if verb == "list" and profile.encoding_url and "encoding" in said.lower():
        profile.encoding_url = False
        return True
    if verb == "delete":
        return _learn_delete(target, said)
    if verb in {"put", "part", "complete"} and code in _REFUSED_HEADER:
        return _learn_put(target, said)
    if (
        verb in {"get", "head"}
        and profile.checksum
        and ("501" in said or "NotImplemented" in said or _CHECKSUM_WORDS.search(said))
    ):
        profile.checksum = ""
        profile.checksum_checked = None
        return True
    return False


def _learn_delete(target: S3Target, said: str) -> bool:
    profile = target.profile
    if not profile.content_md5_required:
        profile.content_md5_required = True
        return True
    if profile.batch_delete and not _MD5_WORDS.search(said):
        profile.batch_delete = False
        return True
    return False


def _learn_put(target: S3Target, said: str) -> bool:
    """A condition is given up only where the reply names it: without it a write may overwrite."""
    profile = target.profile
    if profile.put_conditional and _CONDITION_WORDS.search(said):
        profile.put_conditional = False
        return True
    wordless = said.partition(" ")[0].isdigit()
    unknown = "notimplemented" in said.lower()
    if profile.checksum and (wordless or unknown or _CHECKSUM_WORDS.search(said)):
        profile.checksum = "crc32c" if profile.checksum == "crc64nvme" else ""
        profile.checksum_checked = None
        return True
    return False


def _wants_virtual(status: int, code: str, said: str) -> bool:
    if code in {"SecondLevelDomainForbidden", "VirtualHostDomainRequired", "PathStyleDomainForbidden"}:
        return True
    return status in {400, 403} and bool(re.search(r"second.level domain|virtual.host", said, re.IGNORECASE))


def _learn_style(target: S3Target) -> bool:
    if target.style == "virtual":
        return False
    if not profiles.fits_in_host(target.endpoint_host, target.bucket, target.tls):
        return False
    target.use("virtual")
    return True


def _learn_region(target: S3Target, headers: bytes, body: bytes) -> bool:
    region = errors.told_region(headers, body)
    if not region:
        region = _region_of_place(target, headers, body)
    if not region or region == target.region or region in target.tried_regions:
        return False
    target.tried_regions.add(target.region)
    profiles.move(target, region)
    return True


def _learn_spelling(target: S3Target) -> bool:
    """A refused signature may only mean that the region is written otherwise here."""
    other = profiles.other_spelling(target)
    if not other or other in target.tried_regions:
        return False
    target.tried_regions.add(target.region)
    profiles.move(target, other)
    return True


def _region_of_place(target: S3Target, headers: bytes, body: bytes) -> str:
    """The region of the host that a redirect names; only hosts of the same provider count."""
    provider = PROVIDERS[target.profile.provider]
    found = _LOCATION.search(headers)
    host = element(body[:8192], b"Endpoint").decode("ascii", "replace")
    if not host and found:
        host = urlsplit(found.group(1).decode("latin-1")).hostname or ""
    host = host.removeprefix(f"{target.bucket}.")
    if not any(host.endswith("." + domain) for domain in provider.domains):
        return ""
    return profiles.region_of(provider, host)


def _skew(headers: bytes) -> float | None:
    """Server time minus ours when they differ by more than the store allows (15 minutes)."""
    offset = date_offset(headers)
    return offset if offset is not None and abs(offset) > 840 else None


def date_offset(headers: bytes) -> float | None:
    """Server time minus ours in seconds, from Date."""
    found = _DATE.search(headers)
    if not found:
        return None
    try:
        return unix_time(found.group(1).decode("latin-1").strip()) - time.time()
    except (ValueError, TypeError):
        return None


def learn_clock(target: S3Target, headers: bytes) -> bool:
    """Take the server's time from Date; True when it is a minute or more off the time signed so far."""
    offset = date_offset(headers)
    if offset is None or abs(offset - target.clock_offset) < SKEW_MIN:
        return False
    target.clock_offset = offset
    return True
