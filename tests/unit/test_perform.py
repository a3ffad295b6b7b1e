"""One task of the server performed by one conductor: its ends, its waits, and the orders that it obeys."""

from __future__ import annotations

import os
import signal

import pytest

from entrepot.ledger import events, holding, live, orders, shards, tasks
from entrepot.ledger.database import open_ledger
from entrepot.model.errors import PlaceError
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskState
from entrepot.service.owner import is_alive, this_process
from entrepot.service.perform import AGAIN, perform
from fake_trade import Found, World
from ledger_parts import assert_counts_agree, assert_partition
from serve_parts import children_of, ended, forked, job_of, look, submit, wait_for_state, wait_until


@pytest.fixture
def ledger(ledger_place):
    found = open_ledger(ledger_place)
    found.place = ledger_place
    yield found
    found.close()


def _world(tmp_path, **more):
    return World(effects=str(tmp_path / "effects"), **{"count": 400, "chunk": 20, **more})


def _texts(ledger, task_id):
    with ledger.read() as connection:
        return [(event.kind, event.text) for event in events.since(connection, task_id)]


def test_a_queued_row_runs_to_its_end(tmp_path, ledger):
    world = _world(tmp_path, found=Found(warnings=("mind the gap",)))
    task_id = submit(ledger, name="t", scope="a/b")
    assert perform(job_of(ledger, task_id, tmp_path), world.trade()) == 0
    task = look(ledger, task_id)
    assert (task.state, task.totals.copied, task.percent) == (TaskState.SUCCEEDED, 400, 100)
    assert (task.owner.pid, task.stop, task.source) == (0, "", ("fake", b"a/"))
    assert task.started is not None
    assert task.resumed == 0
    assert set(world.done()) == set(world.keys)
    assert_counts_agree(ledger, task_id)
    assert_partition(ledger, task_id)
    assert ("warning", "mind the gap") in _texts(ledger, task_id)
    with ledger.read() as connection:
        assert live.running(connection) == 0
        assert connection.value("SELECT tasks FROM task_count WHERE state = 'SUCCEEDED'") == 1


def test_what_the_checks_say_is_the_reason(tmp_path, ledger):
    world = _world(tmp_path, preflight_error=PlaceError("source: no such bucket b"))
    task_id = submit(ledger)
    assert perform(job_of(ledger, task_id, tmp_path), world.trade()) == 0
    task = look(ledger, task_id)
    assert (task.state, task.reason, task.owner.pid) == (TaskState.FAILED, "source: no such bucket b", 0)


def test_failed_entries_fail_the_task_and_its_percent_stays_below_the_end(tmp_path, ledger):
    world = _world(tmp_path, failing=frozenset({3, 77}))
    task_id = submit(ledger)
    perform(job_of(ledger, task_id, tmp_path), world.trade())
    task = look(ledger, task_id)
    assert (task.state, task.totals.failed, task.totals.copied) == (TaskState.FAILED, 2, 398)
    assert 90 <= task.percent < 100


def test_nothing_to_move_is_an_end_with_all_percent(tmp_path, ledger):
    task_id = submit(ledger)
    perform(job_of(ledger, task_id, tmp_path), _world(tmp_path, count=0, cuts=1).trade())
    task = look(ledger, task_id)
    assert (task.state, task.percent, task.totals.total) == (TaskState.SUCCEEDED, 100, 0)


def test_deletes_over_the_cap_wait_for_approval(tmp_path, ledger):
    world = _world(tmp_path, doomed=30)
    task_id = submit(ledger, options=SyncOptions(delete="destination", delete_max_count=10))
    perform(job_of(ledger, task_id, tmp_path), world.trade())
    task = look(ledger, task_id)
    assert task.state is TaskState.REVIEW
    assert "refused to delete 30 entries" in task.reason
    assert world.deleted() == []
    with ledger.write() as connection:
        connection.change("UPDATE task SET approved = 1 WHERE id = :id", {"id": task_id})
        tasks.transition(connection, task_id, TaskState.QUEUED, "approved")
    perform(job_of(ledger, task_id, tmp_path), world.trade())
    task = look(ledger, task_id)
    assert (task.state, task.totals.deleted, task.totals.copied) == (TaskState.SUCCEEDED, 30, 400)
    assert len(world.deleted()) == 30
    assert_counts_agree(ledger, task_id)


