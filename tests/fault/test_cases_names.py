"""Fault cases 14 to 24: names. A key arrives under itself or its entry FAILS with class ``name``; never a silent merge.

Each test has the number of its case in the acceptance list.
"""

from __future__ import annotations

import json
import os
import unicodedata
from pathlib import Path

import pytest

from parts import oracle
from parts.fake_s3 import FakeS3, Quirks
from parts.lab import Lab
from parts.servers import S3Server
from parts.trees import ODD_NAMES, ORDER_NAMES, assert_same, names_below, odd_tree, read_tree, write_tree

SRC, DST = "s3://src", "s3://dst"
DELETE = ("--delete", "--delete-max-share", "1")


def fill(store: FakeS3, *keys: bytes, bucket: str = "src") -> dict[bytes, bytes]:
    """Objects whose bytes tell their key."""
    made = {key: b"data of " + key for key in keys}
    for key, data in made.items():
        store.put(bucket, key, data)
    return made


# ---- 14, 15: order ---------------------------------------------------------------------------------------------------

ORDER_KEYS = sorted(
    {name.encode() for name in ORDER_NAMES if name not in {"a/b"}}
    | {b"a/b-c", b"a/b.d", b"a/b0", b"a/b/x!", b"a-b/c", b"a.d/e", b"A/b", b"a0/b", b"a/\xc3\xa9/z"}
)


@pytest.mark.parametrize("page", [1, 3, 1000])
def test_case_14_order_is_the_same_on_both_sides(store: FakeS3, lab: Lab, tmp_path: Path, page: int) -> None:
    """``a``, ``a-b``, ``a/``, ``a0``: a directory sorts as if it ended in a slash, so the merge meets every pair."""
    store.quirks.max_keys = page
    tree = {key: b"of " + key for key in ORDER_KEYS if not any(k.startswith(key + b"/") for k in ORDER_KEYS)}
    write_tree(tmp_path / "in", tree, mtime_ns=1_600_000_000_000_000_000)
    lab.sync(tmp_path / "in", DST, *DELETE, server=store, copied=len(tree), total=len(tree))
    assert_same(tree, store.dump("dst"))
    lab.sync(tmp_path / "in", DST, *DELETE, server=store, equal=len(tree))
    lab.sync(DST, tmp_path / "out", *DELETE, server=store, copied=len(tree))
    lab.sync(DST, tmp_path / "out", *DELETE, server=store, equal=len(tree))
    lab.sync(DST, SRC, *DELETE, server=store, copied=len(tree))
    lab.sync(tmp_path / "in", tmp_path / "out", *DELETE, equal=len(tree))
    assert_same(tree, read_tree(tmp_path / "out"))
    for place in (tmp_path / "in", tmp_path / "out"):
        oracle.assert_same(store, SRC, str(place))


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_case_15_non_bmp_characters_sort_by_bytes(store: FakeS3, lab: Lab, tmp_path: Path, page: int) -> None:
    store.quirks.max_keys = page
    keys = [name.encode() for name in ("\uffee", "\U0001f600", "\ue000x", "\U0010ffff", "z", "\U0001f600/\uffee")]
    wanted = fill(store, *keys)
    fill(store, "\uffef".encode(), "\U0001f601".encode(), bucket="dst")
    lab.sync(SRC, DST, *DELETE, server=store, copied=6, deleted=2)
    assert_same(wanted, store.dump("dst"))


@pytest.mark.parametrize("page", [1, 2, 1000])
def test_case_15_a_store_in_utf16_order_is_found_out(fake_s3: FakeS3, lab: Lab, page: int) -> None:
    """It FAILS loudly (chosen; sorting would be allowed too) and deletes nothing."""
    fake_s3.quirks = Quirks(order="utf16", max_keys=page)
    for name in ("src", "dst"):
        fake_s3.make_bucket(name)
    keys = [name.encode() for name in ("a", "\uffee", "\U0001f600", "\ue000x", "z")]
    fill(fake_s3, *keys)
    old = fill(fake_s3, *keys, b"b", bucket="dst")
    done = lab.run("sync", SRC, DST, *DELETE, "--json", server=fake_s3)
    assert done.code == 1, done.text
    assert "order" in " ".join(row["message"] for row in lab.failure_rows(done).values())
    assert_same(old, fake_s3.dump("dst"))


