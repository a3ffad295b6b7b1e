"""Compare: which source rows differ from the destination's, decided page-wise at C speed and without requests.

Three answers per row: equal, copy, or *doubtful* (the listing cannot tell; a closer look decides, see
``transfer.resolve``). The rules by mode and kind of sides:

============  ==============================================================================================
mode          same size and …
============  ==============================================================================================
auto, store   equal etags → equal; two proven MD5 etags that differ → copy; else doubtful
auto, upload  file untouched (ctime, mtime) since before the object was stored → equal; else doubtful
auto, download  file mtime is the object's time, or the file was written after the object and carries an
              older mtime (as Entrepot leaves it) → equal; else doubtful
auto, local   equal mtime (at the coarser side's precision) → equal; cut to an even second → doubtful; else copy
size          equal
mtime         local: equal mtime; object sides: doubtful (the mtime kept in metadata decides)
etag          as auto for stores; with a file: doubtful (its MD5 decides)
checksum      doubtful always (contents decide)
newer         source mtime not newer → equal, whatever the size
missing       present → equal, whatever the size
always        copy
============  ==============================================================================================
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from entrepot.model.entry import Row
from entrepot.model.options import Compare
from entrepot.storage.base import Columns

Way = Literal["store", "upload", "download", "local"]
"""store: object store to object store; upload: file system to store; download: the reverse; local: files only."""

SECOND = 1_000_000_000
STEPS = (100, 1_000, 1_000_000, 10_000_000, SECOND)
FAT_STEP = 2 * SECOND

MARGIN_NS = 2 * SECOND
"""Object times have a resolution of one second at many stores, and clocks are read twice: two seconds of doubt."""

Verdict = tuple[list[Row], list[Row]]
"""(rows to copy, doubtful rows), both in key order."""

Comparer = Callable[[list[Row], dict[bytes, Row]], Verdict]


@dataclass(slots=True)
class Clock:
    """Offset of the store's clock against ours, ns (store minus local); learned from the first reply."""

    offset_ns: int = 0


def columns_for(mode: Compare, way: Way) -> Columns:
    """Which evidence the listings must carry for ``mode``."""
    return "etag" if way == "store" and mode in ("auto", "etag", "checksum") else "mtime"


def wants_changed(mode: Compare, way: Way) -> bool:
    """True when file rows must carry (mtime, ctime) instead of mtime alone."""
    return mode == "auto" and way in ("upload", "download")


def comparer(mode: Compare, way: Way, clock: Clock, *, md5_etags: bool = False) -> Comparer:
    """The comparison for one pair of sides. ``md5_etags``: both stores' plain etags are proven MD5 sums."""
    if mode == "always":
        return _always
    if mode == "missing":
        return lambda source, there: ([r for r in source if r[0] not in there], [])
    if mode == "size":
        return _size
    if mode == "newer":
        return _newer
    if mode == "checksum":
        return _doubt_same_size
    if way == "store" and mode in ("auto", "etag"):
        return _etags_proven if md5_etags else _etags
    if way == "local" and mode in ("auto", "mtime"):
        return _mtimes
    if mode == "auto" and way == "upload":
        return lambda source, there: _uploaded(source, there, clock.offset_ns)
    if mode == "auto" and way == "download":
        return lambda source, there: _downloaded(source, there, clock.offset_ns)
    return _doubt_same_size


def _always(source: list[Row], _there: dict[bytes, Row]) -> Verdict:
    return source, []


def _size(source: list[Row], there: dict[bytes, Row]) -> Verdict:
    get = there.get
    return [r for r in source if (d := get(r[0])) is None or d[2] != r[2]], []


def _doubt_same_size(source: list[Row], there: dict[bytes, Row]) -> Verdict:
    copy: list[Row] = []
    doubt: list[Row] = []
    for row in source:
        other = there.get(row[0])
        (doubt if other is not None and other[2] == row[2] else copy).append(row)
    return copy, doubt


def _newer(source: list[Row], there: dict[bytes, Row]) -> Verdict:
    get = there.get
    return [r for r in source if (d := get(r[0])) is None or _mtime(r) > _mtime(d)], []


