"""Files appear complete or not at all, and nothing is left behind (cases 61, 62, 67)."""

from __future__ import annotations

import errno
import os
import stat
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from posix_parts import files_of, fill

from entrepot.model.errors import CorruptError, GuardError, StoreError, UsageError
from entrepot.storage.posix import staging as staging_module
from entrepot.storage.posix.root import Root
from entrepot.storage.posix.staging import Staging, sweep


@pytest.fixture
def base(tmp_path: Path) -> bytes:
    return os.fsencode(tmp_path)


@pytest.fixture
def staging(base: bytes) -> Iterator[Staging]:
    with Root(base) as root:
        staging = Staging(root, "t")
        yield staging
        staging.close(remove=True)


def temporary(base: bytes) -> list[bytes]:
    """All temporary names left anywhere below ``base`` (the staging directory itself not counted)."""
    found = []
    for where, _, names in os.walk(base):
        found += [os.path.join(where, name) for name in names if b".entrepot-" in os.path.join(where, name)]
    return found


def fail(monkeypatch: pytest.MonkeyPatch, call: str, code: int, after: int = 0) -> None:
    """Let ``os.<call>`` of the staging module fail with ``code`` from its call number ``after`` on."""
    real = getattr(os, call)
    calls = [0]

    def broken(*args: object, **kwargs: object) -> object:
        calls[0] += 1
        if calls[0] > after:
            raise OSError(code, os.strerror(code))
        return real(*args, **kwargs)

    monkeypatch.setattr(staging_module.os, call, broken)


def test_small_files_with_time_and_mode(base: bytes, staging: Staging) -> None:
    staging.write_small(b"a/b/c", b"data", 1_600_000_000_123_456_789, 0o751)
    state = os.stat(base + b"/a/b/c")
    assert (state.st_mtime_ns, stat.S_IMODE(state.st_mode)) == (1_600_000_000_123_456_789, 0o751)
    staging.write_small(b"a/b/c", b"other", -5_000_000_001, 0o444)
    state = os.stat(base + b"/a/b/c")
    assert (state.st_mtime_ns, stat.S_IMODE(state.st_mode)) == (-5_000_000_001, 0o444)
    assert files_of(base) == {b"a/b/c": b"other"}


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o000])
def test_the_umask_holds_for_new_files_and_not_for_kept_modes(base: bytes, mask: int) -> None:
    before = os.umask(mask)
    try:
        with Root(base) as root:
            staging = Staging(root, "t")
            staging.write_small(b"plain", b"")
            staging.write_small(b"kept", b"", None, 0o777)
            staged = staging.begin("large", 3)
            os.pwrite(staged.fd, b"123", 0)
            staging.commit(staged, b"large")
            staging.close(remove=True)
    finally:
        os.umask(before)
    modes = {name: stat.S_IMODE(os.stat(base + b"/" + name).st_mode) for name in (b"plain", b"kept", b"large")}
    assert modes == {b"plain": 0o666 & ~mask, b"kept": 0o777, b"large": 0o666 & ~mask}


def test_case_67_set_id_bits_only_pass_with_the_owner(base: bytes, staging: Staging) -> None:
    staging.write_small(b"stripped", b"", None, 0o6755)
    staging.write_small(b"kept", b"", None, 0o6755, owner=(os.geteuid(), os.getegid()))
    staged = staging.begin("x", 0)
    staging.commit(staged, b"large-kept", None, 0o4711, owner=(os.geteuid(), os.getegid()))
    modes = {name: stat.S_IMODE(os.stat(base + b"/" + name).st_mode) for name in os.listdir(base) if name[:1] != b"."}
    assert modes == {b"stripped": 0o755, b"kept": 0o6755, b"large-kept": 0o4711}


def test_case_67_owner_mode_and_times_survive_each_other(base: bytes, staging: Staging) -> None:
    if os.geteuid() != 0:
        return
    staging.write_small(b"f", b"x", 1234567890, 0o4750, owner=(1234, 2345), xattrs={"user.a": b"1"})
    state = os.stat(base + b"/f")
    assert (state.st_uid, state.st_gid, stat.S_IMODE(state.st_mode), state.st_mtime_ns) == (
        1234,
        2345,
        0o4750,
        1234567890,
    )
    assert os.getxattr(base + b"/f", b"user.a") == b"1"


