"""A ledger as the first version left it: schema 0001 with tasks in every state, made by plain SQL.

What is written here never changes: it is what lies in people's state directories.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from entrepot.ledger.checking import open_as_it_is

HERE = Path(__file__).parent
COUNT = 1200
"""Entries of the half-done task, ten bytes each; its ranges are six."""
HALF_DONE = "01M7ZZZZZZHA1FD0NE00000000"
OPTIONS = (
    '{"allow_empty_source":false,"bandwidth":0,"bandwidth_windows":[],"compare":"auto","concurrency":0,'
    '"delete":"none","delete_excluded":false,"delete_max_count":0,"delete_max_share":0.5,"dry_run":false,'
    '"escape_names":false,"exclude":[],"fsync":false,"headers":[],"include":[],"list":"","max_age_ns":0,'
    '"max_failures":0,"max_requests":0,"max_size":-1,"min_age_ns":0,"min_size":0,"on_error":"continue"}'
)
STATES = (
    "QUEUED", "SCANNING", "RUNNING", "PAUSED", "REVIEW", "SUCCEEDED", "FAILED", "CANCELLED", "REJECTED",
)  # fmt: skip
TABLES = ("task", "shard", "failure", "failure_count", "doomed", "partial", "event", "runner_stats")
SHARD = (
    "task_id", "phase", "state", "low", "high", "cursor", "fence", "lease_owner", "lease_until", "total",
    "total_bytes", "copied", "copied_bytes", "failed", "failed_bytes",
)  # fmt: skip


def key_of(number: int) -> bytes:
    return b"%08d" % number


def make(place: str, options: str, spec_hash: str) -> None:
    """Write it into an empty file or database. ``options`` and ``spec_hash`` are those of the half-done task."""
    if "://" not in place:
        Path(place).touch(0o600)
    ledger = open_as_it_is(place)
    with ledger.write() as c:
        kind = "sqlite" if c.kind == "sqlite" else "postgresql"
        for statement in (HERE / f"schema_0001_{kind}.sql").read_text().split(";\n"):
            if statement.strip():
                c.change(statement.strip())
        for number, state in enumerate(STATES):
            _task_in(c, number, state)
        _half_done(c, options, spec_hash)
    ledger.close()


def _insert(c, table, **values):
    names = ", ".join(values)
    c.change(f"INSERT INTO {table} ({names}) VALUES ({', '.join(f':{name}' for name in values)})", values)


def _task(c, task_id, state, options, spec_hash, **more):
    _insert(
        c, "task", id=task_id, kind="sync", source="src", destination="dst", source_place="fake", source_prefix=b"a/",
        destination_place="fake", destination_prefix=b"b/", options=options, spec_hash=spec_hash, state=state,
        created=1.7e9, **more,
    )  # fmt: skip


def _shard(c, *values):
    row = dict(zip(SHARD, (*values, *(None,) * (len(SHARD) - len(values))), strict=True))
    for name in SHARD[9:]:
        row[name] = row[name] or 0
    _insert(c, "shard", **row)


def _task_in(c, number, state):
    """One whole range and a failed one, a delete in the journal, a half-moved object, an event, figures of a runner."""
    task_id = f"01M7ZZZZZZ{number:016d}"
    _task(
        c, task_id, state, OPTIONS, hashlib.sha256(state.encode()).hexdigest(), reason=f"was {state}",
        started=1.7e9 + 1, finished=1.7e9 + 9 if state in STATES[5:] else None, total=3, total_bytes=30, copied=2,
        copied_bytes=20, failed=1, failed_bytes=10, failure_rows=1, destination_entries=5, resumed=2,
    )  # fmt: skip
    _shard(c, task_id, "scan", "done", b"", b"m\xff", b"m\xff", 3, None, None, 2, 20, 2, 20, 0, 0)
    _shard(c, task_id, "scan", "failed", b"m\xff", None, b"m\xff", 1, None, None, 1, 10, 0, 0, 1, 10)
    _insert(
        c, "failure", task_id=task_id, phase="scan", key=b"n\x00\xfe", failure="forbidden", message="nö",
        attempts=2, size=10, at=1.7e9,
    )  # fmt: skip
    _insert(c, "failure_count", task_id=task_id, failure="forbidden", entries=1)
    _insert(c, "doomed", task_id=task_id, key=b"x\xff", shard_id=1, etag=b"e", size=7)
    _insert(c, "doomed", task_id=task_id, key=b"y", shard_id=1, mtime_ns=2**60, size=7)
    if state != "SUCCEEDED":
        done = json.dumps([[0, 8, "etag"]])
        _insert(
            c, "partial", task_id=task_id, key=b"big\xff", size=2**40, etag=b"e", part_size=8 << 20,
            upload_id="up/load=", done=done, started=1.7e9,
        )  # fmt: skip
    _insert(c, "event", task_id=task_id, at=1.7e9, kind="state", text=state)
    _insert(c, "runner_stats", task_id=task_id, runner_id="r1", stats='{"requests.GET": 5}', at=1.7e9)


def _half_done(c, options, spec_hash):
    """Two ranges are done, the third is leased by a runner that is no more and half-way, the others wait."""
    done = 2 * 200 + 100
    _task(
        c, HALF_DONE, "RUNNING", options, spec_hash, started=1.7e9 + 1, owner_host="elsewhere", owner_boot="b",
        owner_pid=7, owner_start="1", owner_seen=1.7e9, total=done, total_bytes=done * 10, copied=done,
        copied_bytes=done * 10,
    )  # fmt: skip
    for number in range(6):
        low = b"" if number == 0 else key_of(number * 200 - 1)
        high = None if number == 5 else key_of(number * 200 + 199)
        moved = 200 if number < 2 else 100 if number == 2 else 0
        cursor = high if number < 2 else key_of(number * 200 + 99) if number == 2 else low
        state = "done" if number < 2 else "leased" if number == 2 else "queued"
        lease = ("gone", 1.7e9) if number == 2 else (None, None)
        _shard(c, HALF_DONE, "scan", state, low, high, cursor, 1, *lease, *(moved, moved * 10) * 2, 0, 0)
    _insert(c, "event", task_id=HALF_DONE, at=1.7e9, kind="state", text="RUNNING")


def content(place: str) -> dict[str, list[dict[str, object]]]:
    """Every row of the first version's tables, with the columns that they had."""
    columns: dict[str, list[str]] = {}
    table = ""
    for line in (HERE / "schema_0001_sqlite.sql").read_text().splitlines():
        words = line.split()
        if line.startswith("CREATE TABLE"):
            table = words[2]
        elif line.startswith("    ") and words[0] != "CONSTRAINT":
            columns.setdefault(table, []).append(words[0].strip('"'))
    ledger = open_as_it_is(place)
    with ledger.read() as c:
        found = {
            name: [vars(row) for row in c.execute(f"SELECT {', '.join(columns[name])} FROM {name} ORDER BY 1, 2, 3")]
            for name in TABLES
        }
    ledger.close()
    return found


def revision(place: str) -> str:
    ledger = open_as_it_is(place)
    with ledger.read() as c:
        found = str(c.value("SELECT version_num FROM alembic_version"))
    ledger.close()
    return found
