"""The lease of the scheduler: one holder, renewed by it, taken over in time, at once from one that is dead."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from entrepot.ledger import leader
from entrepot.ledger.database import open_ledger
from entrepot.ledger.tasks import Owner
from entrepot.service.owner import holder_name, is_gone, this_process
from serve_parts import wait_until


@pytest.fixture
def ledger(ledger_place):
    found = open_ledger(ledger_place)
    yield found
    found.close()


def _lead(ledger, holder, seconds=10.0, **more):
    return ledger.settle(lambda c: leader.lead(c, "scheduler", holder, seconds, **more))


def test_one_leads_and_the_other_waits(ledger):
    assert _lead(ledger, "a")
    assert not _lead(ledger, "b")
    assert _lead(ledger, "a")
    with ledger.write() as connection:
        assert leader.holds(connection, "scheduler", "a")
        assert not leader.holds(connection, "scheduler", "b")
        leader.leave(connection, "scheduler", "b")
    assert not _lead(ledger, "b")
    with ledger.write() as connection:
        leader.leave(connection, "scheduler", "a")
    assert _lead(ledger, "b")


def test_a_lease_that_is_not_renewed_goes_to_the_next(ledger):
    assert _lead(ledger, "a", 0.2)
    wait_until(lambda: _lead(ledger, "b", 5.0), 5)
    with ledger.write() as connection:
        assert not leader.holds(connection, "scheduler", "a")
    assert not _lead(ledger, "a")


def test_a_holder_that_is_known_to_be_dead_keeps_nobody_waiting(ledger):
    assert _lead(ledger, "a", 1000.0)
    assert not _lead(ledger, "b", dead=lambda holder: False)
    assert _lead(ledger, "b", dead=lambda holder: holder == "a")


def test_holders_are_judged_by_their_process():
    mine = this_process()
    assert not is_gone(holder_name(mine))
    assert is_gone(holder_name(Owner(mine.host, mine.boot, mine.pid, "1")))
    assert is_gone(holder_name(Owner(mine.host, "another boot", mine.pid, mine.start)))
    assert not is_gone(holder_name(Owner("elsewhere", mine.boot, 1, "1"))), "nobody here can tell"
    child = subprocess.Popen([sys.executable, "-c", "pass"])
    child.wait()
    assert is_gone(holder_name(Owner(mine.host, mine.boot, child.pid, mine.start)))
    assert os.getpid() == mine.pid
