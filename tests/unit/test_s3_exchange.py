"""Control calls over a socket: every framing of a reply, and what a broken connection is called."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator

import pytest

from entrepot.model.connection import Connection
from entrepot.model.errors import StoreTimeoutError
from entrepot.model.secret import Secret
from entrepot.storage.s3.exchange import Exchange
from entrepot.storage.s3.profiles import resolve


class Server:
    """Answers one request after the other with the bytes it was given; ``None`` closes the connection first."""

    def __init__(self) -> None:
        self.replies: list[bytes | None] = []
        self.accepted = 0
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with connection:
                connection.settimeout(5)
                self._serve(connection)

    def _serve(self, connection: socket.socket) -> None:
        while self.replies and connection.recv(65536):
            reply = self.replies.pop(0)
            if reply is None:
                return
            connection.sendall(reply)
            if b"Connection: close" in reply or reply.endswith(b"cut"):
                return
            if self.replies and self.replies[0] is None:
                self.replies.pop(0)
                return

    def close(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join(5)


@pytest.fixture
def server() -> Iterator[Server]:
    found = Server()
    yield found
    found.close()


@pytest.fixture
def exchange(server: Server) -> Iterator[Exchange]:
    keys = {"access_key": "AK", "secret_key": Secret("SK")}
    connection = Connection("", "generic", endpoint=f"http://127.0.0.1:{server.port}", **keys)  # type: ignore[arg-type]
    found = Exchange(resolve(connection, "data"), reply=5.0)
    yield found
    found.close()


FRAMED = [
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-Name: a b \r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nx-name:a b\r\n\r\n2\r\nhe\r\n3;x\r\nllo\r\n0\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\nX-NAME: a b\r\n\r\nhello",
    b"HTTP/1.1 200\nContent-Length: 5\nX-Name: a b\n\nhello",
    b"HTTP/1.1 200 OK\r\nConnection: close\r\nX-Name: a b\r\n\r\nhello",
]


@pytest.mark.parametrize("reply", FRAMED)
def test_every_framing_is_read(server: Server, exchange: Exchange, reply: bytes) -> None:
    server.replies = [reply, reply]
    for _ in range(2):
        got = exchange.send("GET", b"key")
        assert (got.status, got.body, got.header("x-name")) == (200, b"hello", "a b")
    assert got.header("status") == got.header("x-other") == ""
    assert server.accepted == (2 if b"Connection: close" in reply else 1)


def test_a_head_has_no_body_whatever_its_length_says(server: Server, exchange: Exchange) -> None:
    server.replies = [b"HTTP/1.1 404 Not Found\r\nContent-Length: 900\r\n\r\n", FRAMED[0]]
    assert exchange.send("HEAD", b"key").status == 404
    assert exchange.send("GET", b"key").body == b"hello"


def test_a_large_body_comes_whole(server: Server, exchange: Exchange) -> None:
    body = bytes(range(256)) * 4000
    server.replies = [b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body]
    assert exchange.send("GET").body == body


def test_a_connection_closed_while_idle_is_opened_again(server: Server, exchange: Exchange) -> None:
    server.replies = [FRAMED[0], None, FRAMED[0]]
    assert exchange.send("GET").status == 200
    assert exchange.send("GET").status == 200
    assert server.accepted == 2


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (None, "the connection broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\ncut", "the connection broke"),
        (b"HTTP/1.1 200 OK\r\nContent-Len-cut", "the connection broke"),
        (b"SSH-2.0-OpenSSH_9.2\r\n\r\n", "does not speak HTTP"),
    ],
)
def test_a_broken_reply_is_told_in_one_line(server: Server, exchange: Exchange, reply: bytes | None, text: str) -> None:
    server.replies = [reply, FRAMED[0]]
    with pytest.raises(StoreTimeoutError, match=text):
        exchange.send("GET")
    assert exchange.send("GET").status == 200
