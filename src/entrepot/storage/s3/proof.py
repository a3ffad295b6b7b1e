"""Evidence that what a store holds (or gave) is what was sent (or kept), and what is learned about etags on the way.

In order of strength and price: a CRC-32C that the store repeats, the etag of the source when the copy has the same, the
MD5 of the bytes against the etag, the size. An etag is believed to be an MD5 only after it has been seen to
be one; one that is not is found out by trying twice, and costs nothing afterwards.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from entrepot.model.errors import CorruptError
from entrepot.storage.base import Buffer, FileRegion, Op
from entrepot.storage.wire.dialect import Dialect, Hold

from . import crc
from .replies import crc32c_of, may_be_md5
from .target import Profile


class Prover:
    """The evidence of one lane; what it learns goes into the profile."""

    def __init__(self, dialect: Dialect, profile: Profile) -> None:
        self._dialect = dialect
        self._profile = profile
        self.large_md5: bool | None = None
        """The etags of parts and large objects are MD5; None until one was tried."""

        self._trial: Op | None = None
        self.repeats: bool | None = None
        """The store repeats the checksum of an upload; one that does not has not looked at it."""

    @property
    def asks_crc(self) -> bool:
        """True while reads ask for the checksum that the store keeps."""
        return self._profile.checksum != ""

    @property
    def sends_crc(self) -> bool:
        """True while uploads carry a CRC-32C (every store that knows CRC-64/NVME knows it too)."""
        profile = self._profile
        return profile.checksum != "" and (self.repeats is not False or profile.checksum_checked is True)

    @property
    def wants_md5(self) -> bool:
        """True while the MD5 of large bodies may be the only evidence."""
        if self.large_md5 is False:
            return False
        return not (self.sends_crc and (self.repeats or self._profile.checksum_checked))

    @property
    def trying(self) -> bool:
        """True while one large body is on its way to show whether etags of large bodies are MD5."""
        return self.large_md5 is None and self._trial is not None and self._trial in self._dialect.notes

    def md5_for(self, op: Any, *, alone: bool = False) -> Any:
        """A digest for a large body that leaves a file, or None. Raises Hold while another body is on trial.

        ``alone``: this body goes without a checksum.
        """
        if self.large_md5 is False or not (alone or self.wants_md5):
            return None
        if self.large_md5 is None:
            if self.trying and self._trial is not op:
                raise Hold
            self._trial = op
        digest = self._dialect.note(op).md5 = hashlib.md5() if isinstance(op.body, FileRegion) else None
        return digest

    def stored(self, op: Any, head: bytes, etag: bytes, sent_crc: int | None) -> None:
        """Prove a small Put whose body is in memory. Sets ``op.proof`` or raises CorruptError.

        It stays empty when only reading the object back can tell damage from an etag that is no MD5.
        """
        if sent_crc is not None and self._repeated(op, head, sent_crc):
            return
        if op.source_etag and len(etag) == 32 and op.source_etag.lower() == etag.lower():
            op.proof = "etag"
            return
        known = self._profile.etag_is_md5
        if known is False or not may_be_md5(etag, head):
            op.proof = "size"
            return
        if hashlib.md5(op.body).hexdigest().encode() == etag.lower():
            if known is None:
                self._profile.etag_is_md5 = True
            op.proof = "md5"
            return
        if known is None and self._second_time(op):
            return
        raise self._corrupt(op, "the store's etag is not the MD5 of the bytes sent")

    def read_back(self, op: Any, body: Buffer) -> None:
        """Judge a Put whose etag was twice not the MD5 of its bytes by what the store now holds."""
        if body != op.body:
            raise self._corrupt(op, "other bytes come back than were sent")
        self._profile.etag_is_md5 = False
        op.proof = "reread"

    def stored_large(
        self, op: Any, head: bytes, etag: bytes, sent_crc: int | None, md5_of: Callable[[Any], bytes | None]
    ) -> None:
        """Prove a part or a large Put. ``md5_of(op)`` is its MD5 in hex, or None when nobody computed it."""
        if sent_crc is not None and self._repeated(op, head, sent_crc):
            return
        if not may_be_md5(etag, head):
            if self.large_md5 is None and len(etag) != 32:
                self.large_md5 = False
            op.proof = "size"
            return
        md5 = md5_of(op) if self.large_md5 is not False else None
        if md5 is None:
            op.proof = "size"
        elif md5 == etag.lower():
            self.large_md5 = True
            op.proof = "md5"
        elif self.large_md5 is False:
            op.proof = "size"
        elif self.large_md5 is None and self._second_time(op):
            self.large_md5 = False
            op.proof = "size"
        else:
            raise self._corrupt(op, "the store's etag is not the MD5 of the bytes sent")

    def read(self, op: Any, head: bytes, etag: bytes, body: Buffer) -> None:
        """Prove a whole object that was read into memory."""
        said = crc32c_of(head)
        if said is not None:
            self.compare_crc(op, said, crc.of_bytes(body))
        elif self._profile.etag_is_md5 is False or not may_be_md5(etag, head):
            op.proof = "size"
        else:
            self.compare_md5(op, etag, hashlib.md5(body).hexdigest().encode())

    def compare_crc(self, op: Op, said: int, found: int) -> None:
        """The checksum that a reply carries against that of the bytes."""
        if said != found:
            raise self._corrupt(op, "the bytes do not have the checksum (CRC-32C) that the store keeps")
        op.proof = "crc32c"

    def compare_md5(self, op: Op, etag: bytes, found: bytes) -> None:
        """MD5 of the bytes read against the etag. An etag of unknown kind that is none is read once more."""
        if found == etag.lower():
            if self._profile.etag_is_md5 is None:
                self._profile.etag_is_md5 = True
            op.proof = "md5"
            return
        note = self._dialect.note(op)
        if self._profile.etag_is_md5 is None and note.data == found:
            self._profile.etag_is_md5 = False
            op.proof = "reread"
            return
        note.data = found
        raise self._corrupt(op, "the bytes do not have the MD5 that the etag names")

    def _repeated(self, op: Op, head: bytes, sent: int) -> bool:
        """Did the store repeat (or is it known to check) the checksum that was sent?"""
        said = crc32c_of(head)
        if said is None:
            if self._profile.checksum_checked:
                op.proof = "crc32c"
                return True
            self.repeats = False
            return False
        self.repeats = True
        if said != sent:
            raise self._corrupt(op, "the store computed another checksum (CRC-32C) than that of the bytes sent")
        op.proof = "crc32c"
        return True

    def _second_time(self, op: Op) -> bool:
        """True when this operation was already suspected once: bytes are not damaged twice in a row."""
        return self._dialect.note(op).damaged > 0

    def _corrupt(self, op: Op, text: str) -> CorruptError:
        """Damage: worth another try, but not many (two tell damage on the way from damage in the store)."""
        note = self._dialect.note(op)
        note.damaged += 1
        name = self._dialect.subject(op)
        return CorruptError(
            f"{name}: {text}",
            subject=name,
            hint="bytes are damaged on the way or in the store: check the network, proxies and the object",
            retryable=note.damaged < (2 if self._profile.etag_is_md5 else 3),
        )
