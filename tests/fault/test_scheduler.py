"""The processes of a server and its ledger, without HTTP: tasks begin, wait, stop, go on, and nothing is lost."""

from __future__ import annotations

import os
import random
import signal
import time

import pytest

from entrepot.ledger import legs, orders, tasks
from entrepot.ledger.database import open_ledger
from entrepot.ledger.filing import Filing
from entrepot.ledger.ids import new_id
from entrepot.model.errors import WrongState
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskSpec, TaskState
from fake_trade import World
from ledger_parts import assert_counts_agree, assert_partition
from serve_parts import Running, gone, look, submit, wait_for_state, wait_until

S = TaskState
SLOW = {"pause": 0.05, "chunk": 2}


@pytest.fixture
def start(tmp_path, ledger):
    """``start(world, **settings)`` runs a server; it is ended with the test."""
    begun = []

    def make(world=None, **settings):
        world = {"count": 400, "chunk": 20, "effects": str(tmp_path / "effects"), **(world or {})}
        if ledger.place:
            settings["database_url"] = ledger.place
        begun.append(Running(tmp_path, world, **settings))
        return begun[-1]

    yield make
    for server in begun:
        if server.process.poll() is None:
            server.stop(signal.SIGKILL)


BOTH = pytest.mark.parametrize("ledger", ["sqlite", "postgresql"], indirect=True)


@pytest.fixture
def ledger(request, tmp_path):
    """In a file; for the tests that say so also in PostgreSQL."""
    (tmp_path / "data").mkdir()
    place = str(request.getfixturevalue("postgres_ledger")) if getattr(request, "param", "") == "postgresql" else ""
    found = open_ledger(place or str(tmp_path / "data" / "ledger.db"))
    found.place = place
    yield found
    found.close()


def _order(ledger, what, task_id, *more):
    with ledger.write() as connection:
        return what(connection, task_id, *more)


def _all(ledger):
    with ledger.read() as connection:
        return tasks.listing(connection, 1000)


def test_tasks_run_at_once_up_to_the_limit_and_all_end(start, ledger):
    start({"count": 60}, max_tasks=3)
    ids = [submit(ledger, options=SyncOptions(dry_run=True)) for _ in range(12)]
    for task_id in ids:
        task = wait_for_state(ledger, task_id, seconds=60)
        assert (task.totals.copied, task.percent, task.owner.pid) == (60, 100, 0)
        assert_counts_agree(ledger, task_id)


@BOTH
def test_one_destination_is_written_by_one_task_at_a_time(start, ledger, tmp_path):
    start({"pause": 0.01}, max_tasks=4)
    ids = [submit(ledger) for _ in range(3)]
    seen_together = 0
    while any(look(ledger, task_id).state is not S.SUCCEEDED for task_id in ids):
        running = [task for task in _all(ledger) if task.state in {S.SCANNING, S.RUNNING}]
        seen_together = max(seen_together, len(running))
        time.sleep(0.02)
    assert seen_together == 1
    assert sorted(World(count=400, effects=str(tmp_path / "effects")).done()) == sorted(World(count=400).keys * 3)


@BOTH
def test_pause_and_resume_at_every_state(start, ledger, tmp_path):
    server = start(SLOW, max_tasks=1)
    first, second = submit(ledger), submit(ledger)
    wait_for_state(ledger, first, S.RUNNING)
    assert _order(ledger, orders.pause, second) is S.PAUSED, "it waits: nothing has to stop"
    _order(ledger, orders.pause, first)
    _order(ledger, orders.pause, first)
    wait_for_state(ledger, first, S.PAUSED)
    before = look(ledger, first).totals.copied
    assert before > 0
    wait_until(lambda: not server.conductors())
    assert _order(ledger, orders.pause, first) is S.PAUSED
    assert _order(ledger, orders.resume, first) is S.QUEUED
    wait_for_state(ledger, first, S.RUNNING)
    _order(ledger, orders.pause, first)
    _order(ledger, orders.resume, first)
    task = wait_for_state(ledger, first, seconds=60)
    assert task.totals.copied == 400
    with pytest.raises(WrongState, match="SUCCEEDED: it cannot be paused"):
        _order(ledger, orders.pause, first)
    assert look(ledger, second).state is S.PAUSED
    assert_counts_agree(ledger, first)


