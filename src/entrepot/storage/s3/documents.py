"""The XML replies of S3's control calls, read by bytes patterns: keys may hold what no XML parser accepts."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from html import unescape
from urllib.parse import unquote_to_bytes

from entrepot.model.entry import Row
from entrepot.model.errors import UnexpectedReplyError
from entrepot.storage.base import Columns, Part

_CONTENTS = re.compile(rb"<Contents>(.*?)</Contents>", re.DOTALL)
_PREFIXES = re.compile(rb"<CommonPrefixes>(.*?)</CommonPrefixes>", re.DOTALL)
_UPLOAD = re.compile(rb"<Upload>(.*?)</Upload>", re.DOTALL)
_PART = re.compile(rb"<Part>(.*?)</Part>", re.DOTALL)
_BUCKET = re.compile(rb"<Bucket>(.*?)</Bucket>", re.DOTALL)


@dataclass(slots=True)
class Level:
    """One page of one level of keys: whole keys, nothing cut off."""

    rows: list[Row]
    prefixes: list[bytes]
    next: bytes = b""
    """Continuation token (V2) or marker (V1) of the next page; empty at the end."""


def level(body: bytes, *, v1: bool, subject: str, columns: Columns = "mtime") -> Level:
    """A listing with a delimiter. Raises UnexpectedReplyError for a document that is cut."""
    expect(body, b"ListBucketResult", subject)
    encoded = is_encoded(body)
    rows: list[Row] = []
    for found in _CONTENTS.finditer(body):
        piece = found.group(1)
        evidence = _time_ns(piece) if columns == "mtime" else _etag(piece)
        rows.append((_key(piece, b"Key", encoded), evidence, int(element(piece, b"Size") or 0)))
    prefixes = [_key(found.group(1), b"Prefix", encoded) for found in _PREFIXES.finditer(body)]
    page = Level(rows, prefixes)
    if element(body, b"IsTruncated").lower() == b"true":
        if v1:
            last = max([row[0] for row in rows] + prefixes, default=b"")
            page.next = _key(body, b"NextMarker", encoded) or last
        else:
            page.next = unescape(element(body, b"NextContinuationToken").decode()).encode()
        if not page.next:
            raise UnexpectedReplyError(
                f"{subject}: the listing says it goes on, but not where", subject=subject, retryable=True
            )
    return page


def uploads(body: bytes, subject: str) -> tuple[list[tuple[bytes, str, float]], tuple[bytes, str] | None]:
    """Open multipart uploads, and the (key, upload id) marker of the next page."""
    expect(body, b"ListMultipartUploadsResult", subject)
    encoded = is_encoded(body)
    found = [
        (
            _key(piece.group(1), b"Key", encoded),
            _text(piece.group(1), b"UploadId"),
            _time_ns(piece.group(1), b"Initiated") / 1e9,
        )
        for piece in _UPLOAD.finditer(body)
    ]
    if element(body, b"IsTruncated").lower() != b"true":
        return found, None
    marker = (_key(body, b"NextKeyMarker", encoded), _text(body, b"NextUploadIdMarker"))
    if not marker[0] and found:
        marker = found[-1][:2]
    return found, marker if marker[0] else None


def parts(body: bytes, subject: str) -> tuple[list[Part], str]:
    """The parts of an upload, and the part-number marker of the next page (empty at the end)."""
    expect(body, b"ListPartsResult", subject)
    found = [
        Part(
            int(element(piece.group(1), b"PartNumber")),
            int(element(piece.group(1), b"Size") or 0),
            _etag(piece.group(1)),
            _crc32c(piece.group(1)),
        )
        for piece in _PART.finditer(body)
    ]
    if element(body, b"IsTruncated").lower() != b"true" or not found:
        return found, ""
    return found, _text(body, b"NextPartNumberMarker") or str(found[-1].number)


def bucket_names(body: bytes) -> list[str]:
    """The names of a ListBuckets reply."""
    return [_text(piece.group(1), b"Name") for piece in _BUCKET.finditer(body)]


def element(body: bytes, name: bytes) -> bytes:
    """The raw text of the first element ``name``; empty when there is none."""
    start = body.find(b"<" + name + b">")
    if start < 0:
        return b""
    start += len(name) + 2
    end = body.find(b"</" + name + b">", start)
    return body[start:end] if end >= 0 else b""


def is_encoded(body: bytes) -> bool:
    """True when a listing says that its keys are URL-encoded."""
    return element(body, b"EncodingType") == b"url"


def expect(body: bytes, root: bytes, subject: str) -> None:
    """Raise UnexpectedReplyError unless ``body`` is a whole document of this kind."""
    if b"<" + root not in body[:1024] or not body.rstrip().endswith(b"</" + root + b">"):
        raise UnexpectedReplyError(
            f"{subject}: the reply is not a whole {root.decode()} document",
            subject=subject,
            hint="is this an S3 endpoint?",
            retryable=True,
        )


def _key(piece: bytes, name: bytes, encoded: bool) -> bytes:
    raw = element(piece, name)
    if encoded:
        return unquote_to_bytes(raw.replace(b"+", b" "))
    if b"&" not in raw:
        return raw
    return unescape(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape")


def _text(piece: bytes, name: bytes) -> str:
    return unescape(element(piece, name).decode("utf-8", "replace"))


def _etag(piece: bytes) -> bytes:
    return _text(piece, b"ETag").strip('"').encode()


def _time_ns(piece: bytes, name: bytes = b"LastModified") -> int:
    raw = element(piece, name).decode("ascii", "replace")
    try:
        when = datetime.fromisoformat(raw)
    except ValueError:
        return 0
    when = when if when.tzinfo else when.replace(tzinfo=UTC)
    return int(when.timestamp()) * 1_000_000_000 + when.microsecond * 1000


def _crc32c(piece: bytes) -> int | None:
    import base64
    import binascii

    raw = element(piece, b"ChecksumCRC32C")
    try:
        return int.from_bytes(base64.b64decode(raw, validate=True), "big") if raw else None
    except binascii.Error:
        return None
