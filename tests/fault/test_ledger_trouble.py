"""Case 73: the ledger in trouble while a task runs. The task can be resumed, nothing is claimed that is not done.

Locked for long, full, damaged, read-only (a SQLite file); gone and come back (PostgreSQL). For the command line and
for a task of a server, with a make-believe trade whose every effect is on record.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from dataclasses import replace

import pytest

from entrepot.ledger import checking, holding, orders, salvage, shards, tasks
from entrepot.ledger import database as databases
from entrepot.ledger import sqlite as files
from entrepot.ledger.database import LedgerError, open_ledger
from entrepot.ledger.sqlite import SqliteFile
from entrepot.model.errors import EntrepotError, UsageError
from entrepot.model.options import SyncOptions
from entrepot.model.task import END_STATES, TaskState
from entrepot.service import oneshot
from entrepot.service.owner import is_alive
from entrepot.service.perform import perform
from fake_trade import World
from ledger_parts import assert_counts_agree, assert_partition
from serve_parts import ended, forked, job_of, look, submit, wait_until

COUNT = 1200
DOOMED = 40


@pytest.fixture
def world(tmp_path):
    return World(
        count=COUNT, effects=str(tmp_path / "effects"), chunk=5, pause=0.01, cuts=6, doomed=DOOMED, present=COUNT
    )


@pytest.fixture
def impatient(monkeypatch):
    """Waiting for another process ends soon."""
    monkeypatch.setattr(files, "BUSY_SECONDS", 0.3)
    monkeypatch.setattr(databases, "BUSY_SECONDS", 0.3)


def _run(world, tmp_path, look=lambda shot: None):
    request = oneshot.TaskRequest("sync", "src", "dst", SyncOptions(delete="destination"), 2, str(tmp_path / "state"))
    return oneshot.run(request, look, trade=world.trade())


def _place(tmp_path):
    return str(tmp_path / "state" / "ledger.db")


def _stopped(world, tmp_path, act):
    """A run in a process of its own, with ``act`` called in the middle of it; what it said when it ended."""
    said = tmp_path / "said"

    def live():
        done = []

        def look(shot):
            if not done and shot.totals.copied > 50:
                done.append(True)
                act()

        try:
            _run(world, tmp_path, look)
        except EntrepotError as error:
            said.write_text(json.dumps([type(error).__name__, error.message, error.hint, bool(done)]))
            return error.exit_code
        return 0

    code = ended(forked(live), 60)
    kind, message, hint, done = json.loads(said.read_text())
    assert done
    assert code == 5
    return kind, message, hint


def _the_task(place):
    ledger = open_ledger(place)
    with ledger.read() as connection:
        (task,) = tasks.listing(connection)
    ledger.close()
    return task


def _is_safe(world, task):
    """Nothing is deleted before all is copied, and no more is counted than was done."""
    assert task.state not in END_STATES
    assert task.totals.copied <= len(set(world.done()))
    if task.totals.copied < COUNT:
        assert world.deleted() == []


def _ends_well(world, tmp_path, tasks_there=1):
    shot = _run(world, tmp_path)
    assert (shot.state, shot.totals.copied, shot.totals.deleted) == (TaskState.SUCCEEDED, COUNT, DOOMED)
    assert set(world.done()) == set(world.keys)
    assert len(set(world.deleted())) == DOOMED
    ledger = open_ledger(_place(tmp_path))
    assert_counts_agree(ledger, shot.task_id)
    assert_partition(ledger, shot.task_id)
    with ledger.read() as connection:
        assert len(tasks.listing(connection)) == tasks_there
    ledger.close()
    assert checking.check(_place(tmp_path)).findings == ()


def _breaks(world, tmp_path, act, match):
    """The run ends with one clear line; the hint of it."""
    kind, message, hint = _stopped(world, tmp_path, act)
    assert kind == "LedgerError"
    assert match in message
    assert _place(tmp_path) in message, "the message names the ledger"
    return hint


def test_case_73_a_ledger_that_is_locked_for_long_stops_the_run_and_the_next_goes_on(tmp_path, world, impatient):
    locks = "import sqlite3, sys; raw = sqlite3.connect(sys.argv[1], isolation_level=None);"
    locks += "raw.execute('BEGIN IMMEDIATE'); print('held', flush=True); sys.stdin.read()"
    held = []

    def lock():
        held.append(
            subprocess.Popen(
                [sys.executable, "-c", locks, _place(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
            )
        )
        held[0].stdout.readline()

    assert "another process holds" in _breaks(world, tmp_path, lock, "locked")
    _is_safe(world, _the_task(_place(tmp_path)))
    _ends_well(world, tmp_path)


def test_case_73_a_ledger_that_is_locked_for_a_moment_is_waited_for(tmp_path, world):
    import threading

    def lock():
        raw = sqlite3.connect(_place(tmp_path), isolation_level=None, check_same_thread=False)
        raw.execute("BEGIN IMMEDIATE")
        threading.Timer(1.0, raw.close).start()

    done = []

    def look(shot):
        if not done and shot.totals.copied > 50:
            done.append(lock())

    shot = _run(world, tmp_path, look)
    assert done
    assert (shot.state, shot.totals.copied, shot.totals.deleted) == (TaskState.SUCCEEDED, COUNT, DOOMED)


def test_case_73_a_full_disk_stops_the_run_and_room_lets_it_go_on(tmp_path, world, monkeypatch):
    opened = []
    connect = SqliteFile.connect

    def watched(self, *, again):
        opened.append(connect(self, again=again))
        return opened[-1]

    monkeypatch.setattr(SqliteFile, "connect", watched)

    def fill():
        for raw in opened:
            raw.execute("PRAGMA max_page_count = 1")
            raw.execute(
                "CREATE TEMP TRIGGER much AFTER UPDATE ON main.task BEGIN "
                "INSERT INTO event (task_id, at, kind, text) VALUES ('t', 0, 'k', zeroblob(100000)); END"
            )

    assert "make room" in _breaks(world, tmp_path, fill, "disk is full")
    monkeypatch.undo()
    _is_safe(world, _the_task(_place(tmp_path)))
    _ends_well(world, tmp_path)


def test_case_73_a_file_system_that_turns_read_only_stops_the_run(tmp_path, world, monkeypatch):
    opened = []
    connect = SqliteFile.connect

    def watched(self, *, again):
        opened.append(connect(self, again=again))
        return opened[-1]

    monkeypatch.setattr(SqliteFile, "connect", watched)
    hint = _breaks(world, tmp_path, lambda: [raw.execute("PRAGMA query_only = ON") for raw in opened], "readonly")
    assert "writable" in hint
    monkeypatch.undo()
    _is_safe(world, _the_task(_place(tmp_path)))
    _ends_well(world, tmp_path)


def test_case_73_a_read_only_state_directory_is_a_clear_line_before_anything_is_done(tmp_path, world, monkeypatch):
    import errno

    real = os.open

    def refusing(path, flags, *more, **named):
        if str(path).endswith("ledger.db"):
            raise OSError(errno.EROFS, "Read-only file system", path)
        return real(path, flags, *more, **named)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(UsageError, match="Read-only file system") as caught:
        _run(world, tmp_path)
    assert "ENTREPOT_STATE_DIR" in caught.value.hint
    assert world.done() == []


def _break_pages(place, numbers=None):
    size = os.path.getsize(place) // 4096
    with open(place, "r+b") as file:
        for number in numbers or range(1, size):
            file.seek(4096 * number)
            file.write(b"\xa5" * 4096)


def _damage(place):
    """Everything that is in the file from now on is broken: also what is still in its log goes there first."""
    with closing(sqlite3.connect(place)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    with closing(sqlite3.connect(f"file:{place}?mode=ro", uri=True)) as raw:
        roots = [row[0] for row in raw.execute("SELECT rootpage FROM sqlite_master WHERE tbl_name = 'shard'")]
    _break_pages(place, [root - 1 for root in roots])


def test_case_73_a_damaged_file_stops_the_run_and_recovery_lets_it_go_on(tmp_path, world):
    place = _place(tmp_path)
    assert "entrepot ledger recover" in _breaks(world, tmp_path, lambda: _damage(place), "malformed")
    assert world.deleted() == []
    assert checking.check(place).damaged
    done = salvage.recover(place)
    assert done.waiting == 1
    assert "shard" in done.gaps
    task = _the_task(place)
    assert (task.state, task.reason) == (TaskState.PAUSED, salvage.REASON)
    assert task.totals.copied == 0, "what cannot be proved is not claimed"
    assert os.path.exists(done.kept_as)
    _ends_well(world, tmp_path)


def _killed(world, tmp_path):
    """A run that was killed in the middle: the ledger and its log as they were."""

    def live():
        _run(world, tmp_path, lambda shot: shot.totals.copied > 50 and os.kill(os.getpid(), signal.SIGKILL))

    assert ended(forked(live), 60) == -signal.SIGKILL


def test_case_73_a_damaged_log_costs_the_last_moments_only(tmp_path, world):
    place = _place(tmp_path)
    _killed(world, tmp_path)
    size = os.path.getsize(place + "-wal")
    with open(place + "-wal", "r+b") as log:
        log.seek(size - 20_000)
        log.write(b"\xa5" * 20_000)
    assert not checking.check(place).damaged, "SQLite takes the log up to where it is broken"
    _ends_well(world, tmp_path)


@pytest.mark.parametrize("how", ["half", "no database", "empty"])
def test_case_73_a_file_that_is_cut_or_none_is_said_and_recovered(tmp_path, world, how):
    place = _place(tmp_path)
    _killed(world, tmp_path)
    open_ledger(place).close()
    size = os.path.getsize(place)
    with open(place, "r+b") as file:
        if how == "half":
            file.truncate(size // 2)
        else:
            file.truncate(0)
            file.write(b"these are not the pages you are looking for " * 1000 if how == "no database" else b"")
    if how != "empty":
        with pytest.raises(LedgerError, match=r"malformed|not a database") as caught:
            _run(world, tmp_path)
        assert "entrepot ledger recover" in caught.value.hint
        salvage.recover(place)
    ledger = open_ledger(place)
    with ledger.read() as connection:
        there = len(tasks.listing(connection))
    ledger.close()
    _ends_well(world, tmp_path, tasks_there=max(1, there))


# -- a task of a server ----------------------------------------------------------------------------------------------


def _submitted(place):
    ledger = open_ledger(place)
    task_id = submit(ledger, options=SyncOptions(delete="destination"))
    ledger.close()
    return task_id


def _performed(place, task_id, tmp_path, world, before=lambda: None):
    """One conductor, in a process of its own."""
    ledger = open_ledger(place)
    job = replace(job_of(ledger, task_id, tmp_path), ledger=place)
    ledger.close()

    def live():
        before()
        return perform(job, world.trade())

    return forked(live)


def _row(place, task_id):
    ledger = open_ledger(place)
    found = look(ledger, task_id)
    ledger.close()
    return found


def _goes_on(place, task_id, tmp_path, world):
    """What the scheduler does with a task whose process is gone; it ends as if nothing had been."""
    ledger = open_ledger(place)
    with ledger.write() as connection:
        holding.lost(connection, is_alive, frozenset())
    assert look(ledger, task_id).state is TaskState.QUEUED
    ledger.close()
    assert ended(_performed(place, task_id, tmp_path, world), 60) == 0
    _ended_well(place, task_id, world)


def _ended_well(place, task_id, world):
    task = _row(place, task_id)
    assert (task.state, task.totals.copied, task.totals.deleted) == (TaskState.SUCCEEDED, COUNT, DOOMED)
    assert set(world.done()) == set(world.keys)
    assert len(set(world.deleted())) == DOOMED
    assert checking.check(place).findings == ()


def _in_the_middle(place, task_id):
    wait_until(lambda: _row(place, task_id).totals.copied > 50)


def test_case_73_a_ledger_that_fails_a_runner_once_does_not_fail_the_task(ledger_place, tmp_path, world):
    """The task waits in the queue with the ledger's words as its reason."""
    task_id = _submitted(ledger_place)
    real = shards.report
    calls = []

    def failing(connection, *words, **more):
        calls.append(True)
        if len(calls) == 3:
            raise LedgerError("the ledger failed: disk I/O error", hint="look after its disk")
        return real(connection, *words, **more)

    def break_it():
        shards.report = failing

    assert ended(_performed(ledger_place, task_id, tmp_path, world, break_it), 60) == 0
    task = _row(ledger_place, task_id)
    assert (task.state, task.reason) == (TaskState.QUEUED, "the ledger failed: disk I/O error")
    assert task.owner.pid == 0
    _is_safe(world, task)
    _goes_on(ledger_place, task_id, tmp_path, world)


