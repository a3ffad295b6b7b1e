"""A ledger in PostgreSQL: how it comes into being, what it refuses, and how it outlives its server."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
import threading
import traceback

import psycopg
import pytest

from entrepot.ledger import pool as pools
from entrepot.ledger import postgres as postgresql
from entrepot.ledger.database import LedgerError, open_ledger
from entrepot.ledger.pool import LedgerPool
from entrepot.ledger.schema import HEAD
from entrepot.model.errors import EntrepotError, UsageError
from parts.postgres import ESCAPED, PASSWORD, USER

_ADD = "INSERT INTO event (task_id, at, kind, text) VALUES (:task, now(), 'k', '')"
_COUNT = "SELECT count(*) FROM event"


@pytest.fixture
def ledger(postgres_ledger):
    opened = open_ledger(postgres_ledger)
    yield opened
    opened.close()


@pytest.fixture
def empty(postgres):
    url = postgres.new_database()
    yield url
    postgres.drop(url)


def _count(ledger):
    with ledger.read() as connection:
        return connection.value(_COUNT)


def _add(ledger):
    with ledger.write() as connection:
        connection.change(_ADD, {"task": "t"})


def _tables(raw):
    """Without those that full-text search keeps for itself."""
    rows = raw.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
    virtual = tuple(name for name, sql in rows if sql.startswith("CREATE VIRTUAL"))
    return [name for name, _ in rows if not (virtual and name.startswith(virtual))]


def _columns_of_sqlite(path):
    with sqlite3.connect(path) as raw:
        tables = _tables(raw)
        kinds = {"BIGINT": "bigint", "INTEGER": "bigint", "FLOAT": "double precision", "BLOB": "bytea"}
        return {
            (table, name): (kinds.get(kind, "text"), not needed)
            for table in tables
            for _, name, kind, needed, *_ in raw.execute(f"PRAGMA table_info({table})")
        }


def _indexes(raw):
    tables = _tables(raw)
    rows = raw.execute("SELECT tbl_name, name FROM sqlite_master WHERE type = 'index'").fetchall()
    return [row for row in rows if row[0] in tables]


def _indexes_of_sqlite(path):
    found = set()
    with sqlite3.connect(path) as raw:
        for table, name in _indexes(raw):
            about = next(row for row in raw.execute(f"PRAGMA index_list({table})") if row[1] == name)
            rows = raw.execute(f"PRAGMA index_xinfo({name})").fetchall()
            columns = ", ".join(row[2] + " DESC" * row[3] for row in rows if row[5])
            found.add((table, columns, bool(about[2]), bool(about[4])))
        for table in _tables(raw):
            # A key of one whole number has no index of its own there.
            key = [row[1] for row in raw.execute(f"PRAGMA table_info({table})") if row[5] and row[2] == "INTEGER"]
            found.update((table, name, True, False) for name in key)
    return found


def _index(table, definition):
    columns = re.search(r"USING btree \(([^)]*)\)", definition)[1].replace('"', "")
    return table, columns, definition.startswith("CREATE UNIQUE"), " WHERE " in definition


def test_both_databases_have_the_same_schema(ledger, tmp_path):
    open_ledger(str(tmp_path / "ledger.db")).close()
    with ledger.read() as connection:
        rows = connection.execute(
            """SELECT table_name, column_name, data_type, is_nullable, collation_name
            FROM information_schema.columns WHERE table_schema = 'public'"""
        )
        indexes = connection.execute("SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'")
    theirs = {(row.table_name, row.column_name): (row.data_type, row.is_nullable == "YES") for row in rows}
    assert theirs == _columns_of_sqlite(tmp_path / "ledger.db")
    assert {row.collation_name for row in rows if row.data_type == "text"} == {"C"}, "text sorts by its bytes"
    plain = [row for row in indexes if "USING btree" in row.indexdef]
    assert {_index(row.tablename, row.indexdef) for row in plain} == _indexes_of_sqlite(tmp_path / "ledger.db")


def test_processes_that_open_an_empty_database_at_once_make_it_once(empty):
    code = (
        "import sys; from entrepot.ledger.database import open_ledger; sys.stdin.readline();"
        f"ledger = open_ledger({empty!r}); print(ledger.name)"
    )
    opening = [
        subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for _ in range(3)
    ]
    for one in opening:
        one.stdin.write("go\n")
        one.stdin.flush()
    said = [one.communicate(timeout=60)[0] for one in opening]
    assert [one.returncode for one in opening] == [0, 0, 0], said
    with open_ledger(empty).read() as connection:
        assert connection.execute("SELECT version_num FROM alembic_version")[0].version_num == HEAD


def test_a_newer_schema_is_refused(postgres, postgres_ledger):
    postgres.run("UPDATE alembic_version SET version_num = '9999'", postgres_ledger.rpartition("/")[2])
    with pytest.raises(UsageError, match="does not know") as caught:
        open_ledger(postgres_ledger)
    assert "a schema of its own" in caught.value.hint


def test_a_schema_of_its_own_beside_another_program(postgres, empty):
    name = empty.rpartition("/")[2]
    postgres.run("CREATE TABLE alembic_version (version_num text); CREATE TABLE task (x int)", name)
    postgres.run("INSERT INTO alembic_version VALUES ('theirs')", name)
    with pytest.raises(UsageError, match="does not know"):
        open_ledger(empty)
    mine = f"{empty}?options=-csearch_path%3Dours%2Cpublic"
    postgres.run("CREATE SCHEMA ours", name)
    for count in range(2):
        ledger = open_ledger(mine)
        assert _count(ledger) == count
        _add(ledger)
        ledger.close()
    with psycopg.connect(empty) as raw:
        assert raw.execute("SELECT version_num FROM public.alembic_version").fetchall() == [("theirs",)]
        assert raw.execute("SELECT count(*) FROM ours.event").fetchone() == (2,)


def test_a_schema_that_is_not_there(empty):
    with pytest.raises(EntrepotError) as caught:
        open_ledger(f"{empty}?options=-csearch_path%3Dnowhere")
    assert "create the schema" in caught.value.hint


def test_a_user_who_may_not_make_tables_is_told_how(postgres, empty):
    name = empty.rpartition("/")[2]
    postgres.run("REVOKE CREATE ON SCHEMA public FROM public", name)
    postgres.run("DROP ROLE IF EXISTS guest")
    postgres.run("CREATE ROLE guest LOGIN PASSWORD 'guest'")
    with pytest.raises(LedgerError, match="permission denied") as caught:
        open_ledger(f"postgresql://guest:guest@127.0.0.1:{postgres.port}/{name}")
    assert "CREATE SCHEMA entrepot" in caught.value.hint


def test_another_encoding_is_refused(postgres):
    postgres.run("DROP DATABASE IF EXISTS latin")

    postgres.run("CREATE DATABASE latin TEMPLATE template0 ENCODING 'LATIN1' LOCALE 'C'")
    with pytest.raises(UsageError, match="LATIN1"):
        open_ledger(postgres.url("latin"))


@pytest.mark.parametrize("how", ["wrong password", "wrong port", "wrong database"])
def test_what_cannot_be_opened_is_said_without_the_password(postgres, how):
    good = postgres.url("nowhere" if how == "wrong database" else "postgres")
    place = {
        "wrong password": good.replace(ESCAPED, "wr%2Fng-w0rd"),
        "wrong port": good.replace(f":{postgres.port}/", ":1/"),
        "wrong database": good,
    }[how]
    with pytest.raises(UsageError, match="cannot be opened") as caught:
        open_ledger(place)
    shown = "".join(traceback.format_exception(caught.value)) + caught.value.hint
    for secret in (PASSWORD, ESCAPED, "wr/ng-w0rd", "wr%2Fng-w0rd"):
        assert secret not in shown
    assert f"{USER}@127.0.0.1" in str(caught.value)


@pytest.mark.parametrize(
    "place",
    [
        "postgresql://me:se/cret@host:5432/db",
        "postgresql://me:se@cret@host:5432/db",
        "postgresql://me:se:cret@host:x5432/db",
        "postgres://me:%zzcret@host/db",
        "postgresql://me:cret@host/db?nonsense=cret",
        "postgresql://me:cret@[host/db",
    ],
)
def test_an_address_that_makes_no_sense_is_not_repeated(place):
    with pytest.raises(UsageError, match="no URL") as caught:
        open_ledger(place)
    assert "cret" not in "".join(traceback.format_exception(caught.value)) + caught.value.hint


def test_the_password_may_come_from_elsewhere(postgres, postgres_ledger, tmp_path, monkeypatch):
    bare = postgres_ledger.replace(f":{ESCAPED}", "")
    assert PASSWORD not in bare
    monkeypatch.setenv("PGPASSWORD", PASSWORD)
    with LedgerPool(bare).read() as connection:
        assert connection.value(_COUNT) == 0
    monkeypatch.delenv("PGPASSWORD")
    passfile = tmp_path / "passfile"
    escaped = PASSWORD.replace(":", "\\:")
    passfile.write_text(f"127.0.0.1:{postgres.port}:*:{USER}:{escaped}\n")
    os.chmod(passfile, 0o600)
    ledger = open_ledger(f"{bare}?passfile={passfile}".replace("postgresql://", "postgres://"))
    assert _count(ledger) == 0
    ledger.close()


def test_the_library_is_loaded_only_when_it_is_used(tmp_path):
    code = (
        "import sys; from entrepot.ledger.pool import LedgerPool;"
        f"LedgerPool({str(tmp_path / 'ledger.db')!r}).close(); print('psycopg' in sys.modules)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "False"


def test_without_the_library_the_way_to_get_it_is_told():
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from entrepot.ledger.database import open_ledger\n"
        "from entrepot.model.errors import UsageError\n"
        "try:\n    open_ledger('postgresql://me@host/db')\n"
        "except UsageError as error:\n    print(error.hint)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "entrepot[server]" in out.stdout


@pytest.fixture
def fragile(postgres, postgres_ledger):
    """A pool whose server the test may stop."""
    pool = LedgerPool(postgres_ledger, connections=3)
    yield pool
    pool.close()
    if not postgres.program.alive:
        postgres.start()


def test_a_restart_of_the_server_needs_none_of_ours(postgres, postgres_ledger, fragile):
    single = open_ledger(postgres_ledger)
    _add(single)
    _add(fragile)
    postgres.halt()
    postgres.start()
    _add(single)
    _add(fragile)
    assert _count(single) == _count(fragile) == 4
    single.close()


def test_a_server_that_comes_back_soon_is_waited_for(postgres, fragile):
    postgres.halt()
    adding = threading.Thread(target=_add, args=(fragile,))
    adding.start()
    adding.join(0.5)
    assert adding.is_alive()
    postgres.start()
    adding.join(30)
    assert _count(fragile) == 1


def test_a_server_that_stays_away_is_a_failure_of_its_own(postgres, fragile, monkeypatch):
    monkeypatch.setattr(postgresql, "PATIENCE", 0.2)
    _add(fragile)
    postgres.halt()
    for _ in range(5):
        with pytest.raises(LedgerError, match="out of reach") as caught, fragile.write():
            pass
        assert caught.value.retryable
        assert PASSWORD not in "".join(traceback.format_exception(caught.value))
    postgres.start()
    assert _count(fragile) == 1


def _end_of(connection, postgres):
    """Cut the connection of a transaction from the server's side."""
    pid = connection.value("SELECT pg_backend_pid()")
    postgres.run(f"SELECT pg_terminate_backend({pid}, 5000)")


