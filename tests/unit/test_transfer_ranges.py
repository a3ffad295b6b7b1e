"""Cuts, surveys and feeds: many chains see each key exactly once, wherever a listing is cut."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.storage.wire.reactor import Reactor
from entrepot.transfer.ranges import CutSearch, above, spread
from entrepot.transfer.survey import _Survey
from parts.memory_lane import MemoryLane

NUMBERED = {b"d%03d/f%05d" % (i // 100, i): (b"x", 1) for i in range(5000)}
HASHED = {b"%08x" % (i * 2654435761 % 2**32): (b"x", 1) for i in range(5000)}
DATED = {b"2026/%02d/%02d/%04d.bin" % (1 + i // 420, 1 + i // 15 % 28, i): (b"x", 1) for i in range(5000)}


def cuts(place: dict[bytes, tuple[bytes, int]], after: bytes, until: bytes | None, wanted: int) -> list[bytes]:
    lane = MemoryLane(place)
    found: list[list[bytes]] = []
    CutSearch(lane, after, until, wanted, found.append)
    while not found:
        assert lane.deliver()
    assert len(found) == 1
    return found[0]


def shares(place: dict[bytes, tuple[bytes, int]], edges: list[bytes]) -> list[int]:
    keys = sorted(place)
    counts = [0] * (len(edges) + 1)
    for key in keys:
        counts[sum(key > edge for edge in edges)] += 1
    return counts


def test_cuts_of_numbered_dated_and_hashed_keys_are_balanced() -> None:
    for place in (NUMBERED, DATED, HASHED):
        found = cuts(place, sorted(place)[10], None, 15)
        assert found == sorted(set(found))
        assert len(found) >= 7
        assert max(shares(place, found)) <= 5000 // 4


def test_one_cut_falls_near_the_middle() -> None:
    (found,) = cuts(NUMBERED, b"d000/f00007", None, 1)
    assert 1000 < sum(key <= found for key in NUMBERED) < 4000


def test_cuts_stay_inside_the_range() -> None:
    found = cuts(NUMBERED, b"d010/f01000", b"d020/f02000", 5)
    assert found
    assert all(b"d010/f01000" < key < b"d020/f02000" for key in found)


def test_a_range_without_further_keys_has_no_cut() -> None:
    assert cuts(NUMBERED, max(NUMBERED), None, 8) == []


@settings(max_examples=60, deadline=None)
@given(st.sets(st.binary(min_size=1, max_size=5), max_size=60), st.binary(max_size=3), st.integers(1, 9))
def test_cuts_are_real_keys_behind_the_start(keys: set[bytes], after: bytes, wanted: int) -> None:
    found = cuts(dict.fromkeys(keys, (b"", 1)), after, None, wanted)
    assert found == sorted(set(found))
    assert all(key in keys and key > after for key in found)
    assert len(found) <= wanted


class SlowLane(MemoryLane):
    """Answers a little at each look of the clock, so that a survey widens."""

    def __init__(self, place: dict[bytes, tuple[bytes, int]]) -> None:
        super().__init__(place, pages=50)


class Ticking(Reactor):
    def __init__(self, lane: MemoryLane) -> None:
        super().__init__()
        self.lane = lane

    def poll(self, timeout: float) -> int:
        import time

        time.sleep(0.005)
        return self.lane.deliver(len(self.lane.queue))


@pytest.mark.parametrize("place", [NUMBERED, HASHED], ids=["numbered", "hashed"])
def test_a_survey_by_many_chains_sees_every_key_once(place: dict[bytes, tuple[bytes, int]]) -> None:
    lane = SlowLane(place)
    seen: list[bytes] = []
    _Survey(lane, Ticking(lane), lambda rows: seen.extend(r[0] for r in rows), "mtime", 16, "memory").run()
    assert sorted(seen) == sorted(place)
    assert lane.counts["list"] > 100 + 5


def test_spread_and_above() -> None:
    keys = [b"%02d" % i for i in range(50)]
    assert len(spread(keys, 4)) == 4
    assert spread(keys[:3], 9) == keys[:3]
    assert above(keys, b"47") == [b"48", b"49"]
