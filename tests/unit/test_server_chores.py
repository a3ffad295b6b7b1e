"""What is forgotten in time, what is kept, and how tasks share the bandwidth of a server."""

from __future__ import annotations

import os

import pytest

from entrepot.ledger import legs, live, tasks
from entrepot.ledger.database import open_ledger
from entrepot.ledger.filing import Filing
from entrepot.ledger.ids import new_id
from entrepot.ledger.live import Live
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskSpec, TaskState
from entrepot.service import reports
from entrepot.service.chores import prune, sweep
from entrepot.service.pacing import Pacer, allowance, effective
from serve_parts import job_of, look, submit

S = TaskState


@pytest.fixture
def ledger(ledger_place):
    found = open_ledger(ledger_place)
    yield found
    found.close()


def _end(ledger, task_id, age=0.0):
    with ledger.write() as connection:
        tasks.transition(connection, task_id, S.FAILED, "x")
        connection.change("UPDATE task SET finished = finished - :age WHERE id = :id", {"id": task_id, "age": age})


def _write(path):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "w", encoding="utf-8") as file:
        file.write("{}")


def test_old_tasks_go_with_their_files_and_hidden_connections(ledger, tmp_path):
    old, young, live_one = submit(ledger), submit(ledger), submit(ledger)
    _end(ledger, old, 1000.0)
    _end(ledger, young)
    with ledger.write() as connection:
        for task_id in (old, young):
            connection.change(
                """INSERT INTO connection (id, name, task_id, provider, document, secrets, created, updated)
                VALUES (:id, :id, :id, 'generic', '{}', '{}', now(), now())""",
                {"id": task_id},
            )
    state = str(tmp_path)
    for task_id in (old, young, live_one):
        _write(reports.report_place(state, task_id))
        _write(f"{state}/segments/{task_id}/1.segment")
        _write(f"{state}/segments/{task_id}.again/1.segment")
        _write(f"{state}/lists/{task_id}.txt")
    prune(ledger, 500.0)
    sweep(ledger, state, 0.0)
    with ledger.read() as connection:
        left = {row.id for row in connection.execute("SELECT id FROM task")}
        hidden = {row.task_id for row in connection.execute("SELECT task_id FROM connection")}
    assert left == {young, live_one}
    assert hidden == {young}
    assert reports.kept(state) == sorted([young, live_one])
    prune(ledger, 0.0)
    assert look(ledger, young).state is S.FAILED, "0 days: never"


def test_reports_that_are_too_old_go_before_their_task(ledger, tmp_path):
    task_id = submit(ledger)
    place = reports.report_place(str(tmp_path), task_id)
    _write(place)
    sweep(ledger, str(tmp_path), 3600.0)
    assert os.path.exists(place)
    os.utime(place, (1, 1))
    sweep(ledger, str(tmp_path), 3600.0)
    assert not os.path.exists(place)


def test_allowances():
    assert allowance(SyncOptions(), 1000, 4, 0.0) == 250
    assert allowance(SyncOptions(bandwidth=100), 1000, 4, 0.0) == 100
    assert allowance(SyncOptions(bandwidth=9999), 1000, 4, 0.0) == 250
    assert allowance(SyncOptions(), 3, 10, 0.0) == 1
    windows = ("00:00-24:00=70",)
    assert allowance(SyncOptions(bandwidth=500, bandwidth_windows=windows), 1000, 2, 0.0) == 70


def test_tasks_share_the_limit_of_the_server_as_they_come_and_go(ledger, tmp_path):
    first, second = submit(ledger), submit(ledger)
    options = SyncOptions(bandwidth_windows=("00:00-24:00=4000",))
    job = job_of(ledger, first, tmp_path, bandwidth=1000, processes=2, together=1)
    given = effective(options, job, 0.0)
    assert (given.bandwidth, given.bandwidth_windows) == (1000, ())
    pacer = Pacer(ledger, job, SyncOptions(), lambda: 0)
    port = pacer.port("r1")
    assert port.report([]).bandwidth is None

    def pace():
        with ledger.write() as connection:
            pacer.pace(connection)
        return port.report([]).bandwidth

    with ledger.write() as connection:
        live.save(connection, first, Live())
    assert pace() == 500, "alone: each of two processes has half"
    assert pace() is None, "told once"
    with ledger.write() as connection:
        live.save(connection, second, Live())
    assert pace() == 250
    with ledger.write() as connection:
        live.drop(connection, second)
    assert pace() == 500


def test_without_a_limit_options_are_left_alone(ledger, tmp_path):
    task_id = submit(ledger)
    options = SyncOptions(bandwidth=5, bandwidth_windows=("01:00-02:00=7",))
    assert effective(options, job_of(ledger, task_id, tmp_path)) == options
    told = effective(SyncOptions(report="yes"), job_of(ledger, task_id, tmp_path)).report
    assert told == reports.report_place(str(tmp_path), task_id)


def _family(ledger, *states):
    def new(**filing):
        spec = TaskSpec("sync", "a", "b", SyncOptions().to_json())
        return tasks.NewTask(new_id(), spec, "", filing=Filing(family="datasync", scope="s", **filing))

    parent, children = new(), [new() for _ in states]
    with ledger.write() as connection:
        legs.create(connection, parent, children)
        for child, state in zip(children, states, strict=True):
            _walk(connection, child.id, state)
        legs.fold(connection, parent.id)
    return parent.id, [child.id for child in children]


def _walk(connection, task_id, state):
    ways = {
        S.RUNNING: [S.SCANNING, S.RUNNING],
        S.SUCCEEDED: [S.SCANNING, S.SUCCEEDED],
        S.REJECTED: [S.REVIEW, S.REJECTED],
    }
    for step in ways.get(state, [state]):
        tasks.transition(connection, task_id, step)


@pytest.mark.parametrize(
    ("states", "whole"),
    [
        ([S.QUEUED, S.QUEUED], S.QUEUED),
        ([S.QUEUED, S.RUNNING], S.RUNNING),
        ([S.SUCCEEDED, S.SCANNING], S.SCANNING),
        ([S.SUCCEEDED, S.PAUSED], S.PAUSED),
        ([S.PAUSED, S.REVIEW], S.PAUSED),
        ([S.SUCCEEDED, S.REVIEW], S.REVIEW),
        ([S.SUCCEEDED, S.SUCCEEDED], S.SUCCEEDED),
        ([S.SUCCEEDED, S.FAILED], S.FAILED),
        ([S.CANCELLED, S.FAILED], S.FAILED),
        ([S.CANCELLED, S.SUCCEEDED], S.CANCELLED),
        ([S.REJECTED, S.SUCCEEDED], S.FAILED),
    ],
)
def test_what_legs_are_together(ledger, states, whole):
    parent, _ = _family(ledger, *states)
    assert look(ledger, parent).state is whole
    assert (look(ledger, parent).percent == 100) is (whole is S.SUCCEEDED)
    with ledger.read() as connection:
        assert legs.unfolded(connection) == []
        counted = {row.state: row.tasks for row in connection.execute("SELECT state, tasks FROM task_count")}
    assert {state: n for state, n in counted.items() if n} == {str(whole): 1}


def test_a_whole_that_began_does_not_fall_back_while_a_leg_waits(ledger):
    parent, (one, _) = _family(ledger, S.RUNNING, S.QUEUED)
    with ledger.write() as connection:
        tasks.transition(connection, one, S.SUCCEEDED)
        assert legs.unfolded(connection) == [], "still running, whichever leg does"
        assert legs.fold(connection, parent) is S.RUNNING
