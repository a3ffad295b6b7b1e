"""Multipart exchanges: create, parts (sent or copied), complete, abort."""

from __future__ import annotations

import hashlib
import html
from typing import TYPE_CHECKING, Any

from entrepot.model.errors import NotFoundError, StoreError, UnexpectedReplyError
from entrepot.storage.base import (
    AbortUpload,
    Buffer,
    CompleteUpload,
    CopyPart,
    CreateUpload,
    FileRegion,
    Part,
    PutPart,
)
from entrepot.storage.wire.dialect import Again, Outgoing, Turn

from . import crc
from .objects import Objects, in_order, joined
from .replies import etag_of, info_of, is_error_document, xml_crc32c, xml_etag, xml_upload_id
from .signing import quote_path, quote_query

if TYPE_CHECKING:
    from .dialect import S3Dialect

_CRC = ("x-amz-checksum-crc32c",)


class Uploads:
    """Registers its turns with ``dialect``."""

    def __init__(self, dialect: S3Dialect, objects: Objects) -> None:
        self._dialect = dialect
        self._objects = objects
        self._sign = dialect.signer.sign
        self._notes = dialect.notes
        self._prover = dialect.prover
        self._whole_crc = True
        """Uploads are created with a checksum over the whole object, until the store refuses."""
        self._with_crc: set[str] = set()
        self._without_crc: set[str] = set()
        turns = dialect.turns
        turns[CreateUpload] = Turn("multipart", self.create, self.created)
        turns[PutPart] = Turn("multipart", self.put_part, self.part_stored)
        turns[CopyPart] = Turn("multipart", self.copy_part, self.part_copied, patient=True)
        turns[CompleteUpload] = Turn("multipart", self.complete, self.completed, patient=True)
        turns[AbortUpload] = Turn("multipart", self.abort, self.aborted)
        self._decide = Turn("head", objects.head, self.decided, bodyless=True)

    def _path(self, op: Any) -> str:
        return self._dialect.path + quote_path(op.key)

    # --- create and abort ---------------------------------------------------------------------------------

    def create(self, op: CreateUpload) -> bytes:
        """POST ?uploads."""
        names: tuple[str, ...] = ()
        values: tuple[str, ...] = ()
        if op.meta is not None:
            names, values = self._objects.meta_headers(op.meta, self._dialect.subject(op))
        if self._prover.sends_crc and self._whole_crc:
            names = (*names, "x-amz-checksum-algorithm", "x-amz-checksum-type")
            values = (*values, "CRC32C", "FULL_OBJECT")
        names, values = in_order(names, values)
        head = self._sign("POST", self._path(op), "uploads=", names, values)
        return f"{head}Content-Length: 0\r\n\r\n".encode()

    def created(self, op: CreateUpload, status: int, head: bytes, body: Buffer) -> None:
        """Take the upload id."""
        if status >= 300:
            error = self._dialect.refused(op, status, head, body, "other")
            if status in {400, 501} and self._prover.sends_crc and self._whole_crc:
                self._whole_crc = False
                raise Again(error) if isinstance(error, StoreError) else error
            raise error
        op.headers = head
        op.upload_id = xml_upload_id(body)
        if not op.upload_id:
            name = self._dialect.subject(op)
            raise UnexpectedReplyError(f"{name}: no upload id in the reply", subject=name, retryable=True)
        if b"x-amz-checksum-algorithm: crc32c" in head.lower():
            self._with_crc.add(op.upload_id)
        elif not self._whole_crc:
            self._without_crc.add(op.upload_id)

    def abort(self, op: AbortUpload) -> bytes:
        """DELETE ?uploadId."""
        query = f"uploadId={quote_query(op.upload_id.encode())}"
        return f"{self._sign('DELETE', self._path(op), query)}\r\n".encode()

    def aborted(self, op: AbortUpload, status: int, head: bytes, body: Buffer) -> None:
        """Gone is gone."""
        if status >= 300 and status != 404:
            raise self._dialect.refused(op, status, head, body, "other")
        self._with_crc.discard(op.upload_id)
        self._without_crc.discard(op.upload_id)

    # --- parts --------------------------------------------------------------------------------------------

    def put_part(self, op: PutPart) -> bytes | Outgoing:
        """PUT ?partNumber&uploadId."""
        dialect, body = self._dialect, op.body
        alone = op.upload_id in self._without_crc
        digest = self._prover.md5_for(op, alone=alone) if op.verify else None
        note = dialect.note(op)
        note.crc, note.md5 = None, digest
        names: tuple[str, ...] = ()
        values: tuple[str, ...] = ()
        if op.verify and self._prover.sends_crc and not alone:
            note.crc = value = self._objects.crc_for(op, body)
            names, values = _CRC, (crc.to_text(value),)
        payload = dialect.payload_hash(body) if dialect.signs_payload else ""
        query = f"partNumber={op.number}&uploadId={quote_query(op.upload_id.encode())}"
        return joined(self._sign("PUT", self._path(op), query, names, values, payload), body, digest)

    def part_stored(self, op: PutPart, status: int, head: bytes, body: Buffer) -> None:
        """Take the part's etag and prove its bytes."""
        sent: int | None = self._dialect.note(op).crc
        if status >= 300:
            raise self._refused_part(op, status, head, body, carried=sent is not None)
        op.headers = head
        etag = etag_of(head)
        source = op.body
        size = source.length if isinstance(source, FileRegion) else len(source)
        if op.verify:
            self._prover.stored_large(op, head, etag, sent, self._objects.md5_of)
        op.part = Part(op.number, size, etag, sent)

    def _refused_part(
        self, op: PutPart, status: int, head: bytes, body: Buffer, *, carried: bool
    ) -> StoreError | Again:
        """An upload that was created without a checksum may refuse parts that have one."""
        error = self._dialect.refused(op, status, head, body, "part")
        if carried and status in {400, 501} and isinstance(error, StoreError) and not error.retryable:
            self._without_crc.add(op.upload_id)
            return Again(error)
        return error

    def copy_part(self, op: CopyPart) -> bytes:
        """PUT ?partNumber&uploadId with a copy source."""
        names: tuple[str, ...] = ("x-amz-copy-source",)
        values: tuple[str, ...] = (self._objects.source_of(op),)
        if op.if_match:
            names = (*names, "x-amz-copy-source-if-match")
            values = (*values, f'"{op.if_match.decode("latin-1")}"')
        names = (*names, "x-amz-copy-source-range")
        values = (*values, f"bytes={op.offset}-{op.offset + op.length - 1}")
        query = f"partNumber={op.number}&uploadId={quote_query(op.upload_id.encode())}"
        return f"{self._sign('PUT', self._path(op), query, names, values)}Content-Length: 0\r\n\r\n".encode()

    def part_copied(self, op: CopyPart, status: int, head: bytes, body: Buffer) -> None:
        """Take the part's etag; an error may come in a reply that began with 200."""
        etag = xml_etag(body) if status < 300 else b""
        if status >= 300 or is_error_document(body):
            raise self._dialect.refused(op, status, head, body, "copy")
        if not etag:
            name = self._dialect.subject(op)
            raise UnexpectedReplyError(f"{name}: no etag for a copied part", subject=name, retryable=True)
        op.headers = head
        op.part = Part(op.number, op.length, etag, xml_crc32c(body))

    # --- complete -----------------------------------------------------------------------------------------

    def complete(self, op: CompleteUpload) -> bytes | Outgoing:
        """POST ?uploadId with the list of parts."""
        with_crc = op.upload_id in self._with_crc and all(part.crc32c is not None for part in op.parts)
        rows = []
        for part in op.parts:
            etag = html.escape(part.etag.decode("latin-1"), quote=False)
            mark = f"<ChecksumCRC32C>{crc.to_text(part.crc32c or 0)}</ChecksumCRC32C>" if with_crc else ""
            rows.append(f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{etag}"</ETag>{mark}</Part>')
        text = "".join(rows)
        xmlns = "http://s3.amazonaws.com/doc/2006-03-01/"
        document = f'<CompleteMultipartUpload xmlns="{xmlns}">{text}</CompleteMultipartUpload>'.encode()
        names: tuple[str, ...] = ("content-type",)
        values: tuple[str, ...] = ("application/xml",)
        if with_crc:
            names = (*names, "x-amz-checksum-crc32c", "x-amz-checksum-type")
            values = (*values, crc.to_text(_whole_crc(op)), "FULL_OBJECT")
        payload = self._dialect.payload_hash(document) if self._dialect.signs_payload else ""
        query = f"uploadId={quote_query(op.upload_id.encode())}"
        head = self._sign("POST", self._path(op), query, names, values, payload)
        if op.if_absent and self._dialect.target.profile.put_conditional:
            head += "If-None-Match: *\r\n"
        return joined(head, document, None)

    def completed(self, op: CompleteUpload, status: int, head: bytes, body: Buffer) -> None:
        """Take the etag. An error may follow a 200; an upload that is gone may have been completed."""
        if status >= 300 or is_error_document(body):
            raise self._refused_completion(op, status, head, body)
        op.headers = head
        op.etag = xml_etag(body)
        if not op.etag:
            name = self._dialect.subject(op)
            raise UnexpectedReplyError(f"{name}: the upload ended without a result", subject=name, retryable=True)
        said = xml_crc32c(body)
        known = op.upload_id in self._with_crc and all(part.crc32c is not None for part in op.parts)
        if known and said is not None and said == _whole_crc(op):
            op.proof = "crc32c"
        elif op.etag == _composite(op):
            op.proof = "etag"
        else:
            op.proof = "size"
        self._with_crc.discard(op.upload_id)
        self._without_crc.discard(op.upload_id)

    def _refused_completion(self, op: CompleteUpload, status: int, head: bytes, body: Buffer) -> StoreError | Again:
        error = self._dialect.refused(op, status, head, body, "complete")
        if not isinstance(error, StoreError):
            return error
        if op.upload_id in self._with_crc and status in {400, 501} and error.code != "EntityTooSmall":
            self._with_crc.discard(op.upload_id)
            return Again(error)
        lost = (note := self._notes.get(op)) is not None and note.lost
        if isinstance(error, NotFoundError) and error.code != "NoSuchBucket":
            self._dialect.note(op).data = error
            return Again(error, turn=self._decide)
        if status == 412 and op.if_absent and lost:
            self._dialect.note(op).data = error
            return Again(error, turn=self._decide)
        return error

    def decided(self, op: CompleteUpload, status: int, head: bytes, body: Buffer) -> None:
        """The upload is gone: the object decides whether it was completed."""
        note = self._dialect.note(op)
        refusal: StoreError = note.data
        if status == 404:
            raise refusal
        if status != 200:
            raise self._dialect.refused(op, status, head, body, "head")
        info = info_of(op.key, head)
        size = sum(part.size for part in op.parts)
        crcs = all(part.crc32c is not None for part in op.parts)
        # An older object of the same size may stand there: where ours would have a checksum, only that decides.
        ours_has_crc = crcs and op.upload_id in self._with_crc
        proven = self._prover.large_md5 is True
        if info.size != size:
            raise refusal
        if info.etag == _composite(op):
            op.proof = "etag"
        elif crcs and info.crc32c is not None and info.crc32c == _whole_crc(op):
            op.proof = "crc32c"
        elif note.lost and not ours_has_crc and not proven and info.etag.endswith(b"-%d" % len(op.parts)):
            op.proof = "size"
        else:
            raise refusal
        op.headers = head
        op.etag = info.etag


def _whole_crc(op: CompleteUpload) -> int:
    return crc.combine_all((part.crc32c or 0, part.size) for part in op.parts)


def _composite(op: CompleteUpload) -> bytes:
    """The etag that a store makes of MD5 part etags; empty where the parts have none."""
    try:
        joined = b"".join(bytes.fromhex(part.etag.decode("ascii")) for part in op.parts)
    except ValueError:
        return b""
    return f"{hashlib.md5(joined).hexdigest()}-{len(op.parts)}".encode()
