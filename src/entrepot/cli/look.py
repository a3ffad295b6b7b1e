"""Looking at a place: one level of it, or everything below it; stores and directories alike."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

from entrepot.model.entry import Row
from entrepot.model.errors import ForbiddenError, NotFoundError, PlaceError
from entrepot.model.location import Location

from .places import open_store, read_place
from .terminal import warn
from .words import key_text


@dataclass(slots=True)
class Level:
    """Part of one level: entries, sub-prefixes ending in ``/``, and what is neither (name, kind)."""

    rows: list[Row]
    prefixes: list[bytes]
    specials: list[tuple[bytes, str]] = field(default_factory=list)


class Look(Protocol):
    """A place to look at. Keys are relative to it."""

    def level(self) -> Iterator[Level]:
        """One level, in pieces."""
        ...

    def rows(self) -> Iterator[list[Row]]:
        """Every entry below, sorted, in pieces."""
        ...

    def totals(self) -> tuple[int, int]:
        """(entries, bytes) below."""
        ...


def look_at(text: str) -> Look:
    """Open a place for reading. Raises PlaceError when nothing is there."""
    location = read_place(text)
    if location.is_file:
        return _local(location, text)
    return _Remote(location, text)


def _local(location: Location, text: str) -> Look:
    path = location.prefix
    try:
        found = os.stat(path)
    except OSError as fault:
        raise PlaceError(f"{text}: {(fault.strerror or 'cannot be read').lower()}") from None
    if os.path.isdir(path):
        return _Directory(path)
    return _One((os.path.basename(path), found.st_mtime_ns, found.st_size))


class _Counted:
    """Counts by going through all rows."""

    def rows(self) -> Iterator[list[Row]]:
        """See ``Look``."""
        raise NotImplementedError

    def totals(self) -> tuple[int, int]:
        """See ``Look``."""
        entries = size = 0
        for rows in self.rows():
            entries += len(rows)
            size += sum([row[2] for row in rows])
        return entries, size


class _One(_Counted):
    """A place that is one entry."""

    def __init__(self, row: Row) -> None:
        self._row = row

    def level(self) -> Iterator[Level]:
        yield Level([self._row], [])

    def rows(self) -> Iterator[list[Row]]:
        yield [self._row]


class _Directory(_Counted):
    def __init__(self, path: bytes) -> None:
        self._path = path

    def level(self) -> Iterator[Level]:
        level = Level([], [])
        try:
            with os.scandir(self._path) as found:
                for entry in found:
                    _sort_in(entry, level)
        except PermissionError:
            raise ForbiddenError(f"{key_text(self._path)}: permission denied") from None
        level.rows.sort()
        level.prefixes.sort()
        level.specials.sort()
        yield level

    def rows(self) -> Iterator[list[Row]]:
        from entrepot.storage.posix.walk import walk

        for page in walk(self._path):
            for problem in page.problems:
                warn(f"{key_text(problem.prefix)}: {problem.message}")
            yield page.rows


def _sort_in(entry: os.DirEntry[bytes], level: Level) -> None:
    try:
        if entry.is_symlink():
            level.specials.append((entry.name, "symlink"))
        elif entry.is_dir(follow_symlinks=False):
            level.prefixes.append(entry.name + b"/")
        elif entry.is_file(follow_symlinks=False):
            found = entry.stat(follow_symlinks=False)
            level.rows.append((entry.name, found.st_mtime_ns, found.st_size))
        else:
            level.specials.append((entry.name, "special"))
    except FileNotFoundError:
        pass


class _Remote(_Counted):
    """A store. What was typed may be a prefix, a single object, or nothing."""

    def __init__(self, location: Location, text: str) -> None:
        self._location = location
        self._text = text
        self._store = open_store(location)

    def level(self) -> Iterator[Level]:
        empty = True
        for rows, prefixes in self._store.children(b""):
            if rows or prefixes:
                empty = False
                yield Level(rows, prefixes)
        if empty:
            for rows in self._instead():
                yield Level(rows, [])

    def rows(self) -> Iterator[list[Row]]:
        empty = True
        for page in self._store.pages():
            if page.rows:
                empty = False
                yield page.rows
        if empty:
            yield from self._instead()

    def totals(self) -> tuple[int, int]:
        """By many listing chains at once where the store is far: order does not matter here."""
        from entrepot.transfer.survey import survey

        counts = [0, 0]

        def take(rows: list[Row]) -> None:
            counts[0] += len(rows)
            counts[1] += sum([row[2] for row in rows])

        survey(self._store, take)
        return (counts[0], counts[1]) if counts[0] else super().totals()

    def _instead(self) -> Iterator[list[Row]]:
        """Nothing below the prefix: the object of that name, or a clear word."""
        name = self._location.prefix.rstrip(b"/")
        if not name:
            self._store.check()
            return
        above, _, last = name.rpartition(b"/")
        store = open_store(_above(self._location, above))
        try:
            info = store.head(last)
        except NotFoundError:
            raise PlaceError(f"{self._text}: nothing is there", hint="a place is a prefix or a whole key") from None
        yield [(last, info.mtime_ns, info.size)]


def _above(location: Location, prefix: bytes) -> Location:
    from dataclasses import replace

    return replace(location, prefix=prefix + b"/" if prefix else b"")
