"""Headers of blobs: replies read into :class:`Info`, and what to store beside the bytes as ``x-ms-*`` lines.

Metadata names must be C# identifiers. Others travel as AzCopy writes them: ``a-b`` becomes ``rename_a_b``
with a ``rename_key_a_b`` beside it that holds the true name, and is turned back when read. Values that are
not printable ASCII are percent-encoded. ``mtime`` is written as rclone writes it for Azure (RFC 3339 with
nanoseconds); seconds since 1970 are understood too.
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime
from urllib.parse import quote, unquote

from entrepot.model.entry import Info
from entrepot.model.errors import FormatError
from entrepot.storage.base import Meta

from . import sign
from .pages import parse_time

METADATA_MAX = 8 << 10
"""Azure's limit for all metadata of one blob, names and values."""

_LINE = re.compile(rb"([^:\r\n]+):[ \t]*([^\r\n]*?)[ \t]*(?=\r?\n|\Z)")
_IDENTIFIER = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z").match
_BAD = re.compile(r"[^A-Za-z0-9_]")
_SECONDS = re.compile(r"(-?)(\d{1,12})(?:\.(\d{1,12}))?\Z")
_RFC3339 = re.compile(r"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d)(?:\.(\d{1,12}))?(Z|[+-]\d\d:\d\d)\Z")
_STANDARD = {
    b"cache-control": "Cache-Control",
    b"content-disposition": "Content-Disposition",
    b"content-encoding": "Content-Encoding",
    b"content-language": "Content-Language",
}
_FIRST_SECOND = timegm((1000, 1, 1, 0, 0, 0))
_LAST_SECOND = timegm((9999, 12, 31, 23, 59, 59))
_RENAME = "rename_"
_RENAME_KEY = "rename_key_"


def fields(head: bytes) -> dict[bytes, bytes]:
    """All headers by lower-case name."""
    return {name.lower(): value for name, value in _LINE.findall(head)}


def field(head: bytes, name: bytes) -> bytes:
    """One header's value; empty when there is none. ``name`` is lower case."""
    at = head.lower().find(b"\n" + name + b":")
    if at < 0:
        return b""
    start = at + len(name) + 2
    end = head.find(b"\n", start)
    return (head[start:] if end < 0 else head[start:end]).strip()


def etag_of(head: bytes) -> bytes:
    """The etag of a reply, without quotes."""
    return field(head, b"etag").strip(b'"')


def info_of(key: bytes, head: bytes) -> Info:
    """What the head of a Get or Head reply says of its blob."""
    every = fields(head)
    total = every.get(b"content-range", b"").rpartition(b"/")[2]
    size = total if total.isdigit() else every.get(b"content-length", b"0")
    modified = every.get(b"last-modified", b"")
    info = Info(
        key=key,
        size=int(size) if size.isdigit() else 0,
        mtime_ns=parse_time(modified) if modified else 0,
        etag=every.get(b"etag", b"").strip(b'"'),
        content_type=every.get(b"content-type", b"").decode("latin-1"),
        storage_class=every.get(b"x-ms-access-tier", b"").decode("latin-1"),
        metadata=_restored(
            {
                name[10:].decode("latin-1"): value.decode("utf-8", "replace")
                for name, value in _LINE.findall(head)
                if name[:10].lower() == b"x-ms-meta-"
            }
        ),
        headers={_STANDARD[n]: v.decode("latin-1") for n, v in every.items() if n in _STANDARD},
    )
    for name, value in info.metadata.items():
        if name.lower() == "mtime":
            info.source_mtime_ns = parse_mtime(value)
    return info


def parse_mtime(text: str) -> int | None:
    """An ``mtime`` entry as ns since 1970: seconds with fraction, or RFC 3339. None when it is neither."""
    plain = _SECONDS.match(text)
    if plain:
        sign_, seconds, fraction = plain.groups()
        value = int(seconds) * 1_000_000_000 + int((fraction or "0").ljust(9, "0")[:9])
        return -value if sign_ else value
    dated = _RFC3339.match(text)
    if not dated:
        return None
    moment, fraction, zone = dated.groups()
    try:
        when = datetime.fromisoformat(moment + zone.replace("Z", "+00:00"))
    except ValueError:
        return None
    return timegm(when.utctimetuple()) * 1_000_000_000 + int((fraction or "0").ljust(9, "0")[:9])


