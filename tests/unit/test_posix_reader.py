"""Reading pinned to the listing: changed, vanished and odd files (cases 34, 35, 63)."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from posix_parts import as_nobody, fill, open_directory

from entrepot.model.entry import Row
from entrepot.model.errors import ChangedError, ForbiddenError, VanishedError
from entrepot.storage.posix import reader as reader_module
from entrepot.storage.posix.reader import SourceFile, attributes, read_small, read_whole
from entrepot.storage.posix.root import Root
from entrepot.storage.posix.walk import walk


def listed(root: bytes, key: bytes) -> Row:
    return next(row for page in walk(root) for row in page.rows if row[0] == key)


@pytest.mark.parametrize("size", [0, 1, 4096, 100_000, 300_000])
def test_whole_files(tmp_path: Path, size: int) -> None:
    base = os.fsencode(tmp_path)
    data = os.urandom(size)
    fill(base, {b"d/f": data})
    row = listed(base, b"d/f")
    with Root(base) as root:
        assert read_small(root, b"d/f", row[2], row[1]) == (data, row[1])
        assert read_small(root, b"d/f", size) == (data, row[1])
        with SourceFile(root, b"d/f", row) as file:
            assert (file.size, file.mtime_ns) == (size, row[1])
            file.recheck()
            file.recheck(row)


def change_file(path: bytes, change: str) -> None:
    if change == "grown":
        with open(path, "ab") as file:
            file.write(b"more")
    elif change in ("shrunk", "emptied"):
        os.truncate(path, 5 if change == "shrunk" else 0)
    elif change == "rewritten":
        with open(path, "wb") as file:
            file.write(b"b" * 1000)
        os.utime(path, ns=(1, 1))
    elif change == "replaced":
        with open(path + b"2", "wb") as file:
            file.write(b"c" * 999)
        os.rename(path + b"2", path)
    elif change == "link":
        os.rename(path, path + b"2")
        os.symlink(path + b"2", path)
    else:
        os.unlink(path)
        (os.mkdir if change == "directory" else os.mkfifo)(path)


CHANGES = ["grown", "shrunk", "emptied", "rewritten", "replaced", "directory", "fifo", "link"]


@pytest.mark.parametrize("change", CHANGES)
def test_case_34_a_file_that_changed_since_it_was_listed(tmp_path: Path, change: str) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"f": b"a" * 1000})
    row = listed(base, b"f")
    change_file(base + b"/f", change)
    with Root(base) as root:
        with pytest.raises(ChangedError) as caught:
            read_small(root, b"f", row[2], row[1])
        assert caught.value.failure == "changed"
        assert "f:" in caught.value.message
        with pytest.raises(ChangedError):
            SourceFile(root, b"f", row)


@pytest.mark.parametrize("change", ["grown", "shrunk", "emptied", "rewritten"])
def test_case_34_a_file_that_changes_while_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"f": b"a" * 1000})
    row = listed(base, b"f")
    real = os.read

    def read(fd: int, count: int) -> bytes:
        data = real(fd, count)
        monkeypatch.setattr(reader_module.os, "read", real)
        change_file(base + b"/f", change)
        return data

    with Root(base) as root:
        monkeypatch.setattr(reader_module.os, "read", read)
        with pytest.raises(ChangedError):
            read_small(root, b"f", row[2], row[1])
        row = listed(base, b"f")
        with SourceFile(root, b"f", row) as file:
            change_file(base + b"/f", "grown")
            with pytest.raises(ChangedError):
                file.recheck()
            with pytest.raises(ChangedError):
                file.recheck(row)


def test_a_time_set_back_is_seen_by_the_change_time(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"f": b"a" * 1000})
    row = next(row for page in walk(base, changed=True) for row in page.rows)
    with Root(base) as root:
        read_small(root, b"f", row[2], row[1])
        state = os.stat(base + b"/f")
        fill(base, {b"f": b"b" * 1000})
        os.utime(base + b"/f", ns=(state.st_atime_ns, state.st_mtime_ns))
        assert read_small(root, b"f", 1000, state.st_mtime_ns)[0] == b"b" * 1000
        with pytest.raises(ChangedError):
            read_small(root, b"f", row[2], row[1])


def test_case_35_a_file_that_vanished(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"d/f": b"", b"e/f": b""})
    with Root(base) as root:
        os.close(root.open_read(b"d/f"))
        os.unlink(base + b"/d/f")
        for key in (b"d/f", b"none/f", b"e/f/g"):
            with pytest.raises(VanishedError) as caught:
                read_small(root, key, 0)
            assert caught.value.failure == "vanished"
            with pytest.raises(VanishedError):
                SourceFile(root, key)


def test_a_forbidden_file() -> None:
    with open_directory() as base:
        fill(base, {b"f": b"x"})
        os.chmod(base + b"/f", 0)

        def look() -> bool:
            with Root(base) as root, pytest.raises(ForbiddenError):
                read_small(root, b"f", 1)
            return True

        assert as_nobody(look)


def test_short_reads_are_continued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = os.fsencode(tmp_path)
    data = os.urandom(5000)
    fill(base, {b"f": data})
    real = os.read
    monkeypatch.setattr(reader_module.os, "read", lambda fd, count: real(fd, min(count, 700)))
    with Root(base) as root:
        assert read_small(root, b"f", 5000)[0] == data
        for wrong in (4999, 5001):
            with pytest.raises(ChangedError):
                read_small(root, b"f", wrong)


def test_case_63_files_of_proc_that_claim_to_be_empty() -> None:
    with Root(b"/proc/self") as root, pytest.raises(ChangedError):
        read_small(root, b"status", 0)


def test_descriptors_are_closed_on_errors(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"f": b"x"})
    before = len(os.listdir("/proc/self/fd"))
    with Root(base) as root:
        for _ in range(5):
            with pytest.raises(ChangedError):
                read_small(root, b"f", 7)
            with pytest.raises(ChangedError):
                SourceFile(root, b"f", (b"f", 1, 7))
    assert len(os.listdir("/proc/self/fd")) == before


def test_attributes(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"f": b"x"})
    os.chmod(base + b"/f", 0o640)
    os.setxattr(base + b"/f", b"user.colour", b"blue\0")
    with Root(base) as root, SourceFile(root, b"f") as file:
        found = attributes(file.fd)
        assert (found.mode, found.uid, found.gid) == (0o640, os.geteuid(), os.getegid())
        assert found.xattrs["user.colour"] == b"blue\0"
        assert attributes(file.fd, xattrs=False).xattrs == {}
        assert file.mode == 0o640


def test_read_whole_gives_the_state_too(tmp_path: Path) -> None:
    base = os.fsencode(tmp_path)
    fill(base, {b"f": b"x"})
    with Root(base) as root:
        data, state = read_whole(root, b"f", 1)
    assert (data, state.st_ino) == (b"x", os.stat(base + b"/f").st_ino)
