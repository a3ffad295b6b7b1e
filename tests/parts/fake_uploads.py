"""Multipart uploads of the fake S3 server."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING

from parts import fake_checks as checks
from parts.fake_http import Reply, Request, S3Error
from parts.fake_lists import NS, XML, iso, xml_reply, xml_text
from parts.fake_objects import check_body, check_write, copy_source, meta_of, multipart_etag, stored
from parts.fake_store import Body, Obj, StoredPart, Upload, join

if TYPE_CHECKING:
    from parts.fake_s3 import FakeS3


def create(fake: FakeS3, request: Request) -> Reply:
    bucket = fake.bucket_for(request)
    if len(request.key) > 1024:
        raise S3Error(400, "KeyTooLongError", "your key is too long")
    meta_of(request)
    algorithm = request.headers.get("x-amz-checksum-algorithm", "").lower()
    if fake.quirks.checksum_headers == "ignore":
        algorithm = ""
    default = "FULL_OBJECT" if algorithm == "crc64nvme" else "COMPOSITE"
    kind = request.headers.get("x-amz-checksum-type", default).upper()
    if algorithm and algorithm not in checks.ALGORITHMS:
        raise S3Error(400, "InvalidRequest", "checksum algorithm provided is unsupported")
    if kind == "FULL_OBJECT" and algorithm in ("sha1", "sha256"):
        raise S3Error(400, "InvalidRequest", "the FULL_OBJECT checksum type cannot be used with that algorithm")
    upload = Upload(fake.new_id("u"), bucket.name, request.key, fake.now(), dict(request.headers), algorithm, kind)
    with fake.lock:
        fake.uploads[upload.id] = upload
    headers = {}
    if algorithm:
        headers = {"x-amz-checksum-algorithm": algorithm.upper(), "x-amz-checksum-type": kind}
    return xml_reply(
        f"{XML}<InitiateMultipartUploadResult{NS}><Bucket>{bucket.name}</Bucket><Key>{xml_text(request.key)}</Key>"
        f"<UploadId>{upload.id}</UploadId></InitiateMultipartUploadResult>",
        headers,
    )


def _number(fake: FakeS3, request: Request) -> int:
    number = int(request.query.get("partNumber", "0") or 0)
    if not 1 <= number <= fake.quirks.parts_max:
        raise S3Error(400, "InvalidArgument", f"part number must be between 1 and {fake.quirks.parts_max}")
    return number


def _keep(fake: FakeS3, upload: Upload, number: int, body: Body, sums: dict[str, str]) -> StoredPart:
    part = StoredPart(number, body, fake.make_etag(body), fake.now(), sums)
    with fake.lock:
        if upload.id not in fake.uploads:
            raise S3Error(404, "NoSuchUpload", "the specified upload does not exist")
        upload.parts[number] = part
    return part


def put_part(fake: FakeS3, request: Request) -> Reply:
    upload, number = fake.upload_for(request), _number(fake, request)
    sums = check_body(fake, request)
    if upload.checksum and upload.checksum_type == "COMPOSITE" and upload.checksum not in sums:
        raise S3Error(
            400, "InvalidRequest", f"the upload was created with {upload.checksum.upper()}; the part has none"
        )
    part = _keep(fake, upload, number, Body.of(request.body), sums)
    return Reply(200, {"etag": f'"{part.etag}"', **{f"x-amz-checksum-{n}": v for n, v in sums.items()}})


def copy_part(fake: FakeS3, request: Request) -> Reply:
    upload, number = fake.upload_for(request), _number(fake, request)
    if fake.quirks.part_copy == "refuse":
        raise S3Error(501, "NotImplemented", "UploadPartCopy is not implemented")
    source = copy_source(fake, request)
    body = source.body
    span = request.headers.get("x-amz-copy-source-range")
    if span:
        found = re.fullmatch(r"bytes=(\d+)-(\d+)", span)
        if not found or int(found[2]) >= body.size or int(found[1]) > int(found[2]):
            raise S3Error(400, "InvalidArgument", "the x-amz-copy-source-range value is not valid for the source")
        body = body.slice(int(found[1]), int(found[2]) - int(found[1]) + 1)
    if body.size > 5 << 30:
        raise S3Error(400, "InvalidRequest", "the specified copy range is larger than the maximum allowable size")
    sums = {}
    if upload.checksum and not body.generated:
        sums = {upload.checksum: checks.checksum(upload.checksum, body.bytes())}
    part = _keep(fake, upload, number, body, sums)
    text = "".join(f"<Checksum{n.upper()}>{v}</Checksum{n.upper()}>" for n, v in sums.items())
    return xml_reply(
        f"{XML}<CopyPartResult{NS}><LastModified>{iso(part.modified)}</LastModified>"
        f"<ETag>&quot;{part.etag}&quot;</ETag>{text}</CopyPartResult>"
    )


def complete(fake: FakeS3, request: Request) -> Reply:
    bucket = fake.bucket_for(request)
    upload = fake.upload_for(request)
    parts = _named_parts(fake, upload, request)
    body = join([p.body for p in parts])
    sums = _full_checksum(request, upload, parts, body)
    if fake.quirks.etags == "md5":
        etag = multipart_etag([p.etag for p in parts])
    else:
        etag = fake.make_etag(body)
    created = Request("PUT", request.path, {}, upload.headers)
    headers, metadata = meta_of(created)
    with fake.lock:
        check_write(fake, request, bucket)
        if fake.uploads.pop(upload.id, None) is None:
            raise S3Error(404, "NoSuchUpload", "the specified upload does not exist")
        obj = Obj(upload.key, body, etag, fake.now(), headers, metadata, checksums=sums)
        obj.checksum_type = upload.checksum_type
        obj.storage_class = upload.headers.get("x-amz-storage-class", "STANDARD")
        obj.part_sizes = [p.body.size for p in parts]
        reply = stored(fake, bucket, obj)
    text = "".join(f"<Checksum{n.upper()}>{v}</Checksum{n.upper()}>" for n, v in sums.items())
    if text:
        text += f"<ChecksumType>{obj.checksum_type}</ChecksumType>"
    return xml_reply(
        f"{XML}<CompleteMultipartUploadResult{NS}><Location>{fake.endpoint}</Location><Bucket>{bucket.name}</Bucket>"
        f"<Key>{xml_text(upload.key)}</Key><ETag>&quot;{etag}&quot;</ETag>{text}</CompleteMultipartUploadResult>",
        {"x-amz-version-id": reply["x-amz-version-id"]} if obj.version_id else {},
    )


def _named_parts(fake: FakeS3, upload: Upload, request: Request) -> list[StoredPart]:
    """The parts that the request lists, checked against what was uploaded."""
    try:
        root = ET.fromstring(request.body)
    except ET.ParseError:
        raise S3Error(400, "MalformedXML", "the XML you provided was not well-formed") from None
    found: list[StoredPart] = []
    for element in (e for e in root if e.tag.rpartition("}")[2] == "Part"):
        fields = {e.tag.rpartition("}")[2]: (e.text or "") for e in element}
        part = upload.parts.get(int(fields["PartNumber"]))
        if part is None or part.etag != fields["ETag"].strip('"'):
            raise S3Error(400, "InvalidPart", "one or more of the specified parts could not be found")
        for name, value in part.checksums.items():
            given = fields.get(f"Checksum{name.upper()}")
            if given is not None and given != value:
                raise S3Error(400, "InvalidPart", "a part's checksum does not match")
        if found and part.number <= found[-1].number:
            raise S3Error(400, "InvalidPartOrder", "the list of parts was not in ascending order")
        found.append(part)
    if not found:
        raise S3Error(400, "MalformedXML", "you must specify at least one part")
    if any(p.body.size < fake.quirks.part_min for p in found[:-1]):
        raise S3Error(400, "EntityTooSmall", "your proposed upload is smaller than the minimum allowed size")
    fixed = fake.quirks.part_fixed
    if fixed and any(p.body.size != fixed for p in found[:-1]):
        raise S3Error(400, "InvalidPart", f"all parts but the last must have {fixed} bytes")
    return found


def _full_checksum(request: Request, upload: Upload, parts: list[StoredPart], body: Body) -> dict[str, str]:
    name = upload.checksum
    if not name:
        return {}
    if upload.checksum_type == "COMPOSITE":
        value = checks.composite(name, [p.checksums[name] for p in parts])
    else:
        value = checks.checksum(name, body.bytes()) if not body.generated else ""
    given = request.headers.get(f"x-amz-checksum-{name}")
    if value and given is not None and given != value:
        raise S3Error(400, "BadDigest", f"the {name.upper()} you specified did not match the calculated checksum")
    size = request.headers.get("x-amz-mp-object-size")
    if size is not None and int(size) != body.size:
        raise S3Error(400, "InvalidRequest", "the object size does not match x-amz-mp-object-size")
    return {name: value} if value else {}


def abort(fake: FakeS3, request: Request) -> Reply:
    upload = fake.upload_for(request)
    with fake.lock:
        fake.uploads.pop(upload.id, None)
    return Reply(204)
