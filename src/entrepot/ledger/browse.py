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
from dataclasses import dataclass, replace
from typing import Any

from entrepot.model.task import TaskState

from .database import Connection, LedgerError, Row
from .narrow import Conditions, Filter
from .pool import LedgerPool

__all__ = ["Counts", "Filter", "Page", "by_mark", "by_number"]

FEW = 5000
"""So many ids are read and sorted at once."""
AT_ONCE = 500
"""Ids in one statement."""
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
    AND task.id = task_label.task_id AND {now} AND {states} AND {dated}"""

_NOW = "SELECT task.id FROM task WHERE task.id IN ({ids}) AND {states} AND {dated}"

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

    def known(self, wanted: Filter) -> int:
        """The number of last time; 0 for none."""
        with self._lock:
            known = self._known.get(wanted)
            return known.number if known is not None else 0

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
        ids = None
        if self._wanted.by_cell or counts.known(self._wanted) <= FEW:
            ids = self._first_few()
        if ids is None:
            total = self.kept if self._wanted.by_cell else counts.of(self._wanted, self.count)
            if total > FEW or not self._wanted.text:
                return None, total
            # Many have the grams, or there are none to look for, and yet few have the text.
            ids = self._asked(self._named("1 = 1", Conditions(self._wanted), "task_label.task_id"))
        return sorted(ids, reverse=True), len(ids)

    def _first_few(self) -> list[str] | None:
        for way in (self._by_filing, self._by_name, self._by_creator):
            ids = way()
            if ids is not None:
                return ids
        return None

    def _asked(self, query: _Query) -> list[str]:
        return self._connection.column(query[0], query[1].values)

    def _by_filing(self) -> list[str] | None:
        if self.kept > FEW or (self._wanted.by_cell and self._cells <= STREAMS):
            return None
        about = Conditions(self._wanted)
        return self._asked((_FEW_BY_CELL.format(cells=about.cells("task_count"), rest=about.rest()), about))

    def _by_name(self) -> list[str] | None:
        about = Conditions(self._wanted)
        found = about.found(self._connection)
        if not found:
            return None
        parts = {"found": found, "fixed": about.fixed("task_label"), "named": about.named()}
        about.values["most"] = FEW + 1
        names = self._asked((_BY_NAME.format(what="task_label.task_id", **parts) + " LIMIT :most", about))
        if len(names) > FEW:
            return None
        return self._as_now(names) if self._wanted.states or self._wanted.dated else names

    def _as_now(self, ids: Sequence[str]) -> list[str]:
        """Those of them whose state and time are wanted."""
        left: list[str] = []
        for start in range(0, len(ids), AT_ONCE):
            about = Conditions(self._wanted)
            names = _named_ids(ids[start : start + AT_ONCE], about.values)
            left += self._asked((_NOW.format(ids=names, states=about.among_states(_BARE), dated=about.dated()), about))
        return left

    def _by_creator(self) -> list[str] | None:
        if not self._wanted.creator:
            return None
        limit = {"creator": self._wanted.creator, "limit": FEW + 1}
        if int(self._connection.value(_BY_CREATOR, limit)) > FEW:
            return None
        about = Conditions(self._wanted)
        fixed, states = about.fixed("task", _BARE), about.among_states(_BARE)
        return self._asked((_FEW_BY_CREATOR.format(fixed=fixed, states=states, rest=about.rest()), about))

    def _named(self, found: str, about: Conditions, what: str = "count(*)") -> _Query:
        """By the table of names; ``found`` is what is known about grams."""
        parts = {"found": found, "fixed": about.fixed("task_label"), "named": about.named()}
        if self._wanted.states or self._wanted.dated:
            shape = _BY_NAME_NOW
            parts |= {"states": about.among_states(_BARE), "dated": about.dated(), "now": about.fixed("task", _BARE)}
        else:
            shape = _BY_NAME
        return shape.format(what=what, **parts), about

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
        # The numbers stand in the text: a plan for any number at all would read and sort everything.
        every = self._all(about, rest, f" ORDER BY id {order} LIMIT {limit + offset:d}")
        sql = f"{every} ORDER BY id {order} LIMIT {limit:d} OFFSET {offset:d}"
        return self._asked((sql, about))

    def _all(self, about: Conditions, rest: str, end: str = "") -> str:
        """All wanted tasks. ``end`` says how much of each stream is wanted."""
        if self._cells > STREAMS:
            fixed, states = about.fixed("task", _BARE), about.among_states(_BARE)
            return _ALL.format(fixed=fixed, states=states, rest=rest)
        streams = [_STREAM.format(cell=cell, rest=rest) for cell in self._streams(about)]
        if end and len(streams) > 1 and self._connection.kind != "sqlite":
            # SQLite merges the streams by itself, PostgreSQL would read and sort all of them.
            streams = [f"SELECT id FROM ({one}{end}) AS stream_{number}" for number, one in enumerate(streams)]
        return " UNION ALL ".join(streams)

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
        by_name = self._wanted.text or self._wanted.creator
        if not by_name or (self._wanted.states and self.kept <= SOME):
            about = Conditions(self._wanted)
            sql = f"SELECT count(*) FROM ({self._all(about, about.rest())}) AS every"
            return int(self._connection.value(sql, about.values))
        others = self._in_other_states()
        if others is not None:
            return _Browser(self._connection, replace(self._wanted, states=())).count() - others.count()
        about = Conditions(self._wanted)
        sql, about = self._named(about.found(self._connection) or "1 = 1", about)
        return int(self._connection.value(sql, about.values))

    def _in_other_states(self) -> _Browser | None:
        """The tasks that only their state keeps out, where those are fewer by far."""
        if not self._wanted.states:
            return None
        states = tuple(str(state) for state in TaskState if state not in self._wanted.states)
        found = _Browser(self._connection, replace(self._wanted, states=states))
        return found if states and found.kept <= SOME else None


def _rows(connection: Connection, ids: Sequence[str], columns: str) -> list[Row]:
    if not ids:
        return []
    values: dict[str, str] = {}
    sql = f"SELECT {columns} FROM task WHERE task.id IN ({_named_ids(ids, values)})"
    found = {row.id: row for row in connection.execute(sql, values)}
    return [found[one] for one in ids]


def _named_ids(ids: Sequence[str], values: dict[str, Any]) -> str:
    """Parameters for ids."""
    names = [f"id_{number}" for number in range(len(ids))]
    values.update(zip(names, ids, strict=True))
    return ", ".join(f":{name}" for name in names)
