"""Reading one object: whole into memory, or as a stream into a sink that survives cuts.

A stream that was cut goes on from the byte reached, pinned by If-Match on the etag of the first reply; without an
etag it begins again from its first byte.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from entrepot.model.errors import ChangedError, CorruptError, StoreError, UnexpectedReplyError
from entrepot.storage.base import Buffer, Get
from entrepot.storage.wire.dialect import Again, Intake, Note, Turn

from . import crc
from .replies import crc32c_of, etag_of, may_be_md5, range_of
from .signing import quote_path

if TYPE_CHECKING:
    from .dialect import S3Dialect

SKIP_MAX = 64 << 20
"""When a store ignores Range: so many bytes before the wanted ones are read and dropped."""
_ASK_CRC = ("x-amz-checksum-mode",)
_ENABLED = ("ENABLED",)


class Reads:
    """Registers its turn with ``dialect``."""

    def __init__(self, dialect: S3Dialect) -> None:
        self._dialect = dialect
        self._sign = dialect.signer.sign
        self._profile = dialect.target.profile
        self._notes = dialect.notes
        self._prover = dialect.prover
        dialect.turns[Get] = Turn("get", self.get, self.got, self.intake)

    def get(self, op: Get) -> bytes:
        """The request for ``op``, or for what is still missing of it."""
        path = self._dialect.path + quote_path(op.key)
        offset, length, if_match = op.offset, op.length, op.if_match
        if length == 0:
            offset, length = 0, 1
        note = self._notes.get(op) if self._notes else None
        if note is not None and note.reached >= 0:
            offset, length, if_match = self._resume(op, note)
        whole = not offset and length < 0
        if op.verify and whole and self._prover.asks_crc:
            head = self._sign("GET", path, "", _ASK_CRC, _ENABLED)
        else:
            head = self._sign("GET", path)
        if not whole:
            last = "" if length < 0 else offset + length - 1
            head = f"{head}Range: bytes={offset}-{last}\r\n"
        if if_match:
            head = f'{head}If-Match: "{if_match.decode("latin-1")}"\r\n'
        return f"{head}Accept-Encoding: identity\r\n\r\n".encode()

    def _resume(self, op: Get, note: Note) -> tuple[int, int, bytes]:
        """(offset, length, if_match) of what is missing; from the start when the version cannot be pinned."""
        if not note.etag or note.reached <= op.offset:
            note.reached = -1
            note.digest = None
            note.etag = b""
            return op.offset, op.length, op.if_match
        length = op.length if op.length < 0 else op.offset + op.length - note.reached
        return note.reached, length, note.etag

    def intake(self, op: Get, status: int, head: bytes, length: int | None) -> Intake | None:
        """Where the body goes. Only for replies that do not come in one piece, and all that have a sink."""
        note = self._notes.get(op)
        start = max(op.offset, note.reached) if note is not None else op.offset
        ranged = bool(start) or op.length >= 0
        total = length
        first, skip = start, 0
        # Some servers send a range, and say which, under the status of a whole object.
        span = range_of(head) if status == 206 or ranged else None
        if status == 206 or span is not None:
            first, total = self._check_span(op, span, start, length)
        elif ranged:
            skip = start
            if start > SKIP_MAX or (op.sink is None and length is not None and length > SKIP_MAX):
                raise self._ignores_range(op)
        if op.sink is None:
            return None
        note = self._dialect.note(op)
        etag = etag_of(head)
        if note.etag and etag != note.etag:
            raise self._changed(op)
        note.etag = etag
        wanted = -1 if op.length < 0 else op.offset + op.length - start
        if total is not None:
            there = total - start
            if wanted < 0:
                wanted = there
            elif there < wanted:
                raise self._shorter(op, there + start - op.offset)
        whole = not op.offset and (op.length < 0 or op.length == total)
        if op.verify and whole and note.digest is None and start == 0:
            note.digest = self._digest(head, etag, total)
        exact = wanted >= 0
        return Intake(op.sink, first, wanted if exact else 1 << 62, skip, note.digest, exact)

    def _check_span(
        self, op: Get, span: tuple[int, int, int] | None, start: int, length: int | None
    ) -> tuple[int, int | None]:
        """(offset of the first byte, size of the object if told) of a 206 reply. CorruptError: wrong range."""
        name = self._dialect.subject(op)
        if span is None:
            raise CorruptError(f"{name}: a partial reply without a readable Content-Range", subject=name)
        first, last, total = span
        stop = (total - 1 if total >= 0 else last) if op.length < 0 else op.offset + op.length - 1
        if total >= 0:
            stop = min(stop, total - 1)
        if op.length == 0:
            stop = last
        if first != start or last != stop or (length is not None and length != last - first + 1):
            raise CorruptError(
                f"{name}: bytes {start}-{stop} were asked, the store sent bytes {first}-{last}", subject=name
            )
        return first, total if total >= 0 else (last + 1 if op.length < 0 else None)

    def _digest(self, head: bytes, etag: bytes, total: int | None) -> Any:
        """What should eat a whole streamed object, or None."""
        said = crc32c_of(head)
        if said is not None:
            return crc.Crc32c(expected=said)
        if total is None or total > self._dialect.options.md5_max or self._profile.etag_is_md5 is False:
            return None
        return hashlib.md5() if may_be_md5(etag, head) else None

    def got(self, op: Get, status: int, head: bytes, body: Buffer) -> None:
        """Take the body (or the end of a streamed one) and prove it."""
        if status == 416 and op.length == 0:
            status, body = 206, b""
        elif status not in {200, 206}:
            raise self._refused_get(op, status, head, body)
        op.headers = head
        if op.sink is not None:
            self._streamed(op)
            return
        if not op.length:
            op.body = b""
            return
        whole = not op.offset and op.length < 0
        span = None if whole and status != 206 else range_of(head)
        if status == 206 or span is not None:
            self._check_span(op, span, op.offset, len(body))
            if op.length >= 0 and len(body) != op.length:
                raise self._shorter(op, len(body))
        elif not whole:
            stop = len(body) if op.length < 0 else op.offset + op.length
            if len(body) < stop:
                raise self._shorter(op, max(0, len(body) - op.offset))
            body = memoryview(body)[op.offset : stop]
        op.body = body
        if op.verify:
            if whole:
                self._prover.read(op, head, etag_of(head), body)
            else:
                op.proof = "size"

    def _streamed(self, op: Get) -> None:
        note = self._dialect.note(op)
        if not op.verify:
            return
        digest = note.digest
        op.proof = "size"
        if digest is None:
            return
        note.digest = None
        note.reached = -1
        if isinstance(digest, crc.Crc32c):
            self._prover.compare_crc(op, digest.expected, digest.value)
        else:
            self._prover.compare_md5(op, note.etag, digest.hexdigest().encode())

    def _refused_get(self, op: Get, status: int, head: bytes, body: Buffer) -> StoreError | Again:
        note = self._notes.get(op)
        if status in {412, 416} and note is not None and note.reached >= 0:
            return self._changed(op)
        return self._dialect.refused(op, status, head, body, "get")

    def _changed(self, op: Get) -> ChangedError:
        name = self._dialect.subject(op)
        return ChangedError(f"{name}: the object was replaced while it was read", subject=name, hint="run again")

    def _shorter(self, op: Get, size: int) -> ChangedError:
        name = self._dialect.subject(op)
        return ChangedError(
            f"{name}: {op.length} bytes from {op.offset} were asked, only {size} are there",
            subject=name,
            hint="the object has become shorter since it was listed: run again",
        )

    def _ignores_range(self, op: Get) -> UnexpectedReplyError:
        name = self._dialect.subject(op)
        return UnexpectedReplyError(
            f"{name}: the store ignores Range",
            subject=name,
            hint="a proxy may strip it: use the store itself",
        )
