"""Which keys a backend can hold: a key must come back from a listing exactly as it was written, else it is refused.

Backends with directories merge ``a//b`` and ``a/b``, resolve ``.`` and ``..`` and have no place for bytes
under a name that ends in ``/``; some transports cannot carry control characters or anything but UTF-8.
"""

from __future__ import annotations

import re
import secrets
import unicodedata

from entrepot.model.errors import NameNotPossibleError

TEMPORARY = re.compile(rb"\.entrepot-(?:e\xcc\x81|\xc3\xa9)?[0-9a-f]{16}\.part(?:.x)?\Z", re.DOTALL)
"""Names of files on their way; listings leave them out."""
_ORDINARY = re.compile(rb"[A-Za-z0-9/._ \x80-\xff-]+")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f]")
_SEGMENT_MAX = {"sftp": 255, "webdav": 255, "hdfs": 255, "gcs": 1024}
_KEY_MAX = {"sftp": 4000, "webdav": 4000, "hdfs": 8000, "gcs": 1024}


def check(key: bytes, protocol: str) -> bytes:
    """``key`` itself when ``protocol`` can hold it. Raises NameNotPossibleError."""
    why = _fault(key, protocol)
    if why:
        shown = key.decode("utf-8", "backslashreplace")
        raise NameNotPossibleError(
            f"{shown!r} cannot be a name over {protocol}: {why}",
            subject=shown,
            hint="rename it at the source, or exclude it",
        )
    return key


def encode(path: bytes) -> str:
    """``path`` as text for a library; :func:`decode` is the exact reverse."""
    return path.decode("utf-8", "surrogateescape")


def decode(text: str) -> bytes:
    """A library's text as a path."""
    return text.encode("utf-8", "surrogateescape")


def composed(key: bytes) -> bool:
    """True when ``key`` is in the form (NFC) that servers which tidy Unicode would give it."""
    return key.isascii() or unicodedata.is_normalized("NFC", encode(key))


def temporary_name(*, decomposed: bool = False) -> bytes:
    """A fresh name for a file on its way; ``decomposed`` holds a letter that has two Unicode forms."""
    return b".entrepot-" + (b"e\xcc\x81" if decomposed else b"") + secrets.token_hex(8).encode() + b".part"


def doubtful(key: bytes) -> set[int]:
    """The characters of ``key`` that some servers cut a name at, or change on the way."""
    return set(_ORDINARY.sub(b"", key))


def is_temporary(name: bytes) -> bool:
    """True for the name of a file on its way."""
    return TEMPORARY.search(name) is not None


def _fault(key: bytes, protocol: str) -> str:
    if not key:
        return "it is empty"
    if key.startswith(b"/") or key.endswith(b"/") or b"//" in key:
        return "it has an empty segment"
    if len(key) > _KEY_MAX.get(protocol, 1024):
        return "it is too long"
    segments = key.split(b"/")
    if b"." in segments or b".." in segments:
        return "'.' and '..' are directories there"
    if max(map(len, segments)) > _SEGMENT_MAX.get(protocol, 255):
        return "one of its segments is too long"
    if b"\0" in key:
        return "it holds a NUL"
    if is_temporary(segments[-1]):
        return "names of this form are kept for files on their way"
    if protocol == "sftp":
        return ""
    if _CONTROL.search(key):
        return "it holds control characters"
    try:
        text = key.decode("utf-8")
    except UnicodeDecodeError:
        return "it is not UTF-8"
    if text.encode("utf-8") != key or any("\x80" <= c <= "\x9f" or c in "\ufffe\uffff" for c in text):
        return "it holds characters that cannot travel"
    if protocol == "hdfs" and b":" in key:
        return "HDFS has no colons in names"
    if protocol == "gcs" and key.startswith(b".well-known/acme-challenge/"):
        return "Google Cloud Storage keeps this prefix for itself"
    return ""