def mtime_text(ns: int) -> str:
    """``ns`` as the ``mtime`` entry is written; seconds where RFC 3339 has no year for it."""
    seconds, fraction = divmod(ns, 1_000_000_000)
    if not _FIRST_SECOND <= seconds <= _LAST_SECOND:
        whole, rest = divmod(abs(ns), 1_000_000_000)
        return f"{'-' if ns < 0 else ''}{whole}.{rest:09d}"
    when = datetime.fromtimestamp(seconds, UTC)
    return f"{when:%Y-%m-%dT%H:%M:%S}.{fraction:09d}Z"


def meta_lines(meta: Meta | None, subject: str) -> tuple[bytes, bytes, bytes | None]:
    """(lines before x-ms-date, lines after it as signed, the latter as sent if they differ) for ``meta``."""
    if meta is None:
        return b"", b"", None
    before = [("x-ms-blob-content-type", header_value(meta.content_type))] if meta.content_type else []
    if meta.storage_class:
        before.append(("x-ms-access-tier", meta.storage_class))
    for name, value in meta.headers.items():
        if name.lower().encode() in _STANDARD:
            before.append((f"x-ms-blob-{name.lower()}", header_value(value)))
    return sign.canonical_headers(before), *metadata_lines(meta, subject)


def metadata_lines(meta: Meta | None, subject: str) -> tuple[bytes, bytes | None]:
    """The ``x-ms-meta-*`` lines as signed, and as sent when they differ."""
    if meta is None or not (meta.metadata or meta.mtime_ns is not None):
        return b"", None
    entries = _possible({n: v for n, v in meta.metadata.items() if meta.mtime_ns is None or n.lower() != "mtime"})
    if meta.mtime_ns is not None:
        entries["mtime"] = mtime_text(meta.mtime_ns)
    if sum(len(name) + len(value) for name, value in entries.items()) > METADATA_MAX:
        raise FormatError(
            f"{subject}: its metadata is larger than the {METADATA_MAX} bytes that Azure keeps",
            subject=subject,
            hint="leave it out with --preserve mtime",
        )
    signed = sign.canonical_headers((f"x-ms-meta-{name}", value) for name, value in entries.items())
    if all(name.islower() for name in entries):
        return signed, None
    sent = "".join(f"x-ms-meta-{name}:{' '.join(value.split())}\n" for name, value in entries.items())
    return signed, sent.encode()


def header_value(text: str) -> str:
    """``text`` as a standard header's value: printable ASCII stands, anything else is percent-encoded."""
    return text if text.isascii() and text.isprintable() else _quoted(text)


def encoded(text: str) -> str:
    """A metadata value as it is sent; :func:`decoded` is the exact reverse."""
    plain = text.isascii() and text.isprintable() and " ".join(text.split()) == text
    return text if plain and decoded(text) == text else _quoted(text)


def decoded(value: str) -> str:
    """A value that :func:`encoded` has percent-encoded, decoded; any other stays as it is."""
    if "%" not in value:
        return value
    plain = unquote(value)
    return plain if _quoted(plain) == value else value


def _quoted(text: str) -> str:
    return quote(text, safe="!\"#$&'()*+,/:;<=>?@[\\]^`{|}~-._")


def _possible(metadata: dict[str, str]) -> dict[str, str]:
    """``metadata`` under names that Azure takes."""
    found: dict[str, str] = {}
    for name, value in metadata.items():
        if _IDENTIFIER(name):
            found[name] = encoded(value)
            continue
        plain = _BAD.sub("_", name)
        while _RENAME + plain in found:
            plain += "_"
        found[_RENAME + plain] = encoded(value)
        found[_RENAME_KEY + plain] = encoded(name)
    return found


def _restored(metadata: dict[str, str]) -> dict[str, str]:
    """The reverse of :func:`_possible`."""
    low = {name.lower(): value for name, value in metadata.items()}
    keys = {n for n in low if n.startswith(_RENAME_KEY) and _RENAME + n[len(_RENAME_KEY) :] in low}
    found: dict[str, str] = {}
    for name, value in metadata.items():
        if name.lower() in keys:
            continue
        key = _RENAME_KEY + name.lower()[len(_RENAME) :] if name.lower().startswith(_RENAME) else ""
        found[decoded(low[key]) if key in keys else name] = decoded(value)
    return found
