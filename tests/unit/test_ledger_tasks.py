"""Task rows: states, resuming, ownership, pruning."""

from __future__ import annotations

import pytest

from entrepot.ledger import events, shards, tasks
from entrepot.ledger.database import open_ledger
from entrepot.ledger.ids import new_id
from entrepot.ledger.schema import CHILDREN
from entrepot.model.errors import UsageError
from entrepot.model.task import END_STATES, TRANSITIONS, TaskState
from entrepot.model.totals import Totals
from ledger_parts import assert_counts_agree, make_task, port_of, progress_of


@pytest.fixture
def ledger(ledger_place):
    opened = open_ledger(ledger_place)
    yield opened
    opened.close()


def _force(ledger, task_id, state):
    with ledger.write() as connection:
        connection.execute("UPDATE task SET state = :state WHERE id = :id", {"id": task_id, "state": state})


@pytest.mark.parametrize("start", list(TaskState))
def test_only_the_ways_of_the_table_can_be_gone(ledger, start):
    task_id = make_task(ledger)
    for to in TaskState:
        _force(ledger, task_id, start.value)
        with ledger.write() as connection:
            if to is start:
                assert tasks.transition(connection, task_id, to) is False
            elif to in TRANSITIONS[start]:
                assert tasks.transition(connection, task_id, to) is True
            else:
                with pytest.raises(UsageError, match=f"is {start}: it cannot become {to}"):
                    tasks.transition(connection, task_id, to)
            expected = to if to in TRANSITIONS[start] else start
            found = tasks.read(connection, task_id)
            assert found.state is expected
            if to in END_STATES & TRANSITIONS[start]:
                assert found.finished is not None


def test_every_change_of_state_leaves_an_event(ledger):
    task_id = make_task(ledger)
    with ledger.write() as connection:
        tasks.transition(connection, task_id, TaskState.SCANNING)
        tasks.transition(connection, task_id, TaskState.PAUSED, "lunch")
        said = [event.text for event in events.since(connection, task_id)]
    assert said == ["QUEUED", "SCANNING", "PAUSED lunch"]


def test_an_unknown_task_is_a_usage_error(ledger):
    with ledger.write() as connection, pytest.raises(UsageError, match="no task NOPE"):
        tasks.transition(connection, "NOPE", TaskState.SCANNING)


def test_what_can_be_resumed(ledger):
    done, stopped, paused = (make_task(ledger, spec_hash=name) for name in ("done", "stopped", "paused"))
    for task_id in (done, stopped, paused):
        port_of(ledger, task_id).lease(1)
    first = port_of(ledger, done, "r2")
    with ledger.write() as connection:
        shards.expire(connection, "r1")
        for task_id, state in ((stopped, TaskState.FAILED), (paused, TaskState.PAUSED)):
            tasks.transition(connection, task_id, state)
    leased = first.lease(1)[0]
    first.report([progress_of(leased, b"k", failed=1)], [leased.id])
    with ledger.write() as connection:
        tasks.transition(connection, done, TaskState.FAILED)
        assert tasks.resumable(connection, "done") is None, "all of it was tried: a new run starts anew"
        assert tasks.resumable(connection, "stopped").id == stopped
        assert tasks.resumable(connection, "paused").id == paused
        assert tasks.resumable(connection, "other") is None


def test_taking_over_frees_the_leases_of_the_dead(ledger):
    task_id = make_task(ledger, [b"m"], owner=tasks.Owner("h", "b", 1, "1"))
    old = port_of(ledger, task_id, "old")
    leased = old.lease(2)
    old.report([progress_of(leased[0], b"c", copied=3)])
    with ledger.write() as connection:
        tasks.take_over(connection, task_id, tasks.Owner("h", "b", 2, "2"), "{}")
        found = tasks.read(connection, task_id)
    assert (found.owner.pid, found.resumed, found.totals.copied) == (2, 1, 3)
    again = port_of(ledger, task_id, "new").lease(2)
    assert [s.cursor for s in again] == [b"c", b"m"]
    late = old.report([progress_of(leased[0], b"d", copied=4)])
    assert late.lost == (leased[0].id,)
    assert assert_counts_agree(ledger, task_id).copied == 3


def test_a_stop_order_reaches_runners_and_cancel_wins(ledger):
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    with ledger.write() as connection:
        tasks.order_stop(connection, task_id, "cancel")
        tasks.order_stop(connection, task_id, "pause")
    assert port.lease(1) == []
    assert port.finished()
    assert port.report([]).stop == "cancel"
    with ledger.write() as connection:
        assert tasks.beat(connection, task_id) == "cancel"


def test_pruning_takes_old_ended_tasks_with_all_their_rows(ledger):
    old, young, open_one = (make_task(ledger, spec_hash=name) for name in ("old", "young", "open"))
    with ledger.write() as connection:
        for task_id in (old, young):
            tasks.transition(connection, task_id, TaskState.CANCELLED)
        connection.execute("UPDATE task SET finished = 1.0 WHERE id = :id", {"id": old})
        assert tasks.prune(connection, 86400) == 1
        left = [found.id for found in tasks.listing(connection)]
        assert sorted(left) == sorted([young, open_one])
        for table in CHILDREN:
            rows = connection.execute(f"SELECT * FROM {table} WHERE task_id = :id", {"id": old})
            assert rows == []


def test_listing_pages_from_the_youngest(ledger):
    ids = [make_task(ledger) for _ in range(5)]
    with ledger.read() as connection:
        first = tasks.listing(connection, limit=2)
        second = tasks.listing(connection, limit=9, before=first[-1].id)
    assert [t.id for t in first + second] == sorted(ids, reverse=True)


def test_a_second_look_does_not_count_entries_twice(ledger):
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    leased = port.lease(1)[0]
    port.report([progress_of(leased, b"z", total=5, copied=5)], [leased.id])
    with ledger.write() as connection:
        shards.add_ranges(connection, task_id, "verify")
    second = port.lease(1)[0]
    assert second.phase == "verify"
    port.report([progress_of(second, b"z", total=5, equal=4, failed=1)], [second.id])
    assert assert_counts_agree(ledger, task_id) == Totals(total=5, copied=5, failed=1)


def test_ids_sort_by_time():
    ids = [new_id(lambda t=t: t, lambda n: b"\xff" * n) for t in (1.0, 1.001, 2.0, 1e9, 1.7e9)]
    assert ids == sorted(ids)
    assert {len(i) for i in ids} == {26}
    assert new_id() != new_id()
