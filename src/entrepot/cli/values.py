"""Text that people type, read as values: sizes, rates, bandwidth windows, points in time."""

from __future__ import annotations

import re
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

_FACTORS = {
    "": 1, "b": 1,
    "k": 1 << 10, "kib": 1 << 10, "kb": 10**3,
    "m": 1 << 20, "mib": 1 << 20, "mb": 10**6,
    "g": 1 << 30, "gib": 1 << 30, "gb": 10**9,
    "t": 1 << 40, "tib": 1 << 40, "tb": 10**12,
    "p": 1 << 50, "pib": 1 << 50, "pb": 10**15,
}  # fmt: skip
_BITS = {"kbit": 125, "mbit": 125_000, "gbit": 125_000_000}
_NUMBER = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*?)\s*(/s)?\s*", re.ASCII)
_WINDOW = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)-([01]?\d|2[0-3]|24):([0-5]\d)=(.+)", re.ASCII)
_AGO = re.compile(r"(\d+(?:\.\d+)?)\s*(s|min|h|d|w|m|mo|y)", re.ASCII)
_SPANS = {"s": 1, "min": 60, "m": 60, "h": 3600, "d": 86_400, "w": 604_800}


def read_size(text: str) -> int:
    """Bytes from ``512``, ``64K``, ``1.5GiB`` (binary) or ``10MB`` (decimal). Raises ValueError."""
    found = _NUMBER.fullmatch(text)
    if not found or found[3] or found[2].lower() not in _FACTORS:
        raise ValueError(f"{text!r} is no size: write a number and K, M, G, T (binary) or KB, MB, GB, TB (decimal)")
    return _scaled(found[1], _FACTORS[found[2].lower()])


def read_rate(text: str) -> int:
    """Bytes per second from ``100M``, ``100MiB/s``, ``800Mbit``; ``off`` and ``0`` mean no limit."""
    if text.strip().lower() in {"off", "none", "unlimited"}:
        return 0
    found = _NUMBER.fullmatch(text)
    factor = found and (_FACTORS | _BITS).get(found[2].lower())
    if not found or not factor:
        raise ValueError(f"{text!r} is no rate: write bytes per second as 100M, or bits as 800Mbit")
    return _scaled(found[1], factor)


def read_bandwidth(text: str) -> tuple[int, tuple[str, ...]]:
    """(limit, windows) from ``100M`` or ``08:00-18:00=10M,20M``: windows, then the rate outside them."""
    limit = 0
    windows: list[str] = []
    pieces = [piece.strip() for piece in text.split(",")]
    for number, piece in enumerate(pieces):
        found = _WINDOW.fullmatch(piece)
        if found:
            if (found[3] == "24" and found[4] != "00") or f"{found[1]:0>2}:{found[2]}" == f"{found[3]:0>2}:{found[4]}":
                raise ValueError(f"{piece!r} is no window: write 08:00-18:00=10M")
            rate = read_rate(found[5])
            windows.append(f"{found[1]:0>2}:{found[2]}-{found[3]:0>2}:{found[4]}={rate}")
        elif number == len(pieces) - 1:
            limit = read_rate(piece)
        else:
            raise ValueError(f"{piece!r} is no window: write 08:00-18:00=10M, and the rate for all other times last")
    return limit, tuple(windows)


def read_moment(text: str, now: float) -> int:
    """ns since 1970 from an ISO date or time (local if it names no zone), or ``3d``, ``12h`` back from now.

    Spans are counted from the last full minute (hours, days and weeks: the last full hour), so that the same
    command run again soon means the same and goes on where it was.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago:
        if ago[2] not in _SPANS:
            raise ValueError(f"{text!r}: write days or weeks: months and years differ in length")
        span = _SPANS[ago[2]]
        base = int(now) if span == 1 else int(now) // 60 * 60 if span == 60 else int(now) // 3600 * 3600
        return int((base - float(ago[1]) * span) * 1_000_000_000)
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        raise ValueError(
            f"{text!r} is no time: write 2026-11-21, 2026-11-21T08:30Z, or 3d for three days ago"
        ) from None
    if moment.tzinfo is None:
        moment = moment.astimezone()
    return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


def read_share(text: str) -> float:
    """A share between 0 and 1 from ``0.25`` or ``25%``."""
    try:
        share = float(text[:-1]) / 100 if text.endswith("%") else float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no share: write 0.25 or 25%") from None
    if not 0 <= share <= 1:
        raise ValueError(f"{text!r}: a share lies between 0 and 1 (0% and 100%)")
    return share


def _scaled(number: str, factor: int) -> int:
    whole, _, part = number.partition(".")
    value = int(whole) * factor
    if part:
        value += int(part) * factor // 10 ** len(part)
    if value >= 1 << 63:
        raise ValueError(f"{number} is too large")
    return value


if TYPE_CHECKING:
    _ParamType = click.ParamType[Any]
else:
    _ParamType = click.ParamType


class _Reader(_ParamType):
    """A click type made of one of the readers above."""

    def __init__(self, name: str, read: object) -> None:
        self.name = name
        self._read = read

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        if not isinstance(value, str):
            return value
        try:
            return self._read(value)  # type: ignore[operator]
        except ValueError as fault:
            self.fail(str(fault), param, ctx)


def _now_moment(text: str) -> int:
    import time

    return read_moment(text, time.time())


SIZE = _Reader("size", read_size)
BANDWIDTH = _Reader("rate", read_bandwidth)
MOMENT = _Reader("time", _now_moment)
SHARE = _Reader("share", read_share)
