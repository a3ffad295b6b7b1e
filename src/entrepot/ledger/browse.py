"""Lists of tasks, newest first, that stay quick among a million: pages by number with a total, and pages by mark.

How many tasks there are by scope, family, type and state is kept in ``task_count``, so it is known without looking.
A filter that leaves few tasks has all their ids read and sorted; one that leaves many walks along an index from the
nearer end, and what it must leave out on the way is little. The first and the last pages cost the same everywhere;
a page in the middle of N tasks walks up to N/2 entries of an index (about 0.1 s for N of a million). Where a name,
a creator or a time leaves more than ``FEW`` tasks, counting them takes longer than showing a page of them: such a
count is remembered for a hundred times as long as it took (``Counts``), a minute at most.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from .database import Connection, LedgerError, Row
from .narrow import Conditions, Filter, seen
from .pool import LedgerPool

__all__ = ["Counts", "Filter", "Page", "by_mark", "by_number"]

FEW = 5000
"""So many ids are read and sorted at once."""
SOME = 100_000
"""So many are looked at one by one rather than all names."""
STREAMS = 40
"""So many pieces of an index are walked side by side."""
PRICE = 100.0
LONGEST = 60.0
"""Seconds that a count is remembered at most."""
REMEMBERED = 1000

_SIZES = "SELECT count(*) AS cells, coalesce(sum(tasks), 0) AS tasks FROM task_count WHERE tasks > 0 AND {cells}"
_CELLS = "SELECT scope, family, type, state FROM task_count WHERE tasks > 0 AND {cells}"

_BY_CREATOR = "SELECT count(*) FROM (SELECT 1 FROM task WHERE creator = :creator AND family <> '' LIMIT :limit) AS seen"

# CROSS JOIN keeps the order of tables, also in SQLite.
_FEW_BY_CELL = """SELECT task.id FROM task_count CROSS JOIN task WHERE task_count.tasks > 0 AND {cells}
    AND task.scope = task_count.scope AND task.family = task_count.family
    AND task.type = task_count.type AND task.state = task_count.state AND task.parent = '' AND {rest}"""
_FEW_BY_CREATOR = """SELECT task.id FROM task WHERE task.creator = :creator AND task.parent = ''
    AND {fixed} AND {states} AND {rest}"""
_BY_NAME = "SELECT {what} FROM task_label WHERE {found} AND {fixed} AND {named}"
_BY_NAME_NOW = """SELECT {what} FROM task_label CROSS JOIN task WHERE {found} AND {fixed} AND {named}
    AND task.id = task_label.task_id AND {states} AND {dated}"""

_STREAM = "SELECT id FROM task WHERE {cell} AND {rest}"
_ALL = "SELECT id FROM task WHERE task.parent = '' AND {fixed} AND {states} AND {rest}"

_BARE = " || ''"
"""Behind a column: no index on it is tempting."""

_Query = tuple[str, Conditions]


@dataclass(slots=True, frozen=True)
class Page:
    """Rows in the order of the list. ``mark`` continues after the last one (empty: there are no more)."""

    rows: Sequence[Row]
    total: int = 0
    mark: str = ""


class Counts:
    """Counts that were dear, remembered for a while; many threads may ask.

    A number that is due to be counted anew is answered once more while a thread of its own counts; only who asks for
    the first time, or for the first time in long, waits.
    """

    def __init__(self, ledger: LedgerPool, clock: Callable[[], float] = time.monotonic) -> None:
        self._ledger = weakref.ref(ledger)
        self._clock = clock
        self._lock = threading.Lock()
        self._known: dict[Filter, _Known] = {}

    def of(self, wanted: Filter, count: Callable[[], int]) -> int:
        """The remembered number, or ``count()``."""
        now = self._clock()
        with self._lock:
            known = self._known.get(wanted)
            if known is not None and now < known.until + LONGEST:
                if now >= known.until and not known.counting:
                    known.counting = True
                    threading.Thread(target=self._again, args=(wanted,), daemon=True).start()
                return known.number
        return self._counted(wanted, count)

    def _counted(self, wanted: Filter, count: Callable[[], int]) -> int:
        begun = self._clock()
        number = count()
        end = self._clock()
        with self._lock:
            while len(self._known) >= REMEMBERED:
                self._known.pop(next(iter(self._known)))
            self._known[wanted] = _Known(number, end + min((end - begun) * PRICE, LONGEST))
        return number

    def _again(self, wanted: Filter) -> None:
        ledger = self._ledger()
        try:
            if ledger is not None:
                with ledger.read() as connection:
                    self._counted(wanted, _Browser(connection, wanted).count)
        except LedgerError:
            # Who asks next tries again, or counts himself after a while.
            with self._lock:
                known = self._known.get(wanted)
                if known is not None:
                    known.counting = False


@dataclass(slots=True)
class _Known:
    number: int
    until: float
    counting: bool = False


def by_number(
    connection: Connection, wanted: Filter, number: int, size: int, *, columns: str = "task.*", counts: Counts
) -> Page:
    """Page ``number`` (from 1) of ``size`` tasks, and how many tasks there are. Beyond the end it is empty."""
    browser = _Browser(connection, wanted)
    offset = (max(number, 1) - 1) * size
    few, total = browser.few(counts)
    if few is not None:
        return Page(_rows(connection, few[offset : offset + size], columns), len(few))
    if offset >= total:
        return Page((), total)
    if offset <= total // 2:
        ids = browser.walk("DESC", size, offset)
    else:
        # The nearer end is the other one.
        ids = browser.walk("ASC", min(size, total - offset), max(total - offset - size, 0))[::-1]
    return Page(_rows(connection, ids, columns), total)


def by_mark(
    connection: Connection,
    wanted: Filter,
    mark: str,
    size: int,
    *,
    columns: str = "task.*",
    counts: Counts,
    oldest_first: bool = False,
) -> Page:
    """The ``size`` tasks after ``mark`` (the last id of the former page; empty: from the first), and the total."""
    browser = _Browser(connection, wanted)
    few, total = browser.few(counts)
    if few is not None and oldest_first:
        ids = [one for one in reversed(few) if one > mark][: size + 1]
    elif few is not None:
        ids = [one for one in few if not mark or one < mark][: size + 1]
    elif oldest_first:
        ids = browser.walk("ASC", size + 1, 0, after=mark)
    else:
        ids = browser.walk("DESC", size + 1, 0, before=mark)
    more = len(ids) > size
    ids = ids[:size]
    return Page(_rows(connection, ids, columns), total if few is None else len(few), ids[-1] if more else "")


class _Browser:
    """One request for a page: how many tasks are in question, and the cheapest way to them."""

    def __init__(self, connection: Connection, wanted: Filter) -> None:
        self._connection = connection
        self._wanted = wanted
        about = Conditions(wanted)
        found = connection.first(_SIZES.format(cells=about.cells("task_count")), about.values)
        self._cells, self.kept = (int(found.cells), int(found.tasks)) if found is not None else (0, 0)

    def few(self, counts: Counts) -> tuple[list[str] | None, int]:
        """The ids of all wanted tasks, newest first, when they are few; else None and their number."""
        if self.kept == 0:
            return [], 0
        query = self._few_by_filing() or self._few_by_name() or self._few_by_creator()
        if query is None:
            total = self.kept if self._wanted.by_cell else counts.of(self._wanted, self.count)
            if total > FEW or not self._wanted.text:
                return None, total
            # Many have the grams, or there are none to look for, and yet few have the text.
            query = self._named("1 = 1")
        sql, about = query
        ids = sorted(self._connection.column(sql, about.values), reverse=True)
        return ids, len(ids)

    def _few_by_filing(self) -> _Query | None:
        if self.kept > FEW or (self._wanted.by_cell and self._cells <= STREAMS):
            return None
        about = Conditions(self._wanted)
        return _FEW_BY_CELL.format(cells=about.cells("task_count"), rest=about.rest()), about

    def _few_by_name(self) -> _Query | None:
        if not self._wanted.text:
            return None
        about = Conditions(self._wanted)
        found = about.found(self._connection)
        if not found or seen(self._connection, about, FEW + 1) > FEW:
            return None
        return self._named(found, about)

    def _few_by_creator(self) -> _Query | None:
        if not self._wanted.creator:
            return None
        limit = {"creator": self._wanted.creator, "limit": FEW + 1}
        if int(self._connection.value(_BY_CREATOR, limit)) > FEW:
            return None
        about = Conditions(self._wanted)
        fixed, states = about.fixed("task", _BARE), about.among_states(_BARE)
        return _FEW_BY_CREATOR.format(fixed=fixed, states=states, rest=about.rest()), about

    def _named(self, found: str, about: Conditions | None = None, *, count: bool = False) -> _Query:
        """By the table of names; ``found`` is what is known about grams."""
        about = about or Conditions(self._wanted)
        parts = {"found": found, "fixed": about.fixed("task_label"), "named": about.named()}
        if self._wanted.states or self._wanted.dated:
            shape = _BY_NAME_NOW
            parts |= {"states": about.among_states(_BARE), "dated": about.dated()}
        else:
            shape = _BY_NAME
        return shape.format(what="count(*)" if count else "task_label.task_id AS id", **parts), about

    def walk(self, order: str, limit: int, offset: int, before: str = "", after: str = "") -> list[str]:
        """Ids along an index, from one end."""
        about = Conditions(self._wanted)
        rest = about.rest()
        if before:
            about.values["before"] = before
            rest += " AND task.id < :before"
        if after:
            about.values["after"] = after
            rest += " AND task.id > :after"
        sql = f"{self._all(about, rest)} ORDER BY id {order} LIMIT :limit OFFSET :offset"
        ids: list[str] = self._connection.column(sql, {**about.values, "limit": limit, "offset": offset})
        return ids

    def _all(self, about: Conditions, rest: str) -> str:
        if self._cells <= STREAMS:
            return " UNION ALL ".join(_STREAM.format(cell=cell, rest=rest) for cell in self._streams(about))
        fixed, states = about.fixed("task", _BARE), about.among_states(_BARE)
        return _ALL.format(fixed=fixed, states=states, rest=rest)

    def _streams(self, about: Conditions) -> list[str]:
        """Conditions that each pick one run of an index in which ids are in order."""
        columns = ["scope", "family"]
        if self._wanted.types:
            columns += ["type", "state"]
        elif self._wanted.states:
            columns += ["state"]
        own = Conditions(self._wanted)
        rows = self._connection.execute(_CELLS.format(cells=own.cells("task_count")), own.values)
        cells = list(dict.fromkeys(tuple(getattr(row, name) for name in columns) for row in rows))
        for number, cell in enumerate(cells):
            about.values.update({f"{name}_of_{number}": v for name, v in zip(columns, cell, strict=True)})
        return [" AND ".join(f"task.{name} = :{name}_of_{number}" for name in columns) for number in range(len(cells))]

    def count(self) -> int:
        """Count them all."""
        about = Conditions(self._wanted)
        by_name = self._wanted.text or self._wanted.creator
        if by_name and not (self._wanted.states and self.kept <= SOME):
            sql, about = self._named(about.found(self._connection) or "1 = 1", about, count=True)
        else:
            sql = f"SELECT count(*) FROM ({self._all(about, about.rest())}) AS every"
        return int(self._connection.value(sql, about.values))


def _rows(connection: Connection, ids: Sequence[str], columns: str) -> list[Row]:
    if not ids:
        return []
    names = {f"id_{number}": one for number, one in enumerate(ids)}
    sql = f"SELECT {columns} FROM task WHERE task.id IN ({', '.join(f':{name}' for name in names)})"
    found = {row.id: row for row in connection.execute(sql, names)}
    return [found[one] for one in ids]
