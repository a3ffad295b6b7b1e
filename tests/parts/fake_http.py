"""HTTP/1.1 as the fake S3 server speaks it: reads requests, sends replies with all their scripted faults."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import formatdate
from typing import BinaryIO
from urllib.parse import unquote, unquote_plus, unquote_to_bytes
from xml.sax.saxutils import escape

from parts.fake_store import Body

REASONS = {
    200: "OK", 202: "Accepted", 204: "No Content", 206: "Partial Content", 301: "Moved Permanently",
    304: "Not Modified", 307: "Temporary Redirect", 400: "Bad Request", 403: "Forbidden", 404: "Not Found",
    405: "Method Not Allowed", 409: "Conflict", 411: "Length Required", 412: "Precondition Failed",
    416: "Range Not Satisfiable", 429: "Too Many Requests", 500: "Internal Server Error",
    501: "Not Implemented", 503: "Service Unavailable", 504: "Gateway Timeout", 507: "Insufficient Storage",
}  # fmt: skip


class S3Error(Exception):
    """An error reply."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        *,
        headers: dict[str, str] | None = None,
        extra: str = "",
    ) -> None:
        super().__init__(code)
        self.status = status
        self.code = code
        self.message = message or code
        self.headers = headers or {}
        self.extra = extra

    def reply(self, request: Request) -> Reply:
        body = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{self.code}</Code>'
            f"<Message>{escape(self.message)}</Message><Resource>{escape(request.path)}</Resource>{self.extra}"
            f"<RequestId>{request.id}</RequestId></Error>"
        ).encode("utf-8", "replace")
        return Reply(self.status, {"content-type": "application/xml", **self.headers}, body)


@dataclass(slots=True)
class Request:
    """One request as received. ``key``, ``prefix``, ``after`` are bytes; header names are lower-case."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]
    id: str = ""
    op: str = ""
    bucket: str = ""
    virtual: bool = False
    """The bucket stood in the Host header."""
    key: bytes = b""
    prefix: bytes = b""
    after: bytes = b""
    raw_body: bytes = b""
    body: bytes = b""
    trailers: dict[str, str] = field(default_factory=dict)
    connection: int = 0
    at: float = 0.0
    length: int = 0
    chunked: bool = False


@dataclass(slots=True)
class Reply:
    """One reply, and what goes wrong on its way."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | Body = b""
    silent: bool = False
    """Close the connection without a word."""
    close: bool = False
    """Close after the reply."""
    reset: bool = False
    """Close with a TCP reset."""
    claim: int | None = None
    """Content-Length to send instead of the true one."""
    cut_at: int = -1
    """Close after so many body bytes."""
    stall_at: int = -1
    stall_seconds: float = 0.0
    rate: float = 0.0
    """Body bytes per second."""
    flips: dict[int, int] = field(default_factory=dict)
    """Body offset -> mask to xor."""
    chunked: bool = False

    def size(self) -> int:
        return self.body.size if isinstance(self.body, Body) else len(self.body)

    def data(self) -> bytes:
        return self.body.bytes() if isinstance(self.body, Body) else self.body


def read_head(stream: BinaryIO) -> Request | None:
    """The next request's head; None when the client closed."""
    line = stream.readline(65536)
    while line in (b"\r\n", b"\n"):
        line = stream.readline(65536)
    parts = line.decode("latin-1").split(" ")
    if len(parts) != 3:
        return None
    path, _, raw_query = parts[1].partition("?")
    headers: dict[str, str] = {}
    while True:
        line = stream.readline(65536)
        if line in (b"\r\n", b"\n", b""):
            break
        name, _, value = line.decode("utf-8", "surrogateescape").partition(":")
        name = name.strip().lower()
        headers[name] = f"{headers[name]},{value.strip()}" if name in headers else value.strip()
    query: dict[str, str] = {}
    for pair in raw_query.split("&") if raw_query else ():
        k, _, v = pair.partition("=")
        query[unquote(k)] = unquote_plus(v, errors="surrogateescape")
    request = Request(parts[0], path, query, headers, at=time.monotonic())
    request.length = int(headers.get("content-length", "0") or 0)
    request.chunked = "chunked" in headers.get("transfer-encoding", "").lower()
    return request


def read_body(stream: BinaryIO, request: Request) -> None:
    """Fill ``raw_body`` (what was sent) and ``body`` (without aws-chunked framing)."""
    if request.chunked:
        request.raw_body = _read_chunked(stream)
    elif request.length:
        request.raw_body = stream.read(request.length)
        if len(request.raw_body) < request.length:
            raise ConnectionError("the client cut its body")
    if "aws-chunked" in request.headers.get("content-encoding", "") or request.headers.get(
        "x-amz-content-sha256", ""
    ).startswith("STREAMING-"):
        request.body, request.trailers = _aws_chunked(request.raw_body)
    else:
        request.body = request.raw_body


