"""Fault cases 1 to 13: listings that fail, lie or move must never delete, lose or double anything.

Each test has the number of its case in the acceptance list.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from parts.fake_actions import (
    close,
    cut_xml,
    duplicate,
    empty,
    ends_early,
    repeat_page,
    run,
    stall,
    status,
    truncated_without_token,
    unordered,
)
from parts.fake_rules import Action, Call
from parts.fake_s3 import FakeS3, Quirks, Reply, Request
from parts.lab import Lab
from parts.trees import assert_same, read_tree, write_tree

SRC, DST = "s3://src", "s3://dst"
KEYS = [b"k%02d" % n for n in range(20)]
EXTRA = {b"k02x": b"old 1", b"k12x": b"old 2", b"z": b"old 3"}
DELETE = ("--delete", "--delete-max-share", "1")
ALONE = ("--processes", "1")
"""One process, so that nobody cuts the range that fails in two."""


def real_page(request: Request) -> bool:
    """A page of the scan, not the one-key listing of the check beforehand nor a search for cuts."""
    return request.bucket == "src" and request.query.get("max-keys", "1000") != "1"


def fill(store: FakeS3) -> dict[bytes, bytes]:
    """20 keys at the source in pages of five, three other keys at the destination; what a sync would leave."""
    store.quirks.max_keys = 5
    wanted = {key: b"new " + key for key in KEYS}
    for key, data in wanted.items():
        store.put("src", key, data)
    for key, data in EXTRA.items():
        store.put("dst", key, data)
    return wanted


# ---- 1: pages that fail ----------------------------------------------------------------------------------------------

FAULTS: dict[str, Callable[[], Action]] = {
    "500": lambda: status(500),
    "503": lambda: status(503, "SlowDown"),
    "closed": close,
    "timeout": lambda: stall(30),
}


@pytest.mark.parametrize("page", [1, 2, 4])
@pytest.mark.parametrize("fault", FAULTS)
def test_case_01_a_page_that_fails_for_a_while_is_asked_for_again(
    store: FakeS3, lab: Lab, fault: str, page: int
) -> None:
    wanted = fill(store)
    tries = range(page, page + (1 if fault == "timeout" else 2))
    rule = store.rule("LIST", FAULTS[fault](), nth=tries, when=real_page)
    lab.sync(SRC, DST, *DELETE, server=store, machine={"stall": 0.5}, copied=20, deleted=3, total=20)
    assert rule.hits == len(tries)
    assert_same(wanted, store.dump("dst"))


@pytest.mark.parametrize(("page", "copied"), [(1, 0), (2, 5), (4, 15)])
@pytest.mark.parametrize("fault", ["500", "closed"])
def test_case_01_a_page_that_keeps_failing_fails_its_range_and_deletes_nothing(
    store: FakeS3, lab: Lab, fault: str, page: int, copied: int
) -> None:
    """What came before the fault is copied; the range is FAILED, and no delete happens in it."""
    wanted = fill(store)
    bound = KEYS[5 * (page - 1) - 1] if page > 1 else b""
    rule = store.rule("LIST", FAULTS[fault](), when=lambda r: real_page(r) and r.after >= bound)
    done = lab.sync(SRC, DST, *DELETE, *ALONE, server=store, code=1, error="1 entry failed", copied=copied, failed=1)
    assert done.report["state"] == "FAILED"
    assert rule.hits > 1, "a failing page is tried again"
    (row,) = lab.failure_rows(done).values()
    assert row["class"] in {"internal", "timeout"}
    assert_same({**EXTRA, **{key: wanted[key] for key in KEYS[:copied]}}, store.dump("dst"))
    rule.remove()
    lab.sync(SRC, DST, *DELETE, server=store, copied=20 - copied, equal=copied, deleted=3)
    assert_same(wanted, store.dump("dst"))


def test_case_01_other_ranges_finish_and_only_they_delete(store: FakeS3, lab: Lab) -> None:
    """A listing of many ranges, one of which cannot be read to its end."""
    store.quirks.max_keys = 100
    store.latency = 0.004
    wanted = {b"d%02d/f%04d" % (n // 100, n): b"%d" % n for n in range(6000)}
    for key, data in wanted.items():
        store.put("src", key, data)
    extra = {b"d%02d/old" % n: b"old" for n in range(60)}
    for key, data in extra.items():
        store.put("dst", key, data)
    store.rule("LIST", status(500), when=lambda r: real_page(r) and b"d30/" <= r.after < b"d31/")
    done = lab.sync(SRC, DST, *DELETE, "--processes", "2", server=store, code=1, copied=..., deleted=..., failed=1)
    held = store.dump("dst")
    report = done.report
    kept = {key for key in held if key in extra}
    missing = wanted.keys() - held.keys()
    assert b"d30/old" in kept, "its directory was read, but the range around it was not finished"
    assert all(key in kept for key in extra if min(missing) < key < max(missing))
    assert len(extra) - len(kept) == report["deleted"]["entries"]
    assert report["copied"]["entries"] == len(held) - len(kept) < 6000
    assert {b"d59/f%04d" % n for n in range(5900, 6000)} <= held.keys(), "a range behind the fault is finished"


# ---- 2 to 6: pages that lie ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [1, 2, 4])
@pytest.mark.parametrize("lie", [empty, cut_xml, truncated_without_token])
def test_case_02_and_03_a_page_cut_short_is_never_the_end(
    store: FakeS3, lab: Lab, lie: Callable[[], Action], page: int
) -> None:
    wanted = fill(store)
    rule = store.rule("LIST", lie(), nth=page, when=real_page)
    lab.sync(SRC, DST, *DELETE, server=store, copied=20, deleted=3, total=20)
    assert rule.hits == 1
    assert_same(wanted, store.dump("dst"))


@pytest.mark.parametrize("lie", [empty, cut_xml])
def test_case_02_a_page_that_stays_cut_is_an_error(store: FakeS3, lab: Lab, lie: Callable[[], Action]) -> None:
    wanted = fill(store)
    store.rule("LIST", lie(), when=lambda r: real_page(r) and r.after >= KEYS[9])
    done = lab.sync(SRC, DST, *DELETE, *ALONE, server=store, code=1, copied=10, failed=1)
    assert [row["class"] for row in lab.failure_rows(done).values()] == ["corrupt"]
    assert_same({**EXTRA, **{key: wanted[key] for key in KEYS[:10]}}, store.dump("dst"))


def test_case_03_truncated_without_token_on_every_page_goes_on_by_the_last_key_or_fails(
    store: FakeS3, lab: Lab
) -> None:
    """Outcome chosen: an error after retries would be allowed too, but the listing can go on by its last key."""
    wanted = fill(store)
    store.rule("LIST", truncated_without_token(), when=real_page)
    done = lab.run("sync", SRC, DST, *DELETE, "--json", server=store)
    if done.code == 0:
        assert_same(wanted, store.dump("dst"))
    else:
        assert done.code == 1, done.text
        assert EXTRA.items() <= store.dump("dst").items(), "nothing may be deleted"


@pytest.mark.parametrize("nth", [2, 3])
def test_case_04_the_same_page_twice_restarts_the_listing(store: FakeS3, lab: Lab, nth: int) -> None:
    wanted = fill(store)
    store.rule("LIST", repeat_page(), nth=nth, when=real_page)
    lab.sync(SRC, DST, *DELETE, server=store, copied=20, deleted=3, total=20)
    assert_same(wanted, store.dump("dst"))
    assert all(
        store.count("PUT", key=b"^" + key + b"$") + store.count("COPY", key=b"^" + key + b"$") == 1 for key in KEYS
    )


def test_case_04_a_listing_that_never_moves_on_fails(store: FakeS3, lab: Lab) -> None:
    wanted = fill(store)
    first: list[Reply] = []

    def same(call: Call, reply: Reply) -> Reply:
        first.append(reply)
        return replace(reply, body=first[0].body)

    store.rule("LIST", Action(after=same), when=real_page)
    done = lab.sync(SRC, DST, *DELETE, *ALONE, server=store, code=1, copied=5, failed=1, timeout=30)
    (row,) = lab.failure_rows(done).values()
    assert "order" in row["message"]
    assert_same({**EXTRA, **{key: wanted[key] for key in KEYS[:5]}}, store.dump("dst"))


def test_case_05_keys_out_of_order_fail_loudly(store: FakeS3, lab: Lab) -> None:
    wanted = fill(store)
    store.rule("LIST", unordered(), when=lambda r: real_page(r) and r.after >= KEYS[4])
    done = lab.sync(SRC, DST, *DELETE, *ALONE, server=store, code=1, copied=5, failed=1)
    (row,) = lab.failure_rows(done).values()
    assert "order" in row["message"]
    assert_same({**EXTRA, **{key: wanted[key] for key in KEYS[:5]}}, store.dump("dst"))


def test_case_05_a_page_out_of_order_once_is_asked_for_again(store: FakeS3, lab: Lab) -> None:
    wanted = fill(store)
    store.rule("LIST", unordered(), nth=2, when=real_page)
    lab.sync(SRC, DST, *DELETE, server=store, copied=20, deleted=3)
    assert_same(wanted, store.dump("dst"))


def test_case_05_a_store_that_lists_by_directory_deletes_nothing_wrongly(fake_s3: FakeS3, lab: Lab) -> None:
    """A store in tree order gives ``a/b`` before ``a-b``: found out, or listed rightly; never a wrong delete."""
    fake_s3.quirks = Quirks(order="tree", max_keys=3)
    wanted = {key: key for key in (b"a!", b"a-b", b"a.txt", b"a/b", b"a/b-c", b"a/b/c", b"a/b.d", b"a0", b"aa", b"b")}
    for name in ("src", "dst"):
        fake_s3.make_bucket(name)
        for key, data in wanted.items():
            fake_s3.put(name, key, data)
    done = lab.run("sync", SRC, DST, *DELETE, "--json", server=fake_s3)
    assert done.code in {0, 1}, done.text
    assert_same(wanted, fake_s3.dump("dst"))
    if done.code == 1:
        assert any("order" in row["message"] for row in lab.failure_rows(done).values())


@pytest.mark.parametrize("page", [1, 2, 4])
def test_case_06_a_key_listed_twice_is_done_once(store: FakeS3, lab: Lab, page: int) -> None:
    """Outcome chosen: a page with a doubled key is asked for again; it never counts twice."""
    wanted = fill(store)
    store.rule("LIST", duplicate(), nth=page, when=real_page)
    lab.sync(SRC, DST, *DELETE, server=store, copied=20, deleted=3, total=20)
    assert_same(wanted, store.dump("dst"))


def test_case_06_a_key_that_is_always_listed_twice_is_done_once_or_fails(store: FakeS3, lab: Lab) -> None:
    wanted = fill(store)
    store.rule("LIST", duplicate(), when=real_page)
    done = lab.run("sync", SRC, DST, *DELETE, "--json", server=store)
    if done.code == 0:
        assert done.report["total"]["entries"] == 20
        assert_same(wanted, store.dump("dst"))
    else:
        assert done.code == 1, done.text
        assert EXTRA.items() <= store.dump("dst").items()


# ---- 7, 8: empty and wrong places ------------------------------------------------------------------------------------


def test_case_07_empty_source_deletes_nothing(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    for key, data in EXTRA.items():
        store.put("dst", key, data)
    how = {"code": 4, "error": "src/? is empty: refused to delete 3 entries", "hint": "--allow-empty-source"}
    lab.sync(SRC, DST, *DELETE, server=store, **how)
    assert_same(EXTRA, store.dump("dst"))
    assert store.count("DELETE") == 0
    (tmp_path / "empty").mkdir()
    lab.sync(tmp_path / "empty", DST, *DELETE, server=store, code=4, error="is empty", hint="--allow-empty-source")
    write_tree(tmp_path / "there", EXTRA)
    lab.sync(SRC, tmp_path / "there", *DELETE, server=store, **how)
    assert_same(EXTRA, read_tree(tmp_path / "there"))
    lab.sync(SRC, DST, *DELETE, "--allow-empty-source", server=store, deleted=3)
    assert store.dump("dst") == {}


def test_case_07_a_listing_that_pretends_to_be_empty_deletes_nothing(store: FakeS3, lab: Lab) -> None:
    fill(store)
    store.rule("LIST", ends_early(0), bucket="src")
    lab.sync(SRC, DST, *DELETE, server=store, code=4, error="is empty")
    assert_same(EXTRA, store.dump("dst"))


def test_case_07_everything_filtered_away_counts_as_empty(store: FakeS3, lab: Lab) -> None:
    fill(store)
    lab.sync(SRC, DST, *DELETE, "--exclude", "k*", "--delete-excluded", server=store, code=4, error="empty")
    assert_same(EXTRA, store.dump("dst"))


@pytest.mark.parametrize("which", ["source", "destination"])
def test_case_08_missing_bucket(store: FakeS3, lab: Lab, which: str) -> None:
    fill(store)
    places = ("s3://srcc", DST) if which == "source" else (SRC, "s3://dstt")
    error = f"{which}: bucket `\\w+` does not exist"
    lab.sync(*places, *DELETE, server=store, code=3, error=error, hint="did you mean `(src|dst)`")
    assert_same(EXTRA, store.dump("dst"))
    assert store.count("WRITE") == 0


def test_case_08_a_wrong_prefix_is_an_empty_source(store: FakeS3, lab: Lab) -> None:
    fill(store)
    lab.sync("s3://src/wrong", DST, *DELETE, server=store, code=4, error="wrong/? is empty")
    assert_same(EXTRA, store.dump("dst"))


@pytest.mark.parametrize("code", [301, 400])
def test_case_08_the_wrong_region_is_learned_once(fake_s3: FakeS3, lab: Lab, code: int) -> None:
    fake_s3.make_bucket("src", region="eu-north-7", wrong_region=code)
    fake_s3.make_bucket("dst")
    for key in KEYS:
        fake_s3.put("src", key, key)
    lab.sync(SRC, DST, server=fake_s3, copied=20)
    assert_same({key: key for key in KEYS}, fake_s3.dump("dst"))
    refused = [r for r in fake_s3.log("*") if r.bucket == "src" and r.status in {301, 400}]
    assert len(refused) <= 4, "each process asks once, not each request"


def test_case_08_a_redirect_in_circles_ends(store: FakeS3, lab: Lab) -> None:
    from parts.fake_actions import redirect

    fill(store)
    store.rule("*", redirect("eu-north-7"), bucket="src")
    lab.sync(SRC, DST, *DELETE, server=store, code=3, error="region|redirect|moved", timeout=30)
    assert_same(EXTRA, store.dump("dst"))


# ---- 9 to 11: parts that cannot be read ------------------------------------------------------------------------------


def test_case_09_listing_forbidden_below_a_prefix(store: FakeS3, lab: Lab) -> None:
    """The range whose listing is forbidden FAILS with the class, and nothing is deleted in it."""
    wanted = fill(store)
    store.rule("LIST", status(403, "AccessDenied"), when=lambda r: real_page(r) and r.after >= KEYS[9])
    done = lab.sync(SRC, DST, *DELETE, *ALONE, server=store, code=1, copied=10, failed=1)
    assert set(lab.failures(done).values()) == {"forbidden"}
    assert_same({**EXTRA, **{key: wanted[key] for key in KEYS[:10]}}, store.dump("dst"))


def test_case_09_reading_forbidden_below_a_prefix(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    """Objects that may be listed but not read fail one by one; the rest is done, and they are not deleted."""
    for key in (b"open/a", b"secret/b", b"secret/c", b"zz"):
        store.put("src", key, b"new " + key)
    write_tree(tmp_path / "dst", {b"secret/b": b"kept", b"gone": b"1"})
    store.rule(["GET", "HEAD"], status(403, "AccessDenied"), key="^secret/")
    failures = {b"secret/b": "forbidden", b"secret/c": "forbidden"}
    words = (SRC, tmp_path / "dst", *DELETE)
    lab.sync(*words, server=store, code=1, error="2 entries failed", copied=2, failed=2, deleted=1, failures=failures)
    assert_same({b"open/a": b"new open/a", b"zz": b"new zz", b"secret/b": b"kept"}, read_tree(tmp_path / "dst"))


TREE = {b"a/1": b"1", b"b/2": b"2", b"b/c/3": b"3", b"d/4": b"4"}
OLD = {b"a/old": b"o", b"b/old": b"o", b"b/c/old": b"o", b"d/old": b"o"}
LEFT = {b"a/1": b"1", b"b/old": b"o", b"b/c/old": b"o", b"d/4": b"4"}


@pytest.mark.parametrize("way", ["files", "store"])
def test_case_10_a_directory_without_permission(lab: Lab, store: FakeS3, tmp_path: Path, way: str) -> None:
    src = tmp_path / "in"
    write_tree(src, TREE)
    destination, held = place(way, tmp_path, store)
    os.chmod(src / "b", 0)
    try:
        how = {"server": store, "machine": {"ordinary": True}, "failures": {b"b/": "forbidden"}}
        lab.sync(src, destination, *DELETE, code=1, error="1 entry failed", copied=2, deleted=2, failed=1, **how)
    finally:
        os.chmod(src / "b", 0o755)
    assert_same(LEFT, held())
    lab.sync(src, destination, *DELETE, server=store, copied=2, equal=2, deleted=2)
    assert_same(TREE, held())


@pytest.mark.parametrize("name", ["EIO", "ESTALE"])
def test_case_10_a_directory_that_breaks(lab: Lab, store: FakeS3, tmp_path: Path, name: str) -> None:
    src = tmp_path / "in"
    write_tree(src, TREE)
    destination, held = place("files", tmp_path, store)
    machine = {"errors": [{"call": "scandir", "name": "/in/b$", "errno": name}]}
    failures = {b"b/": "internal"}
    lab.sync(src, destination, *DELETE, machine=machine, code=1, copied=2, deleted=2, failed=1, failures=failures)
    assert_same(LEFT, held())


def place(way: str, tmp_path: Path, store: FakeS3) -> tuple[str, Callable[[], dict[bytes, bytes]]]:
    """A destination that holds OLD, and how to see what it holds."""
    if way == "store":
        for key, data in OLD.items():
            store.put("dst", key, data)
        return DST, lambda: store.dump("dst")
    write_tree(tmp_path / "out", OLD)
    return str(tmp_path / "out"), lambda: read_tree(tmp_path / "out")


@pytest.mark.parametrize("name", ["ENOENT"])
def test_case_11_a_directory_that_vanishes_during_the_walk(lab: Lab, store: FakeS3, tmp_path: Path, name: str) -> None:
    """Counted as a warning, no failure; nothing below it is deleted before it was listed again."""
    src = tmp_path / "in"
    write_tree(src, TREE)
    destination, held = place("files", tmp_path, store)
    machine = {"errors": [{"call": "scandir", "name": "/in/b$", "errno": name}]}
    lab.sync(src, destination, *DELETE, machine=machine, copied=2, deleted=2)
    assert_same(LEFT, held())
    lab.sync(src, destination, *DELETE, copied=2, equal=2, deleted=2)
    assert_same(TREE, held())


def test_case_11_objects_that_vanish_between_listing_and_reading(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    wanted = fill(store)
    store.rule("GET", run(lambda call: store.delete("src", KEYS[3])), nth=1)
    write_tree(tmp_path / "out", {KEYS[3]: b"older"})
    words = ("--processes", "1", "--concurrency", "1")
    lab.sync(SRC, tmp_path / "out", *DELETE, *words, server=store, copied=19, skipped=1)
    assert_same({**wanted, KEYS[3]: b"older"}, read_tree(tmp_path / "out"))
    lab.sync(SRC, tmp_path / "out", *DELETE, server=store, equal=19, deleted=1)


# ---- 12, 13: moving and huge ones ------------------------------------------------------------------------------------


def test_case_12_objects_that_appear_behind_the_cursor_come_with_the_next_run(store: FakeS3, lab: Lab) -> None:
    """A listing is a window in time; documented in the help of sync. Nothing that appears is lost for good."""
    wanted = fill(store)
    store.rule("LIST", run(lambda call: store.put("src", b"k00-late", b"late")), nth=3, when=real_page)
    lab.sync(SRC, DST, *DELETE, server=store, copied=20, deleted=3)
    assert_same(wanted, store.dump("dst"))
    lab.sync(SRC, DST, *DELETE, server=store, copied=1, equal=20)
    assert_same({**wanted, b"k00-late": b"late"}, store.dump("dst"))


def flat_listing(fake: FakeS3, lab: Lab, count: int, megabytes: int) -> None:
    fake.make_synthetic("src", count, size=0)
    fake.make_synthetic("dst", count, size=0)
    how = {"server": fake, "machine": {"own_memory": True}, "timeout": count / 5000 + 60}
    done = lab.sync(SRC, DST, *DELETE, "--processes", "1", equal=count, **how)
    assert done.report["peak_rss_bytes"] < megabytes << 20


def test_case_13_a_flat_prefix_needs_bounded_memory(fake_s3: FakeS3, lab: Lab) -> None:
    """300,000 keys a side; the memory of 100,000 keys more is far below what a map of them would take."""
    flat_listing(fake_s3, lab, 300_000, 96)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_case_13_ten_million_keys(fake_s3: FakeS3, lab: Lab) -> None:
    flat_listing(fake_s3, lab, 10_000_000, 160)


def test_case_13_the_first_copy_comes_early(fake_s3: FakeS3, lab: Lab) -> None:
    """While a huge listing goes on, its first page is being copied: within 2 s of the first page."""
    fake_s3.make_synthetic("src", 10_000_000, size=10)
    fake_s3.make_bucket("dst")
    with lab.begin("sync", SRC, DST, "--no-server-side", server=fake_s3) as started:
        started.kill_when(lambda: fake_s3.count("PUT") > 0)
    first = min(r.at for r in fake_s3.log("LIST") if r.bucket == "src")
    assert min(r.at for r in fake_s3.log("PUT")) - first < 2.0


def test_case_13_a_huge_directory_needs_bounded_memory(lab: Lab, tmp_path: Path) -> None:
    """One directory of 150,000 names: read through a temporary file, and nothing of it is held."""
    src = tmp_path / "in"
    src.mkdir()
    fd = os.open(src, os.O_RDONLY)
    for number in range(150_000):
        os.close(os.open(b"f%07d" % number, os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    words = (src, tmp_path / "out", "--dry-run", "--processes", "1")
    done = lab.sync(*words, machine={"own_memory": True}, copied=150_000)
    assert done.report["peak_rss_bytes"] < 128 << 20
