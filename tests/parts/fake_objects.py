"""Object operations of the fake S3 server."""

from __future__ import annotations

import hashlib
import re
import xml.etree.ElementTree as ET
from email.utils import formatdate, parsedate_to_datetime
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote_to_bytes
from xml.sax.saxutils import escape

from parts import fake_checks as checks
from parts.fake_http import Reply, Request, S3Error
from parts.fake_lists import NS, XML, iso, xml_reply, xml_text
from parts.fake_store import Body, Bucket, Obj

if TYPE_CHECKING:
    from parts.fake_s3 import FakeS3

KEPT = ("content-type", "cache-control", "content-disposition", "content-language", "expires")
ARCHIVED = frozenset({"GLACIER", "DEEP_ARCHIVE", "ARCHIVE", "COLD"})
COPY_MAX = 5 << 30
PUT_MAX = 5 << 30


# ---- what writing operations share -------------------------------------------------------------------------


def meta_of(request: Request) -> tuple[dict[str, str], dict[str, str]]:
    """(kept headers, user metadata) of a writing request."""
    headers = {name: request.headers[name] for name in KEPT if name in request.headers}
    encoding = [e.strip() for e in request.headers.get("content-encoding", "").split(",")]
    encoding = [e for e in encoding if e and e != "aws-chunked"]
    if encoding:
        headers["content-encoding"] = ",".join(encoding)
    metadata = {n[11:]: v for n, v in request.headers.items() if n.startswith("x-amz-meta-")}
    if sum(len(k) + len(v.encode("utf-8", "surrogateescape")) for k, v in metadata.items()) > 2048:
        raise S3Error(400, "MetadataTooLarge", "your metadata headers exceed the maximum allowed metadata size")
    return headers, metadata


def check_body(fake: FakeS3, request: Request) -> dict[str, str]:
    """Check Content-MD5 and x-amz-checksum-* against the body; the checksums to keep."""
    given = request.headers.get("content-md5")
    if given is not None and given != checks.md5_base64(request.body):
        raise S3Error(400, "BadDigest", "the Content-MD5 you specified did not match what we received")
    found = {}
    for name in checks.ALGORITHMS:
        header = f"x-amz-checksum-{name}"
        value = request.headers.get(header) or request.trailers.get(header)
        if value is None or fake.quirks.checksum_headers == "ignore":
            continue
        if value != checks.checksum(name, request.body):
            raise S3Error(400, "BadDigest", f"the {name.upper()} you specified did not match what we received")
        found[name] = value
    if not found and fake.quirks.default_checksum and fake.quirks.checksum_headers != "ignore":
        name = fake.quirks.default_checksum
        found[name] = checks.checksum(name, request.body)
    return found


def refuse_quirks(fake: FakeS3, request: Request) -> None:
    """Refuse what the imitated vendor does not know."""
    quirks, headers = fake.quirks, request.headers
    style = quirks.virtual_host if request.virtual else quirks.path_style
    if style == "refuse" and request.bucket:
        raise S3Error(403, "SecondLevelDomainForbidden", "address the bucket in the other style")
    if quirks.checksum_headers == "refuse" and any(
        h.startswith("x-amz-checksum-") or h in ("x-amz-sdk-checksum-algorithm", "x-amz-trailer") for h in headers
    ):
        raise S3Error(501, "NotImplemented", "a header you provided implies functionality that is not implemented")
    if quirks.aws_chunked == "refuse" and (
        headers.get("x-amz-content-sha256", "").startswith("STREAMING-")
        or "aws-chunked" in headers.get("content-encoding", "")
    ):
        raise S3Error(501, "NotImplemented", "aws-chunked is not implemented")
    if quirks.conditional_put == "refuse" and request.method == "PUT" and "if-none-match" in headers:
        raise S3Error(501, "NotImplemented", "If-None-Match is not implemented")