@pytest.mark.parametrize("at", [S.QUEUED, S.RUNNING, S.PAUSED, S.REVIEW])
def test_case_70_cancel_at_each_state_twice_and_after_the_end(start, ledger, at):
    world = {"doomed": 30} if at is S.REVIEW else SLOW
    start(world, max_tasks=1)
    options = SyncOptions(delete="destination", delete_max_count=1) if at is S.REVIEW else SyncOptions()
    blocker = submit(ledger, options=SyncOptions(dry_run=True), priority=9) if at is S.QUEUED else ""
    task_id = submit(ledger, options=options)
    if at is S.QUEUED:
        wait_for_state(ledger, blocker, S.RUNNING)
    elif at is S.PAUSED:
        wait_for_state(ledger, task_id, S.RUNNING)
        _order(ledger, orders.pause, task_id)
    wait_for_state(ledger, task_id, at)
    _order(ledger, orders.cancel, task_id)
    _order(ledger, orders.cancel, task_id)
    task = wait_for_state(ledger, task_id, S.CANCELLED)
    assert task.owner.pid == 0
    assert _order(ledger, orders.cancel, task_id) is S.CANCELLED
    with pytest.raises(WrongState):
        _order(ledger, orders.resume, task_id)
    assert look(ledger, task_id).state is S.CANCELLED
    assert_counts_agree(ledger, task_id)


def test_case_70_cancel_after_complete_changes_nothing(start, ledger):
    start()
    task_id = submit(ledger)
    wait_for_state(ledger, task_id)
    with pytest.raises(WrongState, match="is SUCCEEDED: it cannot be cancelled"):
        _order(ledger, orders.cancel, task_id)
    assert look(ledger, task_id).state is S.SUCCEEDED


def test_review_is_approved_or_rejected(start, ledger, tmp_path):
    start({"doomed": 30}, max_tasks=2)
    options = SyncOptions(delete="destination", delete_max_count=1)
    refused, allowed = submit(ledger, options=options), submit(ledger, options=options)
    wait_for_state(ledger, refused, S.REVIEW)
    wait_for_state(ledger, allowed, S.REVIEW)
    world = World(count=400, effects=str(tmp_path / "effects"))
    assert world.deleted() == []
    assert _order(ledger, orders.reject, refused, "not these") is S.REJECTED
    assert look(ledger, refused).reason == "not these"
    _order(ledger, orders.approve, allowed)
    task = wait_for_state(ledger, allowed)
    assert task.totals.deleted == len(world.deleted()) == 30


@BOTH
def test_a_stopped_server_goes_on_where_it_was(start, ledger, tmp_path):
    server = start({**SLOW, "cuts": 6})
    task_id = submit(ledger)
    wait_for_state(ledger, task_id, S.RUNNING)
    assert server.stop() == 0
    task = look(ledger, task_id)
    assert (task.state, task.stop, task.owner.pid) == (S.QUEUED, "", 0)
    before = task.percent
    start({"cuts": 6})
    task = wait_for_state(ledger, task_id)
    assert (task.totals.copied, task.percent, task.resumed) == (400, 100, 1)
    assert before <= task.percent
    done = World(count=400, effects=str(tmp_path / "effects")).done()
    assert sorted(done) == World(count=400).keys, "a drained server does nothing twice"


def test_a_pause_that_comes_while_the_server_is_down_holds(start, ledger):
    server = start(SLOW)
    task_id = submit(ledger)
    wait_for_state(ledger, task_id, S.RUNNING)
    server.stop(signal.SIGKILL)
    assert look(ledger, task_id).owner.pid != 0
    _order(ledger, orders.pause, task_id)
    start()
    wait_for_state(ledger, task_id, S.PAUSED)
    _order(ledger, orders.resume, task_id)
    wait_for_state(ledger, task_id)


def test_a_cancel_that_comes_while_the_server_is_down_is_done_by_the_next(start, ledger):
    server = start(SLOW)
    task_id = submit(ledger)
    wait_for_state(ledger, task_id, S.RUNNING)
    server.stop(signal.SIGKILL)
    _order(ledger, orders.cancel, task_id)
    start()
    wait_for_state(ledger, task_id, S.CANCELLED)


