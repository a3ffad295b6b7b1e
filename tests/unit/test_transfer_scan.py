"""The merge of two listings: outcomes, cursor, doomed entries and faults, against a model of plain dicts."""

from __future__ import annotations

import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.model.entry import Page, Problem
from entrepot.model.errors import StoreTimeoutError
from entrepot.model.shard import Shard
from entrepot.model.totals import Totals
from entrepot.transfer.compare import Clock, comparer
from entrepot.transfer.filters import Filter
from entrepot.transfer.job import Batch, Job
from entrepot.transfer.listing import LaneFeed, PageFeed
from entrepot.transfer.scan import Rules, Scan
from parts.memory_lane import MemoryLane

KEYS = st.binary(min_size=1, max_size=4)
PLACE = st.dictionaries(KEYS, st.binary(max_size=3), max_size=40)


def shard(low: bytes = b"", high: bytes | None = None, cursor: bytes | None = None) -> Shard:
    return Shard(1, "t", "scan", 1, low, high, low if cursor is None else cursor, Totals())


def lane(place: dict[bytes, bytes], pages: int) -> MemoryLane:
    return MemoryLane({k: (v, 5) for k, v in place.items()}, pages=pages)


class Bench:
    """One scan over two memory lanes, with the emitted rows kept."""

    def __init__(
        self, here: MemoryLane, there: MemoryLane, piece: Shard, *, extra: str = "doom", filters: tuple[str, ...] = ()
    ) -> None:
        self.lanes = (here, there)
        self.emitted: list[tuple[Batch, list, list]] = []
        rules = Rules(
            comparer("auto", "store", Clock(), md5_etags=True),
            lambda batch, copy, doubt: self.emitted.append((batch, copy, doubt)),
            extra=extra,  # type: ignore[arg-type]
            source_filter=Filter(filters),
            destination_filter=Filter(filters),
            select=None,
        )
        feeds = [LaneFeed(side, piece.cursor, piece.high, "etag", lambda: None, "memory") for side in self.lanes]
        self.scan = Scan(piece, feeds[0], feeds[1], rules)

    def merge(self) -> Scan:
        for _ in range(10_000):
            moved = self.scan.step()
            moved |= any(side.deliver(1) for side in self.lanes)
            if not moved:
                break
        return self.scan

    def settle(self, order: int = 1) -> None:
        """Copy everything that was emitted, in the order given."""
        for batch, copy, doubt in self.emitted[::order]:
            for key, evidence, size in copy + doubt:
                batch.copied(Job(key, evidence, size, batch))


@settings(max_examples=300, deadline=None)
@given(PLACE, PLACE, st.integers(1, 7), st.integers(1, 7))
def test_merge_equals_the_model(mine: dict, theirs: dict, pages_a: int, pages_b: int) -> None:
    bench = Bench(lane(mine, pages_a), lane(theirs, pages_b), shard())
    scan = bench.merge()
    assert not scan.merging
    copied = {row[0] for _, copy, _ in bench.emitted for row in copy}
    assert copied == {k for k in mine if theirs.get(k) != mine[k]}
    bench.settle()
    said = scan.progress()
    assert scan.finished
    assert said.totals.total == len(mine)
    assert said.totals.equal == len(mine) - len(copied)
    assert said.totals.copied == len(copied)
    assert said.totals.total_bytes == sum(map(len, mine.values()))
    assert [d.key for d in said.doomed] == sorted(set(theirs) - set(mine))


@settings(max_examples=150, deadline=None)
@given(PLACE, PLACE, st.lists(KEYS, max_size=4), st.integers(1, 5))
def test_cut_ranges_do_what_the_whole_does(mine: dict, theirs: dict, cuts: list[bytes], pages: int) -> None:
    edges = [b"", *sorted(set(cuts)), None]
    doomed: list[bytes] = []
    totals = Totals()
    for low, high in itertools.pairwise(edges):
        bench = Bench(lane(mine, pages), lane(theirs, pages), shard(low or b"", high))
        scan = bench.merge()
        bench.settle()
        said = scan.progress()
        totals.add(said.totals)
        doomed += [d.key for d in said.doomed]
    assert totals.total == len(mine)
    assert totals.copied == sum(theirs.get(k) != v for k, v in mine.items())
    assert sorted(doomed) == sorted(set(theirs) - set(mine))


