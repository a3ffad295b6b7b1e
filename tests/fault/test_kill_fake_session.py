"""kill -9 of runners, of the parent, of both at random moments: the next run ends where one run would have.

Cases 68, 69 and 71 with a make-believe trade: ranges are covered exactly once in the accounts, totals equal
a recount, and what a stopped runner says later is refused.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time

import pytest

from entrepot.ledger import tasks
from entrepot.ledger.database import open_ledger
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskState
from entrepot.service import oneshot
from fake_trade import World
from ledger_parts import assert_counts_agree, assert_partition

COUNT = 3000
SEEDS = range(25)

PARENT = """
import sys
sys.path.insert(0, {tests!r})
from fake_trade import World
from entrepot.model.options import SyncOptions
from entrepot.service import oneshot
world = World(count={count}, effects={effects!r}, chunk=10, pause=0.003, cuts=6, doomed={doomed}, present={count})
request = oneshot.TaskRequest("sync", "src", "dst", SyncOptions(delete="destination"), 2, {state!r})
shot = oneshot.run(request, lambda shot: None, trade=world.trade())
print(shot.state, shot.totals.copied, shot.totals.deleted, shot.resumed)
"""


def _start(place, doomed=40):
    code = PARENT.format(
        tests=os.path.dirname(os.path.dirname(__file__)),
        count=COUNT,
        effects=str(place / "effects"),
        state=str(place / "state"),
        doomed=doomed,
    )
    return subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def _children(pid):
    try:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as file:
            return [int(text) for text in file.read().split()]
    except OSError:
        return []


def _kill(pid):
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        pass


def _gone(pid):
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] == b"Z"
    except OSError:
        return True


def _wait_gone(pids):
    until = time.monotonic() + 5
    while not all(_gone(pid) for pid in pids):
        assert time.monotonic() < until, "runners outlived their parent"
        time.sleep(0.002)


def _succeeded(place):
    if not (place / "state" / "ledger.db").exists():
        return False
    ledger = open_ledger(str(place / "state" / "ledger.db"))
    with ledger.read() as connection:
        states = [found.state for found in tasks.listing(connection)]
    ledger.close()
    return states == [TaskState.SUCCEEDED]


def _check_end(place, text, doomed=40):
    world = World(count=COUNT, effects=str(place / "effects"))
    assert text.split()[:3] == ["SUCCEEDED", str(COUNT), str(doomed)], text
    assert set(world.done()) == set(world.keys)
    assert len(set(world.deleted())) == doomed
    ledger = open_ledger(str(place / "state" / "ledger.db"))
    with ledger.read() as connection:
        found = tasks.listing(connection)
        assert len(found) == 1, "the second run went on with the first one's task"
        counts = tasks.shard_counts(connection, found[0].id)
    assert {state for _, state in counts} == {"done"}
    assert_partition(ledger, found[0].id)
    totals = assert_counts_agree(ledger, found[0].id)
    assert totals.copied == totals.total == COUNT
    ledger.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_case_68_killed_at_a_random_moment_the_task_ends_as_if_not(tmp_path, seed):
    chance = random.Random(seed)
    victim = ("runner", "parent", "both")[seed % 3]
    parent = _start(tmp_path)
    time.sleep(chance.uniform(0.15, 0.55))
    runners = _children(parent.pid)
    if victim != "parent" and runners:
        _kill(chance.choice(runners))
    if victim != "runner":
        _kill(parent.pid)
        out, _ = parent.communicate()
        _wait_gone(runners)
        if _succeeded(tmp_path):
            _check_end(tmp_path, out or f"SUCCEEDED {COUNT} 40")
            return
        parent = _start(tmp_path)
    out, err = parent.communicate(timeout=30)
    assert parent.returncode == 0, err
    _check_end(tmp_path, out)


def test_all_runners_killed_again_and_again(tmp_path):
    parent = _start(tmp_path)
    for _ in range(4):
        time.sleep(0.15)
        for pid in _children(parent.pid):
            _kill(pid)
    out, err = parent.communicate(timeout=30)
    assert parent.returncode == 0, err
    _check_end(tmp_path, out)


def test_case_71_a_stopped_runner_loses_its_lease_and_its_late_words(tmp_path, monkeypatch):
    monkeypatch.setattr("entrepot.ledger.port.DirectPort.__init__.__kwdefaults__", _short_leases())
    world = World(count=COUNT, effects=str(tmp_path / "effects"), chunk=10, pause=0.002, cuts=6, room=1)
    state = str(tmp_path / "state")
    request = oneshot.TaskRequest("sync", "src", "dst", SyncOptions(), 2, state)
    moments = {"stopped": 0, "at": 0.0}

    def look(shot):
        if not moments["stopped"] and shot.totals.copied > 100:
            moments["stopped"] = _children(os.getpid())[-1]
            moments["at"] = time.monotonic()
            os.kill(moments["stopped"], signal.SIGSTOP)
        elif moments["at"] and time.monotonic() - moments["at"] > 1.5:
            moments["at"] = 0.0
            os.kill(moments["stopped"], signal.SIGCONT)

    shot = oneshot.run(request, look, trade=world.trade())
    assert moments["stopped"]
    assert not moments["at"]
    assert (shot.state, shot.totals.copied, shot.totals.total) == (TaskState.SUCCEEDED, COUNT, COUNT)
    assert set(world.done()) == set(world.keys)
    ledger = open_ledger(os.path.join(state, "ledger.db"))
    assert_counts_agree(ledger, shot.task_id)
    assert_partition(ledger, shot.task_id)
    with ledger.read() as connection:
        assert tasks.read(connection, shot.task_id).late_reports == 1
    ledger.close()


def test_a_runner_that_hangs_does_not_hold_up_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr("entrepot.ledger.port.DirectPort.__init__.__kwdefaults__", _short_leases())
    monkeypatch.setattr("entrepot.service.conduct.LEAVE_SECONDS", 0.2)
    world = World(count=COUNT, effects=str(tmp_path / "effects"), chunk=10, pause=0.002, cuts=6, room=1)
    request = oneshot.TaskRequest("sync", "src", "dst", SyncOptions(), 2, str(tmp_path / "state"))
    stopped = []

    def look(shot):
        if not stopped and shot.totals.copied > 100:
            stopped.append(_children(os.getpid())[-1])
            os.kill(stopped[0], signal.SIGSTOP)

    start = time.monotonic()
    shot = oneshot.run(request, look, trade=world.trade())
    assert stopped
    assert _gone(stopped[0])
    assert (shot.state, shot.totals.copied) == (TaskState.SUCCEEDED, COUNT)
    assert time.monotonic() - start < 8


def _short_leases():
    from entrepot.ledger.port import DirectPort

    return {**DirectPort.__init__.__kwdefaults__, "lease_seconds": 0.7}


def test_sigterm_pauses_as_ctrl_c_does(tmp_path):
    parent = _start(tmp_path)
    until = time.monotonic() + 10
    while not (tmp_path / "effects").exists() and time.monotonic() < until:
        time.sleep(0.005)
    time.sleep(0.05)
    os.kill(parent.pid, signal.SIGTERM)
    _, err = parent.communicate(timeout=20)
    assert "Interrupted" in err
    ledger = open_ledger(str(tmp_path / "state" / "ledger.db"))
    with ledger.read() as connection:
        found = tasks.listing(connection)[0]
    assert found.state is TaskState.PAUSED
    assert found.totals.copied == len(World(effects=str(tmp_path / "effects")).done())
    ledger.close()
    out, _ = _start(tmp_path).communicate(timeout=30)
    assert out.split()[-1] == "True"
    _check_end(tmp_path, out)
