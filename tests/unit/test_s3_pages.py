"""Listing pages: any keys survive any server's way to write them; bad pages are errors, never an end."""

from __future__ import annotations

import html
import random
import time
from urllib.parse import quote_from_bytes

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from entrepot.model.errors import CorruptError, StoreError, UnexpectedReplyError
from entrepot.storage.s3 import pages

XMLNS = b"http://s3.amazonaws.com/doc/2006-03-01/"
texts = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs"], exclude_characters="\ufffe\uffff"), max_size=30
)
keys = st.one_of(
    texts.map(str.encode),
    st.text("ab/+%&<>\"' =:.~-_", max_size=12).map(str.encode),
)


def entity(raw: bytes) -> bytes:
    return html.escape(raw.decode(), quote=True).encode()


def percent(raw: bytes, *, plus: bool, slash: bool) -> bytes:
    text = quote_from_bytes(raw, safe="/" if slash else "")
    return (text.replace("%20", "+") if plus else text).encode()


class Style:
    """How a server writes its pages."""

    def __init__(self, encode, quote=b"&quot;", encoding=False, order="KLES", space=b"", extra=b"") -> None:
        self.encode, self.quote, self.encoding, self.order, self.space, self.extra = (
            encode, quote, encoding, order, space, extra,
        )  # fmt: skip

    def page(self, rows, *, truncated=False, token=b"", version1=False) -> bytes:
        out = [b'<?xml version="1.0" encoding="UTF-8"?>\n<ListBucketResult xmlns="%s">' % XMLNS]
        if self.encoding:
            out.append(b"<EncodingType>url</EncodingType>")
        out.append(b"<IsTruncated>%s</IsTruncated>" % (b"true" if truncated else b"false"))
        for key, etag, size, stamp in rows:
            fields = {
                "K": b"<Key>%s</Key>" % self.encode(key),
                "L": b"<LastModified>%s</LastModified>" % stamp,
                "E": b"<ETag>%s%s%s</ETag>" % (self.quote, etag, self.quote),
                "S": b"<Size>%d</Size>" % size,
            }
            out.append(b"<Contents>" + self.space)
            out.extend(fields[name] + self.space for name in self.order)
            out.append(self.extra + b"</Contents>" + self.space)
        if token:
            out.append(
                b"<NextMarker>%s</NextMarker>" % token
                if version1
                else b"<NextContinuationToken>%s</NextContinuationToken>" % token
            )
        out.append(b"</ListBucketResult>")
        return b"".join(out)


STYLES = [
    Style(entity),
    Style(entity, b'"', order="KESL"),
    Style(entity, b"", space=b"\n  "),
    Style(
        entity, b"&#34;", extra=b"<Owner><ID>a&amp;b</ID><DisplayName/></Owner><StorageClass>STANDARD</StorageClass>"
    ),
    Style(lambda k: percent(k, plus=True, slash=False), encoding=True),
    Style(lambda k: percent(k, plus=False, slash=True), encoding=True, order="ELKS"),
    Style(lambda k: percent(k, plus=True, slash=True), b'"', encoding=True, space=b"\n"),
]
STAMP = b"2024-05-01T12:30:45.678Z"
STAMP_NS = 1_714_566_645_678_000_000


@pytest.mark.parametrize("style", STYLES, ids=range(len(STYLES)))
@given(found=st.lists(keys, unique=True, max_size=8), prefix=st.sampled_from([b"", b"p/", b"a=1/b:2/", b"o d&d/<%+>/"]))
@example(found=[b"%2F", b"/", b"+", b" ", b"%", b"%25", b"&amp;", b"&", b"d/"], prefix=b"p/")
@example(found=[b"", b"x"], prefix=b"p/")
def test_round_trip(style: Style, found: list[bytes], prefix: bytes) -> None:
    found = sorted(found)
    etags = [b"%032x" % i for i in range(len(found))]
    xml = style.page(
        [(prefix + key, etag, i * 7, STAMP) for i, (key, etag) in enumerate(zip(found, etags, strict=True))]
    )
    page = pages.parse(xml, prefix, "etag")
    assert page.rows == [(key, etags[i], i * 7) for i, key in enumerate(found)]
    assert page.last
    page = pages.parse(xml, prefix, "mtime")
    assert page.rows == [(key, STAMP_NS, i * 7) for i, key in enumerate(found)]


def rows(count: int, start: int = 0) -> list[tuple[bytes, bytes, int, bytes]]:
    return [(b"p/k%05d" % i, b"%032x" % i, i, STAMP) for i in range(start, start + count)]


