"""The pace: connections climb while they pay, halve under throttling and come back; buckets keep their rate."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.pace import Bucket, Pace


def simulate(
    pace: Pace, rate_of: Callable[[int], float], seconds: float, *, at: float = 0.0, busy: bool = False
) -> float:
    """Tick through ``seconds`` with every allowed connection in use; the time at the end."""
    work = idle = 1000.0 * at
    sent = 0
    end = at + seconds
    while at < end:
        at += 0.1
        work += 0.1 * rate_of(pace.window.limit)
        idle += 0.0 if busy else 0.05
        sent += int(0.1 * rate_of(pace.window.limit))
        pace.tick(at, sent, work, idle, pace.window.limit)
    return at


def test_a_far_store_gets_hundreds_of_connections_within_seconds() -> None:
    pace = Pace(LaneOptions())
    simulate(pace, lambda limit: limit / 0.02, 4.0)
    assert pace.window.limit == 256


def test_connections_that_bring_nothing_are_given_back() -> None:
    pace = Pace(LaneOptions())
    simulate(pace, lambda limit: 1000.0 * min(limit, 32), 30.0)
    assert pace.window.limit == 32


def test_a_busy_process_opens_no_more() -> None:
    pace = Pace(LaneOptions())
    simulate(pace, lambda limit: limit * 100.0, 5.0, busy=True)
    assert pace.window.limit == 16


def test_a_fixed_number_stays() -> None:
    pace = Pace(LaneOptions(connections=7))
    simulate(pace, lambda limit: limit * 100.0, 5.0)
    assert pace.window.limit == 7
    pace.throttled(5.0, 0.0)
    assert pace.window.limit == 3
    simulate(pace, lambda limit: limit * 100.0, 5.0, at=5.0)
    assert pace.window.limit == 7


def test_one_storm_of_refusals_halves_once_a_second() -> None:
    pace = Pace(LaneOptions(connections=64))
    for i in range(50):
        pace.throttled(10.0 + i / 100, 0.0)
    assert pace.window.limit == 32
    pace.throttled(11.5, 0.0)
    assert pace.window.limit == 16


def test_after_ten_minutes_of_storm_full_speed_is_back_within_one() -> None:
    pace = Pace(LaneOptions())
    now = simulate(pace, lambda limit: min(limit * 50.0, 4000.0), 5.0)
    before = pace.window.limit
    while now < 600.0:
        now += 0.5
        pace.throttled(now, 0.0)
        pace.tick(now, 0, 0.0, now, 1)
    assert pace.window.limit == 1
    assert pace.gated
    sent = work = 0.0
    end = now + 60.0
    while now < end:
        now += 0.1
        allowed = 0.0
        while allowed < pace.window.limit * 5.0 and pace.wait(now) <= 0.0:
            allowed += 1.0
            pace.sent()
        sent += allowed
        work += allowed
        pace.tick(now, int(sent), work, now * 0.5, pace.window.limit)
    assert pace.window.limit >= 0.9 * before
    assert not pace.gated, "the rate limit has gone"


def test_retry_after_holds_everything() -> None:
    pace = Pace(LaneOptions())
    pace.throttled(1.0, 5.0)
    assert pace.gated
    assert pace.wait(2.0) == pytest.approx(4.0)
    pace.tick(3.0, 0, 0.0, 0.0, 0)
    assert pace.gated


@pytest.mark.parametrize("rate", [3.0, 100.0, 5000.0])
def test_a_bucket_keeps_its_rate_and_may_be_overdrawn(rate: float) -> None:
    bucket = Bucket(rate, 1.0)
    now = taken = 0.0
    while now < 10.0:
        wait = bucket.wait(now)
        if wait <= 0.0:
            bucket.take(rate / 2)
            taken += rate / 2
        else:
            now += wait
    assert taken == pytest.approx(10.0 * rate, rel=0.15)


def test_limits_can_change_while_running() -> None:
    pace = Pace(LaneOptions())
    assert not pace.gated
    assert pace.moved(1 << 20, 0.0) == 0.0
    pace.limit_bandwidth(1 << 20)
    assert pace.gated
    assert pace.moved(2 << 20, 1.0) == pytest.approx(1.9, abs=0.1)
    assert pace.chunk < 1 << 17
    pace.limit_bandwidth(0)
    assert not pace.gated
    assert pace.moved(1 << 20, 1.0) == 0.0
