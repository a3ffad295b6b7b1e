"""Small helpers for tests of the ledger."""

from __future__ import annotations

from itertools import pairwise

from entrepot.ledger import shards, tasks
from entrepot.ledger.database import Ledger
from entrepot.ledger.ids import new_id
from entrepot.ledger.port import DirectPort
from entrepot.model.options import SyncOptions
from entrepot.model.shard import Progress, Shard
from entrepot.model.task import TaskSpec
from entrepot.model.totals import Totals


def make_task(ledger: Ledger, cuts=(), *, kind="sync", phase="scan", spec_hash="h", owner=None) -> str:
    """A queued task with its first ranges."""
    new = tasks.NewTask(
        id=new_id(),
        spec=TaskSpec(kind, "src", "dst", SyncOptions().to_json()),
        spec_hash=spec_hash,
        owner=owner or tasks.Owner(),
    )
    with ledger.write() as connection:
        tasks.create(connection, new)
        shards.add_ranges(connection, new.id, phase, cuts)
    return new.id


def port_of(ledger: Ledger, task_id: str, runner: str = "r1", **more) -> DirectPort:
    return DirectPort(ledger, task_id, runner, **more)


def progress_of(leased: Shard, cursor: bytes, **totals: int) -> Progress:
    """A report on a shard with absolute totals."""
    return Progress(leased.id, leased.fence, cursor, Totals(**totals))


def shard_rows(ledger: Ledger, task_id: str):
    with ledger.read() as connection:
        return connection.execute("SELECT * FROM shard WHERE task_id = :id ORDER BY low", {"id": task_id})


def assert_counts_agree(ledger: Ledger, task_id: str) -> Totals:
    """Totals of the task row equal a recount over its shards."""
    with ledger.read() as connection:
        stored, anew = tasks.recount(connection, task_id)
    assert stored == anew
    return stored


def assert_partition(ledger: Ledger, task_id: str, phase: str = "scan") -> None:
    """The ranges of a phase cover the key space without gap or overlap."""
    rows = [row for row in shard_rows(ledger, task_id) if row.phase == phase]
    assert rows[0].low == b""
    assert rows[-1].high is None
    for one, other in pairwise(rows):
        assert one.high == other.low
    for row in rows:
        assert row.low <= row.cursor
        assert row.high is None or (row.low < row.high and row.cursor <= row.high)