def check_write(fake: FakeS3, request: Request, bucket: Bucket) -> None:
    """Conditions and locks of a write to ``request.key``."""
    if len(request.key) > 1024:
        raise S3Error(400, "KeyTooLongError", "your key is too long")
    old = bucket.get(request.key)
    if old is not None and old.locked:
        raise S3Error(*fake.lock_error)
    if fake.quirks.conditional_put != "accept":
        return
    if request.headers.get("if-none-match") == "*" and old is not None:
        raise S3Error(412, "PreconditionFailed", "at least one of the pre-conditions you specified did not hold")
    match = request.headers.get("if-match")
    if match is not None:
        if old is None:
            raise S3Error(404, "NoSuchKey")
        if match.strip('"') != old.etag:
            raise S3Error(412, "PreconditionFailed", "at least one of the pre-conditions you specified did not hold")


def stored(fake: FakeS3, bucket: Bucket, obj: Obj) -> dict[str, str]:
    """Keep ``obj``; the headers of the reply."""
    obj.version_id = fake.new_id("v") if bucket.versioned else ""
    bucket.put(obj)
    headers = {"etag": f'"{obj.etag}"'}
    if obj.version_id:
        headers["x-amz-version-id"] = obj.version_id
    for name, value in obj.checksums.items():
        headers[f"x-amz-checksum-{name}"] = value
    return headers


# ---- objects -----------------------------------------------------------------------------------------------


def put_object(fake: FakeS3, request: Request) -> Reply:
    bucket = fake.bucket_for(request)
    sums = check_body(fake, request)
    if len(request.body) > PUT_MAX:
        raise S3Error(400, "EntityTooLarge")
    headers, metadata = meta_of(request)
    body = Body.of(request.body)
    etag = fake.make_etag(body)
    with fake.lock:
        check_write(fake, request, bucket)
        obj = Obj(request.key, body, etag, fake.now(), headers, metadata, checksums=sums)
        obj.storage_class = request.headers.get("x-amz-storage-class", "STANDARD")
        obj.tags = dict(parse_qsl(request.headers.get("x-amz-tagging", ""), keep_blank_values=True))
        reply = stored(fake, bucket, obj)
    if sums:
        reply["x-amz-checksum-type"] = "FULL_OBJECT"
    return Reply(200, reply)


def get_object(fake: FakeS3, request: Request) -> Reply:
    """GetObject and HeadObject, with ranges and conditions."""
    bucket = fake.bucket_for(request)
    obj = _wanted(bucket, request)
    if obj is None:
        raise S3Error(404, "NoSuchKey", "the specified key does not exist")
    unmet = _conditions(request, obj)
    if unmet == 304:
        return Reply(304, {"etag": f'"{obj.etag}"'})
    if unmet:
        raise S3Error(412, "PreconditionFailed", "at least one of the pre-conditions you specified did not hold")
    if request.method == "GET" and obj.storage_class in ARCHIVED and not obj.restored:
        raise S3Error(403, "InvalidObjectState", "the operation is not valid for the object's storage class")
    headers = _reply_headers(request, obj)
    size, status, body = obj.body.size, 200, obj.body
    span = _range(request.headers.get("range", ""), size)
    if span is not None:
        first, last = span
        status, body = 206, obj.body.slice(first, last - first + 1)
        headers["content-range"] = f"bytes {first}-{last}/{size}"
    if span is None or (span[0] == 0 and span[1] == size - 1):
        _add_checksums(request, obj, headers)
    if request.method == "HEAD":
        headers["content-length"] = str(body.size)
        return Reply(status, headers)
    return Reply(status, headers, body if body.size > 1 << 18 or body.generated else body.bytes())


def _wanted(bucket: Bucket, request: Request) -> Obj | None:
    version = request.query.get("versionId")
    if not version or version == "null":
        return bucket.get(request.key)
    return next((o for o in bucket.history.get(request.key, []) if o.version_id == version and not o.marker), None)


