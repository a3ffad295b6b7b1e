"""Fault cases 61 to 67: full disks, crashes around a rename, and what file systems hold besides plain files.

Each test has the number of its case in the acceptance list.
"""

from __future__ import annotations

import os
import socket
import stat
import time
from pathlib import Path

import pytest

from parts.fake_actions import status
from parts.fake_s3 import FakeS3
from parts.lab import Lab, temporary_files
from parts.trees import assert_same, content, many_tree, names_below, read_tree, write_tree

SRC, DST = "s3://src", "s3://dst"
DELETE = ("--delete", "--delete-max-share", "1")
BIG = 3 << 20


# ---- 61: no room -----------------------------------------------------------------------------------------------------


def sample() -> dict[bytes, bytes]:
    """Small, medium and large ones: every way of writing."""
    sizes = {b"medium%d" % n: 300_000 for n in range(3)} | {b"large%d" % n: BIG for n in range(2)}
    tree = {name: content(name, size) for name, size in sizes.items()}
    return {**many_tree(60, per_directory=20), **tree}


WRITES = [
    {"call": call, "name": "/out/", "errno": "ENOSPC"}
    for call in ("write", "pwrite", "posix_fallocate", "copy_file_range", "sendfile")
]
READ_ONLY = [{"call": call, "name": "/out(/|$)", "errno": "EROFS"} for call in ("create", "mkdir", "rename")]
QUOTA = [{"call": call, "name": "/out/", "errno": "EDQUOT"} for call in ("write", "pwrite", "copy_file_range")]


@pytest.mark.parametrize("way", ["download", "local"])
@pytest.mark.parametrize("fault", ["ENOSPC", "EDQUOT", "EROFS"])
def test_case_61_a_full_disk_pauses_the_run(store: FakeS3, lab: Lab, tmp_path: Path, way: str, fault: str) -> None:
    """After a few entries the run stops, PAUSED, with one clear line; nothing temporary stays; then it goes on."""
    tree = sample()
    out, flag = tmp_path / "out", tmp_path / "full"
    flag.touch()
    old = {b"d00000/f0000001": b"an older one", b"gone": b"g"}
    write_tree(out, old, mtime_ns=1_600_000_000_000_000_000)
    write_tree(tmp_path / "in", tree)
    for key, data in tree.items():
        store.put("src", key, data)
    source = SRC if way == "download" else tmp_path / "in"
    errors = {"ENOSPC": WRITES, "EDQUOT": QUOTA, "EROFS": READ_ONLY}[fault]
    machine = {"errors": [{**error, "while": str(flag)} for error in errors]}
    words = (source, out, *DELETE, "--part-size", "1M")
    text = {"ENOSPC": "no space left", "EDQUOT": "quota is used up", "EROFS": "read-only"}[fault]
    lab.sync(*words, server=store, machine=machine, code=3, error=text, hint="make room")
    assert_same(old, read_tree(out))
    listed = lab.run("tasks", "list", "--json")
    assert '"state": "PAUSED"' in listed.out, listed.text
    flag.unlink()
    done = lab.sync(*words, server=store, machine=machine, copied=len(tree), deleted=1, total=len(tree))
    assert done.report["resumed"]
    assert_same(tree, read_tree(out))


