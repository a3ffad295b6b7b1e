"""Listing pages: raw XML to sorted rows, by one regular expression per page.

Rows are ``(key below the prefix, evidence, size)``. A directory marker of the location itself has the empty key
``b""`` and is kept; other markers (``d/`` of size 0) are normal rows. A page that is empty, cut short, out of order or
says "there is more" without saying where is an error that the lane retries, never the end of a listing.
"""

from __future__ import annotations

import html
import re
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime
from itertools import islice
from operator import itemgetter, lt
from urllib.parse import unquote_to_bytes

from entrepot.model.entry import Page, Problem, Row
from entrepot.model.errors import CorruptError, UnexpectedReplyError
from entrepot.storage.base import Columns

OPEN, CLOSE = b"<Contents>", b"</Contents>"
_TRUNCATED = re.compile(rb"<IsTruncated>\s*(\w+)\s*</IsTruncated>")
_NEXT_TOKEN = re.compile(rb"<NextContinuationToken>([^<]*)</NextContinuationToken>")
_NEXT_MARKER = re.compile(rb"<NextMarker>([^<]*)</NextMarker>")
_ENCODED = re.compile(rb"<EncodingType>\s*url\s*</EncodingType>")
_COMMON = re.compile(rb"<CommonPrefixes>\s*<Prefix>([^<]*)</Prefix>")
_PLAIN = re.compile(rb"[A-Za-z0-9/_.~=:,@()-]*")
_FREQUENT = ((b"%2F", b"/"), (b"%3D", b"="), (b"%3A", b":"), (b"%20", b" "), (b"%2C", b","), (b"%40", b"@"))
_QUOTE = rb"(?:&quot;|&#34;|\")?"
_KEY = re.compile(rb"<Key>([^<]*)</Key>")
_ETAG = re.compile(rb"<ETag>\s*" + _QUOTE + rb"([^<&\"]*)" + _QUOTE + rb"\s*</ETag>")
_TIME = re.compile(rb"<LastModified>\s*([^<]*?)\s*</LastModified>")
_SIZE = re.compile(rb"<Size>\s*(\d+)\s*</Size>")
_NOT_XML = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f]")
_STAMPS_MAX = 50_000


class _Stamps(dict[bytes, int]):
    """Timestamp text to ns since 1970, remembered (the objects of a page often share theirs)."""

    def __missing__(self, text: bytes) -> int:
        if len(self) > _STAMPS_MAX:
            self.clear()
        value = self[text] = to_ns(text)
        return value


def to_ns(text: bytes) -> int:
    """``2024-05-01T12:00:00.123Z`` (fraction and zone optional) as ns since 1970. ValueError for no time."""
    moment = datetime.fromisoformat(text.decode("ascii"))
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    whole = moment.replace(microsecond=0)
    return int(whole.timestamp()) * 1_000_000_000 + moment.microsecond * 1000


_stamps = _Stamps()
_ready: dict[tuple[bytes, Columns, bytes], re.Pattern[bytes]] = {}


def parse(xml: bytes, prefix: bytes, columns: Columns, *, version1: bool = False) -> Page:
    """One page. Raises CorruptError (to be retried) or UnexpectedReplyError (not a listing at all)."""
    _check_shape(xml)
    encoded = _ENCODED.search(xml) is not None
    page = Page(_rows(_lighter(xml) if encoded else xml, prefix, columns, encoded=encoded))
    _check_order(page, prefix)
    _find_end(xml, page, prefix, encoded=encoded, version1=version1)
    return page


def _lighter(xml: bytes) -> bytes:
    """Resolve the escapes that real keys are full of, for the whole page at once; never ``%25``."""
    if b"%" in xml:
        for escape_, plain in _FREQUENT:
            if escape_ in xml:
                xml = xml.replace(escape_, plain)
    return xml


def common_prefixes(xml: bytes) -> list[bytes]:
    """The whole sub-prefixes of a listing with a delimiter."""
    encoded = _ENCODED.search(xml) is not None
    return [_decode(raw, encoded) for raw in _COMMON.findall(xml)]


def _check_shape(xml: bytes) -> None:
    if not xml.rstrip(b" \t\r\n\0").endswith(b"</ListBucketResult>"):
        if b"<ListBucketResult" in xml or not xml.strip():
            raise CorruptError(f"the listing was cut short after {len(xml)} bytes")
        raise UnexpectedReplyError(
            "the reply is no listing",
            hint="check that the endpoint speaks S3 and that no proxy answers in its place",
            retryable=True,
        )


