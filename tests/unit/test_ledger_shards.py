"""Shard rows: leases, fences, checkpoints, splits, and what is journaled with them."""

from __future__ import annotations

import pytest

from entrepot.ledger import events, journal, shards, tasks
from entrepot.ledger.database import open_ledger
from entrepot.model.errors import InternalError, LeaseLost
from entrepot.model.shard import Doomed, Failure, Partial
from entrepot.model.task import TaskState
from ledger_parts import assert_counts_agree, assert_partition, make_task, port_of, progress_of, shard_rows


@pytest.fixture
def ledger(ledger_place):
    opened = open_ledger(ledger_place)
    yield opened
    opened.close()


def _run_out(ledger):
    with ledger.write() as connection:
        connection.execute("UPDATE shard SET lease_until = 1.0 WHERE state = 'leased'")


def test_leases_go_out_lowest_key_first_and_once(ledger):
    task_id = make_task(ledger, [b"c", b"f"])
    one, other = port_of(ledger, task_id, "r1"), port_of(ledger, task_id, "r2")
    first, second, third = one.lease(1), other.lease(5), one.lease(5)
    assert [(s.low, s.high, s.fence) for s in first + second] == [
        (b"", b"c", 1),
        (b"c", b"f", 1),
        (b"f", None, 1),
    ]
    assert third == []
    with ledger.read() as connection:
        assert tasks.read(connection, task_id).state is TaskState.SCANNING


def test_progress_survives_and_goes_to_the_next_runner(ledger):
    task_id = make_task(ledger)
    one, other = port_of(ledger, task_id, "r1"), port_of(ledger, task_id, "r2")
    leased = one.lease(1)[0]
    one.report([progress_of(leased, b"g", total=7, copied=5, copied_bytes=50)])
    one.release([leased.id])
    again = other.lease(1)[0]
    assert (again.cursor, again.fence, again.totals.copied_bytes) == (b"g", 2, 50)
    with ledger.read() as connection:
        assert tasks.read(connection, task_id).state is TaskState.RUNNING


def test_a_lease_that_ran_out_goes_to_another_and_the_late_result_is_refused(ledger):
    task_id = make_task(ledger)
    one, other = port_of(ledger, task_id, "r1"), port_of(ledger, task_id, "r2")
    leased = one.lease(1)[0]
    assert other.lease(1) == []
    _run_out(ledger)
    again = other.lease(1)[0]
    orders = one.report([progress_of(leased, b"x", copied=9)], [leased.id])
    assert orders.lost == (leased.id,)
    other.report([progress_of(again, b"y", copied=2)], [again.id])
    assert assert_counts_agree(ledger, task_id).copied == 2
    with ledger.read() as connection:
        assert tasks.read(connection, task_id).late_reports == 1
    assert shard_rows(ledger, task_id)[0].state == "done"


def test_a_report_under_an_old_fence_of_the_same_runner_is_refused(ledger):
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    port.release([leased.id])
    port.lease(1)
    assert port.report([progress_of(leased, b"x", copied=9)]).lost == (leased.id,)


def test_a_late_but_unclaimed_report_is_taken(ledger):
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    _run_out(ledger)
    assert port.report([progress_of(leased, b"x", copied=9)]).lost == ()
    assert port_of(ledger, task_id, "r2").lease(1) == [], "the report extended the lease"


def test_a_cursor_never_goes_back_or_out_of_its_range(ledger):
    task_id = make_task(ledger, [b"m"])
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    port.report([progress_of(leased, b"g", copied=1)])
    for cursor in (b"f", b"n"):
        with pytest.raises(InternalError, match="cursor"):
            port.report([progress_of(leased, cursor, copied=5)])
    assert assert_counts_agree(ledger, task_id).copied == 1


def test_a_final_shard_without_progress_ends_as_it_was(ledger):
    task_id = make_task(ledger, [b"m"])
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    port.report([], [leased.id])
    row = shard_rows(ledger, task_id)[0]
    assert (row.state, row.cursor) == ("done", b"m")


def test_a_split_keeps_the_near_part_and_queues_the_rest(ledger):
    task_id = make_task(ledger, [b"p"])
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    port.report([progress_of(leased, b"c", copied=3)])
    port.split(leased.id, leased.fence, [b"f", b"k"])
    assert_partition(ledger, task_id)
    assert [row.low for row in shard_rows(ledger, task_id)] == [b"", b"f", b"k", b"p"]
    port.report([progress_of(leased, b"f", copied=6)], [leased.id])
    assert [s.low for s in port.lease(9)] == [b"f", b"k", b"p"]


@pytest.mark.parametrize("at", [[], [b"c"], [b"b"], [b"k", b"f"], [b"f", b"f"], [b"f", b"p"], [b"z"]])
def test_a_split_at_impossible_keys_changes_nothing(ledger, at):
    task_id = make_task(ledger, [b"p"])
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    port.report([progress_of(leased, b"c", copied=3)])
    with pytest.raises(InternalError, match="cannot be cut"):
        port.split(leased.id, leased.fence, at)
    assert [row.low for row in shard_rows(ledger, task_id)] == [b"", b"p"]


def test_a_split_of_a_lost_shard_is_refused(ledger):
    task_id = make_task(ledger)
    one, other = port_of(ledger, task_id, "r1"), port_of(ledger, task_id, "r2")
    leased = one.lease(1)[0]
    _run_out(ledger)
    other.lease(1)
    with pytest.raises(LeaseLost):
        one.split(leased.id, leased.fence, [b"f"])


