"""Names: which keys the destination can hold as they are. The others fail with class ``name``, never silently merged.

Object stores: a key that is not UTF-8 or too long, and keys with empty segments where the store folds them. File
systems: an object below the name of another object (``x`` and ``x/y``): the shorter key wins, whatever comes first.
What a single path may hold is for ``storage.posix.names`` to say.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from entrepot.model.entry import Row
from entrepot.model.errors import NameNotPossibleError, StoreError
from entrepot.storage.posix.names import is_utf8, show

from .compare import Way
from .ends import End
from .job import Batch, Job

Fit = Callable[[Batch, list[Row]], list[Row]]
"""Takes rows to be copied, fails those that cannot be, answers the others."""

_ODD = re.compile(rb"[\x80-\xff\\]|//|^/|/$", re.DOTALL)
_EMPTY_SEGMENT = re.compile(rb"//|^/|\\", re.DOTALL)


def fit_of(way: Way, destination: End, *, asks: bool = True) -> Fit | None:
    """The check for this destination; None where every key has its place. ``asks``: the store may be tried out."""
    if destination.lane is not None:
        return StoreNames(destination, asks=asks).fit
    return one_of_file_and_directory if way == "download" else None


class StoreNames:
    """Keys on their way to an object store."""

    def __init__(self, destination: End, *, asks: bool) -> None:
        store = destination.store
        self._prefix = len(store.location.prefix)
        self._most = store.caps.key_max
        self._keeps: bool | None = None if asks else True
        self._ask: Callable[[], bool] = getattr(store, "keeps_empty_segments", lambda: True)

    def fit(self, batch: Batch, rows: list[Row]) -> list[Row]:
        """See :data:`Fit`."""
        odd, limit = _ODD.search, self._most - self._prefix
        doubtful = [row for row in rows if len(row[0]) > limit or odd(row[0])]
        if not doubtful:
            return rows
        refused = {row[0] for row in doubtful if self._refused(batch, row)}
        return [row for row in rows if row[0] not in refused] if refused else rows

    def _refused(self, batch: Batch, row: Row) -> bool:
        why, hint = self._fault(row)
        if why:
            _refuse(batch, row, why, hint)
        return bool(why)

    def _fault(self, row: Row) -> tuple[str, str]:
        key = row[0]
        if not is_utf8(key):
            hint = "--escape-names writes it under a reversible escaped name; or rename it (convmv)"
            return "the name is not UTF-8, and object stores take no other", hint
        if self._prefix + len(key) > self._most:
            return f"the key is too long ({self._prefix + len(key)} of {self._most} bytes)", "shorten the path"
        if (_EMPTY_SEGMENT.search(key) or (key.endswith(b"/") and row[2])) and not self._keeps_empty():
            hint = "the store would keep it under another name, where another object may lie; rename it"
            return "this store does not keep empty segments of keys (//), nor backslashes", hint
        return "", ""

    def _keeps_empty(self) -> bool:
        if self._keeps is None:
            try:
                self._keeps = self._ask()
            except StoreError:
                return False
        return self._keeps


def one_of_file_and_directory(batch: Batch, rows: list[Row]) -> list[Row]:
    """Rows come in key order, so the objects that a key lies below are the last ones that it begins with."""
    above = batch.above
    refused: list[Row] = []
    for row in rows:
        key = row[0]
        while above and not key.startswith(above[-1]):
            above.pop()
        if any(key[len(name)] == 47 for name in above if len(key) > len(name)):
            refused.append(row)
        elif key[-1:] != b"/":
            above.append(key)
    if not refused:
        return rows
    for row in refused:
        hint = "a file and a directory of one name cannot both exist; rename one of the two"
        _refuse(batch, row, "it lies below a key that is an object itself", hint)
    gone = {row[0] for row in refused}
    return [row for row in rows if row[0] not in gone]


def _refuse(batch: Batch, row: Row, why: str, hint: str) -> None:
    name = show(row[0])
    error = NameNotPossibleError(f"{name}: {why}", subject=name, hint=hint)
    batch.failed(Job(row[0], row[1], row[2], batch), error)