def test_case_61_room_for_some_entries_only(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    """One file that finds no room FAILS with class ``quota``; the others go on."""
    tree = {b"a": b"1", b"large": content(b"large", BIG), b"z": b"2"}
    write_tree(tmp_path / "in", tree)
    calls = ("copy_file_range", "sendfile", "pwrite", "ftruncate")
    machine = {"errors": [{"call": call, "name": "/out/", "errno": "ENOSPC"} for call in calls]}
    del tree[b"large"]
    how = {"code": 1, "copied": 2, "failed": 1, "failures": {b"large": "quota"}}
    lab.sync(tmp_path / "in", tmp_path / "out", machine=machine, **how)
    assert_same(tree, read_tree(tmp_path / "out"))


@pytest.mark.parametrize("answer", [(507, "QuotaExceeded"), (403, "QuotaExceeded")])
def test_case_61_a_store_without_room_pauses_the_run(
    store: FakeS3, lab: Lab, tmp_path: Path, answer: tuple[int, str]
) -> None:
    tree = many_tree(40)
    write_tree(tmp_path / "in", tree)
    rule = store.rule("PUT", status(*answer))
    lab.sync(tmp_path / "in", DST, server=store, code=3, error="quota|space|full|room", hint=".")
    assert store.dump("dst") == {}
    rule.remove()
    lab.sync(tmp_path / "in", DST, server=store, copied=len(tree))
    assert_same(tree, store.dump("dst"))


# ---- 62: crashes around a rename -------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("nth", [1, 2, 5])
@pytest.mark.parametrize("call", ["rename", "fsync", "utime"])
def test_case_62_killed_around_a_rename(lab: Lab, tmp_path: Path, call: str, nth: int, after: bool) -> None:
    """Every final name is the old file or the complete new one; the next run ends the work and leaves nothing."""
    tree = {**many_tree(8), b"large1": content(b"1", BIG), b"large2": content(b"2", BIG)}
    old = {name: b"old " + name for name in tree}
    write_tree(tmp_path / "in", tree)
    write_tree(tmp_path / "out", old, mtime_ns=1_600_000_000_000_000_000)
    words = (tmp_path / "in", tmp_path / "out", "--fsync", "--processes", "1")
    machine = {"kill": {"call": call, "nth": nth, "after": after}}
    with lab.begin("sync", *words, "--json", machine=machine) as run:
        assert run.wait().code == -9
    for name, data in read_tree(tmp_path / "out").items():
        if not name.startswith(b".entrepot-"):
            assert data in {old[name], tree[name]}, f"{name!r} is neither old nor new"
    done = lab.sync(*words, copied=..., equal=..., total=len(tree))
    assert done.report["resumed"]
    assert_same(tree, read_tree(tmp_path / "out"))


@pytest.mark.parametrize("way", ["download", "local"])
def test_case_62_data_is_durable_before_the_name_is_given(store: FakeS3, lab: Lab, tmp_path: Path, way: str) -> None:
    """With ``--fsync``: file synced, then renamed, then its directory synced; times and modes before the sync."""
    tree = {b"d/small": b"s", b"d/large": content(b"l", BIG)}
    write_tree(tmp_path / "in", tree)
    for key, data in tree.items():
        store.put("src", key, data)
    log = tmp_path / "calls"
    source = SRC if way == "download" else tmp_path / "in"
    words = (source, tmp_path / "out", "--fsync", "--processes", "1")
    lab.sync(*words, "--concurrency", "1", server=store, machine={"record": str(log)}, copied=2)
    calls = [line.split(" ", 1) for line in log.read_text().splitlines()]
    for name in ("small", "large"):
        at = next(i for i, (call, where) in enumerate(calls) if call == "rename" and where.endswith("/d/" + name))
        before = [call for call, where in calls[:at] if "/.entrepot-" in where or call == "utime"]
        assert "fsync" in before[-2:], f"{name} was renamed before it was synced: {calls}"
        rest = calls[at + 1 :]
        following = next((i for i, (call, _) in enumerate(rest) if call == "rename"), len(rest))
        assert any(call == "fsync" and where.endswith("/out/d") for call, where in rest[: following + 1])
    assert any(call == "fsync" and where.endswith("/out") for call, where in calls), "the new directory's name too"


# ---- 63: what is no plain file ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["upload", "local"])
@pytest.mark.parametrize("policy", ["skip", "follow"])
def test_case_63_special_files_are_skipped(store: FakeS3, lab: Lab, tmp_path: Path, way: str, policy: str) -> None:
    """FIFO, socket, device, a deleted file that is still open over NFS: skipped with a warning each; nothing hangs."""
    src = tmp_path / "in"
    write_tree(src, {b"a": b"1", b"z": b"2", b".nfs0000000012ab": b"open", b".nfs-mine/x": b"3"})
    os.mkfifo(src / "fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(src / "socket"))
        special = 3
        try:
            os.mknod(src / "device", stat.S_IFCHR | 0o600, os.makedev(1, 5))
            special = 4
        except PermissionError:
            pass
        destination = DST if way == "upload" else tmp_path / "out"
        words = (src, destination, "--symlinks", policy)
        done = lab.run("sync", *words, server=store, timeout=30)
    assert done.code == 0, done.text
    for kind in ("fifo", "socket", *(["device"] if special == 4 else [])):
        assert f"{kind}" in done.out and f"is a {kind}: skipped" in done.out, done.text
    held = store.dump("dst") if way == "upload" else read_tree(tmp_path / "out")
    assert_same({b"a": b"1", b"z": b"2", b".nfs-mine/x": b"3"}, held)
    lab.sync(*words, server=store, equal=3, skipped=special)


def test_case_63_a_fifo_that_takes_the_place_of_a_listed_file_does_not_hang(lab: Lab, tmp_path: Path) -> None:
    """A named pipe behind a key of a list is no file: skipped or failed at once, never waited for."""
    write_tree(tmp_path / "in", {b"a": b"1"})
    os.mkfifo(tmp_path / "in" / "fifo")
    (tmp_path / "keys").write_bytes(b"a\nfifo\n")
    done = lab.run("sync", tmp_path / "in", tmp_path / "out", "--list", tmp_path / "keys", "--json", timeout=20)
    assert done.code in {0, 1}, done.text
    assert read_tree(tmp_path / "out") == {b"a": b"1"}


@pytest.mark.parametrize("way", ["upload", "local"])
def test_case_63_files_that_say_they_are_empty(store: FakeS3, lab: Lab, tmp_path: Path, way: str) -> None:
    """Files of /proc have size 0 and content: they FAIL as ``changed`` and are never stored as empty."""
    source = "/proc/sys/kernel/random"
    if not os.path.exists(source + "/uuid"):
        pytest.skip("no /proc/sys here")
    destination = DST if way == "upload" else tmp_path / "out"
    done = lab.sync(source, destination, server=store, code=1, copied=..., failed=..., timeout=30)
    assert set(lab.failures(done).values()) <= {"changed", "forbidden"}
    held = store.dump("dst") if way == "upload" else read_tree(tmp_path / "out")
    assert b"" not in held.values() and b"uuid" not in held


# ---- 64: symbolic links ----------------------------------------------------------------------------------------------


def linked_tree(tmp_path: Path) -> Path:
    src = tmp_path / "in"
    write_tree(src, {b"f": b"file", b"d/g": b"below"})
    write_tree(tmp_path / "outside", {b"x": b"outside"})
    links = {
        "broken": "nowhere", "absolute": str(src / "f"), "relative": "f", "to-dir": "d", "d/up": "..",
        "self": "self", "ping": "pong", "pong": "ping", "out-file": "../outside/x", "out-dir": "../outside",
    }  # fmt: skip
    for name, target in links.items():
        os.symlink(target, src / name)
    return src


LINKS = 10


@pytest.mark.parametrize("way", ["upload", "local"])
def test_case_64_links_are_skipped(store: FakeS3, lab: Lab, tmp_path: Path, way: str) -> None:
    src = linked_tree(tmp_path)
    destination = DST if way == "upload" else tmp_path / "out"
    lab.sync(src, destination, server=store, copied=2, skipped=LINKS)
    held = store.dump("dst") if way == "upload" else read_tree(tmp_path / "out")
    assert_same({b"f": b"file", b"d/g": b"below"}, held)
    lab.sync(src, destination, server=store, equal=2, skipped=LINKS)


def test_case_64_links_are_copied_as_links(lab: Lab, tmp_path: Path) -> None:
    """Target texts unchanged, also those that are broken, absolute or lead outside; the second run does nothing."""
    src, out = linked_tree(tmp_path), tmp_path / "out"
    lab.sync(src, out, "--symlinks", "copy", copied=2 + LINKS)
    found = {name for name in names_below(out) if os.path.islink(os.path.join(os.fsencode(out), name))}
    assert len(names_below(out)) + 0 >= 2
    for directory, folders, files in os.walk(src):
        for name in folders + files:
            here = Path(directory) / name
            if here.is_symlink():
                assert os.readlink(out / here.relative_to(src)) == os.readlink(here)
    assert found
    lab.sync(src, out, "--symlinks", "copy", equal=2 + LINKS)
    assert (tmp_path / "outside" / "x").read_bytes() == b"outside"


def test_case_64_links_to_a_store_cannot_be_copied_as_links(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    src = linked_tree(tmp_path)
    lab.sync(src, DST, "--symlinks", "copy", server=store, code=2, error="between file systems", hint="skip or follow")


@pytest.mark.parametrize("way", ["upload", "local"])
def test_case_64_links_are_followed_and_loops_end(store: FakeS3, lab: Lab, tmp_path: Path, way: str) -> None:
    """What links lead to is copied; broken ones and links to themselves FAIL; a loop of directories ends."""
    src = linked_tree(tmp_path)
    destination = DST if way == "upload" else tmp_path / "out"
    failures = dict.fromkeys((b"broken", b"self", b"ping", b"pong"), "not_found")
    how = {"server": store, "code": 1, "failed": 4, "failures": failures, "timeout": 30}
    wanted = {
        b"f": b"file", b"d/g": b"below", b"absolute": b"file", b"relative": b"file", b"to-dir/g": b"below",
        b"out-file": b"outside", b"out-dir/x": b"outside",
    }  # fmt: skip
    lab.sync(src, destination, "--symlinks", "follow", copied=len(wanted), skipped=2, **how)
    held = store.dump("dst") if way == "upload" else read_tree(tmp_path / "out")
    assert_same(wanted, held)
    lab.sync(src, destination, "--symlinks", "follow", equal=len(wanted), skipped=2, **how)


# ---- 65, 66: links and holes -----------------------------------------------------------------------------------------


def test_case_65_hard_links_are_kept_between_file_systems(lab: Lab, tmp_path: Path) -> None:
    src, out = tmp_path / "in", tmp_path / "out"
    write_tree(src, {b"a/one": content(b"h", BIG), b"b/small": b"s", b"single": b"1"})
    os.link(src / "a" / "one", src / "b" / "two")
    os.link(src / "a" / "one", src / "z")
    os.link(src / "b" / "small", src / "c")
    lab.sync(src, out, copied=6)
    assert_same(read_tree(src), read_tree(out))
    assert {os.stat(out / name).st_ino for name in ("a/one", "b/two", "z")} == {os.stat(out / "z").st_ino}
    assert os.stat(out / "z").st_nlink == 3 and os.stat(out / "c").st_nlink == 2
    assert os.stat(out / "single").st_nlink == 1
    lab.sync(src, out, equal=6)


def test_case_65_hard_links_across_a_resume(lab: Lab, tmp_path: Path) -> None:
    src, out = tmp_path / "in", tmp_path / "out"
    write_tree(src, {b"a%02d" % n: b"first %d" % n for n in range(20)})
    for number in range(20):
        os.link(src / f"a{number:02}", src / f"z{number:02}")
    machine = {"kill": {"call": "rename", "nth": 25}}
    with lab.begin("sync", src, out, "--processes", "1", machine=machine) as run:
        assert run.wait().code == -9
    done = lab.sync(src, out, "--processes", "1", copied=..., equal=...)
    assert done.report["resumed"]
    assert_same(read_tree(src), read_tree(out))
    assert all(os.stat(out / f"a{n:02}").st_ino == os.stat(out / f"z{n:02}").st_ino for n in range(20))


def test_case_65_hard_links_to_a_store_are_objects_of_their_own(store: FakeS3, lab: Lab, tmp_path: Path) -> None:
    write_tree(tmp_path / "in", {b"one": b"same"})
    os.link(tmp_path / "in" / "one", tmp_path / "in" / "two")
    lab.sync(tmp_path / "in", DST, server=store, copied=2)
    assert_same({b"one": b"same", b"two": b"same"}, store.dump("dst"))


def test_case_66_holes_are_kept_and_cost_nothing(lab: Lab, tmp_path: Path) -> None:
    """1 TiB with 1 MiB of data (as large as this file system allows): time and room are those of the data."""
    src, out = tmp_path / "in", tmp_path / "out"
    src.mkdir()
    size = 1 << 40
    data = content(b"hole", 1 << 19)
    fd = os.open(src / "sparse", os.O_RDWR | os.O_CREAT)
    try:
        while size > 1 << 30:
            try:
                os.ftruncate(fd, size)
                break
            except OSError:
                size >>= 1
        places = (1 << 20, size - (1 << 21))
        for place in places:
            os.pwrite(fd, data, place)
    finally:
        os.close(fd)
    if os.stat(src / "sparse").st_blocks * 512 > 64 << 20:
        pytest.skip("this file system keeps no holes")
    began = time.monotonic()
    done = lab.sync(src, out, copied=1)
    assert time.monotonic() - began < 20
    assert done.report["copied"]["bytes"] == size
    about = os.stat(out / "sparse")
    assert about.st_size == size and about.st_blocks * 512 < 64 << 20
    fd = os.open(out / "sparse", os.O_RDONLY)
    try:
        assert all(os.pread(fd, len(data), place) == data for place in places)
        assert os.pread(fd, 4096, size // 2) == bytes(4096)
    finally:
        os.close(fd)
    lab.sync(src, out, equal=1)


# ---- 67: attributes --------------------------------------------------------------------------------------------------


def test_case_67_modes_times_and_read_only_directories(lab: Lab, tmp_path: Path) -> None:
    """Directories get their modes and times last; a read-only one can be filled; nobody's set-id bits pass on."""
    src, out = tmp_path / "in", tmp_path / "out"
    write_tree(src, {b"ro/f": b"1", b"ro/deep/g": b"2", b"s/h": b"3", b"w": b"4"})
    os.chmod(src / "ro" / "f", 0o444)
    os.chmod(src / "s" / "h", 0o755)
    os.chmod(src / "w", 0o4755)
    then = 1_500_000_000_123_456_789
    for name in ("ro/deep", "ro", "s"):
        os.utime(src / name, ns=(then, then))
    os.chmod(src / "ro" / "deep", 0o500)
    os.chmod(src / "ro", 0o555)
    try:
        how = {"machine": {"ordinary": True}}
        lab.sync(src, out, copied=4, **how)
        assert_same(read_tree(src), read_tree(out))
        for name, mode in (("ro", 0o555), ("ro/deep", 0o500), ("ro/f", 0o444), ("s/h", 0o755), ("w", 0o755)):
            assert stat.S_IMODE(os.stat(out / name).st_mode) == mode, name
        for name in ("ro", "ro/deep", "s"):
            assert os.stat(out / name).st_mtime_ns == then, name
        lab.sync(src, out, equal=4, **how)
        assert os.stat(out / "ro").st_mtime_ns == then
    finally:
        for place in (src, out):
            for name in ("ro", "ro/deep"):
                if (place / name).exists():
                    os.chmod(place / name, 0o755)


def test_case_67_owner_then_mode_then_times(lab: Lab, tmp_path: Path) -> None:
    """chown clears set-id bits and chmod does not touch times: so in this order."""
    src, out = tmp_path / "in", tmp_path / "out"
    write_tree(src, {b"f": b"1", b"big": content(b"b", BIG)})
    for name in ("f", "big"):
        os.chmod(src / name, 0o6755)
        os.utime(src / name, ns=(10**18, 10**18 + 7))
    log = tmp_path / "calls"
    keep = ("--preserve", "mtime,mode,owner,xattr")
    lab.sync(src, out, *keep, machine={"record": str(log)}, copied=2)
    for name in ("f", "big"):
        about = os.stat(out / name)
        assert stat.S_IMODE(about.st_mode) == 0o6755
        assert about.st_mtime_ns == 10**18 + 7
    calls = [line.split(" ", 1)[0] for line in log.read_text().splitlines()]
    order = [call for call in calls if call in {"fchown", "fchmod", "utime", "rename"}]
    first = order[: order.index("rename")]
    assert first.index("fchown") < first.index("fchmod") < first.index("utime")


def test_case_67_extended_attributes_and_what_cannot_be_set(lab: Lab, tmp_path: Path) -> None:
    """Attributes that the destination refuses are a warning, not a failure."""
    src, out = tmp_path / "in", tmp_path / "out"
    write_tree(src, {b"f": b"1"})
    try:
        os.setxattr(src / "f", "user.note", b"x" * 1000)
    except OSError:
        pytest.skip("no extended attributes here")
    keep = ("--preserve", "mtime,mode,xattr")
    lab.sync(src, out, *keep, copied=1)
    assert os.getxattr(out / "f", "user.note") == b"x" * 1000
    refuse = {"errors": [{"call": "setxattr", "name": ".", "errno": "ENOSPC"}]}
    done = lab.run("sync", src, tmp_path / "other", *keep, machine=refuse)
    assert done.code == 0, done.text
    assert "warning" in done.out and "attribute" in done.out, done.text
    assert_same({b"f": b"1"}, read_tree(tmp_path / "other"))
    assert temporary_files(tmp_path / "other") == []
