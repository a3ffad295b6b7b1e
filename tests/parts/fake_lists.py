"""Listings of the fake S3 server: ListObjects V1 and V2, versions, uploads, parts, with every paging rule."""

from __future__ import annotations

import base64
import binascii
import time
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING
from urllib.parse import quote, quote_from_bytes

from parts.fake_http import Reply, Request, S3Error
from parts.fake_rules import Page
from parts.fake_store import Bucket, Upload

if TYPE_CHECKING:
    from parts.fake_s3 import FakeS3

XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
NS = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'


def raw(text: str) -> bytes:
    """Query text back to the bytes that it stood for."""
    return text.encode("utf-8", "surrogateescape")


@lru_cache(maxsize=4096)
def iso(moment: float) -> str:
    """The time format of listings."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment))
    return f"{whole}.{int(moment * 1000) % 1000:03d}Z"


_ESCAPES = {
    ord("&"): "&amp;",
    ord("<"): "&lt;",
    ord(">"): "&gt;",
    ord('"'): "&quot;",
    **{c: f"&#{c};" for c in (*range(32), 127)},
}


def xml_text(value: bytes) -> str:
    """A key as it stands in XML without encoding-type=url (control characters as references, like S3)."""
    return value.decode("utf-8", "surrogateescape").translate(_ESCAPES)


def url_text(value: bytes) -> str:
    """A key with encoding-type=url: like Java's URLEncoder with ``/`` kept, as S3 does."""
    return quote_from_bytes(value, safe="/-_.*").replace("~", "%7E").replace("%20", "+")


def token_of(key: bytes) -> str:
    """An opaque token with the characters that a careless client forgets to encode."""
    return "1/+" + base64.b64encode(key).decode()


def key_of(token: str) -> bytes:
    try:
        if not token.startswith("1/+"):
            raise ValueError(token)
        return base64.b64decode(token[3:], validate=True)
    except (ValueError, binascii.Error):
        raise S3Error(400, "InvalidArgument", "the continuation token is not correct") from None


def start_of(request: Request) -> bytes:
    """Where a listing goes on (exclusive): token, start-after or marker."""
    q = request.query
    if q.get("continuation-token") and q.get("list-type") == "2":
        return key_of(q["continuation-token"])
    return raw(q.get("start-after", "") if q.get("list-type") == "2" else q.get("marker", ""))


def select(bucket: Bucket, prefix: bytes, after: bytes, delimiter: bytes, limit: int) -> Page:
    """One page of ``bucket``."""
    inclusive = not after
    start = after
    if bucket.sort_key is None and prefix > after:
        start, inclusive = prefix, True
    if not delimiter and bucket.sort_key is None:
        return _flat(bucket, prefix, start, inclusive, limit)
    page = Page([], [], False, b"")
    skip = (
        after
        if delimiter and after.endswith(delimiter) and after.startswith(prefix) and len(after) > len(prefix)
        else b""
    )
    rows = bucket.rows(start, inclusive)
    while (row := next(rows, None)) is not None:
        if not row.key.startswith(prefix):
            if bucket.sort_key is None:
                break
            continue
        if skip and row.key.startswith(skip):
            continue
        cut = row.key.find(delimiter, len(prefix)) if delimiter else -1
        common = row.key[: cut + len(delimiter)] if cut >= 0 else b""
        if common and page.prefixes and page.prefixes[-1] == common:
            continue
        if len(page.rows) + len(page.prefixes) >= limit:
            page.truncated = limit > 0
            break
        if common:
            page.prefixes.append(common)
            if bucket.sort_key is None:  # jump over the rows below it
                rows = bucket.rows(common[:-1] + bytes([common[-1] + 1]), True)
        else:
            page.rows.append(row)
        page.next = common or row.key
    return page


