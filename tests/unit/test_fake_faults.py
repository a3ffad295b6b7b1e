"""The fault script of the fake S3 server: every action does what it says, seen by a raw client."""

from __future__ import annotations

import gzip
import http.client
import re
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from parts import fake_actions as act
from parts.fake_rules import Action
from parts.fake_s3 import FakeS3
from parts.probe import client, code_of
from parts.s3_client import S3Client

BODY = bytes(range(256)) * 40


@pytest.fixture
def raw(fake_s3: FakeS3) -> S3Client:
    """A signed client that reports what it gets."""
    fake_s3.put("box", "k", BODY)
    return fresh(fake_s3)


def fresh(fake: FakeS3) -> S3Client:
    env = fake.env()
    made = S3Client(fake.endpoint, env["AWS_ACCESS_KEY_ID"], env["AWS_SECRET_ACCESS_KEY"])
    made.connection.timeout = 3
    return made


def listed(raw: S3Client, **query: str) -> tuple[list[bytes], bytes]:
    names = {"list-type": "2"} | {k.replace("_", "-"): v for k, v in query.items()}
    _, _, body = raw.request("GET", "box", query=list(names.items()))
    return re.findall(rb"<Key>(.*?)</Key>", body), body


# ---- when ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("conditions", "expected"),
    [
        ({}, [500, 500, 500, 500]),
        ({"nth": 2}, [200, 500, 200, 200]),
        ({"nth": range(2, 4)}, [200, 500, 500, 200]),
        ({"nth": {1, 4}}, [500, 200, 200, 500]),
        ({"times": 2}, [500, 500, 200, 200]),
        ({"key": "^other"}, [200, 200, 200, 200]),
        ({"key": "^k$"}, [500, 500, 500, 500]),
        ({"bucket": "other"}, [200, 200, 200, 200]),
        ({"when": lambda r: "range" in r.headers}, [200, 200, 200, 200]),
    ],
)
def test_rule_conditions(fake_s3: FakeS3, raw: S3Client, conditions: dict[str, Any], expected: list[int]) -> None:
    rule = fake_s3.rule("GET", act.status(500), **conditions)
    assert [raw.request("GET", "box", b"k")[0] for _ in range(4)] == expected
    assert rule.hits == expected.count(500)
    assert raw.request("HEAD", "box", b"k")[0] == 200
    rule.remove()
    assert raw.request("GET", "box", b"k")[0] == 200


