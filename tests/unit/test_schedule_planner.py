"""Schedules that come due: one run each, whatever went on meanwhile, and as the person who may."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from entrepot.control import schedules, starting
from entrepot.control.context import Control
from entrepot.control.schedules import Changes, NewSchedule
from entrepot.ledger import access, places, tasks
from entrepot.ledger import schedules as rows
from entrepot.ledger.database import Row
from entrepot.ledger.ids import new_id
from entrepot.ledger.places import StoredVolume
from entrepot.ledger.pool import LedgerPool
from entrepot.ledger.schedules import Schedule
from entrepot.model.errors import AccessError, RequestError, WrongState
from entrepot.model.task import TaskState
from entrepot.security.identity import Grant, Kind, Principal, Role
from entrepot.service import planner
from parts.api_server import control_over
from plan_parts import end_task

REQUEST = {"source": "volume://in/a", "destination": "volume://out/b"}
HOUR = 3600.0


@pytest.fixture
def control(ledger_place: str, tmp_path: Path) -> Iterator[Control]:
    made, _ = control_over(ledger_place, tmp_path / "data")
    with made.pool.write() as c:
        for name in ("in", "out"):
            (tmp_path / name).mkdir()
            places.add_volume(c, StoredVolume(new_id(), name, str(tmp_path / name)))
    yield made
    made.pool.close()


def _user(control: Control, role: Role = Role.EDITOR, scope: str = "team", name: str = "ann") -> Principal:
    made = Principal(new_id(), name, Kind.USER, (Grant(role, scope),))
    with control.pool.write() as c:
        grants = f'[{{"role": "{role}", "scope": "{scope}"}}]'
        access.add_principal(c, made.id, name, "user", grants)
    return made


@pytest.fixture
def ann(control: Control) -> Principal:
    return _user(control)


def _make(control: Control, who: Principal, **more: Any) -> Schedule:
    values: dict[str, Any] = {"name": "nightly", "cron": "0 * * * *", "request": REQUEST, "scope": "team", **more}
    return schedules.create(control, who, NewSchedule(**values)).schedule


def _row(control: Control, schedule: Schedule) -> Schedule:
    with control.pool.read() as c:
        found = rows.read(c, schedule.id)
    assert found is not None
    return found


def _tasks(control: Control, schedule: Schedule) -> list[Row]:
    with control.pool.read() as c:
        sql = "SELECT * FROM task WHERE schedule_id = :id ORDER BY created, id"
        return c.execute(sql, {"id": schedule.id})


def _due(schedule: Schedule) -> float:
    assert schedule.next_due is not None
    return schedule.next_due


def test_a_run_is_started_when_it_is_due_and_not_before(control: Control, ann: Principal) -> None:
    made = _make(control, ann, request={**REQUEST, "options": {"compare": "size"}, "priority": 5})
    first = _due(made)
    assert planner.due(control, first - 0.001) == first
    assert _tasks(control, made) == []
    assert planner.due(control, first) == first + HOUR
    [task] = _tasks(control, made)
    assert (task.state, task.family, task.scope, task.creator, task.name) == (
        "QUEUED", "native", "team", "ann", "nightly",
    )  # fmt: skip
    assert (task.source, task.destination, task.priority) == ("volume://in/a/", "volume://out/b/", 5)
    found = _row(control, made)
    assert (found.runs, found.last_task, found.last_run, found.last_error) == (1, task.id, first, "")
    planner.due(control, first)
    assert len(_tasks(control, made)) == 1


def test_the_next_look_is_never_after_what_is_due(control: Control, ann: Principal) -> None:
    assert planner.look(control) == planner.LOOK_SECONDS
    made = _make(control, ann)
    assert 0 <= planner.look(control) <= planner.LOOK_SECONDS
    with control.pool.write() as c:
        c.change("UPDATE schedule SET next_due = now() + 2")
    assert 0 <= planner.look(control) <= 2
    with control.pool.write() as c:
        c.change("UPDATE schedule SET next_due = now() - 1000")
    planner.look(control)
    assert len(_tasks(control, made)) == 1


def test_missed_runs_are_made_up_for_by_one(control: Control, ann: Principal) -> None:
    made = _make(control, ann)
    later = _due(made) + 50 * HOUR + 60
    assert planner.due(control, later) == _due(made) + 51 * HOUR
    assert len(_tasks(control, made)) == 1
    assert _row(control, made).runs == 1


def test_case_72_many_schedulers_at_the_same_schedules_start_one_run_each(
    control: Control, ann: Principal, ledger_place: str
) -> None:
    """Three servers on one ledger, two threads in each."""
    made = [_make(control, ann, name=f"s{n}") for n in range(5)]
    now = _due(made[0])
    barrier = threading.Barrier(6)
    faults: list[BaseException] = []

    def schedule(server: Control) -> None:
        try:
            barrier.wait(20)
            planner.due(server, now)
        except BaseException as error:
            faults.append(error)

    servers = [replace(control, pool=LedgerPool(ledger_place)) for _ in range(3)]
    threads = [threading.Thread(target=schedule, args=(server,)) for server in servers * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    for server in servers:
        server.pool.close()
    assert faults == []
    assert [len(_tasks(control, one)) for one in made] == [1] * 5
    # Nobody else even tried: that would be a run that was skipped because of the other.
    assert [(_row(control, one).runs, _row(control, one).last_error) for one in made] == [(1, "")] * 5


def test_it_runs_so_often_at_most(control: Control, ann: Principal) -> None:
    made = _make(control, ann, max_count=2)
    now = _due(made)
    for number in range(4):
        following = planner.due(control, now + number * HOUR)
        for task in _tasks(control, made):
            if task.state == "QUEUED":
                end_task(control.pool, task.id)
    assert following is None
    found = _row(control, made)
    assert (found.runs, found.next_due, found.enabled) == (2, None, True)
    assert len(_tasks(control, made)) == 2
    more = schedules.change(control, ann, made.id, Changes(max_count=3)).schedule
    assert more.next_due is not None


def test_a_disabled_schedule_does_not_run_and_goes_on_without_what_it_missed(control: Control, ann: Principal) -> None:
    made = _make(control, ann, enabled=False)
    assert made.next_due is None
    assert planner.due(control, made.created + 100 * HOUR) is None
    on = schedules.change(control, ann, made.id, Changes(enabled=True)).schedule
    assert _due(on) > made.created
    off = schedules.change(control, ann, made.id, Changes(enabled=False)).schedule
    assert off.next_due is None
    assert _tasks(control, made) == []


def test_a_run_is_skipped_while_the_one_before_goes_on(control: Control, ann: Principal) -> None:
    made = _make(control, ann)
    now = _due(made)
    planner.due(control, now)
    planner.due(control, now + HOUR)
    [task] = _tasks(control, made)
    found = _row(control, made)
    assert (found.runs, found.next_due) == (1, now + 2 * HOUR)
    assert task.id in found.last_error
    assert "skipped" in found.last_error
    end_task(control.pool, task.id, TaskState.FAILED)
    planner.due(control, now + 2 * HOUR)
    assert len(_tasks(control, made)) == 2
    assert _row(control, made).last_error == ""


def test_a_queued_run_begins_when_the_one_before_has_ended(control: Control, ann: Principal) -> None:
    made = _make(control, ann, overlap="queue")
    now = _due(made)
    planner.due(control, now)
    for number in (1, 2, 3):
        following = planner.due(control, now + number * HOUR)
        assert following == now + number * HOUR + planner.WAITING_SECONDS
    [task] = _tasks(control, made)
    found = _row(control, made)
    assert (found.waiting, found.runs, found.next_due) == (True, 1, now + 4 * HOUR)
    end_task(control.pool, task.id)
    assert planner.due(control, now + 3 * HOUR + 1) == now + 4 * HOUR
    assert len(_tasks(control, made)) == 2
    assert not _row(control, made).waiting
    # All that was due meanwhile was one run.
    end_task(control.pool, _tasks(control, made)[1].id)
    planner.due(control, now + 3 * HOUR + 2)
    assert len(_tasks(control, made)) == 2


def test_a_run_that_goes_on_is_cancelled_for_the_next_one(control: Control, ann: Principal) -> None:
    made = _make(control, ann, overlap="cancel_running")
    now = _due(made)
    planner.due(control, now)
    planner.due(control, now + HOUR)
    first, second = _tasks(control, made)
    assert (first.state, second.state) == ("CANCELLED", "QUEUED")
    # One that a process drives takes its time.
    with control.pool.write() as c:
        c.change("UPDATE task SET owner_pid = 1 WHERE id = :id", {"id": second.id})
        tasks.begin(c, second.id)
    planner.due(control, now + 2 * HOUR)
    assert len(_tasks(control, made)) == 2
    assert _tasks(control, made)[1].stop == "cancel"
    assert _row(control, made).waiting
    end_task(control.pool, second.id, TaskState.CANCELLED)
    planner.due(control, now + 2 * HOUR + 1)
    assert [task.state for task in _tasks(control, made)] == ["CANCELLED", "CANCELLED", "QUEUED"]


def test_what_waits_is_dropped_when_the_schedule_is_disabled(control: Control, ann: Principal) -> None:
    made = _make(control, ann, overlap="queue")
    now = _due(made)
    planner.due(control, now)
    planner.due(control, now + HOUR)
    schedules.change(control, ann, made.id, Changes(enabled=False))
    end_task(control.pool, _tasks(control, made)[0].id)
    assert planner.due(control, now + HOUR + 5) is None
    assert len(_tasks(control, made)) == 1


@pytest.mark.parametrize("gone", [True, False])
def test_a_schedule_whose_creator_is_gone_or_disabled_is_switched_off(
    control: Control, ann: Principal, gone: bool
) -> None:
    made = _make(control, ann)
    bob = _user(control, name="bob")
    with control.pool.write() as c:
        if gone:
            access.remove_principal(c, ann.id)
        else:
            access.change_principal(c, ann.id, '[{"role": "editor", "scope": "team"}]', True)
    assert planner.due(control, _due(made)) is None
    found = _row(control, made)
    assert (found.enabled, found.next_due, found.runs) == (False, None, 0)
    assert ("gone" if gone else "disabled") in found.last_error
    assert _tasks(control, made) == []
    again = schedules.change(control, bob, made.id, Changes(enabled=True))
    assert again.creator == "bob"
    assert again.schedule.last_error == ""
    planner.due(control, _due(again.schedule))
    assert [task.creator for task in _tasks(control, made)] == ["bob"]


def test_another_user_with_the_name_of_one_who_is_gone_does_not_run_their_schedules(
    control: Control, ann: Principal
) -> None:
    made = _make(control, ann)
    with control.pool.write() as c:
        access.remove_principal(c, ann.id)
    _user(control, Role.ADMIN, "", "ann")
    planner.due(control, _due(made))
    assert _tasks(control, made) == []
    assert not _row(control, made).enabled


def test_rights_are_those_of_the_moment(control: Control, ann: Principal) -> None:
    made = _make(control, ann)
    now = _due(made)
    with control.pool.write() as c:
        access.change_principal(c, ann.id, '[{"role": "reader", "scope": "team"}]', False)
    planner.due(control, now)
    found = _row(control, made)
    assert "no right" in found.last_error
    assert (found.enabled, found.runs, found.next_due) == (True, 0, now + HOUR)
    with control.pool.write() as c:
        access.change_principal(c, ann.id, '[{"role": "editor", "scope": "team"}]', False)
    planner.due(control, now + HOUR)
    assert len(_tasks(control, made)) == 1


def test_a_place_that_is_gone_is_said_and_tried_again_next_time(control: Control, ann: Principal) -> None:
    made = _make(control, ann)
    now = _due(made)
    with control.pool.write() as c:
        found = places.volume(c, "out")
        assert found is not None
        places.remove_volume(c, found.id)
    planner.due(control, now)
    assert "'out'" in _row(control, made).last_error
    with control.pool.write() as c:
        places.add_volume(c, StoredVolume(new_id(), "out", found.path))
    planner.due(control, now + HOUR)
    assert len(_tasks(control, made)) == 1


def test_one_that_breaks_does_not_keep_others_from_running(
    control: Control, ann: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad, good = _make(control, ann, name="bad"), _make(control, ann, name="good")
    place = starting.syncs.place

    def fail(control: Control, c: Any, who: Principal, checked: Any, **more: Any) -> str:
        task_id = place(control, c, who, checked, **more)
        if more["schedule_id"] == bad.id:
            raise ZeroDivisionError("inside")
        return task_id

    monkeypatch.setattr(starting.syncs, "place", fail)
    now = _due(bad)
    assert planner.due(control, now) == now + HOUR
    assert (_tasks(control, bad), len(_tasks(control, good))) == ([], 1)
    found = _row(control, bad)
    assert "failed to start" in found.last_error
    assert "inside" not in found.last_error


def test_a_time_zone_that_is_gone_switches_off(control: Control, ann: Principal) -> None:
    made = _make(control, ann, zone="Europe/Berlin")
    with control.pool.write() as c:
        c.change("UPDATE schedule SET zone = 'Atlantis/Capital'")
    planner.due(control, _due(made))
    found = _row(control, made)
    assert not found.enabled
    assert "Atlantis" in found.last_error


def test_a_time_zone_that_is_gone_while_a_run_waits_switches_off_too(
    control: Control, ann: Principal, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = _make(control, ann, overlap="queue")
    now = _due(made)
    planner.due(control, now)
    planner.due(control, now + HOUR)
    end_task(control.pool, _tasks(control, made)[0].id)
    with control.pool.write() as c:
        c.change("UPDATE schedule SET zone = 'Atlantis/Capital', request = '{}'")
    planner.due(control, now + 2 * HOUR)
    found = _row(control, made)
    assert (found.enabled, found.waiting) == (False, False)


def test_one_that_cannot_even_be_put_off_does_not_keep_others_from_running(
    control: Control, ann: Principal, caplog: pytest.LogCaptureFixture
) -> None:
    bad, good = _make(control, ann, name="bad"), _make(control, ann, name="good")
    with control.pool.write() as c:
        c.change("UPDATE schedule SET request = 'no JSON', next_due = next_due - 60 WHERE id = :id", {"id": bad.id})
    planner.due(control, _due(good))
    assert len(_tasks(control, good)) == 1
    assert "failed to start" in _row(control, bad).last_error


def test_next_due_is_counted_in_its_zone(control: Control, ann: Principal) -> None:
    made = _make(control, ann, cron="30 2 * * *", zone="Asia/Shanghai")
    at = datetime.fromtimestamp(_due(made), UTC)
    assert (at.hour, at.minute) == (18, 30)


def test_run_now(control: Control, ann: Principal) -> None:
    made = _make(control, ann, max_count=5)
    shown = schedules.run_now(control, ann, made.id).schedule
    [task] = _tasks(control, made)
    assert (shown.last_task, shown.runs, shown.next_due) == (task.id, 1, made.next_due)
    with pytest.raises(WrongState, match=task.id):
        schedules.run_now(control, ann, made.id)
    schedules.change(control, ann, made.id, Changes(overlap="queue"))
    assert schedules.run_now(control, ann, made.id).schedule.waiting
    end_task(control.pool, task.id)
    planner.due(control, made.created)
    assert len(_tasks(control, made)) == 2


def test_run_now_of_what_is_switched_off_or_done(control: Control, ann: Principal) -> None:
    made = _make(control, ann, enabled=False)
    shown = schedules.run_now(control, ann, made.id).schedule
    assert (shown.enabled, shown.next_due, shown.runs) == (False, None, 1)


def test_nobody_lets_anothers_rights_work_for_a_request_of_their_own(control: Control, ann: Principal) -> None:
    root = _user(control, Role.ADMIN, "", "root")
    made = _make(control, root, name="roots")
    changed = schedules.change(control, ann, made.id, Changes(request={**REQUEST, "destination": "volume://out/x"}))
    assert changed.creator == "ann"
    kept = schedules.change(control, root, made.id, Changes(cron="5 * * * *"))
    assert kept.creator == "ann"


def test_a_request_is_checked_when_the_schedule_is_made(control: Control, ann: Principal) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"source": "volume://nowhere/x"}, "request.source"),
        ({"destination": "/etc"}, "request.destination"),
        ({"options": {"compare": "guess"}}, "request.options.compare"),
        ({"scope": "other"}, "request.scope"),
        ({"not_before": 1.0}, "request.not_before"),
        ({"what": 1}, "request.what"),
    ]
    for change, field in wrong:
        with pytest.raises(RequestError) as caught:
            _make(control, ann, request={**REQUEST, **change})
        assert caught.value.field == field
    reader = _user(control, Role.READER, name="rita")
    with pytest.raises(AccessError):
        _make(control, reader)
    stranger = Principal("oidc:1", "stranger", Kind.USER, (Grant(Role.EDITOR, "team"),))
    with pytest.raises(AccessError, match="another issuer"):
        _make(control, stranger)
    with control.pool.read() as c:
        assert c.value("SELECT count(*) FROM schedule") == 0
