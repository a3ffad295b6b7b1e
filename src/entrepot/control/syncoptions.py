"""The options of a sync as requests write them: every field checked by name, and turned into ``SyncOptions``.

The native API, the schedules and the datasync family all read their options here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final, get_args

from entrepot.model.errors import RequestError, UsageError
from entrepot.model.options import PRESERVABLE, Compare, Delete, OnError, Symlinks, SyncOptions, Verify

REPORT: Final = "report.jsonl"
"""What ``SyncOptions.report`` is for a task of a server: the file has its own place there."""
BIGGEST: Final = 2**62
RULES_MAX: Final = 1000
WINDOWS_MAX: Final = 48
PART_MIN, PART_MAX = 100 << 10, 5 << 30
_WINDOW = re.compile(r"([01]\d|2[0-3]):[0-5]\d-(?:([01]\d|2[0-3]):[0-5]\d|24:00)=\d{1,15}", re.ASCII)
_SPEC = re.compile(r"([1-9]\d{0,2})Core_([1-9]\d{0,3})GiB", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
_YEAR_MAX = 253_402_300_799.0


@dataclass(slots=True, frozen=True)
class Read:
    """What options say: those of the engine, and what the server itself needs.

    ``list`` is a location of a file of keys; ``plain`` are the options as they were given, for showing them.
    """

    options: SyncOptions
    list: str = ""
    resource_spec: str = ""
    plain: dict[str, Any] = field(default_factory=dict)


def read(given: Mapping[str, Any], prefix: str = "options", *, lenient: bool = False) -> Read:
    """Options from JSON values. Raises RequestError that names the field; ``lenient`` passes over unknown names."""
    plain: dict[str, Any] = {}
    values: dict[str, Any] = {}
    for name, value in given.items():
        if value is None:
            continue
        reader = _READERS.get(name)
        if reader is None:
            if lenient:
                continue
            raise RequestError(f"{prefix}.{str(name)[:64]}", "there is no such option")
        try:
            values[name] = reader(value)
        except RequestError as fault:
            place = f"{prefix}.{name}" + (f".{fault.field}" if fault.field else "")
            raise RequestError(place, fault.description, hint=fault.hint) from None
        plain[name] = value
    return _joined(values, plain, prefix)


def _joined(values: dict[str, Any], plain: dict[str, Any], prefix: str) -> Read:
    listed, spec = values.pop("list", ""), values.pop("resource_spec", "")
    if values.pop("report", False):
        values["report"] = REPORT
    includes, excludes = values.pop("include", ()), values.pop("exclude", ())
    rules = (*values.pop("filters", ()), *(f"+ {one}" for one in includes), *(f"- {one}" for one in excludes))
    if rules:
        _check_rules(rules, prefix)
        values["filters"] = rules
    try:
        options = SyncOptions(**values)
    except UsageError as fault:
        raise RequestError(prefix, fault.message, hint=fault.hint) from None
    _check_together(options, listed, prefix)
    return Read(options, listed, spec, plain)


def _check_together(options: SyncOptions, listed: str, prefix: str) -> None:
    if options.max_size and options.min_size > options.max_size:
        raise RequestError(f"{prefix}.min_size", "larger than max_size: nothing would be left")
    if options.modified_before and options.modified_after >= options.modified_before:
        raise RequestError(f"{prefix}.modified_after", "not before modified_before: nothing would be left")
    if options.delete == "none":
        for name in ("delete_excluded", "allow_empty_source"):
            if getattr(options, name):
                raise RequestError(f"{prefix}.{name}", "it means nothing without delete")
    elif listed:
        raise RequestError(f"{prefix}.delete", "it does not go together with a list of keys")


def _check_rules(rules: tuple[str, ...], prefix: str) -> None:
    from entrepot.transfer.filters import Filter

    if len(rules) > RULES_MAX:
        raise RequestError(f"{prefix}.filters", f"more than {RULES_MAX} rules")
    try:
        Filter(rules)
    except UsageError as fault:
        raise RequestError(f"{prefix}.filters", fault.message, hint=fault.hint) from None


def _choice(*allowed: str) -> Callable[[Any], str]:
    def reader(value: Any) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise RequestError("", "no such choice", hint="one of: " + ", ".join(allowed))
        return value

    return reader


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise RequestError("", "must be true or false")
    return value


def _number(low: int, high: int) -> Callable[[Any], int]:
    def reader(value: Any) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise RequestError("", "must be a whole number")
        if not low <= value <= high:
            raise RequestError("", f"must be from {low} to {high}")
        return value

    return reader


def _part(value: Any) -> int:
    size = _number(0, PART_MAX)(value)
    if size and size < PART_MIN:
        raise RequestError("", f"must be 0 or from {PART_MIN} to {PART_MAX}")
    return size


def _share(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value <= 1:
        raise RequestError("", "must be a number from 0 to 1")
    return float(value)


def _text(most: int) -> Callable[[Any], str]:
    def reader(value: Any) -> str:
        if not isinstance(value, str):
            raise RequestError("", "must be text")
        if len(value) > most:
            raise RequestError("", f"longer than {most} characters")
        if _CONTROL.search(value) or any("\ud800" <= character <= "\udfff" for character in value):
            raise RequestError("", "it holds control characters")
        return value

    return reader


def _texts(most: int, each: Callable[[Any], str]) -> Callable[[Any], tuple[str, ...]]:
    def reader(value: Any) -> tuple[str, ...]:
        if not isinstance(value, (list, tuple)):
            raise RequestError("", "must be a list")
        if len(value) > most:
            raise RequestError("", f"more than {most} of them")
        found = []
        for number, one in enumerate(value):
            try:
                found.append(each(one))
            except RequestError as fault:
                raise RequestError(str(number), fault.description, hint=fault.hint) from None
        return tuple(found)

    return reader


def _pattern(value: Any) -> str:
    text = _text(1024)(value)
    if not text.strip("/ "):
        raise RequestError("", "an empty pattern")
    if text.count("*") > 32:
        raise RequestError("", "more than 32 stars in one pattern")
    return text


def _rule(value: Any) -> str:
    text = _text(1026)(value)
    if text[:2] not in ("+ ", "- "):
        raise RequestError("", "no rule", hint="write '+ PATTERN' or '- PATTERN'")
    return text[:2] + _pattern(text[2:])


def _window(value: Any) -> str:
    text = _text(64)(value)
    if not _WINDOW.fullmatch(text):
        raise RequestError("", "no window", hint="write HH:MM-HH:MM=BYTES_PER_SECOND")
    return text


def _time(value: Any) -> int:
    text = _text(64)(value)
    try:
        found = datetime.fromisoformat(text)
        if found.tzinfo is None or "T" not in text.upper():
            raise ValueError
        at = found.timestamp()
    except (ValueError, OverflowError):
        raise RequestError("", "no time of the form 2026-11-22T08:30:00Z") from None
    if not 0 <= at <= _YEAR_MAX:
        raise RequestError("", "a time before 1970 or after 9999")
    return int(at) * 1_000_000_000 + found.microsecond * 1000


def _resources(value: Any) -> str:
    text = _text(32)(value)
    if text and not _SPEC.fullmatch(text):
        raise RequestError("", "no resource specification", hint="write 4Core_8GiB")
    return text


_READERS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "compare": _choice(*get_args(Compare)),
    "verify": _choice(*get_args(Verify)),
    "delete": _choice(*get_args(Delete)),
    "delete_max_count": _number(0, BIGGEST),
    "delete_max_share": _share,
    "delete_excluded": _truth,
    "allow_empty_source": _truth,
    "filters": _texts(RULES_MAX, _rule),
    "include": _texts(RULES_MAX, _pattern),
    "exclude": _texts(RULES_MAX, _pattern),
    "min_size": _number(0, BIGGEST),
    "max_size": _number(0, BIGGEST),
    "modified_after": _time,
    "modified_before": _time,
    "list": _text(4096),
    "symlinks": _choice(*get_args(Symlinks)),
    "preserve": _texts(len(PRESERVABLE), _choice(*PRESERVABLE)),
    "storage_class": _text(64),
    "bandwidth": _number(0, BIGGEST),
    "bandwidth_windows": _texts(WINDOWS_MAX, _window),
    "max_requests": _number(0, 1_000_000),
    "on_error": _choice(*get_args(OnError)),
    "max_failures": _number(0, BIGGEST),
    "dry_run": _truth,
    "report": _truth,
    "fsync": _truth,
    "part_size": _part,
    "concurrency": _number(0, 1024),
    "escape_names": _truth,
    "server_side": _truth,
    "resource_spec": _resources,
}
NAMES: Final = tuple(_READERS)
"""All options that a request may have."""
