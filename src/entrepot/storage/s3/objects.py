"""Single-object exchanges: Get, Put, Head and Copy."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from entrepot.model.errors import (
    ChangedError,
    CorruptError,
    FormatError,
    StoreError,
    StoreTimeoutError,
    UnexpectedReplyError,
)
from entrepot.storage.base import Buffer, Copy, FileRegion, Get, Head, Meta, Put
from entrepot.storage.wire.dialect import Again, Intake, Note, Outgoing, Turn

from . import crc
from .replies import (
    crc32c_of,
    encode_word,
    etag_of,
    from_mtime_ns,
    info_of,
    is_error_document,
    may_be_md5,
    range_of,
    xml_etag,
)
from .signing import quote_path

if TYPE_CHECKING:
    from .dialect import S3Dialect

JOIN = 32 << 10
"""Bodies up to this size are joined to their head."""
SKIP_MAX = 64 << 20
"""When a store ignores Range: so many bytes before the wanted ones are read and dropped."""
_NO_NAMES: tuple[str, ...] = ()
_ASK_CRC = ("x-amz-checksum-mode",)
_ENABLED = ("ENABLED",)


class Objects:
    """Registers its turns with ``dialect``."""

    def __init__(self, dialect: S3Dialect) -> None:
        self._dialect = dialect
        self._sign = dialect.signer.sign
        self._profile = dialect.target.profile
        self._notes = dialect.notes
        self._prover = dialect.prover
        self._source: Any = None
        self._source_path = ""
        dialect.turns[Get] = Turn("get", self.get, self.got, self.intake)
        dialect.turns[Put] = Turn("put", self.put, self.stored)
        dialect.turns[Head] = Turn("head", self.head, self.headed, bodyless=True)
        dialect.turns[Copy] = Turn("copy", self.copy, self.copied)
        self._look_first = Turn("head", self.head, self.looked, bodyless=True)
        self._settle_put = Turn("head", self.head, self.settled, bodyless=True)

    # --- Get ----------------------------------------------------------------------------------------------

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
        if op.verify and whole and self._prover.sends_crc:
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
        if status == 206:
            span = range_of(head)
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
        if crc32c_of(head) is not None:
            return crc.Crc32c()
        if total is None or total > self._dialect.options.md5_max or self._profile.etag_is_md5 is False:
            return None
        return hashlib.md5() if may_be_md5(etag, head) else None

    def got(self, op: Get, status: int, head: bytes, body: Buffer) -> None:
        """Take the body (or the end of a streamed one) and prove it."""
        if status not in {200, 206}:
            raise self._refused_get(op, status, head, body)
        op.headers = head
        if op.sink is not None:
            self._streamed(op, head)
            return
        whole = not op.offset and op.length < 0
        if status == 206:
            first, _ = self._check_span(op, range_of(head), op.offset, len(body))
            if op.length >= 0 and len(body) != op.length and op.length:
                raise self._shorter(op, len(body))
        elif not whole:
            stop = len(body) if op.length < 0 else op.offset + op.length
            if len(body) < stop:
                raise self._shorter(op, max(0, len(body) - op.offset))
            body = memoryview(body)[op.offset : stop]
        op.body = body if op.length else b""
        if op.verify:
            if whole:
                self._prover.read(op, head, etag_of(head), body)
            else:
                op.proof = "size"

    def _streamed(self, op: Get, head: bytes) -> None:
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
            said = crc32c_of(head)
            if said is not None:
                self._prover.compare_crc(op, said, digest.value)
        else:
            self._prover.compare_md5(op, note.etag, digest.hexdigest().encode())

    def _refused_get(self, op: Get, status: int, head: bytes, body: Buffer) -> StoreError | Again:
        note = self._notes.get(op)
        if status == 416 and op.length == 0:
            op.body = b""
        if status in {412, 416} and note is not None and note.reached >= 0:
            return self._changed(op)
        return self._dialect.refused(op, status, head, body)

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
            f"{name}: the store ignores Range", subject=name, hint="a proxy may strip it: use the store itself"
        )

    # --- Put ----------------------------------------------------------------------------------------------

    def put(self, op: Put) -> bytes | Outgoing:
        """The request for ``op``."""
        body = op.body
        dialect = self._dialect
        if op.if_absent and not self._profile.put_conditional and dialect.note(op).data != "absent":
            raise Again(StoreTimeoutError(dialect.subject(op)), turn=self._look_first)
        names, values = _NO_NAMES, _NO_NAMES
        if op.meta is not None:
            names, values = self.meta_headers(op.meta, dialect.subject(op))
        region = body.__class__ is FileRegion
        size = body.length if region else len(body)  # type: ignore[union-attr]
        digest = None
        if op.verify and self._prover.sends_crc:
            value = self.crc_for(op, body)
            names, values = (*names, "x-amz-checksum-crc32c"), (*values, crc.to_text(value))
        elif region and op.verify and self._prover.large_md5 is not False:
            digest = dialect.note(op).digest = hashlib.md5()
        if names:
            names, values = in_order(names, values)
        payload = dialect.payload_hash(body) if dialect.signs_payload else ""
        head = self._sign("PUT", dialect.path + quote_path(op.key), "", names, values, payload)
        if op.if_absent and self._profile.put_conditional:
            head += "If-None-Match: *\r\n"
        data = f"{head}Content-Length: {size}\r\n\r\n".encode()
        if region:
            return Outgoing(data, body, digest)  # type: ignore[arg-type]
        if size <= JOIN:
            return data + body  # type: ignore[operator]
        return Outgoing(data, memoryview(body))  # type: ignore[arg-type]

    def crc_for(self, op: Any, body: Buffer | FileRegion) -> int:
        """The CRC-32C of a body; of large ones it is noted, so that the reply need not compute it again."""
        if isinstance(body, FileRegion):
            value = crc.of_region(body, self._dialect.subject(op))
        else:
            value = crc.of_bytes(body)
            if len(body) <= JOIN:
                return value
        self._dialect.note(op).digest = value
        return value

    def sent_crc(self, op: Any) -> int | None:
        """The CRC-32C that was sent with ``op``; None if none was."""
        if not (op.verify and self._prover.sends_crc):
            return None
        note = self._notes.get(op)
        if note is not None and note.digest.__class__ is int:
            return int(note.digest)
        return None if isinstance(op.body, FileRegion) else crc.of_bytes(op.body)

    def stored(self, op: Put, status: int, head: bytes, body: Buffer) -> None:
        """Take the etag and prove the object."""
        if status >= 300:
            raise self._refused_put(op, status, head, body)
        op.headers = head
        op.etag = etag = etag_of(head)
        if not op.verify:
            return
        sent = self.sent_crc(op)
        if op.body.__class__ is FileRegion or len(op.body) > self._dialect.options.md5_max:  # type: ignore[arg-type]
            self._prover.stored_large(op, head, etag, sent, self.md5_of(op))
        else:
            self._prover.stored(op, head, etag, sent)

    def md5_of(self, op: Any) -> bytes | None:
        """The MD5 (hex) of what was sent with ``op``, where it is worth having."""
        if self._prover.large_md5 is False:
            return None
        if not isinstance(op.body, FileRegion):
            return hashlib.md5(op.body).hexdigest().encode()
        note = self._notes.get(op)
        digest = note.digest if note is not None else None
        return digest.hexdigest().encode() if hasattr(digest, "hexdigest") else None

    def _refused_put(self, op: Put, status: int, head: bytes, body: Buffer) -> StoreError | Again:
        error = self._dialect.refused(op, status, head, body, checksum=op.verify and self._prover.sends_crc)
        note = self._notes.get(op)
        if status == 412 and op.if_absent and note is not None and note.lost and isinstance(error, StoreError):
            note.data = error
            return Again(error, turn=self._settle_put)
        return error

    def settled(self, op: Put, status: int, head: bytes, body: Buffer) -> None:
        """A conditional Put whose first answer was lost found an object: is it the one we sent?"""
        note = self._dialect.note(op)
        refusal: StoreError = note.data
        if status != 200:
            if status == 404:
                raise Again(refusal)
            raise self._dialect.refused(op, status, head, body)
        info = info_of(op.key, head)
        source = op.body
        size = source.length if isinstance(source, FileRegion) else len(source)
        if info.size != size:
            raise refusal
        if info.crc32c is not None:
            same = info.crc32c == self.crc_for(op, source)
        elif may_be_md5(info.etag, head):
            same = info.etag == self._dialect.md5_hex(source)
        else:
            same = False
        if not same:
            raise refusal
        op.etag = info.etag
        op.proof = "crc32c" if info.crc32c is not None else "md5"

    def looked(self, op: Put, status: int, head: bytes, body: Buffer) -> None:
        """If-None-Match is not honoured here: look first."""
        if status == 404:
            self._dialect.note(op).data = "absent"
            raise Again(StoreTimeoutError(self._dialect.subject(op)))
        if status != 200:
            raise self._dialect.refused(op, status, head, body)
        name = self._dialect.subject(op)
        raise ChangedError(f"{name}: the object exists already", subject=name)

    # --- Head and Copy ------------------------------------------------------------------------------------

    def head(self, op: Any) -> bytes:
        """The request of a HEAD."""
        path = self._dialect.path + quote_path(op.key)
        if self._prover.sends_crc:
            return f"{self._sign('HEAD', path, '', _ASK_CRC, _ENABLED)}\r\n".encode()
        return f"{self._sign('HEAD', path)}\r\n".encode()

    def headed(self, op: Head, status: int, head: bytes, body: Buffer) -> None:
        """Fill ``info``."""
        if status != 200:
            raise self._dialect.refused(op, status, head, body)
        op.headers = head
        op.info = info_of(op.key, head)

    def source_of(self, op: Any) -> str:
        """The value of x-amz-copy-source."""
        source = op.source
        if source is not self._source:
            self._source = source
            bucket = quote_path(source.target.bucket.encode())
            self._source_path = f"/{bucket}/{quote_path(source.location.prefix)}"
        return self._source_path + quote_path(op.source_key)

    def copy(self, op: Copy) -> bytes:
        """The request of a server-side copy."""
        path = self._dialect.path + quote_path(op.key)
        names: tuple[str, ...] = ("x-amz-copy-source",)
        values: tuple[str, ...] = (self.source_of(op),)
        if op.if_match or op.meta is not None:
            if op.if_match:
                names = (*names, "x-amz-copy-source-if-match")
                values = (*values, f'"{op.if_match.decode("latin-1")}"')
            if op.meta is not None:
                more = self.meta_headers(op.meta, self._dialect.subject(op))
                names = (*names, "x-amz-metadata-directive", *more[0])
                values = (*values, "REPLACE", *more[1])
            names, values = in_order(names, values)
        return f"{self._sign('PUT', path, '', names, values)}Content-Length: 0\r\n\r\n".encode()

    def copied(self, op: Copy, status: int, head: bytes, body: Buffer) -> None:
        """Take the etag; an error may come in a reply that began with 200."""
        if status >= 300 or is_error_document(body):
            raise self._dialect.refused(op, status, head, body)
        op.headers = head
        op.etag = xml_etag(body)
        if not op.etag and b"CopyObjectResult" not in bytes(body):
            name = self._dialect.subject(op)
            raise UnexpectedReplyError(f"{name}: the copy ended without a result", subject=name, retryable=True)
        op.proof = "etag" if op.if_match and op.if_match == op.etag else "size"

    # --- metadata -----------------------------------------------------------------------------------------

    def meta_headers(self, meta: Meta, subject: str) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """(names, values) of the headers that store ``meta``. FormatError for what a header cannot hold."""
        found = {name.lower(): value for name, value in meta.headers.items()}
        if meta.content_type:
            found["content-type"] = meta.content_type
        if meta.storage_class:
            found["x-amz-storage-class"] = meta.storage_class
        for name, value in found.items():
            if not value.isprintable():
                raise FormatError(f"{subject}: {name} holds a control character", subject=subject)
        for name, value in meta.metadata.items():
            if not name.replace("-", "").replace("_", "").replace(".", "").isalnum() or not name.isascii():
                raise FormatError(
                    f"{subject}: {name!r} cannot be the name of a metadata entry", subject=subject
                )
            found[f"x-amz-meta-{name.lower()}"] = encode_word(value)
        if meta.mtime_ns is not None:
            found["x-amz-meta-mtime"] = from_mtime_ns(meta.mtime_ns)
        return tuple(found), tuple(found.values())


def in_order(names: tuple[str, ...], values: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if len(names) < 2:
        return names, values
    pairs = sorted(zip(names, values, strict=True))
    return tuple(name for name, _ in pairs), tuple(value for _, value in pairs)
