"""Key lists: a sync of named keys instead of a listing. Both sides are asked about each key, nothing is listed."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator

from entrepot.model.entry import Evidence, Page, Problem, Row, Special
from entrepot.model.errors import NotFoundError, StoreError, UsageError, VanishedError
from entrepot.storage.base import Columns, Head, Lane
from entrepot.storage.posix.root import Root

WINDOW = 500


def read_keys(path: str) -> list[bytes]:
    """The keys in a file, sorted and without doubles: NUL-separated if it holds a NUL, else one a line.

    A byte-order mark and CRLF line ends are taken off; empty lines are skipped. Raises UsageError.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise UsageError(f"key list {path}: {error.strerror}") from None
    data = data.removeprefix(b"\xef\xbb\xbf")
    if b"\0" in data:
        return sorted({key for key in data.split(b"\0") if key})
    return sorted({key for line in data.split(b"\n") if (key := line.removesuffix(b"\r"))})


def within(keys: list[bytes], low: bytes, high: bytes | None) -> list[bytes]:
    """Those of ``keys`` with low < key <= high."""
    return [key for key in keys if key > low and (high is None or key <= high)]


def file_pages(root: Root, keys: list[bytes], *, changed: bool) -> Iterator[Page]:
    """Rows of those keys that are regular files below ``root``; missing ones are left out."""
    for start in range(0, len(keys), WINDOW):
        rows: list[Row] = []
        problems: list[Problem] = []
        for key in keys[start : start + WINDOW]:
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
    """A feed that asks a lane about each key of a list."""

    def __init__(self, lane: Lane, keys: list[bytes], columns: Columns, ready: Callable[[], None]) -> None:
        self.rows: list[Row] = []
        self.ended = False
        self.error: StoreError | None = None
        self.problems: list[Problem] = []
        self.specials: list[Special] = []
        self.seen = 0
        self._lane = lane
        self._keys = deque(keys)
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
            if self._keys:
                self._ask()
            else:
                self.ended = True
        return bool(self.rows) or self.ended or self.error is not None

    def cut(self, high: bytes) -> None:
        self._keys = deque(key for key in self._keys if key <= high)
        self.rows = [row for row in self.rows if row[0] <= high]
        self._got = [row for row in self._got if row[0] <= high]

    def close(self) -> None:
        self._keys.clear()

    def _ask(self) -> None:
        keys = [self._keys.popleft() for _ in range(min(WINDOW, len(self._keys)))]
        self._open += len(keys)
        for key in keys:
            self._lane.submit(Head(key, self._headed))

    def _headed(self, op: Head) -> None:
        self._open -= 1
        if op.info is not None:
            evidence = op.info.etag if self._columns == "etag" else op.info.mtime_ns
            self._got.append((op.key, evidence, op.info.size))
        elif op.error is not None and not isinstance(op.error, NotFoundError):
            self.error = op.error
        if not self._open:
            self._ready()
