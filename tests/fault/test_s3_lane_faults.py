"""The S3 lane against scripted faults. Numbers are those of the project's table of fault cases."""

from __future__ import annotations

import hashlib
import os
import random
import socket
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from entrepot.model.errors import (
    ChangedError,
    CorruptError,
    ForbiddenError,
    NotFoundError,
    StoreError,
    StoreTimeoutError,
    ThrottledError,
    UnexpectedReplyError,
)
from entrepot.model.secret import Secret
from entrepot.storage.base import (
    CompleteUpload,
    Copy,
    CreateUpload,
    Delete,
    FileRegion,
    Get,
    Head,
    List,
    Put,
    PutPart,
)
from entrepot.storage.s3.lane import S3Lane
from entrepot.storage.s3.target import Credentials
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor
from parts import fake_actions as act
from parts.fake_s3 import FakeS3
from parts.fake_state import Quirks
from wire_parts import Bench, Sink, nothing, s3_lane, target_of

BIG = random.Random(1).randbytes(3_000_000)


@pytest.fixture
def fake() -> Any:
    with FakeS3() as server:
        server.make_bucket("b")
        yield server


def lane_to(fake: FakeS3, bucket: str = "b", prefix: bytes = b"", profile: Any = None, **options: Any) -> Any:
    return s3_lane(target_of(fake.env(), bucket, **(profile or {})), prefix, **options)


def fill(fake: FakeS3, count: int) -> list[bytes]:
    keys = [b"k%04d" % i for i in range(count)]
    for key in keys:
        fake.put("b", key, key * 3)
    return keys


# --- listing ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "action",
    [
        act.status(500), act.status(503), act.empty(), act.cut_xml(), act.truncated_without_token(),
        act.close(), act.close(reset=True), act.cut(200), act.cut_chunked(300), act.unordered(2, 5),
    ],
    ids=[
        "500", "503", "empty", "cut xml", "no token", "close", "reset", "cut body", "cut chunks", "unordered",
    ],
)  # fmt: skip
@pytest.mark.parametrize("nth", [1, 3])
def test_01_02_03_05_a_bad_page_is_asked_again(fake: FakeS3, action: Any, nth: int) -> None:
    keys = fill(fake, 45)
    fake.rule("LIST", action, nth=nth)
    with lane_to(fake) as lane:
        assert [row[0] for row in lane.keys(limit=10)] == keys
        assert lane.lane.retries >= 1 or lane.lane.requests()["list"] > 5


@pytest.mark.parametrize("action", [act.status(500), act.cut_xml(), act.unordered(1, 2), act.truncated_without_token()])
def test_01_05_a_page_that_stays_bad_is_an_error_not_an_end(fake: FakeS3, action: Any) -> None:
    fill(fake, 25)
    fake.rule("LIST", action)
    with lane_to(fake, attempts=3) as lane, pytest.raises(StoreError):
        lane.keys(limit=10)
    assert fake.count("LIST") == 3


def test_06_a_key_listed_twice_counts_once(fake: FakeS3) -> None:
    keys = fill(fake, 9)
    fake.rule("LIST", act.duplicate(3))
    with lane_to(fake) as lane:
        page = lane.one(List(b"", b"", "etag", nothing)).page
    assert [row[0] for row in page.rows] == keys
    assert [(p.prefix, p.failure) for p in page.problems] == [(b"k0003", "duplicate")]


def test_08_missing_bucket_and_wrong_region(fake: FakeS3) -> None:
    with lane_to(fake, bucket="nowhere") as lane, pytest.raises(NotFoundError, match="nowhere"):
        lane.keys()
    fake.make_bucket("far", region="eu-west-3")
    fake.put("far", "k", b"x")
    with lane_to(fake, bucket="far") as lane:
        ops = lane.run(*(Get(b"k", nothing) for _ in range(8)))
        assert [op.error for op in ops] == [None] * 8
        assert lane.lane.dialect.target.region == "eu-west-3"