def test_urgent_tasks_go_first_and_not_before_is_kept(start, ledger):
    ids = {name: submit(ledger, name=name, priority=rank) for name, rank in (("c", 0), ("b", 1), ("a", 5))}
    late = submit(ledger, name="late", priority=9, not_before=time.time() + 4)
    start({"count": 40}, max_tasks=1)
    for task_id in (*ids.values(), late):
        wait_for_state(ledger, task_id)
    begun = sorted(_all(ledger), key=lambda task: task.started)
    assert [task.filing.name for task in begun] == ["a", "b", "c", "late"]
    assert look(ledger, late).started >= look(ledger, late).filing.not_before


@BOTH
def test_quotas_and_limits_of_connections_hold_back_only_who_they_are_for(start, ledger):
    with ledger.write() as connection:
        connection.change(
            """INSERT INTO connection (id, name, provider, document, secrets, max_tasks, created, updated)
            VALUES ('c1', 'c1', 'generic', '{}', '{}', 1, now(), now())"""
        )
        connection.change("INSERT INTO quota (scope, name, amount) VALUES ('team', 'max_running', 1)")
    start({"pause": 0.01, "chunk": 2}, max_tasks=6)
    dry = SyncOptions(dry_run=True)
    limited = [submit(ledger, options=dry, source_connection="c1") for _ in range(2)]
    team = [submit(ledger, options=dry, scope=f"team/{n}") for n in range(2)]
    free = submit(ledger, options=dry)
    most = {"limited": 0, "team": 0}
    while look(ledger, free).state is not S.SUCCEEDED:
        for name, ids in (("limited", limited), ("team", team)):
            most[name] = max(most[name], sum(look(ledger, i).state in {S.SCANNING, S.RUNNING} for i in ids))
        time.sleep(0.02)
    assert most == {"limited": 1, "team": 1}
    for task_id in (*limited, *team):
        wait_for_state(ledger, task_id, seconds=40)


@BOTH
def test_two_servers_on_one_ledger_one_works_the_other_takes_over(start, ledger, tmp_path):
    one = start({"count": 40})
    wait_for_state(ledger, submit(ledger))
    other = start({"count": 40})
    task_id = submit(ledger)
    wait_for_state(ledger, task_id)
    with ledger.read() as connection:
        held_by = connection.value("SELECT holder FROM leader WHERE name = 'scheduler'")
    assert int(held_by.split("|")[2]) in one.parts()
    one.stop(signal.SIGKILL)
    wait_for_state(ledger, submit(ledger))
    with ledger.read() as connection:
        held_by = connection.value("SELECT holder FROM leader WHERE name = 'scheduler'")
    assert int(held_by.split("|")[2]) in other.parts()
    done = World(count=40, effects=str(tmp_path / "effects")).done()
    assert len(done) == 3 * 40, "nothing ran twice"


def _parent(ledger, sources, **options):
    def new(**more):
        return tasks.NewTask(
            new_id(), TaskSpec("sync", "src", "dst", SyncOptions(**options).to_json()), "",
            filing=Filing(family="datasync", scope="s", **more),
        )  # fmt: skip

    parent = new(name="whole")
    with ledger.write() as connection:
        legs.create(connection, parent, [new() for _ in range(sources)])
    return parent.id


def test_legs_are_folded_into_their_task(start, ledger):
    start({"count": 50}, max_tasks=2)
    task_id = _parent(ledger, 3)
    task = wait_for_state(ledger, task_id)
    assert (task.totals.copied, task.totals.total, task.percent) == (150, 150, 100)
    with ledger.read() as connection:
        counted = {row.state: row.tasks for row in connection.execute("SELECT state, tasks FROM task_count")}
    assert {state: n for state, n in counted.items() if n} == {"SUCCEEDED": 1}


@BOTH
def test_orders_on_a_task_with_legs_go_to_its_legs(start, ledger):
    start(SLOW, max_tasks=2)
    task_id = _parent(ledger, 2)
    wait_for_state(ledger, task_id, S.RUNNING)
    _order(ledger, orders.pause, task_id)
    wait_for_state(ledger, task_id, S.PAUSED)
    _order(ledger, orders.resume, task_id)
    wait_for_state(ledger, task_id, S.RUNNING)
    _order(ledger, orders.cancel, task_id)
    wait_for_state(ledger, task_id, S.CANCELLED)
    with ledger.read() as connection:
        ids = legs.of(connection, task_id)
    assert {look(ledger, leg).state for leg in ids} == {S.CANCELLED}


