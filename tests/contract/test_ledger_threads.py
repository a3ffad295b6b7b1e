"""Many runners at one task at the same time, on both databases: nothing is lost, counted twice or stuck."""

from __future__ import annotations

import random
import threading

import pytest

from entrepot.ledger import shards, tasks
from entrepot.ledger.pool import LedgerPool
from entrepot.model.errors import LeaseLost
from entrepot.model.task import TaskState
from ledger_parts import assert_counts_agree, assert_partition, make_task, port_of, progress_of, shard_rows

KEYS = [b"%04d" % i for i in range(400)]
RUNNERS = 6


@pytest.fixture
def pool(ledger_place):
    opened = LedgerPool(ledger_place, connections=5)
    yield opened
    opened.close()


def _work(pool, task_id, name, seed):
    """A runner that reports, splits, gives back, falls silent and dies as it likes, until all is done."""
    luck = random.Random(seed)
    port = port_of(pool.ledger(), task_id, name, lease_seconds=0.2)
    while True:
        leased = port.lease(luck.randint(1, 3))
        if not leased and all(row.state == "done" for row in shard_rows(pool, task_id)):
            return
        for one in leased:
            _work_on(port, one, luck)
        if luck.random() < 0.1:
            port.expire()


def _work_on(port, leased, luck):
    cursor, high, copied = leased.cursor, leased.high, leased.totals.copied
    while True:
        ahead = [key for key in KEYS if key > cursor and (high is None or key <= high)]
        if len(ahead) > 20 and luck.random() < 0.3:
            cut = ahead[len(ahead) // 2]
            try:
                port.split(leased.id, leased.fence, [cut])
            except LeaseLost:
                return
            high = cut
            continue
        done = ahead[: luck.randint(1, 15)]
        cursor = done[-1] if done else cursor
        copied += len(done)
        said = progress_of(leased, cursor, total=copied, copied=copied)
        last = len(done) == len(ahead)
        if port.report([said], [leased.id] if last else []).lost or last:
            return
        if luck.random() < 0.1:
            port.release([leased.id])
            return
        if luck.random() < 0.05:
            # Falls silent: the lease runs out for the others.
            return


def test_runners_side_by_side(pool, monkeypatch):
    monkeypatch.setattr(shards, "LOST_MAX", 10**6)
    task_id = make_task(pool, KEYS[::40])
    faults = []

    def run(number):
        try:
            _work(pool, task_id, f"r{number}", number)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(RUNNERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(90)
        assert not thread.is_alive()
    assert faults == []
    assert_partition(pool, task_id)
    assert assert_counts_agree(pool, task_id).copied == len(KEYS)


def test_one_task_moves_on_once_however_many_push(pool):
    task_id = make_task(pool)
    moved = []

    def push():
        with pool.write() as connection:
            moved.append(tasks.transition(connection, task_id, TaskState.CANCELLED))

    threads = [threading.Thread(target=push) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(moved) == [False] * 7 + [True]


def test_what_is_not_there_is_made_once(pool):
    made = []

    def find_or_make():
        with pool.write() as connection:
            connection.alone("make one")
            if not connection.value("SELECT count(*) FROM event WHERE kind = 'made'"):
                connection.change("INSERT INTO event (task_id, at, kind, text) VALUES ('t', now(), 'made', '')")
                made.append(1)

    threads = [threading.Thread(target=find_or_make) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with pool.read() as connection:
        assert connection.value("SELECT count(*) FROM event") == len(made) == 1
