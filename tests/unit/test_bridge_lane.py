"""The bridge's sorted walk and its lane, over a place in memory that fails on demand."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.model.errors import ChangedError, CorruptError, ForbiddenError, QuotaError, StoreTimeoutError
from entrepot.model.location import Location
from entrepot.storage.base import Copy, Get, Head, List, Meta, Op, Put
from entrepot.storage.bridge import BridgeStore
from entrepot.storage.bridge.lane import BridgeLane
from entrepot.storage.bridge.place import Item
from entrepot.storage.bridge.walk import Walk
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor


class DictPlace:
    """Files in a dict; ``faults`` maps (call, path) to exceptions that come first."""

    protocol = "sftp"
    renames = True
    keeps_mtime = False
    base = b""

    def __init__(self, files: dict[bytes, bytes] | None = None) -> None:
        self.files = dict(files or {})
        self.links: set[bytes] = set()
        self.faults: dict[tuple[str, bytes], list[Exception]] = {}
        self.calls: list[tuple[str, bytes]] = []
        self.pause = threading.Event()
        self.pause.set()
        self.version = 0

    def identity(self) -> str:
        return "dict"

    def _called(self, call: str, path: bytes) -> None:
        self.calls.append((call, path))
        waiting = self.faults.get((call, path)) or self.faults.get((call, b"*"))
        if waiting:
            raise waiting.pop(0)

    def entries(self, path: bytes) -> list[Item]:
        self._called("entries", path)
        base = path + b"/" if path else b""
        found: dict[bytes, Item] = {}
        for name in self.files.keys() | self.links:
            if name.startswith(base):
                first, slash, _ = name[len(base) :].partition(b"/")
                kind: Any = "directory" if slash else "symlink" if name in self.links else "file"
                found[first] = Item(first, kind, 0 if slash else len(self.files.get(name, b"")), self.version)
        if not found and path:
            raise FileNotFoundError(path)
        return list(found.values())[::-1]

    def stat(self, path: bytes) -> Item:
        self._called("stat", path)
        if path not in self.files:
            raise FileNotFoundError(path)
        return Item(path.rpartition(b"/")[2], "file", len(self.files[path]), self.version)

    def read(self, path: bytes, offset: int, length: int) -> Iterator[bytes]:
        self._called("read", path)
        data = self.files[path][offset : offset + length]
        for start in range(0, len(data), 4):
            assert self.pause.wait(10)
            yield data[start : start + 4]

    def write(self, path: bytes, pieces: Iterable[bytes | memoryview], size: int, meta: Meta | None) -> None:
        self._called("write", path)
        self.files[path] = b"".join(pieces)

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        self._called("set_mtime", path)

    def rename(self, source: bytes, target: bytes) -> None:
        self._called("rename", target)
        self.files[target] = self.files.pop(source)

    def make_directories(self, path: bytes) -> None:
        self._called("make", path)

    def remove(self, path: bytes) -> None:
        self._called("remove", path)
        if path not in self.files:
            raise FileNotFoundError(path)
        del self.files[path]

    def close(self) -> None:
        """Nothing is open."""


SEGMENT = st.binary(min_size=1, max_size=3).filter(
    lambda s: b"/" not in s and b"\0" not in s and s not in {b".", b".."}
)
TREES = st.sets(st.lists(SEGMENT, min_size=1, max_size=4).map(b"/".join), max_size=25)


def tree(keys: set[bytes]) -> dict[bytes, bytes]:
    """The keys that fit into one tree: none is the directory of another."""
    return {k: k for k in keys if not any(o.startswith(k + b"/") for o in keys)}


@settings(max_examples=60, deadline=None)
@given(TREES, st.binary(max_size=4), st.integers(1, 5))
def test_a_walk_is_sorted_by_bytes_and_starts_behind_any_key(keys: set[bytes], after: bytes, limit: int) -> None:
    place = DictPlace({b"top/" + k: v for k, v in tree(keys).items()})
    expected = sorted(k for k in tree(keys) if k > after)
    with ThreadPoolExecutor(2) as pool:
        walk = Walk(place, pool, b"top/", after, "mtime")
        found: list[bytes] = []
        while place.files:
            page = walk.page(limit)
            assert len(page.rows) <= limit and not page.problems
            found += [row[0] for row in page.rows]
            if page.last:
                break
    assert found == expected


def test_cases_9_and_11_a_directory_that_cannot_be_read_is_a_problem_of_its_prefix() -> None:
    place = DictPlace({b"a/x": b"1", b"b/x": b"1", b"c/d/x": b"1", b"e": b"1"})
    place.links = {b"link"}
    place.faults = {("entries", b"b"): [PermissionError("no")], ("entries", b"c/d"): [FileNotFoundError("gone")]}
    with ThreadPoolExecutor(2) as pool:
        page = Walk(place, pool, b"", b"", "etag").page(100)
    assert [row[:2] for row in page.rows] == [(b"a/x", b""), (b"e", b"")] and page.last
    assert [(p.prefix, p.failure) for p in page.problems] == [(b"b/", "forbidden"), (b"c/d/", "vanished")]
    assert [(s.key, s.kind) for s in page.specials] == [(b"link", "symlink")]


class Harness:
    """A store over a DictPlace with one lane."""

    def __init__(self, files: dict[bytes, bytes] | None = None, **options: Any) -> None:
        self.place = DictPlace(files)
        self.store = BridgeStore(Location("sftp", "h", b""), place=self.place)
        self.reactor = Reactor()
        self.lane = self.store.lane(self.reactor, LaneOptions(**{"backoff": 0.001, "attempts": 3, **options}))
        assert isinstance(self.lane, BridgeLane)
        self.finished: list[Op] = []

    def run(self, *ops: Op) -> None:
        self.finished.clear()
        for op in ops:
            op.done = self.finished.append
            self.lane.submit(op)
        self.wait(len(ops))

    def wait(self, count: int) -> None:
        end = time.monotonic() + 20
        while len(self.finished) < count:
            self.reactor.poll(0.2)
            assert time.monotonic() < end


@pytest.fixture
def harness() -> Iterator[Harness]:
    made = Harness({b"k": b"0123456789"})
    yield made
    made.lane.close()
    made.store.close()
    made.reactor.close()


def nothing(op: Op) -> None:
    raise AssertionError("not submitted")


def test_retryable_faults_are_tried_again_and_others_are_not(harness: Harness) -> None:
    harness.place.faults = {("stat", b"k"): [TimeoutError("slow"), ConnectionResetError("cut")]}
    op = Get(b"k", nothing)
    harness.run(op)
    assert op.error is None and op.body == b"0123456789" and harness.lane.retries == 2
    harness.place.faults = {("stat", b"k"): [TimeoutError("slow")] * 9}
    harness.run(late := Head(b"k", nothing))
    assert isinstance(late.error, StoreTimeoutError) and late.attempts == 3
    harness.place.faults = {("stat", b"k"): [PermissionError("no")]}
    harness.run(refused := Head(b"k", nothing))
    assert isinstance(refused.error, ForbiddenError) and refused.attempts == 0
    harness.run(copy := Copy(b"k", harness.store, b"k", nothing))
    assert copy.error is not None and "not offered" in str(copy.error)
    assert harness.lane.requests()["get"] == 3 and harness.lane.requests()["head"] == 4


def test_case_34_a_source_that_changes_while_it_is_read(harness: Harness) -> None:
    class Sink:
        def write(self, offset: int, piece: memoryview) -> None:
            harness.place.version += 1

    harness.run(op := Get(b"k", nothing, sink=Sink()))
    assert isinstance(op.error, ChangedError)
    harness.place.files[b"short"] = b"12"

    def cut(path: bytes, offset: int, length: int) -> Iterator[bytes]:
        yield b"1"

    harness.place.read = cut  # type: ignore[method-assign]
    harness.run(short := Get(b"short", nothing))
    assert isinstance(short.error, CorruptError) and short.attempts == 3


def test_a_sink_that_fails_ends_its_get(harness: Harness) -> None:
    class Full:
        def write(self, offset: int, piece: memoryview) -> None:
            raise QuotaError("no space")

    harness.run(op := Get(b"k", nothing, sink=Full()), head := Head(b"k", nothing))
    assert isinstance(op.error, QuotaError) and head.error is None


def test_a_failed_rename_leaves_the_old_file_and_no_temporary_one(harness: Harness) -> None:
    harness.place.faults = {("rename", b"k"): [PermissionError("no")]}
    harness.run(op := Put(b"k", b"new", nothing, meta=Meta(mtime_ns=5)))
    assert isinstance(op.error, ForbiddenError) and harness.place.files == {b"k": b"0123456789"}


def test_directories_are_made_once_and_again_when_they_are_gone(harness: Harness) -> None:
    harness.run(*(Put(b"d/k%d" % n, b"x", nothing) for n in range(5)))
    assert [p for c, p in harness.place.calls if c == "make"] == [b"d"]
    harness.place.faults = {("write", b"*"): [FileNotFoundError("the directory is gone")]}
    harness.run(op := Put(b"d/late", b"x", nothing))
    assert op.error is None and harness.place.files[b"d/late"] == b"x"
    assert [p for c, p in harness.place.calls if c == "make"] == [b"d", b"d"]


def test_feed_is_asked_when_a_thread_falls_free_and_hungry_tells_the_truth() -> None:
    harness = Harness({b"k": b"1234"}, connections=2)
    harness.place.pause.clear()
    waiting = [Get(b"k", harness.finished.append) for _ in range(10)]
    harness.lane.feed = lambda: waiting.pop() if waiting else None
    assert harness.lane.hungry
    harness.lane.submit(Get(b"k", harness.finished.append))
    assert not harness.lane.hungry and len(waiting) == 9, "two threads: one submitted, one fed"
    harness.place.pause.set()
    harness.wait(11)
    assert not waiting and harness.lane.hungry
    harness.lane.close()
    harness.store.close()
    harness.reactor.close()


def test_close_in_the_middle_of_a_body_drops_it_and_ends_the_threads() -> None:
    harness = Harness({b"k": b"0123456789"})

    class Never:
        def write(self, offset: int, piece: memoryview) -> None:
            raise AssertionError("nobody polls")

    harness.lane.submit(Get(b"k", harness.finished.append, sink=Never()))
    time.sleep(0.05)
    started = time.monotonic()
    harness.lane.close()
    harness.lane.close()
    assert time.monotonic() - started < 4 and not harness.finished
    assert not any(t.name == "bridge" and t.is_alive() for t in threading.enumerate())
    harness.store.close()
    harness.reactor.close()


def test_the_bandwidth_limit_holds() -> None:
    harness = Harness({b"k%d" % n: b"x" * 400 for n in range(10)}, bandwidth=10_000)
    started = time.monotonic()
    harness.run(*(Get(b"k%d" % n, nothing) for n in range(10)))
    assert time.monotonic() - started > 0.3
    harness.lane.close()
    harness.store.close()
    harness.reactor.close()


def test_a_missing_prefix_is_empty_but_a_missing_top_is_an_error(harness: Harness) -> None:
    store = BridgeStore(Location("sftp", "h", b"absent/"), place=harness.place)
    assert [page.rows for page in store.pages()] == [[]]
    store.check()
    store.close()
    harness.place.faults = {("entries", b""): [FileNotFoundError("no such host path")]}
    harness.run(op := List(b"", b"", "mtime", nothing))
    assert op.error is not None