def _read_chunked(stream: BinaryIO) -> bytes:
    pieces: list[bytes] = []
    while True:
        size = int(stream.readline(1024).split(b";")[0], 16)
        if size == 0:
            while stream.readline(65536) not in (b"\r\n", b""):
                pass
            return b"".join(pieces)
        pieces.append(stream.read(size))
        stream.readline(16)


def _aws_chunked(raw: bytes) -> tuple[bytes, dict[str, str]]:
    pieces: list[bytes] = []
    trailers: dict[str, str] = {}
    at = 0
    while at < len(raw):
        end = raw.index(b"\r\n", at)
        size = int(raw[at:end].split(b";")[0], 16)
        at = end + 2
        if size == 0:
            break
        pieces.append(raw[at : at + size])
        at += size + 2
    for line in raw[at:].decode("latin-1").split("\r\n"):
        name, colon, value = line.partition(":")
        if colon:
            trailers[name.strip().lower()] = value.strip()
    return b"".join(pieces), trailers


def decode_path(path: str) -> bytes:
    """The raw bytes of a request path."""
    return unquote_to_bytes(path)


class Sender:
    """Writes one reply to a socket, faults included. Returns whether the connection can go on."""

    def __init__(self, sock: socket.socket, wait: Callable[[float], bool], clock: Callable[[], float]) -> None:
        self.sock = sock
        self.wait = wait
        self.clock = clock

    def send(self, request: Request, reply: Reply) -> bool:
        if reply.silent:
            return False
        if reply.stall_seconds and reply.stall_at < 0 and self.wait(reply.stall_seconds):
            return False
        head = self._head(request, reply)
        if request.method == "HEAD" or reply.status in (204, 304):
            self.sock.sendall(head)
            return not reply.close
        plain = reply.cut_at < 0 and reply.stall_at < 0 and not reply.rate and not reply.flips
        if plain and not reply.chunked and isinstance(reply.body, bytes):
            self.sock.sendall(head + reply.body)
            return not reply.close
        self.sock.sendall(head)
        return self._send_body(reply) and not reply.close

    def _head(self, request: Request, reply: Reply) -> bytes:
        lines = [f"HTTP/1.1 {reply.status} {REASONS.get(reply.status, 'Other')}"]
        headers = {
            "server": "fake-s3",
            "date": formatdate(self.clock(), usegmt=True),
            "x-amz-request-id": request.id,
        }
        headers.update(reply.headers)
        if reply.chunked:
            headers["transfer-encoding"] = "chunked"
        elif reply.status not in (204, 304):
            known = headers.get("content-length") if request.method == "HEAD" else None
            claim = reply.size() if reply.claim is None else reply.claim
            headers["content-length"] = known or str(claim)
        if reply.close:
            headers["connection"] = "close"
        lines += [f"{k}: {v}" for k, v in headers.items() if v is not None]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("utf-8", "surrogateescape")

    def _send_body(self, reply: Reply) -> bool:
        body = reply.body if isinstance(reply.body, Body) else Body.of(reply.body)
        step = max(1, min(1 << 16, int(reply.rate / 20))) if reply.rate else 1 << 18
        sent = 0
        for piece in body.pieces(step):
            for offset, mask in reply.flips.items():
                if sent <= offset < sent + len(piece):
                    changed = bytearray(piece)
                    changed[offset - sent] ^= mask
                    piece = bytes(changed)
            if 0 <= reply.stall_at < sent + len(piece) and reply.stall_seconds:
                split = max(0, reply.stall_at - sent)
                self._write(piece[:split], reply)
                if self.wait(reply.stall_seconds):
                    return False
                reply.stall_seconds = 0.0
                piece, sent = piece[split:], sent + split
            if 0 <= reply.cut_at <= sent + len(piece):
                self._write(piece[: reply.cut_at - sent], reply)
                return False
            self._write(piece, reply)
            sent += len(piece)
            if reply.rate and self.wait(len(piece) / reply.rate):
                return False
        if reply.chunked:
            self.sock.sendall(b"0\r\n\r\n")
        return reply.cut_at < 0

    def _write(self, piece: bytes, reply: Reply) -> None:
        if reply.chunked and piece:
            piece = b"%x\r\n%b\r\n" % (len(piece), piece)
        if piece:
            self.sock.sendall(piece)


def hang_up(sock: socket.socket, *, reset: bool = False) -> None:
    """Close a connection at once; ``reset`` sends RST."""
    with contextlib.suppress(OSError):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        else:
            sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()


def start_thread(target: Callable[..., None], *args: object, name: str = "fake-s3") -> threading.Thread:
    """A daemon thread."""
    thread = threading.Thread(target=target, args=args, name=name, daemon=True)
    thread.start()
    return thread
