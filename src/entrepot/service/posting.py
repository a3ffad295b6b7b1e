"""One POST to somebody else's server: in time, to an allowed address, following no redirect, keeping no answer."""

from __future__ import annotations

import contextlib
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import SplitResult, urlsplit

from entrepot.model.errors import EntrepotError
from entrepot.security.egress import Check

_HEAD_MAX: Final = 64 << 10
_BODY_MAX: Final = 64 << 10
_LINGER: Final = 0.5
"""Seconds for the receiver to finish its answer, so that it sees an orderly end."""

Dial = Callable[[str, int, float], socket.socket]
"""(host, port, seconds): a connected socket. Raises OSError, or EntrepotError for an address that is not allowed."""


class NotDelivered(Exception):
    """The message was not taken. Says why, in words for the one who receives; ``status`` is 0 without an answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


def guarded(check: Check) -> Dial:
    """Connect only where ``check`` (host, address, port) lets one: it judges the very address that is connected to."""

    def dial(host: str, port: int, seconds: float) -> socket.socket:
        end = time.monotonic() + seconds
        fault: OSError | EntrepotError = OSError(0, "the name has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                check(host, str(address[0]), port)
                return _connect(family, kind, protocol, address, _left(end))
            except (OSError, EntrepotError) as error:
                fault = error
        raise fault

    return dial


def _connect(family: int, kind: int, protocol: int, address: Any, seconds: float) -> socket.socket:
    sock = socket.socket(family, kind, protocol)
    try:
        sock.settimeout(seconds)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock


@dataclass(slots=True, frozen=True)
class Post:
    """A message to be sent."""

    url: str
    headers: Mapping[str, str]
    body: bytes


def post(message: Post, dial: Dial, tls: ssl.SSLContext, *, seconds: float) -> int:
    """Send it. The status (2xx) of the answer. Raises NotDelivered."""
    target = urlsplit(message.url)
    end = time.monotonic() + seconds
    try:
        with _connected(target, dial, tls, end) as sock:
            sock.settimeout(_left(end))
            sock.sendall(_request(target, message))
            status = _status(sock, end)
            _drain(sock, end)
    except TimeoutError:
        raise NotDelivered(f"no answer within {seconds:g} s") from None
    except ssl.SSLCertVerificationError as fault:
        raise NotDelivered(f"its certificate is not good: {fault.verify_message}") from None
    except ssl.SSLError as fault:
        raise NotDelivered(f"TLS failed: {fault.reason or 'the connection was cut'}") from None
    except OSError as fault:
        raise NotDelivered(f"not reached: {fault.strerror or type(fault).__name__}") from None
    except EntrepotError as refusal:
        raise NotDelivered(refusal.message) from None
    if 300 <= status < 400:
        raise NotDelivered(f"it answered {status}: redirects are not followed", status)
    if not 200 <= status < 300:
        raise NotDelivered(f"it answered {status}", status)
    return status


def _connected(target: SplitResult, dial: Dial, tls: ssl.SSLContext, end: float) -> socket.socket:
    host = target.hostname or ""
    secure = target.scheme == "https"
    sock = dial(host, target.port or (443 if secure else 80), _left(end))
    try:
        sock.settimeout(_left(end))
        return tls.wrap_socket(sock, server_hostname=host) if secure else sock
    except BaseException:
        sock.close()
        raise


def _request(target: SplitResult, message: Post) -> bytes:
    path = (target.path or "/") + (f"?{target.query}" if target.query else "")
    host = target.netloc.rpartition("@")[2]
    head = {"Host": host, **message.headers, "Content-Length": str(len(message.body)), "Connection": "close"}
    lines = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in head.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + message.body


def _status(sock: socket.socket, end: float) -> int:
    seen = bytearray()
    while True:
        while b"\r\n\r\n" not in seen:
            if len(seen) > _HEAD_MAX:
                raise NotDelivered("what it answered is no HTTP")
            sock.settimeout(_left(end))
            more = sock.recv(16 << 10)
            if not more:
                raise NotDelivered("it hung up without an answer")
            seen += more
        line = bytes(seen[:64]).split(b"\r\n", 1)[0].split(b" ")
        if len(line) < 2 or not line[0].startswith(b"HTTP/1.") or len(line[1]) != 3 or not line[1].isdigit():
            raise NotDelivered("what it answered is no HTTP")
        status = int(line[1])
        if status >= 200 or status == 101:
            return status
        del seen[: seen.index(b"\r\n\r\n") + 4]


def _drain(sock: socket.socket, end: float) -> None:
    until = min(end, time.monotonic() + _LINGER)
    read = 0
    with contextlib.suppress(OSError):
        while read < _BODY_MAX:
            sock.settimeout(_left(until))
            got = len(sock.recv(16 << 10))
            if not got:
                return
            read += got


def _left(end: float) -> float:
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left