def _reply_headers(request: Request, obj: Obj) -> dict[str, str]:
    headers = {
        "etag": f'"{obj.etag}"',
        "last-modified": formatdate(obj.modified, usegmt=True),
        "accept-ranges": "bytes",
        "content-type": "binary/octet-stream",
        **obj.headers,
        **{f"x-amz-meta-{k}": v for k, v in obj.metadata.items()},
    }
    if obj.storage_class != "STANDARD":
        headers["x-amz-storage-class"] = obj.storage_class
    if obj.restored:
        headers["x-amz-restore"] = 'ongoing-request="false", expiry-date="Fri, 01 Jan 2100 00:00:00 GMT"'
    if obj.version_id:
        headers["x-amz-version-id"] = obj.version_id
    if obj.tags:
        headers["x-amz-tagging-count"] = str(len(obj.tags))
    if obj.part_sizes and "partNumber" in request.query:
        headers["x-amz-mp-parts-count"] = str(len(obj.part_sizes))
    return headers


def _add_checksums(request: Request, obj: Obj, headers: dict[str, str]) -> None:
    if request.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED" and obj.checksums:
        headers.update({f"x-amz-checksum-{n}": v for n, v in obj.checksums.items()})
        headers["x-amz-checksum-type"] = obj.checksum_type


def _range(text: str, size: int) -> tuple[int, int] | None:
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if not found or found.groups() == ("", ""):
        return None
    low, high = found.groups()
    if not low:
        first, last = max(0, size - int(high)), size - 1
    else:
        first, last = int(low), min(int(high) if high else size - 1, size - 1)
    if first >= size or first > last:
        raise S3Error(
            416,
            "InvalidRange",
            "the requested range is not satisfiable",
            headers={"content-range": f"bytes */{size}"},
        )
    return first, last


def _conditions(request: Request, obj: Obj, prefix: str = "") -> int:
    """0 when all hold, else 304 or 412."""
    h = request.headers
    match, none = h.get(prefix + "if-match"), h.get(prefix + "if-none-match")
    if match is not None and match.strip('"') not in (obj.etag, "*"):
        return 412
    if none is not None and none.strip('"') in (obj.etag, "*"):
        return 412 if prefix else 304
    unmodified, modified = h.get(prefix + "if-unmodified-since"), h.get(prefix + "if-modified-since")
    if match is None and unmodified and int(obj.modified) > parsedate_to_datetime(unmodified).timestamp():
        return 412
    if none is None and modified and int(obj.modified) <= parsedate_to_datetime(modified).timestamp():
        return 412 if prefix else 304
    return 0


def copy_source(fake: FakeS3, request: Request) -> Obj:
    """The object that x-amz-copy-source names, its conditions checked."""
    source = request.headers["x-amz-copy-source"].partition("?versionId=")[0]
    name, _, key = unquote_to_bytes(source.encode("utf-8", "surrogateescape")).lstrip(b"/").partition(b"/")
    bucket = fake.buckets.get(name.decode("utf-8", "replace"))
    if bucket is None:
        raise S3Error(404, "NoSuchBucket", "the source bucket does not exist")
    obj = bucket.get(key)
    if obj is None:
        raise S3Error(404, "NoSuchKey", "the source key does not exist")
    if _conditions(request, obj, "x-amz-copy-source-"):
        raise S3Error(412, "PreconditionFailed", "at least one of the pre-conditions you specified did not hold")
    if obj.storage_class in ARCHIVED and not obj.restored:
        raise S3Error(403, "InvalidObjectState", "the operation is not valid for the object's storage class")
    return obj


