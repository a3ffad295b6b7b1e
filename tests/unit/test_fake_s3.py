"""The scripted S3 server, proved with boto3 as an independent client: what a store does, without faults."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from boto3.s3.transfer import TransferConfig
from botocore.exceptions import ClientError

from parts import fake_checks
from parts.fake_s3 import FakeS3, Quirks
from parts.probe import client, code_of, status_of
from parts.trees import border_sizes, content

ODD_KEYS = [
    "a", "a b", " a ", "a+b", "a//b", "/lead", "tail/", "é", "e\u0301", "日本", "😀", "%2F", "a&b<c>\"'", "~x*!()",
    "#?=&", "a\tb", "../up", ".", "x" * 1024,
]  # fmt: skip


@pytest.fixture
def s3(fake_s3: FakeS3) -> Any:
    fake_s3.make_bucket("box")
    return client(fake_s3)


# ---- objects ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ODD_KEYS)
def test_fake_keeps_odd_keys(fake_s3: FakeS3, s3: Any, key: str) -> None:
    s3.put_object(Bucket="box", Key=key, Body=b"data of " + key.encode())
    assert fake_s3.dump("box") == {key.encode(): b"data of " + key.encode()}
    assert s3.get_object(Bucket="box", Key=key)["Body"].read() == b"data of " + key.encode()
    assert [o["Key"] for o in s3.list_objects_v2(Bucket="box")["Contents"]] == [key]
    s3.copy_object(Bucket="box", Key="copy", CopySource={"Bucket": "box", "Key": key})
    assert fake_s3.dump("box")[b"copy"] == b"data of " + key.encode()
    if "\t" not in key:
        s3.delete_objects(Bucket="box", Delete={"Objects": [{"Key": key}, {"Key": "copy"}]})
        assert fake_s3.dump("box") == {}


def test_fake_keeps_metadata_tags_and_class(fake_s3: FakeS3, s3: Any) -> None:
    s3.put_object(
        Bucket="box", Key="k", Body=b"x", Metadata={"mtime": "1.5"}, ContentType="text/plain",
        ContentEncoding="gzip", CacheControl="no-store", StorageClass="STANDARD_IA", Tagging="a=1&b=2",
    )  # fmt: skip
    head = s3.head_object(Bucket="box", Key="k")
    assert head["Metadata"] == {"mtime": "1.5"}
    assert (head["ContentType"], head["ContentEncoding"]) == ("text/plain", "gzip")
    assert (head["CacheControl"], head["StorageClass"]) == ("no-store", "STANDARD_IA")
    assert head["ETag"] == '"9dd4e461268c8034f5c8564e155c67a6"'
    assert fake_s3.object("box", "k").tags == {"a": "1", "b": "2"}
    s3.put_object_tagging(Bucket="box", Key="k", Tagging={"TagSet": [{"Key": "c", "Value": "<3>"}]})
    assert s3.get_object_tagging(Bucket="box", Key="k")["TagSet"] == [{"Key": "c", "Value": "<3>"}]
    s3.copy_object(Bucket="box", Key="kept", CopySource="box/k")
    s3.copy_object(Bucket="box", Key="new", CopySource="box/k", MetadataDirective="REPLACE", Metadata={"other": "2"})
    assert s3.head_object(Bucket="box", Key="kept")["Metadata"] == {"mtime": "1.5"}
    assert s3.head_object(Bucket="box", Key="new")["Metadata"] == {"other": "2"}


def test_fake_ranges(fake_s3: FakeS3, s3: Any) -> None:
    fake_s3.put("box", "k", bytes(range(100)))
    cases = {"bytes=0-9": (0, 10), "bytes=90-": (90, 100), "bytes=-5": (95, 100), "bytes=50-1000": (50, 100)}
    for asked, (low, high) in cases.items():
        got = s3.get_object(Bucket="box", Key="k", Range=asked)
        assert got["ContentRange"] == f"bytes {low}-{high - 1}/100"
        assert got["Body"].read() == bytes(range(low, high))
        assert got["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert status_of(s3.get_object, Bucket="box", Key="k", Range="bytes=100-") == 416


def test_fake_conditions(fake_s3: FakeS3, s3: Any) -> None:
    etag = fake_s3.put("box", "k", b"1").etag
    assert status_of(s3.get_object, Bucket="box", Key="k", IfMatch=etag) == 200
    assert status_of(s3.get_object, Bucket="box", Key="k", IfMatch='"other"') == 412
    assert status_of(s3.get_object, Bucket="box", Key="k", IfNoneMatch=etag) == 304
    assert status_of(s3.put_object, Bucket="box", Key="k", Body=b"2", IfNoneMatch="*") == 412
    assert status_of(s3.put_object, Bucket="box", Key="new", Body=b"2", IfNoneMatch="*") == 200
    assert status_of(s3.put_object, Bucket="box", Key="k", Body=b"2", IfMatch='"other"') == 412
    source = {"Bucket": "box", "Key": "k"}
    assert status_of(s3.copy_object, Bucket="box", Key="c", CopySource=source, CopySourceIfMatch="no") == 412
    assert status_of(s3.copy_object, Bucket="box", Key="c", CopySource=source, CopySourceIfMatch=etag) == 200
    assert fake_s3.dump("box") == {b"k": b"1", b"new": b"2", b"c": b"1"}


def test_fake_names_what_is_missing(fake_s3: FakeS3, s3: Any) -> None:
    assert code_of(s3.get_object, Bucket="box", Key="no") == "NoSuchKey"
    assert code_of(s3.get_object, Bucket="nobox", Key="no") == "NoSuchBucket"
    assert code_of(s3.list_parts, Bucket="box", Key="no", UploadId="no") == "NoSuchUpload"
    assert status_of(s3.head_object, Bucket="box", Key="no") == 404
    assert status_of(s3.head_bucket, Bucket="nobox") == 404
    assert code_of(s3.put_object, Bucket="box", Key="k" * 1025) == "KeyTooLongError"
    assert code_of(s3.put_object, Bucket="box", Key="k", Metadata={"m": "v" * 2100}) == "MetadataTooLarge"


def test_fake_buckets(fake_s3: FakeS3, s3: Any) -> None:
    s3.create_bucket(Bucket="second")
    assert [b["Name"] for b in s3.list_buckets()["Buckets"]] == ["box", "second"]
    assert s3.get_bucket_location(Bucket="box")["LocationConstraint"] is None
    s3.delete_bucket(Bucket="second")
    fake_s3.put("box", "k", b"")
    assert code_of(s3.delete_bucket, Bucket="box") == "BucketNotEmpty"
    assert list(fake_s3.buckets) == ["box"]


def test_fake_batch_delete_reports_each_key(fake_s3: FakeS3, s3: Any) -> None:
    from parts.fake_s3 import S3Error

    for key in ("a", "b", "locked"):
        fake_s3.put("box", key, b"", locked=key == "locked")
    fake_s3.delete_errors[b"b"] = S3Error(403, "AccessDenied")
    done = s3.delete_objects(Bucket="box", Delete={"Objects": [{"Key": k} for k in ("a", "b", "locked", "none")]})
    assert [d["Key"] for d in done["Deleted"]] == ["a", "none"]
    assert [(e["Key"], e["Code"]) for e in done["Errors"]] == [("b", "AccessDenied"), ("locked", "AccessDenied")]
    assert set(fake_s3.dump("box")) == {b"b", b"locked"}


def test_fake_versions_and_markers(fake_s3: FakeS3) -> None:
    fake_s3.make_bucket("v", versioned=True)
    s3 = client(fake_s3)
    first = s3.put_object(Bucket="v", Key="k", Body=b"1")["VersionId"]
    s3.put_object(Bucket="v", Key="k", Body=b"2")
    s3.delete_object(Bucket="v", Key="k")
    listed = s3.list_object_versions(Bucket="v")
    assert len(listed["Versions"]) == 2
    assert len(listed["DeleteMarkers"]) == 1
    assert s3.get_object(Bucket="v", Key="k", VersionId=first)["Body"].read() == b"1"
    assert code_of(s3.get_object, Bucket="v", Key="k") == "NoSuchKey"


def test_fake_archive_tier(fake_s3: FakeS3, s3: Any) -> None:
    fake_s3.put("box", "cold", b"x", storage_class="GLACIER")
    assert code_of(s3.get_object, Bucket="box", Key="cold") == "InvalidObjectState"
    assert code_of(s3.copy_object, Bucket="box", Key="c", CopySource="box/cold") == "InvalidObjectState"
    assert s3.head_object(Bucket="box", Key="cold")["StorageClass"] == "GLACIER"
    s3.restore_object(Bucket="box", Key="cold", RestoreRequest={"Days": 1})
    assert s3.get_object(Bucket="box", Key="cold")["Body"].read() == b"x"


# ---- checksums -------------------------------------------------------------------------------------------


def test_fake_checksum_vectors() -> None:
    data = b"123456789"
    assert fake_checks.crc64nvme(data) == 0xAE8B14860A799888
    assert fake_checks.crc64nvme(b"") == 0
    assert fake_checks.checksum("crc32c", data) == "4waSgw=="
    assert fake_checks.checksum("crc32", data) == "y/Q5Jg=="
    assert fake_checks.qiniu_etag(b"") == "Fto5o-5ea0sNMlW_75VgGJCv2AcJ"


@pytest.mark.parametrize("algorithm", ["CRC32", "SHA1", "SHA256"])
def test_fake_checks_and_keeps_checksums(fake_s3: FakeS3, s3: Any, algorithm: str) -> None:
    s3.put_object(Bucket="box", Key="k", Body=b"hello", ChecksumAlgorithm=algorithm)
    kept = fake_s3.object("box", "k").checksums
    assert kept == {algorithm.lower(): fake_checks.checksum(algorithm.lower(), b"hello")}
    got = s3.get_object(Bucket="box", Key="k", ChecksumMode="ENABLED")
    assert got[f"Checksum{algorithm}"] == kept[algorithm.lower()]
    assert got["Body"].read() == b"hello"


@pytest.mark.parametrize("name", ["CRC32C", "CRC64NVME", "CRC32"])
def test_fake_refuses_wrong_checksums(fake_s3: FakeS3, s3: Any, name: str) -> None:
    right = fake_checks.checksum(name.lower(), b"hello")
    assert code_of(s3.put_object, Bucket="box", Key="k", Body=b"jello", **{f"Checksum{name}": right}) == "BadDigest"
    assert code_of(s3.put_object, Bucket="box", Key="k", Body=b"hello", **{f"Checksum{name}": right}) == ""
    assert code_of(s3.put_object, Bucket="box", Key="k", Body=b"hello", ContentMD5="x" * 22 + "==") == "BadDigest"
    assert fake_s3.count("PUT") == 3


def test_fake_default_checksum(fake_s3: FakeS3) -> None:
    fake_s3.make_bucket("box")
    fake_s3.quirks.default_checksum = "crc64nvme"
    s3 = client(fake_s3, config={"request_checksum_calculation": "when_required"})
    assert "ChecksumCRC64NVME" in s3.put_object(Bucket="box", Key="k", Body=b"hello")


# ---- multipart -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", border_sizes(5 << 20)[2:6])
def test_fake_multipart_by_boto(fake_s3: FakeS3, s3: Any, size: int) -> None:
    import io

    data = content(b"%d" % size, size)
    settings = TransferConfig(multipart_threshold=5 << 20, multipart_chunksize=5 << 20, max_concurrency=3)
    s3.upload_fileobj(io.BytesIO(data), "box", "k", Config=settings)
    assert fake_s3.dump("box") == {b"k": data}
    assert fake_s3.open_uploads() == []
    assert fake_s3.object("box", "k").etag.endswith("-2") == (size > 5 << 20) or size == 5 << 20


def test_fake_multipart_rules(fake_s3: FakeS3, s3: Any) -> None:
    upload = s3.create_multipart_upload(Bucket="box", Key="k", Metadata={"m": "1"})["UploadId"]
    where = {"Bucket": "box", "Key": "k", "UploadId": upload}
    parts = []
    for number, data in ((1, b"a" * (5 << 20)), (2, b"b" * 100), (3, b"c")):
        etag = s3.upload_part(**where, PartNumber=number, Body=data)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    assert [u.id for u in fake_s3.open_uploads("box")] == [upload]
    assert [u["UploadId"] for u in s3.list_multipart_uploads(Bucket="box")["Uploads"]] == [upload]
    page = s3.list_parts(**where, MaxParts=2)
    assert [p["PartNumber"] for p in page["Parts"]] == [1, 2]
    assert page["IsTruncated"]
    rest = s3.list_parts(**where, PartNumberMarker=page["NextPartNumberMarker"])
    assert [(p["PartNumber"], p["Size"]) for p in rest["Parts"]] == [(3, 1)]

    def complete(chosen: list[dict[str, Any]]) -> str:
        return code_of(s3.complete_multipart_upload, **where, MultipartUpload={"Parts": chosen})

    assert complete(parts) == "EntityTooSmall"
    assert complete([parts[1], parts[0]]) == "InvalidPartOrder"
    assert complete([parts[0], {"PartNumber": 2, "ETag": '"no"'}]) == "InvalidPart"
    assert complete([parts[0], parts[2]]) == ""
    assert fake_s3.dump("box") == {b"k": b"a" * (5 << 20) + b"c"}
    assert fake_s3.object("box", "k").metadata == {"m": "1"}
    assert complete(parts) == "NoSuchUpload"
    other = s3.create_multipart_upload(Bucket="box", Key="k")["UploadId"]
    s3.abort_multipart_upload(Bucket="box", Key="k", UploadId=other)
    assert fake_s3.open_uploads() == []
    assert code_of(s3.abort_multipart_upload, Bucket="box", Key="k", UploadId=other) == "NoSuchUpload"


def test_fake_full_object_checksum(fake_s3: FakeS3, s3: Any) -> None:
    fake_s3.quirks.part_min = 0
    data = [b"first part", b"second"]
    whole = fake_checks.checksum("crc64nvme", b"".join(data))
    for given, expected in (("AAAAAAAAAAA=", "BadDigest"), (whole, "")):
        made = s3.create_multipart_upload(Bucket="box", Key="k", ChecksumAlgorithm="CRC64NVME")
        where = {"Bucket": "box", "Key": "k", "UploadId": made["UploadId"]}
        assert made["ChecksumType"] == "FULL_OBJECT"
        parts = []
        for number, piece in enumerate(data, 1):
            sent = s3.upload_part(
                **where, PartNumber=number, Body=piece, ChecksumCRC64NVME=fake_checks.checksum("crc64nvme", piece)
            )
            parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC64NVME": sent["ChecksumCRC64NVME"]})
        code = code_of(
            s3.complete_multipart_upload,
            **where,
            MultipartUpload={"Parts": parts},
            ChecksumCRC64NVME=given,
            ChecksumType="FULL_OBJECT",
        )
        assert code == expected
    assert s3.head_object(Bucket="box", Key="k", ChecksumMode="ENABLED")["ChecksumCRC64NVME"] == whole


def test_fake_part_copy_of_a_huge_object(fake_s3: FakeS3, s3: Any) -> None:
    fake_s3.put_virtual("box", "huge", (5 << 30) + 10)
    assert code_of(s3.copy_object, Bucket="box", Key="c", CopySource="box/huge") == "InvalidRequest"
    upload = s3.create_multipart_upload(Bucket="box", Key="c")["UploadId"]
    parts = []
    for number, span in ((1, f"bytes=0-{(5 << 30) - 1}"), (2, f"bytes={5 << 30}-{(5 << 30) + 9}")):
        done = s3.upload_part_copy(
            Bucket="box", Key="c", UploadId=upload, PartNumber=number, CopySource="box/huge", CopySourceRange=span
        )
        parts.append({"PartNumber": number, "ETag": done["CopyPartResult"]["ETag"]})
    s3.complete_multipart_upload(Bucket="box", Key="c", UploadId=upload, MultipartUpload={"Parts": parts})
    assert s3.head_object(Bucket="box", Key="c")["ContentLength"] == (5 << 30) + 10
    around = f"bytes={(5 << 30) - 5}-{(5 << 30) + 4}"
    seam = [s3.get_object(Bucket="box", Key=k, Range=around)["Body"].read() for k in ("huge", "c")]
    assert len(seam[0]) == 10
    assert seam[0] == seam[1]


# ---- listings --------------------------------------------------------------------------------------------


def _all(list_page: Callable[..., Any], token: str, **arguments: Any) -> list[str]:
    found: list[str] = []
    more: dict[str, str] = {}
    while True:
        page = list_page(**arguments, **more)
        found += [o["Key"] for o in page.get("Contents", [])] + [p["Prefix"] for p in page.get("CommonPrefixes", [])]
        if not page["IsTruncated"]:
            return found
        if token == "Marker":
            more = {"Marker": page.get("NextMarker") or page["Contents"][-1]["Key"]}
        else:
            more = {"ContinuationToken": page["NextContinuationToken"]}


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("limit", [1, 2, 3, 1000])
def test_fake_listing_pages(fake_s3: FakeS3, s3: Any, version: str, limit: int) -> None:
    keys = ["a", "a-b", "a/", "a/b", "a/c/d", "a/c/e", "a0", "b c", "b+c", "z/z", "z/z/z", "z0", "é"]
    for key in keys:
        fake_s3.put("box", key, key.encode())
    call, token = (s3.list_objects, "Marker") if version == "v1" else (s3.list_objects_v2, "Continuation")
    ask = {"Bucket": "box", "MaxKeys": limit}
    assert _all(call, token, **ask) == keys
    assert _all(call, token, **ask, Prefix="a/") == ["a/", "a/b", "a/c/d", "a/c/e"]
    assert sorted(_all(call, token, **ask, Delimiter="/")) == ["a", "a-b", "a/", "a0", "b c", "b+c", "z/", "z0", "é"]
    assert sorted(_all(call, token, **ask, Delimiter="/", Prefix="a/")) == ["a/", "a/b", "a/c/"]
    assert _all(call, token, **ask, Prefix="none") == []
    start = "Marker" if version == "v1" else "StartAfter"
    if limit == 1000:
        assert _all(call, token, **ask, **{start: "a/c/d"}) == keys[5:]
        assert _all(call, token, **ask, **{start: "a/c/d"}, Prefix="a/") == ["a/c/e"]


def test_fake_listing_follows_writes(fake_s3: FakeS3, s3: Any) -> None:
    for i in (5, 1, 3):
        s3.put_object(Bucket="box", Key=f"k{i}", Body=b"x" * i)
    s3.delete_object(Bucket="box", Key="k3")
    rows = s3.list_objects_v2(Bucket="box")["Contents"]
    assert [(r["Key"], r["Size"]) for r in rows] == [("k1", 1), ("k5", 5)]
    head = s3.head_object(Bucket="box", Key="k1")
    assert (rows[0]["ETag"], rows[0]["LastModified"].replace(microsecond=0)) == (head["ETag"], head["LastModified"])


def test_fake_synthetic_bucket_is_quick_and_exact(fake_s3: FakeS3, s3: Any) -> None:
    fake_s3.make_synthetic("big", 5_000_000, size=10)
    page = s3.list_objects_v2(Bucket="big", StartAfter="004999/004999997")
    assert [o["Key"] for o in page["Contents"]] == ["004999/004999998", "004999/004999999"]
    assert not page["IsTruncated"]
    assert s3.list_objects_v2(Bucket="big", Prefix="000777/", MaxKeys=1)["Contents"][0]["Key"] == "000777/000777000"
    got = s3.get_object(Bucket="big", Key="000001/000001234")
    body = got["Body"].read()
    assert len(body) == 10
    row = s3.list_objects_v2(Bucket="big", Prefix="000001/000001234")["Contents"][0]
    assert row["ETag"] == got["ETag"]
    assert code_of(s3.get_object, Bucket="big", Key="000001/000009999") == "NoSuchKey"
    s3.put_object(Bucket="big", Key="000000/000000000x", Body=b"new")
    s3.delete_object(Bucket="big", Key="000000/000000001")
    rows = s3.list_objects_v2(Bucket="big", MaxKeys=3)["Contents"]
    assert [r["Key"] for r in rows] == ["000000/000000000", "000000/000000000x", "000000/000000002"]


# ---- who may -----------------------------------------------------------------------------------------------


def test_fake_sees_wrong_signing(fake_s3: FakeS3) -> None:
    fake_s3.make_bucket("box")
    fake_s3.make_bucket("far", region="eu-central-1")
    wrong = client(fake_s3, aws_secret_access_key="wrong")
    assert code_of(wrong.list_objects_v2, Bucket="box") == "SignatureDoesNotMatch"
    unknown = client(fake_s3, aws_access_key_id="unknown")
    assert code_of(unknown.list_objects_v2, Bucket="box") == "InvalidAccessKeyId"
    elsewhere = client(fake_s3, region_name="eu-west-1")
    assert code_of(elsewhere.put_object, Bucket="box", Key="k") == ""  # boto3 reads the right region and retries
    assert [r.status for r in fake_s3.log("PUT")] == [400, 200]
    near = client(fake_s3)
    assert code_of(near.get_object, Bucket="far", Key="k") == "NoSuchKey"  # redirected by boto3
    assert [r.status for r in fake_s3.log("GET")] == [301, 404]
    assert code_of(client(fake_s3, region_name="eu-central-1").get_object, Bucket="far", Key="k") == "NoSuchKey"
    import urllib.error
    import urllib.request

    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(fake_s3.endpoint + "/box", timeout=5)


def test_fake_revokes_rotates_and_expires(fake_s3: FakeS3) -> None:
    fake_s3.make_bucket("box")
    fake_s3.tokens["entrepot-test"] = "session-1"
    s3 = client(fake_s3)
    assert code_of(s3.list_objects_v2, Bucket="box") == ""
    fake_s3.tokens["entrepot-test"] = "session-2"
    assert code_of(s3.list_objects_v2, Bucket="box") == "ExpiredToken"
    fake_s3.secrets.clear()
    assert code_of(client(fake_s3).list_objects_v2, Bucket="box") == "InvalidAccessKeyId"


def test_fake_clock_skew(fake_s3: FakeS3) -> None:
    fake_s3.make_bucket("box")
    fake_s3.clock_offset = 3600.0
    reply: dict[str, Any] = {}
    try:
        client(fake_s3).list_objects_v2(Bucket="box")
    except ClientError as error:
        reply = dict(error.response)
    assert reply["Error"]["Code"] == "RequestTimeTooSkewed"
    assert "date" in reply["ResponseMetadata"]["HTTPHeaders"]


def test_fake_presigned_urls(fake_s3: FakeS3, s3: Any) -> None:
    import urllib.request

    fake_s3.put("box", "a b", b"signed")
    link = s3.generate_presigned_url("get_object", Params={"Bucket": "box", "Key": "a b"})
    with urllib.request.urlopen(link, timeout=5) as reply:
        assert reply.read() == b"signed"


def test_fake_over_tls(tls_s3: FakeS3) -> None:
    tls_s3.make_bucket("box")
    s3 = client(tls_s3, verify=tls_s3.env()["AWS_CA_BUNDLE"])
    s3.put_object(Bucket="box", Key="k", Body=b"x" * 100_000)
    assert tls_s3.dump("box") == {b"k": b"x" * 100_000}
    assert s3.get_object(Bucket="box", Key="k")["Body"].read() == b"x" * 100_000


# ---- vendors ---------------------------------------------------------------------------------------------


REFUSALS: list[tuple[Quirks, str, dict[str, Any], str]] = [
    (Quirks(list_v2="refuse"), "list_objects_v2", {}, "NotImplemented"),
    (Quirks(list_v2="refuse"), "list_objects", {}, ""),
    (Quirks(checksum_headers="refuse"), "put_object", {"Key": "k"}, "NotImplemented"),
    (Quirks(path_style="refuse"), "list_objects_v2", {}, "SecondLevelDomainForbidden"),
    (Quirks(batch_delete="refuse"), "delete_objects", {"Delete": {"Objects": [{"Key": "k"}]}}, "NotImplemented"),
    (Quirks(server_copy="refuse"), "copy_object", {"Key": "k", "CopySource": "box/k"}, "NotImplemented"),
    (Quirks(conditional_put="refuse"), "put_object", {"Key": "k", "IfNoneMatch": "*"}, "NotImplemented"),
]


@pytest.mark.parametrize(("quirks", "call", "arguments", "expected"), REFUSALS)
def test_fake_vendor_refusals(quirks: Quirks, call: str, arguments: dict[str, Any], expected: str) -> None:
    with FakeS3(quirks=quirks) as fake:
        fake.make_bucket("box")
        assert code_of(getattr(client(fake), call), Bucket="box", **arguments) == expected


def test_fake_vendor_listings() -> None:
    keys = ["a", "a b", "\uffee", "😀"]
    with FakeS3(quirks=Quirks(order="utf16", max_keys=2, encoding_type=False)) as fake:
        for key in keys:
            fake.put("box", key)
        s3 = client(fake)
        assert _all(s3.list_objects_v2, "", Bucket="box") == ["a", "a b", "😀", "\uffee"]
        fake.quirks.start_after = False
        assert _all(s3.list_objects_v2, "", Bucket="box", StartAfter="a b") == ["a", "a b", "😀", "\uffee"]
        fake.quirks.list_v2 = "ignore"
        assert "NextContinuationToken" not in s3.list_objects_v2(Bucket="box")


def test_fake_lists_like_a_tree() -> None:
    keys = ["a", "a/b", "a/c", "a!", "a-x", "a.py", "a0"]
    with FakeS3(quirks=Quirks(order="tree")) as fake:
        for key in reversed(keys):
            fake.put("box", key)
        s3 = client(fake)
        assert _all(s3.list_objects_v2, "", Bucket="box", MaxKeys=2) == keys
        assert _all(s3.list_objects_v2, "", Bucket="box", StartAfter="a/c") == keys[3:]
        assert _all(s3.list_objects_v2, "", Bucket="box", Prefix="a/", MaxKeys=1) == keys[1:3]


def test_fake_vendor_etags_and_parts() -> None:
    with FakeS3(quirks=Quirks(etags="random", part_fixed=6 << 20)) as fake:
        first, second = fake.put("box", "a", b"same"), fake.put("box", "b", b"same")
        assert first.etag != second.etag
        s3 = client(fake)
        upload = s3.create_multipart_upload(Bucket="box", Key="k")["UploadId"]
        parts = [
            {
                "PartNumber": n,
                "ETag": s3.upload_part(Bucket="box", Key="k", UploadId=upload, PartNumber=n, Body=b"x" * size)["ETag"],
            }
            for n, size in ((1, 5 << 20), (2, 1))
        ]
        arguments = {"Bucket": "box", "Key": "k", "UploadId": upload, "MultipartUpload": {"Parts": parts}}
        assert code_of(s3.complete_multipart_upload, **arguments) == "InvalidPart"
        fake.quirks.etags = "qiniu"
        assert fake.put("box", "c", b"").etag == "Fto5o-5ea0sNMlW_75VgGJCv2AcJ"


def test_fake_counts_and_latency(fake_s3: FakeS3, s3: Any) -> None:
    fake_s3.latency = 0.05
    before = time.monotonic()
    s3.put_object(Bucket="box", Key="a", Body=b"123")
    s3.head_object(Bucket="box", Key="a")
    assert time.monotonic() - before >= 0.1
    assert (fake_s3.count("PUT"), fake_s3.count("HEAD"), fake_s3.count(), fake_s3.count("*", "b")) == (1, 1, 2, 0)
    logged = fake_s3.log("PUT")[0]
    assert (logged.op, logged.bucket, logged.key, logged.status) == ("PutObject", "box", b"a", 200)
    assert fake_s3.connections_made == 1
    fake_s3.clear_log()
    assert fake_s3.requests == []


def test_fake_restarts_on_its_port(fake_s3: FakeS3, s3: Any) -> None:
    fake_s3.put("box", "k", b"1")
    fake_s3.stop()
    with pytest.raises(Exception, match="endpoint"):
        s3.head_object(Bucket="box", Key="k")
    fake_s3.start()
    assert s3.get_object(Bucket="box", Key="k")["Body"].read() == b"1"
