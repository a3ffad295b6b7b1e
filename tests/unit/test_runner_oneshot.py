"""A whole run on this machine with a make-believe trade: outcomes, guards, stops, resuming."""

from __future__ import annotations

import os
import signal
import threading
import time

import pytest

from entrepot.ledger import events, tasks
from entrepot.ledger.database import open_ledger
from entrepot.model.errors import ForbiddenError, GuardError, InternalError, PlaceError, QuotaError
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskState
from entrepot.service import oneshot
from entrepot.service import tasks as service_tasks
from entrepot.service.owner import is_alive, this_process
from fake_trade import Found, World, key_of
from ledger_parts import assert_counts_agree, assert_partition


@pytest.fixture
def place(tmp_path):
    return tmp_path


def _world(place, **more):
    return World(effects=str(place / "effects"), **more)


def _run(place, world, shots=None, kind="sync", processes=2, **options):
    request = oneshot.TaskRequest(
        kind, "src", "dst", SyncOptions(**options), processes=processes, state_dir=str(place / "state")
    )
    return oneshot.run(request, (shots if shots is not None else []).append, trade=world.trade())


def _ledger(place):
    return open_ledger(str(place / "state" / "ledger.db"))


def _only_task(place):
    found = service_tasks.list_tasks(str(place / "state"))
    assert len(found) == 1
    return found[0]


def _interrupt_when(shots, condition, times=1):
    """A list that sends this process SIGINT once a snapshot fulfils the condition."""

    class Watching(list):
        sent = 0

        def append(self, shot):
            super().append(shot)
            if Watching.sent < times and condition(shot):
                Watching.sent += 1
                os.kill(os.getpid(), signal.SIGINT)

    return Watching(shots)


def test_a_run_does_everything_once(place):
    world, shots = _world(place, count=3000), []
    shot = _run(place, world, shots)
    assert shot.state is TaskState.SUCCEEDED
    assert (shot.totals.total, shot.totals.copied, shot.totals.copied_bytes) == (3000, 3000, 30_000)
    assert sorted(world.done()) == world.keys
    assert not shot.resumed
    assert not shot.scanning
    assert shot.requests["get"] > 0
    assert shot.peak_rss_bytes > 3 << 20
    assert shot.rate_entries > 0
    assert shots[-1] is shot
    with _ledger(place).read() as connection:
        stored, anew = tasks.recount(connection, shot.task_id)
    assert stored == anew == shot.totals


def test_an_empty_run_is_short(place):
    _run(place, _world(place, count=0))
    start = time.monotonic()
    assert _run(place, _world(place, count=0)).state is TaskState.SUCCEEDED
    assert time.monotonic() - start < 0.5


def test_one_process_is_still_a_child(place):
    shot = _run(place, _world(place, count=500), processes=1)
    assert shot.totals.copied == 500


def test_failed_entries_fail_the_task_and_a_new_run_starts_anew(place):
    world = _world(place, count=100, failing=frozenset({3, 50}))
    shot = _run(place, world)
    assert shot.state is TaskState.FAILED
    assert shot.failure_counts == {"forbidden": 2}
    assert {f.key for f in shot.failures} == {key_of(3), key_of(50)}
    again = _run(place, _world(place, count=100))
    assert again.state is TaskState.SUCCEEDED
    assert again.task_id != shot.task_id


def test_preflight_refusals_write_nothing(place):
    world = _world(place, preflight_error=PlaceError("no such bucket"))
    with pytest.raises(PlaceError):
        _run(place, world)
    assert not (place / "state").exists()
    assert service_tasks.list_tasks(str(place / "state")) == []


def test_deletes_come_after_the_scan(place):
    world = _world(place, count=100, doomed=30, present=10)
    shot = _run(place, world, delete="destination")
    assert (shot.totals.deleted, shot.totals.deleted_bytes) == (30, 300)
    assert len(world.deleted()) == len(set(world.deleted())) == 30


