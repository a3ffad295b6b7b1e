"""Feeds of named keys instead of a listing: each side is asked about each key, nothing is listed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Protocol

from entrepot.model.entry import Evidence, Page, Problem, Row, Special
from entrepot.model.errors import NotFoundError, StoreError, VanishedError
from entrepot.storage.base import Columns, Head, Lane
from entrepot.storage.posix.root import Root

WINDOW = 500


class Keys(Protocol):
    """Named keys of any number."""

    def within(self, low: bytes, high: bytes | None) -> Iterator[bytes]:
        """The keys with low < key <= high, ascending."""
        ...


class FewKeys:
    """Some keys in memory."""

    def __init__(self, keys: list[bytes]) -> None:
        self._keys = sorted(keys)

    def within(self, low: bytes, high: bytes | None) -> Iterator[bytes]:
        """The keys with low < key <= high, ascending."""
        return (key for key in self._keys if key > low and (high is None or key <= high))


def file_pages(root: Root, keys: Iterator[bytes], *, changed: bool) -> Iterator[Page]:
    """Rows of those of the ascending ``keys`` that are regular files below ``root``; missing ones are left out."""
    while some := list(islice(keys, WINDOW)):
        rows: list[Row] = []
        problems: list[Problem] = []
        for key in some:
            try:
                state = root.lstat(key)
            except (NotFoundError, VanishedError):
                continue
            except StoreError as error:
                problems.append(Problem(key, error.failure.value, error.message))
                continue
            evidence: Evidence = (state.st_mtime_ns, state.st_ctime_ns) if changed else state.st_mtime_ns
            rows.append((key, evidence, state.st_size))
        yield Page(rows, problems=problems)


class HeadFeed:
    """A feed that asks a lane about each of some ascending keys."""

    def __init__(self, lane: Lane, keys: Iterator[bytes], columns: Columns, ready: Callable[[], None]) -> None:
        self.rows: list[Row] = []
        self.ended = False
        self.error: StoreError | None = None
        self.problems: list[Problem] = []
        self.specials: list[Special] = []
        self.seen = 0
        self._lane = lane
        self._keys = keys
        self._until: bytes | None = None
        self._more = True
        self._columns = columns
        self._ready = ready
        self._got: list[Row] = []
        self._open = 0
        self._ask()

    def fill(self) -> bool:
        if not self.rows and not self._open and not self.error:
            self.rows = sorted(self._got)
            self._got = []
            self.seen += len(self.rows)
            self._ask()
            self.ended = not self._open and not self._more
        return bool(self.rows) or self.ended or self.error is not None

    def cut(self, high: bytes) -> None:
        self._until = high
        self.rows = [row for row in self.rows if row[0] <= high]
        self._got = [row for row in self._got if row[0] <= high]

    def close(self) -> None:
        self._more = False

    def _ask(self) -> None:
        keys = list(islice(self._keys, WINDOW)) if self._more else []
        self._more = len(keys) == WINDOW
        if self._until is not None and keys and keys[-1] > self._until:
            self._more = False
            keys = [key for key in keys if key <= self._until]
        self._open += len(keys)
        for key in keys:
            self._lane.submit(Head(key, self._headed))

    def _headed(self, op: Head) -> None:
        self._open -= 1
        if self._until is not None and op.key > self._until:
            pass
        elif op.info is not None:
            evidence = op.info.etag if self._columns == "etag" else op.info.mtime_ns
            self._got.append((op.key, evidence, op.info.size))
        elif op.error is not None and not isinstance(op.error, NotFoundError):
            self.error = op.error
        if not self._open:
            self._ready()
