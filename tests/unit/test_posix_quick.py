"""The quick way for small files: what it copies is what the careful way copies, and the rest it leaves alone."""

from __future__ import annotations

import os
import stat
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from posix_parts import files_of, fill

from entrepot.model.entry import Row
from entrepot.model.options import SyncOptions
from entrepot.storage.posix.copy import SMALL, copy_file
from entrepot.storage.posix.links import Links
from entrepot.storage.posix.quick import Quick
from entrepot.storage.posix.root import Root
from entrepot.storage.posix.staging import Staging
from entrepot.storage.posix.walk import walk
from entrepot.transfer.copy.local import LocalMover
from entrepot.transfer.job import Batch

FAR = float("inf")


class Place:
    """A source and a destination, with the quick way between them."""

    def __init__(self, base: bytes) -> None:
        self.base = base
        self.source, self.target = base + b"/s", base + b"/d"
        os.mkdir(self.source)
        self.root = Root(self.source)
        self.staging = Staging(Root(self.target, True), "t")

    def rows(self, *keys: bytes) -> deque[Row]:
        found = [row for page in walk(self.source) for row in page.rows]
        return deque(row for row in found if not keys or row[0] in keys)

    def quick(self, rows: deque[Row], *, links: bool = True, mtime: bool = True, mode: bool = True) -> list[bytes]:
        quick = Quick(self.root, self.staging, mtime=mtime, mode=mode, links=links)
        return [row[0] for row in quick.copy(rows, FAR, time.monotonic)]

    def left(self) -> list[bytes]:
        """Temporary files."""
        return [name for where, _, names in os.walk(self.target) if b".entrepot-" in where for name in names]

    def close(self) -> None:
        self.staging.close(remove=True)
        self.staging.root.close()
        self.root.close()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    place = Place(os.fsencode(tmp_path))
    yield place
    place.close()
    assert not [name for name in os.listdir(place.target) if name.startswith(b".entrepot")]


def test_it_copies_what_the_careful_way_copies(place: Place) -> None:
    tree = {
        b"%s/f%d" % (where, size): os.urandom(size) for size in (0, 1, 4096, SMALL) for where in (b"a", b"a/b", b"c")
    }
    tree |= {b"top": b"1", b"z": b"2", b"a0": b"3", "a/日本".encode(): b"4", b"a/\xff": b"5"}
    fill(place.source, tree)
    modes = [0o600, 0o644, 0o666, 0o755, 0o777, 0o4711, 0o1640, 0o2750]
    for number, key in enumerate(sorted(tree)):
        os.chmod(os.path.join(place.source, key), modes[number % len(modes)])
        os.utime(os.path.join(place.source, key), ns=(5, 1_234_567_890_123_456_789 + number))
    other = Staging(Root(place.base + b"/e", True), "t")
    rows = place.rows()
    for row in rows:
        copy_file(place.root, other, row[0], row)
    wanted = [row[0] for row in rows]
    assert place.quick(rows) == wanted
    assert not rows
    assert files_of(place.target) == tree
    for key in tree:
        a, b = os.stat(os.path.join(place.target, key)), os.stat(os.path.join(place.base, b"e", key))
        assert (stat.S_IMODE(a.st_mode), a.st_mtime_ns) == (stat.S_IMODE(b.st_mode), b.st_mtime_ns)
    other.close(remove=True)
    other.root.close()


def test_without_mode_and_time(place: Place) -> None:
    fill(place.source, {b"f": b"x"})
    os.chmod(place.source + b"/f", 0o4700)
    os.utime(place.source + b"/f", ns=(1, 1))
    assert place.quick(place.rows(), mtime=False, mode=False) == [b"f"]
    state = os.stat(place.target + b"/f")
    assert stat.S_IMODE(state.st_mode) == 0o666 & ~place.staging.umask
    assert state.st_mtime_ns > 1


def test_an_old_file_is_replaced(place: Place) -> None:
    fill(place.source, {b"d/f": b"new"})
    fill(place.target, {b"d/f": b"something older and longer"})
    assert place.quick(place.rows()) == [b"d/f"]
    assert files_of(place.target) == {b"d/f": b"new"}


def _grow(place: Place) -> None:
    with open(place.source + b"/m", "ab") as file:
        file.write(b"more")


def _swap(place: Place) -> None:
    os.unlink(place.source + b"/m")
    os.symlink(b"/etc/passwd", place.source + b"/m")


CHANGES: dict[str, Callable[[Place], None]] = {
    "grown": _grow,
    "gone": lambda place: os.unlink(place.source + b"/m"),
    "touched": lambda place: os.utime(place.source + b"/m", ns=(1, 1)),
    "truncated": lambda place: os.truncate(place.source + b"/m", 0),
    "a link": _swap,
    "of two names": lambda place: os.link(place.source + b"/m", place.base + b"/other"),
    "in the way": lambda place: os.makedirs(place.target + b"/m/n"),
}