def test_a_connection_lost_inside_a_transaction_keeps_nothing(postgres, ledger):
    with pytest.raises(LedgerError, match="out of reach") as caught, ledger.write() as connection:
        connection.change(_ADD, {"task": "t"})
        _end_of(connection, postgres)
        connection.change(_ADD, {"task": "t"})
    assert caught.value.retryable
    assert _count(ledger) == 0


def test_a_connection_lost_at_the_commit_is_not_taken_for_a_failure(postgres, ledger):
    with pytest.raises(LedgerError, match="in the middle of a commit") as caught, ledger.write() as connection:
        connection.change(_ADD, {"task": "t"})
        _end_of(connection, postgres)
    assert not caught.value.retryable, "it may have been kept"
    assert _count(ledger) == 0


def test_a_failure_of_the_caller_on_a_lost_connection_stays_his(postgres, ledger):
    with pytest.raises(ZeroDivisionError), ledger.write() as connection:
        _end_of(connection, postgres)
        raise ZeroDivisionError
    assert _count(ledger) == 0


def test_a_failed_statement_that_is_passed_over_does_not_vanish(ledger):
    with pytest.raises(LedgerError, match="nothing was kept"), ledger.write() as connection:
        connection.change(_ADD, {"task": "t"})
        with pytest.raises(psycopg.Error):
            connection.change("INSERT INTO no_such_table VALUES (1)")
    assert _count(ledger) == 0


