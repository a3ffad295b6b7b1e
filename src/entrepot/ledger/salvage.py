"""Saving what can be read of a damaged SQLite ledger: table by table, row by row, around the pages that are broken."""

from __future__ import annotations

import os
import shutil
import sqlite3
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from entrepot.model.errors import UsageError

from . import anew, checking, schema, swap
from .database import open_ledger
from .dialect import LedgerError
from .sqlite import SqliteFile

REASON = "the ledger was damaged: it looks at everything again"

_HEADER = 100
_INTERIOR = 5
"""The type of a page of a table that names other pages."""
_LEAST, _MOST = -(1 << 63), (1 << 63) - 1
_STEP_MOST = 256
_PROBES = 4096
"""So many probes go at most ``_STEP_MOST`` rows further; then each goes twice as far as the one before."""
_BATCH = 1000

Values = tuple[Any, ...]


@dataclass(slots=True)
class Salvaged:
    """What was saved. ``gaps`` counts places of a table that could not be read, ``refused`` rows without sense."""

    path: str
    kept_as: str = ""
    rows: dict[str, int] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    refused: dict[str, int] = field(default_factory=dict)
    waiting: int = 0
    """Tasks that look at everything again when they are resumed."""

    @property
    def whole(self) -> bool:
        """Whether nothing was lost that there was."""
        return not self.gaps and not self.refused


class _NoText:
    """In the place of a text that is none."""


def recover(path: str, *, force: bool = False, wall: float | None = None) -> Salvaged:
    """Make a new ledger of what can be read of the one at ``path``, and keep the damaged file beside it.

    Killed at any moment, there is the damaged ledger or the new one. Raises UsageError when there is nothing to do,
    LedgerError when the ledger is in use.
    """
    if not os.path.exists(path):
        raise UsageError(f"there is no ledger {path}", hint="name the place by --data or --state-dir")
    swap.finish(path)
    swap.require_idle(path)
    if not force and not checking.check(path).damaged:
        raise UsageError(
            f"the ledger {path} is not damaged", hint="entrepot ledger check --repair sets wrong figures right"
        )
    before = _mark(path)
    made = swap.scratch(path)
    done = Salvaged(path)
    try:
        _fill(path, made, done)
        _make_sound(made, done)
        if _mark(path) != before:
            raise LedgerError(f"the ledger {path} was written to meanwhile", hint="stop what uses it, then do it again")
        done.kept_as = keep_aside(path, "damaged", time.time() if wall is None else wall)
        swap.offer(made, path)
    finally:
        for end in ("", "-wal", "-shm", "-source", "-source-wal", "-source-shm"):
            with suppress(OSError):
                os.unlink(made + end)
    return done


def keep_aside(path: str, word: str, wall: float) -> str:
    """Give a ledger's files a second name, so that they stay when another one takes their place; answers it."""
    stamp = time.strftime("%Y%m%dT%H%M%S", time.gmtime(wall))
    name, number = f"{path}.{word}-{stamp}", 1
    while os.path.exists(name):
        number += 1
        name = f"{path}.{word}-{stamp}-{number}"
    for end in ("-wal", ""):
        if not os.path.exists(path + end):
            continue
        try:
            os.link(path + end, name + end)
        except OSError:
            shutil.copy2(path + end, name + end)
            swap.sync(name + end)
    return name


def _mark(path: str) -> list[tuple[int, int]]:
    found = []
    for end in ("", "-wal"):
        with suppress(FileNotFoundError):
            about = os.stat(path + end)
            # Whoever reads leaves an empty log behind.
            if about.st_size:
                found.append((about.st_size, about.st_mtime_ns))
    return found


def _fill(path: str, made: str, done: Salvaged) -> None:
    source = _readable(path, made)
    if source is None:
        open_ledger(made).close()
        done.gaps["task"] = 1
        return
    with closing(source):
        revision = _revision(source)
        _make(made, revision)
        with closing(sqlite3.connect(made, isolation_level=None)) as target:
            target.execute("PRAGMA synchronous = OFF")
            target.execute("PRAGMA journal_mode = OFF")
            for table in _tables(target):
                target.execute("BEGIN")
                _copy(source, target, table, done)
                target.execute("COMMIT")