@BOTH
def test_retry_looks_only_at_what_failed_and_counts_go_down(start, ledger, tmp_path):
    failing = frozenset({3, 77, 200})
    server = start({"failing": failing})
    task_id = submit(ledger)
    task = wait_for_state(ledger, task_id, S.FAILED)
    assert (task.totals.failed, task.totals.copied) == (3, 397)
    server.stop()
    (tmp_path / "effects").unlink()
    start({"failing": frozenset({77})})
    _order(ledger, orders.retry, task_id)
    with pytest.raises(WrongState):
        _order(ledger, orders.retry, task_id)
    wait_until(lambda: look(ledger, task_id).totals.failed == 1)
    task = wait_for_state(ledger, task_id, S.FAILED)
    assert (task.totals.failed, task.totals.copied, task.totals.total) == (1, 399, 400)
    assert task.totals.failed_bytes == 10
    assert_counts_agree(ledger, task_id)
    world = World(count=400, effects=str(tmp_path / "effects"))
    assert world.done() == [world.keys[3], world.keys[200]]
    with ledger.read() as connection:
        rows = connection.execute("SELECT key FROM failure WHERE task_id = :id", {"id": task_id})
        assert [bytes(row.key) for row in rows] == [world.keys[77]]
        assert connection.value("SELECT entries FROM failure_count WHERE task_id = :id", {"id": task_id}) == 1


def test_case_74_percent_never_falls(start, ledger):
    start({**SLOW, "failing": frozenset(range(0, 400, 40))})
    task_id = submit(ledger)
    marks = []
    while (task := look(ledger, task_id)).state is not S.FAILED:
        marks.append(task.percent)
        time.sleep(0.02)
    assert marks == sorted(marks)
    assert max(marks) < 100
    _order(ledger, orders.retry, task_id)
    wait_for_state(ledger, task_id, S.FAILED)
    assert look(ledger, task_id).percent >= marks[-1]


@BOTH
@pytest.mark.parametrize("seed", range(int(os.environ.get("KILL_SEEDS", "3"))))
def test_case_68_killed_again_and_again_everything_ends_once(start, ledger, tmp_path, seed):
    """kill -9 of runners, conductors, zygote, scheduler and the whole server at random moments."""
    chance = random.Random(seed)
    world = {"count": 1200, "chunk": 5, "pause": 0.01, "cuts": 6, "doomed": 20, "present": 1200}
    server = start(world, max_tasks=3)
    ids = [submit(ledger, options=SyncOptions(delete="destination", dry_run=n > 0)) for n in range(3)]
    highest = dict.fromkeys(ids, 0)

    def check_percent():
        for task_id in ids:
            now = look(ledger, task_id).percent
            assert now >= highest[task_id], "percent fell"
            highest[task_id] = now

    for _ in range(8):
        time.sleep(chance.uniform(0.05, 0.6))
        check_percent()
        victim = chance.choice(["runner", "conductor", "part", "server"])
        pool = {"runner": server.runners, "conductor": server.conductors, "part": server.parts}.get(victim)
        if pool is None:
            server.stop(signal.SIGKILL)
            server = start(world, max_tasks=3)
            continue
        found = pool()
        if found:
            try:
                os.kill(chance.choice(found), signal.SIGKILL)
            except ProcessLookupError:
                pass
    for task_id in ids:
        task = wait_for_state(ledger, task_id, seconds=60)
        assert (task.totals.copied, task.totals.total, task.totals.deleted) == (1200, 1200, 20)
        assert task.percent == 100
        assert_counts_agree(ledger, task_id)
        assert_partition(ledger, task_id)
    check_percent()
    assert set(World(count=1200, effects=str(tmp_path / "effects")).done()) == set(World(count=1200).keys)
    parts = server.everyone()
    assert server.stop() == 0
    assert all(gone(pid) for pid in parts)


def test_a_task_whose_process_always_dies_fails_in_the_end(start, ledger, tmp_path, monkeypatch):
    server = start({**SLOW, "pause": 2.0, "chunk": 1})
    task_id = submit(ledger)
    killed = 0
    while look(ledger, task_id).state is not S.FAILED and killed < 40:
        for pid in server.conductors():
            try:
                os.kill(pid, signal.SIGKILL)
                killed += 1
            except ProcessLookupError:
                pass
        time.sleep(0.05)
    task = look(ledger, task_id)
    assert task.state is S.FAILED
    assert "its process died" in task.reason