def test_case_73_a_ledger_of_a_server_that_is_locked_for_long(tmp_path, world, impatient):
    place = str(tmp_path / "ledger.db")
    task_id = _submitted(place)
    pid = _performed(place, task_id, tmp_path, world)
    _in_the_middle(place, task_id)
    raw = sqlite3.connect(place, isolation_level=None)
    raw.execute("BEGIN IMMEDIATE")
    assert ended(pid, 60) != 0
    raw.close()
    _is_safe(world, _row(place, task_id))
    _goes_on(place, task_id, tmp_path, world)


def test_case_73_a_damaged_ledger_of_a_server_is_recovered_and_the_task_resumed(tmp_path, world):
    place = str(tmp_path / "ledger.db")
    task_id = _submitted(place)
    pid = _performed(place, task_id, tmp_path, world)
    _in_the_middle(place, task_id)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    _damage(place)
    assert ended(_performed(place, task_id, tmp_path, world), 60) != 0
    assert world.deleted() == []
    assert salvage.recover(place).waiting == 1
    task = _row(place, task_id)
    assert (task.state, task.reason, task.owner.pid) == (TaskState.PAUSED, salvage.REASON, 0)
    ledger = open_ledger(place)
    with ledger.write() as connection:
        orders.resume(connection, task_id)
    ledger.close()
    _goes_on(place, task_id, tmp_path, world)


