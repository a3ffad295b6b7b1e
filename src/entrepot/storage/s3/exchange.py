"""One S3 request and its reply, blocking: the control calls that no lane carries.

Bodies are small and always hashed into the signature, the form that every server accepts. Connection faults
become one clear line each; there is no retry here.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
from collections.abc import Sequence
from dataclasses import dataclass

from entrepot.model.errors import ForbiddenError, NotFoundError, StoreError, StoreTimeoutError
from entrepot.storage.wire.http import BadReply, Head
from entrepot.storage.wire.incoming import Incoming
from entrepot.storage.wire.resolve import connect
from entrepot.storage.wire.tls import client_context

from .signing import Signer, quote_path, quote_query
from .target import S3Target

_PIECE = 64 << 10
Query = Sequence[tuple[str, str | bytes]]


@dataclass(slots=True, frozen=True)
class Reply:
    """What came back; ``headers`` is the raw head: the status line and lines ``name: value``."""

    status: int
    headers: bytes
    body: bytes

    def header(self, name: str) -> str:
        """One header's value; empty when the reply lacks it."""
        for line in self.headers.split(b"\n")[1:]:
            key, _, value = line.partition(b":")
            if key.strip().lower() == name.encode():
                return value.strip().decode("latin-1")
        return ""


class Exchange:
    """A connection to a target for one request after the other."""

    def __init__(self, target: S3Target, *, connect: float = 10.0, reply: float = 60.0) -> None:
        self.target = target
        self.connect_timeout = connect
        self.reply_timeout = reply
        self._socket: socket.socket | None = None
        self._connected = ("", 0)

    def send(
        self,
        method: str,
        key: bytes = b"",
        query: Query = (),
        headers: dict[str, str] | None = None,
        body: bytes = b"",
    ) -> Reply:
        """Send a request for ``key`` (whole, below the bucket; empty: the bucket itself).

        Raises StoreError when no reply came; every reply is returned, whatever its status.
        """
        target = self.target
        path = target.path_prefix.decode("latin-1") + quote_path(key)
        text = canonical_query(query)
        every = sorted((name.lower(), value) for name, value in (headers or {}).items())
        names, values = tuple(name for name, _ in every), tuple(value for _, value in every)
        head = Signer(target).sign(method, path, text, names, values, hashlib.sha256(body).hexdigest())
        request = f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1") + body
        try:
            return self._exchange(method, request)
        except (OSError, BadReply) as fault:
            raise connect_error(fault, target) from None

    def close(self) -> None:
        """Close the connection."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _exchange(self, method: str, request: bytes) -> Reply:
        reused = self._socket is not None
        try:
            return self._once(method, request)
        except (BrokenPipeError, ConnectionResetError):
            if not reused:
                raise
            # The server had closed the connection while it was unused.
            return self._once(method, request)

    def _once(self, method: str, request: bytes) -> Reply:
        try:
            sock = self._open()
            sock.sendall(request)
            incoming = _receive(sock, bodyless=method == "HEAD")
        except BaseException:
            self.close()
            raise
        head = incoming.head
        assert head is not None
        if head.close or incoming.extra:
            self.close()
        return Reply(head.status, head.raw, bytes(incoming.body))

    def _open(self) -> socket.socket:
        target = self.target
        place = (target.host, target.port)
        if self._socket is not None and self._connected == place:
            return self._socket
        self.close()
        sock = connect(target.host, target.port, self.connect_timeout)
        try:
            if target.tls:
                context = client_context(verify=target.verify, ca_file=target.ca_file)
                sock = context.wrap_socket(sock, server_hostname=target.host)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock.settimeout(self.reply_timeout)
        except BaseException:
            sock.close()
            raise
        self._socket, self._connected = sock, place
        return sock


def _receive(sock: socket.socket, *, bodyless: bool) -> Incoming:
    """Read one reply. Raises BadReply or OSError (ConnectionResetError only when not a byte of it came)."""
    incoming = Incoming(_collected, bodyless=bodyless)
    began = False
    while piece := sock.recv(_PIECE):
        began = True
        if incoming.feed(memoryview(piece)):
            return incoming
    if incoming.eof():
        return incoming
    raise ConnectionAbortedError if began else ConnectionResetError


def _collected(_head: Head) -> None:
    """Every body is small and is kept in memory."""


def connect_error(fault: Exception, target: S3Target) -> StoreError:
    """The one line that a failed connection deserves."""
    place = f"{target.endpoint} (bucket {target.bucket})" if target.bucket else target.endpoint
    where = f"{target.host}:{target.port}"
    if isinstance(fault, ssl.SSLCertVerificationError):
        return ForbiddenError(
            f"{place}: the TLS certificate of {where} is not trusted ({fault.verify_message})",
            subject=place,
            hint="name its CA with --ca-file; if the bucket has dots in its name set addressing to path",
        )
    if isinstance(fault, ssl.SSLError):
        return ForbiddenError(
            f"{place}: no TLS with {where} ({fault.reason or 'handshake failed'})",
            subject=place,
            hint="is it a plain endpoint? then write http://, or set disable_ssl",
        )
    if isinstance(fault, socket.gaierror):
        return NotFoundError(
            f"{place}: the host {target.host} is not known",
            subject=place,
            hint="check the endpoint and region",
        )
    if isinstance(fault, ConnectionRefusedError):
        return StoreTimeoutError(
            f"{place}: nothing answers at {where} (connection refused)",
            subject=place,
            hint="is the store running, and is the port right?",
            retryable=False,
        )
    if isinstance(fault, TimeoutError):
        text = "no answer in time"
    elif isinstance(fault, BadReply):
        return StoreTimeoutError(
            f"{place}: {where} does not speak HTTP",
            subject=place,
            hint="is it an https endpoint, or another service's port?",
            retryable=False,
        )
    else:
        text = f"the connection broke ({type(fault).__name__})"
    return StoreTimeoutError(f"{place}: {text} from {where}", subject=place, hint="check network and proxy")


def canonical_query(query: Query) -> str:
    """The query in the order and encoding that the signature wants; it is sent like this too."""
    raw = ((quote_query(name.encode()), value if isinstance(value, bytes) else value.encode()) for name, value in query)
    return "&".join(f"{name}={quote_query(value)}" for name, value in sorted(raw))