def test_rule_counts_per_key(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.put("box", "other", b"")
    fake_s3.rule("GET", act.status(500), times=1, per_key=True)
    assert [raw.request("GET", "box", key)[0] for key in (b"k", b"other", b"k", b"other")] == [500, 500, 200, 200]


def test_rule_groups_of_operations(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule(["LIST", "HeadObject"], act.status(503))
    assert raw.request("GET", "box")[0] == 503
    assert raw.request("HEAD", "box", b"k")[0] == 503
    assert raw.request("GET", "box", b"k")[0] == 200
    assert fake_s3.count(["LIST", "HEAD"]) == 2


def test_storm_ends(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("*", act.slow_down(retry_after="1"), seconds=0.2)
    status, headers, body = raw.request("GET", "box", b"k")
    assert (status, headers["retry-after"]) == (503, "1")
    assert b"<Code>SlowDown</Code>" in body
    time.sleep(0.25)
    assert raw.request("GET", "box", b"k")[0] == 200


def test_throttle_lets_some_through(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("GET", act.throttle(3))
    got = [raw.request("GET", "box", b"k")[0] for _ in range(10)]
    assert got[:3] == [200, 200, 200]
    assert 503 in got


# ---- no reply, or half of one ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("action", "error"),
    [
        (act.close(), http.client.RemoteDisconnected),
        (act.close(early=True), OSError),
        (act.close(reset=True), OSError),
        (act.cut(after=100), http.client.IncompleteRead),
        (act.cut(after=0), http.client.IncompleteRead),
        (act.cut_chunked(after=100), http.client.IncompleteRead),
        (act.stall(30.0), TimeoutError),
        (act.stall(30.0, at=50), TimeoutError),
    ],
)
def test_reply_is_cut(fake_s3: FakeS3, raw: S3Client, action: Action, error: type[Exception]) -> None:
    raw.connection.timeout = 0.5
    fake_s3.rule("GET", action, times=1)
    with pytest.raises(error):
        raw.request("GET", "box", b"k")
    assert fresh(fake_s3).get("box", b"k") == BODY


def test_executed_but_nobody_told(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("PUT", act.close(), nth=1)
    fake_s3.rule("PUT", act.execute_then_close(), nth=2)
    for key, there in ((b"never", False), (b"silently", True)):
        with pytest.raises(http.client.RemoteDisconnected):
            fresh(fake_s3).put("box", key, b"x")
        assert (key in fake_s3.dump("box")) == there
    assert [r.status for r in fake_s3.log("PUT")] == [0, 0]


def test_early_refusal_closes(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("PUT", act.status(503, "SlowDown", early=True), times=1)
    status, headers, _ = raw.request("PUT", "box", b"k2", body=b"x")
    assert (status, headers["connection"]) == (503, "close")
    assert b"k2" not in fake_s3.dump("box")


def test_trickle_takes_its_time(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("GET", act.trickle(20_000))
    before = time.monotonic()
    assert raw.get("box", b"k") == BODY
    assert time.monotonic() - before >= 0.4


def test_stop_ends_stalls(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("GET", act.stall(60.0))
    threading.Timer(0.2, fake_s3.stop).start()
    before = time.monotonic()
    with pytest.raises((OSError, http.client.HTTPException)):
        raw.get("box", b"k")
    assert time.monotonic() - before < 2.5


# ---- wrong replies ---------------------------------------------------------------------------------------


def _get(raw: S3Client, span: str = "") -> tuple[int, dict[str, str], bytes]:
    return raw.request("GET", "box", b"k", headers={"Range": span} if span else None)


def test_dishonest_cut_looks_complete(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("GET", act.cut(after=7, honest=False))
    status, headers, body = _get(raw)
    assert (status, headers["content-length"], body) == (200, "7", BODY[:7])


def test_flips(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("GET", act.flip(1000), times=1)
    body = _get(raw)[2]
    assert [i for i in range(len(BODY)) if body[i] != BODY[i]] == [1000]
    assert _get(raw)[2] == BODY
    fake_s3.rule("PUT", act.flip_stored(2), nth=1)
    assert raw.put("box", b"stored", b"12345") == 200
    assert fake_s3.dump("box")[b"stored"] == b"12245"
    assert raw.head("box", b"stored")["etag"] == '"827ccb0eea8a706c4c34a16891f84e7b"'
    fake_s3.rule("PUT", act.flip_request(2))
    assert raw.put("box", b"unchecked", b"12345") == 200
    assert fake_s3.dump("box")[b"unchecked"] == b"12245"
    assert raw.put("box", b"checked", b"12345", {"Content-MD5": "gnzLDuqKcGxMNKFokfhOew=="}) == 400
    assert b"checked" not in fake_s3.dump("box")


def test_ranges_that_lie(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("GET", act.ignore_range(), nth=1)
    fake_s3.rule("GET", act.wrong_content_range(3), nth=2)
    status, headers, body = _get(raw, "bytes=10-19")
    assert (status, body) == (200, BODY)
    assert "content-range" not in headers
    status, headers, body = _get(raw, "bytes=10-19")
    assert (status, headers["content-range"], body) == (206, f"bytes 13-22/{len(BODY)}", BODY[10:20])


def test_changed_between_ranges(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.rule("GET", act.run(lambda call: fake_s3.put("box", "k", b"new" * 100)), nth=2)
    first = _get(raw, "bytes=0-9")[1]["etag"]
    assert _get(raw, "bytes=10-19")[1]["etag"] != first
    fake_s3.rule("GET", act.run(lambda call: fake_s3.delete("box", "k"), after=True), nth=1)
    assert [_get(raw)[0], _get(raw)[0]] == [200, 404]


def test_compression_on_the_way(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.put("box", "k", gzip.compress(b"plain"), headers={"content-encoding": "gzip"})
    assert (_get(raw)[1]["content-encoding"], gzip.decompress(_get(raw)[2])) == ("gzip", b"plain")
    rule = fake_s3.rule("GET", act.gunzip())
    status, headers, body = _get(raw)
    assert (status, body, headers.get("content-encoding"), headers["content-length"]) == (200, b"plain", None, "5")
    rule.remove()
    fake_s3.put("box", "k", b"plain")
    fake_s3.rule("GET", act.gzip_body())
    assert (_get(raw)[1]["content-encoding"], gzip.decompress(_get(raw)[2])) == ("gzip", b"plain")


@pytest.mark.parametrize(
    ("action", "seen"),
    [
        (act.empty(), lambda s, h, b: (s, b) == (200, b"")),
        (act.etag("other"), lambda s, h, b: h["etag"] == '"other"' and b == BODY),
        (act.etag(None), lambda s, h, b: "etag" not in h and b == BODY),
        (act.set_header("X-Amz-Archive-Status", "ARCHIVE_ACCESS"), lambda s, h, b: "x-amz-archive-status" in h),
        (act.set_status(203), lambda s, h, b: (s, b) == (203, BODY)),
        (act.replace_body(b"else"), lambda s, h, b: (s, b, h["content-length"]) == (200, b"else", "4")),
        (act.status(403, "AccessDenied"), lambda s, h, b: s == 403 and b"<Code>AccessDenied</Code>" in b),
        (act.status(502, body=b"<html>"), lambda s, h, b: (s, b) == (502, b"<html>")),
        (act.status(507, "QuotaExceeded", message="full"), lambda s, h, b: b"<Message>full</Message>" in b),
        (act.redirect("eu-west-1"), lambda s, h, b: (s, h["x-amz-bucket-region"]) == (301, "eu-west-1")),
        (
            act.redirect(endpoint="http://127.0.0.1:1", code=307),
            lambda s, h, b: (s, h["location"]) == (307, "http://127.0.0.1:1/box/k"),
        ),
    ],
)  # fmt: skip
def test_other_replies(
    fake_s3: FakeS3, raw: S3Client, action: Action, seen: Callable[[int, dict[str, str], bytes], bool]
) -> None:
    fake_s3.rule("GET", action, times=1)
    assert seen(*_get(raw))
    assert _get(raw)[2] == BODY


def test_wrong_checksum_headers(fake_s3: FakeS3, raw: S3Client) -> None:
    right = fake_s3.put("box", "k", BODY, checksums=["crc32c"]).checksums["crc32c"]
    ask = {"x-amz-checksum-mode": "ENABLED"}
    assert raw.request("GET", "box", b"k", headers=ask)[1]["x-amz-checksum-crc32c"] == right
    fake_s3.rule("GET", act.wrong_checksum())
    assert raw.request("GET", "box", b"k", headers=ask)[1]["x-amz-checksum-crc32c"] != right


def test_errors_in_200(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.quirks.part_min = 0
    s3 = client(fake_s3)
    fake_s3.rule("COPY", act.error_in_200(), nth=1)
    fake_s3.rule("CompleteMultipartUpload", act.error_in_200("InternalError"), nth=1)
    fake_s3.rule("CompleteMultipartUpload", act.error_in_200("InternalError", executed=True), nth=2)
    source = {"x-amz-copy-source": "/box/k"}
    status, _, body = raw.request("PUT", "box", b"copy", headers=source)
    assert status == 200
    assert b"<Error><Code>InternalError</Code>" in body
    assert b"copy" not in fake_s3.dump("box")
    assert raw.request("PUT", "box", b"copy", headers=source)[0] == 200
    assert fake_s3.dump("box")[b"copy"] == BODY
    upload = s3.create_multipart_upload(Bucket="box", Key="m")["UploadId"]
    part = s3.upload_part(Bucket="box", Key="m", UploadId=upload, PartNumber=1, Body=b"x")
    wanted = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
    arguments = {"Bucket": "box", "Key": "m", "UploadId": upload, "MultipartUpload": wanted}
    assert code_of(s3.complete_multipart_upload, **arguments) == "InternalError"
    assert len(fake_s3.open_uploads()) == 1
    assert code_of(s3.complete_multipart_upload, **arguments) == "InternalError"
    assert fake_s3.open_uploads() == []
    assert fake_s3.dump("box")[b"m"] == b"x"
    assert code_of(s3.complete_multipart_upload, **arguments) == "NoSuchUpload"


def test_locked_objects(fake_s3: FakeS3, raw: S3Client) -> None:
    fake_s3.put("box", "k", b"kept", locked=True)
    assert raw.put("box", b"k", b"new") == 403
    assert raw.delete("box", b"k") == 403
    assert raw.request("PUT", "box", b"k", headers={"x-amz-copy-source": "/box/k"})[0] == 403
    assert fake_s3.dump("box") == {b"k": b"kept"}


# ---- listings that lie -----------------------------------------------------------------------------------


@pytest.fixture
def ten(fake_s3: FakeS3) -> S3Client:
    """A bucket of k0 … k9."""
    for i in range(10):
        fake_s3.put("box", f"k{i}", b"x")
    return fresh(fake_s3)


def _keys(*numbers: int) -> list[bytes]:
    return [b"k%d" % n for n in numbers]


def test_listing_without_token(fake_s3: FakeS3, ten: S3Client) -> None:
    fake_s3.rule("LIST", act.truncated_without_token(), nth=1)
    keys, body = listed(ten, max_keys="3")
    assert keys == _keys(0, 1, 2)
    assert b"<IsTruncated>true" in body
    assert b"NextContinuationToken" not in body
    assert b"NextContinuationToken" in listed(ten, max_keys="3")[1]


def test_listing_repeats_a_page(fake_s3: FakeS3, ten: S3Client) -> None:
    fake_s3.rule("LIST", act.repeat_page(), nth=2)
    first, body = listed(ten, max_keys="3")
    token = re.search(rb"<NextContinuationToken>(.*?)<", body)
    assert token
    assert listed(ten, max_keys="3", continuation_token=token[1].decode()) == (first, body)
    assert listed(ten, max_keys="3", continuation_token=token[1].decode())[0] == _keys(3, 4, 5)


def test_listing_disorder_and_lies(fake_s3: FakeS3, ten: S3Client) -> None:
    for number, action in enumerate(
        [act.unordered(1, 2), act.duplicate(1), act.ends_early(2), act.cut_xml(), act.empty()], 1
    ):
        fake_s3.rule("LIST", action, nth=number)
    fake_s3.rule("LIST", act.change_page(lambda page: page.rows.reverse()), nth=6)
    assert listed(ten, max_keys="3")[0] == _keys(0, 2, 1)
    assert listed(ten, max_keys="3")[0] == _keys(0, 1, 1, 2)
    keys, body = listed(ten, max_keys="3")
    assert keys == _keys(0, 1)
    assert b"<IsTruncated>false" in body
    assert b"</ListBucketResult>" not in listed(ten)[1]
    assert listed(ten)[1] == b""
    assert listed(ten)[0] == _keys(9, 8, 7, 6, 5, 4, 3, 2, 1, 0)
    assert listed(ten)[0] == _keys(*range(10))


def test_listing_rule_by_place(fake_s3: FakeS3, ten: S3Client) -> None:
    fake_s3.rule("LIST", act.status(500), when=lambda r: r.after >= b"k5")
    fake_s3.rule("LIST", act.status(403, "AccessDenied"), key="^secret/")
    assert listed(ten, start_after="k4")[0] == _keys(5, 6, 7, 8, 9)
    assert listed(ten, start_after="k5")[0] == []
    assert b"AccessDenied" in listed(ten, prefix="secret/")[1]


def test_many_objects_are_quick_enough(fake_s3: FakeS3) -> None:
    raw = fresh(fake_s3)
    raw.make_bucket("many")
    before = time.monotonic()
    for i in range(1000):
        assert raw.put("many", b"%04d" % i, b"x" * 100) == 200
    assert time.monotonic() - before < 10
    assert len(raw.keys("many")) == 1000
