"""Cron expressions: what is understood, what is refused, and what happens when clocks change."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.model import cron
from entrepot.model.errors import UsageError

NOW = datetime(2026, 3, 1, tzinfo=UTC).timestamp()


def _at(text: str, zone: str = "UTC", fold: int = 0) -> float:
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone), fold=fold).timestamp()


def _fires(text: str, zone: str, start: float, end: float) -> list[float]:
    one = cron.parse(text, zone, now=NOW)
    found: list[float] = []
    moment = one.after(start)
    while moment is not None and moment <= end:
        found.append(moment)
        moment = one.after(moment)
    return found


@pytest.mark.parametrize(
    ("text", "start", "expected"),
    [
        ("30 2 * * *", "2026-03-01 02:30", "2026-03-02 02:30"),
        ("*/15 * * * *", "2026-03-01 00:01", "2026-03-01 00:15"),
        ("0 9-17/4 * * MON-FRI", "2026-03-06 17:30", "2026-03-09 09:00"),
        ("0 0 1 JAN,JUL *", "2026-03-01 00:00", "2026-07-01 00:00"),
        ("0 12 * * 0", "2026-03-01 12:00", "2026-03-08 12:00"),
        ("0 12 * * 7", "2026-03-02 12:00", "2026-03-08 12:00"),
        ("0 0 13 * FRI", "2026-03-01 00:00", "2026-03-06 00:00"),  # the 13th, or a Friday
        ("0 0 29 2 *", "2026-03-01 00:00", "2028-02-29 00:00"),
        ("0 0 L * *", "2026-02-01 00:00", "2026-02-28 00:00"),
        ("@hourly", "2026-03-01 00:00", "2026-03-01 01:00"),
        ("@Daily", "2026-03-01 00:00", "2026-03-02 00:00"),
        ("@weekly", "2026-03-01 00:00", "2026-03-08 00:00"),
        ("@monthly", "2026-03-01 00:00", "2026-04-01 00:00"),
        ("@yearly", "2026-03-01 00:00", "2027-01-01 00:00"),
        ("  0\t5  * * *  ", "2026-03-01 00:00", "2026-03-01 05:00"),
    ],
)
def test_an_expression_is_due_next(text: str, start: str, expected: str) -> None:
    assert cron.parse(text, now=NOW).after(_at(start)) == _at(expected)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "0 fields"),
        ("* * * *", "4 fields"),
        ("0 * * * * *", "6 fields"),
        ("60 * * * *", "minute"),
        ("* 24 * * *", "hour"),
        ("* * 0 * *", "day-of-month"),
        ("* * 32 * *", "day-of-month"),
        ("* * * 13 *", "month"),
        ("* * * * 8", "day-of-week"),
        ("* * * * MOO", "day-of-week"),
        ("5-1 * * * *", "minute"),
        ("*/0 * * * *", "minute"),
        ("-1 * * * *", "minute"),
        ("1,,2 * * * *", "minute"),
        ("1.5 * * * *", "minute"),
        ("* * * * 1L/2", "day-of-week"),
        ("@reboot", "no name that is known"),
        ("@", "no name that is known"),
        ("0 0 30 2 *", "day-of-month"),
        ("0 0 31 FEB,APR *", "day-of-month"),
        ("* * * * *\x00", "characters"),
        ("０ ０ * * *", "characters"),
        ("*" * 201, "201 characters"),
        ("'; DROP TABLE schedule; -- *", "6 fields"),
    ],
)
def test_a_wrong_expression_is_refused_with_its_field(text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        cron.parse(text, now=NOW)
    assert caught.value.hint


def test_a_day_that_never_comes_is_refused() -> None:
    with pytest.raises(UsageError, match="never be due"):
        cron.parse("* * */20 * 1L", now=NOW)  # the last Monday of a month, were it the 1st or the 21st


@pytest.mark.parametrize("zone", ["", "Mars/Base", "../etc/passwd", "/etc/localtime", "America", "utc\x00", "x" * 500])
def test_a_wrong_zone_is_refused(zone: str) -> None:
    with pytest.raises(UsageError, match="no time zone"):
        cron.parse("@daily", zone, now=NOW)


def test_a_moment_that_the_clock_leaves_out_comes_right_after_the_gap() -> None:
    # Berlin, 29 March 2026: 02:00 becomes 03:00.
    day = (_at("2026-03-29 00:00", "Europe/Berlin"), _at("2026-03-29 23:59", "Europe/Berlin"))
    assert _fires("30 2 * * *", "Europe/Berlin", *day) == [_at("2026-03-29 03:00", "Europe/Berlin")]
    assert _fires("15,45 2 * * *", "Europe/Berlin", *day) == [_at("2026-03-29 03:00", "Europe/Berlin")]
    # What is also due after the gap comes once as well.
    assert _fires("0 2,3 * * *", "Europe/Berlin", *day) == [_at("2026-03-29 03:00", "Europe/Berlin")]


def test_a_moment_that_is_there_twice_comes_once() -> None:
    # Berlin, 25 October 2026: 03:00 becomes 02:00 again.
    day = (_at("2026-10-25 00:00", "Europe/Berlin"), _at("2026-10-25 23:59", "Europe/Berlin"))
    assert _fires("30 2 * * *", "Europe/Berlin", *day) == [_at("2026-10-25 02:30", "Europe/Berlin")]
    # Also for a scheduler that begins to look in the second pass.
    second = _at("2026-10-25 02:10", "Europe/Berlin", fold=1)
    assert _fires("30 2 * * *", "Europe/Berlin", second, day[1]) == []


def test_steps_go_on_in_real_time_when_the_clock_changes() -> None:
    spring = (_at("2026-03-29 00:59", "Europe/Berlin"), _at("2026-03-29 04:01", "Europe/Berlin"))
    assert [t - spring[0] for t in _fires("*/30 * * * *", "Europe/Berlin", *spring)] == [60, 1860, 3660, 5460, 7260]
    autumn = (_at("2026-10-25 01:59", "Europe/Berlin"), _at("2026-10-25 03:01", "Europe/Berlin"))
    assert [t - autumn[0] for t in _fires("*/30 * * * *", "Europe/Berlin", *autumn)] == [60, 1860, 3660, 5460, 7260]


def test_a_midnight_that_the_clock_leaves_out() -> None:
    # Beirut, 29 March 2026: 00:00 becomes 01:00.
    start, end = _at("2026-03-28 12:00", "Asia/Beirut"), _at("2026-03-29 12:00", "Asia/Beirut")
    assert _fires("0 0 * * *", "Asia/Beirut", start, end) == [_at("2026-03-29 01:00", "Asia/Beirut")]


def test_zones_with_odd_offsets() -> None:
    assert cron.parse("0 0 * * *", "Asia/Kathmandu", now=NOW).after(_at("2026-03-01 00:00")) == _at("2026-03-01 18:15")


_FIELD = st.one_of(st.just("*"), st.integers(0, 6).map(lambda n: str(max(n, 1))), st.just("*/5"), st.just("1-6/2"))


@settings(max_examples=150, deadline=None)
@given(
    st.tuples(_FIELD, _FIELD, _FIELD, _FIELD, _FIELD).map(" ".join),
    st.sampled_from(["UTC", "Europe/Berlin", "America/New_York", "Asia/Beirut", "Australia/Lord_Howe"]),
    st.floats(NOW, NOW + 400 * 86400),
)
def test_due_times_are_whole_minutes_that_only_grow(text: str, zone: str, start: float) -> None:
    one = cron.parse(text, zone, now=NOW)
    moment = start
    for _ in range(3):
        found = one.after(moment)
        if found is None:
            return
        assert found > moment
        assert found % 60 == 0
        moment = found


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=40), st.text(max_size=20))
def test_any_text_is_understood_or_refused(text: str, zone: str) -> None:
    for arguments in ((text, "UTC"), ("@daily", zone)):
        try:
            cron.parse(*arguments, now=NOW)
        except UsageError as error:
            assert error.message
