"""Sorted pages from a store that lists directory by directory: level by level, directories put in their place.

Such a store (SeaweedFS) orders the names of a directory without the slash that directories end in: ``a/`` comes
before ``a-b``, though its keys sort behind. Each directory is held back until the names have passed it, so
memory holds one page of every level above and the few directories that wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator

from entrepot.model.entry import Page, Row
from entrepot.model.errors import CorruptError

PAGE_ROWS = 1000
Levels = Callable[[bytes], Iterator[tuple[list[Row], list[bytes]]]]
"""One level below a prefix: (rows, sub-prefixes ending in ``/``) per page, keys whole below the location."""


def walk(levels: Levels, after: bytes = b"") -> Iterator[Page]:
    """All rows behind ``after`` in the byte order of keys; the last page is marked as such.

    Raises CorruptError when the levels themselves are out of order.
    """
    rows: list[Row] = []
    former = None
    for row in _below(levels, b"", after):
        if former is not None and row[0] <= former:
            raise CorruptError(
                f"the listing is out of order: {row[0][:80]!r} comes after {former[:80]!r}",
                hint="the store sorts neither keys nor the names of a directory",
            )
        former = row[0]
        rows.append(row)
        if len(rows) == PAGE_ROWS:
            yield Page(rows)
            rows = []
    yield Page(rows, last=True)


def _below(levels: Levels, prefix: bytes, after: bytes) -> Iterator[Row]:
    waiting: list[tuple[bytes, bool, Row]] = []
    for rows, prefixes in levels(prefix):
        for row in rows:
            heapq.heappush(waiting, (row[0], False, row))
        for name in prefixes:
            heapq.heappush(waiting, (name, True, (name, b"", 0)))
        # What follows has a greater bare name than all of this page.
        passed = max([row[0] for row in rows[-1:]] + [name[:-1] for name in prefixes[-1:]], default=b"")
        while waiting and waiting[0][0] <= passed:
            yield from _entry(levels, *heapq.heappop(waiting), after=after)
    while waiting:
        yield from _entry(levels, *heapq.heappop(waiting), after=after)


def _entry(levels: Levels, name: bytes, is_level: bool, row: Row, *, after: bytes) -> Iterator[Row]:
    if not is_level:
        if name > after or not after:
            yield row
    elif name > after or after.startswith(name):
        yield from _below(levels, name, after)
