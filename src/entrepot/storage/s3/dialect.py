"""The S3 dialect: joins signing, exchanges, evidence and lessons for one location."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable

from entrepot.model.entry import Info
from entrepot.model.errors import ChangedError, StoreError
from entrepot.storage.base import Buffer, FileRegion, Op
from entrepot.storage.wire.dialect import Again, Dialect

from .bulk import Bulk
from .learning import REFUSALS, Teacher
from .objects import Objects
from .proof import Prover
from .replies import info_of
from .signing import Signer, quote_path
from .target import S3Target
from .uploads import Uploads


class S3Dialect(Dialect):
    """Speaks S3 to ``target`` for keys below ``prefix``. ``wall`` is Unix time."""

    def __init__(self, target: S3Target, prefix: bytes, wall: Callable[[], float] = time.time) -> None:
        self.target = target
        self.prefix = prefix
        self.signer = Signer(target, wall, lambda: self.clock())
        self.teacher = Teacher(target, self.signer, wall)
        super().__init__(self.teacher.endpoint())
        self.prover = Prover(self, target.profile)
        self.path = ""
        self.bucket_path = ""
        self.place()
        self.objects = Objects(self)
        self.uploads = Uploads(self, self.objects)
        self.bulk = Bulk(self)

    def place(self) -> None:
        """Take over the target's addressing style."""
        root = self.target.path_prefix
        self.path = root.decode("latin-1") + quote_path(self.prefix)
        self.bucket_path = root.decode("latin-1").rstrip("/") or "/"

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

    def refused(
        self, op: Op, status: int, head: bytes, body: Buffer, *, checksum: bool = False
    ) -> StoreError | Again:
        """What an error reply means. ``checksum``: the request carried headers that the store may not know."""
        found = self.teacher.read(status, head, body, self.subject(op))
        if isinstance(found, Again):
            self.place()
            return found
        if checksum and status in {400, 501} and found.code in REFUSALS and self.target.profile.checksum:
            if not self.target.profile.checksum_checked:
                self.target.profile.checksum = ""
                return Again(found)
        return found

    def info(self, op: Op) -> Info:
        """Read ``op.headers`` of a finished Get or Head."""
        return info_of(op.key, op.headers)

    def subject(self, op: Op) -> str:
        """``bucket/key``."""
        return f"{self.target.bucket}/{os.fsdecode(self.prefix + op.key)}"


def _hash(body: Buffer | FileRegion, name: str) -> str:
    digest = hashlib.new(name)
    if not isinstance(body, FileRegion):
        digest.update(body)
        return digest.hexdigest()
    offset, left = body.offset, body.length
    view = memoryview(bytearray(min(256 << 10, max(1, left))))
    while left:
        count = os.preadv(body.fd, [view[: min(len(view), left)]], offset)
        if not count:
            raise ChangedError("the source file became shorter while it was read")
        digest.update(view[:count])
        offset += count
        left -= count
    return digest.hexdigest()
