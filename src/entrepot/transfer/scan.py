"""Scan: one shard's merge of two sorted feeds into jobs, doubtful rows and doomed entries, with its cursor.

O(1) memory: at most two pages a side and the open batches. A destination entry is doomed only while the source feed
is in order and readable around it; a feed that fails makes the whole range fail, and its doomed entries void.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Iterator
from operator import itemgetter
from typing import Literal, Protocol

from entrepot.model.entry import Problem, Row, Special
from entrepot.model.errors import NotFoundError, QuotaError, StoreError
from entrepot.model.shard import Doomed, Failure, Progress, Shard
from entrepot.model.totals import Totals

from .compare import Comparer
from .filters import Filter
from .job import Batch, Job, Outcome
from .listing import Feed, first
from .report import Segment

size_of = itemgetter(2)

Extra = Literal["leave", "doom", "tell"]
"""leave: not looked at; doom: journaled for deletion; tell: a difference (verify)."""

Emit = Callable[[Batch, list[Row], list[Row]], None]
"""Takes (batch, rows to copy, doubtful rows) of one merged piece."""

FAILURES_KEPT = 1000
PIECE = 256
"""Entries that become one batch where much has to move: what a stopped run has on record."""


class SpecialMover(Protocol):
    """What copies symbolic links and directories (between file systems)."""

    def special(self, special: Special) -> bool:
        """True when something was made. Raises StoreError."""
        ...

    def finish(self, directories: list[bytes]) -> list[StoreError]:
        """Give directories whose content is complete their attributes."""
        ...


class Rules:
    """What a scan needs to know of the options, joined once per session."""

    __slots__ = ("compare", "destination_filter", "emit", "extra", "segments", "select", "source_filter", "specials")

    def __init__(
        self,
        compare: Comparer,
        emit: Emit,
        *,
        extra: Extra,
        source_filter: Filter,
        destination_filter: Filter,
        select: Callable[[list[Row]], list[Row]] | None,
        segments: Callable[[Shard], Segment] | None = None,
        specials: SpecialMover | None = None,
    ) -> None:
        self.compare = compare
        self.emit = emit
        self.extra = extra
        """What happens to entries that only the destination has."""
        self.source_filter = source_filter
        self.destination_filter = destination_filter
        self.select = select
        """Drops rows by size or time from those to be copied (they stay known, so nothing of them is doomed)."""
        self.segments = segments
        """Opens the report segment of a shard, when a report is wanted."""
        self.specials = specials
        """Takes symbolic links and directories, where the way has a place for them."""


class Scan:
    """The work on one leased shard."""

    def __init__(self, shard: Shard, source: Feed, destination: Feed, rules: Rules) -> None:
        self.shard = shard
        self.high = shard.high
        self.cursor = shard.cursor
        self.totals = Totals()
        self.totals.add(shard.totals)
        self.merged = shard.cursor
        """Everything at or below is handed out (not yet all done)."""
        self.error: StoreError | None = None
        self.source_ended = False
        self._source = source
        self._destination = destination
        self._rules = rules
        self._batches: deque[Batch] = deque()
        self._failures: list[Failure] = []
        self._doomed: list[Doomed] = []
        self._warnings: list[str] = []
        self._above: list[bytes] = []
        self._much_moves = True
        self._directories: list[bytes] = []
        self._problems_told = 0
        self._specials_told = 0
        self._segment = rules.segments(shard) if rules.segments is not None else None

    # -- merging ---------------------------------------------------------------------------------------------------

    @property
    def merging(self) -> bool:
        """True while rows are still to come."""
        return not self.source_ended and self.error is None

    @property
    def finished(self) -> bool:
        """True when the range has ended (or failed) and nothing of it is in flight."""
        return not self.merging and all(batch.open == 0 for batch in self._batches)

    def step(self) -> bool:
        """Merge one piece. False when an answer is awaited or nothing is left."""
        if not self.merging:
            return False
        source, destination = self._source, self._destination
        ready_source, ready_destination = source.fill(), destination.fill()
        for feed in (source, destination):
            if feed.error is not None and not feed.rows:
                self._fail(feed.error)
                return False
        if not (ready_source and ready_destination):
            return False
        for mine, theirs, upper in self._pieces(*self._portion()):
            self._merge(mine, theirs, upper)
        if source.ended and destination.ended and not source.rows and not destination.rows:
            self.source_ended = True
            self._tell_problems()
        return True

    def _portion(self) -> tuple[list[Row], list[Row], bytes]:
        """Take from both windows all rows up to the key that both feeds have reached."""
        source, destination = self._source, self._destination
        mine, theirs = source.rows, destination.rows
        bound_mine = None if source.ended else mine[-1][0]
        bound_theirs = None if destination.ended else theirs[-1][0]
        if bound_mine is None or (bound_theirs is not None and bound_theirs < bound_mine):
            bound = bound_theirs
        else:
            bound = bound_mine
        if bound is None:
            source.rows, destination.rows = [], []
        else:
            mine, source.rows = _cut(mine, bound)
            theirs, destination.rows = _cut(theirs, bound)
        tail = max(mine[-1][0] if mine else b"", theirs[-1][0] if theirs else b"")
        return mine, theirs, bound if bound is not None else tail

    def _pieces(self, mine: list[Row], theirs: list[Row], upper: bytes) -> Iterator[tuple[list[Row], list[Row], bytes]]:
        """The portion in pieces, where much of it moves: the cursor rises with each piece that is done."""
        start = 0
        while self._much_moves and len(mine) - start > 2 * PIECE:
            part = mine[start : start + PIECE]
            bound = part[-1][0]
            below, theirs = _cut(theirs, bound)
            start += PIECE
            yield part, below, bound
        yield (mine[start:] if start else mine), theirs, upper

    def _merge(self, mine: list[Row], theirs: list[Row], upper: bytes) -> None:
        rules = self._rules
        if self._source.problems or self._source.specials:
            self._tell_problems()
        if rules.source_filter:
            mine = rules.source_filter.rows(mine)
        if rules.destination_filter:
            theirs = rules.destination_filter.rows(theirs)
        batch = Batch(max(upper, self.merged))
        batch.above = self._above
        if rules.segments is not None:
            batch.lines = []
        self._batches.append(batch)
        self.merged = batch.upper
        totals = batch.totals
        totals.total = len(mine)
        totals.total_bytes = everything = sum(map(size_of, mine))
        copy: list[Row]
        doubt: list[Row]
        if not theirs:
            copy, doubt = mine, []
        else:
            copy, doubt = rules.compare(mine, {row[0]: row for row in theirs})
        touched = len(copy) + len(doubt)
        self._much_moves = touched > len(mine) // 4
        touched_bytes = sum(map(size_of, copy)) + sum(map(size_of, doubt)) if touched else 0
        totals.equal = len(mine) - touched
        totals.equal_bytes = everything - touched_bytes
        if rules.select is not None and touched:
            copy, doubt = self._select(batch, copy, doubt)
        if rules.extra == "tell" and copy:
            copy = _tell_missing(batch, copy, {row[0] for row in theirs})
        if rules.extra != "leave" and theirs:
            self._take_extras(batch, mine, theirs)
        if rules.segments is not None:
            told = {line[0] for line in batch.lines or []}
            batch.lines = (batch.lines or []) + _equal_lines(mine, copy, doubt, told)
            batch.lines += [(d.key, "extra", d.size, "", "") for d in batch.doomed]
        if copy or doubt:
            batch.open += len(copy) + len(doubt)
            rules.emit(batch, copy, doubt)

    def _select(self, batch: Batch, copy: list[Row], doubt: list[Row]) -> tuple[list[Row], list[Row]]:
        assert self._rules.select is not None
        kept_copy, kept_doubt = self._rules.select(copy), self._rules.select(doubt)
        batch.totals.skipped += len(copy) + len(doubt) - len(kept_copy) - len(kept_doubt)
        before = sum(map(size_of, copy)) + sum(map(size_of, doubt))
        batch.totals.skipped_bytes += before - sum(map(size_of, kept_copy)) - sum(map(size_of, kept_doubt))
        return kept_copy, kept_doubt

    def _take_extras(self, batch: Batch, mine: list[Row], theirs: list[Row]) -> None:
        here = {row[0] for row in mine}
        extra = [row for row in theirs if row[0] not in here]
        if not extra:
            return
        if self._rules.extra == "tell":
            for key, evidence, size in extra:
                batch.open += 1
                missing = NotFoundError(f"{key!r} is at the destination only", subject=repr(key))
                batch.failed(Job(key, evidence, size, batch), missing)
            return
        hidden = [problem.prefix for problem in self._source.problems]
        for key, evidence, size in extra:
            if not any(key.startswith(prefix) for prefix in hidden):
                batch.doomed.append(Doomed(key, evidence, size))

    def _tell_problems(self) -> None:
        source = self._source
        for problem in source.problems[self._problems_told :]:
            self._note(problem)
        self._problems_told = len(source.problems)
        for special in source.specials[self._specials_told :]:
            self._take_special(special)
        self._specials_told = len(source.specials)

    def _take_special(self, special: Special) -> None:
        rules, kind = self._rules, special.kind
        if rules.source_filter and not rules.source_filter.allows(special.key):
            return
        if kind == "directory":
            if rules.specials is not None:
                self._directories.append(special.key)
                self._do_special(special)
            return
        self.totals.total += 1
        if kind == "symlink" and rules.specials is not None:
            if self._do_special(special):
                self.totals.copied += 1
            elif not self._failures or self._failures[-1].key != special.key:
                self.totals.equal += 1
            return
        self.totals.skipped += 1
        if kind != "symlink-skipped":
            self._warnings.append(f"{special.key!r} is a {kind}: skipped")

    def _do_special(self, special: Special) -> bool:
        assert self._rules.specials is not None
        try:
            return self._rules.specials.special(special)
        except QuotaError:
            raise  # where no directory can be made, nothing else can
        except StoreError as error:
            self.totals.failed += 1
            self._failures.append(Failure(special.key, error.failure.value, error.message, 1, 0))
            return False

    def _finish_directories(self) -> None:
        """Those that lie wholly below the cursor; the ones that reach over the range's end wait for the task's."""
        if not self._directories or self._rules.specials is None:
            return
        ended = not self.merging and not self._batches
        cursor = self.cursor
        done = [d for d in self._directories if (ended or d <= cursor) and not cursor.startswith(d)]
        if ended:
            high = self.high
            done = [d for d in self._directories if high is None or not high.startswith(d)]
            self._directories = []
        else:
            gone = set(done)
            self._directories = [d for d in self._directories if d not in gone]
        for error in self._rules.specials.finish(done) if done else ():
            self._warnings.append(error.message)

    def _note(self, problem: Problem) -> None:
        if problem.failure == "vanished":
            self._warnings.append(f"{problem.prefix!r} vanished during the walk")
            return
        self.totals.failed += 1
        self._failures.append(Failure(problem.prefix, problem.failure, problem.message, 1, 0))

    def _fail(self, error: StoreError | None) -> None:
        assert error is not None
        self.error = error
        self.totals.failed += 1
        self._failures.append(Failure(self.merged, error.failure.value, error.message, 1, 0))

    # -- progress --------------------------------------------------------------------------------------------------

    def progress(self) -> Progress:
        """Move the cursor past the batches that are done, and tell what happened since the last call."""
        batches = self._batches
        while batches and batches[0].open == 0:
            batch = batches.popleft()
            self.cursor = batch.upper
            self.totals.add(batch.totals)
            self._failures += batch.failures
            self._doomed += batch.doomed
            if self._segment is not None and batch.lines:
                self._segment.write(batch.lines)
        self._finish_directories()
        if self._segment is not None:
            self._segment.flush()
        progress = Progress(
            self.shard.id,
            self.shard.fence,
            self.cursor,
            self.totals,
            failed=self.error is not None,
            destination_entries=self._destination.seen,
            failures=self._failures,
            doomed=self._doomed,
            warnings=self._warnings[:FAILURES_KEPT],
        )
        self._failures, self._doomed, self._warnings = [], [], []
        return progress

    def live(self, totals: Totals) -> None:
        """Add what has happened in open batches (for display: not yet durable)."""
        for batch in self._batches:
            totals.add(batch.totals)

    @property
    def seen(self) -> int:
        """Source entries listed so far."""
        return self._source.seen

    @property
    def fetched(self) -> bytes:
        """The highest source key that was listed, or the merge's bound."""
        rows = self._source.rows
        return max(self.merged, rows[-1][0] if rows else b"")

    # -- range -----------------------------------------------------------------------------------------------------

    def cut(self, high: bytes) -> None:
        """Give up the keys above ``high`` (another shard has them now)."""
        self.high = high
        self._source.cut(high)
        self._destination.cut(high)

    def drop(self) -> list[Batch]:
        """The lease is lost: nothing of this shard may have further effects. Answers the batches concerned."""
        for batch in self._batches:
            batch.dropped = True
        self.close()
        return list(self._batches)

    def close(self) -> None:
        """Close the feeds."""
        self._source.close()
        self._destination.close()
        if self._segment is not None:
            self._segment.close()


def _tell_missing(batch: Batch, copy: list[Row], there: set[bytes]) -> list[Row]:
    """Verify: tell the rows that the destination lacks; the others remain to be told as different."""
    for key, evidence, size in copy:
        if key not in there:
            batch.open += 1
            missing = NotFoundError(f"{key!r} is missing at the destination", subject=repr(key))
            batch.failed(Job(key, evidence, size, batch), missing)
    return [row for row in copy if row[0] in there]


def _equal_lines(mine: list[Row], copy: list[Row], doubt: list[Row], told: set[bytes]) -> list[Outcome]:
    touched = told | {row[0] for row in copy}
    touched.update(row[0] for row in doubt)
    return [(key, "equal", size, "listing", "") for key, _, size in mine if key not in touched]


def _cut(rows: list[Row], bound: bytes) -> tuple[list[Row], list[Row]]:
    if not rows or rows[-1][0] <= bound:
        return rows, []
    at = bisect_right(rows, bound, key=first)
    return rows[:at], rows[at:]