@pytest.mark.parametrize(
    "quirks",
    [
        Quirks(list_v2="refuse"), Quirks(list_v2="ignore"), Quirks(encoding_type=False),
        Quirks(plus_for_space=False), Quirks(list_v2="ignore", always_next_marker=True),
    ],
    ids=["v2 refused", "v2 ignored", "no encoding", "%20", "next marker"],
)  # fmt: skip
def test_listings_of_other_makes(fake: FakeS3, quirks: Quirks) -> None:
    fake.quirks = quirks
    keys = sorted(k.encode() for k in ["a b", "a+b", "a%2Fb", "a&b", "x/ä", "x/", "x//y", "z<z", "a=1/b:2,c@d", "q\"'"])
    for key in keys:
        fake.put("b", b"in side/" + key, b"1")
    with lane_to(fake, prefix=b"in side/") as lane:
        assert [row[0] for row in lane.keys(limit=3)] == keys
    with lane_to(fake, prefix=b"in side/") as lane:
        page = lane.one(List(keys[4], b"", "mtime", nothing)).page
        assert [row[0] for row in page.rows] == keys[5:]


# --- reading ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("chunked", [False, True])
def test_31_a_cut_stream_goes_on_from_the_byte_reached(fake: FakeS3, chunked: bool) -> None:
    fake.put("b", "big", BIG)
    fake.rule("GET", act.cut_chunked(1_000_000) if chunked else act.cut(1_000_000), times=2)
    sink = Sink()
    with lane_to(fake) as lane:
        op = lane.one(Get(b"big", nothing, sink=sink))
    assert bytes(sink.data) == BIG
    assert fake.count("GET") == 3
    assert sum(size for _, size in sink.pieces) == len(BIG), "no byte is fetched twice"
    assert op.proof != "", "the digest runs over the cuts"


def test_31_a_dishonest_length_is_noticed(fake: FakeS3) -> None:
    fake.put("b", "big", BIG)
    fake.rule("GET", act.cut(1_000_000, honest=False), times=1)
    with lane_to(fake) as lane:
        sink = Sink()
        lane.one(Get(b"big", nothing, sink=sink))
        assert bytes(sink.data) == BIG
        fake.rule("GET", act.cut(1_000, honest=False))
        with pytest.raises(StoreError):
            lane.one(Get(b"big", nothing, offset=500_000, length=500_000, sink=Sink()))
        with pytest.raises(StoreError):
            lane.one(Get(b"big", nothing, offset=500_000, length=500_000))


def test_32_a_store_that_ignores_range(fake: FakeS3) -> None:
    fake.put("b", "big", BIG)
    fake.rule("GET", act.ignore_range())
    with lane_to(fake) as lane:
        sink = Sink(len(BIG))
        lane.one(Get(b"big", nothing, offset=1_000_000, length=500_000, sink=sink))
        assert bytes(sink.data[1_000_000:1_500_000]) == BIG[1_000_000:1_500_000]
        assert min(at for at, _ in sink.pieces) == 1_000_000
        assert bytes(lane.one(Get(b"big", nothing, offset=5, length=7)).body) == BIG[5:12]
        assert bytes(lane.one(Get(b"big", nothing, offset=2_999_990)).body) == BIG[2_999_990:]


def test_32_a_wrong_content_range_is_tried_again_then_corrupt(fake: FakeS3) -> None:
    fake.put("b", "big", BIG)
    rule = fake.rule("GET", act.wrong_content_range(), times=1)
    with lane_to(fake, attempts=3) as lane:
        assert bytes(lane.one(Get(b"big", nothing, offset=10, length=20)).body) == BIG[10:30]
        assert rule.hits == 1
        fake.rule("GET", act.wrong_content_range())
        for sink in (None, Sink()):
            with pytest.raises(CorruptError):
                lane.one(Get(b"big", nothing, offset=10, length=200_000, sink=sink))


def test_33_an_object_replaced_between_two_pieces_is_changed(fake: FakeS3) -> None:
    fake.put("b", "big", BIG)
    fake.rule("GET", act.cut(1_000_000), times=1)
    fake.rule("GET", act.run(lambda call: fake.put("b", "big", BIG[::-1])), nth=2)
    with lane_to(fake) as lane, pytest.raises(ChangedError, match="big"):
        lane.one(Get(b"big", nothing, sink=Sink()))


def test_33_a_pinned_range_of_another_version_is_changed(fake: FakeS3) -> None:
    fake.put("b", "k", b"0123456789")
    with lane_to(fake) as lane, pytest.raises(ChangedError):
        lane.one(Get(b"k", nothing, offset=1, length=2, if_match=b"0" * 32))


