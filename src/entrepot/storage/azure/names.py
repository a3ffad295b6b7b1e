"""Keys as blob names: which of them Azure can hold, and how they travel in a URL.

A blob name is Unicode of 1 to 1,024 characters. The service reads ``\\`` as ``/``, drops dots at the end of a
path segment, resolves ``.`` and ``..``, and refuses control characters: such keys would land under another
name, so they are refused here. ``//`` and a leading ``/`` are kept by the service.
"""

from __future__ import annotations

import re
from urllib.parse import quote_from_bytes

from entrepot.model.errors import NameNotPossibleError

NAME_MAX = 1024
_ALTERED = re.compile(rb"[\x00-\x1f\x7f\\]|\.(?:/|\Z)")
_PLAIN = re.compile(rb"[A-Za-z0-9/._~-]*\Z").match


def encode(key: bytes) -> bytes:
    """``key`` as part of a request path. Raises NameNotPossibleError for a key that Azure would alter."""
    if _PLAIN(key) and len(key) <= NAME_MAX and not _ALTERED.search(key):
        return key
    check(key)
    return quote_from_bytes(key, safe="/~").encode()


def check(key: bytes) -> None:
    """Raise NameNotPossibleError for a key that cannot be a blob name."""
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        raise refused(key, "it is not UTF-8") from None
    if not text:
        raise refused(key, "it is empty")
    if len(text.encode("utf-16-le")) // 2 > NAME_MAX:
        raise refused(key, f"it is longer than {NAME_MAX} characters")
    if _ALTERED.search(key):
        raise refused(key, "control characters, backslashes and path segments that end in a dot do not survive there")
    if any("\x80" <= char <= "\x9f" or char in "\ufffe\uffff" for char in text):
        raise refused(key, "it holds characters that Azure does not allow")


def refused(key: bytes, why: str) -> NameNotPossibleError:
    """The error for a key that cannot be a blob name."""
    shown = key.decode("utf-8", "backslashreplace")
    return NameNotPossibleError(
        f"{shown!r} cannot be a blob name: {why}",
        subject=shown,
        hint="rename it at the source, or exclude it",
    )