def test_case_67_attributes_that_fail_are_warnings(base: bytes, staging: Staging) -> None:
    staging.write_small(b"f", b"x", 5, 0o600, xattrs={"user.big": b"x" * 70_000, "nonsense": b""})
    assert staging.warnings == 2
    assert files_of(base) == {b"f": b"x"}


def test_large_files(base: bytes, staging: Staging) -> None:
    data = os.urandom(3 << 20)
    staged = staging.begin("big-1", len(data))
    os.pwrite(staged.fd, data[1 << 20 :], 1 << 20)
    os.pwrite(staged.fd, data[: 1 << 20], 0)
    assert b"d" not in os.listdir(base)
    staging.commit(staged, b"d/big", 77, 0o600)
    assert files_of(base) == {b"d/big": data}
    assert os.stat(base + b"/d/big").st_mtime_ns == 77
    assert staged.fd == -1


def test_a_wrong_size_is_not_committed(base: bytes, staging: Staging) -> None:
    fill(base, {b"x": b"old"})
    staged = staging.begin("big", 10)
    os.ftruncate(staged.fd, 9)
    with pytest.raises(CorruptError, match="9 bytes were staged, expected 10"):
        staging.commit(staged, b"x")
    assert files_of(base) == {b"x": b"old"}
    assert not temporary(base)


def test_resume_in_the_same_run_and_by_another(base: bytes) -> None:
    with Root(base) as root:
        first = Staging(root, "one")
        staged = first.begin("part.x", 6)
        os.pwrite(staged.fd, b"abc", 0)
        first.suspend(staged)
        first.close(remove=False)
        again = Staging(root, "one")
        staged = again.reopen("part.x")
        assert staged is not None
        assert (staged.size, os.pread(staged.fd, 6, 0)) == (6, b"abc\0\0\0")
        again.suspend(staged)
        again.close(remove=False)
        other = Staging(root, "two")
        assert other.reopen("part.x") is None
        staged = other.reopen("one/part.x")
        assert staged is not None
        os.pwrite(staged.fd, b"def", 3)
        other.commit(staged, b"x")
        assert other.reopen("one/part.x") is None
        other.close(remove=True)
        again.close(remove=True)
        assert os.listdir(base) == [b"x"]
    assert files_of(base) == {b"x": b"abcdef"}


def test_discard_leaves_nothing(base: bytes, staging: Staging) -> None:
    staged = staging.begin("big", 1 << 21)
    staging.discard(staged)
    staging.discard(staged)
    assert not temporary(base)
    staging.close(remove=False)
    assert os.listdir(base) == []


def test_nothing_is_made_before_the_first_write(base: bytes, staging: Staging) -> None:
    assert os.listdir(base) == []
    assert staging.reopen("none") is None


FULL = [
    (errno.ENOSPC, "quota"),
    (errno.EDQUOT, "quota"),
    (errno.EROFS, "quota"),
    (errno.EFBIG, "format"),
    (errno.EIO, "internal"),
]


@pytest.mark.parametrize(("code", "failure"), FULL)
@pytest.mark.parametrize("call", ["write", "rename", "open", "utime"])
def test_case_61_full_and_read_only_destinations(
    base: bytes, staging: Staging, monkeypatch: pytest.MonkeyPatch, code: int, failure: str, call: str
) -> None:
    staging.write_small(b"d/x", b"old")
    fail(monkeypatch, call, code)
    with pytest.raises(StoreError) as caught:
        staging.write_small(b"d/x", b"new", 5)
    monkeypatch.undo()
    assert caught.value.failure == failure
    assert "d/x" in caught.value.message
    assert files_of(base) == {b"d/x": b"old"}
    assert not temporary(base)
    staging.write_small(b"d/x", b"new", 5)
    assert files_of(base) == {b"d/x": b"new"}


@pytest.mark.parametrize(("code", "failure"), FULL)
@pytest.mark.parametrize("call", ["rename", "utime", "fsync"])
def test_case_61_at_the_commit_of_a_large_file(
    base: bytes, monkeypatch: pytest.MonkeyPatch, code: int, failure: str, call: str
) -> None:
    with Root(base) as root:
        staging = Staging(root, "t", fsync=True)
        staging.write_small(b"d/x", b"old")
        staged = staging.begin("big", 3)
        os.pwrite(staged.fd, b"new", 0)
        fail(monkeypatch, call, code)
        with pytest.raises(StoreError) as caught:
            staging.commit(staged, b"d/x", 5)
        monkeypatch.undo()
        assert caught.value.failure == failure
        assert files_of(base) == {b"d/x": b"old"}
        assert not temporary(base)
        staging.close(remove=True)


