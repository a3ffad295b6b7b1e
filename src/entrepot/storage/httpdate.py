"""Dates as HTTP writes them (``Sun, 06 Nov 1994 08:49:37 GMT``), read without the mail library where they are plain."""

from __future__ import annotations

import re
from calendar import timegm

_PLAIN = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT")
_MONTHS = {
    name: number
    for number, name in enumerate(
        ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"), start=1
    )
}


def unix_time(text: str) -> int:
    """Seconds since 1970. Raises ValueError for what is no date."""
    found = _PLAIN.fullmatch(text)
    if found is None or found[2] not in _MONTHS:
        # Older servers write the forms of their time.
        from email.utils import parsedate_to_datetime

        return int(parsedate_to_datetime(text).timestamp())
    day, hour, minute, second = int(found[1]), int(found[4]), int(found[5]), int(found[6])
    if not (0 < day < 32 and hour < 24 and minute < 60 and second < 61):
        raise ValueError(f"no date: {text}")
    return timegm((int(found[3]), _MONTHS[found[2]], day, hour, minute, second))
