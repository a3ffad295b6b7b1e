"""TLS on non-blocking sockets, in the shape of a plain one."""

from __future__ import annotations

import socket
import ssl

from entrepot.model.errors import UsageError
from entrepot.storage.base import Buffer


def client_context(*, verify: bool = True, ca_file: str = "") -> ssl.SSLContext:
    """A context for clients. Without ``verify`` neither the chain nor the host name is checked."""
    try:
        context = ssl.create_default_context(cafile=ca_file or None)
    except (OSError, ssl.SSLError) as fault:
        raise UsageError(
            f"the CA file {ca_file} cannot be read: {fault}", hint="it must hold PEM certificates"
        ) from None
    context.set_alpn_protocols(["http/1.1"])
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


RECORD = 16 << 10
"""The most that one TLS record carries."""

GATHER = 31


class TlsChannel:
    """Wraps a connected socket. Where a plain socket would block, these calls raise BlockingIOError too."""

    __slots__ = ("_sock",)

    def __init__(self, sock: socket.socket, context: ssl.SSLContext, server_name: str) -> None:
        self._sock = context.wrap_socket(sock, server_hostname=server_name or None, do_handshake_on_connect=False)

    @property
    def socket(self) -> ssl.SSLSocket:
        """The socket that now owns the descriptor."""
        return self._sock

    def handshake(self) -> int:
        """0 when finished, else 1 to wait for reading or 2 to wait for writing. SSLError when refused."""
        try:
            self._sock.do_handshake()
        except ssl.SSLWantReadError:
            return 1
        except ssl.SSLWantWriteError:
            return 2
        return 0

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        """As ``socket.recv_into``; at most one record (16 KiB) comes at a time."""
        try:
            return self._sock.recv_into(buffer)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
        except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
            return 0

    def gather_into(self, buffer: bytearray | memoryview) -> int:
        """As :meth:`recv_into`, for bodies: as many records as are there and fit, up to GATHER."""
        view = memoryview(buffer)
        count = self.recv_into(view)
        read, room, end = self._sock.read, len(view) - RECORD, count
        for _ in range(GATHER):
            if not count or end > room:
                break
            try:
                count = read(RECORD, view[end:])  # type: ignore[assignment]  # with a buffer it answers the count
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                break
            except (ssl.SSLZeroReturnError, ssl.SSLEOFError):
                break  # the next call says so again
            end += count
        return end

    def send(self, data: Buffer) -> int:
        """As ``socket.send``. After BlockingIOError the same bytes must be offered again."""
        try:
            return self._sock.send(data)
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            raise BlockingIOError from None