def test_without_delete_nothing_is_deleted(place):
    world = _world(place, count=100, doomed=30)
    assert _run(place, world).totals.deleted == 0
    assert world.deleted() == []


def test_case_7_an_empty_source_deletes_nothing(place):
    world = _world(place, count=0, doomed=5, present=100)
    with pytest.raises(GuardError, match="src is empty") as caught:
        _run(place, world, delete="destination")
    assert "--allow-empty-source" in caught.value.hint
    assert world.deleted() == []
    assert _only_task(place).state is TaskState.FAILED
    _run(place, world, delete="destination", allow_empty_source=True)
    assert len(world.deleted()) == 5


def test_delete_caps(place):
    world = _world(place, count=10, doomed=20, present=10)
    with pytest.raises(GuardError, match="20 of 40"):
        _run(place, world, delete="destination", delete_max_share=0.49)
    with pytest.raises(GuardError, match="cap is 19"):
        _run(place, world, delete="destination", delete_max_count=19)
    assert world.deleted() == []
    _run(place, world, delete="destination", delete_max_count=20, delete_max_share=0.5)
    assert len(world.deleted()) == 20


def test_a_dry_run_counts_deletes_and_does_none(place):
    world = _world(place, count=10, doomed=4, present=10)
    shot = _run(place, world, delete="destination", dry_run=True, verify="full")
    assert (shot.totals.deleted, shot.totals.deleted_bytes) == (4, 40)
    assert world.deleted() == []
    with _ledger(place).read() as connection:
        stored, anew = tasks.recount(connection, shot.task_id)
        assert stored == anew
        assert ("verify", "done") not in tasks.shard_counts(connection, shot.task_id)


def test_a_full_verification_looks_again_without_counting_twice(place):
    shot = _run(place, _world(place, count=1000), verify="full")
    assert (shot.totals.total, shot.totals.copied, shot.totals.equal) == (1000, 1000, 0)
    ledger = _ledger(place)
    assert_partition(ledger, shot.task_id, "verify")
    assert_counts_agree(ledger, shot.task_id)


def test_a_verify_task_only_verifies(place):
    shot = _run(place, _world(place, count=1000), kind="verify")
    assert (shot.totals.total, shot.totals.copied, shot.totals.equal) == (1000, 0, 1000)


def test_ctrl_c_pauses_and_the_next_run_goes_on(place):
    world = _world(place, count=20_000, chunk=20, pause=0.005)
    shots = _interrupt_when([], lambda shot: shot.totals.copied > 500)
    with pytest.raises(oneshot.Interrupted) as caught:
        _run(place, world, shots)
    assert caught.value.exit_code == 130
    first = caught.value.snapshot
    assert first.state is TaskState.PAUSED
    done = len(world.done())
    assert first.totals.copied == done, "a drained run has reported all that it did"
    world.pause, world.chunk = 0.0, 500
    shot = _run(place, world)
    assert shot.resumed
    assert shot.task_id == first.task_id
    assert shot.totals.copied == 20_000
    assert sorted(world.done()) == world.keys, "nothing was done twice"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_second_ctrl_c_stops_at_once(place):
    world = _world(place, count=20_000, chunk=20, pause=0.005, drain_seconds=60)
    shots = _interrupt_when([], lambda shot: shot.totals.copied > 100, times=2)
    start = time.monotonic()
    with pytest.raises(oneshot.Interrupted):
        _run(place, world, shots)
    assert time.monotonic() - start < 5
    assert _only_task(place).state is TaskState.PAUSED
    world.pause, world.chunk = 0.0, 500
    shot = _run(place, world)
    assert (shot.resumed, shot.totals.copied) == (True, 20_000)
    assert set(world.done()) == set(world.keys)


