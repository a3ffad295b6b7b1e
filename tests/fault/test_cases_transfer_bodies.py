"""Fault cases 31 to 38: bodies that end early, change under way, or are not the bytes they claim to be.

Each test has the number of its case in the acceptance list.
"""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from parts.chaos import ChaosProxy
from parts.fake_actions import (
    cut,
    cut_chunked,
    flip,
    flip_request,
    flip_stored,
    gunzip,
    gzip_body,
    ignore_range,
    wrong_content_range,
)
from parts.fake_rules import Action
from parts.fake_s3 import FakeS3
from parts.lab import Lab
from parts.servers import S3Server
from transfer_cases import (
    BODIES,
    DOWN,
    DST,
    MIB,
    ONE,
    PART,
    SRC,
    UP,
    UP_PART,
    data,
    do,
    files,
    is_range,
    put_bodies,
    wrote_twice,
)

THROUGH = (*ONE, "--no-server-side")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


@pytest.fixture
def src(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    return tmp_path / "src"


# ---- 31: bodies that end early ---------------------------------------------------------------------------------------

CUTS: dict[str, Callable[[], Action]] = {
    "right length": lambda: cut(after=700),
    "reset": lambda: cut(after=700, reset=True),
    "wrong length": lambda: cut(after=700, honest=False),
    "no last chunk": lambda: cut_chunked(700),
}


@pytest.mark.parametrize("etag", ["", "0123456789abcdef0123456789abcdef-4"], ids=["md5", "multipart"])
@pytest.mark.parametrize("kind", CUTS)
def test_case_31_a_body_cut_once_is_completed(store: FakeS3, lab: Lab, out: Path, kind: str, etag: str) -> None:
    wanted = put_bodies(store, etag=etag)
    rule = store.rule("GET", CUTS[kind](), times=1, per_key=True)
    lab.sync(SRC, out, *DOWN, server=store, copied=3, total=3)
    assert rule.hits == 3
    assert files(out) == wanted
    store.clear_log()
    lab.sync(SRC, out, *DOWN, server=store, equal=3, total=3)
    assert store.count("GET") == 0


def test_case_31_a_stream_goes_on_from_the_byte_reached(store: FakeS3, lab: Lab, out: Path) -> None:
    put_bodies(store)
    store.rule("GET", cut(after=150_000), key="^medium", times=1)
    lab.sync(SRC, out, *DOWN, server=store, copied=3)
    again = store.log("GET", key="^medium")[1]
    first = int(again.headers["range"].removeprefix("bytes=").partition("-")[0])
    assert 0 < first <= 150_000
    assert again.headers["if-match"].strip('"') == store.object("src", "medium").etag
    assert again.sent == 200_000 - first


@pytest.mark.parametrize("etag", ["", "0123456789abcdef0123456789abcdef-4"], ids=["md5", "multipart"])
@pytest.mark.parametrize("honest", [True, False])
def test_case_31_a_body_always_cut_fails(store: FakeS3, lab: Lab, out: Path, honest: bool, etag: str) -> None:
    put_bodies(store, etag=etag)
    store.put("src", "whole", b"fine")
    out.mkdir()
    (out / "small").write_bytes(b"old")
    store.rule("GET", cut(after=300, honest=honest), key="^(small|medium|large)")
    done = lab.sync(SRC, out, *DOWN, server=store, code=1, copied=1, failed=3, total=4)
    assert set(lab.failures(done).values()) <= ({"timeout"} if honest else {"corrupt", "changed", "timeout"})
    assert files(out) == {b"small": b"old", b"whole": b"fine"}


@pytest.mark.parametrize("honest", [True, False])
def test_case_31_a_cut_body_is_not_passed_on_to_another_store(store: FakeS3, lab: Lab, honest: bool) -> None:
    wanted = put_bodies(store, etag="0123456789abcdef0123456789abcdef-4")
    rule = store.rule("GET", cut(after=700, honest=honest), times=1, per_key=True)
    lab.sync(SRC, DST, *THROUGH, server=store, copied=3, total=3)
    assert rule.hits == 3
    assert store.dump("dst") == wanted
    assert wrote_twice(store) == []


# ---- 32: ranges that are not what was asked for ----------------------------------------------------------------------


def test_case_32_a_store_that_ignores_range(store: FakeS3, lab: Lab, out: Path) -> None:
    wanted = put_bodies(store)
    rule = store.rule("GET", ignore_range())
    lab.sync(SRC, out, *DOWN, server=store, copied=3, total=3)
    assert rule.hits > 3
    assert files(out) == wanted


@pytest.mark.parametrize("shift", [-1, 1, PART])
def test_case_32_a_wrong_content_range_once(store: FakeS3, lab: Lab, out: Path, shift: int) -> None:
    wanted = put_bodies(store)
    rule = store.rule("GET", wrong_content_range(shift), key="large", when=is_range(PART), times=1)
    lab.sync(SRC, out, *DOWN, server=store, copied=3, total=3)
    assert rule.hits == 1
    assert files(out) == wanted


def test_case_32_a_wrong_content_range_always_fails(store: FakeS3, lab: Lab, out: Path) -> None:
    wanted = put_bodies(store)
    store.rule("GET", wrong_content_range(1), key="large")
    lab.sync(SRC, out, *DOWN, server=store, code=1, copied=2, failed=1, failures={b"large": "corrupt"})
    assert files(out) == {k: v for k, v in wanted.items() if k != b"large"}


# ---- 33: the object is replaced while it is read ---------------------------------------------------------------------


@pytest.mark.parametrize("size", [len(BODIES["large"]), len(BODIES["large"]) + 1, 5 * PART, 100, 0])
def test_case_33_replaced_between_ranges(store: FakeS3, lab: Lab, out: Path, size: int) -> None:
    new = data(size, seed=2)
    wanted = put_bodies(store) | {b"large": new}
    rule = store.rule("GET", do(lambda: store.put("src", "large", new)), key="large", nth=3)
    lab.sync(SRC, out, *DOWN, "--concurrency", "1", server=store, copied=3, total=3)
    assert rule.hits == 1
    assert files(out) == wanted
    lab.sync(SRC, out, *DOWN, server=store, equal=3)


def test_case_33_replaced_while_a_cut_stream_waits(store: FakeS3, lab: Lab, out: Path) -> None:
    new = data(200_000, seed=3)
    wanted = put_bodies(store) | {b"medium": new}
    store.rule("GET", cut(after=100_000), key="medium", nth=1)
    store.rule("GET", do(lambda: store.put("src", "medium", new)), key="medium", nth=2)
    lab.sync(SRC, out, *DOWN, server=store, copied=3, total=3)
    assert files(out) == wanted


def test_case_33_replaced_again_and_again_fails(store: FakeS3, lab: Lab, out: Path) -> None:
    put_bodies(store)
    seeds = iter(range(10, 1000))
    replace = do(lambda: store.put("src", "large", data(len(BODIES["large"]), next(seeds))))
    store.rule("GET", replace, key="large", when=lambda r: "range" in r.headers)
    done = lab.sync(SRC, out, *DOWN, "--concurrency", "1", server=store, code=1, copied=2, failed=1)
    assert lab.failures(done) == {b"large": "changed"}
    assert set(files(out)) == {b"small", b"medium"}
    assert store.count("GET", key="large") < 20, "it must not be tried for ever"


@pytest.mark.parametrize("key", ["small", "big"])
def test_case_33_replaced_on_the_way_to_another_store(store: FakeS3, lab: Lab, key: str) -> None:
    old, new = data(11 * MIB), data(12 * MIB, seed=4)
    store.put("src", "big", old)
    store.put("src", "small", old[:1000])
    wanted = {b"big": old, b"small": old[:1000]} | {key.encode(): new if key == "big" else new[:2000]}
    rule = store.rule(
        "GET", do(lambda: store.put("src", key, wanted[key.encode()])), key=key, nth=2 if key == "big" else 1
    )
    lab.sync(SRC, DST, *THROUGH, "--part-size", "5M", "--concurrency", "1", server=store, copied=2, total=2)
    assert rule.hits == 1
    assert store.dump("dst") == wanted


# ---- 34: the source file changes while it is copied ------------------------------------------------------------------


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def shrink(path: Path) -> None:
    os.truncate(path, path.stat().st_size - 5)


def empty(path: Path) -> None:
    os.truncate(path, 0)


def rewrite(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(data(path.stat().st_size, seed=5))


def replace(path: Path) -> None:
    beside = path.with_name(".beside")
    beside.write_bytes(data(path.stat().st_size + 9, seed=6))
    beside.rename(path)


CHANGES = [grow, shrink, empty, rewrite, replace]


@pytest.mark.parametrize("change", CHANGES)
def test_case_34_a_large_file_changes_between_parts(
    store: FakeS3, lab: Lab, src: Path, change: Callable[[Path], None]
) -> None:
    (src / "f").write_bytes(data(2 * UP_PART + 100))
    rule = store.rule("PART", do(lambda: change(src / "f")), nth=2)
    lab.sync(src, DST, *UP, "--concurrency", "1", server=store, copied=1, total=1)
    assert rule.hits == 1
    assert store.dump("dst") == files(src)
    assert wrote_twice(store) == [], "nothing wrong may stand under the name for a moment"
    lab.sync(src, DST, *UP, server=store, equal=1)


@pytest.mark.parametrize("change", [grow, rewrite, replace])
def test_case_34_a_file_that_never_rests_fails(
    store: FakeS3, lab: Lab, src: Path, change: Callable[[Path], None]
) -> None:
    (src / "f").write_bytes(data(2 * UP_PART + 100))
    (src / "g").write_bytes(b"calm")
    store.put("dst", "f", b"old")
    seeds = iter(range(100, 1000))

    def busy() -> None:
        change(src / "f")
        os.utime(src / "f", ns=(next(seeds), next(seeds)))

    store.rule("PART", do(busy))
    words = (*UP, "--concurrency", "1")
    lab.sync(src, DST, *words, server=store, code=1, copied=1, failed=1, failures={b"f": "changed"}, total=2)
    assert store.dump("dst") == {b"f": b"old", b"g": b"calm"}


@pytest.mark.parametrize("change", CHANGES)
def test_case_34_a_small_file_changes_after_it_was_listed(
    store: FakeS3, lab: Lab, src: Path, change: Callable[[Path], None]
) -> None:
    for name in "ab":
        (src / name).write_bytes(data(5000))
    store.rule("PUT", do(lambda: change(src / "b")), key="^a$", nth=1)
    lab.sync(src, DST, *ONE, "--concurrency", "1", server=store, copied=2, total=2)
    assert store.dump("dst") == files(src)
    assert wrote_twice(store) == []


# ---- 35: the source vanishes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BODIES)
@pytest.mark.parametrize("way", ["down", "through", "server"])
def test_case_35_an_object_vanishes_after_it_was_listed(
    store: FakeS3, lab: Lab, out: Path, name: str, way: str
) -> None:
    wanted = put_bodies(store)
    del wanted[name.encode()]
    ops = ["CopyObject"] if way == "server" else ["GetObject", "HeadObject"]
    store.rule(ops, do(lambda: store.delete("src", name)), key=name, nth=1, bucket="dst" if way == "server" else "src")
    if way == "down":
        out.mkdir()
        (out / name).write_bytes(b"old")
        lab.sync(SRC, out, *DOWN, server=store, copied=2, skipped=1, total=3)
        assert files(out) == wanted | {name.encode(): b"old"}
    else:
        store.put("dst", name, b"old")
        lab.sync(SRC, DST, *(THROUGH if way == "through" else ONE), server=store, copied=2, skipped=1, total=3)
        assert store.dump("dst") == wanted | {name.encode(): b"old"}


@pytest.mark.parametrize("size", [100, UP_PART + 1])
def test_case_35_a_file_vanishes_after_it_was_listed(store: FakeS3, lab: Lab, src: Path, size: int) -> None:
    (src / "a").write_bytes(b"stays")
    (src / "b").write_bytes(data(size))
    store.put("dst", "b", b"old")
    store.rule("PUT", do((src / "b").unlink), key="^a$")
    lab.sync(src, DST, *UP, "--concurrency", "1", server=store, copied=1, skipped=1, total=2)
    assert store.dump("dst") == {b"a": b"stays", b"b": b"old"}


def test_case_35_a_bucket_that_vanishes_is_a_failure(store: FakeS3, lab: Lab, out: Path) -> None:
    for number in range(5):
        store.put("src", f"k{number}", b"x")
    store.rule("GET", do(lambda: store.buckets.pop("src", None)), nth=1)
    done = lab.sync(SRC, out, *DOWN, "--concurrency", "1", server=store, code=1, failed=5, total=5)
    assert set(lab.failures(done).values()) == {"not_found"}


# ---- 36: bodies unpacked (or packed) on the way ----------------------------------------------------------------------


@pytest.mark.parametrize("size", [3000, 300_000, 3_000_000])
def test_case_36_a_stored_gzip_body_is_kept_as_it_is(store: FakeS3, lab: Lab, out: Path, size: int) -> None:
    packed = gzip.compress(data(size), 1)
    store.put("src", "x.gz", packed, headers={"content-encoding": "gzip", "content-type": "text/plain"})
    lab.sync(SRC, out, *DOWN, server=store, copied=1)
    assert files(out) == {b"x.gz": packed}
    lab.sync(SRC, DST, *THROUGH, server=store, copied=1)
    assert store.dump("dst") == {b"x.gz": packed}
    assert store.object("dst", "x.gz").headers["content-encoding"] == "gzip"


@pytest.mark.parametrize("etag", ["", "0123456789abcdef0123456789abcdef-2"], ids=["md5", "multipart"])
@pytest.mark.parametrize("size", [3000, 200_000])
@pytest.mark.parametrize("way", ["down", "through"])
def test_case_36_a_proxy_that_unpacks_is_found_out(
    store: FakeS3, lab: Lab, out: Path, size: int, etag: str, way: str
) -> None:
    store.put("src", "x", gzip.compress(data(size), 1), headers={"content-encoding": "gzip"}, etag=etag)
    store.put("src", "y", b"plain")
    store.rule("GET", gunzip(), key="^x")
    target = out if way == "down" else DST
    done = lab.sync(
        SRC, target, *(DOWN if way == "down" else THROUGH), server=store, code=1, copied=1, failed=1, total=2
    )
    assert lab.failures(done) in ({b"x": "corrupt"}, {b"x": "changed"})
    assert (files(out) if way == "down" else store.dump("dst")) == {b"y": b"plain"}


def test_case_36_a_proxy_that_packs_is_found_out(store: FakeS3, lab: Lab, out: Path) -> None:
    put_bodies(store, etag="0123456789abcdef0123456789abcdef-2")
    store.rule("GET", gzip_body(), key="small|medium")
    done = lab.sync(SRC, out, *DOWN, server=store, code=1, copied=1, failed=2, total=3)
    assert set(lab.failures(done).values()) <= {"corrupt", "changed"}
    assert set(files(out)) == {b"large"}


# ---- 37: one bit is flipped on the way -------------------------------------------------------------------------------

EVIDENCE = {"md5": {}, "crc32c": {"checksums": ["crc32c"], "etag": "0123456789abcdef0123456789abcdef-2"}}


@pytest.mark.parametrize("evidence", EVIDENCE)
def test_case_37_a_bit_flipped_once_on_the_way_down(store: FakeS3, lab: Lab, out: Path, evidence: str) -> None:
    wanted = put_bodies(store, **EVIDENCE[evidence])
    rule = store.rule("GET", flip(500), times=1, per_key=True)
    lab.sync(SRC, out, *DOWN, server=store, copied=3, total=3)
    assert rule.hits == 3
    assert files(out) == wanted


@pytest.mark.parametrize("evidence", EVIDENCE)
@pytest.mark.parametrize("name", BODIES)
def test_case_37_a_bit_always_flipped_fails(store: FakeS3, lab: Lab, out: Path, name: str, evidence: str) -> None:
    wanted = put_bodies(store, **EVIDENCE[evidence])
    hits = iter(range(1, 1000))
    # Another bit each time: a store whose etags are no MD5 at least repeats itself.
    store.rule("GET", Action(after=lambda c, r: flip(next(hits)).after(c, r)), key=name)  # type: ignore[misc]
    done = lab.sync(SRC, out, *DOWN, server=store, code=1, copied=2, failed=1, failures={name.encode(): "corrupt"})
    assert done.report["state"] == "FAILED"
    assert files(out) == {k: v for k, v in wanted.items() if k != name.encode()}
    assert store.count("GET", key=name) <= 20


def test_case_37_a_bit_flipped_between_two_stores(store: FakeS3, lab: Lab) -> None:
    wanted = put_bodies(store, checksums=["crc32c"])
    store.put("src", "huge", data(11 * MIB), checksums=["crc32c"])
    wanted[b"huge"] = data(11 * MIB)
    rule = store.rule("GET", flip(500), times=1, per_key=True)
    lab.sync(SRC, DST, *THROUGH, "--part-size", "5M", server=store, copied=4, total=4)
    assert rule.hits == 4
    assert store.dump("dst") == wanted
    assert wrote_twice(store) == []


@pytest.mark.parametrize("headers", ["accept", "ignore", "refuse"])
def test_case_37_a_bit_flipped_on_the_way_up(store: FakeS3, lab: Lab, src: Path, headers: str) -> None:
    store.quirks.checksum_headers = headers
    for name, size in (("small", 1000), ("medium", 200_000), ("large", 2 * UP_PART + 5)):
        (src / name).write_bytes(data(size))
    rules = [
        store.rule(["PutObject", "UploadPart"], flip_request(100), key=name, nth=2 if headers == "refuse" else 1)
        for name in ("small", "medium", "large")
    ]
    lab.sync(src, DST, *UP, server=store, copied=3, total=3)
    assert sum(rule.hits for rule in rules) >= 1
    assert store.dump("dst") == files(src)


def test_case_37_a_bit_always_flipped_on_the_way_up_fails(store: FakeS3, lab: Lab, src: Path) -> None:
    for name, size in (("small", 1000), ("large", 2 * UP_PART + 5)):
        (src / name).write_bytes(data(size))
    store.put("dst", "small", b"old")
    store.rule(["PutObject", "UploadPart"], flip_request(100))
    lab.sync(src, DST, *UP, server=store, code=1, failed=2, failures={b"small": "corrupt", b"large": "corrupt"})
    assert store.dump("dst") == {b"small": b"old"}


def test_case_37_a_bit_flipped_before_a_real_store(
    seaweed: S3Server, chaos: Callable[[int], ChaosProxy], bucket_name: str, lab: Lab, src: Path, out: Path
) -> None:
    for number in range(4):
        (src / f"f{number}").write_bytes(data(50_000, seed=number))
    seaweed.make_bucket(bucket_name)
    proxy = chaos(seaweed.port)
    env = {"AWS_ENDPOINT_URL": proxy.endpoint}
    proxy.next()
    proxy.next(flip_up=30_000)
    lab.sync(src, f"s3://{bucket_name}", *ONE, "--concurrency", "1", server=seaweed, env=env, copied=4, total=4)
    proxy.next()
    proxy.next(flip_down=30_000)
    lab.sync(f"s3://{bucket_name}", out, *ONE, "--concurrency", "1", server=seaweed, env=env, copied=4, total=4)
    assert files(out) == files(src)


# ---- 38: one bit is flipped at rest ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1000, UP_PART + 1000])
def test_case_38_verify_reports_what_was_damaged_after_the_write(store: FakeS3, lab: Lab, src: Path, size: int) -> None:
    (src / "good").write_bytes(data(500))
    (src / "bad").write_bytes(data(size))
    store.rule("WRITE", flip_stored(300), key="^bad", times=1)
    lab.sync(src, DST, *UP, server=store, copied=2)
    assert store.dump("dst")[b"bad"] != data(size)
    done = lab.sync(src, DST, *ONE, verb="verify", server=store, code=1, equal=1, failed=1)
    assert lab.failures(done) == {b"bad": "corrupt"}


def test_case_38_a_full_verification_ends_in_failure(store: FakeS3, lab: Lab, src: Path) -> None:
    (src / "good").write_bytes(data(500))
    (src / "bad").write_bytes(data(1000))
    store.rule("WRITE", flip_stored(300), key="^bad", times=1)
    done = lab.sync(src, DST, *ONE, "--verify", "full", server=store, code=1, copied=2, failed=1)
    assert lab.failures(done) == {b"bad": "corrupt"}