# ---- 16, 17: targets that fold names ---------------------------------------------------------------------------------

NFC, NFD = unicodedata.normalize("NFC", "é").encode(), unicodedata.normalize("NFD", "é").encode()


def test_case_16_both_compositions_are_kept_on_exact_targets(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    wanted = fill(store, NFC, NFD, b"d" + NFC + b"/x", b"d" + NFD + b"/x")
    lab.sync(SRC, tmp_path / "out", server=store, copied=4)
    assert_same(wanted, read_tree(tmp_path / "out"))
    lab.sync(tmp_path / "out", DST, server=store, copied=4)
    assert_same(wanted, store.dump("dst"))
    lab.sync(SRC, tmp_path / "out", *DELETE, server=store, equal=4)


@pytest.mark.parametrize("source", ["store", "files"])
def test_case_16_and_17_collisions_on_a_folding_target(store: FakeS3, lab: Lab, tmp_path: Path, source: str) -> None:
    """The first that arrives wins; the others FAIL with class ``name`` and leave it alone, in every further run.

    Files are copied in key order, one after the other; from a store, one connection makes the order certain.
    """
    first = {b"Case": b"C", NFD: b"NFD", b"Dir/x": b"Dx", b"other": b"o"}
    second = {b"case": b"c", NFC: b"NFC", b"dir/x": b"dx", b"dir/y": b"dy"}
    for key, data in {**first, **second}.items():
        store.put("src", key, data)
    write_tree(tmp_path / "in", {**first, **second})
    out = tmp_path / "out"
    out.mkdir()
    here = SRC if source == "store" else tmp_path / "in"
    failures = dict.fromkeys([*second, *([b"dir/"] if source == "files" else [])], "name")
    how = {"server": store, "machine": {"folds": str(out)}, "code": 1, "failed": len(failures), "failures": failures}
    words = (*DELETE, "--processes", "1", "--concurrency", "1")
    done = lab.sync(here, out, *words, copied=4, **how)
    messages = [row["message"] for row in lab.failure_rows(done).values()]
    assert all("differs only in case or composition" in message for message in messages), messages
    assert_same(first, read_tree(out))
    lab.sync(here, out, *words, equal=4, **how)
    assert_same(first, read_tree(out))


# ---- 18: names that are not UTF-8 ------------------------------------------------------------------------------------

LATIN = {b"caf\xe9": b"latin", b"dir-\xff\xfe/x": b"below", b"ok": b"ok", b"\x80": b"alone"}


def test_case_18_invalid_utf8_between_file_systems(lab: Lab, tmp_path: Path) -> None:
    write_tree(tmp_path / "in", LATIN)
    lab.sync(tmp_path / "in", tmp_path / "out", *DELETE, copied=4)
    assert_same(LATIN, read_tree(tmp_path / "out"))
    lab.sync(tmp_path / "in", tmp_path / "out", *DELETE, "--escape-names", equal=4)
    assert_same(LATIN, read_tree(tmp_path / "out"))


def test_case_18_invalid_utf8_to_a_store_fails_by_name(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    write_tree(tmp_path / "in", LATIN)
    failures = {key: "name" for key in LATIN if key != b"ok"}
    done = lab.sync(tmp_path / "in", DST, server=store, code=1, copied=1, failed=3, failures=failures)
    assert all("UTF-8" in row["message"] for row in lab.failure_rows(done).values())
    assert_same({b"ok": b"ok"}, store.dump("dst"))


def test_case_18_invalid_utf8_travels_escaped_and_comes_back(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    tree = {**LATIN, b"100%": b"p", b"%41": b"q", b"%!x": b"r"}
    write_tree(tmp_path / "in", tree)
    lab.sync(tmp_path / "in", DST, *DELETE, "--escape-names", server=store, copied=7)
    assert b"%!caf%E9" in store.dump("dst")
    lab.sync(tmp_path / "in", DST, *DELETE, "--escape-names", server=store, equal=7)
    lab.sync(DST, tmp_path / "out", *DELETE, "--escape-names", server=store, copied=7)
    assert_same(tree, read_tree(tmp_path / "out"))


# ---- 19: odd names everywhere ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", [True, False])
def test_case_19_odd_names_round_trip(store: FakeS3, lab: Lab, tmp_path: Path, encoding: bool) -> None:
    """Both directions, from store to store, and in reports and manifests."""
    tree = odd_tree([n for n in ODD_NAMES if encoding or not set(n) & {"\x01", "\x7f"}])
    count = len(tree)
    store.quirks.encoding_type = encoding
    write_tree(tmp_path / "in", tree)
    lab.sync(tmp_path / "in", DST, *DELETE, "--report", str(tmp_path / "up.jsonl"), server=store, copied=count)
    assert_same(tree, store.dump("dst"))
    lab.sync(DST, SRC, *DELETE, server=store, copied=count)
    assert_same(tree, store.dump("src"))
    lab.sync(SRC, tmp_path / "out", *DELETE, "--report", str(tmp_path / "down.csv"), server=store, copied=count)
    assert_same(tree, read_tree(tmp_path / "out"))
    lab.sync(tmp_path / "in", DST, *DELETE, server=store, equal=count)
    lab.sync(DST, tmp_path / "out", *DELETE, server=store, equal=count)
    told = {json.loads(line)["key"].encode() for line in (tmp_path / "up.jsonl").read_text().splitlines()}
    assert told == tree.keys()
    words = ("--manifest", str(tmp_path / "proof"))
    lab.sync(SRC, tmp_path / "out", *words, verb="verify", server=store, equal=count)
    assert (tmp_path / "proof").exists()


def test_case_19_odd_names_by_a_list_of_keys(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    tree = odd_tree()
    for key, data in tree.items():
        store.put("src", key, data)
    (tmp_path / "keys").write_bytes(b"\0".join(tree) + b"\0")
    lab.sync(SRC, tmp_path / "out", "--list", str(tmp_path / "keys"), server=store, copied=len(tree))
    assert_same(tree, read_tree(tmp_path / "out"))


def test_case_19_odd_names_on_a_real_store(seaweed: S3Server, bucket_name: str, lab: Lab, tmp_path: Path) -> None:
    """SeaweedFS makes a slash of a backslash: that key FAILS with class ``name``, the others arrive as they are."""
    tree = odd_tree()
    seaweed.make_bucket(bucket_name)
    write_tree(tmp_path / "in", tree)
    del tree[b"back\\slash"]
    failures = {b"back\\slash": "name"}
    how = {"code": 1, "failed": 1, "failures": failures}
    lab.sync(tmp_path / "in", f"s3://{bucket_name}", server=seaweed, copied=len(tree), **how)
    assert_same(tree, seaweed.client().dump(bucket_name))
    lab.sync(f"s3://{bucket_name}", tmp_path / "out", server=seaweed, copied=len(tree))
    assert_same(tree, read_tree(tmp_path / "out"))


# ---- 20, 21, 23: keys that are no paths ------------------------------------------------------------------------------

NO_PATHS = (b"a//b", b"/x", b"a/./b", b"a/../b", b"..", b".", b"d/", b"g//", b"//", b"../../evil", b"nul\0byte")


def test_case_20_odd_segments_between_stores_are_exact(store: FakeS3, lab: Lab) -> None:
    wanted = fill(store, *[key for key in NO_PATHS if b"\0" not in key], b"a/b", b"x", b"g/", b"d/e")
    lab.sync(SRC, DST, *DELETE, "--no-server-side", server=store, copied=len(wanted))
    assert_same(wanted, store.dump("dst"))
    for key in wanted:
        store.delete("dst", key)
    lab.sync(SRC, DST, *DELETE, server=store, copied=len(wanted))
    assert_same(wanted, store.dump("dst"))
    lab.sync(SRC, DST, *DELETE, server=store, equal=len(wanted))


def test_case_20_and_21_keys_that_are_no_paths_fail_by_name(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    good = fill(store, b"a/b", b"x", b"d/e", b"C:\\evil", b"c:")
    fill(store, *NO_PATHS, b".entrepot-x/y")
    root = tmp_path / "deep" / "out"
    failures = dict.fromkeys((*NO_PATHS, b".entrepot-x/y"), "name")
    how = {"server": store, "code": 1, "failed": len(failures), "failures": failures}
    lab.sync(SRC, root, *DELETE, copied=len(good), **how)
    assert_same(good, read_tree(root))
    assert names_below(tmp_path / "deep") == sorted(b"out/" + key for key in good)
    lab.sync(SRC, root, *DELETE, equal=len(good), **how)


def test_case_20_and_21_keys_that_are_no_paths_travel_escaped(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    keys = [key for key in NO_PATHS if key != b".."]  # a file, and a directory in "../../evil": see case 23
    wanted = fill(store, *keys, b"q/..", b"a/b", b"x", b"%2Fx", b"d%2F", b".entrepot-x/y", b"%!caf%E9")
    root = tmp_path / "deep" / "out"
    lab.sync(SRC, root, *DELETE, "--escape-names", server=store, copied=len(wanted))
    assert all(name.startswith(b"out/") for name in names_below(tmp_path / "deep"))
    lab.sync(SRC, root, *DELETE, "--escape-names", server=store, equal=len(wanted))
    lab.sync(root, DST, *DELETE, "--escape-names", server=store, copied=len(wanted))
    assert_same(wanted, store.dump("dst"))


def test_case_20_a_store_that_folds_slashes_refuses_by_name(
    seaweed: S3Server, bucket_name: str, store: FakeS3, lab: Lab
) -> None:
    """SeaweedFS writes ``a//b`` over ``a/b``: such keys FAIL, and ``a/b`` keeps its bytes."""
    good = fill(store, b"a/b", b"x", b"d/e")
    fill(store, b"a//b", b"/x", b"d/")
    client = seaweed.client()
    seaweed.make_bucket(bucket_name)
    (lab_home := Path(lab.home)).mkdir(exist_ok=True)
    secret = lab_home / "secret"
    secret.write_text(store.env()["AWS_SECRET_ACCESS_KEY"])
    add = ["connection", "add", "fake", "--endpoint", store.endpoint, "--secret-file", str(secret)]
    added = lab.run(*add, "--access-key", store.env()["AWS_ACCESS_KEY_ID"])
    assert added.code == 0, added.text
    failures = {b"a//b": "name", b"/x": "name", b"d/": "name"}
    how = {"server": seaweed, "code": 1, "failed": 3, "failures": failures}
    lab.sync("fake:src", f"s3://{bucket_name}", *DELETE, copied=3, **how)
    assert_same(good, client.dump(bucket_name))
    lab.sync("fake:src", f"s3://{bucket_name}", *DELETE, equal=3, **how)


def test_case_21_nothing_is_written_outside_the_root(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    wanted = [b"../evil", b"x/../../evil", b"/etc/evil", b"a/\0/b", str(tmp_path / "evil").encode()]
    fill(store, *wanted)
    root = tmp_path / "area" / "root"
    root.mkdir(parents=True)
    (tmp_path / "evil").write_bytes(b"untouched")
    failures = dict.fromkeys(wanted, "name")
    for flags in ((), ("--escape-names",)):
        count = {"copied": len(wanted)} if flags else {"code": 1, "failed": len(wanted), "failures": failures}
        lab.sync(SRC, root, *flags, server=store, **count)
        assert (tmp_path / "evil").read_bytes() == b"untouched"
        assert [p.name for p in (tmp_path / "area").iterdir()] == ["root"]


def test_case_22_links_inside_the_destination_are_not_followed(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    outside, root = tmp_path / "outside", tmp_path / "root"
    write_tree(outside, {b"f": b"precious", b"sub/g": b"precious"})
    write_tree(root, {b"plain": b"old"})
    os.symlink(outside, root / "dir")
    os.symlink(outside / "f", root / "file")
    wanted = fill(store, b"dir/f", b"dir/new", b"file", b"plain")
    failures = {b"dir/f": "name", b"dir/new": "name"}
    done = lab.sync(SRC, root, *DELETE, server=store, code=1, copied=2, failed=2, failures=failures)
    assert all("symbolic link" in row["message"] for row in lab.failure_rows(done).values())
    assert_same({b"f": b"precious", b"sub/g": b"precious"}, read_tree(outside))
    assert (root / "file").read_bytes() == wanted[b"file"]
    assert not (root / "file").is_symlink() and (root / "dir").is_symlink()


def test_case_22_a_directory_swapped_for_a_link_during_the_run(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    from parts.fake_actions import run

    outside, root = tmp_path / "outside", tmp_path / "root"
    outside.mkdir()
    keys = [b"d/%03d" % n for n in range(60)]
    wanted = fill(store, *keys)
    store.latency = 0.05

    def swap(_call: object) -> None:
        os.rename(root / "d", tmp_path / "moved")
        os.symlink(outside, root / "d")

    store.rule("GET", run(swap), nth=20)
    words = ("--processes", "1", "--concurrency", "1")
    done = lab.sync(SRC, root, *words, server=store, code=1, copied=..., failed=...)
    assert list(outside.iterdir()) == [], "nothing was written through the link"
    assert set(lab.failures(done).values()) == {"name"}
    moved = read_tree(tmp_path / "moved")
    assert_same({key: wanted[key] for key in keys if key[2:] in moved}, {b"d/" + k: v for k, v in moved.items()})


def test_case_23_a_file_and_a_directory_of_one_name(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    """The shorter key wins and what lies below it FAILS: in every run the same, and nothing temporary stays."""
    store.latency = 0.01
    winners = (b"x", b"y/z", b"e/f")
    losers = (b"x/y", b"x/y/z", b"y/z/a", b"x/")
    keys = (*winners, *losers, b"x-a", b"x!", b"x0", b"y/z.b", b"e/")
    for key in keys:
        store.put("src", key, b"" if key in {b"e/", b"x/"} else b"data of " + key)
    wanted = {key: b"data of " + key for key in keys if key not in losers and key != b"e/"}
    how = {"server": store, "code": 1, "failed": 4, "failures": dict.fromkeys(losers, "name")}
    for attempt in range(3):
        done = lab.sync(SRC, tmp_path / f"out{attempt}", *DELETE, copied=..., equal=..., **how)
        assert done.report["copied"]["entries"] + done.report["equal"]["entries"] == len(wanted) + 1
        assert_same(wanted, read_tree(tmp_path / f"out{attempt}"))
    lab.sync(SRC, tmp_path / "out0", *DELETE, equal=len(wanted) + 1, **how)
    assert_same(wanted, read_tree(tmp_path / "out0"))


def test_case_23_what_is_there_already_stays(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    """A directory at the destination is not replaced by a file, nor a file by a directory."""
    fill(store, b"x", b"y/z")
    write_tree(tmp_path / "out", {b"x/inside": b"1", b"y": b"2"})
    failures = {b"x": "name", b"y/z": "name"}
    lab.sync(SRC, tmp_path / "out", server=store, code=1, failed=2, failures=failures)
    assert_same({b"x/inside": b"1", b"y": b"2"}, read_tree(tmp_path / "out"))


# ---- 24: names that are too long -------------------------------------------------------------------------------------


def test_case_24_names_too_long_for_a_file_system(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    longest = b"n" * 255
    wanted = fill(store, b"a", longest, b"z/" + longest)

    long = (b"n" * 256, b"dir/" + b"m" * 300 + b"/x", b"z" + "é".encode() * 128)
    fill(store, *long)
    failures = dict.fromkeys(long, "name")
    lab.sync(SRC, tmp_path / "out", *DELETE, server=store, code=1, copied=3, failed=3, failures=failures)
    assert_same(wanted, read_tree(tmp_path / "out"))


def test_case_24_paths_too_long_for_a_file_system(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    """Keys of stores end at 1,024 bytes; below a deep root even those can be too long for the kernel's calls."""
    wanted = fill(store, b"/".join([b"d" * 200] * 5), b"short")
    root = tmp_path / ("r" * 250) / ("r" * 250) / ("r" * 250)
    root.mkdir(parents=True)
    lab.sync(SRC, root, *DELETE, server=store, copied=2)
    assert_same(wanted, read_tree(root))


def test_case_24_keys_too_long_for_a_store(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    deep = b"/".join([b"d" * 200] * 5)
    tree = {deep: b"1004 bytes", b"short": b"s"}
    long = {deep + b"/" + b"f" * 100: b"too long", b"e" * 200 + b"/" + deep: b"too long"}
    del tree[deep]
    tree[deep[:-1]] = b"1003 bytes"
    write_tree(tmp_path / "in", {**tree, **long})
    failures = dict.fromkeys(long, "name")
    done = lab.sync(tmp_path / "in", DST, *DELETE, server=store, code=1, copied=2, failed=2, failures=failures)
    assert all("too long" in row["message"] for row in lab.failure_rows(done).values())
    assert_same(tree, store.dump("dst"))
    shift = "s3://dst/" + "p" * 100
    lab.sync(tmp_path / "in", shift, server=store, code=1, copied=1, failed=3)
