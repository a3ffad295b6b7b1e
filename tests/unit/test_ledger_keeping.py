"""Checking, repairing, recovering, backing up and restoring a ledger."""

from __future__ import annotations

import os
import random
import shutil
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing

import pytest

from entrepot.ledger import access, anew, checking, copies, journal, salvage, swap, tasks
from entrepot.ledger.database import LedgerError, open_ledger
from entrepot.ledger.schema import HEAD
from entrepot.model.errors import UsageError
from entrepot.model.shard import Doomed, Failure, Partial
from entrepot.model.task import TaskState
from entrepot.security import keyring
from entrepot.security.keyring import KeyFileError
from ledger_parts import make_task, port_of, progress_of
from serve_parts import submit

TASKS = 12
HALF = TASKS // 2
FAILURES = HALF * 150
"""Those of failed tasks: unfinished ones find theirs again."""


def fill(place: str, *, failures: int = 150) -> list[str]:
    """Tasks of the command line, half of them half-way through and half of them failed; one of a server; people."""
    ledger = open_ledger(place)
    ids = []
    for number in range(TASKS):
        task_id = make_task(ledger, [b"%03d" % cut for cut in range(1, 30)], spec_hash=f"h{number}")
        port = port_of(ledger, task_id)
        got = port.lease(4 if number % 2 else 100)
        port.report([progress_of(s, s.high or b"z", total=9, copied=9) for s in got], [s.id for s in got])
        port.save_partial(Partial(b"big", 1 << 40, b"etag", 8 << 20, "upload", "", [], 0.0))
        with ledger.write() as c:
            found = [Failure(b"k%06d" % n, "forbidden", "no " + "x" * 40, 1, 5) for n in range(failures)]
            journal.add_failures(c, task_id, "scan", found, 0)
            journal.add_doomed(c, task_id, got[0].id, [Doomed(b"gone", b"etag", 5)])
            if not number % 2:
                tasks.transition(c, task_id, TaskState.FAILED, "it was forbidden")
        ids.append(task_id)
    submit(ledger, name="named", scope="a/b")
    with ledger.write() as c:
        access.add_principal(c, "p1", "anna", "user", "[]")
    ledger.close()
    return ids


@pytest.fixture
def place(tmp_path):
    found = str(tmp_path / "data" / "ledger.db")
    fill(found)
    return found


def rows(place: str, table: str = "failure") -> int:
    ledger = open_ledger(place)
    with ledger.read() as c:
        found = int(c.value(f"SELECT count(*) FROM {table}"))
    ledger.close()
    return found


def states(place: str) -> dict[str, int]:
    ledger = open_ledger(place)
    with ledger.read() as c:
        found = {row.state: row.n for row in c.execute("SELECT state, count(*) AS n FROM task GROUP BY state")}
    ledger.close()
    return found


def change(place: str, *statements: str) -> None:
    with closing(sqlite3.connect(place)) as raw, raw:
        for statement in statements:
            raw.execute(statement)


# -- check and repair ------------------------------------------------------------------------------------------------


def test_a_sound_ledger_is_found_sound(place):
    found = checking.check(place)
    assert (found.findings, found.tasks, found.revision) == ((), TASKS + 1, HEAD)


@pytest.mark.parametrize(
    ("wrong", "kind", "subject"),
    [
        ("UPDATE task SET copied = copied + 1 WHERE id = (SELECT min(id) FROM task)", "counters", ""),
        ("UPDATE task SET failure_rows = 3 WHERE id = (SELECT min(id) FROM task)", "counters", ""),
        ("DELETE FROM shard WHERE id = 7", "ranges", ""),
        ("UPDATE shard SET cursor = x'ff' WHERE id = 3", "ranges", ""),
        ("DELETE FROM task WHERE id = (SELECT min(id) FROM task)", "orphans", "shard"),
        ("INSERT INTO token (id, principal_id, digest, created) VALUES ('t', 'nobody', 'd', 0)", "orphans", "token"),
        ("UPDATE task_count SET tasks = tasks + 2", "lists", "task_count"),
        ("DELETE FROM task_label", "lists", "task_label"),
    ],
)
def test_what_does_not_agree_is_found_and_set_right(place, wrong, kind, subject):
    change(place, wrong)
    found = [one for one in checking.check(place).findings if one.kind == kind]
    assert found
    assert not subject or subject in {one.subject for one in found}
    ledger = open_ledger(place)
    assert checking.repair(ledger) > 0
    assert checking.check_open(ledger).findings == ()
    assert checking.repair(ledger) == 0, "nothing more to do"
    ledger.close()


