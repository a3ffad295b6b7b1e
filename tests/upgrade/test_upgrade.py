"""A ledger of the first version under this one: nothing is lost, and what was half done is finished.

On both databases; also by two processes at once, and by one that is killed in the middle.
"""

from __future__ import annotations

import os
import re
import signal
import sqlite3
from contextlib import closing

import old_ledger
import psycopg
import pytest

from entrepot.ledger import checking, journal, tasks
from entrepot.ledger.database import find_database, open_ledger
from entrepot.ledger.migrations.run import upgrade
from entrepot.ledger.schema import HEAD
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskState
from entrepot.service import oneshot
from entrepot.service.claim import spec_hash
from fake_trade import Found, World
from ledger_parts import assert_counts_agree, assert_partition
from serve_parts import ended, forked

OPTIONS = SyncOptions()


@pytest.fixture(params=["sqlite", "postgresql"])
def place(request, tmp_path):
    """Where a ledger of the first version is."""
    if request.param == "sqlite":
        found = str(tmp_path / "state" / "ledger.db")
        (tmp_path / "state").mkdir()
        yield _made(found)
        return
    server = request.getfixturevalue("postgres")
    url = server.new_database()
    yield _made(url)
    server.drop(url)


def _made(place):
    old_ledger.make(place, OPTIONS.to_json(), spec_hash("sync", Found(), OPTIONS))
    return place


def test_nothing_is_lost_and_every_account_agrees(place):
    before = old_ledger.content(place)
    assert old_ledger.revision(place) == "0001"
    assert all(before[table] for table in old_ledger.TABLES)
    open_ledger(place).close()
    assert old_ledger.revision(place) == HEAD
    assert old_ledger.content(place) == before
    assert checking.check(place).findings == ()


def test_what_was_kept_is_read_as_it_was_meant(place):
    ledger = open_ledger(place)
    with ledger.read() as c:
        found = {str(task.state): task for task in tasks.listing(c)}
        assert set(found) == set(old_ledger.STATES)
        review = found["REVIEW"]
        assert (review.reason, review.totals.copied, review.filing.family, review.percent) == ("was REVIEW", 2, "", 0)
        ((failure,), _) = journal.failures(c, review.id)
        assert (failure.key, failure.failure, failure.message) == (b"n\x00\xfe", "forbidden", "nö")
        (half,) = journal.partials(c, review.id, b"", None)
        assert (half.key, half.size, half.upload_id, half.done) == (b"big\xff", 2**40, "up/load=", [[0, 8, "etag"]])
        assert journal.doomed_sums(c, review.id) == (2, 14)
        assert journal.stats(c, review.id) == {"r1": {"requests.GET": 5}}
    ledger.close()


def _world(tmp_path):
    """Where the entries of the done ranges have been copied, and the first hundred of the third."""
    world = World(count=old_ledger.COUNT, effects=str(tmp_path / "effects"))
    with open(world.effects, "wb") as file:
        file.writelines(b"C %s 1\n" % key for key in world.keys[:500])
    return world


def test_a_task_that_was_half_done_goes_on_and_ends(tmp_path):
    place = str(tmp_path / "state" / "ledger.db")
    (tmp_path / "state").mkdir()
    _made(place)
    world = _world(tmp_path)
    request = oneshot.TaskRequest("sync", "src", "dst", OPTIONS, 2, str(tmp_path / "state"))
    shot = oneshot.run(request, lambda shot: None, trade=world.trade())
    assert (shot.task_id, shot.resumed) == (old_ledger.HALF_DONE, True)
    assert (shot.state, shot.totals.copied) == (TaskState.SUCCEEDED, old_ledger.COUNT)
    assert sorted(world.done()) == world.keys, "each once: what was done is not done again"
    ledger = open_ledger(place)
    assert_counts_agree(ledger, shot.task_id)
    assert_partition(ledger, shot.task_id)
    ledger.close()


def test_a_task_that_was_half_done_goes_on_in_either_database(place):
    """As the engine asks for it, without processes."""
    from entrepot.service.owner import this_process
    from ledger_parts import port_of, progress_of

    ledger = open_ledger(place)
    with ledger.write() as c:
        task = tasks.resumable(c, spec_hash("sync", Found(), OPTIONS))
        assert task is not None
        assert task.id == old_ledger.HALF_DONE
        tasks.take_over(c, task.id, this_process(), task.spec.options)
    port = port_of(ledger, task.id)
    left = port.lease(10)
    assert [shard.low for shard in left] == [old_ledger.key_of(n) for n in (399, 599, 799, 999)]
    assert left[0].cursor == old_ledger.key_of(499)
    said = [progress_of(s, s.high or old_ledger.key_of(1199), total=200, copied=200) for s in left]
    port.report(said, [shard.id for shard in left])
    assert_counts_agree(ledger, task.id)
    with ledger.read() as c:
        assert tasks.read(c, task.id).totals.copied == old_ledger.COUNT
        assert {state for _, state in tasks.shard_counts(c, task.id)} == {"done"}
    ledger.close()


