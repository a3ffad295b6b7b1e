"""Signature version 4, with everything that does not change between requests made once a second.

Per request remain: quoting the key, one SHA-256 over the canonical request, and one HMAC whose two key blocks were
hashed beforehand.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import time
from collections.abc import Callable, Sequence

from entrepot.model.errors import EntrepotError, ForbiddenError, StoreError

from .target import S3Target

UNSIGNED = "UNSIGNED-PAYLOAD"
EMPTY_SHA256 = hashlib.sha256(b"").hexdigest()

_SAFE_BYTES = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.~/")
_PATH = tuple(chr(b) if b in _SAFE_BYTES else f"%{b:02X}" for b in range(256))
_QUERY = tuple("%2F" if b == 0x2F else text for b, text in enumerate(_PATH))
_safe_path = re.compile(rb"[A-Za-z0-9\-_.~/]*").fullmatch
_safe_query = re.compile(rb"[A-Za-z0-9\-_.~]*").fullmatch
_sha256 = hashlib.sha256
_HOLE = "\0"
"""Stands in a template where a body's hash goes."""


def quote_path(key: bytes) -> str:
    """``key`` percent-encoded for a path: everything but ``A-Za-z0-9-_.~/``."""
    if _safe_path(key):
        return key.decode()
    return "".join(map(_PATH.__getitem__, key))


def quote_query(value: bytes) -> str:
    """``value`` percent-encoded for a query: everything but ``A-Za-z0-9-_.~``."""
    if _safe_query(value):
        return value.decode()
    return "".join(map(_QUERY.__getitem__, value))


class _Shape:
    """Templates for requests with the same set of further signed headers."""

    __slots__ = ("canonical", "head")

    def __init__(self, canonical: str, head: str) -> None:
        self.canonical = canonical
        self.head = head


class Signer:
    """Signs for one target. ``wall`` is Unix time, ``monotonic`` the lane's clock."""

    def __init__(
        self,
        target: S3Target,
        wall: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._target = target
        self._wall = wall
        self._monotonic = monotonic
        self._until = -1.0
        self._made_of: object = None
        self._shapes: dict[tuple[tuple[str, ...], bool], _Shape] = {}
        self._payload = UNSIGNED if target.profile.payload == "unsigned" else EMPTY_SHA256

    def forget(self) -> None:
        """Something changed (clock, region, keys): make everything anew for the next request."""
        self._until = -1.0
        self._made_of = None

    def sign(
        self,
        method: str,
        path: str,
        query: str = "",
        names: tuple[str, ...] = (),
        values: Sequence[str] = (),
        payload: str = "",
    ) -> str:
        """Request line and headers, the last one ending in CRLF; add unsigned headers and the blank line.

        Raises ForbiddenError when there are no credentials any more.

        ``path`` and ``query`` are encoded, the query sorted. ``names`` are lower case and sorted, and no header
        that this adds itself. ``payload`` is the body's SHA-256 in hex (empty: the profile's word for no body).
        """
        if self._monotonic() >= self._until:
            self._roll()
        signed = bool(payload)
        shape = self._shapes.get((names, signed)) or self._shape(names, signed)
        if values:
            canonical = shape.canonical % (method, path, query, *map(_trimmed, values))
        else:
            canonical = shape.canonical % (method, path, query)
        if query:
            path = f"{path}?{query}"
        if self._anonymous:
            return shape.head % (method, path, *values)
        if signed:
            canonical = canonical.replace(_HOLE, payload)
        inner = self._inner.copy()
        inner.update((self._scope_line + _sha256(canonical.encode()).hexdigest()).encode())
        outer = self._outer.copy()
        outer.update(inner.digest())
        head = shape.head % (method, path, *values, outer.hexdigest())
        return head.replace(_HOLE, payload) if signed else head

    def _roll(self) -> None:
        """A new second: a new date line; on a new day or with new keys a new signing key too."""
        target = self._target
        self._until = self._monotonic() + 1.0
        self._shapes.clear()
        try:
            credentials = target.credentials(False)
        except StoreError:
            raise
        except EntrepotError as fault:
            self._until = -1.0
            raise ForbiddenError(fault.message, subject=target.bucket, hint=fault.hint) from None
        self._anonymous = not credentials.access_key
        self._token = credentials.session_token.reveal()
        self._host = target.host_header.decode("latin-1")
        moment = time.gmtime(self._wall() + target.clock_offset)
        self._date = time.strftime("%Y%m%dT%H%M%SZ", moment)
        self._payload = UNSIGNED if target.profile.payload == "unsigned" else EMPTY_SHA256
        if self._anonymous:
            return
        day = self._date[:8]
        self._scope = f"{day}/{target.region}/{target.profile.signing_service}/aws4_request"
        self._scope_line = f"AWS4-HMAC-SHA256\n{self._date}\n{self._scope}\n"
        self._access_key = credentials.access_key
        made_of = (self._scope, credentials.access_key, credentials.secret_key)
        if made_of != self._made_of:
            self._made_of = made_of
            key = ("AWS4" + credentials.secret_key.reveal()).encode()
            for part in self._scope.split("/"):
                key = hmac.digest(key, part.encode(), "sha256")
            block = key.ljust(64, b"\0")
            self._inner = _sha256(bytes(b ^ 0x36 for b in block))
            self._outer = _sha256(bytes(b ^ 0x5C for b in block))

    def _shape(self, names: tuple[str, ...], signed: bool) -> _Shape:
        payload = _HOLE if signed else self._payload
        fixed = {"host": self._host}
        if not self._anonymous:
            fixed |= {"x-amz-content-sha256": payload, "x-amz-date": self._date}
            if self._token:
                fixed["x-amz-security-token"] = self._token
        if self._target.requester_pays:
            fixed["x-amz-request-payer"] = "requester"
        fixed = {name: value.replace("%", "%%") for name, value in fixed.items()}
        order = sorted([*fixed, *names])
        listed = ";".join(order)
        lines = "".join(f"{name}:{fixed.get(name, '%s')}\n" for name in order)
        head = "%s %s HTTP/1.1\r\n" + "".join(f"{name}: {fixed.get(name, '%s')}\r\n" for name in order)
        if not self._anonymous:
            whose = f"Credential={self._access_key}/{self._scope}, SignedHeaders={listed}".replace("%", "%%")
            head += f"Authorization: AWS4-HMAC-SHA256 {whose}, Signature=%s\r\n"
        shape = _Shape(f"%s\n%s\n%s\n{lines}\n{listed}\n{payload}", head)
        self._shapes[names, signed] = shape
        return shape


def _trimmed(value: str) -> str:
    """A header value as the signature sees it: runs of spaces are one."""
    return " ".join(value.split()) if "  " in value or value != value.strip() else value