def test_a_destination_that_is_taken_is_waited_for(tmp_path, ledger):
    other = submit(ledger, name="other")
    with ledger.write() as connection:
        holding.hold(connection, other, this_process(), lambda task: False)
        holding.settle(connection, other, ("fake", b"z/"), ("fake", b"b/below/"), "h")
    world = _world(tmp_path)
    task_id = submit(ledger)
    assert perform(job_of(ledger, task_id, tmp_path), world.trade()) == 0
    task = look(ledger, task_id)
    assert (task.state, task.owner.pid, task.destination) == (TaskState.QUEUED, 0, ("fake", b"b/"))
    assert task.reason.startswith(f"waits for task {other}")
    assert world.done() == []
    with ledger.write() as connection:
        holding.leave(connection, other, TaskState.FAILED, "x")
    perform(job_of(ledger, task_id, tmp_path), world.trade())
    assert look(ledger, task_id).state is TaskState.SUCCEEDED
    assert look(ledger, task_id).reason == ""


def test_a_task_that_somebody_drives_is_left_alone(tmp_path, ledger):
    world = _world(tmp_path)
    task_id = submit(ledger)
    with ledger.write() as connection:
        holding.hold(connection, task_id, this_process(), is_alive)
    assert perform(job_of(ledger, task_id, tmp_path), world.trade()) == 0
    assert look(ledger, task_id).state is TaskState.QUEUED
    assert world.done() == []


def test_places_that_moved_under_a_begun_task_are_refused(tmp_path, ledger):
    world = _world(tmp_path)
    task_id = submit(ledger)
    with ledger.write() as connection:
        holding.settle(connection, task_id, ("fake", b"elsewhere/"), ("fake", b"b/"), "h")
        shards.add_ranges(connection, task_id, "scan", [])
    perform(job_of(ledger, task_id, tmp_path), world.trade())
    task = look(ledger, task_id)
    assert task.state is TaskState.FAILED
    assert "another place" in task.reason


@pytest.mark.parametrize(("order", "state"), [("pause", TaskState.PAUSED), ("cancel", TaskState.CANCELLED)])
def test_orders_are_obeyed_in_the_middle(tmp_path, ledger, order, state):
    world = _world(tmp_path, pause=0.05, chunk=2)
    task_id = submit(ledger)
    job = job_of(ledger, task_id, tmp_path)
    pid = forked(lambda: perform(job, world.trade()))
    wait_for_state(ledger, task_id, TaskState.RUNNING)
    with ledger.write() as connection:
        tasks.order_stop(connection, task_id, order)
    assert ended(pid) == 0
    task = look(ledger, task_id)
    assert (task.state, task.stop, task.owner.pid) == (state, "", 0)
    assert 0 < task.totals.copied < 400
    assert_counts_agree(ledger, task_id)


def test_a_pause_that_was_taken_back_queues_the_task_again(tmp_path, ledger):
    task_id = submit(ledger)
    with ledger.write() as connection:
        holding.hold(connection, task_id, this_process(), is_alive)
        tasks.transition(connection, task_id, TaskState.SCANNING)
        assert orders.pause(connection, task_id) is TaskState.SCANNING
        assert orders.resume(connection, task_id) is TaskState.SCANNING
        assert holding.leave(connection, task_id, TaskState.PAUSED, "paused") is TaskState.QUEUED
    assert look(ledger, task_id).reason == "resumed"


