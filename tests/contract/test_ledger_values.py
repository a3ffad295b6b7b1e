"""What goes into the ledger comes out of it, and means the same in both databases."""

from __future__ import annotations

import math
import time

import pytest

from entrepot.ledger.database import LedgerError, open_ledger
from entrepot.model.task import TaskState

_DOOM = "INSERT INTO doomed (task_id, key, shard_id, size) VALUES (:task, :key, :shard, :size)"
_NOTE = "INSERT INTO event (task_id, at, kind, text) VALUES (:task, :at, :kind, :text)"
_QUOTA = "INSERT INTO quota (scope, name, amount) VALUES (:scope, 'n', :amount)"


@pytest.fixture
def connection(ledger_place):
    ledger = open_ledger(ledger_place)
    with ledger.write() as opened:
        yield opened
    ledger.close()


def _doom(connection, *keys):
    connection.executemany(_DOOM, ({"task": "t", "key": key, "shard": 1, "size": 0} for key in keys))


def test_bytes_of_every_kind_come_back_in_their_order(connection):
    keys = [b"", b"\x00", b"\x00\xff", b"A", b"Z", b"a", b"a\x00", b"a/b", b"\xc3\xa9", b"\xff", b"\xff\xff"]
    _doom(connection, *reversed(keys))
    assert [row.key for row in connection.execute("SELECT key FROM doomed ORDER BY key")] == keys
    above = connection.execute("SELECT key FROM doomed WHERE key > :low AND key <= :high", {"low": b"Z", "high": b"a"})
    assert [row.key for row in above] == [b"a"]
    assert type(connection.value("SELECT key FROM doomed WHERE key = :key", {"key": b"a"})) is bytes


def test_text_sorts_and_compares_by_its_bytes(connection):
    names = ["", "-", "/", "A", "Z", "_", "a", "a b", "a-b", "a/", "a/b", "a0", "ab", "b", "é", "日本", "🙂"]
    for name in reversed(names):
        connection.change(_QUOTA, {"scope": name, "amount": 1})
    assert [row.scope for row in connection.execute("SELECT scope FROM quota ORDER BY scope")] == names
    below = connection.execute("SELECT scope FROM quota WHERE scope >= 'a/' AND scope < 'a0' ORDER BY scope")
    assert [row.scope for row in below] == ["a/", "a/b"]


def test_like_tells_capital_from_small_letters(connection):
    for name in ("Abc", "abc", "a_c", "a%c"):
        connection.change(_QUOTA, {"scope": name, "amount": 1})
    like = "SELECT count(*) FROM quota WHERE scope LIKE :pattern ESCAPE '!'"
    assert connection.value(like, {"pattern": "a%"}) == 3
    assert connection.value(like, {"pattern": "A%"}) == 1
    assert connection.value(like, {"pattern": "a!_c"}) == 1
    assert connection.value("SELECT count(*) FROM quota WHERE scope LIKE 'a%'") == 3


@pytest.mark.parametrize("number", [0, 1, -1, 2**15, 2**31, 2**53 + 1, 2**63 - 1, -(2**63)])
def test_whole_numbers(connection, number):
    connection.change(_QUOTA, {"scope": "s", "amount": number})
    assert connection.value("SELECT amount FROM quota WHERE amount = :number", {"number": number}) == number
    assert type(connection.value("SELECT amount FROM quota")) is int


def test_sums_are_whole_numbers(connection):
    for scope, amount in (("a", 2**62), ("b", 2**62 - 1)):
        connection.change(_QUOTA, {"scope": scope, "amount": amount})
    row = connection.first("SELECT sum(amount) AS total, avg(amount) AS mean, count(*) AS number FROM quota")
    assert (row.total, type(row.total), row.number) == (2**63 - 1, int, 2)
    assert math.isclose(row.mean, 2**62)


def test_yes_and_no_are_numbers(connection):
    connection.change(_QUOTA, {"scope": "yes", "amount": True})
    connection.change(_QUOTA, {"scope": "no", "amount": False})
    rows = connection.execute("SELECT amount, amount = 1 AS is_one FROM quota ORDER BY amount")
    assert [(row.amount, bool(row.is_one)) for row in rows] == [(0, False), (1, True)]
    assert connection.value("SELECT scope FROM quota WHERE amount = :on", {"on": True}) == "yes"