def test_36_a_body_unpacked_on_the_way_is_corrupt_and_a_packed_one_is_raw(fake: FakeS3) -> None:
    import gzip

    packed = gzip.compress(b"text " * 100)
    fake.put("b", "z", packed, headers={"content-encoding": "gzip"})
    with lane_to(fake) as lane:
        assert bytes(lane.one(Get(b"z", nothing)).body) == packed
        fake.rule("GET", act.gunzip())
        with pytest.raises(CorruptError):
            lane.one(Get(b"z", nothing))


@pytest.mark.parametrize("checksum", ["", "crc32c"])
def test_37_a_flipped_bit_is_noticed_both_ways(fake: FakeS3, checksum: str) -> None:
    with lane_to(fake, profile={"checksum": checksum}) as lane:
        lane.one(Put(b"k", b"a" * 5000, nothing))
        fake.rule("GET", act.flip(100), times=1)
        assert bytes(lane.one(Get(b"k", nothing)).body) == b"a" * 5000
        assert lane.lane.retries == 1
        fake.rule("GET", act.flip(100))
        with pytest.raises(CorruptError, match="b/k"):
            lane.one(Get(b"k", nothing))
        with pytest.raises(CorruptError):
            lane.one(Get(b"k", nothing, sink=Sink()))
        fake.clear_rules()
        fake.rule("PUT", act.flip_request(7), times=1)
        lane.one(Put(b"k2", b"b" * 5000, nothing))
        assert fake.dump("b")[b"k2"] == b"b" * 5000
        fake.rule("PUT", act.flip_request(7))
        with pytest.raises(CorruptError):
            lane.one(Put(b"k3", b"c" * 5000, nothing))


def test_37_damage_on_the_very_first_put_is_no_lesson_about_etags(fake: FakeS3) -> None:
    fake.rule("PUT", act.flip_request(7))
    with lane_to(fake, profile={"checksum": ""}) as lane, pytest.raises(CorruptError):
        lane.one(Put(b"k", b"b" * 5000, nothing))


def test_48_etags_that_are_no_md5_are_learned_and_cost_nothing_afterwards(fake: FakeS3, tmp_path: Path) -> None:
    fake.quirks.etags = "random"
    with lane_to(fake, profile={"checksum": ""}) as lane:
        assert lane.one(Put(b"a", b"1" * 100, nothing)).proof == "reread"
        before = len(fake.requests)
        assert lane.one(Put(b"b", b"2" * 100, nothing)).proof == "size"
        assert lane.one(Get(b"a", nothing)).proof == "size"
        assert len(fake.requests) == before + 2
    with lane_to(fake, profile={"checksum": ""}) as lane:
        assert lane.one(Get(b"a", nothing)).proof == "reread"
        assert lane.one(Get(b"b", nothing)).proof == "size"
    file = tmp_path / "f"
    file.write_bytes(BIG)
    with lane_to(fake, profile={"checksum": ""}) as lane, file.open("rb") as body:
        region = FileRegion(body.fileno(), 0, len(BIG))
        assert lane.one(Put(b"r", region, nothing)).proof == "size"
        before = len(fake.requests)
        assert lane.one(Put(b"r2", region, nothing)).proof == "size"
        assert len(fake.requests) == before + 1
    assert fake.dump("b")[b"r2"] == BIG


def test_48_the_source_etag_is_proof_without_hashing(fake: FakeS3) -> None:
    with lane_to(fake, profile={"checksum": ""}) as lane:
        etag = hashlib.md5(b"zz").hexdigest().encode()
        assert lane.one(Put(b"a", b"zz", nothing, source_etag=etag)).proof == "etag"
        assert lane.one(Put(b"a", b"zz", nothing, source_etag=b"f" * 32)).proof == "md5"


@pytest.mark.parametrize("mode", ["refuse", "ignore"])
def test_49_stores_without_checksum_headers(fake: FakeS3, mode: str, tmp_path: Path) -> None:
    fake.quirks.checksum_headers = mode
    file = tmp_path / "f"
    file.write_bytes(BIG)
    with lane_to(fake) as lane, file.open("rb") as body:
        ops = lane.run(*(Put(b"k%d" % i, b"x" * 50, nothing) for i in range(20)))
        assert [op.error for op in ops] == [None] * 20
        assert {op.proof for op in ops} == {"md5"}
        region = FileRegion(body.fileno(), 0, len(BIG))
        assert lane.one(Put(b"r", region, nothing)).proof == "md5"
        upload = lane.one(CreateUpload(b"m", nothing))
        part = lane.one(PutPart(b"m", upload.upload_id, 1, region, nothing))
        assert part.proof == "md5"
        done = lane.one(CompleteUpload(b"m", upload.upload_id, [part.part], nothing))
        assert done.proof == "etag"
        assert lane.one(Delete([b"k1", b"k2"], nothing)).failed == []
    assert fake.dump("b")[b"m"] == BIG