def _readable(path: str, made: str) -> sqlite3.Connection | None:
    """The damaged file, opened without changing it; with another header, where its own is broken."""
    found = _opened(path)
    for whole_page in (False, True):
        if found is None and (copy := _with_new_head(path, made, whole_page)):
            found = _opened(copy)
    return found


def _opened(name: str) -> sqlite3.Connection | None:
    raw = sqlite3.connect(f"file:{quote(os.path.abspath(name))}?mode=ro", uri=True, isolation_level=None)
    raw.text_factory = _text
    try:
        raw.execute("PRAGMA cell_size_check = ON").close()
        if raw.execute("SELECT count(*) FROM sqlite_master WHERE name = 'task'").fetchone()[0]:
            return raw
    except sqlite3.Error:
        pass
    raw.close()
    return None


def _with_new_head(path: str, made: str, whole: bool) -> str:
    """A copy that begins as a sound ledger does: with its header, or with all pages that say where the tables are.

    Those are the same in all ledgers that this version made.
    """
    _make(made, schema.HEAD)
    with open(made, "rb") as file:
        sound = file.read()
    os.unlink(made)
    page = int.from_bytes(sound[16:18], "big")
    size = os.path.getsize(path)
    if size < page:
        return ""
    copy = f"{made}-source"
    shutil.copyfile(path, copy)
    if os.path.exists(f"{path}-wal"):
        shutil.copyfile(f"{path}-wal", f"{copy}-wal")
    head = bytearray(sound[: page if whole else _HEADER])
    head[18:20] = b"\2\2"
    head[28:32] = (size // page).to_bytes(4, "big")
    # No page is free: none will be used.
    head[32:40] = bytes(8)
    with open(copy, "r+b") as file:
        file.write(head)
        for number in _children(sound[:page]) if whole else ():
            file.seek((number - 1) * page)
            file.write(sound[(number - 1) * page : number * page])
    return copy


def _children(first: bytes) -> list[int]:
    """The pages below the first one of a database, in which SQLite keeps its list of tables."""
    if first[_HEADER] != _INTERIOR:
        return []
    cells = int.from_bytes(first[_HEADER + 3 : _HEADER + 5], "big")
    begins = [int.from_bytes(first[at : at + 2], "big") for at in range(_HEADER + 12, _HEADER + 12 + 2 * cells, 2)]
    return [int.from_bytes(first[at : at + 4], "big") for at in (*begins, _HEADER + 8)]


def _text(raw: bytes) -> Any:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        return _NoText()


def _revision(source: sqlite3.Connection) -> str:
    try:
        found = source.execute("SELECT version_num FROM alembic_version").fetchone()
    except sqlite3.Error:
        found = None
    revision = str(found[0]) if found else schema.HEAD
    if revision > schema.HEAD:
        raise UsageError(
            f"the ledger has the schema {revision}, this version knows {schema.HEAD}", hint="use the newer version"
        )
    return revision


def _make(made: str, revision: str) -> None:
    """An empty ledger of that revision, in one file."""
    if revision == schema.HEAD:
        open_ledger(made).close()
    else:
        from .migrations.run import upgrade

        upgrade(SqliteFile(made), revision)
    in_one_file(made)


def in_one_file(path: str) -> None:
    """Leave no log beside the file: it can be renamed."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        raw.execute("PRAGMA journal_mode = DELETE").close()


def _tables(target: sqlite3.Connection) -> list[str]:
    """Ordinary tables; what full-text search keeps for itself comes of them."""
    rows = target.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table' ORDER BY rowid").fetchall()
    virtual = tuple(name for name, sql in rows if sql.startswith("CREATE VIRTUAL"))
    return [name for name, _ in rows if name != "alembic_version" and not (virtual and name.startswith(virtual))]


def _copy(source: sqlite3.Connection, target: sqlite3.Connection, table: str, done: Salvaged) -> None:
    try:
        there = {row[1] for row in source.execute(f"PRAGMA table_info({table})")}
    except sqlite3.Error:
        there = set()
    columns = [(row[1], row[2]) for row in target.execute(f"PRAGMA table_info({table})") if row[1] in there]
    if not columns:
        done.gaps[table] = 1
        return
    names = ", ".join(f'"{name}"' for name, _ in columns)
    insert = f'INSERT OR IGNORE INTO "{table}" ({names}) VALUES ({", ".join("?" * len(columns))})'
    kinds = [_kind(declared) for _, declared in columns]
    gaps = [0]
    batch: list[Values] = []
    kept = seen = 0
    for values in _rows(source, table, names, gaps):
        seen += 1
        if all(value is None or isinstance(value, kind) for value, kind in zip(values, kinds, strict=True)):
            batch.append(values)
        if len(batch) >= _BATCH:
            kept += _insert(target, insert, batch)
    kept += _insert(target, insert, batch)
    done.rows[table] = kept
    if gaps[0]:
        done.gaps[table] = gaps[0]
    if kept < seen:
        done.refused[table] = seen - kept


def _insert(target: sqlite3.Connection, sql: str, batch: list[Values]) -> int:
    """Rows that break a rule of the table (a second one of its key) are left out."""
    count = max(0, target.executemany(sql, batch).rowcount)
    batch.clear()
    return count


def _kind(declared: str) -> tuple[type, ...]:
    if declared in ("BIGINT", "INTEGER"):
        return (int,)
    if declared == "FLOAT":
        return (float, int)
    return (bytes,) if declared == "BLOB" else (str,)


def _rows(source: sqlite3.Connection, table: str, names: str, gaps: list[int]) -> Iterator[Values]:
    """Every row that can be read, in the order of the table; how often some could not."""
    query = f'SELECT rowid, {names} FROM "{table}" NOT INDEXED WHERE rowid >= ? ORDER BY rowid'
    at = _LEAST
    while True:
        try:
            for row in source.execute(query, (at,)):
                yield row[1:]
                at = row[0] + 1
            return
        except (sqlite3.Error, OverflowError):
            gaps[0] += 1
            following = _beyond(source, query, at)
            if following is None:
                return
            at = following


def _beyond(source: sqlite3.Connection, query: str, broken: int) -> int | None:
    """The first row number from which the table can be read again, behind one where it cannot."""
    failing, step, probes = broken, 1, 0
    if broken == _LEAST:
        # Row numbers begin at 1; the first page is broken.
        failing = 0
    while (probe := failing + step) <= _MOST:
        if _reads(source, query, probe):
            break
        failing, probes = probe, probes + 1
        step = min(step * 2, _STEP_MOST) if probes < _PROBES else step * 2
    else:
        return None
    while probe - failing > 1:
        middle = (probe + failing) // 2
        if _reads(source, query, middle):
            probe = middle
        else:
            failing = middle
    return probe


def _reads(source: sqlite3.Connection, query: str, at: int) -> bool:
    try:
        source.execute(query, (at,)).fetchone()
    except sqlite3.Error:
        return False
    return True


def _make_sound(made: str, done: Salvaged) -> None:
    """What was saved as a ledger that can be trusted: unfinished tasks look again, figures and lists agree."""
    ledger = open_ledger(made)
    try:
        with ledger.write() as c:
            done.waiting = len(anew.all_unfinished(c, REASON))
        checking.repair(ledger)
        left = checking.check_open(ledger).findings
    finally:
        ledger.close()
    if left:
        raise LedgerError(
            f"what could be read of {done.path} makes no ledger: {left[0].subject}: {left[0].text}",
            hint="restore a backup, or move the file away: the places are compared anew",
        )
    in_one_file(made)


def summary(done: Salvaged) -> Sequence[str]:
    """What to tell about it, a line each."""
    kept = sum(done.rows.values())
    lines = [f"{kept:,} rows were saved into a new ledger; the damaged one is kept as {done.kept_as}"]
    for table in sorted({*done.gaps, *done.refused}):
        gaps, refused = done.gaps.get(table, 0), done.refused.get(table, 0)
        told = [f"{gaps} unreadable place{'s' * (gaps != 1)}"] if gaps else []
        told += [f"{refused} rows without sense"] if refused else []
        lines.append(f"lost from {table}: {' and '.join(told)}")
    if done.waiting:
        lines.append(f"{done.waiting} unfinished tasks wait: each looks at everything again when it is resumed")
    return lines
