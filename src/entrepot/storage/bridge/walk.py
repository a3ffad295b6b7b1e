"""A sorted listing of a tree: keys in byte order, a directory standing where its name with ``/`` stands.

Directories that come next are read ahead by a few threads. A directory that cannot be read is a problem of
its prefix, not an end: the rest is listed, and nothing may be deleted below it.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from entrepot.model.entry import Evidence, Page, Problem, Row, Special
from entrepot.model.errors import NotFoundError
from entrepot.storage.base import Columns

from .faults import store_error
from .guard import is_temporary
from .place import Item, Place

AHEAD = 6
"""Directories of one level that are read before their turn."""


class Walk:
    """The listing of ``prefix`` (a path, empty or ending in ``/``) after ``after``; keys are relative to it."""

    def __init__(self, place: Place, pool: ThreadPoolExecutor, prefix: bytes, after: bytes, columns: Columns) -> None:
        self._place = place
        self._pool = pool
        self._prefix = prefix
        self._after = after
        self._columns = columns
        self._specials: list[Special] = []
        self._problems: list[Problem] = []
        self._rows = self._below(b"")

    def page(self, limit: int) -> Page:
        """The next rows; ``last`` is set when there are no more. Raises when the prefix itself cannot be read."""
        rows: list[Row] = []
        last = True
        for row in self._rows:
            rows.append(row)
            if len(rows) >= limit:
                last = False
                break
        page = Page(rows, last=last, specials=self._specials, problems=self._problems)
        self._specials, self._problems = [], []
        return page

    def _below(self, base: bytes, read: Future[list[Item]] | None = None) -> Iterator[Row]:
        try:
            items = read.result() if read is not None else self._read(base)
        except Exception as fault:
            if not base:
                raise
            error = store_error(fault, (self._prefix + base).decode("utf-8", "backslashreplace"))
            failure = "vanished" if isinstance(error, NotFoundError) else error.failure.value
            self._problems.append(Problem(base, failure, str(error)))
            return
        entries = sorted((i.name + b"/" if i.kind == "directory" else i.name, i) for i in items if i.name)
        folders = [name for name, item in entries if item.kind == "directory" and not self._passed(base + name)]
        coming: dict[bytes, Future[list[Item]]] = {}
        at = 0
        for name, item in entries:
            key = base + name
            if item.kind == "directory":
                if self._passed(key):
                    continue
                for folder in folders[at : at + AHEAD]:
                    if folder not in coming:
                        coming[folder] = self._pool.submit(self._read, base + folder)
                at += 1
                yield from self._below(key, coming.pop(name))
            elif item.kind == "file":
                if key > self._after and not is_temporary(name):
                    yield key, self._evidence(item), item.size
            elif key > self._after:
                self._specials.append(Special(key, "symlink" if item.kind == "symlink" else "device"))

    def _passed(self, folder: bytes) -> bool:
        """True when all keys below ``folder`` stand before ``after``."""
        return folder < self._after and not self._after.startswith(folder)

    def _read(self, base: bytes) -> list[Item]:
        return self._place.entries((self._prefix + base).rstrip(b"/"))

    def _evidence(self, item: Item) -> Evidence:
        return item.etag if self._columns == "etag" else item.mtime_ns