def test_on_error_stop_stops_and_can_be_resumed(place):
    world = _world(place, count=20_000, chunk=10, pause=0.005, failing=frozenset({5}))
    shot = _run(place, world, on_error="stop")
    assert shot.state is TaskState.FAILED
    assert shot.totals.copied < 20_000
    world.pause, world.chunk = 0.0, 500
    again = _run(place, world, on_error="skip")
    assert again.resumed
    assert (again.totals.copied, again.totals.failed, again.state) == (19_999, 1, TaskState.FAILED)


def test_max_failures_counts_anew_after_a_resume(place):
    world = _world(place, count=3000, chunk=10, pause=0.01, failing=frozenset(range(0, 3000, 10)))
    shot = _run(place, world, max_failures=20)
    assert shot.state is TaskState.FAILED
    assert 20 <= shot.totals.failed < 300
    again = _run(place, world, max_failures=20)
    assert again.resumed
    assert again.totals.failed > shot.totals.failed


def test_a_session_that_cannot_go_on_ends_the_run_with_its_error(place):
    def full(fence, key):
        return QuotaError("no space left", hint="make room") if key == key_of(700) and fence == 1 else None

    world = _world(place, count=1000, raises=full)
    with pytest.raises(QuotaError) as caught:
        _run(place, world)
    assert caught.value.hint == "make room"
    assert _only_task(place).state is TaskState.PAUSED
    shot = _run(place, world)
    assert (shot.resumed, shot.totals.copied) == (True, 1000)


def test_an_error_at_opening_ends_the_run(place):
    world = _world(place, count=10)
    trade = world.trade()

    def refuse(spec, port, env):
        raise ForbiddenError("no key fits")

    broken = type(trade)(trade.preflight, trade.plan, refuse)
    request = oneshot.TaskRequest("sync", "src", "dst", processes=2, state_dir=str(place / "state"))
    with pytest.raises(ForbiddenError, match="no key fits"):
        oneshot.run(request, lambda shot: None, trade=broken)


def test_a_fault_of_the_session_gives_up_its_range_only(place, monkeypatch):
    monkeypatch.setattr("entrepot.service.conduct.RESTART_PAUSE", 0.001)
    world = _world(place, count=400, chunk=10, room=1, splits=False, crash_at=key_of(150))
    shot = _run(place, world)
    assert shot.state is TaskState.FAILED
    assert shot.failure_counts == {"internal": 1}
    assert set(world.keys) - set(world.done()) <= {key_of(i) for i in range(101, 201)}
    assert any("ZeroDivisionError" in warning for warning in shot.warnings)
    with _ledger(place).read() as connection:
        died = events.since(connection, shot.task_id, kind="runner_died")
    assert "a fault of the session" in died[0].text


def test_runners_that_keep_dying_end_the_run(place, monkeypatch):
    monkeypatch.setattr("entrepot.service.conduct.RESTART_PAUSE", 0.001)
    monkeypatch.setattr("entrepot.ledger.shards.LOST_MAX", 10**6)
    world = _world(place, count=100, crash_at=key_of(0))
    world.cuts = 1
    with pytest.raises(InternalError, match="keep dying"):
        _run(place, world)
    assert _only_task(place).state is TaskState.FAILED


def test_a_live_task_is_not_run_twice(place):
    world = _world(place, count=20_000, chunk=10, pause=0.005)
    refused = []

    def look(shot):
        if shot.totals.copied > 100 and not refused:
            for found in (world.found, Found("fake|other/", "fake|b/inside/")):
                other = World(found=found)
                pid = os.fork()
                if pid == 0:
                    signal.signal(signal.SIGINT, signal.SIG_IGN)
                    code = 9
                    try:
                        _run(place, other)
                    except GuardError as error:
                        code = 1 if "already running as task" in str(error) else 2
                    finally:
                        os._exit(code)
                refused.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
            os.kill(os.getpid(), signal.SIGINT)

    request = oneshot.TaskRequest("sync", "src", "dst", processes=1, state_dir=str(place / "state"))
    with pytest.raises(oneshot.Interrupted):
        oneshot.run(request, look, trade=world.trade())
    assert refused == [1, 2]


