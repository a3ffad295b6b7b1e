"""The runner's loop against a real ledger and a scripted one."""

from __future__ import annotations

import pytest

from entrepot.ledger import tasks
from entrepot.ledger.database import open_ledger
from entrepot.model.errors import ForbiddenError, LeaseLost
from entrepot.model.shard import Orders, Shard
from entrepot.model.totals import Totals
from entrepot.runner import loop
from entrepot.work.environment import WorkEnvironment
from fake_trade import FakeSession, World, key_of
from ledger_parts import assert_counts_agree, assert_partition, make_task, port_of, shard_rows


@pytest.fixture
def ledger(ledger_place):
    opened = open_ledger(ledger_place)
    yield opened
    opened.close()


class EndingPort:
    """A direct port that ends the task when nothing is left, as the parent does."""

    def __init__(self, real, hungry=0):
        self._real = real
        real.hungry = lambda: hungry

    def __getattr__(self, name):
        return getattr(self._real, name)

    def finished(self):
        with self._real.ledger.read() as connection:
            counts = tasks.shard_counts(connection, self._real.task_id)
        return not any(n for (_, state), n in counts.items() if state in {"queued", "leased"})


def _session(world, port):
    return FakeSession(world, None, port, WorkEnvironment())


def test_all_keys_are_done_once_and_counted(ledger, tmp_path):
    world = World(count=1000, effects=str(tmp_path / "effects"))
    task_id = make_task(ledger, [key_of(300), key_of(700)])
    port = EndingPort(port_of(ledger, task_id))
    assert loop.run(_session(world, port), port) == ""
    assert sorted(world.done()) == world.keys
    assert assert_counts_agree(ledger, task_id).copied == 1000
    assert {row.state for row in shard_rows(ledger, task_id)} == {"done"}


def test_hungry_others_get_pieces(ledger, tmp_path):
    world = World(count=5000, chunk=50, effects=str(tmp_path / "effects"), room=1)
    task_id = make_task(ledger)
    port = EndingPort(port_of(ledger, task_id), hungry=1)
    loop.run(_session(world, port), port, heartbeat=0.0)
    assert len(shard_rows(ledger, task_id)) > 2
    assert_partition(ledger, task_id)
    assert sorted(world.done()) == world.keys
    assert assert_counts_agree(ledger, task_id).copied == 5000


@pytest.mark.parametrize("order", ["pause", "cancel"])
def test_a_stop_order_drains_checkpoints_and_gives_back(ledger, tmp_path, order):
    world = World(count=10_000, chunk=10, effects=str(tmp_path / "effects"), splits=False)
    task_id = make_task(ledger, [key_of(5000)])
    port = EndingPort(port_of(ledger, task_id))
    session = _session(world, port)

    def rang():
        if session.polls == 5:
            with ledger.write() as connection:
                tasks.order_stop(connection, task_id, order)
        return session.polls == 5

    assert loop.run(session, port, rang=rang) == order
    assert session.stopping == order
    rows = shard_rows(ledger, task_id)
    assert [row.state for row in rows] == ["queued", "queued"]
    assert [row.cursor for row in rows] == [key_of(49), key_of(5049)][: len(rows)] or rows[0].copied == 50
    assert assert_counts_agree(ledger, task_id).copied == len(world.done())


def test_a_lost_shard_is_dropped_and_not_given_back(ledger, tmp_path):
    world = World(count=1000, chunk=10, effects=str(tmp_path / "effects"), splits=False, room=1)
    task_id = make_task(ledger)
    port = EndingPort(port_of(ledger, task_id, "slow"))
    session = _session(world, port)
    thief = port_of(ledger, task_id, "thief")
    stolen = []

    def rang():
        if session.polls == 3 and not stolen:
            with ledger.write() as connection:
                connection.execute("UPDATE shard SET lease_until = 1.0")
            stolen.extend(thief.lease(1))
        if session.dropped:
            thief.report([], [stolen[0].id])
        return session.polls == 3

    assert loop.run(session, port, rang=rang) == ""
    assert session.dropped == [stolen[0].id]
    assert assert_counts_agree(ledger, task_id).copied == 0, "nothing was stored under the old fence"


def test_an_orphan_stops_without_another_word(ledger, tmp_path):
    world = World(count=10_000, chunk=1, effects=str(tmp_path / "effects"))
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    session = _session(world, port)
    assert loop.run(session, port, alive=lambda: session.polls < 3) == "orphaned"
    assert shard_rows(ledger, task_id)[0].state == "leased"
    assert len(world.done()) == 3


def test_errors_of_the_session_pass_through(ledger, tmp_path):
    world = World(count=10, effects="", raises=lambda fence, key: ForbiddenError("no", subject="b"))
    task_id = make_task(ledger)
    port = port_of(ledger, task_id)
    with pytest.raises(ForbiddenError):
        loop.run(_session(world, port), port)


class Script:
    """A port that answers from lists and notes what it is asked."""

    def __init__(self, orders):
        self.orders = list(orders)
        self.shards = [Shard(1, "t", "scan", 1, b"", None, b"", Totals())]
        self.log = []

    def lease(self, limit, wait=0.0):
        self.log.append(("lease", wait))
        given, self.shards = self.shards, []
        return given

    def finished(self):
        return True

    def report(self, progress, final=(), stats=None):
        self.log.append(("report", tuple(final)))
        return self.orders.pop(0) if self.orders else Orders()

    def release(self, shard_ids):
        self.log.append(("release", tuple(shard_ids)))

    def split(self, shard_id, fence, at):
        self.log.append(("split", shard_id, tuple(at)))
        raise LeaseLost("gone")


def test_a_refused_split_drops_the_shard():
    port = Script([Orders(hungry=1)])
    session = _session(World(count=1000, chunk=10), port)
    assert loop.run(session, port, heartbeat=0.0) == ""
    assert session.dropped == [1]
    assert ("split", 1, (key_of(505),)) in port.log


def test_a_new_limit_reaches_the_session():
    port = Script([Orders(bandwidth=5), Orders(bandwidth=0)])
    session = _session(World(count=1000, chunk=10), port)
    loop.run(session, port, heartbeat=0.0)
    assert session.limits == [5, 0]


def test_an_ended_shard_is_reported_without_waiting_for_the_heartbeat():
    port = Script([])
    session = _session(World(count=10), port)
    loop.run(session, port, heartbeat=3600.0)
    assert ("report", (1,)) in port.log


def test_only_an_idle_runner_waits_for_work():
    port = Script([])
    session = _session(World(count=100, chunk=10, room=5), port)
    loop.run(session, port)
    waits = [entry[1] for entry in port.log if entry[0] == "lease"]
    assert waits[0] > 0
    assert waits[1] == 0
    assert len(waits) < 6, "a busy runner asks seldom"


def test_cancel_overrules_pause():
    port = Script([Orders(stop="pause"), Orders(stop="cancel"), Orders(stop="pause")])
    session = _session(World(count=1000, chunk=1, pause=0.001, drain_seconds=0.05), port)
    assert loop.run(session, port, heartbeat=0.0) == "cancel"
    assert session.stopping == "cancel"
    assert port.log[-1] == ("release", (1,))