def _flat(bucket: Bucket, prefix: bytes, start: bytes, inclusive: bool, limit: int) -> Page:
    rows = list(islice(bucket.rows(start, inclusive), limit + 1))
    if rows and not rows[-1].key.startswith(prefix):
        rows = [r for r in rows if r.key.startswith(prefix)]
    truncated = len(rows) > limit > 0
    rows = rows[:limit]
    return Page(rows, [], truncated, rows[-1].key if rows else b"")


def list_objects(fake: FakeS3, request: Request) -> Reply:
    """ListObjectsV2 and ListObjects (V1)."""
    bucket = fake.bucket_for(request)
    q, v2 = request.query, request.op == "ListObjectsV2"
    quirks = fake.quirks
    if v2 and quirks.list_v2 == "refuse":
        raise S3Error(501, "NotImplemented", "ListObjectsV2 is not implemented")
    try:
        limit = min(int(q.get("max-keys", "") or 1000), quirks.max_keys)
    except ValueError:
        raise S3Error(400, "InvalidArgument", "max-keys is not a number") from None
    after = start_of(request)
    if v2 and not quirks.start_after and not q.get("continuation-token"):
        after = b""
    delimiter = raw(q.get("delimiter", ""))
    page = select(bucket, request.prefix, after, delimiter, limit)
    fake.apply_page(request, page)
    encoded = q.get("encoding-type") == "url" and quirks.encoding_type
    text = _url_encoder(quirks.plus_for_space) if encoded else xml_text
    out = [XML, f"<ListBucketResult{NS}><Name>{bucket.name}</Name><Prefix>{text(request.prefix)}</Prefix>"]
    if v2:
        out.append(f"<KeyCount>{len(page.rows) + len(page.prefixes)}</KeyCount>")
        if q.get("start-after"):
            out.append(f"<StartAfter>{text(raw(q['start-after']))}</StartAfter>")
        if q.get("continuation-token"):
            out.append(f"<ContinuationToken>{xml_text(raw(q['continuation-token']))}</ContinuationToken>")
        if page.truncated and page.with_token:
            out.append(f"<NextContinuationToken>{token_of(page.next)}</NextContinuationToken>")
    else:
        out.append(f"<Marker>{text(raw(q.get('marker', '')))}</Marker>")
        if page.truncated and page.with_token and (delimiter or quirks.always_next_marker):
            out.append(f"<NextMarker>{text(page.next)}</NextMarker>")
    out.append(f"<MaxKeys>{limit}</MaxKeys>")
    if delimiter:
        out.append(f"<Delimiter>{text(delimiter)}</Delimiter>")
    if encoded:
        out.append("<EncodingType>url</EncodingType>")
    out.append(f"<IsTruncated>{'true' if page.truncated else 'false'}</IsTruncated>")
    for key, size, etag, modified, storage_class in page.rows:
        out.append(
            f"<Contents><Key>{text(key)}</Key><LastModified>{iso(modified)}</LastModified>"
            f"<ETag>&quot;{etag}&quot;</ETag><Size>{size}</Size><StorageClass>{storage_class}</StorageClass></Contents>"
        )
    out += [f"<CommonPrefixes><Prefix>{text(p)}</Prefix></CommonPrefixes>" for p in page.prefixes]
    out.append("</ListBucketResult>")
    return xml_reply("".join(out))


def _url_encoder(plus: bool):  # type: ignore[no-untyped-def]
    return url_text if plus else (lambda value: quote_from_bytes(value, safe="/-_.~"))


def list_versions(fake: FakeS3, request: Request) -> Reply:
    """ListObjectVersions, in one page (tests have few)."""
    bucket = fake.bucket_for(request)
    out = [
        XML,
        f"<ListVersionsResult{NS}><Name>{bucket.name}</Name><Prefix/><IsTruncated>false</IsTruncated>",
    ]
    for key in sorted(bucket.history):
        if not key.startswith(request.prefix):
            continue
        versions = bucket.history[key]
        for obj in reversed(versions):
            tag = "DeleteMarker" if obj.marker else "Version"
            latest = "true" if obj is versions[-1] else "false"
            out.append(
                f"<{tag}><Key>{xml_text(key)}</Key><VersionId>{obj.version_id}</VersionId><IsLatest>{latest}</IsLatest>"
                f"<LastModified>{iso(obj.modified)}</LastModified>"
            )
            if not obj.marker:
                out.append(f"<ETag>&quot;{obj.etag}&quot;</ETag><Size>{obj.body.size}</Size>")
            out.append(f"</{tag}>")
    return xml_reply("".join(out) + "</ListVersionsResult>")


