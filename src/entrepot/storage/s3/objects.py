"""Exchanges that write or look at one object: Put, Copy and Head."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from entrepot.model.errors import (
    ChangedError,
    FormatError,
    StoreError,
    StoreTimeoutError,
    UnexpectedReplyError,
)
from entrepot.storage.base import Buffer, Copy, FileRegion, Head, Meta, Put
from entrepot.storage.wire.dialect import Again, Digest, Outgoing, Turn

from . import crc
from .replies import (
    encode_word,
    etag_of,
    from_mtime_ns,
    info_of,
    is_error_document,
    may_be_md5,
    xml_etag,
)
from .signing import quote_path

if TYPE_CHECKING:
    from .dialect import S3Dialect

JOIN = 32 << 10
"""Bodies up to this size are joined to their head."""
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
        dialect.turns[Put] = Turn("put", self.put, self.stored)
        dialect.turns[Head] = Turn("head", self.head, self.headed, bodyless=True)
        dialect.turns[Copy] = Turn("copy", self.copy, self.copied, patient=True)
        self._look_first = Turn("head", self.head, self.looked, bodyless=True)
        self._read_back = Turn("get", self.get, self.read_back)
        self._settle_put = Turn("head", self.head, self.settled, bodyless=True)

    # --- Put ----------------------------------------------------------------------------------------------

    def put(self, op: Put) -> bytes | Outgoing:
        """The request for ``op``."""
        body = op.body
        dialect = self._dialect
        if op.if_absent and not self._profile.put_conditional and dialect.note(op).data != "absent":
            raise Again(self._unsettled(op), turn=self._look_first)
        names, values = _NO_NAMES, _NO_NAMES
        if op.meta is not None:
            names, values = self.meta_headers(op.meta, dialect.subject(op))
        digest = None
        if op.verify:
            if isinstance(body, FileRegion) or len(body) > dialect.options.md5_max:
                digest = self._prover.md5_for(op)
            if self._prover.sends_crc:
                text = crc.to_text(self.crc_for(op, body))
                names, values = (*names, "x-amz-checksum-crc32c"), (*values, text)
        if names:
            names, values = in_order(names, values)
        payload = dialect.payload_hash(body) if dialect.signs_payload else ""
        head = self._sign("PUT", dialect.path + quote_path(op.key), "", names, values, payload)
        if op.if_absent and self._profile.put_conditional:
            head += "If-None-Match: *\r\n"
        return joined(head, body, digest)

    def crc_for(self, op: Any, body: Buffer | FileRegion) -> int:
        """The CRC-32C of a body; of large ones it is noted, so that the reply need not compute it again."""
        if isinstance(body, FileRegion):
            value = crc.of_region(body, self._dialect.subject(op))
        else:
            value = crc.of_bytes(body)
            if len(body) <= JOIN:
                return value
        self._dialect.note(op).crc = value
        return value

    def sent_crc(self, op: Any) -> int | None:
        """The CRC-32C that was sent with ``op``; None if none was."""
        if not (op.verify and self._prover.sends_crc):
            return None
        note = self._notes.get(op)
        if note is not None and note.crc is not None:
            return note.crc
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
        if isinstance(op.body, FileRegion) or len(op.body) > self._dialect.options.md5_max:
            self._prover.stored_large(op, head, etag, sent, self.md5_of)
        else:
            self._prover.stored(op, head, etag, sent)
            if not op.proof:
                raise Again(self._unsettled(op), turn=self._read_back)

    def get(self, op: Put) -> bytes:
        """Read a small object back."""
        return f"{self._sign('GET', self._dialect.path + quote_path(op.key))}\r\n".encode()

    def read_back(self, op: Put, status: int, head: bytes, body: Buffer) -> None:
        """The etag was no MD5 of the bytes, twice: compare the bytes themselves."""
        if status != 200:
            raise self._dialect.refused(op, status, head, body, "get")
        self._dialect.note(op).turn = None
        self._prover.read_back(op, body)

    def md5_of(self, op: Any) -> bytes | None:
        """The MD5 (hex) of what was sent with ``op``; None for a file that no digest saw."""
        if not isinstance(op.body, FileRegion):
            return hashlib.md5(op.body).hexdigest().encode()
        digest = self._dialect.note(op).md5
        return digest.hexdigest().encode() if digest is not None else None

    def _refused_put(self, op: Put, status: int, head: bytes, body: Buffer) -> StoreError | Again:
        error = self._dialect.refused(op, status, head, body, "put")
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
            raise self._dialect.refused(op, status, head, body, "head")
        info = info_of(op.key, head)
        source = op.body
        size = source.length if isinstance(source, FileRegion) else len(source)
        if info.size != size:
            raise refusal
        if info.crc32c is not None:
            same = info.crc32c == self.crc_for(op, source)
        elif may_be_md5(info.etag, head):
            same = info.etag.lower() == self._dialect.md5_hex(source)
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
            raise Again(self._unsettled(op))
        if status != 200:
            raise self._dialect.refused(op, status, head, body, "head")
        name = self._dialect.subject(op)
        raise ChangedError(f"{name}: the object exists already", subject=name)

    def _unsettled(self, op: Put) -> StoreError:
        name = self._dialect.subject(op)
        return StoreTimeoutError(f"{name}: the object comes and goes: it cannot be told who wrote it", subject=name)

    # --- Head and Copy ------------------------------------------------------------------------------------

    def head(self, op: Any) -> bytes:
        """The request of a HEAD."""
        path = self._dialect.path + quote_path(op.key)
        if self._prover.asks_crc:
            return f"{self._sign('HEAD', path, '', _ASK_CRC, _ENABLED)}\r\n".encode()
        return f"{self._sign('HEAD', path)}\r\n".encode()

    def headed(self, op: Head, status: int, head: bytes, body: Buffer) -> None:
        """Fill ``info``."""
        if status != 200:
            raise self._dialect.refused(op, status, head, body, "head")
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
            raise self._dialect.refused(op, status, head, body, "copy")
        op.headers = head
        op.etag = xml_etag(body)
        if not op.etag and b"CopyObjectResult" not in bytes(body):
            name = self._dialect.subject(op)
            raise UnexpectedReplyError(f"{name}: the copy ended without a result", subject=name, retryable=True)
        op.proof = "etag" if op.if_match and op.if_match == op.etag else ""

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
                raise FormatError(f"{subject}: {name!r} cannot be the name of a metadata entry", subject=subject)
            found[f"x-amz-meta-{name.lower()}"] = encode_word(value)
        if meta.mtime_ns is not None:
            found["x-amz-meta-mtime"] = from_mtime_ns(meta.mtime_ns)
        return tuple(found), tuple(found.values())


def joined(head: str, body: Buffer | FileRegion, digest: Digest | None) -> bytes | Outgoing:
    """Head and body as one request; small bodies in one piece."""
    if isinstance(body, FileRegion):
        return Outgoing(f"{head}Content-Length: {body.length}\r\n\r\n".encode(), body, digest)
    size = len(body)
    data = f"{head}Content-Length: {size}\r\n\r\n".encode()
    return data + body if size <= JOIN else Outgoing(data, memoryview(body))


def in_order(names: tuple[str, ...], values: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    if len(names) < 2:
        return names, values
    pairs = sorted(zip(names, values, strict=True))
    return tuple(name for name, _ in pairs), tuple(value for _, value in pairs)
