"""The bytes of large files: two threads bring the same as one call, holes and faults included."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.model.errors import StoreError
from entrepot.storage.posix import content
from entrepot.storage.posix.content import CHUNK, copy_content, stretches


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every copy is one for two threads."""

    def refuse(*_: object) -> int:
        raise OSError(errno.EOPNOTSUPP, "no cloning here")

    monkeypatch.setattr(content.fcntl, "ioctl", refuse)
    monkeypatch.setattr(content, "TWO_FROM", 0)
    monkeypatch.setattr(content, "_is_near", lambda _fd: True)
    monkeypatch.setattr(content.os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(content.os, "copy_file_range", refuse)
    monkeypatch.setattr(content.os, "sendfile", refuse)


class Files:
    """A source with content, and an empty target of its size."""

    def __init__(self, base: Path, pieces: list[tuple[int, int]], size: int) -> None:
        self.size = size
        self.source = os.open(base / "s", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.target = os.open(base / "t", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        for start, length in pieces:
            os.pwrite(self.source, os.urandom(length), start)
        for fd in (self.source, self.target):
            os.ftruncate(fd, size)

    def same(self) -> bool:
        return os.pread(self.source, self.size + 1, 0) == os.pread(self.target, self.size + 1, 0)

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


@pytest.fixture
def files(tmp_path: Path) -> Iterator[Files]:
    size = 9 * CHUNK + 12_345
    files = Files(tmp_path, [(0, 3 * CHUNK + 5), (6 * CHUNK, 3 * CHUNK + 12_345)], size)
    yield files
    files.close()


@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    pieces=st.lists(st.tuples(st.integers(0, 4 << 20), st.integers(0, 1 << 20)), max_size=5),
    rest=st.integers(0, 1 << 20),
)
def test_two_threads_bring_the_same(two: None, tmp_path: Path, pieces: list[tuple[int, int]], rest: int) -> None:
    size = max([start + length for start, length in pieces], default=0) + rest
    files = Files(tmp_path, pieces, size)
    copy_content(files.source, files.target, size, b"f", None)
    assert files.same()
    assert list(stretches(files.target, size)) == list(stretches(files.source, size))
    files.close()


def test_every_byte_is_told_by_the_thread_that_asked(two: None, files: Files) -> None:
    told: list[tuple[int, threading.Thread]] = []
    copy_content(files.source, files.target, files.size, b"f", lambda n: told.append((n, threading.current_thread())))
    assert files.same()
    assert sum(count for count, _ in told) == sum(end - start for start, end in stretches(files.source, files.size))
    assert {thread for _, thread in told} == {threading.current_thread()}


def test_a_file_system_that_is_not_known_is_left_to_the_kernel(
    two: None, files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(content, "_is_near", lambda fd: fd != files.target)
    monkeypatch.setattr(content, "_Pair", None)
    copy_content(files.source, files.target, files.size, b"f", None)
    assert files.same()


def test_giving_up_ends_both(two: None, files: Files) -> None:
    def stop(_count: int) -> None:
        raise KeyboardInterrupt

    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        copy_content(files.source, files.target, files.size, b"f", stop)
    assert threading.active_count() == before


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("call", "code", "failure"), [("pwrite", errno.ENOSPC, "quota"), ("preadv", errno.EACCES, "forbidden")]
)
def test_a_fault_of_either_thread_is_raised(
    two: None, files: Files, monkeypatch: pytest.MonkeyPatch, which: int, call: str, code: int, failure: str
) -> None:
    real, mine = getattr(os, call), threading.current_thread()
    met = threading.Event()

    def broken(*arguments: object) -> int:
        if (threading.current_thread() is mine) == (which == 0):
            met.set()
            raise OSError(code, os.strerror(code))
        met.wait(10)
        return int(real(*arguments))

    monkeypatch.setattr(content.os, call, broken)
    before = threading.active_count()
    with pytest.raises(StoreError) as caught:
        copy_content(files.source, files.target, files.size, b"f", None)
    assert caught.value.failure == failure
    assert caught.value.subject == "f"
    assert threading.active_count() == before


def test_a_source_that_shrinks_ends_the_copy(two: None, files: Files) -> None:
    def shrink(_count: int) -> None:
        os.ftruncate(files.source, 100)

    copy_content(files.source, files.target, files.size, b"f", shrink)
    assert os.fstat(files.target).st_size == files.size


def test_what_kind_of_file_system_a_descriptor_is_on() -> None:
    with open("/proc/self/stat", "rb") as file:
        assert content._kind(os.fstat(file.fileno()).st_dev) == "proc"
        assert not content._is_near(file.fileno())
    assert content._kind(os.makedev(4000, 4000)) == ""
