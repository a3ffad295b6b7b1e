"""Many threads at one ledger: everyone gets a connection, readers do not wait, nothing is lost."""

from __future__ import annotations

import threading

import pytest

from entrepot.ledger.database import LedgerError, open_ledger
from entrepot.ledger.gate import Gate
from entrepot.ledger.pool import LedgerPool

_ADD = "INSERT INTO event (task_id, at, kind, text) VALUES (:task, now(), 'k', '')"
_COUNT = "SELECT count(*) FROM event"


@pytest.fixture
def pool(ledger_place):
    opened = LedgerPool(ledger_place, connections=4)
    yield opened
    opened.close()


def _in_threads(count, work):
    faults = []

    def run(number):
        try:
            work(number)
        except BaseException as error:
            faults.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert faults == []


def test_no_write_of_many_threads_is_lost(pool):
    def work(number):
        for _ in range(20):
            with pool.write() as connection:
                before = connection.value("SELECT count(*) FROM event WHERE task_id = :task", {"task": str(number)})
                connection.change(_ADD, {"task": str(number)})
            with pool.read() as connection:
                after = connection.value("SELECT count(*) FROM event WHERE task_id = :task", {"task": str(number)})
            assert after == before + 1

    _in_threads(8, work)
    with pool.read() as connection:
        assert connection.value(_COUNT) == 160


def test_readers_do_not_wait_for_a_writer_and_do_not_see_its_half(pool):
    with pool.write() as writing:
        writing.change(_ADD, {"task": "t"})
        seen = []

        def look(_number):
            with pool.read() as connection:
                seen.append(connection.value(_COUNT))

        _in_threads(3, look)
        assert seen == [0, 0, 0]
    with pool.read() as connection:
        assert connection.value(_COUNT) == 1


def test_a_reader_sees_one_moment(pool):
    with pool.read() as reading:
        assert reading.value(_COUNT) == 0

        def add(_number):
            with pool.write() as connection:
                connection.change(_ADD, {"task": "t"})

        _in_threads(1, add)
        assert reading.value(_COUNT) == 0
    with pool.read() as connection:
        assert connection.value(_COUNT) == 1


def test_a_failure_inside_leaves_nothing_and_the_pool_whole(pool):
    for _ in range(10):
        with pytest.raises(ZeroDivisionError), pool.write() as connection:
            connection.change(_ADD, {"task": "t"})
            raise ZeroDivisionError
    with pytest.raises(LedgerError), pool.write() as connection:
        connection.change("INSERT INTO no_such_table VALUES (1)")
    with pool.write() as connection:
        assert connection.value(_COUNT) == 0


def test_a_share_is_a_ledger_that_may_be_closed(pool):
    with pool.ledger().write() as connection:
        connection.change(_ADD, {"task": "t"})
    pool.ledger().close()
    with pool.ledger().read() as connection:
        assert connection.value(_COUNT) == 1


def test_work_that_lost_to_another_is_done_again(pool):
    tries = []

    def work(connection):
        tries.append(connection.change(_ADD, {"task": "t"}))
        if len(tries) < 3:
            raise LedgerError("lost", retryable=True)
        return "done"

    assert pool.settle(work) == "done"
    with pool.read() as connection:
        assert connection.value(_COUNT) == 1
    with pytest.raises(LedgerError, match="for good"):
        pool.settle(_fail_for_good)
    assert len(tries) == 3


def _fail_for_good(_connection):
    raise LedgerError("for good")


def test_a_closed_pool_says_so(pool):
    reading = pool.read()
    reading.__enter__()
    pool.close()
    reading.__exit__(None, None, None)
    with pytest.raises(LedgerError, match="is closed"), pool.read():
        pass


def test_a_transaction_inside_another_is_a_fault_at_once(pool, ledger_place):
    single = open_ledger(ledger_place)
    for ledger in (pool, single, pool.ledger()):
        with pytest.raises(LedgerError, match="inside another"), ledger.write() as connection:
            connection.change(_ADD, {"task": "t"})
            with ledger.write():
                pass
        with ledger.write() as connection:
            assert connection.value(_COUNT) == 0
    single.close()


def test_a_gate_lets_in_by_turn_and_no_more_than_it_may():
    gate = Gate(2)
    assert gate.enter(0)
    assert gate.enter(0)
    assert not gate.enter(0.01)
    entered = []

    def come(number):
        assert gate.enter(30)
        entered.append(number)

    threads = []
    for number in range(3):
        threads.append(threading.Thread(target=come, args=(number,)))
        threads[-1].start()
        while len(gate._waiting) <= number:
            pass
    gate.leave()
    threads[0].join(30)
    assert not gate.enter(0.01), "the place went to the one who waited"
    for number in (1, 2):
        gate.leave()
        threads[number].join(30)
    assert entered == [0, 1, 2]
    gate.leave()
    gate.leave()
    assert gate.enter(0)
    assert gate.enter(0)
    assert not gate.enter(0)
