"""Exchanges over many keys: listing pages, and deletes in batches or one by one."""

from __future__ import annotations

import base64
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any

from entrepot.model.errors import StoreError, UnexpectedReplyError
from entrepot.storage.base import Buffer, Delete, List, Op
from entrepot.storage.wire.dialect import Again, Outgoing, Spread, Turn

from . import crc
from .errors import s3_error
from .learn import date_offset, observe_listing
from .objects import in_order, joined
from .pages import escape, parse, valid_in_xml
from .replies import delete_errors
from .signing import quote_path, quote_query

if TYPE_CHECKING:
    from .dialect import S3Dialect


class DeleteOne(Op):
    """One key of a :class:`Delete`."""

    __slots__ = ()


class Bulk:
    """Registers its turns with ``dialect``."""

    def __init__(self, dialect: S3Dialect) -> None:
        self._dialect = dialect
        self._sign = dialect.signer.sign
        self._profile = dialect.target.profile
        dialect.turns[List] = Turn("list", self.list, self.listed)
        dialect.turns[Delete] = Turn("delete", self.delete, self.deleted)
        dialect.turns[DeleteOne] = Turn("delete", self.delete_one, self.deleted_one)

    # --- listing ------------------------------------------------------------------------------------------

    def list(self, op: List) -> bytes:
        """One page of ListObjectsV2, or of ListObjects where the profile says so."""
        profile = self._profile
        prefix = self._dialect.prefix
        query = {"max-keys": str(min(op.limit, profile.list_max)), "prefix": quote_query(prefix)}
        if profile.encoding_url:
            query["encoding-type"] = "url"
        after = quote_query(prefix + op.after) if op.after else ""
        if profile.list_v1:
            if op.token or after:
                query["marker"] = quote_query(op.token) if op.token else after
        else:
            query["list-type"] = "2"
            if op.token:
                query["continuation-token"] = quote_query(op.token)
            elif after:
                query["start-after"] = after
        text = "&".join(f"{name}={query[name]}" for name in sorted(query))
        return f"{self._sign('GET', self._dialect.bucket_path, text)}Accept-Encoding: identity\r\n\r\n".encode()

    def listed(self, op: List, status: int, head: bytes, body: Buffer) -> None:
        """Parse the page; a first row that is ``after`` itself (inclusive markers) is dropped."""
        if status != 200:
            raise self._dialect.refused(op, status, head, body, "list")
        xml = bytes(body)
        if self._dialect.clock_offset is None:
            self._first_page(op, head, xml)
        try:
            page = parse(xml, self._dialect.prefix, op.columns, version1=self._profile.list_v1)
        except StoreError as error:
            error.subject = self._dialect.subject(op)
            error.args = (f"{error.subject}: {error.message}",)
            error.message = error.args[0]
            raise
        if op.after and page.rows and page.rows[0][0] == op.after:
            del page.rows[0]
        op.page = page

    def _first_page(self, op: List, head: bytes, xml: bytes) -> None:
        """Learn from the first listing: the clock, and which version of the call was understood."""
        self._dialect.clock_offset = date_offset(head) or 0.0
        if observe_listing(self._dialect.target, xml) and (op.after or op.token):
            name = self._dialect.subject(op)
            raise Again(UnexpectedReplyError(f"{name}: the store only knows ListObjects", subject=name))

    # --- deletes ------------------------------------------------------------------------------------------

    def delete(self, op: Delete) -> bytes | Outgoing | Spread:
        """POST ?delete; split up where that is not possible."""
        keys = op.keys
        most = self._profile.batch_delete_max
        if not self._profile.batch_delete or not valid_in_xml(keys) or not keys:
            return self._one_by_one(op)
        if len(keys) > most:
            return self._in_batches(op, most)
        prefix = self._dialect.prefix
        rows = b"".join(b"<Object><Key>" + escape(prefix + key) + b"</Key></Object>" for key in keys)
        document = b'<Delete xmlns="http://s3.amazonaws.com/doc/2006-03-01/"><Quiet>true</Quiet>' + rows + b"</Delete>"
        names: tuple[str, ...] = ("content-md5", "content-type")
        values: tuple[str, ...] = (
            base64.b64encode(hashlib.md5(document).digest()).decode(),
            "application/xml",
        )
        if self._profile.checksum and not self._profile.content_md5_required:
            names, values = (*names, "x-amz-checksum-crc32c"), (*values, crc.to_text(crc.of_bytes(document)))
        names, values = in_order(names, values)
        payload = self._dialect.payload_hash(document) if self._dialect.signs_payload else ""
        head = self._sign("POST", self._dialect.bucket_path, "delete=", names, values, payload)
        return joined(head, document, None)

    def deleted(self, op: Delete, status: int, head: bytes, body: Buffer) -> None:
        """Take the errors per key; a store without the batch call is learned and served one by one."""
        if status >= 300:
            raise self._dialect.refused(op, status, head, body, "delete")
        if b"DeleteResult" not in bytes(body[:4096]):
            name = self._dialect.subject(op)
            raise UnexpectedReplyError(f"{name}: the batch delete ended without a result", subject=name, retryable=True)
        cut = len(self._dialect.prefix)
        for key, document in delete_errors(body):
            name = f"{self._dialect.target.bucket}/{key.decode('utf-8', 'surrogateescape')}"
            error = s3_error(200, b"", document, name)
            if error.failure != "not_found":
                op.failed.append((key[cut:], error))

    def _one_by_one(self, op: Delete) -> Spread:
        if not op.keys:
            op.done(op)
            return Spread([])
        join = _Join(op, len(op.keys))
        return Spread([DeleteOne(key, join.one) for key in op.keys])

    def _in_batches(self, op: Delete, most: int) -> Spread:
        pieces = [op.keys[i : i + most] for i in range(0, len(op.keys), most)]
        join = _Join(op, len(pieces))
        return Spread([Delete(piece, join.batch) for piece in pieces])

    def delete_one(self, op: DeleteOne) -> bytes:
        """DELETE of one key."""
        return f"{self._sign('DELETE', self._dialect.path + quote_path(op.key))}\r\n".encode()

    def deleted_one(self, op: DeleteOne, status: int, head: bytes, body: Buffer) -> None:
        """An object that is gone already counts as deleted."""
        if status >= 300 and status != 404:
            raise self._dialect.refused(op, status, head, body, "other")


class _Join:
    """Gathers the parts of a delete that was split up, and ends it with the last."""

    def __init__(self, parent: Delete, count: int) -> None:
        self._parent = parent
        self._left = count
        self.one = partial(self._done, single=True)
        self.batch = partial(self._done, single=False)

    def _done(self, op: Any, *, single: bool) -> None:
        parent = self._parent
        if op.error is not None:
            parent.failed.extend((key, op.error) for key in ([op.key] if single else op.keys))
        elif not single:
            parent.failed.extend(op.failed)
        self._left -= 1
        if not self._left:
            parent.done(parent)
