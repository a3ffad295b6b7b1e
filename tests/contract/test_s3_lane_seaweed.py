"""The S3 lane on SeaweedFS: every operation, odd keys, large bodies.

No backslash among the odd keys: this server turns it into a slash.
"""

from __future__ import annotations

import hashlib
import os
import random
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from entrepot.model.errors import NotFoundError
from entrepot.storage.base import (
    AbortUpload,
    CompleteUpload,
    Copy,
    CopyPart,
    CreateUpload,
    Delete,
    FileRegion,
    Get,
    Head,
    Meta,
    Put,
    PutPart,
)
from wire_parts import Bench, Sink, nothing, s3_lane, target_of

ODD = [
    "plain.txt", "with space", " lead", "trail ", "plus+plus", "per%cent", "%2F", "amp&er", "lt<gt>", "quo\"te", "it's",
    "häß", "日本語/ファイル", "emoji-😀", "a=b/c=d", "semi;colon", "comma,at@colon:", "tilde~", "star*", "hash#q?u",
    "brace{}[]", "pipe|caret^`", "dollar$!()",
]  # fmt: skip


@pytest.fixture
def lane(seaweed: Any, bucket_name: str) -> Any:
    seaweed.make_bucket(bucket_name)
    with s3_lane(target_of(seaweed.env(), bucket_name, provider="seaweedfs"), b"top/") as bench:
        yield bench


def source_store(bench: Bench) -> Any:
    """What a Copy needs of an opened store."""
    dialect = bench.lane.dialect
    return SimpleNamespace(target=dialect.target, location=SimpleNamespace(prefix=dialect.prefix))


def test_odd_keys_survive_put_list_get_copy_delete(lane: Bench) -> None:
    bodies = {key.encode(): os.urandom(50 + i) for i, key in enumerate(ODD)}
    puts = lane.run(*(Put(key, body, nothing) for key, body in bodies.items()))
    assert [op.error for op in puts] == [None] * len(ODD)
    assert {op.proof for op in puts} <= {"md5", "crc32c"}, "every Put must be proved by its bytes"
    rows = lane.keys()
    assert [row[0] for row in rows] == sorted(bodies)
    for key, etag, size in rows:
        assert size == len(bodies[key])
        assert etag == hashlib.md5(bodies[key]).hexdigest().encode()
    for op in lane.run(*(Get(key, nothing) for key in bodies)):
        assert (op.error, bytes(op.body), op.proof != "") == (None, bodies[op.key], True)
    source = source_store(lane)
    copies = lane.run(*(Copy(b"copied/" + key, source, key, nothing) for key in bodies))
    assert [op.error for op in copies] == [None] * len(ODD)
    for op in lane.run(*(Get(b"copied/" + key, nothing) for key in bodies)):
        assert bytes(op.body) == bodies[op.key.removeprefix(b"copied/")]
    doomed = lane.one(Delete([*bodies, *(b"copied/" + key for key in bodies)], nothing))
    assert doomed.failed == []
    assert lane.keys() == []


def test_metadata_comes_back(lane: Bench) -> None:
    meta = Meta(
        mtime_ns=1_700_000_000_123_456_789,
        content_type="text/x-odd",
        metadata={"plain": "value", "spaces": "a  b", "umlaut": "Übergrößenträger"},
        headers={"Cache-Control": "no-store"},
    )
    lane.one(Put(b"m", b"body", nothing, meta=meta))
    info = lane.one(Head(b"m", nothing)).info
    assert (info.size, info.content_type) == (4, "text/x-odd")
    assert info.source_mtime_ns == meta.mtime_ns
    assert info.metadata["plain"] == "value"
    assert info.metadata["umlaut"] == "Übergrößenträger"
    assert info.headers["Cache-Control"] == "no-store"
    got = lane.one(Get(b"m", nothing))
    assert lane.lane.info(got).metadata["plain"] == "value"


def test_listing_goes_on_after_a_key_and_over_pages(lane: Bench) -> None:
    keys = [b"k%03d" % i for i in range(57)]
    lane.run(*(Put(key, b"x", nothing) for key in keys))
    assert [row[0] for row in lane.keys(limit=10)] == keys
    from entrepot.storage.base import List

    page = lane.one(List(b"k040", b"", "mtime", nothing)).page
    assert [row[0] for row in page.rows] == keys[41:]
    assert all(isinstance(row[1], int) and row[1] > 1_600_000_000 * 10**9 for row in page.rows)


