"""Reading listings, block lists, headers and error replies of Azure Blob."""

from __future__ import annotations

import html
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import (
    ArchivedError,
    ChangedError,
    CorruptError,
    ForbiddenError,
    FormatError,
    LockedError,
    NameNotPossibleError,
    NotFoundError,
    QuotaError,
    StoreTimeoutError,
    ThrottledError,
    UnexpectedReplyError,
)
from entrepot.storage.azure import headers, names, pages
from entrepot.storage.azure.errors import azure_error, refused_header
from entrepot.storage.base import Meta

MOMENT = "Wed, 09 Sep 2020 09:20:02 GMT"
NS = 1_599_643_202 * 1_000_000_000


def blob(name: str, size: int = 5, *, etag: str = "0x8D1", extra: str = "", before: str = "") -> str:
    return (
        f"<Blob><Name>{html.escape(name)}</Name><Properties><Creation-Time>{MOMENT}</Creation-Time>{before}"
        f"<Last-Modified>{MOMENT}</Last-Modified><Etag>{etag}</Etag><Content-Length>{size}</Content-Length>"
        f"<Content-Type>x</Content-Type>{extra}</Properties></Blob>"
    )


def listing(*blobs: str, marker: str = "<NextMarker />") -> bytes:
    return (
        '<?xml version="1.0" encoding="utf-8"?><EnumerationResults ContainerName="c"><Prefix>p/</Prefix><Blobs>'
        f"{''.join(blobs)}</Blobs>{marker}</EnumerationResults>"
    ).encode()


def test_a_page_of_rows() -> None:
    body = listing(blob("p/a&<b>", 7), blob("p/b", 8, etag='"0x8D2"'), marker="<NextMarker>2!8&amp;x</NextMarker>")
    page, first = pages.parse_page(body, "mtime", b"p/")
    assert page.rows == [(b"a&<b>", NS, 7), (b"b", NS, 8)] and not page.last and page.token == b"2!8&x"
    assert first == b"a&<b>"
    page, _ = pages.parse_page(body, "etag", b"p/", b"a&<b>")
    assert page.rows == [(b"b", b"0x8D2", 8)]
    assert pages.parse_page(listing(), "mtime", b"p/")[0].last


def test_other_shapes_are_read_one_by_one() -> None:
    odd = (
        '<Blob><Name Encoded="true">p/a%EF%BF%BE</Name><VersionId>1</VersionId><Properties>'
        f"<Content-Length>3</Content-Length><Etag>0x1</Etag><Last-Modified>{MOMENT}</Last-Modified>"
        "</Properties></Blob>"
    )
    folder = blob("p/d", 0, extra="<ResourceType>directory</ResourceType>")
    page, _ = pages.parse_page(listing(odd, folder, blob("p/d/x", 1)), "etag", b"p/")
    assert page.rows == [(b"a\xef\xbf\xbe", b"0x1", 3), (b"d/x", b"0x8D1", 1)]
    with pytest.raises(UnexpectedReplyError, match="lacks"):
        pages.parse_page(listing("<Blob><Name>p/a</Name><Properties></Properties></Blob>"), "etag", b"p/")


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<?xml version='1.0'?><EnumerationResults>",
        listing(blob("p/a"))[:-5],
        listing(blob("p/a"), marker=""),
        listing(blob("p/b"), blob("p/a")),
        listing(blob("p/a"), blob("p/a")),
        listing(blob("q/a")),
        listing(blob("p/a").replace(MOMENT, "yesterday")),
    ],
)
def test_case_2_and_4_broken_listings_are_errors_and_never_an_end(body: bytes) -> None:
    with pytest.raises(UnexpectedReplyError) as caught:
        pages.parse_page(body, "mtime", b"p/")
    assert caught.value.retryable