@pytest.mark.parametrize("what", CHANGES)
def test_what_is_out_of_the_ordinary_is_left(place: Place, what: str) -> None:
    fill(place.source, {b"a": b"first", b"m": b"x" * 1000, b"z": b"last"})
    fill(place.target, {} if what == "in the way" else {b"m": b"old"})
    rows = place.rows()
    CHANGES[what](place)
    assert place.quick(rows) == [b"a"]
    assert [row[0] for row in rows] == [b"m", b"z"]
    assert files_of(place.target) == {b"a": b"first"} | ({} if what == "in the way" else {b"m": b"old"})
    assert place.left() == []


def test_names_that_need_a_look_and_large_files_are_left(place: Place) -> None:
    for key in (b".hidden", b"d/.hidden"):
        fill(place.source, {key: b"x"})
        assert place.quick(place.rows(key)) == []
    fill(place.source, {b"large": b"x" * (SMALL + 1)})
    assert place.quick(place.rows(b"large")) == []
    for key in (b"d/../../out", b"a//b", b"nul\0", b"x" * 300, b".", b"d/", b"/etc/passwd"):
        assert place.quick(deque([(key, 1, 1)])) == []
    assert files_of(place.target) == {}


def test_a_link_in_the_destination_is_not_followed(place: Place) -> None:
    os.mkdir(place.base + b"/elsewhere")
    os.symlink(place.base + b"/elsewhere", place.target + b"/d")
    fill(place.source, {b"d/f": b"x"})
    assert place.quick(place.rows()) == []
    assert os.listdir(place.base + b"/elsewhere") == []


def test_it_stops_in_time(place: Place) -> None:
    fill(place.source, {b"d/%03d" % number: b"x" for number in range(50)})
    ticks = iter(range(1000))
    rows = place.rows()
    quick = Quick(place.root, place.staging, mtime=True, mode=True, links=True)
    done = quick.copy(rows, 10, lambda: float(next(ticks)))
    assert 0 < len(done) <= 10
    assert len(done) + len(rows) == 50


def test_it_is_not_for_durable_files(tmp_path: Path) -> None:
    place = Place(os.fsencode(tmp_path))
    place.staging.fsync = True
    fill(place.source, {b"f": b"x"})
    assert place.quick(place.rows()) == []
    place.close()


def test_a_staging_directory_that_was_swept_is_made_anew_by_the_careful_way(place: Place) -> None:
    fill(place.source, {b"f": b"x", b"g": b"y"})
    rows = place.rows()
    assert place.staging.fd >= 0
    os.rmdir(place.target + b"/.entrepot-t")
    assert place.quick(rows) == []
    copy_file(place.root, place.staging, b"f", rows.popleft())
    assert place.quick(rows) == [b"g"]
    assert files_of(place.target) == {b"f": b"x", b"g": b"y"}


@pytest.mark.parametrize("preserve", [("mtime", "mode"), ("mtime", "mode", "owner", "xattr")])
def test_the_mover_takes_both_ways_and_counts_each_once(place: Place, preserve: tuple[str, ...]) -> None:
    tree = {b"d%d/%02d" % (number % 3, number): os.urandom(number * 100) for number in range(60)}
    tree |= {b".dot": b"1", b"d0/.dot": b"22", b"d1/large": os.urandom(SMALL + 7), b"d1/twin": b"twin"}
    fill(place.source, tree)
    os.link(place.source + b"/d1/twin", place.source + b"/d2/twin")
    tree[b"d2/twin"] = b"twin"
    rows = list(place.rows())
    os.unlink(place.source + b"/d2/50")
    del tree[b"d2/50"]
    links = Links(place.staging, "task")
    options = SyncOptions(preserve=preserve)
    mover = LocalMover(place.root, place.staging, options, time.monotonic, links, None)
    batch = Batch(rows[-1][0])
    batch.open, batch.lines = len(rows), []
    mover.offer(batch, rows)
    while mover.work():
        pass
    assert mover.backlog == 0
    assert batch.open == 0
    assert (batch.totals.copied, batch.totals.skipped, batch.totals.failed) == (len(tree), 1, 0)
    assert batch.totals.copied_bytes == sum(map(len, tree.values()))
    assert sorted(line[0] for line in batch.lines) == sorted(row[0] for row in rows)
    links.close(remove=True)
    assert files_of(place.target) == tree
    assert os.stat(place.target + b"/d1/twin").st_ino == os.stat(place.target + b"/d2/twin").st_ino
