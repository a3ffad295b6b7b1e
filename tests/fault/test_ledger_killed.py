"""kill -9 in the middle of recovering, backing up and restoring a ledger: the former or the new one, never half of it.

The process is killed before each of its calls that touch the file system, one after the other.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import sys
import time

import pytest

from entrepot.ledger import checking, copies, salvage
from entrepot.ledger.database import open_ledger
from entrepot.security import keyring
from ledger_parts import make_task, port_of, progress_of
from serve_parts import ended, forked

TOUCHING = frozenset({"open", "os.rename", "os.link", "os.remove", "os.mkdir", "os.rmdir", "sqlite3.connect"})
MOST = 400


def _fill(place):
    ledger = open_ledger(place)
    for number in range(6):
        task_id = make_task(ledger, [b"%02d" % cut for cut in range(1, 9)], spec_hash=f"h{number}")
        port = port_of(ledger, task_id)
        got = port.lease(3)
        port.report([progress_of(s, s.high, total=9, copied=9) for s in got], [s.id for s in got])
    with ledger.write() as c:
        c.change("INSERT INTO quota (scope, name, amount) VALUES ('', 'mark', 1)")
    ledger.close()


def _mark(place):
    """The number that tells the former ledger (1) from the one in the backup (2)."""
    ledger = open_ledger(place)
    with ledger.read() as c:
        found = int(c.value("SELECT amount FROM quota"))
    ledger.close()
    return found


def _set_mark(place, number):
    ledger = open_ledger(place)
    with ledger.write() as c:
        c.change("UPDATE quota SET amount = :n", {"n": number})
    ledger.close()


def _killed_at(nth, folder, work):
    """Whether ``work`` was killed before its nth call that touches something below ``folder``."""

    def live():
        seen = []

        def watch(event, words):
            if event in TOUCHING and words and str(folder) in str(words[0]):
                seen.append(event)
                if len(seen) == nth:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(watch)
        work()

    code = ended(forked(live), 60)
    assert code in (0, -signal.SIGKILL)
    return code != 0


def _each_moment(tmp_path, prepared, work, judge):
    """Kill ``work(folder)`` at every moment, from the same beginning, and let ``judge(folder, done)`` look."""
    for nth in range(1, MOST):
        folder = tmp_path / "at"
        shutil.copytree(prepared, folder)
        killed = _killed_at(nth, folder, lambda folder=folder: work(folder))
        judge(folder, not killed)
        shutil.rmtree(folder)
        if not killed:
            return nth
    raise AssertionError("it does not end")


@pytest.fixture
def prepared(tmp_path):
    folder = tmp_path / "prepared"
    folder.mkdir()
    _fill(str(folder / "ledger.db"))
    return folder


def test_recover_killed_at_any_moment(tmp_path, prepared):
    place = prepared / "ledger.db"
    with open(place, "r+b") as file:
        file.seek(18 * 4096)
        file.write(b"\xa5" * 4096)
    assert checking.check(str(place)).damaged
    damaged = place.read_bytes()
    seen = set()

    def judge(folder, done):
        found = folder / "ledger.db"
        if found.read_bytes() == damaged and not os.path.exists(f"{found}-new"):
            seen.add("former")
            assert not done
            salvage.recover(str(found))
        else:
            seen.add("new" if not os.path.exists(f"{found}-new") else "waiting")
        assert _mark(str(found)) == 1
        assert checking.check(str(found)).findings == ()
        kept = [path for path in folder.iterdir() if ".damaged-" in path.name and not path.name.endswith("-wal")]
        assert kept
        assert all(path.read_bytes() == damaged for path in kept), "what was damaged is kept as it was"

    moments = _each_moment(tmp_path, prepared, lambda folder: salvage.recover(str(folder / "ledger.db")), judge)
    assert moments > 15
    assert seen == {"former", "waiting", "new"}


def test_restore_killed_at_any_moment(tmp_path, prepared):
    keys = prepared / "keys.json"
    ring = keyring.load_or_make(str(keys), os.urandom, 1.0)
    sealed = ring.seal(b"in the backup", "x", os.urandom)
    _set_mark(str(prepared / "ledger.db"), 2)
    copies.backup(str(prepared / "ledger.db"), str(tmp_path / "backup"), str(keys))
    _set_mark(str(prepared / "ledger.db"), 1)
    later = keyring.rotate(str(keys), os.urandom, 2.0).seal(b"later", "x", os.urandom)
    keyring.retire(str(keys), lambda _key: False)
    seen = set()

    def work(folder):
        copies.restore(str(tmp_path / "backup"), str(folder / "ledger.db"), str(folder / "keys.json"), replace=True)

    def judge(folder, done):
        mark = _mark(str(folder / "ledger.db"))
        seen.add(mark)
        assert not done or mark == 2
        assert checking.check(str(folder / "ledger.db")).findings == ()
        here = keyring.load(str(folder / "keys.json"))
        assert here.open_bytes(later, "x") == b"later"
        if mark == 2:
            assert here.open_bytes(sealed, "x") == b"in the backup", "a ledger never comes without its keys"
        assert not list(folder.glob("*-new"))

    assert _each_moment(tmp_path, prepared, work, judge) > 15
    assert seen == {1, 2}


def test_backup_killed_at_any_moment(tmp_path, prepared):
    keyring.load_or_make(str(prepared / "keys.json"), os.urandom, 1.0)
    seen = set()

    def work(folder):
        copies.backup(str(folder / "ledger.db"), str(folder / "backup"), str(folder / "keys.json"))

    def judge(folder, done):
        there = os.path.exists(folder / "backup")
        seen.add(there)
        assert there or not done
        if not there:
            work(folder)
        assert sorted(os.listdir(folder / "backup")) == ["keys.json", "ledger.db"]
        assert checking.check(str(folder / "backup" / "ledger.db")).findings == ()
        keyring.load(str(folder / "backup" / "keys.json"))
        assert _mark(str(folder / "ledger.db")) == 1
        assert not list(folder.glob("*-making-*")), "what was half done goes with the next one"

    assert _each_moment(tmp_path, prepared, work, judge) > 8
    assert seen == {True, False}


@pytest.mark.parametrize("seed", range(4))
def test_recover_killed_at_a_random_moment_of_its_copying(tmp_path, prepared, seed):
    """In the middle of SQLite's own work, too."""
    place = prepared / "ledger.db"
    with open(place, "r+b") as file:
        file.seek(18 * 4096)
        file.write(b"\xa5" * 4096)
    pid = forked(lambda: salvage.recover(str(place)) and 0)
    time.sleep(random.Random(seed).uniform(0.0, 0.12))
    os.kill(pid, signal.SIGKILL)
    ended(pid)
    if not os.path.exists(f"{place}-new") and checking.check(str(place)).damaged:
        salvage.recover(str(place))
    assert _mark(str(place)) == 1
    assert checking.check(str(place)).findings == ()
