"""Fault cases 25 to 30: what makes two entries equal, what filters protect, and places that touch each other.

Each test has the number of its case in the acceptance list.
"""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from parts.fake_s3 import FakeS3
from parts.lab import Lab
from parts.trees import assert_same, metadata, read_tree, write_tree

SRC, DST = "s3://src", "s3://dst"
DELETE = ("--delete", "--delete-max-share", "1")
SECOND = 1_000_000_000
THEN = 1_600_000_000 * SECOND


# ---- 25: equal from outside ------------------------------------------------------------------------------------------


def test_case_25_same_size_and_mtime_between_file_systems(lab: Lab, tmp_path: Path) -> None:
    """As documented, a quick comparison cannot see it; ``--compare checksum`` does."""
    write_tree(tmp_path / "in", {b"same": b"12345", b"bad": b"right"}, mtime_ns=THEN)
    write_tree(tmp_path / "out", {b"same": b"12345", b"bad": b"wrong"}, mtime_ns=THEN)
    places = (tmp_path / "in", tmp_path / "out")
    lab.sync(*places, equal=2)
    lab.sync(*places, "--compare", "mtime", equal=2)
    assert read_tree(tmp_path / "out")[b"bad"] == b"wrong"
    done = lab.sync(*places, verb="verify", code=1, equal=1, failed=1, error="1 entry differs")
    assert lab.failures(done) == {b"bad": "corrupt"}
    lab.sync(*places, "--compare", "checksum", copied=1, equal=1)
    assert read_tree(tmp_path / "out")[b"bad"] == b"right"


