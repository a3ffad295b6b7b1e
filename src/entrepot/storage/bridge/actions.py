"""The operations of a lane as blocking calls on a place: what a worker thread does."""

from __future__ import annotations

import json
import os
import posixpath
import secrets
import threading
import unicodedata
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial

from entrepot.model.entry import Info, Page
from entrepot.model.errors import (
    ChangedError,
    CorruptError,
    NameNotPossibleError,
    NotFoundError,
    StoreError,
    StoreTimeoutError,
    UnexpectedReplyError,
)
from entrepot.storage.base import (
    AbortUpload,
    Buffer,
    CompleteUpload,
    CreateUpload,
    Delete,
    FileRegion,
    Get,
    Head,
    List,
    Meta,
    Op,
    Put,
    PutPart,
)

from . import guard
from .faults import store_error
from .place import Item, Place
from .spool import Spool, length_of, pieces_of
from .walk import Walk

Deliver = Callable[[Get, int, bytes], None]
Moved = Callable[[int], None]
WALKS_MAX = 64
KNOWN_MAX = 100_000


class Actions:
    """Does operations for keys below ``prefix`` of ``place``. Safe for several threads."""

    def __init__(self, place: Place, prefix: bytes, name: str) -> None:
        self.place = place
        self.prefix = prefix
        self.name = name
        self.spool = Spool(f"{place.identity()}/{name}")
        self._readers = ThreadPoolExecutor(4, thread_name_prefix="bridge-list")
        self._walks: dict[bytes, Walk] = {}
        self._known: set[bytes] = set()
        self._lock = threading.Lock()
        self._making = threading.Lock()
        self._trying = threading.Lock()
        self._tried: dict[str, bool] = {}

    def close(self) -> None:
        """End the read-ahead of listings."""
        self._readers.shutdown(wait=False, cancel_futures=True)
        self._walks.clear()

    def subject(self, key: bytes) -> str:
        """``key`` as messages name it."""
        return f"{self.name}/{(self.prefix + key).decode('utf-8', 'backslashreplace')}"

    def perform(self, op: Op, deliver: Deliver, moved: Moved) -> None:
        """Do ``op`` and fill it. Raises StoreError."""
        try:
            self._perform(op, deliver, moved)
        except StoreError as fault:
            raise fault from None
        except Exception as fault:
            raise store_error(fault, self.subject(op.key)) from fault

    def _perform(self, op: Op, deliver: Deliver, moved: Moved) -> None:
        match op:
            case List():
                self._list(op)
            case Head():
                op.info = self._info(op.key, self.place.stat(self._path(op.key)))
                op.headers = pack(op.info)
            case Get():
                self._get(op, deliver, moved)
            case Put():
                op.etag = self._store(op.key, op.body, op.meta, moved, if_absent=op.if_absent)
                op.proof = "size" if op.verify else ""
            case Delete():
                self._delete(op)
            case CreateUpload():
                self._path(op.key)
                op.upload_id = self.spool.create(self.prefix + op.key)
            case PutPart():
                op.part = self.spool.put(op.upload_id, op.number, op.body)
                op.proof = "size"
            case CompleteUpload():
                self._complete(op, moved)
            case AbortUpload():
                self.spool.drop(op.upload_id)
            case _:
                raise UnexpectedReplyError(f"{self.subject(op.key)}: {type(op).__name__} is not offered here")

    def _path(self, key: bytes) -> bytes:
        return guard.check(self.prefix + key, self.place.protocol)

    def _list(self, op: List) -> None:
        with self._lock:
            walk = self._walks.pop(op.token, None) if op.token else None
        if walk is None:
            # A token says where the page before it ended, so that any process can go on from there.
            after = max(op.after, op.token.partition(b":")[2])
            walk = Walk(self.place, self._readers, self.prefix, after, op.columns)
        try:
            op.page = page = walk.page(op.limit)
        except Exception as fault:
            missing = isinstance(store_error(fault, ""), NotFoundError)
            if not missing or not self.prefix.strip(b"/"):
                raise
            page = op.page = Page([], last=True)  # as in object stores: a prefix without keys
        if not page.last:
            page.token = secrets.token_hex(4).encode() + b":" + page.rows[-1][0]
            with self._lock:
                if len(self._walks) >= WALKS_MAX:
                    self._walks.pop(next(iter(self._walks)))
                self._walks[page.token] = walk

    def _get(self, op: Get, deliver: Deliver, moved: Moved) -> None:
        path = self._path(op.key)
        item = self.place.stat(path)
        if item.kind == "directory":
            raise NotFoundError(f"{self.subject(op.key)}: it is a directory", subject=self.subject(op.key))
        if op.if_match and op.if_match != evidence(item):
            raise self._changed(op.key)
        op.headers = pack(self._info(op.key, item))
        want = item.size - op.offset if op.length < 0 else op.length
        if op.offset + want > item.size:
            raise self._changed(op.key)
        held: list[bytes] = []
        got = 0
        for piece in self.place.read(path, op.offset, want):
            moved(len(piece))
            if op.sink is None:
                held.append(piece)
            else:
                deliver(op, op.offset + got, piece)
            got += len(piece)
        if got != want:
            raise CorruptError(
                f"{self.subject(op.key)}: {got} of {want} bytes came", subject=self.subject(op.key), hint="run again"
            )
        if op.if_match or op.sink is not None:
            after = self.place.stat(path)
            if evidence(after) != evidence(item):
                raise self._changed(op.key)
        op.body = b"".join(held)
        op.proof = "size" if op.verify else ""

    def _store(
        self, key: bytes, body: Buffer | FileRegion, meta: Meta | None, moved: Moved, *, if_absent: bool
    ) -> bytes:
        path = self._path(key)
        size = length_of(body)
        if if_absent and self._there(path):
            raise ChangedError(f"{self.subject(key)}: a file is there already", subject=self.subject(key))
        folder = posixpath.dirname(path)
        if not path.isascii() or self.place.protocol == "webdav":
            self._check_server(key, path, folder)
        target = path
        if self.place.renames:
            target = posixpath.join(folder, guard.temporary_name())
        try:
            self._write(target, folder, body, size, meta, moved)
            if meta is not None and meta.mtime_ns is not None:
                self.place.set_mtime(target, meta.mtime_ns)
            there = self.place.stat(target)
            if there.size != size:
                raise CorruptError(
                    f"{self.subject(key)}: {there.size} bytes arrived, {size} were sent", subject=self.subject(key)
                )
            if target != path:
                self.place.rename(target, path)
        except Exception:
            if target != path:
                self._discard(target)
            raise
        return evidence(there)

    def _write(
        self, target: bytes, folder: bytes, body: Buffer | FileRegion, size: int, meta: Meta | None, moved: Moved
    ) -> None:
        if folder and folder not in self._known and self.place.renames:
            with self._making:
                if folder not in self._known:
                    self.place.make_directories(folder)
                if len(self._known) > KNOWN_MAX:
                    self._known.clear()
                self._known.add(folder)
        try:
            self.place.write(target, _counted(pieces_of(body), moved), size, meta)
        except Exception as fault:
            # Somebody may have removed a directory that we knew: make it again, once.
            if folder not in self._known or not isinstance(store_error(fault, ""), NotFoundError):
                raise
            self._known.discard(folder)
            self.place.make_directories(folder)
            self.place.write(target, pieces_of(body), size, meta)

    def _check_server(self, key: bytes, path: bytes, folder: bytes) -> None:
        """Try once per place what its server does to names like this one; refuse what would land elsewhere."""
        why = ""
        with self._trying:
            if not guard.composed(path) and self._try("forms", self._merges_forms, folder):
                why = "the server takes different Unicode forms of a name for the same file"
            elif self.place.protocol == "webdav":
                for char in guard.doubtful(path):
                    if self._try(f"char {char}", partial(self._loses, bytes([char])), folder):
                        why = f"the server does not keep {chr(char)!r} in names"
                        break
        if why:
            subject = self.subject(key)
            raise NameNotPossibleError(f"{subject}: {why}", subject=subject, hint="rename it at the source")

    def _try(self, what: str, trial: Callable[[bytes], bool], folder: bytes) -> bool:
        known = self._tried.get(what)
        if known is None:
            known = self._tried[what] = trial(folder)
        return known

    def _merges_forms(self, folder: bytes) -> bool:
        if not self.place.renames:
            return False
        path = posixpath.join(folder, guard.temporary_name(decomposed=True))
        self._write(path, folder, b"", 0, None, _uncounted)
        try:
            other = unicodedata.normalize("NFC", guard.encode(path)).encode()
            return self._there(other) or not self._there(path)
        finally:
            self._discard(path)

    def _loses(self, char: bytes, folder: bytes) -> bool:
        first = posixpath.join(folder, guard.temporary_name())
        second = posixpath.join(folder, guard.temporary_name())
        named = second + char + b"x"
        self._write(first, folder, b"", 0, None, _uncounted)
        try:
            self.place.rename(first, named)
            return not self._there(named)
        except StoreTimeoutError:
            raise
        except Exception as fault:
            if store_error(fault, "").retryable:
                raise
            return True
        finally:
            for path in (first, second, named):
                self._discard(path)

    def _complete(self, op: CompleteUpload, moved: Moved) -> None:
        region = self.spool.open(op.upload_id, list(op.parts))
        try:
            op.etag = self._store(op.key, region, op.meta, moved, if_absent=op.if_absent)
        finally:
            os.close(region.fd)
        op.proof = "size"
        self.spool.drop(op.upload_id)

    def _delete(self, op: Delete) -> None:
        op.failed = []
        for key in op.keys:
            try:
                self.place.remove(self._path(key))
            except Exception as fault:
                error = store_error(fault, self.subject(key))
                if not isinstance(error, NotFoundError):
                    op.failed.append((key, error))

    def _there(self, path: bytes) -> bool:
        try:
            self.place.stat(path)
        except Exception as fault:
            if isinstance(store_error(fault, ""), NotFoundError):
                return False
            raise
        return True

    def _discard(self, path: bytes) -> None:
        try:
            self.place.remove(path)
        except Exception:
            pass

    def _info(self, key: bytes, item: Item) -> Info:
        if item.kind == "directory":
            raise NotFoundError(f"{self.subject(key)}: it is a directory", subject=self.subject(key))
        kept = item.metadata.get("mtime", "")
        source = item.mtime_ns if self.place.keeps_mtime else _seconds(kept)
        return Info(
            key,
            item.size,
            item.mtime_ns,
            evidence(item),
            source_mtime_ns=source,
            content_type=item.content_type,
            metadata=item.metadata,
        )

    def _changed(self, key: bytes) -> ChangedError:
        return ChangedError(
            f"{self.subject(key)}: it changed while it was read", subject=self.subject(key), hint="run again"
        )


def evidence(item: Item) -> bytes:
    """What tells two versions of a file apart: its etag, else size and mtime."""
    return item.etag or b"%d-%d" % (item.size, item.mtime_ns)


def pack(info: Info) -> bytes:
    """``info`` as the headers of an operation."""
    values = asdict(info)
    values["key"] = ""
    values["etag"] = info.etag.decode("latin-1")
    return json.dumps(values).encode()


def unpack(key: bytes, headers: bytes) -> Info:
    """The reverse of :func:`pack`."""
    values = json.loads(headers)
    values["key"] = key
    values["etag"] = values["etag"].encode("latin-1")
    return Info(**values)


def _uncounted(amount: int) -> None:
    """Bytes of our own trials."""


def _counted(pieces: Iterable[bytes | memoryview], moved: Moved) -> Iterator[bytes | memoryview]:
    for piece in pieces:
        moved(len(piece))
        yield piece


def _seconds(text: str) -> int | None:
    whole, _, fraction = text.partition(".")
    if not whole.lstrip("-").isdigit() or not (fraction or "0").isdigit():
        return None
    value = int(whole.lstrip("-")) * 1_000_000_000 + int(fraction.ljust(9, "0")[:9])
    return -value if whole.startswith("-") else value