def test_processes_that_upgrade_at_once_do_it_once(place):
    before = old_ledger.content(place)

    def live():
        ledger = open_ledger(place)
        with ledger.write() as c:
            c.change("INSERT INTO quota (scope, name, amount) VALUES (:scope, 'n', 1)", {"scope": str(os.getpid())})
        ledger.close()

    pids = [forked(live) for _ in range(3)]
    assert [ended(pid, 60) for pid in pids] == [0, 0, 0]
    assert old_ledger.content(place) == before
    assert checking.check(place).findings == ()
    with open_ledger(place).read() as c:
        assert c.value("SELECT count(*) FROM quota") == 3


@pytest.mark.parametrize("nth", [1, 4, 12, 30, 60])
def test_one_that_is_killed_in_the_middle_leaves_the_old_ledger_whole(place, nth):
    before = old_ledger.content(place)

    def live():
        from sqlalchemy import Engine, event

        seen = []

        def count(*_about):
            seen.append(True)
            if len(seen) == nth:
                os.kill(os.getpid(), signal.SIGKILL)

        event.listen(Engine, "after_cursor_execute", count)
        open_ledger(place).close()

    assert ended(forked(live), 60) == -signal.SIGKILL, "the upgrade has as many statements"
    assert old_ledger.revision(place) == "0001"
    assert old_ledger.content(place) == before
    open_ledger(place).close()
    assert old_ledger.revision(place) == HEAD
    assert old_ledger.content(place) == before
    assert checking.check(place).findings == ()


def _shape(place):
    """Columns with type, null and default; indexes as they were understood."""
    if "://" in place:
        with psycopg.connect(place) as raw:
            columns = raw.execute(
                """SELECT table_name, column_name, data_type, is_nullable, column_default, collation_name
                FROM information_schema.columns WHERE table_schema = 'public'"""
            ).fetchall()
            indexes = raw.execute("SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'").fetchall()
            rules = raw.execute("SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint WHERE contype <> 'n'")
            return {frozenset(columns), frozenset(indexes), frozenset(rules.fetchall())}
    with closing(sqlite3.connect(place)) as raw:
        rows = raw.execute("SELECT type, name, tbl_name, sql FROM sqlite_master").fetchall()
        found = {(kind, name, table) for kind, name, table, _ in rows}
        for kind, name, _, sql in rows:
            if kind == "table":
                found |= {(name, *row[1:]) for row in raw.execute(f"PRAGMA table_info({name})")}
            elif kind == "index":
                found |= {(name, *row) for row in raw.execute(f"PRAGMA index_xinfo({name})")}
                found.add((name, re.sub(r"\s+", " ", (sql or "").partition(" WHERE ")[2])))
        return found


def test_an_upgraded_ledger_has_the_schema_of_a_new_one(place, request, tmp_path):
    if "://" in place:
        new = request.getfixturevalue("postgres").new_database()
    else:
        new = str(tmp_path / "new.db")
    open_ledger(new).close()
    open_ledger(place).close()
    assert _shape(place) == _shape(new)
    if "://" in place:
        request.getfixturevalue("postgres").drop(new)


@pytest.mark.parametrize("step", ["0002", "0003", "0004", "0005"])
def test_every_step_on_the_way_can_be_gone_on_from(place, step):
    before = old_ledger.content(place)
    upgrade(find_database(place), step)
    assert old_ledger.revision(place) == step
    open_ledger(place).close()
    assert old_ledger.revision(place) == HEAD
    assert old_ledger.content(place) == before
    assert checking.check(place).findings == ()


def test_a_ledger_that_is_newer_than_the_program_is_refused_and_left_alone(cli):
    path = os.path.join(cli.state, "ledger.db")
    open_ledger(path).close()
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    before = sorted(os.listdir(cli.state))
    for words in (["tasks"], ["sync", cli.home, cli.home + "-copy"]):
        done = cli(*words, json=False)
        assert done.code == 2, done.text
        assert "has a schema that this version does not know" in done.err
        assert "written by a newer version" in done.err
        assert "Traceback" not in done.err
    checked = cli("ledger", "check")
    assert "a newer version wrote it" in checked.out
    assert sorted(name for name in os.listdir(cli.state) if name.startswith("ledger.db")) == [
        name for name in before if name.startswith("ledger.db")
    ]
    assert old_ledger.revision(path) == "9999"