def test_49_an_upload_with_a_checksum_over_the_whole_object(fake: FakeS3, tmp_path: Path) -> None:
    file = tmp_path / "f"
    data = random.Random(2).randbytes((5 << 20) + 77)
    file.write_bytes(data)
    with lane_to(fake) as lane, file.open("rb") as body:
        upload = lane.one(CreateUpload(b"m", nothing))
        cut = 5 << 20
        first = lane.one(PutPart(b"m", upload.upload_id, 1, FileRegion(body.fileno(), 0, cut), nothing))
        second = lane.one(PutPart(b"m", upload.upload_id, 2, data[cut:], nothing))
        assert {first.proof, second.proof} == {"crc32c"}
        done = lane.one(CompleteUpload(b"m", upload.upload_id, [first.part, second.part], nothing))
        assert done.proof == "crc32c"
        sink = Sink()
        assert lane.one(Get(b"m", nothing, sink=sink)).proof == "crc32c"
        assert bytes(sink.data) == data


def test_50_a_wrong_checksum_on_get_is_corrupt(fake: FakeS3) -> None:
    with lane_to(fake) as lane:
        lane.one(Put(b"k", b"x" * 50, nothing))
        fake.rule("GET", act.wrong_checksum())
        with pytest.raises(CorruptError):
            lane.one(Get(b"k", nothing))


# --- answers that get lost or lie ---------------------------------------------------------------------------


def test_39_a_put_whose_answer_was_lost_is_sent_again(fake: FakeS3) -> None:
    fake.rule("PUT", act.execute_then_close(), times=1)
    with lane_to(fake) as lane:
        assert lane.one(Put(b"k", b"v", nothing)).error is None


def test_39_a_conditional_put_whose_answer_was_lost_is_settled_by_head(fake: FakeS3) -> None:
    fake.rule("PUT", act.execute_then_close(), times=1)
    with lane_to(fake) as lane:
        op = lane.one(Put(b"k", b"v" * 10, nothing, if_absent=True))
        assert op.proof in {"md5", "crc32c"}
        assert op.etag == hashlib.md5(b"v" * 10).hexdigest().encode()
        with pytest.raises(ChangedError):
            lane.one(Put(b"k", b"v" * 10, nothing, if_absent=True))
        fake.put("b", "other", b"w" * 10)
        fake.rule("PUT", act.close(), key="other", times=1)
        with pytest.raises(ChangedError):
            lane.one(Put(b"other", b"v" * 10, nothing, if_absent=True))


@pytest.mark.parametrize("mode", ["refuse", "ignore"])
def test_if_absent_where_the_store_knows_no_conditions(fake: FakeS3, mode: str) -> None:
    fake.quirks.conditional_put = mode
    with lane_to(fake, profile={"put_conditional": mode == "refuse"}) as lane:
        lane.one(Put(b"k", b"1", nothing, if_absent=True))
        with pytest.raises(ChangedError):
            lane.one(Put(b"k", b"2", nothing, if_absent=True))
    assert fake.dump("b") == {b"k": b"1"}


@pytest.mark.parametrize(
    "action",
    [act.error_in_200(), act.error_in_200(executed=True), act.execute_then_close(), act.close()],
    ids=["error in 200", "error in 200 but done", "answer lost", "closed"],
)
def test_40_a_completion_that_went_wrong_is_decided_by_the_object(fake: FakeS3, action: Any) -> None:
    fake.rule("CompleteMultipartUpload", action, times=1)
    data = random.Random(3).randbytes(100_000)
    with lane_to(fake) as lane:
        upload = lane.one(CreateUpload(b"m", nothing))
        part = lane.one(PutPart(b"m", upload.upload_id, 1, data, nothing)).part
        done = lane.one(CompleteUpload(b"m", upload.upload_id, [part], nothing))
        assert done.etag.endswith(b"-1")
    assert fake.dump("b") == {b"m": data}