def test_times_are_exact(connection):
    moment = 1_772_323_199.123456
    for at in (moment, 0.1, 5, 1e300):
        connection.change(_NOTE, {"task": "t", "at": at, "kind": "k", "text": ""})
    found = [row.at for row in connection.execute("SELECT at FROM event ORDER BY id")]
    assert found == [moment, 0.1, 5.0, 1e300]
    assert {type(at) for at in found} == {float}
    assert math.isclose(connection.value("SELECT now()"), time.time(), abs_tol=5)
    assert connection.value("SELECT now() - :age < now()", {"age": 3})


def test_text_that_looks_like_a_statement(connection):
    text = "100% 'quoted' :name ::text %s %(x)s \\ \" ? $1 ; --\n\t日本🙂"
    connection.change(_NOTE, {"task": "t", "at": 0, "kind": TaskState.QUEUED, "text": text})
    row = connection.first("SELECT kind, text, ':kind 10%' AS plain FROM event WHERE text = :text", {"text": text})
    assert (row.kind, row.text, row.plain) == ("QUEUED", text, ":kind 10%")
    assert connection.value("SELECT 7 % 4") == 3


def test_long_text_fits_where_a_length_is_named(connection):
    connection.change(_NOTE, {"task": "t" * 100, "at": 0, "kind": "k" * 100, "text": "x" * 100_000})
    assert connection.value("SELECT length(text) FROM event WHERE kind = :kind", {"kind": "k" * 100}) == 100_000


def test_nothing_is_nothing(connection):
    _doom(connection, b"k")
    row = connection.first("SELECT etag, mtime_ns FROM doomed")
    assert (row.etag, row.mtime_ns) == (None, None)
    assert connection.first("SELECT key FROM doomed WHERE key = :key", {"key": b"x"}) is None
    assert connection.value("SELECT sum(size) FROM doomed WHERE key = :key", {"key": b"x"}) is None
    sql = "SELECT count(*) FROM doomed WHERE cast(:etag AS TEXT) IS NULL"
    assert connection.value(sql, {"etag": None}) == 1
    assert connection.value(sql, {"etag": "x"}) == 0
    connection.change("UPDATE doomed SET etag = :etag, mtime_ns = :at", {"etag": None, "at": None})


def test_how_many_rows_were_changed(connection):
    _doom(connection, b"a", b"b", b"c")
    assert connection.change("UPDATE doomed SET size = 1 WHERE key > :key", {"key": b"a"}) == 2
    assert connection.change("UPDATE doomed SET size = 1 WHERE key > :key", {"key": b"z"}) == 0
    again = _DOOM + " ON CONFLICT (task_id, key) DO NOTHING"
    assert connection.change(again, {"task": "t", "key": b"a", "shard": 1, "size": 0}) == 0
    assert connection.change(again, {"task": "t", "key": b"d", "shard": 1, "size": 0}) == 1
    upsert = _DOOM + " ON CONFLICT (task_id, key) DO UPDATE SET size = doomed.size + excluded.size"
    assert connection.change(upsert, {"task": "t", "key": b"b", "shard": 1, "size": 4}) == 1
    assert connection.value("SELECT size FROM doomed WHERE key = :key", {"key": b"b"}) == 5
    assert connection.change("DELETE FROM doomed") == 4
    connection.executemany(_DOOM, [])
    connection.executemany("DELETE FROM doomed WHERE key = :key", [{"key": b"a"}])


def test_parameters_that_a_statement_does_not_name_are_passed_over(connection):
    assert connection.value("SELECT :a", {"a": "x", "b": "y"}) == "x"
    assert connection.execute("UPDATE doomed SET size = 0") == []


def test_a_statement_that_fails_is_a_failure_of_the_ledger(ledger_place):
    ledger = open_ledger(ledger_place)
    for _ in range(2):
        with pytest.raises(LedgerError, match=r"UNIQUE|unique"), ledger.write() as connection:
            connection.change(_QUOTA, {"scope": "s", "amount": 1})
            connection.change(_QUOTA, {"scope": "s", "amount": 1})
    with ledger.read() as connection:
        assert connection.value("SELECT count(*) FROM quota") == 0
    ledger.close()