def test_the_same_on_both_databases(ledger_place):
    ledger = open_ledger(ledger_place)
    one, other = make_task(ledger, [b"b", b"c"]), submit(ledger, name="x", scope="s")
    with ledger.write() as c:
        c.change("UPDATE task SET copied = 5 WHERE id = :id", {"id": one})
        c.change("UPDATE task_count SET tasks = 7")
        c.change("DELETE FROM task_label WHERE task_id = :id", {"id": other})
        c.change("INSERT INTO event (task_id, at, kind, text) VALUES ('none', 0, 'k', '')")
    assert {one.kind for one in checking.check(ledger_place).findings} == {"counters", "lists", "orphans"}
    assert checking.repair(ledger) == 4
    assert checking.check(ledger_place).findings == ()
    with ledger.write() as c:
        assert anew.all_unfinished(c, "because") == [one]
        assert tasks.read(c, one).state is TaskState.PAUSED
        assert tasks.read(c, other).state is TaskState.QUEUED, "it has not begun: nothing to forget"
    assert checking.check(ledger_place).findings == ()
    ledger.close()


def test_a_task_whose_ranges_have_a_hole_never_ends_well_by_going_on(place):
    """Ranges that vanished would never be listed, and the task would say that all is done."""
    change(
        place,
        "DELETE FROM shard WHERE id = (SELECT max(shard.id) FROM shard JOIN task ON task.id = task_id "
        "WHERE task.state = 'RUNNING' AND high IS NOT NULL)",
    )
    (hole,) = [one.subject for one in checking.check(place).findings if one.kind == "ranges"]
    ledger = open_ledger(place)
    checking.repair(ledger)
    with ledger.read() as c:
        task = tasks.read(c, hole)
        assert (task.state, task.reason, task.totals.copied) == (TaskState.PAUSED, checking.BROKEN_RANGES, 0)
        ((shard),) = c.execute("SELECT low, high, state FROM shard WHERE task_id = :id", {"id": hole})
        assert (shard.low, shard.high, shard.state) == (b"", None, "queued")
        assert journal.doomed_sums(c, hole) == (0, 0), "what a lost range allowed to delete is not deleted"
        assert len(journal.partials(c, hole, b"", None)) == 1, "half-moved objects are still known"
    ledger.close()


def test_a_look_changes_nothing(place):
    change(place, "UPDATE task SET copied = copied + 1")
    checking.check(place)
    assert checking.check(place).findings


def test_there_is_nothing_to_check(tmp_path):
    with pytest.raises(UsageError, match="there is no ledger"):
        checking.check(str(tmp_path / "none.db"))
    assert os.listdir(tmp_path) == []


# -- recover ---------------------------------------------------------------------------------------------------------


def spoil(place: str, numbers: list[int], junk: bytes = b"") -> None:
    with open(place, "r+b") as file:
        for number in numbers:
            file.seek(4096 * number)
            file.write(junk or os.urandom(4096))


def pages(place: str) -> int:
    return os.path.getsize(place) // 4096


def first_page_of(place: str, table: str) -> int:
    with closing(sqlite3.connect(place)) as raw:
        return int(raw.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (table,)).fetchone()[0])


def is_sound(place: str) -> None:
    assert checking.check(place).findings == ()
    assert set(states(place)) <= {"PAUSED", "QUEUED", "FAILED"}, "no task goes on where it was"


def test_one_broken_page_costs_the_rows_on_it(place):
    with closing(sqlite3.connect(place)) as raw:
        raw.execute("PRAGMA wal_checkpoint(TRUNCATE)").close()
    with open(place, "rb") as file:
        whole = file.read()
    (leaf,) = [
        n for n in range(pages(place)) if b"k000075" in whole[4096 * n : 4096 * (n + 1)] and whole[4096 * n] == 13
    ][:1]
    spoil(place, [leaf])
    done = salvage.recover(place)
    assert done.gaps == {"failure": 1}
    assert FAILURES - 100 < rows(place) < FAILURES
    assert rows(place, "principal") == 1
    is_sound(place)
    assert done.waiting == HALF
    assert os.path.exists(done.kept_as)


