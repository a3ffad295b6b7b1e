"""Reply framing: every legal way to send a body, cut at any place, and everything that is not legal."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import UnexpectedReplyError
from entrepot.storage.wire import http
from entrepot.storage.wire.dialect import Intake
from entrepot.storage.wire.http import BadReply, Head
from entrepot.storage.wire.incoming import Incoming

BODY = bytes(range(256)) * 5


def chunked(body: bytes, sizes: list[int], trailer: bytes = b"") -> bytes:
    out, at = [], 0
    for size in sizes:
        piece = body[at : at + size]
        if piece:
            out.append(b"%X;ext=1\r\n%s\r\n" % (len(piece), piece))
        at += size
    if body[at:]:
        out.append(b"%x\r\n%s\r\n" % (len(body[at:]), body[at:]))
    return b"".join(out) + b"0\r\n" + trailer + b"\r\n"


def read(raw: bytes, cuts: list[int], *, bodyless: bool = False, intake: Intake | None = None) -> Incoming:
    """Feed ``raw`` cut at some places; the reply must end with its last byte."""
    incoming = Incoming(lambda _head: intake, bodyless=bodyless)
    edges = sorted({0, len(raw), *(cut % (len(raw) + 1) for cut in cuts)})
    done = False
    for start, stop in pairwise(edges):
        assert not done, "the reply was taken for complete too early"
        done = incoming.feed(memoryview(raw)[start:stop])
    assert done
    return incoming


@given(st.lists(st.integers(0, 5000), max_size=8), st.lists(st.integers(1, 400), max_size=8))
def test_a_body_survives_any_cut(cuts: list[int], sizes: list[int]) -> None:
    plain = b"HTTP/1.1 206 Partial\r\nContent-Length: %d\r\nX: y\r\n\r\n%s" % (len(BODY), BODY)
    assert read(plain, cuts).body == BODY
    long = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked(BODY, sizes, b"X-T: 1\r\n")
    assert read(long, cuts).body == BODY
    interim = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Hints\r\nLink: x\r\n\r\n" + plain
    assert read(interim, cuts).body == BODY


class Memory:
    def __init__(self) -> None:
        self.data = bytearray()

    def write(self, offset: int, piece: memoryview) -> None:
        assert offset == 1000 + len(self.data)
        self.data += piece


@given(st.lists(st.integers(0, 5000), max_size=8), st.integers(0, 300), st.integers(0, 900))
def test_an_intake_gets_its_window_of_the_body(cuts: list[int], skip: int, left: int) -> None:
    for raw in (
        b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s" % (len(BODY), BODY),
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n" + chunked(BODY, [100, 300]),
    ):
        sink = Memory()
        read(raw, cuts, intake=Intake(sink, 1000, left, skip))
        assert sink.data == BODY[skip : skip + left]


def test_a_reply_shorter_than_the_range_is_bad() -> None:
    raw = b"HTTP/1.1 206 P\r\nContent-Length: 5\r\n\r\nabcde"
    with pytest.raises(BadReply, match="5 bytes before"):
        read(raw, [], intake=Intake(Memory(), 1000, 10))


def test_no_body_where_none_can_be() -> None:
    assert read(b"HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n", [], bodyless=True).body == b""
    assert read(b"HTTP/1.1 204 No Content\r\n\r\n", []).body == b""
    assert read(b"HTTP/1.1 304 Not Modified\r\nContent-Length: 7\r\n\r\n", []).body == b""


def test_until_close_only_the_close_completes() -> None:
    incoming = Incoming(lambda _head: None, bodyless=False)
    assert not incoming.feed(memoryview(b"HTTP/1.0 200 OK\n\nabc"))
    assert incoming.eof()
    assert (incoming.body, incoming.head is not None and incoming.head.close) == (b"abc", True)
    for raw in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ):
        cut = Incoming(lambda _head: None, bodyless=False)
        cut.feed(memoryview(raw))
        assert not cut.eof()


def test_bytes_behind_the_reply_are_noticed() -> None:
    for raw in (
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\nHTTP",
    ):
        incoming = Incoming(lambda _head: None, bodyless=False)
        assert incoming.feed(memoryview(raw))
        assert incoming.extra
        assert incoming.body == b"abc"


@pytest.mark.parametrize(
    "raw",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 099 x\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd",
        b"HTTP/1.1 200 OK\r\nContent-Length: -3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 3, 3\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1" * 20_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000,
    ],
)  # fmt: skip
def test_what_is_no_reply_is_bad(raw: bytes) -> None:
    incoming = Incoming(lambda _head: None, bodyless=False)
    with pytest.raises(BadReply):
        incoming.feed(memoryview(raw))
        pytest.fail("it was taken for a reply")


def test_a_body_too_large_for_memory_is_refused_before_it_comes() -> None:
    incoming = Incoming(lambda _head: None, bodyless=False)
    with pytest.raises(UnexpectedReplyError, match="memory"):
        incoming.feed(memoryview(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (1 << 40)))


@pytest.mark.parametrize(
    ("raw", "close"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.1 200 OK\r\nConnection: Close\r\nContent-Length: 0", True),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\nContent-Length: 0", False),
        (b"HTTP/1.1 200 OK", True),
    ],
)
def test_when_a_connection_ends(raw: bytes, close: bool) -> None:
    assert Head(raw).close is close


def test_retry_after() -> None:
    assert http.retry_after(b"HTTP/1.1 503 x\r\nRetry-After: 7\r\n") == 7.0
    assert http.retry_after(b"HTTP/1.1 503 x\r\nRetry-After: Fri, 31 Dec\r\n") == 0.0
