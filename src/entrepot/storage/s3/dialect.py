"""The S3 dialect: joins signing, exchanges, evidence and lessons for one location."""

from __future__ import annotations

import hashlib
import os
import ssl
import time
from collections.abc import Callable

from entrepot.model.entry import Info
from entrepot.model.errors import ChangedError, EntrepotError, ForbiddenError, NameNotPossibleError, StoreError
from entrepot.storage.base import Buffer, FileRegion, Op
from entrepot.storage.wire.dialect import Again, Dialect, Endpoint
from entrepot.storage.wire.tls import client_context

from .bulk import Bulk
from .errors import EXPIRED, MOVED, SKEWED, s3_error
from .learn import learn
from .objects import Objects
from .proof import Prover
from .reads import Reads
from .replies import info_of, stamp_of
from .signing import Signer, quote_path
from .target import S3Target
from .uploads import Uploads

TAUGHT_BY_OTHERS = EXPIRED | SKEWED | MOVED
"""Refusals that another request in flight, or another lane, may have learned from a moment ago."""
FORM = frozenset({400, 405, 411, 501})
"""Statuses that may mean: this form of request is not known here."""
PIECE = 256 << 10


class S3Dialect(Dialect):
    """Speaks S3 to ``target`` for keys below ``prefix``. ``wall`` is Unix time."""

    def __init__(self, target: S3Target, prefix: bytes, wall: Callable[[], float] = time.time) -> None:
        self.target = target
        self.prefix = prefix
        self.signer = Signer(target, wall, self._monotonic)
        self._context: ssl.SSLContext | None = None
        super().__init__(self._endpoint())
        self.prover = Prover(self, target.profile)
        self.clock_offset: float | None = None
        """The store's clock minus ours in seconds; None until a listing told it."""
        self._born = self._form()
        self.path = ""
        self.bucket_path = ""
        self._place()
        self.reads = Reads(self)
        self.objects = Objects(self)
        self.uploads = Uploads(self, self.objects)
        self.bulk = Bulk(self)

    @property
    def signs_payload(self) -> bool:
        """True when every body is hashed into the signature."""
        return self.target.profile.payload == "signed"

    def payload_hash(self, body: Buffer | FileRegion) -> str:
        """SHA-256 (hex) of a body."""
        return _hash(body, "sha256")

    def md5_hex(self, body: Buffer | FileRegion) -> bytes:
        """MD5 (hex) of a body."""
        return _hash(body, "md5").encode()

    def refused(self, op: Op, status: int, head: bytes, body: Buffer, verb: str) -> StoreError | Again:
        """What an error reply means: an error, or the order to try again with what it taught.

        ``verb`` is that of :func:`learn`. What others have just learned counts too: once.
        """
        document = bytes(body[:65536])
        error = s3_error(status, head, document, self.subject(op))
        if status == 404 and verb == "get" and self._slashed(op):
            return NameNotPossibleError(
                f"{error.subject}: this store does not give back keys that begin with a slash",
                subject=error.subject,
                hint="rename the object at the source",
            )
        if status < 300 or error.retryable:
            return error
        try:
            learned = learn(self.target, verb, status, head, document)
        except EntrepotError as fault:
            return ForbiddenError(f"{error.message}; {fault.message}", subject=error.subject, hint=fault.hint)
        if not learned and self.note(op).again == 0:
            learned = error.code in TAUGHT_BY_OTHERS or (status in FORM and self._form() != self._born)
        if learned:
            self.signer.forget()
            self._place()
            return Again(error, move=self._endpoint())
        return error

    @property
    def holding(self) -> bool:
        """While the first large body shows what the store's etags are worth, others wait."""
        return self.prover.trying

    def info(self, op: Op) -> Info:
        """Read ``op.headers`` of a finished Get or Head."""
        return info_of(op.key, op.headers)

    def stamp(self, op: Op) -> int:
        """See ``Lane.stamp``."""
        return stamp_of(op.headers)

    def subject(self, op: Op) -> str:
        """The object as messages name it: ``bucket/key``."""
        return f"{self.target.bucket}/{(self.prefix + op.key).decode('utf-8', 'backslashreplace')}"

    def _slashed(self, op: Op) -> bool:
        """True for a key that is listed here but cannot be read: it is not gone, and must not count as such."""
        return not self.target.profile.leading_slash and (self.prefix + op.key).startswith(b"/")

    def _form(self) -> tuple[object, ...]:
        """The parts of the profile that decide how requests look."""
        p = self.target.profile
        return (
            p.checksum, p.payload, p.list_v1, p.encoding_url, p.put_conditional, p.content_md5_required, p.batch_delete,
        )  # fmt: skip

    def _monotonic(self) -> float:
        return self.clock()

    def _place(self) -> None:
        """Take over the target's addressing style."""
        root = self.target.path_prefix.decode("latin-1")
        self.path = root + quote_path(self.prefix)
        self.bucket_path = root.rstrip("/") or "/"

    def _endpoint(self) -> Endpoint:
        """Where to connect for the target as it is now."""
        target = self.target
        if target.tls and self._context is None:
            self._context = client_context(verify=target.verify, ca_file=target.ca_file)
        return Endpoint(target.host, target.port, self._context if target.tls else None, target.host)


def _hash(body: Buffer | FileRegion, name: str) -> str:
    digest = hashlib.new(name)
    if not isinstance(body, FileRegion):
        digest.update(body)
        return digest.hexdigest()
    offset, left = body.offset, body.length
    view = memoryview(bytearray(min(PIECE, max(1, left))))
    while left:
        count = os.preadv(body.fd, [view[: min(PIECE, left)]], offset)
        if not count:
            raise ChangedError("the source file became shorter while it was read", hint="run again")
        digest.update(view[:count])
        offset += count
        left -= count
    return digest.hexdigest()