NAMES = st.text(
    st.characters(exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"), min_size=1, max_size=30
)


@given(st.sets(NAMES, max_size=12), st.booleans())
def test_any_names_come_back(keys: set[str], encode: bool) -> None:
    ordered = sorted(key.encode() for key in keys)
    blobs = [blob(key.decode()) for key in ordered]
    if encode:
        blobs = [blob("@").replace("<Name>@", f'<Name Encoded="true">{quote(key)}') for key in ordered]
    page, _ = pages.parse_page(listing(*blobs), "etag", b"")
    assert [row[0] for row in page.rows] == ordered


def test_block_lists() -> None:
    body = (
        b"<?xml?><BlockList><CommittedBlocks><Block><Name>QQ==</Name><Size>1</Size></Block></CommittedBlocks>"
        b"<UncommittedBlocks><Block><Name>Qg==</Name><Size>22</Size></Block></UncommittedBlocks></BlockList>"
    )
    assert pages.parse_blocks(body) == [(b"Qg==", 22)]
    assert pages.parse_blocks(body, b"CommittedBlocks") == [(b"QQ==", 1)]
    with pytest.raises(UnexpectedReplyError):
        pages.parse_blocks(body[:-3])


@given(NAMES)
def test_possible_names_travel_unchanged(name: str) -> None:
    key = name.encode()
    try:
        path = names.encode(key)
    except NameNotPossibleError:
        assert "\\" in name or any(part.endswith(".") for part in name.split("/"))
        return
    assert path.isascii() and not set(path) & set(b" ?#%\\") - {ord("%")}
    from urllib.parse import unquote_to_bytes

    assert unquote_to_bytes(path) == key


@given(st.dictionaries(st.text(min_size=1, max_size=12), st.text(max_size=20), max_size=6))
def test_metadata_comes_back(metadata: dict[str, str]) -> None:
    plain = {k: v for k, v in metadata.items() if not k.lower().startswith("rename_") and k.lower() != "mtime"}
    if len({k.lower() for k in plain}) != len(plain):
        return
    signed, sent = headers.metadata_lines(Meta(metadata=plain), "s")
    lines = signed if sent is None else sent
    assert lines.isascii() and lines.count(b"\n") == signed.count(b"\n")
    head = b"HTTP/1.1 200 OK\r\n" + lines.replace(b"\n", b"\r\n") + b"Content-Length: 1"
    assert headers.info_of(b"k", head).metadata == plain


def test_metadata_that_azure_cannot_keep_is_refused() -> None:
    with pytest.raises(FormatError):
        headers.metadata_lines(Meta(metadata={"a": "x" * 9000}), "s")


@pytest.mark.parametrize(
    "ns", [0, 1, -1, 1_700_000_000_123_456_789, -(10**18), 253402300799 * 10**9, 10**20, -(10**20)]
)
def test_mtimes_come_back_to_the_nanosecond(ns: int) -> None:
    assert headers.parse_mtime(headers.mtime_text(ns)) == ns


def test_mtimes_of_other_writers() -> None:
    assert headers.parse_mtime("1599643202.5") == NS + 500_000_000
    assert headers.parse_mtime("2020-09-09T11:20:02.000000001+02:00") == NS + 1
    assert headers.parse_mtime("2020-09-09T09:20:02Z") == NS
    assert headers.parse_mtime("yesterday") is None and headers.parse_mtime("2020-99-09T09:20:02Z") is None


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (404, "BlobNotFound", NotFoundError), (404, "", NotFoundError), (403, "AuthenticationFailed", ForbiddenError),
        (403, "", ForbiddenError), (503, "ServerBusy", ThrottledError), (429, "", ThrottledError),
        (500, "OperationTimedOut", StoreTimeoutError), (500, "InternalError", UnexpectedReplyError),
        (412, "ConditionNotMet", ChangedError), (409, "BlobAlreadyExists", ChangedError),
        (416, "InvalidRange", ChangedError), (409, "BlobArchived", ArchivedError),
        (409, "BlobImmutableDueToPolicy", LockedError), (412, "LeaseIdMissing", LockedError),
        (400, "Md5Mismatch", CorruptError), (400, "MetadataTooLarge", FormatError),
        (400, "InvalidBlockList", NotFoundError), (400, "InvalidUri", NameNotPossibleError),
        (507, "", QuotaError), (418, "", UnexpectedReplyError), (409, "InvalidBlobType", FormatError),
    ],
)  # fmt: skip
def test_error_classes(status: int, code: str, kind: type[Exception]) -> None:
    head = f"HTTP/1.1 {status} X\r\nx-ms-error-code: {code}\r\nDate: x".encode() if code else b"HTTP/1.1 400 X"
    error = azure_error(status, head, b"", "az://c/k")
    assert type(error) is kind and "az://c/k" in str(error) and error.code == (code or str(status))
    body = f"<Error><Code>{code}</Code><Message>Said.\nRequestId:1</Message></Error>".encode()
    if code:
        again = azure_error(status, b"HTTP/1.1 400 X", body, "s")
        assert type(again) is kind and "Said." in str(again) and "RequestId" not in str(again)


def test_errors_do_not_repeat_signatures() -> None:
    body = (
        b"<Error><Code>AuthenticationFailed</Code><Message>Signature=abcdef12 and sig=zzz did not match</Message>"
        b"<AuthenticationErrorDetail>The MAC signature found 'S3cr3t'</AuthenticationErrorDetail></Error>"
    )
    error = azure_error(403, b"HTTP/1.1 403 X", body, "s")
    assert not any(word in str(error) for word in ("abcdef12", "zzz", "S3cr3t"))
    assert refused_header(b"<HeaderName>x-ms-Version</HeaderName>") == "x-ms-version"
