"""Whatever runners do in whatever order: ranges stay a partition, keys count once, totals agree."""

from __future__ import annotations

import os
import shutil
import tempfile

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from entrepot.ledger import shards
from entrepot.ledger.database import open_ledger
from entrepot.model.errors import LeaseLost
from ledger_parts import assert_counts_agree, assert_partition, make_task, port_of, progress_of, shard_rows

RUNNERS = ("r0", "r1", "r2")
KEYS = [b"%02d" % i for i in range(60)]
runners = st.sampled_from(RUNNERS)


class Held:
    """What one runner believes about a shard it leased."""

    def __init__(self, leased):
        self.leased = leased
        self.high = leased.high
        self.cursor = leased.cursor
        self.copied = leased.totals.copied

    def ahead(self):
        return [k for k in KEYS if k > self.cursor and (self.high is None or k <= self.high)]


class LedgerMachine(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.place = self.new_place()
        self.ledger = open_ledger(self.place)
        self.task_id = make_task(self.ledger, [KEYS[20], KEYS[40]])
        self.ports = {name: port_of(self.ledger, self.task_id, name) for name in RUNNERS}
        self.held = {name: {} for name in RUNNERS}
        self.fences = {}

    def teardown(self):
        self.ledger.close()
        self.remove_place()

    def new_place(self):
        return f"{tempfile.mkdtemp()}/ledger.db"

    def remove_place(self):
        shutil.rmtree(os.path.dirname(self.place))

    def _pick(self, data, runner):
        mine = self.held[runner]
        return mine[data.draw(st.sampled_from(sorted(mine)))] if mine else None

    def _is_current(self, runner, held):
        row = next(row for row in shard_rows(self.ledger, self.task_id) if row.id == held.leased.id)
        return row.state == "leased" and row.lease_owner == runner and row.fence == held.leased.fence

    @rule(runner=runners, limit=st.integers(1, 3))
    def lease(self, runner, limit):
        for leased in self.ports[runner].lease(limit):
            assert leased.fence > self.fences.get(leased.id, 0), "a fence only grows"
            self.fences[leased.id] = leased.fence
            self.held[runner][leased.id] = Held(leased)

    @precondition(lambda self: any(self.held.values()))
    @rule(runner=runners, data=st.data(), steps=st.integers(0, 30))
    def report(self, runner, data, steps):
        held = self._pick(data, runner)
        if held is None:
            return
        current = self._is_current(runner, held)
        done = held.ahead()[:steps]
        if done:
            held.cursor = done[-1]
            held.copied += len(done)
        ended = not held.ahead()
        said = progress_of(held.leased, held.cursor, total=held.copied, copied=held.copied)
        orders = self.ports[runner].report([said], [held.leased.id] if ended else [])
        assert bool(orders.lost) == (not current), "exactly the late reports are refused"
        if ended or orders.lost:
            del self.held[runner][held.leased.id]

    @precondition(lambda self: any(self.held.values()))
    @rule(runner=runners, data=st.data())
    def split(self, runner, data):
        held = self._pick(data, runner)
        if held is None:
            return
        possible = held.ahead()
        if possible and held.high == possible[-1]:
            possible = possible[:-1]
        if not possible:
            return
        at = sorted(data.draw(st.sets(st.sampled_from(possible), min_size=1, max_size=3)))
        current = self._is_current(runner, held)
        try:
            self.ports[runner].split(held.leased.id, held.leased.fence, at)
        except LeaseLost:
            assert not current
            del self.held[runner][held.leased.id]
        else:
            assert current
            held.high = at[0]

    @precondition(lambda self: any(self.held.values()))
    @rule(runner=runners, data=st.data())
    def release(self, runner, data):
        held = self._pick(data, runner)
        if held is not None:
            self.ports[runner].release([held.leased.id])
            del self.held[runner][held.leased.id]

    @rule(runner=runners)
    def die(self, runner):
        """The process is gone and known to be; a new one takes its name's place."""
        self.ports[runner].expire()
        self.held[runner] = {}

    @rule()
    def fall_silent(self):
        """All leases run out; the runners do not know."""
        with self.ledger.write() as connection:
            connection.execute("UPDATE shard SET lease_until = 1.0 WHERE state = 'leased'")

    @invariant()
    def ranges_are_a_partition(self):
        assert_partition(self.ledger, self.task_id)

    @invariant()
    def every_done_key_counts_once(self):
        totals = assert_counts_agree(self.ledger, self.task_id)
        done = sum(
            sum(1 for key in KEYS if row.low < key <= row.cursor) for row in shard_rows(self.ledger, self.task_id)
        )
        unfinished_ends = sum(
            sum(1 for key in KEYS if key > row.cursor)
            for row in shard_rows(self.ledger, self.task_id)
            if row.state == "done" and row.high is None
        )
        assert totals.copied == totals.total == done
        assert unfinished_ends == 0


class PostgresMachine(LedgerMachine):
    server = None

    def new_place(self):
        return self.server.new_ledger()

    def remove_place(self):
        self.server.drop(self.place)


@pytest.fixture(autouse=True)
def _patient_shards(monkeypatch):
    monkeypatch.setattr(shards, "LOST_MAX", 10**6)


@pytest.fixture(autouse=True)
def _server(request, monkeypatch):
    if request.cls is TestPostgres:
        monkeypatch.setattr(PostgresMachine, "server", request.getfixturevalue("postgres"))


LedgerMachine.TestCase.settings = settings(
    max_examples=30, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestSqlite = LedgerMachine.TestCase
PostgresMachine.TestCase.settings = settings(
    max_examples=10, stateful_step_count=30, deadline=None, suppress_health_check=list(HealthCheck)
)
TestPostgres = PostgresMachine.TestCase