def test_40_an_upload_that_is_gone_without_its_object_is_not_found(fake: FakeS3) -> None:
    with lane_to(fake) as lane:
        upload = lane.one(CreateUpload(b"m", nothing))
        part = lane.one(PutPart(b"m", upload.upload_id, 1, b"x" * 100, nothing)).part
        with pytest.raises(NotFoundError):
            lane.one(CompleteUpload(b"m", "no-such-upload", [part], nothing))
        fake.put("b", "m", b"y" * 100)
        with pytest.raises(NotFoundError):
            lane.one(CompleteUpload(b"m", "no-such-upload", [part], nothing))


def test_41_a_copy_that_fails_after_200_is_tried_again(fake: FakeS3) -> None:
    fake.put("b", "s", b"data")
    fake.rule("COPY", act.error_in_200(), times=2)
    with lane_to(fake) as lane:
        source = SimpleNamespace(target=lane.lane.dialect.target, location=SimpleNamespace(prefix=b""))
        etag = hashlib.md5(b"data").hexdigest().encode()
        op = lane.one(Copy(b"d", source, b"s", nothing, if_match=etag))
        assert (op.etag, op.proof) == (etag, "etag")
        with pytest.raises(ChangedError):
            lane.one(Copy(b"d2", source, b"s", nothing, if_match=b"0" * 32))
        with pytest.raises(NotFoundError):
            lane.one(Copy(b"d2", source, b"none", nothing))
    assert fake.dump("b")[b"d"] == b"data"


def test_42_a_part_that_always_fails_ends_with_its_error(fake: FakeS3) -> None:
    fake.rule("PART", act.status(500))
    with lane_to(fake, attempts=3) as lane:
        upload = lane.one(CreateUpload(b"m", nothing))
        with pytest.raises(UnexpectedReplyError):
            lane.one(PutPart(b"m", upload.upload_id, 1, b"x", nothing))
    assert fake.count("PART") == 3


# --- pace, times and places ---------------------------------------------------------------------------------


def test_51_a_storm_of_refusals_fails_nothing_and_passes(fake: FakeS3) -> None:
    fake.rule("PUT", act.slow_down(), seconds=1.5)
    with lane_to(fake, attempts=2) as lane:
        ops = lane.run(*(Put(b"k%03d" % i, b"x", nothing) for i in range(200)), seconds=40)
        assert [op.error for op in ops if op.error] == []
        sent = lane.lane.requests()["put"]
    assert len(fake.dump("b")) == 200
    assert sent < 200 + 400, "the storm was not answered by a storm"


def test_51_refusals_are_bounded_by_time_and_retry_after_is_kept(fake: FakeS3) -> None:
    fake.rule("PUT", act.slow_down(retry_after="1"), times=1)
    with lane_to(fake, throttle_seconds=1.0) as lane:
        start = time.monotonic()
        lane.one(Put(b"k", b"x", nothing))
        assert time.monotonic() - start > 0.9
        fake.rule("PUT", act.slow_down(429))
        with pytest.raises(ThrottledError):
            lane.one(Put(b"k", b"x", nothing))


def test_52_a_hung_answer_is_cut_and_tried_elsewhere(fake: FakeS3) -> None:
    fake.put("b", "k", b"hello")
    fake.put("b", "big", BIG)
    fake.rule("GET", act.stall(30), key="^k$", times=1)
    fake.rule("GET", act.stall(30, at=1_500_000), key="^big$", times=1)
    with lane_to(fake, stall_timeout=0.6) as lane:
        sink = Sink()
        start = time.monotonic()
        small, big = Get(b"k", nothing), Get(b"big", nothing, sink=sink)
        lane.run(small, big)
        assert (small.error, big.error) == (None, None)
        assert bytes(sink.data) == BIG
        assert time.monotonic() - start < 8


def test_52_a_trickle_is_cut_and_tried_elsewhere(fake: FakeS3) -> None:
    fake.put("b", "big", BIG)
    fake.rule("GET", act.trickle(1000), times=1)
    with lane_to(fake, stall_timeout=0.5, min_speed=100_000) as lane:
        sink = Sink()
        lane.one(Get(b"big", nothing, sink=sink))
        assert bytes(sink.data) == BIG


