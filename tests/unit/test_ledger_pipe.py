"""The ledger over a pipe: the same answers, quickly, and an end when the other end is gone."""

from __future__ import annotations

import socket
import statistics
import threading
import time

import pytest

from entrepot.ledger.pipe import Assignment, Bell, Farewell, PipeClosed, PipePort, pack
from entrepot.ledger.pipe_server import PipeServer
from entrepot.model.errors import GuardError, LeaseLost
from entrepot.model.shard import Doomed, Orders, Partial, Progress, Shard
from entrepot.model.task import TaskSpec
from entrepot.model.totals import Totals


class Ledger:
    """A ledger of lists behind the server."""

    def __init__(self):
        self.calls = []
        self.free = []
        self.ended = False
        self.expired = 0

    def lease(self, limit, wait=0.0):
        given, self.free = self.free[:limit], self.free[limit:]
        return given

    def finished(self):
        return self.ended

    def expire(self):
        self.expired += 1
        return 1

    def report(self, progress, final=(), stats=None):
        self.calls.append(("report", list(progress), list(final), stats))
        return Orders(hungry=3, lost=(7,))

    def release(self, shard_ids):
        self.free += [_shard(i) for i in shard_ids]

    def split(self, shard_id, fence, at):
        if fence == 0:
            raise LeaseLost("gone", hint="so it goes")
        self.free.append(_shard(99))

    def partials(self, low, high):
        return [Partial(b"k", 1, b"e", 8)]

    def save_partial(self, partial):
        self.calls.append(("save", partial))

    def drop_partial(self, key):
        self.calls.append(("drop", key))

    def next_doomed(self, shard, limit):
        return [Doomed(b"d" * 1000, 5, 1)] * limit


def _shard(number):
    return Shard(number, "t", "scan", 1, b"", None, b"", Totals())


ASSIGNMENT = Assignment("t", "r", TaskSpec("sync", "a", "b", "{}"), "/state", 2)


class Served:
    """A server in a thread, with one client for each of ``size`` runners."""

    def __init__(self, size=1, opened=True):
        self.ledger = Ledger()
        self.bell = Bell()
        self.server = PipeServer(self.bell)
        self.ports, self.pipes = [], []
        for number in range(size):
            ours, theirs = socket.socketpair()
            self.server.add(f"r{number}", ours)
            self.pipes.append(theirs)
            self.ports.append(PipePort(theirs))
        self.stop = False
        self.jobs = []
        if opened:
            self.open()
        self.thread = threading.Thread(target=self._run, daemon=True)

    def open(self):
        self.server.open(lambda runner: self.ledger, lambda runner: ASSIGNMENT)

    def _run(self):
        while not self.stop:
            self.server.serve(0.005)
            while self.jobs:
                self.jobs.pop(0)()
        self.server.close()

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *exception):
        self.stop = True
        self.thread.join(5)
        for pipe in self.pipes:
            pipe.close()


def test_every_call_of_the_port_goes_through():
    with Served() as served:
        port = served.ports[0]
        served.ledger.free = [_shard(1), _shard(2)]
        assert port.lease(1) == [_shard(1)]
        assert not port.finished()
        progress = [Progress(1, 1, b"c", Totals(copied=4))]
        assert port.report(progress, [1], {"requests.get": 2}) == Orders(hungry=3, lost=(7,))
        port.release([5])
        assert [s.id for s in port.lease(9)] == [2, 5]
        assert port.partials(b"", None) == [Partial(b"k", 1, b"e", 8)]
        port.save_partial(Partial(b"k", 1, 2, 8))
        port.drop_partial(b"k")
        assert len(port.next_doomed(_shard(1), 1000)) == 1000
        assert served.ledger.calls == [
            ("report", progress, [1], {"requests.get": 2}),
            ("save", Partial(b"k", 1, 2, 8)),
            ("drop", b"k"),
        ]


