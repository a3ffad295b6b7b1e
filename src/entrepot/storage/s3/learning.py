"""What an error reply teaches: the server's clock, the bucket's region, fresh keys, headers that are not known.

Each lesson is stored in the target, which store and all lanes share, and the operation goes out again at once.
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Callable

from entrepot.model.errors import StoreError
from entrepot.storage.base import Buffer
from entrepot.storage.wire.dialect import Again, Endpoint
from entrepot.storage.wire.tls import client_context

from .errors import EXPIRED, MOVED, SKEWED, s3_error, told_region
from .replies import date_of, location_host
from .signing import Signer
from .target import S3Target

SKEW_MAX = 14 * 60.0
"""Seconds of difference between the clocks that servers begin to refuse at (15 minutes)."""
REFRESH_EVERY = 30.0
REFUSALS = frozenset({"NotImplemented", "InvalidRequest", "InvalidArgument", "UnsupportedHeader", "400", "501"})
"""Codes with which servers answer headers that they do not know."""


class Teacher:
    """Reads error replies for one lane. ``wall`` is Unix time."""

    def __init__(self, target: S3Target, signer: Signer, wall: Callable[[], float] = time.time) -> None:
        self._target = target
        self._signer = signer
        self._wall = wall
        self._refreshed = -REFRESH_EVERY
        self._contexts: dict[tuple[bool, str], ssl.SSLContext] = {}
        self.moves = 0

    def endpoint(self) -> Endpoint:
        """Where to connect for the target as it is now."""
        target = self._target
        tls = None
        if target.tls:
            key = (target.verify, target.ca_file)
            tls = self._contexts.get(key)
            if tls is None:
                tls = self._contexts[key] = client_context(verify=target.verify, ca_file=target.ca_file)
        return Endpoint(target.host, target.port, tls, target.host)

    def read(self, status: int, head: bytes, body: Buffer, subject: str) -> StoreError | Again:
        """The error of a reply, or the order to try again with what it taught."""
        error = s3_error(status, head, bytes(body[:65536]), subject)
        code = error.code
        if code in SKEWED or (status == 403 and self._skew(head) > SKEW_MAX):
            if self._learn_clock(head):
                return Again(error)
        elif code in EXPIRED or (code == "InvalidToken"):
            if self._fresh_keys():
                return Again(error)
        elif (code in MOVED or status in {301, 302, 307, 308, 400}) and (moved := self._moved(head, body)):
            return Again(error, move=moved)
        return error

    def _skew(self, head: bytes) -> float:
        said = date_of(head)
        return abs(said - self._wall() - self._target.clock_offset) if said is not None else 0.0

    def _learn_clock(self, head: bytes) -> bool:
        said = date_of(head)
        if said is None or self._skew(head) < 2.0:
            return False
        self._target.clock_offset = said - self._wall()
        self._signer.forget()
        return True

    def _fresh_keys(self) -> bool:
        """Ask for fresh keys, once in a while; False when there are no others."""
        now = self._wall()
        if now - self._refreshed < REFRESH_EVERY:
            return True
        self._refreshed = now
        before = self._target.credentials(False)
        after = self._target.credentials(True)
        self._signer.forget()
        return after != before

    def _moved(self, head: bytes, body: Buffer) -> Endpoint | None:
        """Take over the region (and host) that a redirect names; None when it names nothing new."""
        target = self._target
        region = told_region(head, bytes(body[:65536]))
        host = location_host(head)
        old = (target.region, target.host)
        if region and region != target.region and self.moves < 4:
            self.moves += 1
            target.endpoint_host = _in_region(target.endpoint_host, target.region, region)
            target.region = region
            target.use(target.style)
        elif host and host != target.host and self.moves < 4 and _kin(host, target.host):
            self.moves += 1
            bucket = f"{target.bucket}."
            target.endpoint_host = host[len(bucket) :] if host.startswith(bucket) else host
            target.use("virtual" if host.startswith(bucket) else target.style)
        if (target.region, target.host) == old:
            return None
        self._signer.forget()
        return self.endpoint()


def _in_region(host: str, old: str, new: str) -> str:
    """The endpoint of the same provider in another region, where hosts name regions."""
    if host in {"s3.amazonaws.com", "s3-external-1.amazonaws.com"}:
        return f"s3.{new}.amazonaws.com"
    labels = host.split(".")
    return ".".join(new if label == old else label for label in labels)


def _kin(host: str, ours: str) -> bool:
    """True if both belong to one provider: a redirect may not lead into somebody else's network."""
    labels = ours.split(".")
    return len(labels) > 2 and not labels[-1].isdigit() and host.endswith("." + ".".join(labels[-2:]))