@pytest.mark.parametrize("size", [0, 1, 4096, 300_000, 3_000_001])
def test_files_go_up_and_stream_down(lane: Bench, tmp_path: Path, size: int) -> None:
    data = random.Random(size).randbytes(size)
    file = tmp_path / "f"
    file.write_bytes(b"skipped" + data + b"tail")
    fd = os.open(file, os.O_RDONLY)
    try:
        put = lane.one(Put(b"big", FileRegion(fd, 7, size), nothing))
    finally:
        os.close(fd)
    assert put.proof in {"md5", "crc32c"}
    sink = Sink()
    got = lane.one(Get(b"big", nothing, sink=sink))
    assert bytes(sink.data) == data
    assert got.error is None
    if size > 10:
        assert bytes(lane.one(Get(b"big", nothing, offset=3, length=5)).body) == data[3:8]
        tail = Sink(size)
        lane.one(Get(b"big", nothing, offset=size - 4, sink=tail))
        assert bytes(tail.data[-4:]) == data[-4:]


def test_multipart_is_whole_and_proved(lane: Bench, tmp_path: Path) -> None:
    data = random.Random(5).randbytes((5 << 20) * 2 + 12345)
    file = tmp_path / "f"
    file.write_bytes(data)
    fd = os.open(file, os.O_RDONLY)
    upload = lane.one(CreateUpload(b"mp", nothing, meta=Meta(mtime_ns=5 * 10**9)))
    step = 5 << 20
    parts = [
        PutPart(b"mp", upload.upload_id, n + 1, FileRegion(fd, n * step, min(step, len(data) - n * step)), nothing)
        for n in range(3)
    ]
    lane.run(*parts)
    os.close(fd)
    assert [op.error for op in parts] == [None] * 3
    assert {op.proof for op in parts} <= {"md5", "crc32c"}
    done = lane.one(CompleteUpload(b"mp", upload.upload_id, [op.part for op in parts], nothing))
    assert done.proof in {"etag", "crc32c"}
    sink = Sink()
    lane.one(Get(b"mp", nothing, sink=sink))
    assert hashlib.sha256(sink.data).digest() == hashlib.sha256(data).digest()
    assert lane.one(Head(b"mp", nothing)).info.source_mtime_ns == 5 * 10**9


def test_copy_by_parts_and_abort(lane: Bench) -> None:
    data = random.Random(6).randbytes((5 << 20) + 999)
    lane.one(Put(b"src", data, nothing))
    source = source_store(lane)
    upload = lane.one(CreateUpload(b"dst", nothing))
    first = lane.one(CopyPart(b"dst", upload.upload_id, 1, source, b"src", 0, 5 << 20, nothing))
    second = lane.one(CopyPart(b"dst", upload.upload_id, 2, source, b"src", 5 << 20, 999, nothing))
    lane.one(CompleteUpload(b"dst", upload.upload_id, [first.part, second.part], nothing))
    assert bytes(lane.one(Get(b"dst", nothing)).body) == data
    doomed = lane.one(CreateUpload(b"never", nothing))
    lane.one(AbortUpload(b"never", doomed.upload_id, nothing))
    lane.one(AbortUpload(b"never", doomed.upload_id, nothing))


def test_missing_objects_are_not_found(lane: Bench) -> None:
    with pytest.raises(NotFoundError, match="nope"):
        lane.one(Get(b"nope", nothing))
    with pytest.raises(NotFoundError):
        lane.one(Head(b"nope", nothing))
    lane.one(Put(b"d", b"", nothing))
    assert lane.one(Delete([b"d", b"nope"], nothing)).failed == []


def test_feed_is_pulled_until_it_is_dry(lane: Bench) -> None:
    todo = iter(range(300))
    finished: list[Any] = []

    def feed() -> Put | None:
        for i in todo:
            return Put(b"f%04d" % i, b"%d" % i, finished.append)
        return None

    lane.lane.feed = feed
    while lane.lane.hungry and (op := feed()) is not None:
        lane.lane.submit(op)
    lane.until(lambda: len(finished) == 300)
    assert all(op.error is None for op in finished)
    assert len(lane.keys()) == 300
    assert lane.lane.requests()["put"] == 300 + lane.lane.retries
