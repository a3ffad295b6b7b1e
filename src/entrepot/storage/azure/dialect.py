"""The Azure Blob dialect of the wire lane: listing, reading, single writes and deletes.

Evidence: a Put carries Content-MD5, which the service checks before it commits; a whole small Get is checked
against the Content-MD5 that the service kept. Etags are opaque and never compared with hashes.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
from email.utils import parsedate_to_datetime
from typing import Any, NoReturn

from entrepot.model.entry import Info
from entrepot.model.errors import (
    ChangedError,
    CorruptError,
    StoreError,
    UnexpectedReplyError,
)
from entrepot.storage.base import Buffer, Delete, FileRegion, Get, Head, List, Op, Put
from entrepot.storage.wire.dialect import Again, Dialect, Intake, Outgoing, Spread, Turn

from . import headers, names, pages
from .errors import azure_error, error_code, refused_header
from .request import START_FROM_VERSION, VERSION, Query, Requests, endpoint_of, quoted
from .target import AzureTarget

LIST_MAX = 5000
HASH_STEP = 1 << 20
SMALL = 64 << 10
_RANGE = re.compile(rb"bytes (\d+)-(\d+)/(\d+|\*)\Z")
_LIST_QUERY: Query = (("restype", b"container"),)


class AzureDialect(Dialect):
    """Speaks for the keys below ``prefix`` of one container."""

    def __init__(self, target: AzureTarget, prefix: bytes, requests: Requests | None = None) -> None:
        super().__init__(endpoint_of(target))
        self.target = target
        self.prefix = prefix
        self.requests = requests or Requests(target)
        self.turns[List] = Turn("list", self._list, self._listed)
        self.turns[Head] = Turn("head", self._head, self._headed, bodyless=True)
        self.turns[Get] = Turn("get", self._get, self._got, self._intake)
        self.turns[Put] = Turn("put", self._put, self._stored)
        self.turns[Delete] = Turn("delete", self._delete, self._deleted)
        self._settle_put = Turn("head", self._head, self._put_settled, bodyless=True)

    def path(self, key: bytes) -> bytes:
        """The encoded path of ``key``. Raises NameNotPossibleError."""
        return names.encode(self.prefix + key)

    def subject(self, op: Op) -> str:
        """The object of ``op`` as messages name it."""
        key = op.key or (op.keys[0] if isinstance(op, Delete) and op.keys else b"")
        return self.name_of(key)

    def name_of(self, key: bytes) -> str:
        """``key`` as messages name it."""
        return f"az://{self.target.container}/{(self.prefix + key).decode('utf-8', 'backslashreplace')}"

    def info(self, op: Op) -> Info:
        """Read ``op.headers`` of a finished Get or Head."""
        return headers.info_of(op.key, op.headers)

    def fail(self, op: Op, status: int, head: bytes, body: Buffer) -> NoReturn:
        """Raise what an error reply means; a refused signature first teaches the server's clock."""
        error = azure_error(status, head, bytes(body), self.subject(op))
        if status == 403 and self.requests.signs and error.code in {"AuthenticationFailed", "403"}:
            moment = _date(head)
            if moment and self.requests.learn_clock(moment):
                raise Again(error)
        raise error

    # listing

    def _list(self, op: List) -> bytes:
        limit = LIST_MAX if op.limit >= 1000 else op.limit
        query: Query = (("comp", b"list"), ("maxresults", b"%d" % limit))
        if op.token:
            query = (("comp", b"list"), ("marker", op.token), ("maxresults", b"%d" % limit))
        if self.prefix:
            query = (*query, ("prefix", self.prefix))
        query += _LIST_QUERY
        version = VERSION
        if op.after and not op.token and self.target.profile.start_from is not False:
            query = (*query, ("startFrom", self.prefix + op.after))
            version = START_FROM_VERSION
        return self.requests.head(b"GET", b"", query, version=version)

    def _listed(self, op: List, status: int, head: bytes, body: Buffer) -> None:
        if status != 200:
            self._list_refused(op, status, head, bytes(body))
        op.page, first = pages.parse_page(bytes(body), op.columns, self.prefix, op.after)
        if op.after and not op.token and first is not None and first < op.after:
            self.target.profile.start_from = False  # the server does not know it and has begun at the start

    def _list_refused(self, op: List, status: int, head: bytes, body: bytes) -> NoReturn:
        asked = op.after and not op.token and self.target.profile.start_from is not False
        code = error_code(head, body)
        if asked and status == 400:
            version = code == "InvalidHeaderValue" and refused_header(body) in {"x-ms-version", ""}
            if version or code in {"UnsupportedQueryParameter", "InvalidQueryParameterValue"}:
                self.target.profile.start_from = False
                raise Again(azure_error(status, head, body, self.subject(op)))
        self.fail(op, status, head, body)

    # reading

    def _head(self, op: Op) -> bytes:
        return self.requests.head(b"HEAD", self.path(op.key))

    def _headed(self, op: Head, status: int, head: bytes, body: Buffer) -> None:
        if status != 200:
            self.fail(op, status, head, body)
        op.headers = head
        op.info = headers.info_of(op.key, head)

    def _get(self, op: Get) -> bytes:
        note = self.notes.get(op)
        start, pin = op.offset, op.if_match
        if note is not None:
            start, pin = max(note.reached, op.offset), note.etag or pin
        after = b""
        if op.length >= 0:
            last = max(start, op.offset + op.length - 1)
            after = b"x-ms-range:bytes=%d-%d\n" % (start, last)
        elif start:
            after = b"x-ms-range:bytes=%d-\n" % start
        return self.requests.head(b"GET", self.path(op.key), after=after, if_match=quoted(pin) if pin else b"")

    def _intake(self, op: Get, status: int, head: bytes, length: int | None) -> Intake | None:
        if op.sink is None:
            return None
        note = self.note(op)
        start = max(note.reached, op.offset)
        first, total = self._span(op, status, head, length, start)
        etag = headers.etag_of(head)
        if note.etag and etag != note.etag:
            raise self._changed(op)
        note.etag = etag
        end = total if op.length < 0 else min(total, op.offset + op.length)
        md5 = headers.field(head, b"content-md5")
        whole = status == 200 and start == 0 and end == total
        if whole and op.verify and md5 and note.digest is None and total <= self.options.md5_max:
            note.digest = hashlib.md5(usedforsecurity=False)
            note.data = md5
        return Intake(op.sink, start, max(0, end - start), start - first, note.digest)

    def _got(self, op: Get, status: int, head: bytes, body: Buffer) -> None:
        if status not in {200, 206}:
            self.fail(op, status, head, body)
        op.headers = head
        if op.sink is not None:
            self._check_digest(op)
            return
        first, total = self._span(op, status, head, len(body), op.offset)
        end = total if op.length < 0 else op.offset + op.length
        if end > total:
            raise ChangedError(
                f"{self.subject(op)}: it holds {total} bytes, bytes up to {end} were expected",
                subject=self.subject(op),
                hint="it changed while it was read: run again",
            )
        if op.if_match and headers.etag_of(head) != op.if_match:
            raise self._changed(op)
        view = memoryview(body)[op.offset - first : end - first] if status == 200 else body
        if len(view) != end - op.offset:
            raise CorruptError(f"{self.subject(op)}: {len(view)} bytes came, {end - op.offset} were asked")
        if op.verify:
            md5 = headers.field(head, b"content-md5") if status == 200 else b""
            if md5 and total <= self.options.md5_max:
                self._compare(op, md5, hashlib.md5(body, usedforsecurity=False).digest())
            else:
                op.proof = "size"
        op.body = view

    def _span(self, op: Get, status: int, head: bytes, length: int | None, start: int) -> tuple[int, int]:
        """(first byte of the body in the object, size of the object)."""
        if status == 206:
            found = _RANGE.match(headers.field(head, b"content-range"))
            if found is None or int(found.group(1)) != start or not found.group(3).isdigit():
                raise CorruptError(
                    f"{self.subject(op)}: the reply holds another range than asked", subject=self.subject(op)
                )
            return start, int(found.group(3))
        if length is None:
            raise UnexpectedReplyError(
                f"{self.subject(op)}: the reply does not say its length",
                subject=self.subject(op),
                retryable=True,
            )
        return 0, length

    def _check_digest(self, op: Get) -> None:
        note = self.notes.get(op)
        if not op.verify:
            return
        if note is None or note.digest is None:
            op.proof = "size"
            return
        digest = note.digest.digest()
        note.digest, note.reached = None, -1  # a retry after a mismatch starts over
        self._compare(op, note.data, digest)

    def _compare(self, op: Op, said: bytes, digest: bytes) -> None:
        if base64.b64encode(digest) != said:
            raise CorruptError(
                f"{self.subject(op)}: the bytes do not match the MD5 that the store keeps",
                subject=self.subject(op),
                hint="if it stays, the blob is damaged or its Content-MD5 property was set wrong",
            )
        op.proof = "md5"

    def _changed(self, op: Op) -> ChangedError:
        return ChangedError(
            f"{self.subject(op)}: it changed while it was read", subject=self.subject(op), hint="run again"
        )

    # writing

    def _put(self, op: Put) -> bytes | Outgoing:
        lines, after, sent = headers.meta_lines(op.meta, self.subject(op))
        md5 = body_md5(op.body) if op.verify else b""
        head = self.requests.head(
            b"PUT",
            self.path(op.key),
            before=lines + b"x-ms-blob-type:BlockBlob\n",
            after=after,
            sent_after=sent,
            length=body_length(op.body),
            md5=md5,
            if_none_match=b"*" if op.if_absent else b"",
        )
        if op.if_absent or md5:
            self.note(op).data = md5
        return joined(head, op.body)

    def _stored(self, op: Put, status: int, head: bytes, body: Buffer) -> None:
        note = self.notes.get(op)
        if status != 201:
            if op.if_absent and note is not None and note.lost and status in {409, 412}:
                # A former try went out whole, its answer never came: the blob that is there may be ours.
                raise Again(azure_error(status, head, bytes(body), self.subject(op)), turn=self._settle_put)
            self.fail(op, status, head, body)
        op.headers = head
        op.etag = headers.etag_of(head)
        if note is not None and note.data:
            said = headers.field(head, b"content-md5")
            if said and said != note.data:
                raise CorruptError(
                    f"{self.subject(op)}: the store confirmed other bytes than were sent",
                    subject=self.subject(op),
                )
            op.proof = "md5"

    def _put_settled(self, op: Put, status: int, head: bytes, body: Buffer) -> None:
        if status != 200:
            self.fail(op, status, head, body)
        note = self.note(op)
        said = headers.field(head, b"content-md5")
        size = headers.field(head, b"content-length")
        if size != b"%d" % body_length(op.body) or not said or said != (note.data or body_md5(op.body)):
            raise ChangedError(f"{self.subject(op)}: another blob is there already", subject=self.subject(op))
        op.headers = head
        op.etag = headers.etag_of(head)
        op.proof = "md5"

    # deleting

    def _delete(self, op: Delete) -> bytes | Spread:
        if len(op.keys) != 1:
            return Spread(_each(op))
        return self.requests.head(b"DELETE", self.path(op.keys[0]))

    def _deleted(self, op: Delete, status: int, head: bytes, body: Buffer) -> None:
        if status == 202 or (status == 404 and error_code(head, bytes(body)) in {"BlobNotFound", ""}):
            return
        try:
            self.fail(op, status, head, body)
        except StoreError as error:
            if error.retryable:
                raise
            op.failed.append((op.keys[0], error))


