"""Uploads in blocks, and copies inside the service: Put Block (From URL), Put Block List, Copy Blob From URL.

An upload has no id at the service: ours is random and stands at the head of every block id, so that blocks of
two uploads never mix and a block list shows whose blocks it holds. Uncommitted blocks cost nothing to drop:
the service forgets them after a week, or when the blob is written.

Whole blobs are copied by Copy Blob From URL (up to 256 MiB, keeps properties and metadata of the source);
larger ones by Put Block From URL. The service reads the source with its SAS, or with a short-lived one made
from the key.
"""

from __future__ import annotations

import base64
import secrets

from entrepot.model.errors import ChangedError, CorruptError, NotFoundError, StoreError, UsageError
from entrepot.storage.base import (
    AbortUpload,
    Buffer,
    CompleteUpload,
    Copy,
    CopyPart,
    CreateUpload,
    Part,
    PutPart,
    Store,
)
from entrepot.storage.wire.dialect import Again, Outgoing, Spread, Turn

from . import headers, pages
from .dialect import AzureDialect, body_length, body_md5, joined
from .errors import azure_error, error_code
from .request import Query, quoted
from .target import AzureTarget

ID_LENGTH = 40
"""Characters of an upload id; with eight digits of the number a block id has 48 bytes, as the SDKs' have."""
BLOCKS_MAX = 50_000
BLOCK_MAX = 4000 << 20
PUT_MAX = 5000 << 20
COPY_MAX = 256 << 20


def block_id(upload_id: str, number: int) -> bytes:
    """The block id of one part, in base64 as it travels."""
    return base64.b64encode(f"{upload_id}{number:08d}".encode())


def parse_block_id(raw: bytes) -> tuple[str, int] | None:
    """(upload id, part number) of a block id of ours; None for anybody else's."""
    try:
        text = base64.b64decode(raw, validate=True).decode("ascii")
    except ValueError:
        return None
    upload_id, number = text[:ID_LENGTH], text[ID_LENGTH:]
    if len(number) != 8 or not number.isdigit() or not all(c in "0123456789abcdef" for c in upload_id):
        return None
    return upload_id, int(number)