@settings(max_examples=100, deadline=None)
@given(PLACE, PLACE, KEYS, st.integers(1, 5))
def test_a_cut_while_merging_keeps_the_range_exact(mine: dict, theirs: dict, at: bytes, pages: int) -> None:
    bench = Bench(lane(mine, pages), lane(theirs, pages), shard())
    for _ in range(3):
        bench.scan.step()
        for side in bench.lanes:
            side.deliver(1)
    if at <= bench.scan.merged or not bench.scan.merging:
        return
    bench.scan.cut(at)
    scan = bench.merge()
    bench.settle()
    said = scan.progress()
    assert said.totals.total == sum(k <= at for k in mine)
    assert {d.key for d in said.doomed} == {k for k in theirs if k <= at and k not in mine}


def test_the_cursor_waits_for_the_oldest_open_entry() -> None:
    place = {b"%03d" % i: b"x" for i in range(30)}
    bench = Bench(lane(place, 10), lane({}, 10), shard())
    bench.merge()
    first, *others = bench.emitted
    for batch, copy, _ in others:
        for key, evidence, size in copy:
            batch.copied(Job(key, evidence, size, batch))
    assert bench.scan.progress().cursor == b""
    assert not bench.scan.finished
    batch, copy, _ = first
    for key, evidence, size in copy:
        batch.copied(Job(key, evidence, size, batch))
    assert bench.scan.progress().cursor == b"029"
    assert bench.scan.finished


def test_case_1_a_broken_source_listing_fails_the_range_and_voids_its_deletes() -> None:
    here, there = lane({b"%03d" % i: b"x" for i in range(25)}, 10), lane({b"005x": b"y", b"zzz": b"y"}, 10)
    here.broken = lambda op, page: StoreTimeoutError("no answer") if op.after >= b"009" else page
    bench = Bench(here, there, shard())
    scan = bench.merge()
    bench.settle()
    said = scan.progress()
    assert scan.finished
    assert said.failed
    assert said.failures[-1].failure == "timeout"
    assert b"zzz" not in {d.key for d in said.doomed}


def test_case_4_a_repeated_page_is_noticed_and_the_listing_begins_again_once() -> None:
    here = lane({b"%03d" % i: b"x" for i in range(30)}, 10)
    first_page: list[Page] = []

    def repeat(op, page):  # type: ignore[no-untyped-def]
        first_page.append(page)
        return Page(list(first_page[0].rows), token=page.token) if len(first_page) == 2 else page

    here.broken = repeat
    bench = Bench(here, lane({}, 10), shard())
    scan = bench.merge()
    bench.settle()
    said = scan.progress()
    assert not said.failed
    assert said.totals.copied == 30


def test_case_5_an_unordered_listing_fails_loudly_and_dooms_nothing() -> None:
    here = lane({b"%03d" % i: b"x" for i in range(30)}, 10)
    here.broken = lambda op, page: Page([(b"000", b"e", 1)], token=b"again")
    bench = Bench(here, lane({b"000a": b"q", b"9": b"q"}, 10), shard())
    scan = bench.merge()
    said = scan.progress()
    assert said.failed
    assert "not in key order" in said.failures[-1].message


def test_case_10_nothing_below_an_unreadable_directory_is_doomed() -> None:
    bench = Bench(lane({}, 10), lane({}, 10), shard())
    source = PageFeed(
        iter(
            [
                Page([(b"a/1", b"e", 1)], problems=[Problem(b"b/", "forbidden", "b: no")]),
                Page([(b"c/1", b"e", 1)], last=True),
            ]
        ),
        None,
    )
    there = PageFeed(
        iter([Page([(b"a/2", b"e", 1), (b"b/1", b"e", 1), (b"b/2", b"e", 1), (b"c/2", b"e", 1)], last=True)]), None
    )
    scan = Scan(shard(), source, there, bench.scan._rules)
    while scan.step():
        pass
    for batch, copy, _ in bench.emitted:
        for key, evidence, size in copy:
            batch.copied(Job(key, evidence, size, batch))
    said = scan.progress()
    assert [d.key for d in said.doomed] == [b"a/2", b"c/2"]
    assert [f.failure for f in said.failures] == ["forbidden"]
    assert not said.failed


def test_case_28_excluded_keys_are_never_doomed() -> None:
    bench = Bench(
        lane({b"a": b"1"}, 9), lane({b"a": b"1", b"b.tmp": b"1", b"c": b"1"}, 9), shard(), filters=("- *.tmp",)
    )
    scan = bench.merge()
    assert [d.key for d in scan.progress().doomed] == [b"c"]
