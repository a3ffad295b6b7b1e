"""One S3 request and its reply, blocking: the control calls that no lane carries.

Bodies are small and always hashed into the signature, the form that every server accepts. Connection faults
become one clear line each; there is no retry here.
"""

from __future__ import annotations

import hashlib
import hmac
import http.client
import socket
import ssl
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

from entrepot.model.errors import ForbiddenError, NotFoundError, StoreError, StoreTimeoutError

from .target import Credentials, S3Target

BODY_MAX = 64 << 20
Query = Sequence[tuple[str, str | bytes]]


@dataclass(slots=True, frozen=True)
class Reply:
    """What came back; ``headers`` is a raw header block (``name: value`` lines)."""

    status: int
    headers: bytes
    body: bytes

    def header(self, name: str) -> str:
        """One header's value; empty when the reply lacks it."""
        for line in self.headers.split(b"\r\n"):
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
        self._connection: http.client.HTTPConnection | None = None
        self._connected: tuple[str, int, bool] = ("", 0, False)

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
        path = target.path_prefix.decode("latin-1") + quote(key, safe="/-_.~")
        text = canonical_query(query)
        signed = sign(target, method, path, text, headers=headers or {}, body=body)
        url = f"{path}?{text}" if text else path
        try:
            return self._exchange(method, url, signed, body)
        except (OSError, http.client.HTTPException) as fault:
            self.close()
            raise connect_error(fault, target) from None

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _exchange(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Reply:
        reused = self._connection is not None
        try:
            return self._once(method, url, headers, body)
        except (http.client.RemoteDisconnected, BrokenPipeError, ConnectionResetError):
            if not reused:
                raise
            self.close()  # a connection that the server had closed while it was unused
            return self._once(method, url, headers, body)

    def _once(self, method: str, url: str, headers: dict[str, str], body: bytes) -> Reply:
        connection = self._open()
        connection.putrequest(method, url, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body or None)
        response = connection.getresponse()
        found = response.read(BODY_MAX)
        if response.will_close or not response.isclosed():
            self.close()
        raw = b"".join(f"{k}: {v}\r\n".encode("latin-1", "replace") for k, v in response.getheaders())
        return Reply(response.status, raw, found)

    def _open(self) -> http.client.HTTPConnection:
        target = self.target
        place = (target.host, target.port, target.tls)
        if self._connection is not None and self._connected != place:
            self.close()
        if self._connection is None:
            if target.tls:
                self._connection = http.client.HTTPSConnection(
                    target.host, target.port, timeout=self.connect_timeout, context=tls_context(target)
                )
            else:
                self._connection = http.client.HTTPConnection(
                    target.host, target.port, timeout=self.connect_timeout
                )
            self._connection.connect()
            self._connection.sock.settimeout(self.reply_timeout)
            self._connected = place
        return self._connection


def tls_context(target: S3Target) -> ssl.SSLContext:
    """The TLS settings of a target. Raises ForbiddenError for a CA file that cannot be used."""
    try:
        context = ssl.create_default_context(cafile=target.ca_file or None)
    except (OSError, ssl.SSLError):
        raise ForbiddenError(
            f"the CA file {target.ca_file} cannot be used",
            hint="it must be readable and hold certificates in PEM form",
        ) from None
    if not target.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


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
    elif isinstance(fault, http.client.BadStatusLine) and not isinstance(
        fault, http.client.RemoteDisconnected
    ):
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
    pairs = sorted((quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in query)
    return "&".join(f"{name}={value}" for name, value in pairs)


def sign(
    target: S3Target, method: str, path: str, query: str, *, headers: dict[str, str], body: bytes
) -> dict[str, str]:
    """All headers of a request, signed (AWS Signature Version 4) unless the target is anonymous."""
    keys = target.credentials(False)
    now = time.gmtime(time.time() + target.clock_offset)
    stamp = time.strftime("%Y%m%dT%H%M%SZ", now)
    every = {name.lower(): value for name, value in headers.items()}
    every["host"] = target.host_header.decode()
    if target.requester_pays:
        every["x-amz-request-payer"] = "requester"
    if not keys.access_key:
        return every
    every["x-amz-date"] = stamp
    every["x-amz-content-sha256"] = hashlib.sha256(body).hexdigest()
    if keys.session_token:
        every["x-amz-security-token"] = keys.session_token.reveal()
    names = sorted(every)
    listed = ";".join(names)
    lines = "".join(f"{name}:{' '.join(every[name].split())}\n" for name in names)
    request = f"{method}\n{path}\n{query}\n{lines}\n{listed}\n{every['x-amz-content-sha256']}"
    scope = f"{stamp[:8]}/{target.region}/{target.profile.signing_service}/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    signature = hmac.new(_key(keys, scope), text.encode(), hashlib.sha256).hexdigest()
    every["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, "
        f"SignedHeaders={listed}, Signature={signature}"
    )
    return every


def _key(keys: Credentials, scope: str) -> bytes:
    key = b"AWS4" + keys.secret_key.reveal().encode()
    for piece in scope.split("/"):
        key = hmac.new(key, piece.encode(), hashlib.sha256).digest()
    return key