def _mtime(row: Row) -> int:
    evidence = row[1]
    return evidence if isinstance(evidence, int) else 0


def _etags(source: list[Row], there: dict[bytes, Row]) -> Verdict:
    get = there.get
    differ = [r for r in source if get(r[0]) != r and not _same_md5(r, get(r[0]))]
    return _doubt_same_size(differ, there) if differ else ([], [])


def _etags_proven(source: list[Row], there: dict[bytes, Row]) -> Verdict:
    get = there.get
    differ = [r for r in source if get(r[0]) != r and not _same_md5(r, get(r[0]))]
    if not differ:
        return [], []
    copy, doubt = _doubt_same_size(differ, there)
    sure = [r for r in doubt if is_md5(r[1]) and is_md5(there[r[0]][1])]
    if sure:
        keys = {r[0] for r in sure}
        doubt = [r for r in doubt if r[0] not in keys]
        copy = sorted(copy + sure)
    return copy, doubt


def _same_md5(row: Row, other: Row | None) -> bool:
    """True where one store writes the MD5 in capitals and the other does not."""
    if other is None or row[2] != other[2]:
        return False
    mine, theirs = row[1], other[1]
    return is_md5(mine) and is_md5(theirs) and mine.lower() == theirs.lower()  # type: ignore[union-attr]


def is_md5(etag: object) -> bool:
    """True when an etag has the form of an MD5 sum (32 hex digits, no part count)."""
    return isinstance(etag, bytes) and len(etag) == 32 and b"-" not in etag


def _mtimes(source: list[Row], there: dict[bytes, Row]) -> Verdict:
    get = there.get
    differ = [r for r in source if get(r[0]) != r]
    copy: list[Row] = []
    doubt: list[Row] = []
    for row in differ:
        same = _same_time(row, get(row[0]))
        if same is None:
            doubt.append(row)
        elif not same:
            copy.append(row)
    return copy, doubt


def _same_time(row: Row, other: Row | None) -> bool | None:
    """Equal size, and mtimes equal at the precision of the coarser side; None when only the contents can tell.

    Steps that file systems keep times in: 100 ns, 1 µs, 1 ms, 10 ms, 1 s, and (FAT) 2 s. The last could also be a
    change within a second.
    """
    if other is None or other[2] != row[2]:
        return False
    a, b = row[1], other[1]
    if not isinstance(a, int) or not isinstance(b, int):
        return False
    apart = abs(a - b)
    if apart >= FAT_STEP:
        return False
    for step in STEPS:
        if apart < step and (a % step == 0 or b % step == 0) and a // step == b // step:
            return True
    return None if b % FAT_STEP == 0 and b <= a else False


def _uploaded(source: list[Row], there: dict[bytes, Row], offset: int) -> Verdict:
    """Source evidence is (mtime, ctime) of a file; destination evidence is the time the object was stored."""
    get = there.get
    limit = MARGIN_NS + offset
    maybe = [
        r
        for r in source
        if (d := get(r[0])) is None
        or d[2] != r[2]
        or r[1][1] > d[1] - limit  # type: ignore[index,operator]
        or r[1][0] > d[1] - limit  # type: ignore[index,operator]
    ]
    return _doubt_same_size(maybe, there) if maybe else ([], [])


def _downloaded(source: list[Row], there: dict[bytes, Row], offset: int) -> Verdict:
    """Source evidence is the time the object was stored; destination evidence is (mtime, ctime) of a file."""
    copy: list[Row] = []
    doubt: list[Row] = []
    get = there.get
    for row in source:
        other = get(row[0])
        if other is None or other[2] != row[2]:
            copy.append(row)
            continue
        stored: int = row[1]  # type: ignore[assignment]
        mtime, ctime = other[1]  # type: ignore[misc]
        if mtime // SECOND == stored // SECOND:
            continue
        if mtime < stored and ctime > stored - offset + MARGIN_NS:
            continue
        doubt.append(row)
    return copy, doubt
