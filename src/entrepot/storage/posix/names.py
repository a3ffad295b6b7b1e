"""Keys and file names: which key can be a path, and the reversible escape for those that cannot.

Without escaping a key is its path, byte for byte; a key that no path can hold raises NameNotPossibleError.

With escaping (``escape_names``) keys and paths are mapped onto each other, segment by segment:

- NUL is written ``%00``; a segment ``.`` or ``..`` and the reserved start ``.entrepot-`` have their dots (the
  first one, for the reserved start) written ``%2E``.
- A slash that cannot be a separator (leading, doubled, trailing) is written ``%2F`` and stays with the
  segment that follows it, or, at the end of the key, with the one before: ``a//b`` is ``a/%2Fb``, ``/x`` is
  ``%2Fx``, ``d/`` is ``d%2F``.
- ``%`` is written ``%25`` only where it stands before ``00``, ``25``, ``2E`` or ``2F``: other names with a
  percent sign keep their look.
- A segment that is not UTF-8 is swapped for ``%!`` and its percent-encoded bytes (``caf\\xe9`` is
  ``%!caf%E9``), which is how such a file name travels to an object store; the same swap brings it back.

``from_path`` is the exact inverse. A path that is nobody's escape (made by hand) is refused, not guessed.
"""

from __future__ import annotations

import re

from entrepot.model.errors import NameNotPossibleError

STAGING_PREFIX = b".entrepot-"
"""Names that start so belong to Entrepot, at every level: listings skip them, keys may not use them."""

SEGMENT_MAX = 255
PATH_MAX = 4096

_TO_ESCAPE = re.compile(rb"\0|%(?=00|25|2E|2F)")
_ESCAPED = re.compile(rb"%(00|25|2E|2F)")
_CODES = {b"00": b"\0", b"25": b"%", b"2E": b".", b"2F": b"/"}
_MARK = b"%!"
_HEX = re.compile(rb"%([0-9A-F]{2})")


def to_path(key: bytes, escape: bool = False) -> bytes:
    """The path, relative to the root, of ``key``. Raises NameNotPossibleError."""
    if (
        key
        and b"//" not in key
        and b"/." not in key
        and b"\0" not in key
        and key[0] != 46
        and key[0] != 47
        and key[-1] != 47
        and len(key) <= SEGMENT_MAX
        and not (escape and (b"%" in key or not key.isascii()))
    ):
        return key
    path = _escape(key) if escape else key
    fault = _fault(path)
    if fault:
        hint = "" if escape or "long" in fault else "escape_names writes such keys under a reversible escaped name"
        raise NameNotPossibleError(
            f"{show(key)}: {fault}, so it cannot be a file below the root", subject=show(key), hint=hint
        )
    return path


def from_path(path: bytes, escape: bool = False) -> bytes:
    """The key of a path below the root: the inverse of :func:`to_path`. Raises NameNotPossibleError."""
    if not escape:
        return path
    key = b"/".join([_unescape_segment(segment) for segment in path.split(b"/")])
    if key != path and _escape(key) != path:
        raise NameNotPossibleError(
            f"{show(path)}: the name looks escaped, but no key is written so", subject=show(path)
        )
    return key


def from_name(name: bytes, directory: bool) -> bytes:
    """Like :func:`from_path` with escaping, for one entry of a directory: it sorts where its key does."""
    if b"%" not in name and name.isascii():
        return name
    if directory:
        return from_path(name + b"/_", True)[:-2]
    return from_path(name, True)


def is_utf8(key: bytes) -> bool:
    """True when an object store can carry ``key`` as it is."""
    if key.isascii():
        return True
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True


def show(key: bytes) -> str:
    """``key`` for messages: readable, on one line, without losing a byte."""
    text = key.decode("utf-8", "backslashreplace")
    return text if text.isprintable() and text else repr(text)


def _fault(path: bytes) -> str:
    if not path:
        return "the key is empty"
    if b"\0" in path:
        return "the key holds a NUL byte"
    if path[:1] == b"/":
        return "the key starts with a slash"
    if path[-1:] == b"/":
        return "the key ends with a slash but is no directory"
    if len(path) > PATH_MAX - 1:
        return f"the path is too long ({len(path)} bytes)"
    for segment in path.split(b"/"):
        if not segment:
            return "the key holds an empty segment (//)"
        if segment in (b".", b".."):
            return "the key holds a . or .. segment"
        if len(segment) > SEGMENT_MAX:
            return f"a segment is too long ({len(segment)} bytes)"
        if segment.startswith(STAGING_PREFIX):
            return "the key uses the reserved name .entrepot-"
    return ""


def _escape(key: bytes) -> bytes:
    out: list[bytes] = []
    slashes = b""
    *parents, last = key.split(b"/")
    for segment in parents:
        if segment:
            out.append(slashes + _escape_segment(segment))
            slashes = b""
        else:
            slashes += b"%2F"
    if last:
        out.append(slashes + _escape_segment(last))
    elif slashes:
        out.append(slashes)
    elif out:
        out[-1] += b"%2F"
    return b"/".join(out)


def _escape_segment(segment: bytes) -> bytes:
    segment = _swap(segment)
    if segment in (b".", b".."):
        return segment.replace(b".", b"%2E")
    reserved = segment.startswith(STAGING_PREFIX)
    segment = _TO_ESCAPE.sub(_code, segment)
    return b"%2E" + segment[1:] if reserved else segment


def _code(found: re.Match[bytes]) -> bytes:
    return b"%%%02X" % found.group()[0]


def _unescape_segment(segment: bytes) -> bytes:
    core = segment
    before = after = b""
    while core.startswith(b"%2F"):
        core = core[3:]
        before += b"/"
    if core.endswith(b"%2F"):
        core = core[:-3]
        after = b"/"
    if b"%" in core:
        core = _ESCAPED.sub(lambda found: _CODES[found.group(1)], core)
    return before + _swap(core) + after


def _swap(segment: bytes) -> bytes:
    """The partner of a segment that is not UTF-8, or that stands for one; all others as they are."""
    if not is_utf8(segment):
        return _mark(segment)
    if segment.startswith(_MARK):
        raw = _HEX.sub(lambda found: bytes([int(found.group(1), 16)]), segment[len(_MARK) :])
        if not is_utf8(raw) and _mark(raw) == segment:
            return raw
    return segment


def _mark(segment: bytes) -> bytes:
    return _MARK + b"".join([bytes([c]) if 0x20 < c < 0x7F and c != 0x25 else b"%%%02X" % c for c in segment])