def test_cancel_of_a_paused_task_and_twice(place):
    world = _world(place, count=20_000, chunk=20, pause=0.005)
    with pytest.raises(oneshot.Interrupted) as caught:
        _run(place, world, _interrupt_when([], lambda shot: shot.totals.copied > 100))
    task_id = caught.value.snapshot.task_id
    for _ in range(2):
        state = service_tasks.cancel(task_id, str(place / "state"), trade=world.trade())
        assert state is TaskState.CANCELLED
    assert not _run(place, _world(place, count=10)).resumed


def test_cancel_of_a_running_task_from_another_process(place):
    world = _world(place, count=20_000, chunk=10, pause=0.005)
    threads = []

    def look(shot):
        if shot.totals.copied > 100 and not threads:
            threads.append(threading.Thread(target=service_tasks.cancel, args=(shot.task_id, str(place / "state"))))
            threads[0].start()

    request = oneshot.TaskRequest("sync", "src", "dst", processes=2, state_dir=str(place / "state"))
    shot = oneshot.run(request, look, trade=world.trade())
    threads[0].join(5)
    assert shot.state is TaskState.CANCELLED
    assert service_tasks.cancel(shot.task_id, str(place / "state")) is TaskState.CANCELLED


def test_cancel_after_the_end_changes_nothing(place):
    shot = _run(place, _world(place, count=10))
    assert service_tasks.cancel(shot.task_id, str(place / "state")) is TaskState.SUCCEEDED


def test_changed_pace_still_resumes_changed_meaning_does_not(place):
    world = _world(place, count=20_000, chunk=20, pause=0.005)
    with pytest.raises(oneshot.Interrupted):
        _run(place, world, _interrupt_when([], lambda shot: shot.totals.copied > 100), bandwidth=1000)
    small = _world(place, count=10)
    assert not _run(place, small, compare="size").resumed
    assert _run(place, small, bandwidth=5000).resumed


def test_case_74_no_estimate_while_the_total_is_unknown(place):
    shots = []
    _run(place, _world(place, count=8000, chunk=20, pause=0.005), shots)
    assert len(shots) > 3
    assert all(shot.eta_seconds is None for shot in shots if shot.scanning)
    copied = [shot.totals.copied for shot in shots]
    assert copied == sorted(copied)


def test_the_owner_of_a_task_is_told_from_others_with_its_pid(place):
    _run(place, _world(place, count=1))
    task = _only_task(place)
    assert task.owner == this_process()
    assert is_alive(task)
    task.owner = type(task.owner)(task.owner.host, task.owner.boot, task.owner.pid, "1")
    assert not is_alive(task)
    task.owner = type(task.owner)(task.owner.host, "other boot", task.owner.pid, this_process().start)
    assert not is_alive(task)
    task.owner = type(task.owner)("elsewhere", "", 1, "1")
    task.owner_age = 5.0
    assert is_alive(task)
    task.owner_age = 500.0
    assert not is_alive(task)


def test_old_ended_tasks_are_forgotten(place):
    _run(place, _world(place, count=1))
    ledger = _ledger(place)
    with ledger.write() as connection:
        connection.execute("UPDATE task SET finished = finished - 31 * 86400")
    shot = _run(place, _world(place, count=1))
    assert [t.id for t in service_tasks.list_tasks(str(place / "state"))] == [shot.task_id]


def test_the_state_directory_follows_the_environment(place, monkeypatch):
    monkeypatch.setenv("ENTREPOT_STATE_DIR", str(place / "mine"))
    request = oneshot.TaskRequest("sync", "src", "dst", processes=1)
    oneshot.run(request, lambda shot: None, trade=_world(place, count=1).trade())
    assert (place / "mine" / "ledger.db").exists()