@pytest.mark.parametrize("etags", ["md5", "random"])
def test_case_25_same_size_and_mtime_at_a_store(store: FakeS3, lab: Lab, tmp_path: Path, etags: str) -> None:
    store.quirks.etags = etags
    write_tree(tmp_path / "in", {b"same": b"12345", b"bad": b"right"}, mtime_ns=THEN)
    lab.sync(tmp_path / "in", DST, server=store, copied=2)
    store.put("dst", b"bad", b"wrong", metadata={"mtime": str(THEN // SECOND)}, modified=time.time() + 10)
    lab.sync(tmp_path / "in", DST, "--compare", "mtime", server=store, equal=2)
    assert store.dump("dst")[b"bad"] == b"wrong"
    lab.sync(tmp_path / "in", DST, "--compare", "checksum", server=store, copied=1, equal=1)
    assert store.dump("dst")[b"bad"] == b"right"
    write_tree(tmp_path / "out", {b"same": b"12345", b"bad": b"WRONG"}, mtime_ns=THEN)
    lab.sync(DST, tmp_path / "out", "--compare", "checksum", server=store, copied=1, equal=1)
    assert read_tree(tmp_path / "out")[b"bad"] == b"right"


# ---- 26: times -------------------------------------------------------------------------------------------------------

TIMES = {
    b"now": time.time_ns(),
    b"nanoseconds": THEN + 123_456_789,
    b"microseconds": THEN + 123_456_000,
    b"whole": THEN,
    b"odd": THEN + SECOND,
    b"before 1970": -86_400 * SECOND * 400 + 500_000_000,
    b"just before 1970": -1,
    b"1970": 0,
    b"2100": 4_102_444_800 * SECOND + 1,
    b"summer time": 1_711_846_800 * SECOND,
}


def timed_tree(root: Path) -> dict[bytes, bytes]:
    tree = {name: b"of " + name for name in TIMES}
    write_tree(root, tree)
    for name, moment in TIMES.items():
        os.utime(os.path.join(os.fsencode(root), name), ns=(moment, moment))
    return tree


def times(root: Path) -> dict[bytes, int]:
    return {name: about[1] for name, about in metadata(root).items()}


@pytest.mark.parametrize("compare", ["auto", "mtime"])
def test_case_26_a_second_run_copies_nothing(store: FakeS3, lab: Lab, tmp_path: Path, compare: str) -> None:
    """All three ways, in two time zones, and the times themselves come back (to the nanosecond)."""
    count = len(timed_tree(tmp_path / "in"))
    for here, there in (
        (str(tmp_path / "in"), str(tmp_path / "copy")),
        (str(tmp_path / "in"), DST),
        (DST, str(tmp_path / "out")),
    ):
        how = {"server": store}
        lab.sync(here, there, *DELETE, "--compare", compare, copied=count, **how)
        lab.sync(here, there, *DELETE, "--compare", compare, env={"TZ": "Asia/Shanghai"}, equal=count, **how)
        lab.sync(here, there, *DELETE, "--compare", compare, env={"TZ": "America/St_Johns"}, equal=count, **how)
    assert times(tmp_path / "copy") == TIMES
    assert times(tmp_path / "out") == TIMES


@pytest.mark.parametrize("step", [100, 1_000, 1_000_000, 10_000_000, SECOND, 2 * SECOND])
def test_case_26_a_destination_with_coarse_times(lab: Lab, tmp_path: Path, step: int) -> None:
    """A file system that keeps times in steps (FAT: 2 s): the second run copies nothing, a real change is seen."""
    tree = timed_tree(tmp_path / "in")
    out = tmp_path / "out"
    lab.sync(tmp_path / "in", out, copied=len(tree))
    for name, moment in times(out).items():
        kept = moment - moment % step
        os.utime(os.path.join(os.fsencode(out), name), ns=(kept, kept))
    lab.sync(tmp_path / "in", out, equal=len(tree))
    write_tree(tmp_path / "in", {b"odd": b"OF ODD"})
    os.utime(tmp_path / "in" / "odd", ns=(THEN + 2 * SECOND - 1, THEN + 2 * SECOND - 1))
    os.utime(out / "odd", ns=(THEN, THEN))
    expected = {"copied": 1, "equal": len(tree) - 1}
    lab.sync(tmp_path / "in", out, **expected)
    assert read_tree(out)[b"odd"] == b"OF ODD"


def test_case_26_objects_of_others_without_mtime(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    """Objects that no mtime was kept for: the object's own time serves, and a second run copies nothing."""
    for number in range(4):
        store.put("src", b"o%d" % number, b"x%d" % number, modified=1.6e9 + number + 0.123)
    lab.sync(SRC, tmp_path / "out", server=store, copied=4)
    lab.sync(SRC, tmp_path / "out", server=store, equal=4)
    lab.sync(tmp_path / "out", DST, server=store, copied=4)
    lab.sync(tmp_path / "out", DST, server=store, equal=4)
    lab.sync(SRC, DST, server=store, equal=4)


# ---- 27: clocks ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("skew", [-600, -30, 30, 600])
def test_case_27_a_store_whose_clock_is_wrong(store: FakeS3, lab: Lab, tmp_path: Path, skew: int) -> None:
    """What was changed since is copied, what was not is not, however far the store's clock is off."""
    store.clock_offset = skew
    tree = {b"a": b"first", b"b": b"other", b"c": b"third"}
    write_tree(tmp_path / "in", tree)
    lab.sync(tmp_path / "in", DST, server=store, copied=3)
    lab.sync(tmp_path / "in", DST, server=store, equal=3)
    write_tree(tmp_path / "in", {b"b": b"OTHER"})
    lab.sync(tmp_path / "in", DST, server=store, copied=1, equal=2)
    assert store.dump("dst")[b"b"] == b"OTHER"
    lab.sync(tmp_path / "in", DST, "--compare", "newer", server=store, copied=..., equal=...)
    lab.sync(DST, tmp_path / "out", server=store, copied=3)
    lab.sync(DST, tmp_path / "out", server=store, equal=3)
    store.put("dst", b"c", b"THIRD")
    lab.sync(DST, tmp_path / "out", server=store, copied=1, equal=2)
    assert_same({**tree, b"b": b"OTHER", b"c": b"THIRD"}, read_tree(tmp_path / "out"))


# ---- 28: filters -----------------------------------------------------------------------------------------------------


def test_case_28_what_a_filter_excludes_is_never_deleted(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    write_tree(tmp_path / "in", {b"keep.txt": b"k", b"skip.log": b"new", b"d/x.log": b"new"})
    old = {b"skip.log": b"old", b"only.log": b"old", b"d/y.log": b"old", b"gone.txt": b"old"}
    for key, data in old.items():
        store.put("dst", key, data)
    write_tree(tmp_path / "out", old)
    left = {b"keep.txt": b"k", **dict.fromkeys((b"skip.log", b"only.log", b"d/y.log"), b"old")}
    for destination in (DST, str(tmp_path / "out")):
        words = (tmp_path / "in", destination, *DELETE, "--exclude", "*.log")
        lab.sync(*words, "--dry-run", server=store, copied=1, deleted=1)
        lab.sync(*words, server=store, copied=1, deleted=1)
        assert_same(left, read_tree(destination) if destination != DST else store.dump("dst"))
        lab.sync(*words, "--delete-excluded", server=store, equal=1, deleted=3)
        assert_same({b"keep.txt": b"k"}, read_tree(destination) if destination != DST else store.dump("dst"))


def test_case_28_what_is_left_out_by_size_or_time_is_not_deleted(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    write_tree(tmp_path / "in", {b"small": b"s", b"large": b"l" * 1000}, mtime_ns=THEN)
    for key in (b"small", b"large", b"gone"):
        store.put("dst", key, b"older one")
    lab.sync(tmp_path / "in", DST, *DELETE, "--max-size", "100", server=store, copied=1, skipped=1, deleted=1)
    assert_same({b"small": b"s", b"large": b"older one"}, store.dump("dst"))


# ---- 29: places that are one -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("a", "a"),
        ("a", "a/"),
        ("a", "a/b"),
        ("a/b", "a"),
        ("a", "link"),
        ("link", "a/b"),
        ("a", "a/b/../../link/new/deep"),
        ("a", "a/not/there/yet"),
    ],
)
def test_case_29_overlapping_directories_are_refused(lab: Lab, tmp_path: Path, source: str, destination: str) -> None:
    tree = {b"b/f": b"1", b"g": b"2"}
    write_tree(tmp_path / "a", tree)
    os.symlink(tmp_path / "a", tmp_path / "link")
    words = (f"{tmp_path}/{source}", f"{tmp_path}/{destination}", *DELETE)
    lab.sync(*words, code=4, error="same place|lies inside")
    assert_same(tree, read_tree(tmp_path / "a"))
    assert not (tmp_path / "a" / "not").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may mount a directory a second time")
def test_case_29_a_directory_mounted_twice_is_one_place(lab: Lab, tmp_path: Path) -> None:
    tree = {b"b/f": b"1", b"g": b"2"}
    write_tree(tmp_path / "a", tree)
    (tmp_path / "again").mkdir()
    if os.system(f"mount --bind '{tmp_path / 'a'}' '{tmp_path / 'again'}' 2>/dev/null"):
        pytest.skip("this machine lets nobody mount")
    try:
        for destination in ("again", "again/b", "again/new"):
            lab.sync(tmp_path / "a", tmp_path / destination, *DELETE, code=4, error="same place|lies inside")
        lab.sync(tmp_path / "again" / "b", tmp_path / "a", *DELETE, code=4, error="lies inside")
    finally:
        os.system(f"umount '{tmp_path / 'again'}'")
    assert_same(tree, read_tree(tmp_path / "a"))


@pytest.mark.parametrize(
    ("source", "destination"),
    [
        ("s3://src", "s3://src"),
        ("s3://src/a", "s3://src/a/"),
        ("s3://src", "s3://src/a"),
        ("s3://src/a/b", "s3://src/a"),
        ("s3://src/a", "minio://src/a/b"),
        ("s3://src/a", "alias:src/a/b"),
    ],
)
def test_case_29_overlapping_prefixes_are_refused(
    store: FakeS3, lab: Lab, tmp_path: Path, source: str, destination: str
) -> None:
    """Also when the endpoint is written otherwise (another host name of this machine, another connection)."""
    store.put("src", b"a/b/c", b"1")
    env = store.env()
    (tmp_path / "secret").write_text(env["AWS_SECRET_ACCESS_KEY"])
    alias = f"http://LOCALHOST.:{store.port}"
    add = ["connection", "add", "alias", "--endpoint", alias, "--secret-file", str(tmp_path / "secret")]
    assert lab.run(*add, "--access-key", env["AWS_ACCESS_KEY_ID"]).code == 0
    lab.sync(source, destination, *DELETE, server=store, code=4, error="same place|lies inside")
    assert store.dump("src") == {b"a/b/c": b"1"}
    assert store.count("WRITE") == 0


def test_case_29_neighbours_are_no_overlap(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    store.put("src", b"a/b", b"1")
    lab.sync("s3://src/a", "s3://src/ab", *DELETE, server=store, copied=1)
    lab.sync("s3://src/a", "s3://dst/a", *DELETE, server=store, copied=1)
    assert store.dump("src") == {b"a/b": b"1", b"ab/b": b"1"}
    write_tree(tmp_path / "a", {b"f": b"1"})
    lab.sync(tmp_path / "a", tmp_path / "ab", *DELETE, copied=1)


# ---- 30: two at once -------------------------------------------------------------------------------------------------


def test_case_30_a_second_task_on_the_same_destination_is_refused(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    """Refused while the first one lives (below, above and in the same place); free as soon as it is gone."""
    for number in range(300):
        store.put("src", b"d/%03d" % number, b"x")
    store.put("src", b"other/one", b"y")
    out = tmp_path / "out"
    slow = ("s3://src/d", out / "d", "--max-requests", "20", "--processes", "1")
    with lab.begin("sync", *slow, server=store) as first:
        end = time.monotonic() + 30
        while store.count("GET") < 3:
            assert time.monotonic() < end and first.process.poll() is None
            time.sleep(0.02)
        how = {"server": store, "code": 4, "leaves_temporary": True}
        lab.sync("s3://src/other", out, error="is writing to", hint="wait", **how)
        lab.sync("s3://src/other", out / "d" / "below", error="is writing to", hint="wait", **how)
        lab.sync(*slow[:2], "--processes", "1", error="already running", hint="wait", **how)
        lab.sync("s3://src/other", tmp_path / "elsewhere", server=store, copied=1)
        first.send(signal.SIGKILL)
        first.process.wait()
    lab.sync("s3://src/other", out / "d" / "below", server=store, copied=1, leaves_temporary=True)
    done = lab.sync(*slow[:2], server=store, copied=..., equal=...)
    assert done.report["resumed"]
    assert {name[2:] for name in read_tree(out) if name[:3] != b"d/b"} == {b"%03d" % n for n in range(300)}
