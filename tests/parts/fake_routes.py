"""Which operation a request of the fake S3 server means, and who answers it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import TYPE_CHECKING

from parts import fake_buckets, fake_lists, fake_objects, fake_uploads
from parts.fake_http import Reply, Request, S3Error, decode_path
from parts.fake_store import Bucket

if TYPE_CHECKING:
    from parts.fake_s3 import FakeS3


def wrong_region(home: Bucket, request: Request) -> S3Error:
    headers = {"x-amz-bucket-region": home.region}
    extra = f"<Region>{home.region}</Region><Bucket>{home.name}</Bucket>"
    if home.wrong_region == 400:
        return S3Error(400, "AuthorizationHeaderMalformed", "the region is wrong", headers=headers, extra=extra)
    name = "PermanentRedirect" if home.wrong_region == 301 else "TemporaryRedirect"
    if home.redirect_to:
        headers["location"] = home.redirect_to + request.path
        extra += f"<Endpoint>{home.redirect_to}</Endpoint>"
    return S3Error(home.wrong_region, name, "the bucket must be addressed elsewhere", headers=headers, extra=extra)


def parse(fake: FakeS3, request: Request) -> None:
    """Fill bucket, key, prefix, after and the operation's name."""
    host = request.headers.get("host", "").rpartition(":")[0] or request.headers.get("host", "")
    path = decode_path(request.path)
    if host.endswith("." + fake.domain):
        request.bucket, request.key, request.virtual = host[: -len(fake.domain) - 1], path[1:], True
    else:
        name, _, request.key = path[1:].partition(b"/")
        request.bucket = name.decode("utf-8", "replace")
    request.op = _operation(fake, request)
    if request.op.startswith("List") and request.op != "ListParts":
        request.prefix = fake_lists.raw(request.query.get("prefix", ""))
        with contextlib.suppress(S3Error):
            request.after = fake_lists.start_of(request)


def _operation(fake: FakeS3, request: Request) -> str:
    q, method = request.query, request.method
    if not request.bucket:
        return "ListBuckets"
    if not request.key:
        if method == "GET":
            for name, op in _BUCKET_GETS.items():
                if name in q:
                    return op
            if q.get("list-type") == "2" and fake.quirks.list_v2 != "ignore":
                return "ListObjectsV2"
            return "ListObjectsV1"
        if method == "POST":
            return "DeleteObjects" if "delete" in q else "Unknown"
        return {"PUT": "CreateBucket", "HEAD": "HeadBucket", "DELETE": "DeleteBucket"}.get(method, "Unknown")
    copies = "x-amz-copy-source" in request.headers
    if "uploadId" in q:
        if method == "PUT":
            return "UploadPartCopy" if copies else "UploadPart"
        return {"GET": "ListParts", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"}.get(
            method, "Unknown"
        )
    if "tagging" in q:
        return {"GET": "GetObjectTagging", "PUT": "PutObjectTagging", "DELETE": "DeleteObjectTagging"}.get(
            method, "Unknown"
        )
    if method == "POST":
        return "CreateMultipartUpload" if "uploads" in q else "RestoreObject" if "restore" in q else "Unknown"
    if method == "PUT":
        return "CopyObject" if copies else "PutObject"
    return {"GET": "GetObject", "HEAD": "HeadObject", "DELETE": "DeleteObject"}.get(method, "Unknown")


def _unknown(fake: FakeS3, request: Request) -> Reply:
    raise S3Error(501, "NotImplemented", f"{request.method} {request.path} is not implemented")


_BUCKET_GETS = {
    "location": "GetBucketLocation",
    "versioning": "GetBucketVersioning",
    "uploads": "ListMultipartUploads",
    "versions": "ListObjectVersions",
}
OPERATIONS: dict[str, Callable[[FakeS3, Request], Reply]] = {
    "Unknown": _unknown,
    "ListObjectsV1": fake_lists.list_objects,
    "ListObjectsV2": fake_lists.list_objects,
    "ListObjectVersions": fake_lists.list_versions,
    "ListMultipartUploads": fake_lists.list_uploads,
    "ListParts": fake_lists.list_parts,
    "GetObject": fake_objects.get_object,
    "HeadObject": fake_objects.get_object,
    "PutObject": fake_objects.put_object,
    "CopyObject": fake_objects.copy_object,
    "DeleteObject": fake_objects.delete_object,
    "DeleteObjects": fake_objects.delete_objects,
    "RestoreObject": fake_objects.restore_object,
    "GetObjectTagging": fake_buckets.tagging,
    "PutObjectTagging": fake_buckets.tagging,
    "DeleteObjectTagging": fake_buckets.tagging,
    "CreateMultipartUpload": fake_uploads.create,
    "UploadPart": fake_uploads.put_part,
    "UploadPartCopy": fake_uploads.copy_part,
    "CompleteMultipartUpload": fake_uploads.complete,
    "AbortMultipartUpload": fake_uploads.abort,
    **dict.fromkeys(
        (
            "ListBuckets",
            "CreateBucket",
            "HeadBucket",
            "DeleteBucket",
            "GetBucketLocation",
            "GetBucketVersioning",
        ),
        fake_buckets.bucket_operation,
    ),
}