def _each(op: Delete) -> list[Op]:
    """One Delete per key; the last to finish finishes ``op``."""
    left = len(op.keys)

    def done(one: Any) -> None:
        nonlocal left
        left -= 1
        op.failed.extend(one.failed)
        if one.error is not None:
            op.failed.append((one.keys[0], one.error))
        if left == 0:
            op.done(op)

    if not op.keys:
        op.done(op)
    return [Delete([key], done) for key in op.keys]


def body_length(body: Buffer | FileRegion) -> int:
    """Bytes in ``body``."""
    return body.length if isinstance(body, FileRegion) else len(body)


def body_md5(body: Buffer | FileRegion) -> bytes:
    """The MD5 of ``body`` in base64, as Content-MD5 carries it."""
    if not isinstance(body, FileRegion):
        return base64.b64encode(hashlib.md5(body, usedforsecurity=False).digest())
    digest = hashlib.md5(usedforsecurity=False)
    offset, left = body.offset, body.length
    while left:
        piece = os.pread(body.fd, min(HASH_STEP, left), offset)
        if not piece:
            raise ChangedError("a file became shorter while it was read", hint="run again")
        digest.update(piece)
        offset += len(piece)
        left -= len(piece)
    return base64.b64encode(digest.digest())


def joined(head: bytes, body: Buffer | FileRegion) -> bytes | Outgoing:
    """A request: small bodies joined to their head, others behind it."""
    if isinstance(body, FileRegion):
        return Outgoing(head, body)
    if len(body) <= SMALL:
        return head + body
    return Outgoing(head, memoryview(body))


def _date(head: bytes) -> float:
    try:
        return parsedate_to_datetime(headers.field(head, b"date").decode("latin-1")).timestamp()
    except (ValueError, TypeError):
        return 0.0