def test_mixed_blocks_are_read_one_by_one() -> None:
    xml = STYLES[0].page(rows(3)).replace(b"<Size>1</Size>", b"<Owner><ID>x</ID></Owner><Size>1</Size>", 1)
    assert [row[2] for row in pages.parse(xml, b"p/", "etag").rows] == [0, 1, 2]
    xml = STYLES[0].page(rows(3)).replace(b"<ETag>&quot;%032x&quot;</ETag>" % 1, b"", 1)
    assert [row[1] for row in pages.parse(xml, b"p/", "etag").rows] == [b"0" * 32, b"", b"%032x" % 2]


def test_a_key_outside_the_prefix_is_an_error() -> None:
    with pytest.raises(StoreError, match="not below"):
        pages.parse(STYLES[0].page([*rows(2), (b"q/x", b"e", 1, STAMP)]), b"p/", "etag")


@pytest.mark.parametrize("cut", [0, 1, 50, 200, 400, -1, -20])
def test_cut_pages_are_corrupt(cut: int) -> None:
    xml = STYLES[0].page(rows(5))
    with pytest.raises(StoreError) as told:
        pages.parse(xml[:cut], b"p/", "etag")
    assert told.value.retryable


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda xml: xml.replace(b"<IsTruncated>false</IsTruncated>", b""), "complete"),
        (lambda xml: xml.replace(b">false<", b">true<"), "token"),
        (lambda xml: xml.replace(b"k00001", b"k00009"), "order"),
        (lambda xml: xml.replace(b"<Size>1</Size>", b"<Size>x</Size>"), "size"),
        (lambda xml: xml.replace(b"<Contents>", b"<Contents a='b'>"), "form"),
    ],
    ids=["no IsTruncated", "no token", "unordered", "no size", "unknown form"],
)  # fmt: skip
def test_bad_pages_are_corrupt(change, reason: str) -> None:
    with pytest.raises(CorruptError, match=reason):
        pages.parse(change(STYLES[0].page(rows(5))), b"p/", "etag")
    with pytest.raises(CorruptError):
        pages.parse(STYLES[0].page(rows(1)).replace(b"2024-05", b"soon"), b"p/", "mtime")


def test_a_web_page_is_no_listing() -> None:
    with pytest.raises(UnexpectedReplyError, match="no listing") as told:
        pages.parse(b"<html>login</html>", b"", "etag")
    assert told.value.retryable


def test_tokens_and_markers() -> None:
    style = STYLES[4]
    assert pages.parse(style.page(rows(2), truncated=True, token=b"ab%2Fcd&amp;e"), b"p/", "etag").token == b"ab%2Fcd&e"
    v1 = style.page(rows(2), truncated=True, token=b"p%2Fk+1", version1=True)
    assert pages.parse(v1, b"p/", "etag", version1=True).token == b"p/k 1"
    assert pages.parse(style.page(rows(2), truncated=True), b"p/", "etag", version1=True).token == b"p/k00001"
    with pytest.raises(CorruptError):
        pages.parse(style.page([], truncated=True), b"p/", "etag", version1=True)


def test_duplicates_are_kept_once_and_noted() -> None:
    page = pages.parse(STYLES[0].page([*rows(2), *rows(2, 1)]), b"p/", "etag")
    assert [row[0] for row in page.rows] == [b"k00000", b"k00001", b"k00002"]
    assert [problem.failure for problem in page.problems] == ["duplicate"]


def test_common_prefixes() -> None:
    found = b"<CommonPrefixes><Prefix>a+b%2F</Prefix></CommonPrefixes>"
    xml = b"<ListBucketResult><EncodingType>url</EncodingType>" + found + b"</ListBucketResult>"
    assert pages.common_prefixes(xml) == [b"a b/"]


@pytest.mark.parametrize(
    ("text", "ns"),
    [
        (b"1970-01-01T00:00:00Z", 0),
        (b"1969-12-31T23:59:59.500Z", -500_000_000),
        (b"2100-01-01T00:00:00.001Z", 4_102_444_800_001_000_000),
        (b"2024-05-01T14:30:45+02:00", 1_714_566_645_000_000_000),
        (b"2024-05-01T12:30:45", 1_714_566_645_000_000_000),
        (b"2024-05-01T12:30:45.123456789Z", 1_714_566_645_123_456_000),
    ],
)
def test_times(text: bytes, ns: int) -> None:
    assert pages.to_ns(text) == ns


def test_parsing_is_fast_enough_to_never_be_the_wall() -> None:
    draw = random.Random(3)
    xml = STYLES[0].page(
        [(b"p/%012x" % (i * 977), b"%032x" % draw.getrandbits(128), draw.getrandbits(20), STAMP) for i in range(1000)]
    )
    best = min(_seconds(xml) for _ in range(20))
    assert best < 4e-3, f"{1000 / best:,.0f} keys/s"


def _seconds(xml: bytes) -> float:
    start = time.perf_counter()
    pages.parse(xml, b"p/", "etag")
    return time.perf_counter() - start
