"""Reading XML replies of Azure Blob: List Blobs and Get Block List.

The listing is the hot path: one bytes pattern reads a page, in the order in which the service writes its
fields. When it does not account for every blob of the page (another order, a missing field, a directory of a
hierarchical account), each blob is read by itself.
"""

from __future__ import annotations

import html
import re
from calendar import timegm
from collections.abc import Callable
from dataclasses import dataclass
from operator import lt
from urllib.parse import unquote_to_bytes

from entrepot.model.entry import Evidence, Page, Row
from entrepot.model.errors import UnexpectedReplyError
from entrepot.storage.base import Columns

_BLOBS = re.compile(
    rb"<Blob>\s*<Name( Encoded=\"true\")?>([^<]*)</Name>\s*(?:<Snapshot ?/>\s*)?<Properties>\s*"
    rb"(?:<Creation-Time>[^<]*</Creation-Time>\s*)?<Last-Modified>([^<]*)</Last-Modified>\s*"
    rb"<Etag>([^<]*)</Etag>\s*<Content-Length>(\d+)</Content-Length>"
)
_BLOB = re.compile(rb"<Blob>(.*?)</Blob>", re.DOTALL)
_NAME = re.compile(rb"<Name( Encoded=\"true\")?>([^<]*)</Name>")
_MODIFIED = re.compile(rb"<Last-Modified>([^<]*)</Last-Modified>")
_ETAG = re.compile(rb"<Etag>([^<]*)</Etag>")
_LENGTH = re.compile(rb"<Content-Length>(\d+)</Content-Length>")
_PREFIX = re.compile(rb"<BlobPrefix>.*?<Name( Encoded=\"true\")?>([^<]*)</Name>.*?</BlobPrefix>", re.DOTALL)
_MARKER = re.compile(rb"<NextMarker>([^<]*)</NextMarker>")
_BLOCK = re.compile(rb"<Block>\s*<Name>([^<]*)</Name>\s*<Size>(\d+)</Size>\s*</Block>")
_END = b"</EnumerationResults>"
_HINT = "run again; if it stays, the endpoint or a proxy before it cuts replies"
_MONTHS = {m: i + 1 for i, m in enumerate(b"Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split())}

_times: dict[bytes, int] = {}


@dataclass(slots=True)
class Listing:
    """One reply of List Blobs: names are whole, with the location's prefix. No ``marker``: the last page."""

    rows: list[Row]
    prefixes: list[bytes]
    marker: bytes


def parse_page(body: bytes, columns: Columns, prefix: bytes, after: bytes = b"") -> tuple[Page, bytes | None]:
    """A page of rows below ``prefix`` and after ``after`` (relative to it), and the page's true first key.

    Raises UnexpectedReplyError (retryable) for a reply that is not a whole listing or whose keys do not
    increase.
    """
    listing = parse_listing(body, columns)
    rows = listing.rows
    cut = len(prefix)
    if cut and rows:
        if not (rows[0][0].startswith(prefix) and rows[-1][0].startswith(prefix)):
            raise _broken("the listing holds blobs outside its prefix", _HINT)
        rows = [(name[cut:], evidence, size) for name, evidence, size in rows]
    keys = [row[0] for row in rows]
    if not all(map(lt, keys, keys[1:])):
        raise _broken(
            "keys of the listing do not increase",
            "accounts with a hierarchical namespace list in another order, which is not supported",
        )
    first = rows[0][0] if rows else None
    if after and first is not None and first <= after:
        rows = [row for row in rows if row[0] > after]
    return Page(rows, last=not listing.marker, token=listing.marker), first


def parse_listing(body: bytes, columns: Columns, *, levels: bool = False) -> Listing:
    """Rows, sub-prefixes (if it was asked for ``levels``) and the next marker of one reply."""
    if not body[-64:].rstrip().endswith(_END):
        raise _broken("the listing is cut short", _HINT)
    # The root element is closed, so a page without NextMarker element is one that the service never sends.
    tail = body[-8192:]
    marker = _MARKER.search(tail)
    if marker is None and b"<NextMarker" not in tail:
        raise _broken("the listing does not say whether it goes on", _HINT)
    found = _BLOBS.findall(body)
    # In accounts with a hierarchical namespace every blob has a resource type, and some are directories.
    typed = b"<ResourceType>" in body[: body.find(b"</Blob>")]
    if not typed and len(found) == body.count(b"</Blob>"):
        evidence = _etag if columns == "etag" else _mtime
        column = 3 if columns == "etag" else 2
        rows: list[Row] = [
            (m[1] if not m[0] and b"&" not in m[1] else _name(m[1], m[0]), evidence(m[column]), int(m[4]))
            for m in found
        ]
    else:
        rows = _one_by_one(body, columns)
    prefixes = [_name(raw, encoded) for encoded, raw in _PREFIX.findall(body)] if levels else []
    return Listing(rows, prefixes, _text(marker.group(1)) if marker else b"")


def parse_blocks(body: bytes, kind: bytes = b"UncommittedBlocks") -> list[tuple[bytes, int]]:
    """(block id in base64, size) of the blocks of one kind in a Get Block List reply."""
    if not body.rstrip().endswith(b"</BlockList>") and not body.rstrip().endswith(b"<BlockList />"):
        raise _broken("the block list is cut short", _HINT)
    start = body.find(b"<" + kind + b">")
    if start < 0:
        return []
    end = body.find(b"</" + kind + b">", start)
    return [(name, int(size)) for name, size in _BLOCK.findall(body, start, end)]


def parse_uncommitted(body: bytes) -> tuple[list[tuple[bytes, int]], bytes]:
    """(name, time in ns or 0) of the empty blobs of a listing with uncommitted blobs, and the marker."""
    if not body[-64:].rstrip().endswith(_END):
        raise _broken("the listing is cut short", _HINT)
    found: list[tuple[bytes, int]] = []
    for blob in _BLOB.findall(body):
        name, length, modified = _NAME.search(blob), _LENGTH.search(blob), _MODIFIED.search(blob)
        if name and (length is None or int(length.group(1)) == 0):
            moment = parse_time(modified.group(1)) if modified and modified.group(1) else 0
            found.append((_name(name.group(2), name.group(1)), moment))
    marker = _MARKER.search(body)
    return found, _text(marker.group(1)) if marker else b""


def parse_time(text: bytes) -> int:
    """An HTTP date as ns since 1970."""
    known = _times.get(text)
    if known is not None:
        return known
    parts = text.replace(b":", b" ").split()
    try:
        moment = (
            int(parts[3]),
            _MONTHS[parts[2]],
            int(parts[1]),
            int(parts[4]),
            int(parts[5]),
            int(parts[6]),
        )
    except (IndexError, KeyError, ValueError):
        raise _broken(f"{text[:40].decode('latin-1')!r} is not a date", _HINT) from None
    if len(_times) > 100_000:
        _times.clear()
    value = _times[text] = timegm(moment) * 1_000_000_000
    return value


def _one_by_one(body: bytes, columns: Columns) -> list[Row]:
    rows: list[Row] = []
    for blob in _BLOB.findall(body):
        if b"<ResourceType>directory</ResourceType>" in blob:
            continue
        name, modified = _NAME.search(blob), _MODIFIED.search(blob)
        etag, length = _ETAG.search(blob), _LENGTH.search(blob)
        if not (name and modified and etag and length):
            raise _broken("a blob in the listing lacks its name, size, time or etag", _HINT)
        evidence = _etag(etag.group(1)) if columns == "etag" else _mtime(modified.group(1))
        rows.append((_name(name.group(2), name.group(1)), evidence, int(length.group(1))))
    return rows


def _name(raw: bytes, encoded: bytes | None) -> bytes:
    name = _text(raw)
    return unquote_to_bytes(name) if encoded else name


def _text(raw: bytes) -> bytes:
    return (
        html.unescape(raw.decode("utf-8", "surrogateescape")).encode("utf-8", "surrogateescape") if b"&" in raw else raw
    )


def _etag(raw: bytes) -> Evidence:
    return raw.replace(b"&quot;", b"").strip(b'"')


_mtime: Callable[[bytes], Evidence] = parse_time


def _broken(what: str, hint: str) -> UnexpectedReplyError:
    return UnexpectedReplyError(what, hint=hint, retryable=True)
