"""Copies between file systems: no lane, each file is copied inside one call, in slices of a few milliseconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable

from entrepot.model.entry import Row, Special
from entrepot.model.errors import ChangedError, StoreError
from entrepot.model.options import SyncOptions
from entrepot.storage.posix.attributes import copy_link, finish_directories, make_directory
from entrepot.storage.posix.copy import SMALL, copy_file
from entrepot.storage.posix.links import Links
from entrepot.storage.posix.quick import Quick
from entrepot.storage.posix.root import Root
from entrepot.storage.posix.staging import Staging
from entrepot.transfer.access import Access
from entrepot.transfer.job import Batch, Job
from entrepot.transfer.rates import Throttle

SLICE = 0.02
"""Seconds of copying between two looks at everything else."""

CAREFUL = 64
"""Rows copied one by one after one that the quick way could not begin with."""

PULSE = 2.0
"""Seconds of one long file between two heartbeats."""


class LocalMover:
    """Implements ``Mover`` for file system to file system."""

    def __init__(
        self,
        source: Root,
        staging: Staging | None,
        options: SyncOptions,
        clock: Callable[[], float],
        links: Links | None,
        throttle: Throttle | None,
    ) -> None:
        self._source = source
        self._staging = staging
        self._preserve = frozenset(options.preserve)
        self._clock = clock
        self._links = links
        self._throttle = throttle
        self._quick = _quick(source, staging, self._preserve, links)
        self._careful = 0
        self._pending: deque[tuple[Batch, deque[Row]]] = deque()
        self._backlog = 0
        self._moved = 0
        self._pulsed = clock()
        self.access = Access()
        self.pulse: Callable[[], None] | None = None
        """Called now and then inside a long copy; may raise StoreError to give up."""

    def offer(self, batch: Batch, rows: list[Row]) -> None:
        self._pending.append((batch, deque(rows)))
        self._backlog += len(rows)

    @property
    def backlog(self) -> int:
        return self._backlog

    @property
    def busy(self) -> bool:
        return False

    def work(self) -> bool:
        """Copy for about SLICE seconds."""
        pending, clock = self._pending, self._clock
        until = clock() + SLICE
        began = False
        while pending:
            batch, rows = pending[0]
            if batch.dropped or not rows:
                self._backlog -= len(rows)
                pending.popleft()
                continue
            began = True
            while rows:
                self._hurry(batch, rows, until)
                if rows and clock() < until:
                    self._backlog -= 1
                    self._copy(batch, rows.popleft())
                if clock() >= until or self.access.lost is not None:
                    return True
        if self.access.held:
            self.access.settle()
        return began

    def _hurry(self, batch: Batch, rows: deque[Row], until: float) -> None:
        """Copy the small files that come first, where nothing about them asks for more care."""
        if self._careful:
            self._careful -= 1
            return
        if self._quick is None or self._throttle is not None or self.access.held or rows[0][2] > SMALL:
            return
        done = self._quick.copy(rows, until, self._clock)
        if not done:
            self._careful = CAREFUL
            return
        self._backlog -= len(done)
        batch.open -= len(done)
        batch.totals.copied += len(done)
        batch.totals.copied_bytes += sum([row[2] for row in done])
        if batch.lines is not None:
            batch.lines += [(row[0], "copied", row[2], "size", "") for row in done]

    def _copy(self, batch: Batch, row: Row) -> None:
        try:
            size = self._copy_one(row)
        except ChangedError:
            self._copy_again(batch, row)
        except StoreError as error:
            job = Job(row[0], row[1], row[2], batch)
            if not self.access.refused(job, error):
                batch.failed(job, error)
        else:
            self._count(batch, row, size)

    def _copy_one(self, row: Row) -> int:
        assert self._staging is not None
        long = row[2] > SMALL
        self._moved = 0
        try:
            return copy_file(
                self._source,
                self._staging,
                row[0],
                row,
                self._preserve,
                links=self._links,
                progress=self._progress if long else None,
            )
        finally:
            if self._throttle is not None and not long:
                self._throttle.spend(row[2])
            self._moved = 0

    def _copy_again(self, batch: Batch, row: Row) -> None:
        """The file changed since it was listed: once more as it is now (fault case 34)."""
        try:
            state = self._source.lstat(row[0])
            again: Row = (row[0], state.st_mtime_ns, state.st_size)
            self._copy_one(again)
        except StoreError as error:
            job = Job(row[0], row[1], row[2], batch)
            job.attempts = 1
            batch.failed(job, error)
        else:
            self._count(batch, row, again[2])

    def _count(self, batch: Batch, row: Row, _size: int) -> None:
        if self.access.held:
            self.access.fine()
        batch.open -= 1
        totals = batch.totals
        totals.copied += 1
        totals.copied_bytes += row[2]
        if batch.lines is not None:
            batch.lines.append((row[0], "copied", row[2], "size", ""))

    def _progress(self, count: int) -> None:
        self._moved += count
        if self._throttle is not None:
            self._throttle.spend(count)
        now = self._clock()
        if self.pulse is not None and now - self._pulsed >= PULSE:
            self._pulsed = now
            self.pulse()

    # -- what is no file -------------------------------------------------------------------------------------------

    def special(self, special: Special) -> bool:
        """Copy a symbolic link or make a directory. True when something was made. Raises StoreError."""
        assert self._staging is not None
        if special.kind == "symlink":
            return copy_link(self._source, self._staging, special.key, self._preserve)
        if special.kind == "directory":
            make_directory(self._staging.root, special.key)
        return False

    def finish(self, directories: list[bytes]) -> list[StoreError]:
        """Give directories whose content is complete their mode, owner and times."""
        assert self._staging is not None
        return finish_directories(self._source, self._staging.root, directories, self._preserve)

    def drain(self, stop: str) -> None:
        self._pending.clear()
        self._backlog = 0

    def limit(self, rate: int) -> None:
        """Change the limit of bytes/s; 0 = none."""
        self._throttle = Throttle(rate, self._clock, time.sleep) if rate else None

    def forget(self, batch: Batch) -> None:
        """Pending rows of a dropped batch are passed over when their turn comes."""

    def live_bytes(self) -> int:
        return self._moved

    def close(self) -> None:
        if self._links is not None:
            self._links.close(remove=False)


def _quick(source: Root, staging: Staging | None, preserve: frozenset[str], links: Links | None) -> Quick | None:
    """The quick way, where what is to be kept allows it."""
    if staging is None or preserve & {"owner", "xattr"}:
        return None
    return Quick(source, staging, mtime="mtime" in preserve, mode="mode" in preserve, links=links is not None)