def test_errors_keep_their_class_and_hint():
    with Served() as served, pytest.raises(LeaseLost, match="gone") as caught:
        served.ports[0].split(1, 0, [b"k"])
    assert caught.value.hint == "so it goes"


def test_a_round_trip_is_cheap():
    with Served() as served:
        port = served.ports[0]
        times = []
        for _ in range(2000):
            start = time.perf_counter()
            port.drop_partial(b"k")
            times.append(time.perf_counter() - start)
    assert statistics.quantiles(times, n=10)[0] < 200e-6


def test_hello_waits_for_the_task():
    served = Served(opened=False)
    served.jobs.append(lambda: (time.sleep(0.05), served.open()))
    with served:
        start = time.monotonic()
        assert served.ports[0].hello() == ASSIGNMENT
        assert time.monotonic() - start > 0.03


def test_a_waiting_lease_is_answered_when_another_runner_frees_work():
    with Served(size=2) as served:
        one, other = served.ports
        got = []
        waiter = threading.Thread(target=lambda: got.append((one.lease(1, 0.05), time.monotonic())))
        waiter.start()
        time.sleep(0.01)
        start = time.monotonic()
        other.split(1, 1, [b"k"])
        waiter.join(2)
    assert [s.id for s in got[0][0]] == [99]
    assert got[0][1] - start < 0.03


def test_a_waiting_lease_ends_with_nothing_after_a_moment():
    with Served() as served:
        start = time.monotonic()
        assert served.ports[0].lease(1, 5.0) == []
        assert 0.04 < time.monotonic() - start < 1
        assert served.server.hungry() == 1
        served.ledger.free = [_shard(1)]
        assert served.ports[0].lease(1, 0.05)
        assert served.server.hungry() == 0


def test_a_lease_that_need_not_wait_does_not_count_as_hungry():
    with Served() as served:
        assert served.ports[0].lease(1) == []
        assert served.server.hungry() == 0


def test_the_end_is_told_with_an_empty_lease():
    with Served() as served:
        served.ledger.ended = True
        start = time.monotonic()
        assert served.ports[0].lease(1, 0.05) == []
        assert served.ports[0].finished()
        assert time.monotonic() - start < 0.04


def test_hunger_rings_the_bell_once():
    with Served() as served:
        assert not served.bell.rang()
        served.ports[0].lease(1, 0.05)
        assert served.bell.rang()
        assert not served.bell.rang()
        served.ports[0].lease(1, 0.05)
        assert not served.bell.rang()


def test_a_dead_runner_frees_its_leases_at_once():
    with Served(size=2) as served:
        served.ports[0].farewell(Farewell("error", GuardError("no")))
        served.pipes[0].close()
        served.pipes[1].close()
        until = time.monotonic() + 2
        while len(served.server.gone) < 2 and time.monotonic() < until:
            time.sleep(0.005)
        words = dict(served.server.gone)
    assert served.ledger.expired == 2
    assert str(words["r0"].error) == "no"
    assert words["r1"] is None


def test_a_dead_parent_ends_the_runner():
    served = Served()
    served.server.close()
    with pytest.raises(PipeClosed):
        served.ports[0].report([])


def test_a_stopped_runner_with_half_a_message_does_not_stop_the_others():
    with Served(size=2) as served:
        served.pipes[0].sendall(pack(("drop_partial", b"k"))[:7])
        served.ports[1].drop_partial(b"x")
        assert served.ledger.calls == [("drop", b"x")]


def test_a_runner_that_does_not_read_does_not_stop_the_others():
    with Served(size=2) as served:
        for _ in range(4):
            served.pipes[0].sendall(pack(("next_doomed", _shard(1), 1000)))
        served.ports[1].drop_partial(b"x")
        port = served.ports[0]
        for _ in range(4):
            length = int.from_bytes(port._read(4), "little")
            assert len(port._read(length)) == length


def test_an_unknown_call_is_refused():
    with Served() as served, pytest.raises(Exception, match="no such call"):
        served.ports[0]._call("__class__")
