"""WebDAV over plain HTTP requests, one connection per thread: PROPFIND, GET, PUT, MOVE, MKCOL, DELETE.

Paths are percent-encoded here, byte by byte, so that no library in between reads an escape into a name or
tidies it.
"""

from __future__ import annotations

import base64
import http.client
import socket
import ssl
import threading
from collections.abc import Iterable, Iterator
from email.utils import parsedate_to_datetime
from urllib.parse import quote_from_bytes, unquote_to_bytes, urlsplit
from xml.etree import ElementTree

from entrepot.model.errors import UnexpectedReplyError, UsageError
from entrepot.model.secret import Secret
from entrepot.storage.base import Meta
from entrepot.storage.wire.resolve import connect
from entrepot.storage.wire.tls import client_context

from .faults import HttpStatus
from .place import Item

PIECE = 256 << 10
TIMEOUT = 60.0
_PROPERTIES = (
    b'<?xml version="1.0" encoding="utf-8"?><propfind xmlns="DAV:"><prop><resourcetype/><getcontentlength/>'
    b"<getlastmodified/><getetag/></prop></propfind>"
)
_DAV = "{DAV:}"


class WebdavPlace:
    """A WebDAV server below ``url``."""

    protocol = "webdav"
    renames = True
    keeps_mtime = False

    def __init__(self, url: str, user: str, password: Secret, *, verify: bool = True, ca_file: str = "") -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.password:
            raise UsageError(
                "the WebDAV address is not a plain http or https URL", hint="keep user and password out of it"
            )
        self._host = parts.hostname
        self._tls: ssl.SSLContext | None = None
        if parts.scheme == "https":
            self._tls = client_context(verify=verify, ca_file=ca_file)
        self._port = parts.port or (443 if self._tls else 80)
        self._base = "/" + parts.path.strip("/")
        if self._base != "/":
            self._base += "/"
        self.base = unquote_to_bytes(self._base).lstrip(b"/")
        self._headers = {"User-Agent": "entrepot"}
        if user:
            token = base64.b64encode(f"{user}:{password.reveal()}".encode()).decode()
            self._headers["Authorization"] = f"Basic {token}"
        self._local = threading.local()
        self._open: set[http.client.HTTPConnection] = set()
        self._lock = threading.Lock()

    def identity(self) -> str:
        """The endpoint in canonical form."""
        port = "" if self._port in {80, 443} else f":{self._port}"
        return f"{self._host.lower()}{port}"

    def entries(self, path: bytes) -> list[Item]:
        """The members of a collection."""
        url = self._url(path, collection=True)
        found = self._properties(url, "1")
        own = unquote_to_bytes(url).rstrip(b"/")
        return [item for whole, item in found if whole != own]

    def stat(self, path: bytes) -> Item:
        """One resource."""
        found = self._properties(self._url(path), "0")
        if not found:
            raise FileNotFoundError("no such resource")
        return found[0][1]

    def read(self, path: bytes, offset: int, length: int) -> Iterator[bytes]:
        """Pieces of a resource; a server that ignores the range is read past it."""
        if length == 0:
            return
        headers = {}
        if offset or length > 0:
            last = str(offset + length - 1) if length > 0 else ""
            headers["Range"] = f"bytes={offset}-{last}"
        reply = self._send("GET", self._url(path), headers)
        if reply.status == 416 and length < 0:
            reply.read()
            return
        self._expect(reply, {200, 206})
        skip = offset if reply.status == 200 else 0
        left = length
        try:
            while left != 0:
                piece = reply.read(PIECE)
                if not piece:
                    break
                if skip:
                    dropped = min(skip, len(piece))
                    skip -= dropped
                    piece = piece[dropped:]
                if left >= 0:
                    piece = piece[:left]
                    left -= len(piece)
                if piece:
                    yield piece
        except http.client.HTTPException as fault:
            raise ConnectionError(f"the body was cut ({type(fault).__name__})") from None
        finally:
            if not reply.isclosed():
                self._drop()  # what is left of the body would be taken for the next reply

    def write(self, path: bytes, pieces: Iterable[bytes | memoryview], size: int, meta: Meta | None) -> None:
        """PUT with a known length."""
        headers = {"Content-Length": str(size)}
        if meta is not None and meta.content_type and meta.content_type.isprintable():
            headers["Content-Type"] = meta.content_type
        reply = self._send("PUT", self._url(path), headers, pieces)
        self._expect(reply, {200, 201, 204})
        reply.read()

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        """WebDAV has no common way to do it."""

    def rename(self, source: bytes, target: bytes) -> None:
        """MOVE, replacing."""
        scheme = "https" if self._tls else "http"
        host = f"[{self._host}]" if ":" in self._host else self._host
        destination = f"{scheme}://{host}:{self._port}{self._url(target)}"
        self._done("MOVE", source, {"Destination": destination, "Overwrite": "T"}, {201, 204})

    def make_directories(self, path: bytes) -> None:
        """MKCOL from the top; what is there already answers 405."""
        made = b""
        for segment in path.split(b"/"):
            made += segment + b"/"
            reply = self._send("MKCOL", self._url(made, collection=True), {})
            self._expect(reply, {201, 405, 301})
            reply.read()

    def remove(self, path: bytes) -> None:
        """DELETE."""
        self._done("DELETE", path, {}, {200, 204})

    def close(self) -> None:
        """Close the connections of all threads."""
        with self._lock:
            for connection in self._open:
                connection.close()
            self._open.clear()

    def _done(self, method: str, path: bytes, headers: dict[str, str], good: set[int]) -> None:
        reply = self._send(method, self._url(path), headers)
        self._expect(reply, good)
        reply.read()

    def _url(self, path: bytes, *, collection: bool = False) -> str:
        url = self._base + quote_from_bytes(path, safe="/~")
        return url.rstrip("/") + "/" if collection else url

    def _properties(self, url: str, depth: str) -> list[tuple[bytes, Item]]:
        headers = {"Depth": depth, "Content-Type": "application/xml", "Content-Length": str(len(_PROPERTIES))}
        reply = self._send("PROPFIND", url, headers, [_PROPERTIES])
        self._expect(reply, {207})
        try:
            text = reply.read()
            if b"<!DOCTYPE" in text[:4096] or b"<!ENTITY" in text[:4096]:
                raise UnexpectedReplyError("the directory listing declares entities of its own: refused")
            root = ElementTree.fromstring(text)  # noqa: S314 - no entities get here
        except (ElementTree.ParseError, http.client.IncompleteRead):
            self._drop()
            raise UnexpectedReplyError("the directory listing is cut or no XML", retryable=True) from None
        return [_item(element) for element in root.iter(f"{_DAV}response")]

    def _send(
        self, method: str, url: str, headers: dict[str, str], body: Iterable[bytes | memoryview] = ()
    ) -> http.client.HTTPResponse:
        connection = self._connection()
        try:
            return self._exchange(connection, method, url, headers, body)
        except (http.client.HTTPException, OSError) as fault:
            self._drop()
            stale = isinstance(fault, http.client.RemoteDisconnected | BrokenPipeError | ConnectionResetError)
            if stale and method in {"GET", "PROPFIND"}:
                return self._exchange(self._connection(), method, url, headers, body)
            if isinstance(fault, http.client.HTTPException):
                raise ConnectionError(f"the connection broke ({type(fault).__name__})") from None
            raise
        except BaseException:
            self._drop()  # a body that ended too early leaves a request half sent
            raise

    def _exchange(
        self,
        connection: http.client.HTTPConnection,
        method: str,
        url: str,
        headers: dict[str, str],
        body: Iterable[bytes | memoryview],
    ) -> http.client.HTTPResponse:
        connection.putrequest(method, url, skip_accept_encoding=True)
        for name, value in (self._headers | headers).items():
            connection.putheader(name, value)
        connection.endheaders()
        for piece in body:
            connection.send(piece)
        return connection.getresponse()

    def _connection(self) -> http.client.HTTPConnection:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        if found is None:
            found = _Connection(self._host, self._port, self._tls)
            self._local.connection = found
            with self._lock:
                self._open.add(found)
        return found

    def _drop(self) -> None:
        found: http.client.HTTPConnection | None = getattr(self._local, "connection", None)
        self._local.connection = None
        if found is not None:
            found.close()
            with self._lock:
                self._open.discard(found)

    def _expect(self, reply: http.client.HTTPResponse, good: set[int]) -> None:
        if reply.status not in good:
            status, reason = reply.status, reply.reason
            reply.read(64 << 10)
            if not reply.isclosed():
                self._drop()
            raise HttpStatus(status, reason)