@pytest.mark.parametrize("seed", range(6))
def test_whatever_pages_are_broken_what_is_saved_is_sound(place, seed):
    chance = random.Random(seed)
    spoil(place, chance.sample(range(1, pages(place)), pages(place) // chance.choice((4, 20, 60))))
    done = salvage.recover(place, force=True)
    assert done.rows
    is_sound(place)


@pytest.mark.parametrize("what", ["header", "first page", "list of tables"])
def test_the_beginning_of_the_file_is_known_by_heart(place, what):
    if what == "header":
        with open(place, "r+b") as file:
            file.write(bytes(100))
    else:
        with open(place, "rb") as file:
            lists = [number - 1 for number in salvage._children(file.read(4096))]
        assert lists
        spoil(place, [0] if what == "first page" else [0, *lists])
    assert checking.check(place).damaged
    salvage.recover(place)
    assert FAILURES - 100 <= rows(place) <= FAILURES
    is_sound(place)


def test_what_is_cut_off_is_lost_and_the_rest_is_saved(place):
    with open(place, "r+b") as file:
        file.truncate(os.path.getsize(place) * 9 // 10)
    done = salvage.recover(place)
    assert done.gaps
    assert 0 < rows(place, "task") <= TASKS + 1
    is_sound(place)


def test_no_database_at_all_gives_an_empty_ledger(place):
    with open(place, "wb") as file:
        file.write(b"hello " * 10_000)
    done = salvage.recover(place)
    assert not done.whole
    assert rows(place, "task") == 0
    assert checking.check(place).findings == ()
    with open(done.kept_as, "rb") as file:
        assert file.read(6) == b"hello "


def test_rows_without_sense_are_left_out(place):
    change(
        place,
        "PRAGMA writable_schema = ON",
        "UPDATE event SET kind = 5.5 WHERE id = 2",
        "UPDATE event SET text = cast(x'ff' AS TEXT) WHERE id = 3",
    )
    done = salvage.recover(place, force=True)
    assert done.refused.get("event", 0) >= 1
    is_sound(place)


def test_what_is_only_in_the_log_is_saved_too(place, tmp_path):
    raw = sqlite3.connect(place)
    with raw:
        raw.execute("UPDATE principal SET name = 'berta'")
    there = tmp_path / "killed"
    shutil.copytree(os.path.dirname(place), there)
    raw.close()
    found = str(there / "ledger.db")
    assert os.path.getsize(found + "-wal")
    salvage.recover(found, force=True)
    with open_ledger(found).read() as c:
        assert c.value("SELECT name FROM principal") == "berta"


def test_an_older_schema_is_saved_and_brought_up_to_date(tmp_path):
    from entrepot.ledger.migrations.run import upgrade
    from entrepot.ledger.sqlite import SqliteFile

    place = str(tmp_path / "ledger.db")
    upgrade(SqliteFile(place), "0002")
    change(
        place,
        "INSERT INTO volume (id, name, path, created) VALUES ('v', 'here', '/srv', 0)",
        "INSERT INTO event (task_id, at, kind, text) VALUES ('', 0, 'k', 'x')",
    )
    done = salvage.recover(place, force=True)
    assert done.rows["volume"] == 1
    with open_ledger(place).read() as c:
        assert c.value("SELECT scope FROM volume") == ""
        assert c.value("SELECT version_num FROM alembic_version") == HEAD


def test_a_sound_ledger_is_not_recovered(place):
    before = sorted(os.listdir(os.path.dirname(place)))
    with pytest.raises(UsageError, match="is not damaged"):
        salvage.recover(place)
    assert sorted(os.listdir(os.path.dirname(place))) == before


def test_a_ledger_in_use_is_not_taken_away(place):
    code = "import sys; from entrepot.ledger.database import open_ledger; ledger = open_ledger(sys.argv[1]);"
    code += "print('open', flush=True); sys.stdin.read()"
    user = subprocess.Popen([sys.executable, "-c", code, place], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    user.stdout.readline()
    try:
        for act in (lambda: salvage.recover(place, force=True), lambda: copies.restore(place, place, replace=True)):
            with pytest.raises(LedgerError, match="in use"):
                act()
    finally:
        user.communicate()
    assert salvage.recover(place, force=True).whole


def test_recovery_leaves_nothing_but_the_two_ledgers(place):
    spoil(place, [first_page_of(place, "failure") - 1])
    done = salvage.recover(place)
    names = {name.removesuffix("-wal") for name in os.listdir(os.path.dirname(place))}
    assert names == {"ledger.db", os.path.basename(done.kept_as)}
    assert os.stat(place).st_mode & 0o777 == 0o600


# -- backup and restore ----------------------------------------------------------------------------------------------


def test_a_backup_is_whole_and_private(place, tmp_path):
    done = copies.backup(place, str(tmp_path / "backup"))
    assert (done.keys, os.listdir(done.path)) == (False, ["ledger.db"])
    copy = os.path.join(done.path, "ledger.db")
    assert os.stat(copy).st_mode & 0o777 == 0o600
    assert os.stat(done.path).st_mode & 0o777 == 0o700
    with closing(sqlite3.connect(f"file:{copy}?immutable=1", uri=True)) as raw:
        assert raw.execute("SELECT count(*) FROM failure").fetchone() == (TASKS * 150,)
        assert raw.execute("PRAGMA integrity_check").fetchone() == ("ok",)


def test_a_backup_while_others_write_is_one_moment(place, tmp_path):
    """Two rows that are always equal are equal in every backup."""
    change(place, "UPDATE event SET text = 'anna' WHERE id = 1")
    stop = threading.Event()

    def write():
        ledger = open_ledger(place)
        number = 0
        while not stop.is_set():
            number += 1
            with ledger.write() as c:
                c.change("UPDATE principal SET name = :n", {"n": f"anna{number}"})
                c.change("UPDATE event SET text = :n WHERE id = 1", {"n": f"anna{number}"})
        ledger.close()

    writer = threading.Thread(target=write)
    writer.start()
    try:
        names = set()
        for number in range(5):
            done = copies.backup(place, str(tmp_path / f"backup{number}"))
            with closing(sqlite3.connect(os.path.join(done.path, "ledger.db"))) as raw:
                (name,) = raw.execute("SELECT name FROM principal").fetchone()
                assert raw.execute("SELECT text FROM event WHERE id = 1").fetchone() == (name,)
                names.add(name)
    finally:
        stop.set()
        writer.join()
    assert len(names) > 1


def test_a_damaged_ledger_is_not_backed_up_as_if_it_were_sound(place, tmp_path):
    spoil(place, [first_page_of(place, "failure") - 1])
    with pytest.raises(LedgerError) as caught:
        copies.backup(place, str(tmp_path / "backup"))
    assert "entrepot ledger recover" in caught.value.hint
    assert not os.path.exists(tmp_path / "backup")
    assert [name for name in os.listdir(tmp_path) if "making" in name] == []


def test_a_backup_does_not_overwrite_anything(place, tmp_path):
    (tmp_path / "there").mkdir()
    with pytest.raises(UsageError, match="there already"):
        copies.backup(place, str(tmp_path / "there"))


def test_a_backup_comes_back_and_its_unfinished_tasks_wait(place, tmp_path):
    copies.backup(place, str(tmp_path / "backup"))
    change(place, "DELETE FROM principal")
    with pytest.raises(UsageError, match="there already"):
        copies.restore(str(tmp_path / "backup"), place)
    done = copies.restore(str(tmp_path / "backup"), place, replace=True)
    assert (rows(place, "principal"), done.waiting) == (1, HALF)
    assert states(place) == {"PAUSED": HALF, "FAILED": HALF, "QUEUED": 1}
    assert checking.check(place).findings == ()
    with closing(sqlite3.connect(done.kept_as)) as raw:
        assert raw.execute("SELECT count(*) FROM principal").fetchone() == (0,)


def test_a_backup_comes_back_where_there_is_nothing(place, tmp_path):
    copies.backup(place, str(tmp_path / "backup"))
    new = str(tmp_path / "elsewhere" / "ledger.db")
    done = copies.restore(str(tmp_path / "backup" / "ledger.db"), new)
    assert (done.kept_as, done.keys, rows(new, "principal")) == ("", False, 1)
    assert os.stat(os.path.dirname(new)).st_mode & 0o777 == 0o700


def test_a_broken_backup_is_refused_and_the_ledger_stays(place, tmp_path):
    copies.backup(place, str(tmp_path / "backup"))
    copy = str(tmp_path / "backup" / "ledger.db")
    for numbers in (range(5, 60), range(60)):
        spoil(copy, list(numbers))
        with pytest.raises(LedgerError, match="backup") as caught:
            copies.restore(str(tmp_path / "backup"), place, replace=True)
        assert "older backup" in caught.value.hint
        assert checking.check(place).findings == ()
        assert rows(place, "principal") == 1


def test_a_backup_of_another_program_is_refused(place, tmp_path):
    other = str(tmp_path / "other.db")
    change(other, "CREATE TABLE x (y)")
    with pytest.raises(LedgerError):
        copies.restore(other, place, replace=True)
    assert rows(place, "principal") == 1


def test_keys_go_along_only_when_asked_and_come_back_beside_those_that_are_there(place, tmp_path):
    keys = os.path.join(os.path.dirname(place), "keys.json")
    first = keyring.load_or_make(keys, os.urandom, 1.0)
    sealed = first.seal(b"secret", "here", os.urandom)
    copies.backup(place, str(tmp_path / "without"))
    assert os.listdir(tmp_path / "without") == ["ledger.db"]
    copies.backup(place, str(tmp_path / "with"), keys)
    assert os.stat(tmp_path / "with" / "keys.json").st_mode & 0o777 == 0o600
    second = keyring.rotate(keys, os.urandom, 2.0)
    keyring.retire(keys, lambda _key: False)
    later = second.seal(b"later", "here", os.urandom)
    assert copies.restore(str(tmp_path / "with"), place, keys, replace=True).keys
    ring = keyring.load(keys)
    assert ring.current == second.current
    assert (ring.open_bytes(sealed, "here"), ring.open_bytes(later, "here")) == (b"secret", b"later")


def test_keys_that_others_can_read_are_not_copied(place, tmp_path):
    keys = os.path.join(os.path.dirname(place), "keys.json")
    keyring.load_or_make(keys, os.urandom, 1.0)
    os.chmod(keys, 0o644)
    with pytest.raises(KeyFileError):
        copies.backup(place, str(tmp_path / "with"), keys)
    assert not os.path.exists(tmp_path / "with")


# -- one file in the place of another ----------------------------------------------------------------------------------


def test_whoever_opens_next_takes_what_waits_and_not_the_former_log(place, tmp_path):
    """As when the process was killed between the two renames."""
    copies.backup(place, str(tmp_path / "backup"))
    raw = sqlite3.connect(place)
    with raw:
        raw.execute("DELETE FROM principal")
    log = place + "-wal"
    with open(log, "rb") as file:
        content = file.read()
    raw.close()
    with open(log, "wb") as file:
        file.write(content)
    shutil.copy(tmp_path / "backup" / "ledger.db", place + swap.NEW)
    assert rows(place, "principal") == 1
    assert not os.path.exists(place + swap.NEW)
    assert checking.check(place).findings == ()


def test_several_that_open_it_at_once_take_it_once(place, tmp_path):
    copies.backup(place, str(tmp_path / "backup"))
    change(place, "DELETE FROM principal")
    shutil.copy(tmp_path / "backup" / "ledger.db", place + swap.NEW)
    found = []
    threads = [threading.Thread(target=lambda: found.append(rows(place, "principal"))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 6
    assert checking.check(place).findings == ()


def test_what_dead_processes_left_goes_and_what_live_ones_make_stays(place):
    dead, live = f"{place}-making-999999999", f"{place}-making-{os.getppid()}"
    for name in (dead, f"{dead}-source", live):
        open(name, "w").close()
    swap.scratch(place)
    assert [os.path.exists(name) for name in (dead, f"{dead}-source", live)] == [False, False, True]


def test_places_of_a_server_are_saved(place):
    ledger = open_ledger(place)
    with ledger.write() as c:
        c.change(
            "INSERT INTO connection (id, name, provider, document, secrets, created, updated) "
            "VALUES ('c', 'mine', 's3', '{}', 'v1.sealed', 0, 0)"
        )
    ledger.close()
    salvage.recover(place, force=True)
    with open_ledger(place).read() as c:
        assert c.value("SELECT secrets FROM connection") == "v1.sealed"