def test_case_61_no_space_shows_when_a_large_file_begins(
    base: bytes, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = os.statvfs(base)
    with pytest.raises(StoreError) as caught:
        staging.begin("huge", free.f_blocks * free.f_frsize * 4)
    assert caught.value.failure in ("quota", "format")
    assert not temporary(base)


@pytest.mark.parametrize(
    ("code", "failure"),
    [(errno.EPERM, "forbidden"), (errno.EACCES, "forbidden"), (errno.EINVAL, "name"), (errno.EILSEQ, "name")],
)
def test_refused_names_and_immutable_files(
    base: bytes, staging: Staging, monkeypatch: pytest.MonkeyPatch, code: int, failure: str
) -> None:
    fail(monkeypatch, "rename", code)
    with pytest.raises(StoreError) as caught:
        staging.write_small(b"x", b"new")
    assert caught.value.failure == failure
    assert not temporary(base)


def test_short_writes_are_continued(base: bytes, staging: Staging, monkeypatch: pytest.MonkeyPatch) -> None:
    real = os.write
    monkeypatch.setattr(staging_module.os, "write", lambda fd, data: real(fd, bytes(data)[:7]))
    data = os.urandom(100)
    staging.write_small(b"x", data)
    staging.write_small(b"y", bytearray(data))
    staging.write_small(b"z", memoryview(data))
    assert files_of(base) == {b"x": data, b"y": data, b"z": data}


def test_a_nested_mount_gets_its_temporary_names_beside_the_final_ones(
    base: bytes, staging: Staging, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(base, {b"fs2/sub/": b"", b"fs2/sub/x": b"old"})
    real = os.rename
    seen = []

    def rename(a: bytes, b: bytes, *, src_dir_fd: int, dst_dir_fd: int) -> None:
        target = os.readlink(f"/proc/self/fd/{dst_dir_fd}")
        source = os.readlink(f"/proc/self/fd/{src_dir_fd}")
        seen.append(a)
        if ("/fs2" in target) != ("/fs2" in source):
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        real(a, b, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

    monkeypatch.setattr(staging_module.os, "rename", rename)
    staging.write_small(b"fs2/sub/x", b"new", 99, 0o640)
    staging.write_small(b"fs2/sub/y", b"second", 98)
    staged = staging.begin("big", 400_000)
    os.pwrite(staged.fd, b"z" * 400_000, 0)
    staging.commit(staged, b"fs2/sub/z", 97, 0o600)
    assert files_of(base + b"/fs2") == {b"sub/x": b"new", b"sub/y": b"second", b"sub/z": b"z" * 400_000}
    states = [os.stat(base + b"/fs2/sub/" + name) for name in (b"x", b"y", b"z")]
    assert [state.st_mtime_ns for state in states] == [99, 98, 97]
    assert [stat.S_IMODE(states[n].st_mode) for n in (0, 2)] == [0o640, 0o600]
    # After the first one the short way is known.
    assert sum(name.startswith(b".entrepot-t-") for name in seen) == 3
    assert len(seen) == 5
    fill(base, {b"fs2/sub/.entrepot-t-9": b"of a killed run", b"fs2/sub/.entrepot-u-9": b"of another"})
    staging.close(remove=True)
    assert temporary(base) == [base + b"/fs2/sub/.entrepot-u-9"]


def test_sweep_removes_dead_runs_only(base: bytes) -> None:
    fill(
        base,
        {b".entrepot-dead/0": b"", b".entrepot-dead/big": b"x", b".entrepot-live/0": b"", b"keep/.entrepot-x": b""},
    )
    fill(base, {b".entrepot-file": b""})
    with Root(base) as root:
        assert sweep(root, {"live"}) == [".entrepot-dead"]
    assert sorted(os.listdir(base)) == [b".entrepot-file", b".entrepot-live", b"keep"]


def test_sweeping_does_not_follow_links(base: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = os.fsencode(tmp_path_factory.mktemp("outside"))
    fill(outside, {b"victim": b""})
    os.symlink(outside, base + b"/.entrepot-dead")
    fill(base, {b".entrepot-gone/": b""})
    os.symlink(outside, base + b"/.entrepot-gone/link")
    with Root(base) as root:
        sweep(root, set())
    assert files_of(outside) == {b"victim": b""}
    assert os.listdir(base) == [b".entrepot-dead"]


def test_staging_that_was_swept_under_us_is_made_again(base: bytes, staging: Staging) -> None:
    staging.write_small(b"x", b"1")
    with Root(base) as other:
        sweep(other, set())
    staging.write_small(b"y", b"2")
    assert files_of(base) == {b"x": b"1", b"y": b"2"}


def test_leftovers_of_a_killed_process_do_not_collide(base: bytes, staging: Staging) -> None:
    fill(base, {b".entrepot-t/0": b"", b".entrepot-t/1": b"", b".entrepot-t/~7": b"", b".entrepot-t/part": b"keep"})
    for number in range(12):
        staging.write_small(b"%d" % number, b"%d" % number)
    staged = staging.begin_fresh(2)
    other = staging.begin_fresh(2)
    assert staged.name != other.name
    staging.discard(staged)
    staging.discard(other)
    assert len(files_of(base)) == 12 + 4


@pytest.mark.parametrize("tag", ["", "a/b", "..", "x y", "a.b", "x" * 200])
def test_tags_are_plain_words(base: bytes, tag: str) -> None:
    with Root(base) as root, pytest.raises(UsageError):
        Staging(root, tag)


@pytest.mark.parametrize("name", ["", "..", "a/b", "12", "foreign", "x\0", "~1"])
def test_staged_names_are_plain_words(staging: Staging, name: str) -> None:
    with pytest.raises(UsageError):
        staging.begin(name, 1)


def test_a_file_in_place_of_the_staging_directory(base: bytes, staging: Staging) -> None:
    fill(base, {b".entrepot-t": b""})
    with pytest.raises(GuardError):
        staging.write_small(b"x", b"")
    os.unlink(base + b"/.entrepot-t")


def test_case_62_fsync_comes_before_rename_and_reaches_the_directories(
    base: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    real_fsync, real_rename = os.fsync, os.rename

    def name_of(fd: int) -> str:
        path = os.readlink(f"/proc/self/fd/{fd}")
        return "staged" if ".entrepot" in path else os.path.relpath(path, os.fsdecode(base))

    def fsync(fd: int) -> None:
        events.append(f"sync {name_of(fd)}")
        real_fsync(fd)

    def rename(a: bytes, b: bytes, **fds: int) -> None:
        events.append(f"rename {os.fsdecode(b)}")
        real_rename(a, b, **fds)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(os, "rename", rename)
    with Root(base) as root:
        staging = Staging(root, "t", fsync=True)
        staging.write_small(b"p/q/small", b"1")
        staged = staging.begin("big", 1)
        staging.commit(staged, b"p/q/big")
        staging.close(remove=True)
    assert events == [
        "sync .",
        "sync p",
        "sync staged",
        "rename small",
        "sync p/q",
        "sync staged",
        "rename big",
        "sync p/q",
    ]


def test_case_62_a_killed_writer_leaves_old_or_new_never_a_part(base: bytes) -> None:
    fill(base, {b"d/%d" % n: b"old" * 1000 for n in range(20)})
    for _ in range(5):
        child = os.fork()
        if child == 0:
            with Root(base) as root:
                staging = Staging(root, "k")
                while True:
                    for n in range(20):
                        staging.write_small(b"d/%d" % n, b"new" * 1000)
                        staged = staging.begin("big", 3000)
                        os.pwrite(staged.fd, b"new" * 1000, 0)
                        staging.commit(staged, b"d/%d" % n)
        time.sleep(0.02)
        os.kill(child, 9)
        os.waitpid(child, 0)
        with Root(base) as root:
            sweep(root, set())
        assert set(files_of(base).values()) <= {b"old" * 1000, b"new" * 1000}
        assert len(files_of(base)) == 20
        assert not temporary(base)


@settings(max_examples=30, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from([b"a", b"a/b", b"c/d/e", b"c/f", b"g"]), st.binary(max_size=20)), max_size=12)
)
def test_any_order_of_writes_equals_a_dict(writes: list[tuple[bytes, bytes]]) -> None:
    expected: dict[bytes, bytes] = {}
    with tempfile.TemporaryDirectory() as directory, Root(os.fsencode(directory)) as root:
        staging = Staging(root, "t")
        for key, data in writes:
            clash = any(key.startswith(k + b"/") or k.startswith(key + b"/") for k in expected)
            try:
                staging.write_small(key, data)
            except StoreError as error:
                assert clash
                assert error.failure == "name"
            else:
                assert not clash
                expected[key] = data
        staging.close(remove=True)
        assert files_of(os.fsencode(directory)) == expected
