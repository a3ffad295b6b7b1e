"""When a schedule is due: a cron expression in a time zone. Pure: the moment to count from is passed in.

Clocks that are put forward or back: an expression whose minute and hour are fixed names moments of the wall clock.
A moment that is left out comes as soon as the clock goes on (once), one that is there twice comes the first time.
Where minute or hour begin with ``*`` the steps are counted in real time.
"""

from __future__ import annotations

import zoneinfo
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from .errors import UsageError

EXPRESSION_MAX: Final = 200
FORM: Final = "minute hour day-of-month month day-of-week, as in '30 2 * * MON-FRI', or @daily"

MACROS: Final = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
"""Names for expressions that are often needed."""

_AT_ONE_MOMENT: Final = 10_000
"""More fires than any expression can have in the hour that a clock goes through twice."""


@dataclass(slots=True, frozen=True)
class Cron:
    """A checked expression; ``zone`` is a name of the IANA time zone database."""

    text: str
    zone: str = "UTC"

    def after(self, moment: float) -> float | None:
        """The first due time later than ``moment`` (both Unix time), a whole second; None: there is none any more."""
        from cronsim import CronSim, CronSimError

        where = UTC if self.zone == "UTC" else zoneinfo.ZoneInfo(self.zone)
        try:
            walk = CronSim(_five(self.text), datetime.fromtimestamp(moment, where))
            for _ in range(_AT_ONE_MOMENT):
                found = next(walk).timestamp()
                # In the second pass of a repeated hour the walk begins anew in the first one.
                if found > moment:
                    return found
        except (StopIteration, CronSimError, OverflowError, ValueError):
            pass
        return None


def parse(text: str, zone: str = "UTC", *, now: float) -> Cron:
    """Check an expression. Raises UsageError, with what is wrong, also for one that is never due."""
    check_zone(zone)
    fields = _five(text)
    _check_fields(text, fields)
    cron = Cron(" ".join(text.split()), zone)
    if cron.after(now) is None:
        raise UsageError(f"{cron.text!r} names a day that no calendar has: it would never be due", hint=FORM)
    return cron


def check_zone(name: str) -> str:
    """``name`` itself when it is a time zone. Raises UsageError."""
    if name not in _zones():
        shown = name if len(name) <= 60 else name[:60] + "…"
        raise UsageError(f"{shown!r} is no time zone", hint="a name such as UTC, Europe/Berlin or Asia/Shanghai")
    return name


def _five(text: str) -> str:
    return MACROS.get(text.strip().lower(), text)


def _check_fields(text: str, fields: str) -> None:
    from cronsim import CronSim, CronSimError

    if len(text) > EXPRESSION_MAX:
        raise UsageError(f"a cron expression of {len(text)} characters: at most {EXPRESSION_MAX}", hint=FORM)
    if not text.isascii() or not "".join(text.split()).isprintable():
        raise UsageError(f"{text!r} holds characters that no cron expression has", hint=FORM)
    if fields.lstrip().startswith("@"):
        raise UsageError(f"{text!r} is no name that is known", hint="one of: " + ", ".join(MACROS))
    if len(fields.split()) != 5:
        raise UsageError(f"{text!r} has {len(fields.split())} fields instead of five", hint=FORM)
    try:
        CronSim(fields, datetime(2000, 1, 1, tzinfo=UTC))
    except (CronSimError, ValueError, AssertionError) as error:
        raise UsageError(f"{text!r} is no cron expression: {_reason(error)}", hint=FORM) from None


def _reason(error: Exception) -> str:
    return str(error).replace("Bad ", "wrong ").lower() or "not understood"


@lru_cache(1)
def _zones() -> frozenset[str]:
    return frozenset(zoneinfo.available_timezones()) | {"UTC"}