class _Connection(http.client.HTTPConnection):
    """Connects, and connects again, only where this process may."""

    def __init__(self, host: str, port: int, tls: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=TIMEOUT)
        self._tls = tls
        self.default_port = 443 if tls is not None else 80  # what the Host header leaves out

    def connect(self) -> None:
        """Open the socket."""
        self.sock = connect(self.host, self.port, TIMEOUT)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self._tls is not None:
            self.sock = self._tls.wrap_socket(self.sock, server_hostname=self.host)


def _item(element: ElementTree.Element) -> tuple[bytes, Item]:
    """(decoded path without the slash at its end, item) of one ``response``."""
    href = element.findtext(f"{_DAV}href", "").strip()
    whole = unquote_to_bytes(urlsplit(href).path if "://" in href else href).rstrip(b"/")
    found: dict[str, str] = {}
    folder = False
    for status in element.iter(f"{_DAV}propstat"):
        if " 200" not in status.findtext(f"{_DAV}status", " 200"):
            continue
        for prop in status.iterfind(f"{_DAV}prop/*"):
            found[prop.tag] = prop.text or ""
            folder = folder or prop.find(f"{_DAV}collection") is not None
    size = found.get(f"{_DAV}getcontentlength", "")
    return whole, Item(
        name=whole.rpartition(b"/")[2],
        kind="directory" if folder else "file",
        size=int(size) if size.isdigit() else 0,
        mtime_ns=_time(found.get(f"{_DAV}getlastmodified", "")),
        etag=found.get(f"{_DAV}getetag", "").removeprefix("W/").strip('"').encode(),
    )


def _time(text: str) -> int:
    try:
        return int(parsedate_to_datetime(text).timestamp()) * 1_000_000_000
    except (ValueError, TypeError):
        return 0