def test_53_dead_addresses_are_passed_over(fake: FakeS3) -> None:
    fake.put("b", "k", b"x")
    target = target_of(fake.env(), "b")
    alive = socket.getaddrinfo("127.0.0.1", target.port, type=socket.SOCK_STREAM)[0]
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        dead = holder.getsockname()

        def lookup(host: str, port: int) -> Any:
            return [
                (int(socket.AF_INET), dead),
                (int(socket.AF_INET), dead[:1] + (dead[1],)),
                (int(alive[0]), alive[4]),
            ]

        reactor = Reactor()
        lane = S3Lane(target, b"", reactor, LaneOptions(backoff=0.01), lookup=lookup)
        try:
            Bench(lane, reactor).one(Get(b"k", nothing), seconds=5)
        finally:
            lane.close()
            reactor.close()


def test_53_a_store_out_of_reach_fails_with_a_reason(fake: FakeS3) -> None:
    target = target_of(fake.env(), "b")
    fake.stop()
    with s3_lane(target, retry_seconds=0.5) as lane, pytest.raises(StoreTimeoutError, match="cannot connect to 127"):
        lane.one(Get(b"k", nothing))
    target.endpoint_host = "no-such-host.invalid"
    target.use("path")
    with s3_lane(target, retry_seconds=0.2) as lane, pytest.raises(StoreTimeoutError, match=r"no-such-host\.invalid"):
        lane.one(Get(b"k", nothing))


def test_53_a_store_that_comes_back_is_used_again(fake: FakeS3) -> None:
    fake.put("b", "k", b"x")
    with lane_to(fake, retry_seconds=10) as lane:
        lane.one(Get(b"k", nothing))
        fake.rule("GET", act.close(reset=True), seconds=0.4)
        fake.drop_connections()
        ops = lane.run(*(Get(b"k", nothing) for _ in range(5)))
    assert [op.error for op in ops if op.error and not isinstance(op.error, StoreTimeoutError)] == []


def test_54_an_unknown_certificate_is_refused(tls_s3: FakeS3) -> None:
    tls_s3.make_bucket("b")
    tls_s3.put("b", "k", b"x" * 100_000)
    env = tls_s3.env()
    with s3_lane(target_of(env, "b")) as lane:
        assert bytes(lane.one(Get(b"k", nothing)).body) == b"x" * 100_000
    env.pop("AWS_CA_BUNDLE")
    with s3_lane(target_of(env, "b")) as lane, pytest.raises(UnexpectedReplyError, match="certificate"):
        lane.one(Get(b"k", nothing))
    target = target_of(env, "b")
    target.verify = False
    with s3_lane(target) as lane:
        assert len(lane.one(Get(b"k", nothing)).body) == 100_000


def test_54_large_bodies_over_tls(tls_s3: FakeS3, tmp_path: Path) -> None:
    tls_s3.make_bucket("b")
    file = tmp_path / "f"
    file.write_bytes(BIG)
    with s3_lane(target_of(tls_s3.env(), "b")) as lane, file.open("rb") as body:
        lane.one(Put(b"file", FileRegion(body.fileno(), 0, len(BIG)), nothing))
        lane.one(Put(b"memory", BIG, nothing))
        sink = Sink()
        lane.one(Get(b"file", nothing, sink=sink))
        assert bytes(sink.data) == BIG
        tls_s3.rule("GET", act.cut(2_000_000), times=1)
        again = Sink()
        lane.one(Get(b"memory", nothing, sink=again))
        assert bytes(again.data) == BIG
        ops = lane.run(*(Put(b"s%d" % i, b"%d" % i, nothing) for i in range(100)))
        assert [op.error for op in ops] == [None] * 100


def test_55_a_skewed_clock_is_learned_once_for_all(fake: FakeS3) -> None:
    fake.put("b", "k", b"x")
    fake.clock_offset = 7200.0
    with lane_to(fake) as lane:
        ops = lane.run(*(Get(b"k", nothing) for _ in range(20)))
        assert [op.error for op in ops] == [None] * 20
        assert 7190 < lane.lane.dialect.target.clock_offset < 7210
        before = lane.lane.retries
        assert lane.one(Head(b"k", nothing)).info.size == 1
        assert lane.lane.retries == before