def _rows(xml: bytes, prefix: bytes, columns: Columns, *, encoded: bool) -> list[Row]:
    """All rows: by the pattern learned from the first block, else block by block."""
    count = xml.count(OPEN)
    if not count:
        if b"<Contents" in xml.replace(b"<Contents/>", b""):
            raise CorruptError("the listing holds entries in an unknown form")
        return []
    if _PLAIN.fullmatch(prefix) and not (encoded and b"%" in xml):
        rows = _fast(xml, prefix, columns, count, plus=encoded)
        if rows is not None:
            return rows
    return _slow(xml, prefix, columns, count, encoded=encoded)


def _fast(xml: bytes, prefix: bytes, columns: Columns, count: int, *, plus: bool) -> list[Row] | None:
    """Rows by one ``findall``; None when the page does not fit."""
    start = xml.find(OPEN)
    block = xml[start : xml.find(CLOSE, start) + len(CLOSE)]
    layout = _layout(block)
    if layout is None:
        return None
    pattern = _ready.get((prefix, columns, layout))
    if pattern is None:
        if len(_ready) > 64:
            _ready.clear()
        pattern = _ready[prefix, columns, layout] = _pattern(prefix, columns, layout)
    found = pattern.findall(xml, start)
    if len(found) != count:
        return None
    first, second, third = zip(*found, strict=True)
    at = _positions(layout, columns)
    columns_found = (first, second, third)
    keys: Sequence[bytes] = columns_found[at[0]]
    quotes = 0
    if columns == "etag" or b"<ETag>" in layout:
        quotes = count * (layout.count(b"&quot;") + layout.count(b"&#34;"))
    if xml.count(b"&", start) != quotes or (plus and b"+" in xml):
        keys = [_decode(key, plus) for key in keys]
    if columns == "etag":
        return list(zip(keys, columns_found[at[1]], map(int, columns_found[at[2]]), strict=True))
    try:
        times = list(map(_stamps.__getitem__, columns_found[at[1]]))
    except ValueError:
        raise CorruptError("the listing holds an unreadable LastModified") from None
    return list(zip(keys, times, map(int, columns_found[at[2]]), strict=True))


_TAG = re.compile(rb"<(/?)([A-Za-z0-9]+)>([^<]*)")
_WANTED = {b"Key", b"ETag", b"LastModified", b"Size"}


def _layout(block: bytes) -> bytes | None:
    """The tags of a block up to the last one wanted, with its white space; None when it is not that simple."""
    parts: list[bytes] = []
    missing = set(_WANTED)
    for close, name, text in _TAG.findall(block):
        wanted = name in _WANTED and not close
        if not wanted and text.strip() and close:
            return None
        if wanted:
            if name not in missing:
                return None
            missing.discard(name)
            if name == b"ETag":
                quote = next((q for q in (b"&quot;", b"&#34;", b'"') if text.startswith(q)), b"")
                parts.append(b"<ETag>" + quote + b"*" + quote)
            else:
                parts.append(b"<" + name + b">*")
        elif close:
            parts.append(b"</" + name + b">" + text)
            if not missing:
                break
        else:
            parts.append(b"<" + name + b">" + (b"*" if text.strip() else text))
    return None if missing else b"".join(parts)


def _pattern(prefix: bytes, columns: Columns, layout: bytes) -> re.Pattern[bytes]:
    out: list[bytes] = []
    evidence = b"ETag" if columns == "etag" else b"LastModified"
    for piece in re.split(rb"(<Key>\*|<ETag>[^*]*\*[^<]*|<[A-Za-z0-9]+>\*)", layout):
        if piece == b"<Key>*":
            out.append(b"<Key>" + re.escape(prefix) + rb"([^<]*+)")
        elif piece == b"<Size>*":
            out.append(rb"<Size>([0-9]++)")
        elif piece.startswith(b"<ETag>") and b"*" in piece:
            quote = re.escape(piece[6:].split(b"*")[0])
            body = rb"[^<&\"]*+"
            out.append(b"<ETag>" + quote + (b"(" + body + b")" if evidence == b"ETag" else body) + quote)
        elif piece == b"<LastModified>*":
            out.append(b"<LastModified>" + (b"([^<]*+)" if evidence == b"LastModified" else b"[^<]*+"))
        elif piece.endswith(b">*"):
            out.append(re.escape(piece[:-1]) + b"[^<]*+")
        else:
            out.append(re.escape(piece))
    return re.compile(b"".join(out))


def _positions(layout: bytes, columns: Columns) -> tuple[int, int, int]:
    """Where key, evidence and size stand among the groups of a pattern."""
    evidence = b"<ETag>" if columns == "etag" else b"<LastModified>"
    order = sorted((b"<Key>", evidence, b"<Size>"), key=layout.index)
    return order.index(b"<Key>"), order.index(evidence), order.index(b"<Size>")


