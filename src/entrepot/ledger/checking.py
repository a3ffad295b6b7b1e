"""Whether a ledger says what is so: the file itself, each task against its ranges, rows that belong to nothing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from entrepot.model.errors import UsageError
from entrepot.model.task import END_STATES, TaskState
from entrepot.model.totals import FIELDS, Totals

from . import anew, labels, tasks
from .database import Connection, Ledger, Row, SingleLedger, find_database
from .dialect import LedgerError
from .filing import filing_of
from .schema import CHILDREN, HEAD
from .session import Session

PAGE = 500
"""Tasks that are looked at together."""
SHOWN = 20
_COVERING = ("scan", "verify", "delete", "retry")
"""Phases whose ranges are the whole key space, once; those of rounds that are past may be there several times."""

_PAGE = f"""SELECT id, kind, state, legs, failure_rows, {", ".join(FIELDS)} FROM task
    WHERE id > :after ORDER BY id LIMIT :limit"""
_BETWEEN = "WHERE task_id >= :first AND task_id <= :last"
_SUMS = f"""SELECT task_id, phase, {", ".join(f"sum({name}) AS {name}" for name in FIELDS)} FROM shard
    {_BETWEEN} GROUP BY task_id, phase"""
_RANGES = f"""SELECT task_id, phase, low, high, cursor FROM shard
    {_BETWEEN} AND phase IN ({", ".join(f"'{phase}'" for phase in _COVERING)}) ORDER BY task_id, phase, low"""
_FAILURES = f"SELECT task_id, count(*) AS number FROM failure {_BETWEEN} GROUP BY task_id"

_COUNTED = """SELECT scope, family, type, state, sum(number) AS number FROM (
        SELECT scope, family, type, state, count(*) AS number FROM task
            WHERE family <> '' AND parent = '' GROUP BY scope, family, type, state
        UNION ALL SELECT scope, family, type, state, -tasks AS number FROM task_count
    ) AS both_sides GROUP BY scope, family, type, state HAVING sum(number) <> 0"""
_RECOUNT = """INSERT INTO task_count (scope, family, type, state, tasks)
    SELECT scope, family, type, state, count(*) FROM task
    WHERE family <> '' AND parent = '' GROUP BY scope, family, type, state"""

_UNLABELLED = """FROM task WHERE family <> '' AND parent = ''
    AND NOT EXISTS (SELECT 1 FROM task_label WHERE task_label.task_id = task.id)"""

_MEND = f"UPDATE task SET failure_rows = :rows, {', '.join(f'{name} = :{name}' for name in FIELDS)} WHERE id = :id"
_LOCK = "SELECT id FROM task WHERE id = :id FOR UPDATE"

BROKEN_RANGES = "its ranges in the ledger were not whole: it begins anew"

ORPHANS = {
    **{
        table: f"task_id <> '' AND NOT EXISTS (SELECT 1 FROM task WHERE task.id = {table}.task_id)"
        for table in CHILDREN
    },
    "task": "parent <> '' AND NOT EXISTS (SELECT 1 FROM task AS other WHERE other.id = task.parent)",
    "token": "NOT EXISTS (SELECT 1 FROM principal WHERE principal.id = token.principal_id)",
    "access_key": "NOT EXISTS (SELECT 1 FROM principal WHERE principal.id = access_key.principal_id)",
    "delivery": "NOT EXISTS (SELECT 1 FROM webhook WHERE webhook.id = delivery.webhook_id)",
}
"""Rows that belong to nothing, by table."""


@dataclass(slots=True, frozen=True)
class Finding:
    """Something that is not as it should be. ``kind``: damage, schema, counters, ranges, orphans, lists."""

    kind: str
    subject: str
    text: str


@dataclass(slots=True, frozen=True)
class Checked:
    """What a look at the whole ledger found."""

    name: str
    revision: str
    tasks: int
    findings: tuple[Finding, ...]

    @property
    def damaged(self) -> bool:
        """Whether the database itself cannot be trusted."""
        return any(found.kind == "damage" for found in self.findings)


def open_as_it_is(place: str) -> SingleLedger:
    """A ledger that is there, at whatever schema: nothing is made or upgraded. Raises UsageError, LedgerError."""
    import os

    database_file = "" if "://" in place.removeprefix("sqlite:///") else place.removeprefix("sqlite:///")
    if database_file and not os.path.exists(database_file):
        raise UsageError(f"there is no ledger {database_file}", hint="name the place by --data or --state-dir")
    database = find_database(place)
    try:
        return SingleLedger(database, Session(database, database.connect(again=False)))
    except database.failures as error:
        raise database.explain(error) from error


def check(place: str) -> Checked:
    """Look at everything, change nothing. A running server may go on meanwhile."""
    try:
        ledger = open_as_it_is(place)
    except LedgerError as error:
        return Checked(place, "", 0, (Finding("damage", "the file", error.message),))
    try:
        return check_open(ledger)
    finally:
        ledger.close()


def check_open(ledger: Ledger) -> Checked:
    """As :func:`check`."""
    findings: list[Finding] = []
    revision, seen = "", 0
    try:
        with ledger.read() as c:
            findings += _damage(c)
            revision = str(c.value("SELECT version_num FROM alembic_version"))
            if revision != HEAD:
                older = "the next start brings it up to date" if revision < HEAD else "a newer version wrote it"
                findings.append(Finding("schema", revision, f"this version knows {HEAD}: {older}"))
            elif not findings:
                for rows in _pages(c):
                    seen += len(rows)
                    findings += _accounts(c, rows)
                findings += _orphans(c)
                findings += _lists(c)
    except LedgerError as error:
        findings.append(Finding("damage", "the file", error.message))
    return Checked(ledger.name, revision, seen, tuple(findings))


def _damage(c: Connection) -> Iterator[Finding]:
    if c.kind != "sqlite":
        return
    for text in c.column(f"PRAGMA integrity_check({SHOWN})"):
        if text != "ok":
            yield Finding("damage", "the file", str(text))


def _pages(c: Connection) -> Iterator[list[Row]]:
    after = ""
    while rows := c.execute(_PAGE, {"after": after, "limit": PAGE}):
        after = rows[-1].id
        yield rows


def _accounts(c: Connection, rows: Sequence[Row]) -> Iterator[Finding]:
    """Tasks whose figures are not those of their ranges, or whose ranges leave something out."""
    span = {"first": rows[0].id, "last": rows[-1].id}
    sums = _sums(c, rows, span)
    failures = {row.task_id: int(row.number) for row in c.execute(_FAILURES, span)}
    broken = _broken(c, span)
    for row in rows:
        for phase in broken.get(row.id, ()):
            yield Finding("ranges", row.id, f"the ranges of its {phase} do not join")
        if row.id in sums and _totals(row) != sums[row.id]:
            names = [name for name in FIELDS if getattr(sums[row.id], name) != getattr(row, name)]
            told = ", ".join(f"{name} {getattr(row, name)}, not {getattr(sums[row.id], name)}" for name in names[:4])
            yield Finding("counters", row.id, f"its figures are not those of its ranges: {told}")
        if row.failure_rows != failures.get(row.id, 0):
            text = f"{failures.get(row.id, 0)} failed entries are listed, not {row.failure_rows}"
            yield Finding("counters", row.id, text)


def _totals(row: Row) -> Totals:
    return Totals(*[int(getattr(row, name)) for name in FIELDS])


def _sums(c: Connection, rows: Sequence[Row], span: dict[str, str]) -> dict[str, Totals]:
    """Totals over the ranges of each task that has any; one with legs has none of its own."""
    kinds = {row.id: row.kind for row in rows if not row.legs}
    found: dict[str, Totals] = {}
    for row in c.execute(_SUMS, span):
        if row.task_id in kinds:
            names = tasks.counted(kinds[row.task_id], row.phase)
            more = Totals(**{name: int(getattr(row, name)) for name in names})
            found.setdefault(row.task_id, Totals()).add(more)
    return found


def _broken(c: Connection, span: dict[str, str]) -> dict[str, list[str]]:
    by_phase: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in c.execute(_RANGES, span):
        by_phase[row.task_id, row.phase].append(row)
    broken: dict[str, list[str]] = defaultdict(list)
    for (task_id, phase), ranges in by_phase.items():
        if not _whole(ranges):
            broken[task_id].append(phase)
    return broken


def _whole(ranges: Sequence[Row]) -> bool:
    """Whether ranges in the order of their keys are the whole key space, each with its cursor inside."""
    if ranges[0].low != b"" or ranges[-1].high is not None:
        return False
    if any(one.high != other.low or one.high <= one.low for one, other in pairwise(ranges)):
        return False
    return all(row.low <= row.cursor and (row.high is None or row.cursor <= row.high) for row in ranges)


def _orphans(c: Connection) -> Iterator[Finding]:
    for table, condition in ORPHANS.items():
        number = c.value(f"SELECT count(*) FROM {table} WHERE {condition}")
        if number:
            yield Finding("orphans", table, f"{number} rows belong to nothing")


def _lists(c: Connection) -> Iterator[Finding]:
    for row in c.execute(_COUNTED):
        what = f"{row.family} {row.state} in {row.scope!r}".strip()
        yield Finding("lists", "task_count", f"the number of tasks {what} is off by {abs(int(row.number))}")
    number = c.value(f"SELECT count(*) {_UNLABELLED}")
    if number:
        yield Finding("lists", "task_label", f"{number} tasks cannot be found by name")


def repair(ledger: Ledger) -> int:
    """Make the accounts agree: how many rows and tasks were changed. What is damaged cannot be repaired by this."""
    changed = 0
    for table, condition in ORPHANS.items():
        changed += ledger.settle(lambda c, t=table, w=condition: c.change(f"DELETE FROM {t} WHERE {w}"))  # type: ignore[misc]
    with ledger.read() as c:
        wrong = [found.subject for rows in _pages(c) for found in _accounts(c, rows)]
    for task_id in dict.fromkeys(wrong):
        ledger.settle(lambda c, task_id=task_id: _mend(c, task_id))  # type: ignore[misc]
    changed += len(set(wrong))
    return changed + ledger.settle(_renew_lists)


def _mend(c: Connection, task_id: str) -> None:
    """A task whose ranges are whole gets their figures; another one begins anew."""
    if c.first(_LOCK, {"id": task_id}) is None:
        return
    span = {"first": task_id, "last": task_id}
    task = tasks.read(c, task_id)
    if _broken(c, span):
        if task.state in END_STATES:
            anew.disown(c, task_id, BROKEN_RANGES)
        else:
            anew.wait(c, task_id, BROKEN_RANGES)
        task = tasks.read(c, task_id)
    rows = c.execute(_PAGE.replace("id > :after", "id = :after"), {"after": task_id, "limit": 1})
    totals = _sums(c, rows, span).get(task_id, task.totals)
    listed = c.value("SELECT count(*) FROM failure WHERE task_id = :id", {"id": task_id})
    c.change(_MEND, {"id": task_id, "rows": listed, **totals.as_dict()})


def _renew_lists(c: Connection) -> int:
    changed = len(c.execute(_COUNTED))
    if changed:
        c.change("DELETE FROM task_count")
        c.change(_RECOUNT)
    for row in c.execute(f"SELECT * {_UNLABELLED}"):
        labels.add(c, row.id, filing_of(row))
        changed += 1
    if c.kind == "sqlite":
        c.change("INSERT INTO task_gram (task_gram) VALUES ('rebuild')")
    return changed


def states(ledger: Ledger) -> dict[TaskState, int]:
    """How many tasks there are in each state."""
    with ledger.read() as c:
        return {
            TaskState(row.state): int(row.number)
            for row in c.execute("SELECT state, count(*) AS number FROM task GROUP BY state")
        }
