"""What people type, read as values; and values as text for people."""

from __future__ import annotations

import subprocess
import time
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.cli.values import read_bandwidth, read_moment, read_rate, read_share, read_size
from entrepot.cli.words import (
    count_text,
    duration_text,
    entries_text,
    failure_text,
    key_json,
    key_text,
    plain_text,
    size_text,
    utc_text,
)

NOW = 1_795_000_000.0


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0), ("512", 512), ("512B", 512), ("64K", 65536), ("64k", 65536), ("64KiB", 65536),
        ("64KB", 64000),
        ("1.5G", 3 << 29), ("1.5 GiB", 3 << 29), ("10MB", 10_000_000), ("2T", 2 << 40), ("0.5K", 512),
        ("1P", 1 << 50),
    ],
)  # fmt: skip
def test_sizes(text: str, size: int) -> None:
    assert read_size(text) == size


@pytest.mark.parametrize("text", ["", "K", "-1", "1X", "1e3", "1,5G", "1 2", "1K/s", "٣", "9999P9", "99999P"])
def test_no_sizes(text: str) -> None:
    with pytest.raises(ValueError):
        read_size(text)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("100M", 100 << 20),
        ("100MiB/s", 100 << 20),
        ("800Mbit", 100_000_000),
        ("1Gbit/s", 125_000_000),
        ("off", 0),
        ("0", 0),
    ],
)
def test_rates(text: str, rate: int) -> None:
    assert read_rate(text) == rate


def test_bandwidth_with_windows() -> None:
    assert read_bandwidth("100M") == (100 << 20, ())
    assert read_bandwidth("08:00-18:00=10M,20M") == (20 << 20, ("08:00-18:00=10485760",))
    assert read_bandwidth("8:00-12:30=1M, 22:00-06:00=off") == (0, ("08:00-12:30=1048576", "22:00-06:00=0"))
    assert read_bandwidth("18:00-24:00=1K,0") == (0, ("18:00-24:00=1024",))


@pytest.mark.parametrize(
    "text",
    [
        "10M,20M",
        "08:00-18:00",
        "25:00-26:00=1M",
        "08:00-08:00=1M",
        "08:00-24:30=1M",
        "10M,08:00-18:00=1M",
        "08:60-09:00=1",
    ],
)
def test_no_bandwidth(text: str) -> None:
    with pytest.raises(ValueError):
        read_bandwidth(text)


def test_moments() -> None:
    whole = int(datetime(2026, 11, 21, 8, 30, tzinfo=UTC).timestamp())
    assert read_moment("2026-11-21T08:30Z", NOW) == whole * 10**9
    assert read_moment("2026-11-21T16:30:00.5+08:00", NOW) == whole * 10**9 + 500_000_000
    local = time.mktime((2026, 11, 21, 0, 0, 0, 0, 0, -1))
    assert read_moment("2026-11-21", NOW) == int(local) * 10**9


def test_spans_are_stable_so_that_a_rerun_means_the_same() -> None:
    assert read_moment("3d", NOW) == read_moment("3d", NOW + 1) == (int(NOW) // 3600 * 3600 - 3 * 86400) * 10**9
    assert read_moment("90s", NOW) == (int(NOW) - 90) * 10**9
    assert read_moment("1.5h", NOW) == (int(NOW) // 3600 * 3600 - 5400) * 10**9


@pytest.mark.parametrize("text", ["", "yesterday", "3mo", "1y", "2026-13-01", "3"])
def test_no_moments(text: str) -> None:
    with pytest.raises(ValueError):
        read_moment(text, NOW)


def test_shares() -> None:
    assert (read_share("0.25"), read_share("25%"), read_share("1"), read_share("100%")) == (
        0.25,
        0.25,
        1.0,
        1.0,
    )
    for text in ("", "2", "-0.1", "101%", "x", "nan"):
        with pytest.raises(ValueError):
            read_share(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"), (999, "999 B"), (1000, "0.98 KiB"), (1536, "1.50 KiB"), (10 << 20, "10.0 MiB"),
        (118 << 20, "118 MiB"), (1023 << 20, "1.00 GiB"), ((1 << 30) - 1, "1.00 GiB"), (1 << 62, "4.00 EiB"),
    ],
)  # fmt: skip
def test_size_text(size: int, text: str) -> None:
    assert size_text(size) == text


@given(st.integers(0, 1 << 63))
def test_size_text_is_short_and_close(size: int) -> None:
    text = size_text(size)
    number, unit = text.split()
    factor = 1024 ** ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB").index(unit)
    assert len(number) <= 5
    assert abs(float(number) * factor - size) <= max(0.011 * size, 0)


def test_duration_text() -> None:
    shown = [duration_text(s) for s in (0, 0.44, 9.9, 42, 59.6, 123, 3723, 200_000)]
    assert shown == ["0.0 s", "0.4 s", "9.9 s", "42 s", "1m00s", "2m03s", "1h02m03s", "2d07h"]


def test_counts() -> None:
    assert (count_text(1234567), entries_text(1), entries_text(0)) == ("1,234,567", "1 object", "0 objects")


def test_utc_text_keeps_every_digit() -> None:
    assert utc_text(1_500_000_000_123_456_789) == "2017-07-14T02:40:00.123456789Z"
    assert utc_text(-1) == "1969-12-31T23:59:59.999999999Z"
    assert utc_text(1_500_000_000 * 10**9) == "2017-07-14T02:40:00Z"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (b"a/b c.txt", "a/b c.txt"),
        (b"", "''"),
        ("数据/é.bin".encode(), "数据/é.bin"),
        (b"a\nb", r"$'a\nb'"),
        (b"\x1b[31mred", r"$'\e[31mred'"),
        (b"caf\xe9", r"$'caf\xe9'"),
        ("a\u202eb".encode(), r"$'a\xe2\x80\xaeb'"),
        (b"it's \x01", r"$'it\'s \x01'"),
        (b"$'x", r"$'$\'x'"),
        (b"\xc2\x9bA", r"$'\xc2\x9bA'"),
    ],
)
def test_key_text(key: bytes, text: str) -> None:
    assert key_text(key) == text


@given(st.binary(max_size=40).filter(lambda key: b"\0" not in key))
def test_no_key_can_harm_a_terminal(key: bytes) -> None:
    assert key_text(key).isprintable()


def test_a_quoted_key_pasted_into_bash_is_the_same_key() -> None:
    keys = [b"a\nb", b"\x1b[0m\x80\xff'\\ x", "\u2028\u202e\u200fz".encode(), b"\x7f1", b"\x011", b"tab\t'"]
    script = "printf '%s\\0' " + " ".join(key_text(key) for key in keys)
    done = subprocess.run(["bash", "-c", script], capture_output=True, check=True)
    assert done.stdout.split(b"\0")[:-1] == keys


def test_a_failure_names_its_key_once() -> None:
    assert failure_text(b"a\n", r"b'a\n' is missing") == r"$'a\n': is missing"
    assert failure_text(b"a", "no answer\x07") == r"a: no answer\x07"


def test_messages_from_elsewhere_stay_on_one_harmless_line() -> None:
    assert plain_text("a\nb\x1b[2J") == r"a b\e[2J"


def test_keys_in_json() -> None:
    assert key_json("é".encode()) == {"key": "é"}
    assert key_json(b"\xff") == {"key": "\\xff", "key_hex": "ff"}
    assert key_json(b"a", "prefix") == {"prefix": "a"}