def _slow(xml: bytes, prefix: bytes, columns: Columns, count: int, *, encoded: bool) -> list[Row]:
    """Block by block, for pages that do not look alike throughout."""
    rows: list[Row] = []
    at = 0
    cut = len(prefix)
    for _ in range(count):
        start = xml.index(OPEN, at)
        at = xml.find(CLOSE, start)
        if at < 0:
            raise CorruptError("the listing was cut short inside an entry")
        key, size = _KEY.search(xml, start, at), _SIZE.search(xml, start, at)
        if key is None or size is None:
            raise CorruptError("the listing holds an entry without key or size")
        name = _decode(key.group(1), encoded)
        if not name.startswith(prefix):
            raise UnexpectedReplyError(
                f"the listing holds {name[:80]!r}, which is not below {prefix[:80]!r}",
                hint="the store does not list by prefix as S3 does",
            )
        rows.append((name[cut:], _evidence(xml, start, at, columns), int(size.group(1))))
    return rows


def _evidence(xml: bytes, start: int, stop: int, columns: Columns) -> bytes | int:
    if columns == "etag":
        etag = _ETAG.search(xml, start, stop)
        return etag.group(1) if etag else b""
    stamp = _TIME.search(xml, start, stop)
    try:
        return _stamps[stamp.group(1)] if stamp else 0
    except ValueError:
        raise CorruptError("the listing holds an unreadable LastModified") from None


def _decode(raw: bytes, encoded: bool) -> bytes:
    """A key as it is: XML references resolved, then percent-encoding (where ``+`` is a space)."""
    if b"&" in raw:
        raw = unescape(raw)
    if encoded:
        raw = unquote_to_bytes(raw.replace(b"+", b" "))
    return raw


_REFERENCE = re.compile(rb"&(?:(amp|lt|gt|quot|apos)|#(\d{1,7})|#[xX]([0-9A-Fa-f]{1,6}));")
_NAMED = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}


def unescape(raw: bytes) -> bytes:
    """XML character references resolved; bytes that are no UTF-8 stay as they are."""
    return _REFERENCE.sub(_resolve, raw)


def _resolve(found: re.Match[bytes]) -> bytes:
    name, decimal, hexadecimal = found.groups()
    if name:
        return _NAMED[name]
    code = int(decimal) if decimal else int(hexadecimal, 16)
    return chr(code).encode("utf-8", "surrogatepass") if code < 0x110000 else found.group(0)


_key_of: Callable[[Row], bytes] = itemgetter(0)


def _check_order(page: Page, prefix: bytes) -> None:
    """Keys must rise. A key that comes twice in a row is kept once and noted."""
    keys = list(map(_key_of, page.rows))
    if all(map(lt, keys, islice(keys, 1, None))):
        return
    kept: list[Row] = []
    last: bytes | None = None
    for row in page.rows:
        if last is not None and row[0] == last:
            page.problems.append(Problem(prefix + row[0], "duplicate", f"{row[0]!r} is listed twice"))
            continue
        if last is not None and row[0] < last:
            raise CorruptError(
                f"the listing is out of order: {row[0][:80]!r} comes after {last[:80]!r}",
                hint="the store does not list in the byte order of keys, as S3 promises",
            )
        last = row[0]
        kept.append(row)
    page.rows = kept


def _find_end(xml: bytes, page: Page, prefix: bytes, *, encoded: bool, version1: bool) -> None:
    """Set ``last`` or ``token``."""
    said = _TRUNCATED.search(xml)
    if said is None or said.group(1) not in {b"true", b"false"}:
        raise CorruptError("the listing does not say whether it is complete")
    if said.group(1) == b"false":
        page.last = True
        return
    if version1:
        marker = _NEXT_MARKER.search(xml)
        if marker is not None and marker.group(1):
            page.token = _decode(marker.group(1), encoded)
        elif page.rows:
            page.token = prefix + page.rows[-1][0]
        else:
            raise CorruptError("the listing says there is more, but not where")
        return
    token = _NEXT_TOKEN.search(xml)
    if token is None or not token.group(1):
        raise CorruptError("the listing says there is more, but gives no token")
    page.token = unescape(token.group(1))


def valid_in_xml(keys: Iterable[bytes]) -> bool:
    """True if all ``keys`` can be written in an XML 1.0 document without loss."""
    for key in keys:
        if _NOT_XML.search(key):
            return False
        try:
            key.decode()
        except UnicodeDecodeError:
            return False
    return True


def escape(key: bytes) -> bytes:
    """``key`` for an XML document."""
    return html.escape(key.decode(), quote=False).replace("\r", "&#13;").replace("\n", "&#10;").encode()