@pytest.fixture
def restarted(postgres):
    yield postgres
    if not postgres.program.alive:
        postgres.start()


def test_case_73_a_database_server_that_restarts_is_waited_for(restarted, postgres_ledger, tmp_path, world):
    task_id = _submitted(postgres_ledger)
    pid = _performed(postgres_ledger, task_id, tmp_path, world)
    _in_the_middle(postgres_ledger, task_id)
    restarted.halt()
    restarted.start()
    code = ended(pid, 60)
    if code == 0 and _row(postgres_ledger, task_id).state is TaskState.SUCCEEDED:
        _ended_well(postgres_ledger, task_id, world)
    else:
        _is_safe(world, _row(postgres_ledger, task_id))
        _goes_on(postgres_ledger, task_id, tmp_path, world)


def test_case_73_a_database_server_that_is_gone_for_a_while(restarted, postgres_ledger, tmp_path, world, monkeypatch):
    from entrepot.ledger import postgres as postgresql

    monkeypatch.setattr(postgresql, "PATIENCE", 0.3)
    task_id = _submitted(postgres_ledger)
    pid = _performed(postgres_ledger, task_id, tmp_path, world)
    _in_the_middle(postgres_ledger, task_id)
    restarted.halt()
    assert ended(pid, 60) != 0, "it gives up: the scheduler begins it again when the database is back"
    restarted.start()
    _is_safe(world, _row(postgres_ledger, task_id))
    _goes_on(postgres_ledger, task_id, tmp_path, world)
