"""File system to file system: content, holes, links, attributes, and sources that move (34, 64 to 67)."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from posix_parts import as_nobody, files_of, fill, open_directory

from entrepot.model.entry import Row
from entrepot.model.errors import ChangedError, StoreError, VanishedError
from entrepot.storage.posix import content as content_module
from entrepot.storage.posix.attributes import copy_link, finish_directories, make_directory
from entrepot.storage.posix.copy import SMALL, copy_file
from entrepot.storage.posix.links import Links
from entrepot.storage.posix.root import Root
from entrepot.storage.posix.staging import Staging
from entrepot.storage.posix.walk import walk

ALL = frozenset({"mtime", "mode", "owner", "xattr"})


class Pair:
    """A source and a destination, opened."""

    def __init__(self, base: bytes) -> None:
        self.source, self.target = base + b"/s", base + b"/d"
        os.mkdir(self.source)
        self.root = Root(self.source)
        self.staging = Staging(Root(self.target, True), "t")

    def row(self, key: bytes) -> Row:
        state = os.stat(os.path.join(self.source, key))
        return key, state.st_mtime_ns, state.st_size

    def copy(self, key: bytes, **options: object) -> int:
        return copy_file(self.root, self.staging, key, self.row(key), **options)  # type: ignore[arg-type]

    def stat(self, key: bytes) -> os.stat_result:
        return os.lstat(os.path.join(self.target, key))

    def close(self) -> None:
        self.staging.close(remove=True)
        self.staging.root.close()
        self.root.close()


@pytest.fixture
def pair(tmp_path: Path) -> Iterator[Pair]:
    pair = Pair(os.fsencode(tmp_path))
    yield pair
    pair.close()
    assert not [name for name in os.listdir(pair.target) if name.startswith(b".entrepot")]


SIZES = [0, 1, 4096, SMALL - 1, SMALL, SMALL + 1, 5_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_content_time_and_mode(pair: Pair, size: int) -> None:
    data = os.urandom(size)
    fill(pair.source, {b"a/f": data})
    os.chmod(pair.source + b"/a/f", 0o640)
    os.utime(pair.source + b"/a/f", ns=(1, 1_234_567_890_123_456_789))
    assert pair.copy(b"a/f") == size
    assert files_of(pair.target) == {b"a/f": data}
    state = pair.stat(b"a/f")
    assert stat.S_IMODE(state.st_mode) == 0o640
    assert state.st_mtime_ns == pair.row(b"a/f")[1]
    pair.copy(b"a/f", preserve=())
    assert pair.stat(b"a/f").st_mtime_ns != state.st_mtime_ns


@pytest.mark.parametrize("broken", [["copy_file_range"], ["copy_file_range", "sendfile"]])
@pytest.mark.parametrize("code", [errno.EXDEV, errno.EINVAL, errno.EOPNOTSUPP])
def test_every_way_to_copy_gives_the_same(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, broken: list[str], code: int
) -> None:
    data = os.urandom(3_000_001)
    fill(pair.source, {b"f": data})

    def refuse(*_: object) -> int:
        raise OSError(code, os.strerror(code))

    for name in broken:
        monkeypatch.setattr(content_module.os, name, refuse)
    seen: list[int] = []
    pair.copy(b"f", progress=seen.append)
    assert files_of(pair.target) == {b"f": data}
    assert sum(seen) == len(data)


def test_case_66_a_large_sparse_file_keeps_its_holes(pair: Pair) -> None:
    size = 1 << 40
    path = pair.source + b"/sparse"
    with open(path, "wb") as file:
        file.truncate(size)
        for offset in (0, size // 2, size - (1 << 18)):
            file.seek(offset)
            file.write(os.urandom(1 << 18))
    began = time.monotonic()
    pair.copy(b"sparse")
    assert time.monotonic() - began < 5
    state = pair.stat(b"sparse")
    assert state.st_size == size
    assert state.st_blocks * 512 < 8 << 20
    with open(path, "rb") as a, open(pair.target + b"/sparse", "rb") as b:
        for offset in (0, 1 << 18, size // 2, size - (1 << 18)):
            a.seek(offset)
            b.seek(offset)
            assert a.read(1 << 18) == b.read(1 << 18)


def test_a_file_that_is_one_hole(pair: Pair) -> None:
    with open(pair.source + b"/hole", "wb") as file:
        file.truncate(10 << 20)
    pair.copy(b"hole")
    assert pair.stat(b"hole").st_size == 10 << 20
    assert pair.stat(b"hole").st_blocks == 0


@pytest.mark.parametrize("change", ["grow", "shrink", "empty", "rewrite"])
@pytest.mark.parametrize("size", [1000, 200 << 20])
def test_case_34_a_source_that_changes_during_the_copy(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, change: str, size: int
) -> None:
    path = pair.source + b"/f"
    with open(path, "wb") as file:
        file.write(b"x" * min(size, 1 << 20))
        file.truncate(size)
        file.seek(size - 100)
        file.write(b"end")
    fill(pair.target, {b"f": b"old"})

    def disturb(*_: object) -> None:
        if change == "grow":
            with open(path, "ab") as file:
                file.write(b"more")
        elif change == "rewrite":
            with open(path, "r+b") as file:
                file.write(b"y")
        else:
            os.truncate(path, 500 if change == "shrink" else 0)

    if size > SMALL:
        row = pair.row(b"f")
        with pytest.raises(ChangedError):
            copy_file(pair.root, pair.staging, b"f", row, progress=disturb)
    else:
        row = pair.row(b"f")
        disturb()
        with pytest.raises(ChangedError):
            copy_file(pair.root, pair.staging, b"f", row)
    assert files_of(pair.target) == {b"f": b"old"}


def test_case_35_a_source_that_vanished(pair: Pair) -> None:
    fill(pair.source, {b"f": b"x", b"g": b"y" * (SMALL + 1)})
    fill(pair.target, {b"f": b"old", b"g": b"old"})
    for key in (b"f", b"g"):
        row = pair.row(key)
        os.unlink(os.path.join(pair.source, key))
        with pytest.raises(VanishedError):
            copy_file(pair.root, pair.staging, key, row)
    assert files_of(pair.target) == {b"f": b"old", b"g": b"old"}


def test_giving_up_in_the_middle_leaves_nothing(pair: Pair) -> None:
    fill(pair.source, {b"f": b"x" * (SMALL + 1)})

    def stop(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair.copy(b"f", progress=stop)
    assert files_of(pair.target) == {}


def test_no_space_in_the_middle(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(pair.source, {b"f": b"x" * (SMALL + 1)})

    def full(*_: object) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(content_module.os, "copy_file_range", full)
    with pytest.raises(StoreError) as caught:
        pair.copy(b"f")
    assert caught.value.failure == "quota"
    assert files_of(pair.target) == {}


@pytest.mark.parametrize("size", [10, SMALL + 10])
def test_case_65_hard_links_stay_hard_links(pair: Pair, size: int) -> None:
    data = os.urandom(size)
    fill(pair.source, {b"a": data, b"d/": b"", b"single": b"s"})
    os.link(pair.source + b"/a", pair.source + b"/d/b")
    os.link(pair.source + b"/a", pair.source + b"/z")
    links = Links(pair.staging, "task")
    assert [pair.copy(key, links=links) for key in (b"a", b"d/b")] == [size, 0]
    links.close(remove=False)
    # Resumed by another process.
    again = Links(pair.staging, "task")
    assert pair.copy(b"z", links=again) == 0
    assert pair.copy(b"z", links=again) == 0
    assert pair.copy(b"single", links=again) == 1
    again.close(remove=True)
    assert len({pair.stat(key).st_ino for key in (b"a", b"d/b", b"z")}) == 1
    assert (pair.stat(b"a").st_nlink, pair.stat(b"single").st_nlink) == (3, 1)
    assert files_of(pair.target) == {b"a": data, b"d/b": data, b"z": data, b"single": b"s"}


def test_case_65_a_new_version_is_not_linked_to_the_old(pair: Pair) -> None:
    fill(pair.source, {b"a": b"one"})
    os.link(pair.source + b"/a", pair.source + b"/b")
    links = Links(pair.staging, "task")
    pair.copy(b"a", links=links)
    with open(pair.source + b"/a", "wb") as file:
        file.write(b"two")
    os.utime(pair.source + b"/a", ns=(7, 7))
    pair.copy(b"b", links=links)
    pair.copy(b"a", links=links)
    links.close(remove=True)
    assert files_of(pair.target) == {b"a": b"two", b"b": b"two"}
    assert pair.stat(b"a").st_ino == pair.stat(b"b").st_ino


def test_case_65_where_links_are_not_possible_files_are_copied(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(pair.source, {b"a": b"one"})
    os.link(pair.source + b"/a", pair.source + b"/b")

    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    links = Links(pair.staging, "task")
    assert [pair.copy(key, links=links) for key in (b"a", b"b")] == [3, 3]
    links.close(remove=True)
    assert files_of(pair.target) == {b"a": b"one", b"b": b"one"}


@pytest.mark.parametrize("target", [b"nowhere", b"/etc/passwd", b"../../..", b"loop", b"d", b"\xff n"])
def test_case_64_links_are_copied_as_they_are(pair: Pair, target: bytes) -> None:
    os.symlink(target, pair.source + b"/loop")
    os.utime(pair.source + b"/loop", ns=(3, 3), follow_symlinks=False)
    assert copy_link(pair.root, pair.staging, b"loop", ALL)
    assert os.readlink(pair.target + b"/loop") == target
    assert pair.stat(b"loop").st_mtime_ns == 3
    assert not copy_link(pair.root, pair.staging, b"loop", ALL)
    fill(pair.target, {b"sub/loop": b"a file"})
    os.mkdir(pair.source + b"/sub")
    os.symlink(target, pair.source + b"/sub/loop")
    assert copy_link(pair.root, pair.staging, b"sub/loop")
    assert os.readlink(pair.target + b"/sub/loop") == target


def test_links_that_are_none(pair: Pair) -> None:
    fill(pair.source, {b"f": b""})
    with pytest.raises(ChangedError):
        copy_link(pair.root, pair.staging, b"f")
    with pytest.raises(VanishedError):
        copy_link(pair.root, pair.staging, b"none")


@pytest.mark.parametrize("size", [10, SMALL + 10])
def test_case_67_owner_mode_xattrs_and_times(pair: Pair, size: int) -> None:
    fill(pair.source, {b"f": b"x" * size})
    path = pair.source + b"/f"
    os.setxattr(path, b"user.k", b"v\0w")
    if os.geteuid() == 0:
        os.chown(path, 4321, 5432)
    os.chmod(path, 0o6750)
    os.utime(path, ns=(9, 9))
    pair.copy(b"f", preserve=ALL)
    a, b = os.stat(path), pair.stat(b"f")
    assert (a.st_uid, a.st_gid, a.st_mode, a.st_mtime_ns) == (b.st_uid, b.st_gid, b.st_mode, b.st_mtime_ns)
    assert os.getxattr(pair.target + b"/f", b"user.k") == b"v\0w"
    pair.copy(b"f")
    assert stat.S_IMODE(pair.stat(b"f").st_mode) == 0o750


def test_case_67_directories_get_mode_and_times_last(pair: Pair) -> None:
    fill(pair.source, {b"ro/sub/f": b"x", b"empty/": b""})
    for number, name in enumerate((b"ro/sub", b"ro", b"empty")):
        os.setxattr(pair.source + b"/" + name, b"user.k", b"%d" % number)
        os.utime(pair.source + b"/" + name, ns=(number, number))
        os.chmod(pair.source + b"/" + name, 0o555 if number < 2 else 0o1770)
    keys = [s.key for page in walk(pair.source, directories=True) for s in page.specials]
    assert sorted(keys) == [b"empty/", b"ro/", b"ro/sub/"]
    assert make_directory(pair.staging.root, b"empty/")
    assert not make_directory(pair.staging.root, b"empty")
    pair.copy(b"ro/sub/f")
    assert finish_directories(pair.root, pair.staging.root, keys, ALL) == []
    for number, name in enumerate((b"ro/sub", b"ro", b"empty")):
        state = pair.stat(name)
        assert state.st_mtime_ns == number
        assert stat.S_IMODE(state.st_mode) == (0o555 if number < 2 else 0o1770)
        assert os.getxattr(pair.target + b"/" + name, b"user.k") == b"%d" % number
    faults = finish_directories(pair.root, pair.staging.root, [b"none/", b"ro/"], ALL)
    assert [fault.failure for fault in faults] == ["vanished"]


def test_case_67_without_privileges_attributes_are_warnings() -> None:
    with open_directory() as base:
        pair = Pair(base)
        fill(pair.source, {b"f": b"x", b"big": b"y" * (SMALL + 1)})
        os.chmod(pair.source + b"/f", 0o4755)
        os.chmod(pair.target, 0o777)

        def attempt() -> tuple[int, list[int]]:
            mine = Staging(Root(pair.target), "u")
            for key in (b"f", b"big"):
                copy_file(pair.root, mine, key, pair.row(key), preserve=ALL)
            mine.close(remove=True)
            return mine.warnings, [stat.S_IMODE(pair.stat(key).st_mode) for key in (b"f", b"big")]

        warnings, modes = as_nobody(attempt)
        assert modes[0] == (0o755 if os.geteuid() == 0 else 0o4755)
        assert warnings == (2 if os.geteuid() == 0 else 0)
        assert files_of(pair.target) == files_of(pair.source)
        pair.close()


def test_case_18_and_19_odd_names_travel_byte_for_byte(pair: Pair) -> None:
    names = [
        b"\xff\xfe",
        b"caf\xe9/x",
        b"a\nb",
        b"\x01",
        b" ",
        b"%2F",
        b"-rf",
        "日本".encode(),
        b"e\xcc\x81",
        "é".encode(),
    ]
    fill(pair.source, {name: name for name in names})
    for page in walk(pair.source):
        for row in page.rows:
            copy_file(pair.root, pair.staging, row[0], row)
    assert files_of(pair.target) == files_of(pair.source)
    assert [r for p in walk(pair.target) for r in p.rows] == [r for p in walk(pair.source) for r in p.rows]
