"""Feeds: one sorted listing of a key range as a window of rows, whatever stands behind it.

A feed never hides a fault: an unreadable part is a Problem (nothing below it may be deleted), a listing that breaks is
``error``, and ``ended`` is only true after an explicit end.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Protocol

from entrepot.model.entry import Page, Problem, Row, Special
from entrepot.model.errors import StoreError, UnexpectedReplyError
from entrepot.storage.base import Columns, Lane, List

first = itemgetter(0)

PAGES_AHEAD = 2
"""Pages fetched before they are asked for: the next request is on its way while this page is merged."""

RESTARTS = 3
"""How often a listing that goes backwards is begun again from the last good key (fault case 4)."""


class Feed(Protocol):
    """A sorted listing of the keys k with low < k and, if high is set, k <= high."""

    rows: list[Row]
    """The window: rows not yet taken."""
    ended: bool
    """Nothing comes after ``rows``: set only by an explicit end of the listing."""
    error: StoreError | None
    problems: list[Problem]
    specials: list[Special]
    seen: int

    def fill(self) -> bool:
        """True when ``rows`` is not empty, or the feed has ended or failed; False while an answer is awaited."""
        ...

    def cut(self, high: bytes) -> None:
        """Lower the upper bound (a split took the rest)."""
        ...

    def close(self) -> None:
        """Drop what is in flight."""
        ...


class LaneFeed:
    """A chain of List operations with pages fetched ahead."""

    def __init__(
        self,
        lane: Lane,
        low: bytes,
        high: bytes | None,
        columns: Columns,
        ready: Callable[[], None],
        place: str,
    ) -> None:
        self.rows: list[Row] = []
        self.ended = False
        self.error: StoreError | None = None
        self.problems: list[Problem] = []
        self.specials: list[Special] = []
        self.seen = 0
        self._lane = lane
        self._high = high
        self._columns = columns
        self._ready = ready
        self._place = place
        self._pages: deque[list[Row]] = deque()
        self._last = low
        self._closed = False
        self._awaiting = False
        self._exhausted = False
        self._token = b""
        self._restarts = 0
        self._floor = b""
        """Set at a store that ignores where to begin: rows up to here are passed over."""
        self._held = Page([])
        self._ask()

    @property
    def position(self) -> bytes:
        """The highest key that was fetched."""
        return max(self._last, self._floor)

    def fill(self) -> bool:
        if self.rows:
            return True
        if self._pages:
            self.rows = self._pages.popleft()
            if not self._awaiting and not self._exhausted and self.error is None:
                self._ask()
            self.ended = self._exhausted and not self._pages and self.error is None
            return True
        if self._exhausted and not self.error:
            self.ended = True
        return self.ended or self.error is not None

    def cut(self, high: bytes) -> None:
        self._high = high
        if self._last > high:
            self._exhausted = True
        self.rows = self._below(self.rows)
        self._pages = deque(page for page in map(self._below, self._pages) if page)

    def close(self) -> None:
        self._closed = True
        self._pages.clear()
        self.rows = []

    def _ask(self) -> None:
        self._awaiting = True
        self._lane.submit(List(self._last, self._token, self._columns, self._answered))

    def _answered(self, op: List) -> None:
        self._awaiting = False
        if self._closed:
            return
        if op.error is not None:
            self.error = op.error
        else:
            self._take(op.page)
        self._ready()

    def _take(self, page: Page) -> None:
        rows = page.rows
        if rows and rows[0][0] == self._last and self._last and (len(rows) == 1 or rows[1][0] > self._last):
            rows = rows[1:]
        if not rows and page.token and page.token == self._token and not page.last:
            self._begin_again(rows)
            return
        if rows and rows[0][0] <= self._last and (self._last or self.seen):
            if self._token or self._floor:
                self._begin_again(rows)
                return
            self._held = page
            self._awaiting = True
            self._lane.submit(List(b"", b"", self._columns, self._learned_start, limit=1))
            return
        if rows:
            self._last = rows[-1][0]
            if self._floor and rows[0][0] <= self._floor:
                rows = rows[bisect_right(rows, self._floor, key=first) :]
        kept = self._below(rows)
        self.seen += len(kept)
        if kept:
            self._pages.append(kept)
        self._token = page.token
        self._exhausted = page.last or len(kept) < len(rows)
        if not self._exhausted and (len(self._pages) < PAGES_AHEAD or not kept):
            self._ask()

    def _learned_start(self, op: List) -> None:
        """A page began before what was asked for: fine if the store always begins at its start, else it is disorder."""
        self._awaiting = False
        if self._closed:
            return
        page = self._held
        if op.error is not None:
            self.error = op.error
        elif op.page.rows and op.page.rows[0][0] == page.rows[0][0]:
            self._floor, self._last = self._last, b""
            self._take(page)
        else:
            self._begin_again(page.rows)
        self._ready()

    def _begin_again(self, rows: list[Row]) -> None:
        """A page that goes back is never used: ask once more behind the last good key."""
        self._restarts += 1
        if self._restarts > RESTARTS:
            ends = f"ends at {rows[-1][0]!r}" if rows else "leads back to itself"
            self.error = UnexpectedReplyError(
                f"the listing of {self._place} is not in key order: a page after {self._last!r} {ends}",
                subject=self._place,
                hint="the store does not list in byte order; nothing was deleted in this range",
            )
        else:
            self._token = b""
            self._ask()

    def _below(self, rows: list[Row]) -> list[Row]:
        high = self._high
        if high is None or not rows or rows[-1][0] <= high:
            return rows
        return rows[: bisect_right(rows, high, key=first)]


class PageFeed:
    """Pages from an iterator that works when asked (a directory walk, a list of keys)."""

    def __init__(self, pages: Iterator[Page], high: bytes | None) -> None:
        self.rows: list[Row] = []
        self.ended = False
        self.error: StoreError | None = None
        self.problems: list[Problem] = []
        self.specials: list[Special] = []
        self.seen = 0
        self._pages = pages
        self._high = high

    def fill(self) -> bool:
        while not self.rows and not self.ended and self.error is None:
            try:
                page = next(self._pages, None)
            except StoreError as error:
                self.error = error
                break
            if page is None:
                self.ended = True
                break
            self._take(page)
        return True

    def cut(self, high: bytes) -> None:
        self._high = high
        if self.rows and self.rows[-1][0] > high:
            self.rows = self.rows[: bisect_right(self.rows, high, key=first)]
            self.ended = True

    def close(self) -> None:
        self.rows = []
        self.ended = True

    def _take(self, page: Page) -> None:
        rows = page.rows
        high = self._high
        if high is not None and rows and rows[-1][0] > high:
            rows = rows[: bisect_right(rows, high, key=first)]
            self.ended = True
        self.rows = rows
        self.seen += len(rows)
        self.problems += page.problems
        self.specials += page.specials
        self.ended = self.ended or page.last