def list_uploads(fake: FakeS3, request: Request) -> Reply:
    """ListMultipartUploads with key-marker and upload-id-marker."""
    bucket = fake.bucket_for(request)
    q = request.query
    limit = min(int(q.get("max-uploads", "") or 1000), fake.quirks.max_keys)
    marker = (raw(q.get("key-marker", "")), q.get("upload-id-marker", ""))
    text = url_text if q.get("encoding-type") == "url" else xml_text
    found: list[Upload] = sorted(
        (u for u in fake.uploads.values() if u.bucket == bucket.name and u.key.startswith(request.prefix)),
        key=lambda u: (u.key, u.id),
    )
    if marker[0]:
        found = [u for u in found if u.key > marker[0] or (marker[1] and (u.key, u.id) > marker)]
    page, more = found[:limit], len(found) > limit
    out = [
        XML,
        f"<ListMultipartUploadsResult{NS}><Bucket>{bucket.name}</Bucket><MaxUploads>{limit}</MaxUploads>",
    ]
    if more:
        out.append(
            f"<NextKeyMarker>{text(page[-1].key)}</NextKeyMarker><NextUploadIdMarker>{page[-1].id}</NextUploadIdMarker>"
        )
    if q.get("encoding-type") == "url":
        out.append("<EncodingType>url</EncodingType>")
    out.append(f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>")
    out += [
        f"<Upload><Key>{text(u.key)}</Key><UploadId>{u.id}</UploadId><Initiated>{iso(u.initiated)}</Initiated>"
        "<StorageClass>STANDARD</StorageClass></Upload>"
        for u in page
    ]
    return xml_reply("".join(out) + "</ListMultipartUploadsResult>")


def list_parts(fake: FakeS3, request: Request) -> Reply:
    """ListParts with part-number-marker."""
    upload = fake.upload_for(request)
    q = request.query
    limit = min(int(q.get("max-parts", "") or 1000), fake.quirks.max_keys)
    marker = int(q.get("part-number-marker", "") or 0)
    found = [upload.parts[n] for n in sorted(upload.parts) if n > marker]
    page, more = found[:limit], len(found) > limit
    out = [
        XML,
        f"<ListPartsResult{NS}><Bucket>{upload.bucket}</Bucket><Key>{xml_text(upload.key)}</Key>",
        f"<UploadId>{upload.id}</UploadId><PartNumberMarker>{marker}</PartNumberMarker>",
        f"<NextPartNumberMarker>{page[-1].number if page else 0}</NextPartNumberMarker>",
        f"<MaxParts>{limit}</MaxParts>",
        f"<IsTruncated>{'true' if more else 'false'}</IsTruncated>",
    ]
    for p in page:
        sums = "".join(f"<Checksum{n.upper()}>{v}</Checksum{n.upper()}>" for n, v in p.checksums.items())
        out.append(
            f"<Part><PartNumber>{p.number}</PartNumber><LastModified>{iso(p.modified)}</LastModified>"
            f"<ETag>&quot;{p.etag}&quot;</ETag><Size>{p.body.size}</Size>{sums}</Part>"
        )
    return xml_reply("".join(out) + "</ListPartsResult>")


def xml_reply(text: str, headers: dict[str, str] | None = None) -> Reply:
    """200 with an XML document."""
    return Reply(200, {"content-type": "application/xml", **(headers or {})}, text.encode("utf-8", "surrogateescape"))


def quote_tag(value: str) -> str:
    """A tag value for XML."""
    return quote(value, safe=" /-_.~")
