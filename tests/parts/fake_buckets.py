"""Bucket operations and object tagging of the fake S3 server."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

from parts.fake_http import Reply, Request, S3Error
from parts.fake_lists import NS, XML, iso, xml_reply

if TYPE_CHECKING:
    from parts.fake_s3 import FakeS3


def tagging(fake: FakeS3, request: Request) -> Reply:
    """GetObjectTagging, PutObjectTagging, DeleteObjectTagging."""
    obj = fake.bucket_for(request).get(request.key)
    if obj is None:
        raise S3Error(404, "NoSuchKey", "the specified key does not exist")
    if request.method == "DELETE":
        obj.tags = {}
        return Reply(204)
    if request.method == "PUT":
        root = ET.fromstring(request.body)
        plain = [(e.tag.rpartition("}")[2], e.text or "") for e in root.iter()]
        keys, values = ([v for n, v in plain if n == wanted] for wanted in ("Key", "Value"))
        obj.tags = dict(zip(keys, values, strict=True))
        return Reply(200)
    tags = "".join(f"<Tag><Key>{escape(k)}</Key><Value>{escape(v)}</Value></Tag>" for k, v in obj.tags.items())
    return xml_reply(f"{XML}<Tagging{NS}><TagSet>{tags}</TagSet></Tagging>")


# ---- buckets -----------------------------------------------------------------------------------------------


def bucket_operation(fake: FakeS3, request: Request) -> Reply:
    """ListBuckets, CreateBucket, HeadBucket, DeleteBucket, GetBucketLocation, GetBucketVersioning."""
    op = request.op
    if op == "ListBuckets":
        names = "".join(
            f"<Bucket><Name>{b.name}</Name><CreationDate>{iso(b.created)}</CreationDate></Bucket>"
            for b in fake.buckets.values()
        )
        return xml_reply(f"{XML}<ListAllMyBucketsResult{NS}><Buckets>{names}</Buckets></ListAllMyBucketsResult>")
    if op == "CreateBucket":
        if request.bucket in fake.buckets:
            raise S3Error(409, "BucketAlreadyOwnedByYou")
        fake.make_bucket(request.bucket)
        return Reply(200, {"location": "/" + request.bucket})
    bucket = fake.bucket_for(request)
    region = bucket.region or fake.region
    if op == "HeadBucket":
        return Reply(200, {"x-amz-bucket-region": region})
    if op == "DeleteBucket":
        if bucket.all_keys():
            raise S3Error(409, "BucketNotEmpty")
        del fake.buckets[request.bucket]
        return Reply(204)
    if op == "GetBucketLocation":
        place = "" if region == "us-east-1" else region
        return xml_reply(f"{XML}<LocationConstraint{NS}>{place}</LocationConstraint>")
    state = "<Status>Enabled</Status>" if bucket.versioned else ""
    return xml_reply(f"{XML}<VersioningConfiguration{NS}>{state}</VersioningConfiguration>")
