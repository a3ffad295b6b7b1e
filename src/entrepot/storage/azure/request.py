"""Building signed requests for one container: what is constant is prepared once.

``before`` and ``after`` are canonical ``x-ms-*`` lines (``name:value``, each ending in a newline) that sort
before and after ``x-ms-date``; they are signed and sent as they stand.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from urllib.parse import quote_from_bytes

from entrepot.storage.wire.dialect import Endpoint
from entrepot.storage.wire.tls import client_context

from . import names, sign
from .target import AzureTarget

VERSION = b"2021-12-02"
"""Service version of all requests but the one that needs a newer one."""
START_FROM_VERSION = b"2026-02-06"
"""The first service version whose List Blobs knows ``startFrom``."""
SAS_SECONDS = 3600
Query = tuple[tuple[str, bytes], ...]


class Requests:
    """Makes request heads for the container of ``target``, signed with its key, its SAS, or not at all."""

    def __init__(self, target: AzureTarget, clock: Callable[[], float] = time.time) -> None:
        self.target = target
        self._clock = clock
        self._account = target.account.encode()
        self._key = sign.decoded_key(target.key) if target.key else b""
        self._sas = target.sas.reveal().encode() if target.sas and not target.key else b""
        self._resource = b"/" + self._account + target.path_prefix
        self._host = b" HTTP/1.1\r\nHost: " + target.host_header + b"\r\nUser-Agent: entrepot\r\n"
        self._second = 0
        self._date = b""
        self._source_sas: dict[str, tuple[float, str]] = {}

    @property
    def signs(self) -> bool:
        """True when requests carry a Shared Key signature."""
        return bool(self._key)

    def head(
        self,
        verb: bytes,
        path: bytes,
        query: Query = (),
        *,
        before: bytes = b"",
        after: bytes = b"",
        sent_after: bytes | None = None,
        length: int | None = None,
        md5: bytes = b"",
        if_match: bytes = b"",
        if_none_match: bytes = b"",
        version: bytes = VERSION,
    ) -> bytes:
        """The whole head of a request for ``path`` (encoded, in the container; empty: the container itself).

        ``query`` is sorted by name, names in their final spelling. ``sent_after`` replaces ``after`` on the
        wire (metadata names keep their case there). ``length`` None sends no Content-Length. ``if_match``
        comes with its quotes.
        """
        ms = b"%bx-ms-date:%b\n%bx-ms-version:%b\n" % (before, self.date(), after, version)
        url = self.target.path_prefix + path if path else self.target.path_prefix[:-1]
        lines = ms
        if sent_after is not None:
            lines = b"%bx-ms-date:%b\n%bx-ms-version:%b\n" % (before, self._date, sent_after, version)
        head = [b"%b %b%b" % (verb, url, self._host), lines.replace(b"\n", b"\r\n")]
        if query or self._sas:
            parts = [f"{name}=".encode() + quote_from_bytes(value, safe="~").encode() for name, value in query]
            if self._sas:
                parts.append(self._sas)
            head[0] = b"%b %b?%b%b" % (verb, url, b"&".join(parts), self._host)
        if length is not None:
            head.append(b"Content-Length: %d\r\n" % length)
        if md5:
            head.append(b"Content-MD5: %b\r\n" % md5)
        if if_match:
            head.append(b"If-Match: %b\r\n" % if_match)
        if if_none_match:
            head.append(b"If-None-Match: %b\r\n" % if_none_match)
        if self._key:
            resource = self._resource + path if path else self._resource[:-1]
            for name, value in query:
                resource += b"\n%b:%b" % (name.lower().encode(), value)
            text = sign.string_to_sign(
                verb,
                ms,
                resource,
                length=length or 0,
                md5=md5,
                if_match=if_match,
                if_none_match=if_none_match,
            )
            head.append(b"Authorization: %b\r\n" % sign.authorization(self._account, self._key, text))
        head.append(b"\r\n")
        return b"".join(head)

    def date(self) -> bytes:
        """``x-ms-date`` of now, by the server's clock as far as it is known."""
        now = int(self._clock() + self.target.clock_offset)
        if now != self._second:
            self._second = now
            self._date = sign.ms_date(now)
        return self._date

    def learn_clock(self, server: float) -> bool:
        """Take over the server's time; False when ours did not differ from it enough to matter."""
        offset = server - self._clock()
        if abs(offset - self.target.clock_offset) < 60:
            return False
        self.target.clock_offset = offset
        self._second = 0
        return True

    def source_url(self, source: AzureTarget, name: bytes) -> bytes:
        """URL of blob ``name`` in ``source`` with what lets the service read it: a SAS."""
        token = source.sas.reveal() if source.sas and not source.key else ""
        if source.key:
            token = self._token(source)
        path = source.path_prefix + names.encode(name)
        scheme = "https" if source.tls else "http"
        url = f"{scheme}://{source.host_header.decode()}{path.decode()}"
        return f"{url}?{token}".encode() if token else url.encode()

    def _token(self, source: AzureTarget) -> str:
        now = self._clock() + self.target.clock_offset
        known = self._source_sas.get(source.container)
        if known is None or known[0] - now < SAS_SECONDS / 2:
            expires = now + SAS_SECONDS
            key = sign.decoded_key(source.key)
            token = sign.container_sas(source.account, key, source.container, expires=expires, https_only=source.tls)
            known = self._source_sas[source.container] = (expires, token)
        return known[1]


def endpoint_of(target: AzureTarget) -> Endpoint:
    """Where a lane connects for ``target``."""
    tls = client_context(verify=target.verify, ca_file=target.ca_file) if target.tls else None
    return Endpoint(target.host, target.port, tls, target.host)


def quoted(etag: bytes) -> bytes:
    """``etag`` as a condition wants it."""
    return b'"%b"' % etag