def test_a_reader_cannot_write(ledger):
    with pytest.raises(LedgerError, match="read-only"), ledger.read() as connection:
        connection.change(_ADD, {"task": "t"})


def test_two_that_wait_for_each_other_both_get_done(postgres_ledger):
    pool = LedgerPool(postgres_ledger)
    with pool.write() as connection:
        for name in ("a", "b"):
            connection.change("INSERT INTO quota (scope, name, amount) VALUES (:name, 'n', 0)", {"name": name})
    both = threading.Barrier(2)
    tries = []

    def work(connection, first, second):
        tries.append(first)
        connection.change("UPDATE quota SET amount = amount + 1 WHERE scope = :scope", {"scope": first})
        if tries.count(first) == 1:
            both.wait(30)
        connection.change("UPDATE quota SET amount = amount + 1 WHERE scope = :scope", {"scope": second})

    threads = [
        threading.Thread(target=pool.settle, args=(lambda c, x=x, y=y: work(c, x, y),))
        for x, y in (("a", "b"), ("b", "a"))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    with pool.read() as connection:
        assert [row.amount for row in connection.execute("SELECT amount FROM quota ORDER BY scope")] == [2, 2]
    assert len(tries) > 2, "one of them was given up once"
    pool.close()


def test_rows_that_are_held_for_too_long_are_a_failure_that_says_so(postgres_ledger):
    impatient = open_ledger(f"{postgres_ledger}?options=-clock_timeout%3D100")
    holder = open_ledger(postgres_ledger)
    with holder.write() as held:
        held.change("INSERT INTO quota (scope, name, amount) VALUES ('s', 'n', 0)")
        with pytest.raises(LedgerError, match="lock timeout") as caught, impatient.write() as connection:
            connection.change("INSERT INTO quota (scope, name, amount) VALUES ('s', 'n', 0)")
    assert caught.value.retryable
    impatient.close()
    holder.close()


def test_a_pool_has_no_more_connections_than_it_may(postgres_ledger, monkeypatch):
    monkeypatch.setattr(pools, "BUSY_SECONDS", 0.2)
    pool = LedgerPool(postgres_ledger, connections=2)
    with pool.read(), pool.write() as connection:
        mine = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        assert connection.value(mine) == 2
        with pytest.raises(LedgerError, match="too busy") as caught, pool.read():
            pass
        assert caught.value.retryable
    assert _count(pool) == 0
    pool.close()


def test_limits_of_the_administrator_stay(postgres_ledger):
    with open_ledger(postgres_ledger).read() as connection:
        assert connection.value("SHOW lock_timeout") == "30s"
        assert connection.value("SHOW idle_in_transaction_session_timeout") == "2min"
        assert connection.value("SHOW application_name") == "entrepot"
    with open_ledger(f"{postgres_ledger}?options=-clock_timeout%3D1s&application_name=x").read() as connection:
        assert connection.value("SHOW lock_timeout") == "1s"
        assert connection.value("SHOW application_name") == "x"


def test_what_one_runner_looks_at_the_other_passes_over(postgres_ledger):
    one, other = open_ledger(postgres_ledger), open_ledger(postgres_ledger)
    with one.write() as connection:
        for _ in range(2):
            connection.change(_ADD, {"task": "t"})
    sql = "SELECT id FROM event ORDER BY id LIMIT 1 FOR UPDATE SKIP LOCKED"
    with one.write() as first, other.write() as second:
        assert first.value(sql) < second.value(sql)
    one.close()
    other.close()
