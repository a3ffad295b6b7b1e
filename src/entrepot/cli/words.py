"""Values as text for people: sizes, rates, durations, times, and keys that cannot harm a terminal."""

from __future__ import annotations

import time
import unicodedata
from typing import Any

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def size_text(size: float) -> str:
    """Binary units with three significant digits: ``512 B``, ``1.50 KiB``, ``118 MiB``."""
    value = float(size)
    unit = 0
    while value >= 999.5 and unit < len(_UNITS) - 1:
        value /= 1024
        unit += 1
    if unit == 0:
        return f"{int(value)} B"
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {_UNITS[unit]}"


def count_text(count: int) -> str:
    """Digits in groups of three."""
    return f"{count:,}"


def rate_text(rate: float) -> str:
    """Bytes per second."""
    return size_text(rate) + "/s"


def duration_text(seconds: float) -> str:
    """``0.4 s``, ``42 s``, ``2m03s``, ``1h02m03s``, ``3d04h``."""
    if seconds < 10:
        return f"{max(seconds, 0):.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, left = divmod(whole, 60)
    if minutes < 60:
        return f"{minutes}m{left:02d}s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours}h{minutes:02d}m{left:02d}s"
    return f"{hours // 24}d{hours % 24:02d}h"


def time_text(mtime_ns: int) -> str:
    """Local time to the second; something sensible for any number."""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(mtime_ns // 1_000_000_000))
    except (OverflowError, ValueError, OSError):
        return "?"


def utc_text(mtime_ns: int) -> str:
    """RFC 3339 in UTC with all the digits that are there, for machines."""
    whole, part = divmod(mtime_ns, 1_000_000_000)
    try:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole))
    except (OverflowError, ValueError, OSError):
        return ""
    return stamp + (f".{part:09d}".rstrip("0") if part else "") + "Z"


def key_text(key: bytes) -> str:
    """A key for a terminal: as it is, or as ``$'…'`` (bash, zsh) when it holds what would not show.

    The quoted form can be pasted into a shell and means exactly the same bytes.
    """
    try:
        text = key.decode()
    except UnicodeDecodeError:
        text = key.decode("utf-8", "surrogateescape")
    else:
        if text.isprintable() and not text.startswith("$'"):
            return text or "''"
    return "$'" + "".join(_quoted(c) for c in text) + "'"


def _quoted(char: str) -> str:
    if char in "\\'":
        return "\\" + char
    code = ord(char)
    if 0xDC80 <= code <= 0xDCFF:
        return f"\\x{code - 0xDC00:02x}"
    if char == " " or (char.isprintable() and unicodedata.category(char)[0] != "C"):
        return char
    named = {"\n": "\\n", "\t": "\\t", "\r": "\\r", "\x1b": "\\e"}.get(char)
    return named or "".join(f"\\x{byte:02x}" for byte in char.encode("utf-8", "surrogatepass"))


def plain_text(text: str) -> str:
    """A message from elsewhere (a server, the system) made safe for a terminal, on one line."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else " " if c in "\n\t\r" else _quoted(c) for c in text)


def key_json(key: bytes, name: str = "key") -> dict[str, Any]:
    """A key for JSON as reports have it: ``key``, and ``key_hex`` beside it when the bytes are not UTF-8."""
    try:
        return {name: key.decode()}
    except UnicodeDecodeError:
        return {name: key.decode("utf-8", "backslashreplace"), f"{name}_hex": key.hex()}


def failure_text(key: bytes, message: str) -> str:
    """``KEY: what happened``, with the key said once."""
    return f"{key_text(key)}: {plain_text(message.removeprefix(f'{key!r}').lstrip(' :'))}"


def entries_text(count: int, noun: str = "object") -> str:
    """``1 object``, ``1,234 objects``."""
    return f"{count_text(count)} {noun}{'' if count == 1 else 's'}"