def test_a_range_that_kills_its_runners_is_given_up(ledger):
    task_id = make_task(ledger, [b"m"])
    port = port_of(ledger, task_id)
    bad = port.lease(2)[0]
    port.report([], [bad.id + 1])
    port.report([progress_of(bad, b"d", copied=1, failed=0)])
    for _ in range(shards.LOST_MAX):
        port.expire()
        port.lease(1)
    assert shard_rows(ledger, task_id)[0].state == "failed"
    totals = assert_counts_agree(ledger, task_id)
    assert (totals.copied, totals.failed) == (1, 1)
    with ledger.read() as connection:
        found, _ = journal.failures(connection, task_id)
        assert [(f.key, f.failure) for f in found] == [(b"d", "internal")]
        assert events.since(connection, task_id, kind="shard_failed")


def test_progress_forgives_lost_leases(ledger):
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    for number in range(shards.LOST_MAX * 2):
        leased = port.lease(1)[0]
        port.report([progress_of(leased, b"%04d" % number, copied=number)])
        port.expire()
    assert shard_rows(ledger, task_id)[0].state == "queued"


def test_failures_are_kept_once_counted_by_class_and_bounded(ledger, monkeypatch):
    monkeypatch.setattr(journal, "FAILURE_ROWS", 10)
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    said = progress_of(leased, b"k", failed=30)
    said.failures = [Failure(b"%03d" % i, "forbidden" if i % 3 else "name", "no\0\udcff", 2, 7) for i in range(30)]
    port.report([said])
    said.failures = said.failures[:5]
    port.report([said])
    with ledger.read() as connection:
        assert journal.failure_counts(connection, task_id) == {"forbidden": 20, "name": 10}
        page, mark = journal.failures(connection, task_id, limit=6)
        rest, end = journal.failures(connection, task_id, limit=6, before=mark)
    assert [f.key for f in page + rest] == [b"%03d" % i for i in reversed(range(10))]
    assert end == 0
    assert page[0].message == "no\\0\\udcff"


def test_journaled_deletes_come_back_in_key_order_within_the_shard(ledger):
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    said = progress_of(leased, b"z")
    said.doomed = [Doomed(b"q", b"etag", 5), Doomed(b"b", 1_700_000_000_000_000_000, 7), Doomed(b"x", 0, 1)]
    said.destination_entries = 9
    port.report([said], [leased.id])
    with ledger.write() as connection:
        assert journal.doomed_sums(connection, task_id) == (3, 13)
        assert tasks.read(connection, task_id).destination_entries == 9
        cuts = journal.doomed_cuts(connection, task_id, 2)
        assert cuts == [b"q"]
        shards.add_ranges(connection, task_id, "delete", cuts)
    near, far = port.lease(5)
    assert port.next_doomed(near, 10) == [Doomed(b"b", 1_700_000_000_000_000_000, 7), Doomed(b"q", b"etag", 5)]
    assert port.next_doomed(far, 10) == [Doomed(b"x", 0, 1)]
    port.report([progress_of(near, b"b", deleted=1)])
    near.cursor = b"b"
    assert [d.key for d in port.next_doomed(near, 10)] == [b"q"]


def test_a_range_that_failed_gives_no_permission_to_delete(ledger):
    task_id = make_task(ledger, [b"m"])
    port = port_of(ledger, task_id)
    clean, bad = port.lease(2)
    said = [progress_of(clean, b"m"), progress_of(bad, b"n", failed=1)]
    said[0].doomed, said[1].doomed = [Doomed(b"a", 1, 1)], [Doomed(b"n", 1, 1)]
    port.report(said)
    said[0].doomed, said[1].doomed = [], [Doomed(b"p", 1, 1)]
    said[1].failed = True
    port.report(said, [clean.id, bad.id])
    assert [row.state for row in shard_rows(ledger, task_id)] == ["done", "failed"]
    with ledger.read() as connection:
        assert journal.doomed_sums(connection, task_id) == (1, 1)


def test_half_moved_objects(ledger):
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    half = Partial(b"k", 100, b"etag", 8, upload_id="u", done=[1, 3], started=5.5)
    port.save_partial(half)
    half.done.append(4)
    port.save_partial(half)
    port.save_partial(Partial(b"a", 1, 12, 8, staged="s"))
    assert port.partials(b"", None) == [Partial(b"a", 1, 12, 8, staged="s"), half]
    assert port.partials(b"a", b"k") == [half]
    assert port.partials(b"k", None) == []
    port.drop_partial(b"k")
    port.drop_partial(b"k")
    assert [p.key for p in port.partials(b"", None)] == [b"a"]


def test_figures_of_runners_are_replaced(ledger):
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    port.report([], [], {"requests.get": 1})
    port.report([], [], {"requests.get": 5})
    with ledger.read() as connection:
        assert journal.stats(connection, task_id) == {"r1": {"requests.get": 5}}


def test_warnings_are_bounded(ledger, monkeypatch):
    monkeypatch.setattr(journal, "WARNING_ROWS", 3)
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    for _ in range(3):
        said = progress_of(leased, b"k")
        said.warnings = ["one", "two"]
        port.report([said])
    with ledger.read() as connection:
        assert len(events.since(connection, task_id, kind="warning")) == 3
