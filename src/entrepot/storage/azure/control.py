"""Control requests that no caller of a lane sends: one level of a container, blocks of unfinished uploads."""

from __future__ import annotations

from entrepot.storage.base import Buffer, Done, Op
from entrepot.storage.wire.dialect import Turn

from . import pages
from .dialect import LIST_MAX, AzureDialect
from .request import Query


class Level(Op):
    """One page of the blobs and sub-prefixes directly below ``prefix`` (relative). Fills ``listing``."""

    __slots__ = ("listing", "marker", "prefix")

    def __init__(self, prefix: bytes, marker: bytes, done: Done) -> None:
        super().__init__(b"", done)
        self.prefix = prefix
        self.marker = marker
        self.listing = pages.Listing([], [], b"")


class Uncommitted(Op):
    """One page of the blobs below ``prefix`` that may have blocks but no content."""

    __slots__ = ("found", "marker", "prefix")

    def __init__(self, prefix: bytes, marker: bytes, done: Done) -> None:
        super().__init__(b"", done)
        self.prefix = prefix
        self.marker = marker
        self.found: list[tuple[bytes, int]] = []


class BlockList(Op):
    """The uncommitted blocks of one blob, as (block id, size). Fills ``blocks``; 404 is an error."""

    __slots__ = ("blocks",)

    def __init__(self, key: bytes, done: Done) -> None:
        super().__init__(key, done)
        self.blocks: list[tuple[bytes, int]] = []


class Control:
    """The turns of control requests; they belong to ``dialect``."""

    def __init__(self, dialect: AzureDialect) -> None:
        self._dialect = dialect
        dialect.turns[Level] = Turn("list", self._level, self._levelled)
        dialect.turns[Uncommitted] = Turn("list", self._uncommitted, self._uncommitted_listed)
        dialect.turns[BlockList] = Turn("multipart", self._blocks, self._blocks_listed)

    def _level(self, op: Level) -> bytes:
        return self._list((("comp", b"list"), ("delimiter", b"/")), op)

    def _levelled(self, op: Level, status: int, head: bytes, body: Buffer) -> None:
        if status != 200:
            self._dialect.fail(op, status, head, body)
        op.listing = pages.parse_listing(bytes(body), "mtime", levels=True)

    def _uncommitted(self, op: Uncommitted) -> bytes:
        return self._list((("comp", b"list"), ("include", b"uncommittedblobs")), op)

    def _uncommitted_listed(self, op: Uncommitted, status: int, head: bytes, body: Buffer) -> None:
        if status != 200:
            self._dialect.fail(op, status, head, body)
        op.found, op.marker = pages.parse_uncommitted(bytes(body))

    def _blocks(self, op: BlockList) -> bytes:
        query: Query = (("blocklisttype", b"uncommitted"), ("comp", b"blocklist"))
        return self._dialect.requests.head(b"GET", self._dialect.path(op.key), query)

    def _blocks_listed(self, op: BlockList, status: int, head: bytes, body: Buffer) -> None:
        if status != 200:
            self._dialect.fail(op, status, head, body)
        op.blocks = pages.parse_blocks(bytes(body))

    def _list(self, query: Query, op: Level | Uncommitted) -> bytes:
        if op.marker:
            query = (*query, ("marker", op.marker))
        query = (*query, ("maxresults", b"%d" % LIST_MAX))
        prefix = self._dialect.prefix + op.prefix
        if prefix:
            query = (*query, ("prefix", prefix))
        return self._dialect.requests.head(b"GET", b"", (*query, ("restype", b"container")))