def test_a_server_that_stops_leaves_the_task_in_the_queue_and_it_goes_on(tmp_path, ledger):
    world = _world(tmp_path, pause=0.05, chunk=2)
    task_id = submit(ledger)
    job = job_of(ledger, task_id, tmp_path)
    pid = forked(lambda: perform(job, world.trade()))
    wait_for_state(ledger, task_id, TaskState.RUNNING)
    os.kill(pid, signal.SIGTERM)
    assert ended(pid) == 0
    task = look(ledger, task_id)
    assert (task.state, task.stop, task.owner.pid) == (TaskState.QUEUED, "", 0)
    assert "the server stopped" in task.reason
    with ledger.read() as connection:
        assert {state for _, state in tasks.shard_counts(connection, task_id)} <= {"queued", "done"}
    world.pause = 0.0
    perform(job_of(ledger, task_id, tmp_path), world.trade())
    task = look(ledger, task_id)
    assert (task.state, task.totals.copied, task.resumed) == (TaskState.SUCCEEDED, 400, 1)
    assert sorted(world.done()) == world.keys, "what was reported is not done again"


def test_orders_come_through_while_the_places_are_looked_at(tmp_path, ledger):
    world = _world(tmp_path)
    trade = world.trade()
    slow = trade.__class__(lambda spec, env: signal.pause(), trade.plan, trade.open_session)
    task_id = submit(ledger)
    job = job_of(ledger, task_id, tmp_path)
    pid = forked(lambda: perform(job, slow))
    wait_until(lambda: look(ledger, task_id).owner.pid == pid)
    with ledger.write() as connection:
        tasks.order_stop(connection, task_id, "pause")
    assert ended(pid) == 0
    assert look(ledger, task_id).state is TaskState.PAUSED
    assert children_of(pid) == []


def test_a_scout_that_dies_puts_the_task_back(tmp_path, ledger):
    world = _world(tmp_path)
    trade = world.trade()
    slow = trade.__class__(lambda spec, env: os._exit(9), trade.plan, trade.open_session)
    task_id = submit(ledger)
    assert perform(job_of(ledger, task_id, tmp_path), slow) == AGAIN
    assert (look(ledger, task_id).state, look(ledger, task_id).owner.pid) == (TaskState.QUEUED, 0)


def test_a_dead_owner_is_taken_over_from(tmp_path, ledger):
    world = _world(tmp_path, pause=0.05, chunk=2)
    task_id = submit(ledger)
    job = job_of(ledger, task_id, tmp_path)
    pid = forked(lambda: perform(job, world.trade()))
    wait_for_state(ledger, task_id, TaskState.RUNNING)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -9
    with ledger.write() as connection:
        assert [lost.id for lost in holding.lost(connection, is_alive, frozenset())] == [task_id]
    assert look(ledger, task_id).state is TaskState.QUEUED
    world.pause = 0.0
    perform(job_of(ledger, task_id, tmp_path), world.trade())
    task = look(ledger, task_id)
    assert (task.state, task.totals.copied, task.resumed) == (TaskState.SUCCEEDED, 400, 1)
    assert set(world.done()) == set(world.keys)
    assert_counts_agree(ledger, task_id)


@pytest.mark.parametrize("state", [TaskState.PAUSED, TaskState.REVIEW, TaskState.QUEUED])
def test_cancelling_what_nobody_drives_undoes_it(tmp_path, ledger, state):
    world = _world(tmp_path)
    task_id = submit(ledger)
    with ledger.write() as connection:
        if state is not TaskState.QUEUED:
            tasks.transition(connection, task_id, state)
        tasks.order_stop(connection, task_id, "cancel")
    assert perform(job_of(ledger, task_id, tmp_path, undo=True), world.trade()) == 0
    task = look(ledger, task_id)
    assert (task.state, task.stop, task.owner.pid) == (TaskState.CANCELLED, "", 0)
    assert perform(job_of(ledger, task_id, tmp_path, undo=True), world.trade()) == 0
    assert look(ledger, task_id).state is TaskState.CANCELLED


def test_a_paused_task_is_not_driven_by_mistake(tmp_path, ledger):
    world = _world(tmp_path)
    task_id = submit(ledger)
    with ledger.write() as connection:
        tasks.transition(connection, task_id, TaskState.PAUSED)
    perform(job_of(ledger, task_id, tmp_path), world.trade())
    assert look(ledger, task_id).state is TaskState.PAUSED
    assert world.done() == []