def copy_object(fake: FakeS3, request: Request) -> Reply:
    bucket = fake.bucket_for(request)
    if fake.quirks.server_copy == "refuse":
        raise S3Error(501, "NotImplemented", "copy is not implemented")
    with fake.lock:
        source = copy_source(fake, request)
        check_write(fake, request, bucket)
        if source.body.size > COPY_MAX:
            raise S3Error(400, "InvalidRequest", "the specified copy source is larger than the maximum allowable size")
        replace_meta = request.headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
        storage_class = request.headers.get("x-amz-storage-class", "STANDARD")
        if bucket.get(request.key) is source and not replace_meta and storage_class == source.storage_class:
            raise S3Error(400, "InvalidRequest", "this copy request is illegal: nothing would change")
        headers, metadata = meta_of(request) if replace_meta else (dict(source.headers), dict(source.metadata))
        etag = source.etag if not source.part_sizes and fake.quirks.etags == "md5" else fake.make_etag(source.body)
        obj = Obj(request.key, source.body, etag, fake.now(), headers, metadata, storage_class=storage_class)
        tags = request.headers.get("x-amz-tagging-directive", "COPY").upper()
        obj.tags = dict(source.tags) if tags == "COPY" else dict(parse_qsl(request.headers.get("x-amz-tagging", "")))
        if source.checksum_type == "FULL_OBJECT":
            obj.checksums = dict(source.checksums)
        reply = stored(fake, bucket, obj)
    sums = "".join(f"<Checksum{n.upper()}>{v}</Checksum{n.upper()}>" for n, v in obj.checksums.items())
    extra = {"x-amz-version-id": reply["x-amz-version-id"]} if obj.version_id else {}
    return xml_reply(
        f"{XML}<CopyObjectResult{NS}><LastModified>{iso(obj.modified)}</LastModified>"
        f"<ETag>&quot;{obj.etag}&quot;</ETag>{sums}</CopyObjectResult>",
        extra,
    )


def delete_object(fake: FakeS3, request: Request) -> Reply:
    bucket = fake.bucket_for(request)
    with fake.lock:
        _remove(fake, bucket, request.key)
    return Reply(204)


def _remove(fake: FakeS3, bucket: Bucket, key: bytes) -> None:
    old = bucket.get(key)
    if old is not None and old.locked:
        raise S3Error(*fake.lock_error)
    bucket.remove(key)


def delete_objects(fake: FakeS3, request: Request) -> Reply:
    bucket = fake.bucket_for(request)
    if fake.quirks.batch_delete == "refuse":
        raise S3Error(501, "NotImplemented", "DeleteObjects is not implemented")
    sums = check_body(fake, request)
    if not sums and "content-md5" not in request.headers and fake.quirks.checksum_headers != "ignore":
        raise S3Error(400, "InvalidRequest", "missing required header for this request: Content-MD5")
    try:
        root = ET.fromstring(request.body)
    except ET.ParseError:
        raise S3Error(400, "MalformedXML", "the XML you provided was not well-formed") from None
    names = [e.text or "" for e in root.iter() if e.tag.rpartition("}")[2] == "Key"]
    quiet = any(e.tag.rpartition("}")[2] == "Quiet" and e.text == "true" for e in root.iter())
    if len(names) > fake.quirks.max_keys or not names:
        raise S3Error(400, "MalformedXML", "between 1 and 1000 keys are allowed")
    out = [XML, f"<DeleteResult{NS}>"]
    for name in names:
        key = name.encode("utf-8", "surrogateescape")
        try:
            error = fake.delete_errors.get(key)
            if error is not None:
                raise error
            with fake.lock:
                _remove(fake, bucket, key)
        except S3Error as e:
            out.append(
                f"<Error><Key>{xml_text(key)}</Key><Code>{e.code}</Code><Message>{escape(e.message)}</Message></Error>"
            )
        else:
            if not quiet:
                out.append(f"<Deleted><Key>{xml_text(key)}</Key></Deleted>")
    return xml_reply("".join(out) + "</DeleteResult>")


def restore_object(fake: FakeS3, request: Request) -> Reply:
    obj = fake.bucket_for(request).get(request.key)
    if obj is None:
        raise S3Error(404, "NoSuchKey")
    obj.restored = True
    return Reply(202)


def multipart_etag(etags: list[str]) -> str:
    """The ETag of a completed upload: MD5 of the parts' MD5s and their number."""
    joined = b"".join(bytes.fromhex(e) for e in etags)
    return f"{hashlib.md5(joined).hexdigest()}-{len(etags)}"