class Blocks:
    """The turns of uploads and copies; they belong to ``dialect``."""

    def __init__(self, dialect: AzureDialect) -> None:
        self._dialect = dialect
        self._requests = dialect.requests
        turns = dialect.turns
        turns[CreateUpload] = Turn("multipart", self._create, _nothing)
        turns[PutPart] = Turn("multipart", self._put_part, self._part_stored)
        turns[CompleteUpload] = Turn("multipart", self._complete, self._completed)
        turns[AbortUpload] = Turn("multipart", self._abort, _nothing)
        turns[Copy] = Turn("copy", self._copy, self._copied)
        turns[CopyPart] = Turn("copy", self._copy_part, self._part_copied)
        self._settle = Turn("multipart", self._committed, self._settled)

    def _create(self, op: CreateUpload) -> Spread:
        self._dialect.path(op.key)
        op.upload_id = secrets.token_hex(ID_LENGTH // 2)
        op.done(op)
        return Spread([])

    def _abort(self, op: AbortUpload) -> Spread:
        op.done(op)
        return Spread([])

    def _put_part(self, op: PutPart) -> bytes | Outgoing:
        query: Query = (("blockid", block_id(op.upload_id, op.number)), ("comp", b"block"))
        md5 = body_md5(op.body) if op.verify else b""
        path = self._dialect.path(op.key)
        head = self._requests.head(b"PUT", path, query, length=body_length(op.body), md5=md5)
        if md5:
            self._dialect.note(op).data = md5
        return joined(head, op.body)

    def _part_stored(self, op: PutPart, status: int, head: bytes, body: Buffer) -> None:
        if status != 201:
            self._dialect.fail(op, status, head, body)
        note = self._dialect.notes.get(op)
        if note is not None and note.data:
            said = headers.field(head, b"content-md5")
            if said and said != note.data:
                subject = self._dialect.subject(op)
                raise CorruptError(f"{subject}: the store confirmed other bytes than were sent", subject=subject)
            op.proof = "md5"
        op.headers = head
        op.part = Part(op.number, body_length(op.body), block_id(op.upload_id, op.number))

    def _complete(self, op: CompleteUpload) -> bytes | Outgoing:
        names = b"".join(b"<Latest>%b</Latest>" % block_id(op.upload_id, part.number) for part in op.parts)
        document = b'<?xml version="1.0" encoding="utf-8"?><BlockList>%b</BlockList>' % names
        lines, after, sent = headers.meta_lines(op.meta, self._dialect.subject(op))
        head = self._requests.head(
            b"PUT",
            self._dialect.path(op.key),
            (("comp", b"blocklist"),),
            before=lines,
            after=after,
            sent_after=sent,
            length=len(document),
            md5=body_md5(document),
            if_none_match=b"*" if op.if_absent else b"",
        )
        return joined(head, document)

    def _completed(self, op: CompleteUpload, status: int, head: bytes, body: Buffer) -> None:
        if status != 201:
            note = self._dialect.notes.get(op)
            if note is not None and note.lost and status in {400, 404, 409, 412}:
                # A former try went out whole, its answer never came: the block list says whether it was done.
                cause = azure_error(status, head, bytes(body), self._dialect.subject(op))
                note.data = cause
                raise Again(cause, turn=self._settle)
            self._dialect.fail(op, status, head, body)
        op.headers = head
        op.etag = headers.etag_of(head)
        op.proof = "size"

    def _committed(self, op: CompleteUpload) -> bytes:
        query: Query = (("blocklisttype", b"committed"), ("comp", b"blocklist"))
        return self._requests.head(b"GET", self._dialect.path(op.key), query)

    def _settled(self, op: CompleteUpload, status: int, head: bytes, body: Buffer) -> None:
        cause = self._dialect.note(op).data
        if status == 404:
            raise cause if isinstance(cause, StoreError) else NotFoundError(self._dialect.subject(op))
        if status != 200:
            self._dialect.fail(op, status, head, body)
        found = [name for name, _ in pages.parse_blocks(bytes(body), b"CommittedBlocks")]
        if found != [block_id(op.upload_id, part.number) for part in op.parts]:
            raise cause if isinstance(cause, StoreError) else ChangedError(self._dialect.subject(op))
        op.headers = head
        op.etag = headers.etag_of(head)
        op.proof = "size"

    def _copy(self, op: Copy) -> bytes:
        source, name = self._source(op.source, op.source_key)
        after, sent = headers.metadata_lines(op.meta, self._dialect.subject(op))
        before = b"x-ms-copy-source:%b\n" % self._requests.source_url(source, name)
        if op.meta is not None and op.meta.storage_class:
            before = b"x-ms-access-tier:%b\n%b" % (op.meta.storage_class.encode(), before)
        tail = b"x-ms-requires-sync:true\n"
        if op.if_match:
            tail += b"x-ms-source-if-match:%b\n" % quoted(op.if_match)
        return self._requests.head(
            b"PUT",
            self._dialect.path(op.key),
            before=before,
            after=after + tail,
            sent_after=None if sent is None else sent + tail,
            length=0,
        )

    def _copied(self, op: Copy, status: int, head: bytes, body: Buffer) -> None:
        if status != 202:
            self._copy_failed(op, status, head, body)
        op.headers = head
        op.etag = headers.etag_of(head)
        op.proof = "size"

    def _copy_part(self, op: CopyPart) -> bytes:
        source, name = self._source(op.source, op.source_key)
        after = b"x-ms-source-range:bytes=%d-%d\n" % (op.offset, op.offset + op.length - 1)
        if op.if_match:
            after = b"x-ms-source-if-match:%b\n%b" % (quoted(op.if_match), after)
        return self._requests.head(
            b"PUT",
            self._dialect.path(op.key),
            (("blockid", block_id(op.upload_id, op.number)), ("comp", b"block")),
            before=b"x-ms-copy-source:%b\n" % self._requests.source_url(source, name),
            after=after,
            length=0,
        )

    def _part_copied(self, op: CopyPart, status: int, head: bytes, body: Buffer) -> None:
        if status != 201:
            self._copy_failed(op, status, head, body)
        op.headers = head
        op.part = Part(op.number, op.length, block_id(op.upload_id, op.number))

    def _copy_failed(self, op: Copy | CopyPart, status: int, head: bytes, body: Buffer) -> None:
        code = error_code(head, bytes(body))
        if code in {"CannotVerifyCopySource", "ResourceNotFound", "BlobNotFound"} and status == 404:
            subject = f"source {op.source_key.decode('utf-8', 'backslashreplace')!r} of {self._dialect.subject(op)}"
            raise NotFoundError(f"{subject}: the blob does not exist (404 {code})", subject=subject)
        self._dialect.fail(op, status, head, body)

    def _source(self, store: Store, key: bytes) -> tuple[AzureTarget, bytes]:
        target = getattr(store, "target", None)
        if not isinstance(target, AzureTarget):
            raise UsageError("only another Azure container can be copied from by the service")
        return target, store.location.prefix + key


def _nothing(op: object, status: int, head: bytes, body: Buffer) -> None:
    """Never called: these operations send no request."""