def test_56_expired_keys_are_asked_for_again(fake: FakeS3) -> None:
    from parts.fake_s3 import ACCESS, SECRET

    fake.put("b", "k", b"x")
    fake.tokens[ACCESS] = "new"
    target = target_of(fake.env(), "b")
    held = {"token": "old"}
    asked: list[bool] = []

    def credentials(refresh: bool = False) -> Credentials:
        if refresh:
            asked.append(refresh)
            held["token"] = "new"
        return Credentials(ACCESS, Secret(SECRET), Secret(held["token"]))

    target.credentials = credentials
    with s3_lane(target) as lane:
        ops = lane.run(*(Get(b"k", nothing) for _ in range(10)))
        assert [op.error for op in ops] == [None] * 10
        assert asked
        fake.tokens[ACCESS] = "newer"
        with pytest.raises(ForbiddenError) as told:
            lane.one(Get(b"k", nothing))
        assert SECRET not in str(told.value) and "newer" not in str(told.value)


def test_56_credentials_that_cannot_be_had_any_more_end_operations_not_the_process(fake: FakeS3) -> None:
    from entrepot.model.errors import PlaceError

    def credentials(refresh: bool = False) -> Credentials:
        raise PlaceError("the credential_process failed", hint="run it by hand")

    target = target_of(fake.env(), "b")
    target.credentials = credentials
    with s3_lane(target) as lane, pytest.raises(ForbiddenError, match="credential_process") as told:
        lane.one(Get(b"k", nothing))
    assert told.value.hint == "run it by hand"


def test_deletes_in_batches_one_by_one_and_with_errors(fake: FakeS3) -> None:
    from parts.fake_http import S3Error

    keys = fill(fake, 25)
    fake.delete_errors[b"k0003"] = S3Error(403, "AccessDenied")
    with lane_to(fake, profile={"batch_delete_max": 10}) as lane:
        op = lane.one(Delete(keys[:15], nothing))
        assert [(key, type(error)) for key, error in op.failed] == [(b"k0003", ForbiddenError)]
        assert fake.count("DeleteObjects") == 2
        fake.put("b", b"ctl\x01key", b"x")
        assert lane.one(Delete([b"ctl\x01key"], nothing)).failed == []
        fake.quirks.batch_delete = "refuse"
        assert lane.one(Delete(keys[15:], nothing)).failed == []
        assert lane.one(Delete([], nothing)).failed == []
    assert set(fake.dump("b")) == {b"k0003"}


def test_kept_connections_that_the_server_closed_cost_no_attempt(fake: FakeS3) -> None:
    fake.put("b", "k", b"x")
    with lane_to(fake, attempts=1, connections=1) as lane:
        for _ in range(5):
            lane.one(Get(b"k", nothing))
            fake.drop_connections()
            assert lane.one(Get(b"k", nothing)).error is None


def test_memory_and_feed_stop_at_the_budget(fake: FakeS3) -> None:
    gate = threading.Event()
    fake.rule("PUT", act.run(lambda call: gate.wait(5)))
    with lane_to(fake, memory=300_000, connections=32) as lane:
        made: list[Put] = []

        def feed() -> Put:
            made.append(Put(b"k%d" % len(made), os.urandom(100_000), nothing))
            return made[-1]

        lane.lane.feed = feed
        while lane.lane.hungry:
            lane.lane.submit(feed())
            lane.reactor.poll(0.02)
        assert 3 <= len(made) <= 5
        lane.lane.feed = None
        gate.set()
        lane.until(lambda: len(fake.dump("b")) == len(made))


def test_bandwidth_and_request_limits_are_kept(fake: FakeS3) -> None:
    fake.put("b", "big", BIG)
    with lane_to(fake, bandwidth=2_000_000) as lane:
        start = time.monotonic()
        sink = Sink()
        lane.one(Get(b"big", nothing, sink=sink))
        assert 1.0 < time.monotonic() - start < 3.0
        assert bytes(sink.data) == BIG
        lane.lane.limit_bandwidth(0)
        start = time.monotonic()
        lane.one(Put(b"up", BIG, nothing))
        assert time.monotonic() - start < 1.5
    with lane_to(fake, max_requests=50) as lane:
        start = time.monotonic()
        lane.run(*(Head(b"big", nothing) for _ in range(60)))
        assert 0.8 < time.monotonic() - start < 3.0
