"""Walking trees in key order: order, ranges, specials, faults, very large and very deep directories."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posix_parts import as_nobody, files_of, fill, open_directory

from entrepot.model.entry import Page, Row
from entrepot.model.errors import ForbiddenError, NotFoundError
from entrepot.storage.posix import scan as scan_module
from entrepot.storage.posix import walk as walk_module
from entrepot.storage.posix.names import to_path
from entrepot.storage.posix.walk import walk


def pages_of(root: bytes | int, **options: object) -> list[Page]:
    pages = list(walk(root, **options))  # type: ignore[arg-type]
    assert pages[-1].last
    assert not any(page.last for page in pages[:-1])
    return pages


def rows_of(root: bytes | int, **options: object) -> list[Row]:
    return [row for page in pages_of(root, **options) for row in page.rows]


def keys_of(root: bytes | int, **options: object) -> list[bytes]:
    return [row[0] for row in rows_of(root, **options)]


def specials_of(root: bytes, **options: object) -> set[tuple[bytes, str, bytes]]:
    return {(s.key, s.kind, s.target) for page in pages_of(root, **options) for s in page.specials}


def problems_of(root: bytes | int, **options: object) -> list[tuple[bytes, str]]:
    return [(p.prefix, p.failure) for page in pages_of(root, **options) for p in page.problems]


names = st.one_of(
    st.text("a-./0\n", min_size=1, max_size=3).map(str.encode),
    st.sampled_from([b"a", b"a-b", b"a0", b"a!", b"\xff", b"\xff\xff", "é".encode(), "\uffee".encode(), "😀".encode()]),
    st.binary(min_size=1, max_size=2),
).filter(lambda name: not {b"/", b"\0"} & {name[i : i + 1] for i in range(len(name))} and name not in (b".", b".."))
paths = st.lists(names, min_size=1, max_size=4).map(b"/".join)
trees = st.lists(paths, max_size=25)


@contextlib.contextmanager
def tree_of(paths: list[bytes]) -> Iterator[bytes]:
    """A tree with those paths that do not collide with earlier ones."""
    with tempfile.TemporaryDirectory() as directory:
        root = os.fsencode(directory)
        for number, path in enumerate(paths):
            with contextlib.suppress(OSError):
                fill(root, {path: b"x" * number})
        yield root


def test_case_14_a_directory_sorts_as_if_its_name_ended_in_a_slash(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    fill(
        root, {b"a-b": b"", b"a/b": b"", b"a/": b"", b"a0": b"", b"a!": b"", b"a/c/d": b"", b"a/c!": b"", b"a.txt": b""}
    )
    assert keys_of(root) == [b"a!", b"a-b", b"a.txt", b"a/b", b"a/c!", b"a/c/d", b"a0"]


def test_case_15_names_sort_by_bytes_not_by_utf_16(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    expected = sorted(["\uffee".encode(), "😀".encode(), b"\xff", "é".encode(), b"z"])
    fill(root, dict.fromkeys(expected, b""))
    assert keys_of(root) == expected


def test_case_16_and_18_names_are_kept_byte_for_byte(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    expected = sorted(["é".encode(), b"e\xcc\x81", b"\xe9", b"a\nb", b"a\tb", b" a ", b"a\\b", b"%2F"])
    fill(root, dict.fromkeys(expected, b"1"))
    assert keys_of(root) == expected


@settings(max_examples=60, deadline=None)
@given(trees, st.integers(1, 7))
def test_a_walk_equals_the_sorted_files(paths: list[bytes], rows: int) -> None:
    with tree_of(paths) as root:
        files = files_of(root)
        got = rows_of(root, rows=rows)
        assert [row[0] for row in got] == sorted(files)
        for key, mtime, size in got:
            state = os.stat(os.path.join(root, key))
            assert (mtime, size) == (state.st_mtime_ns, state.st_size) == (mtime, len(files[key]))
        assert all(len(page.rows) <= rows for page in pages_of(root, rows=rows))


@settings(max_examples=60, deadline=None)
@given(
    trees, st.lists(st.one_of(paths, paths.map(lambda p: p + b"/"), st.binary(max_size=3)), max_size=4), st.booleans()
)
def test_ranges_partition_a_tree(paths: list[bytes], cuts: list[bytes], directories: bool) -> None:
    bounds = [b"", *sorted(set(cuts) - {b""}), None]
    with tree_of(paths) as root:
        whole = pages_of(root, directories=directories)
        parts = [
            page
            for low, high in itertools.pairwise(bounds)
            for page in pages_of(root, after=low or b"", until=high, directories=directories)
        ]
        assert [r for p in parts for r in p.rows] == [r for p in whole for r in p.rows]
        special_keys = sorted(s.key for p in whole for s in p.specials)
        assert sorted(s.key for p in parts for s in p.specials) == special_keys
        if directories:
            found = {
                os.path.relpath(os.path.join(where, name), root) + b"/"
                for where, names, _ in os.walk(root)
                for name in names
            }
            assert set(special_keys) == found


@settings(max_examples=40, deadline=None)
@given(trees, st.integers(1, 4))
def test_spilled_directories_give_the_same(paths: list[bytes], limit: int) -> None:
    with tree_of(paths) as root:
        expected = rows_of(root)
        before, scan_module.SPILL = scan_module.SPILL, limit
        try:
            assert rows_of(root) == expected
            assert rows_of(root, rows=2) == expected
            cut = expected[len(expected) // 2][0] if expected else b"x"
            assert rows_of(root, until=cut) + rows_of(root, after=cut) == expected
        finally:
            scan_module.SPILL = before


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.lists(st.one_of(names, st.sampled_from([b"", b".", b".."])), min_size=1, max_size=4).map(b"/".join),
        max_size=20,
    )
)
def test_escaped_names_come_in_the_order_of_their_keys(keys: list[bytes]) -> None:
    written = set()
    with tempfile.TemporaryDirectory() as directory:
        root = os.fsencode(directory)
        for key in filter(None, keys):
            with contextlib.suppress(OSError):
                fill(root, {to_path(key, True): b""})
                written.add(key)
        assert keys_of(root, escape=True) == sorted(written)
        cut = sorted(written)[len(written) // 2] if written else b"x"
        assert keys_of(root, escape=True, until=cut) + keys_of(root, escape=True, after=cut) == sorted(written)


def test_the_range_is_half_open(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    fill(root, {b"a": b"", b"b": b"", b"c": b""})
    assert keys_of(root, after=b"a", until=b"b") == [b"b"]


def test_files_outside_the_range_are_not_looked_at(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = os.fsencode(tmp_path)
    fill(root, {b"d/%03d" % n: b"" for n in range(200)} | {b"e/%03d" % n: b"" for n in range(200)})
    looked = []
    real = os.stat
    monkeypatch.setattr(scan_module.os, "stat", lambda name, **kw: looked.append(name) or real(name, **kw))
    assert keys_of(root, after=b"d/100", until=b"d/102") == [b"d/101", b"d/102"]
    assert len(looked) == 3


def test_case_13_large_directory_is_lazy_and_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "SPILL", 500)
    root = os.fsencode(tmp_path)
    fill(root, {b"big/%05d" % n: b"" for n in range(3000)} | {b"zz": b""})
    fill(root, {b"big/00999-dir/x": b"", b"big/00999-dir/y": b""})
    looked = []
    real = os.stat
    monkeypatch.setattr(scan_module.os, "stat", lambda name, **kw: looked.append(name) or real(name, **kw))
    walking = walk(root, rows=100)
    first = next(walking)
    assert len(first.rows) == 100
    assert len(looked) == 100
    rows = [row[0] for page in [first, *walking] for row in page.rows]
    assert rows == sorted([b"big/%05d" % n for n in range(3000)] + [b"big/00999-dir/x", b"big/00999-dir/y", b"zz"])


def test_a_file_that_became_a_directory_behind_a_large_listing_is_a_problem(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scan_module, "SPILL", 10)
    root = os.fsencode(tmp_path)
    fill(root, {b"%02d" % n: b"" for n in range(30)})
    walking = walk(root, rows=5)
    pages = [next(walking)]
    os.unlink(root + b"/20")
    os.mkdir(root + b"/20")
    os.unlink(root + b"/25")
    pages += walking
    assert [row[0] for page in pages for row in page.rows] == [b"%02d" % n for n in range(30) if n not in (20, 25)]
    assert [(p.prefix, p.failure) for page in pages for p in page.problems] == [(b"20", "vanished")]


def test_descriptors_and_temporary_files_are_given_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan_module, "SPILL", 10)
    root = os.fsencode(tmp_path)
    fill(root, {b"d/%02d" % n: b"" for n in range(30)})
    before = len(os.listdir("/proc/self/fd"))
    walking = walk(root, rows=5)
    next(walking)
    walking.close()  # type: ignore[attr-defined]
    keys_of(root)
    assert len(os.listdir("/proc/self/fd")) == before


def test_very_deep_trees(tmp_path: Path) -> None:
    fd = os.open(tmp_path, os.O_RDONLY)
    depth = 4096
    for _ in range(depth):
        os.mkdir(b"dd", dir_fd=fd)
        below = os.open(b"dd", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open(b"leaf", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    try:
        before = len(os.listdir("/proc/self/fd"))
        pages = walk(os.fsencode(tmp_path))
        keys = [row[0] for page in pages for row in page.rows]
        assert keys == [b"dd/" * depth + b"leaf"]
        assert len(os.listdir("/proc/self/fd")) <= before
    finally:
        subprocess.run(["rm", "-rf", tmp_path / "dd"], check=True)


def test_case_10_an_unreadable_directory_is_a_problem_and_the_rest_is_done() -> None:
    with open_directory() as root:
        fill(root, {b"a": b"", b"no/x": b"", b"no-enter/x": b"", b"no0": b"", b"z/y": b""})
        os.chmod(root + b"/no", 0)
        os.chmod(root + b"/no-enter", 0o444)
        rows, problems = as_nobody(lambda: (keys_of(root), problems_of(root)))
        assert rows == [b"a", b"no0", b"z/y"]
        assert problems == [(b"no-enter/", "forbidden"), (b"no/", "forbidden")]
        limited = as_nobody(lambda: problems_of(root, after=b"no/w", until=b"no/y"))
        assert limited == [(b"no/", "forbidden")]


def test_an_unreadable_or_missing_root_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        next(walk(os.fsencode(tmp_path / "nothing")))
    (tmp_path / "file").touch()
    with pytest.raises(NotFoundError):
        next(walk(os.fsencode(tmp_path / "file")))
    with open_directory() as root:
        os.chmod(root, 0)

        def look() -> bool:
            with pytest.raises(ForbiddenError):
                next(walk(root))
            return True

        assert as_nobody(look)


@pytest.mark.parametrize(("code", "failure"), [(5, "internal"), (116, "internal"), (110, "timeout"), (13, "forbidden")])
def test_case_10_errors_of_the_file_system_while_listing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int, failure: str
) -> None:
    root = os.fsencode(tmp_path)
    fill(root, {b"a/1": b"", b"bad/1": b"", b"c/1": b""})
    inode = os.stat(root + b"/bad").st_ino
    real = os.scandir

    def scandir(fd: int) -> object:
        if os.fstat(fd).st_ino == inode:
            raise OSError(code, os.strerror(code))
        return real(fd)

    monkeypatch.setattr(scan_module.os, "scandir", scandir)
    assert keys_of(root) == [b"a/1", b"c/1"]
    assert problems_of(root) == [(b"bad/", failure)]


def test_case_11_a_directory_that_disappears_has_vanished(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    fill(root, {b"a": b"", b"b/1": b"", b"c/1": b"", b"d/1": b""})
    walking = walk(root, rows=1)
    assert next(walking).rows[0][0] == b"a"
    os.unlink(root + b"/c/1")
    os.rmdir(root + b"/c")
    os.rename(root + b"/d", root + b"/e")
    os.symlink(b"e", root + b"/d")
    pages = list(walking)
    assert [row[0] for page in pages for row in page.rows] == [b"b/1"]
    assert [(p.prefix, p.failure) for page in pages for p in page.problems] == [
        (b"c/", "vanished"),
        (b"d/", "vanished"),
    ]


def test_case_63_specials_are_named_and_nothing_hangs(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    fill(root, {b"d/file": b"x", b"d/.nfs0001": b"x", b".nfs2": b"", b".nfsdir/x": b"", b".hidden": b""})
    os.mkfifo(root + b"/d/fifo")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(root + b"/d/sock")
        expected = {
            (b"d/fifo", "fifo", b""),
            (b"d/sock", "socket", b""),
            (b"d/.nfs0001", "nfs", b""),
            (b".nfs2", "nfs", b""),
        }
        assert specials_of(root) == expected
        assert keys_of(root) == [b".hidden", b".nfsdir/x", b"d/file"]
        # The same within a range, which is read another way.
        assert specials_of(root, after=b"!", until=b"d/zz") == expected
        assert keys_of(root, after=b"!", until=b"d/zz") == [b".hidden", b".nfsdir/x", b"d/file"]
    if os.geteuid() == 0:
        with contextlib.suppress(PermissionError):
            os.mknod(root + b"/dev", 0o020600, os.makedev(1, 3))
            assert (b"dev", "device", b"") in specials_of(root)


def test_our_own_staging_is_never_listed(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    fill(root, {b".entrepot-x/0": b"", b"d/.entrepot-x-1": b"", b"d/.entrepo": b"", b".entrepot.txt": b""})
    for options in ({}, {"after": b"!"}, {"until": b"d/zz"}, {"escape": True}):
        assert keys_of(root, **options) == [b".entrepot.txt", b"d/.entrepo"]
        assert not specials_of(root, **options)


def test_case_64_symbolic_links_by_policy(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    fill(root, {b"d/file": b"12345", b"e/": b""})
    os.symlink(b"d/file", root + b"/to-file")
    os.symlink(b"d", root + b"/to-dir")
    os.symlink(b"nowhere", root + b"/broken")
    os.symlink(b"..", root + b"/d/up")
    os.symlink(b"self", root + b"/self")
    links = {b"to-file": b"d/file", b"to-dir": b"d", b"broken": b"nowhere", b"d/up": b"..", b"self": b"self"}

    assert keys_of(root) == [b"d/file"]
    assert specials_of(root) == {(key, "symlink-skipped", b"") for key in links}

    assert keys_of(root, symlinks="copy") == [b"d/file"]
    assert specials_of(root, symlinks="copy") == {(key, "symlink", target) for key, target in links.items()}

    got = {row[0]: row[2] for row in rows_of(root, symlinks="follow")}
    assert got == {b"d/file": 5, b"to-dir/file": 5, b"to-file": 5}
    assert specials_of(root, symlinks="follow") == {(b"d/up", "loop", b""), (b"to-dir/up", "loop", b"")}
    assert sorted(problems_of(root, symlinks="follow")) == [(b"broken", "not_found"), (b"self", "not_found")]
    assert sorted(keys_of(root, symlinks="follow", after=b"!", until=b"zz")) == sorted(got)


def test_case_26_times_before_1970_and_far_ahead(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    times = {b"a": -1_500_000_001, b"b": 0, b"c": 1_700_000_000_123_456_789, b"d": 4_102_444_800_000_000_001}
    for key, mtime in times.items():
        fill(root, {key: b""})
        os.utime(os.path.join(root, key), ns=(mtime, mtime))
    got = {row[0]: row[1] for row in rows_of(root)}
    assert {key: os.stat(os.path.join(root, key)).st_mtime_ns for key in times} == got
    assert got[b"b"] == 0
    assert got[b"c"] == times[b"c"]


def test_change_times_come_when_asked(tmp_path: Path) -> None:
    root = os.fsencode(tmp_path)
    fill(root, {b"a": b"", b"d/b": b""})
    for key, evidence, _ in rows_of(root, changed=True):
        state = os.stat(os.path.join(root, key))
        assert evidence == (state.st_mtime_ns, state.st_ctime_ns)


def test_many_empty_directories_still_give_signs_of_life(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(walk_module, "_QUIET", 10)
    root = os.fsencode(tmp_path)
    fill(root, {b"%03d/" % n: b"" for n in range(100)})
    assert len(pages_of(root)) >= 10


def test_an_empty_root_is_one_last_page(tmp_path: Path) -> None:
    pages = pages_of(os.fsencode(tmp_path))
    assert [(page.rows, page.last) for page in pages] == [([], True)]


def test_a_descriptor_may_be_the_root(tmp_path: Path) -> None:
    fill(os.fsencode(tmp_path), {b"a/b": b""})
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        assert keys_of(fd) == [b"a/b"]
        assert keys_of(fd) == [b"a/b"]
    finally:
        os.close(fd)
