"""Lists of tasks: every way to a page shows what a plain look at all tasks shows."""

from __future__ import annotations

import random
import threading
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.ledger import browse, tasks
from entrepot.ledger.browse import Counts, Filter, by_mark, by_number
from entrepot.ledger.database import LedgerError
from entrepot.ledger.filing import Filing
from entrepot.ledger.ids import new_id
from entrepot.ledger.labels import fold, grams, wanted_grams
from entrepot.ledger.narrow import id_at
from entrepot.ledger.pool import LedgerPool
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskSpec, TaskState

SCOPES = ("ads/s/g/z/one", "ads/s/g/z/two", "ads/s/g/z/one0", "", "team")
FAMILIES = ("datasync", "native")
TYPES = ("AOSSTOFS", "FSTOFS", "sync")
WAYS = {
    TaskState.QUEUED: (),
    TaskState.RUNNING: (TaskState.SCANNING, TaskState.RUNNING),
    TaskState.PAUSED: (TaskState.PAUSED,),
    TaskState.SUCCEEDED: (TaskState.SCANNING, TaskState.SUCCEEDED),
    TaskState.FAILED: (TaskState.FAILED,),
}
NAMES = ("Nightly-import", "100%_done", "训练数据-lidar", "ÄPFEL", "a", "", "import")
CREATORS = ("ann", "bob")
BORN = 1_700_000_000.0


def _fill(ledger, number: int, seed: int = 7) -> list[dict]:
    dice = random.Random(seed)
    made = []
    for at in range(number):
        born = BORN + at * 1800
        one = {
            "id": new_id(lambda born=born: born, dice.randbytes),
            "scope": dice.choice(SCOPES),
            "family": dice.choice(FAMILIES),
            "type": dice.choice(TYPES),
            "creator": dice.choice(CREATORS),
            "name": f"{dice.choice(NAMES)}{dice.choice(['', str(at)])}",
            "state": dice.choice(list(WAYS)),
            # The database's clock is not the clock of ids.
            "created": born + dice.uniform(-900, 900),
        }
        made.append(one)
    with ledger.write() as c:
        for one in made:
            filing = Filing(**{name: one[name] for name in ("scope", "family", "type", "creator", "name")})
            spec = TaskSpec("sync", "a:b", "c:d", SyncOptions().to_json())
            tasks.create(c, tasks.NewTask(one["id"], spec, "h", filing=filing))
            for state in WAYS[one["state"]]:
                tasks.transition(c, one["id"], state)
            c.change("UPDATE task SET created = :at WHERE id = :id", {"at": one["created"], "id": one["id"]})
        # What lists never show: a leg, and a run of the command line.
        parent = made[0]["id"]
        for filing in (Filing(family="leg", scope=SCOPES[0], name="import", parent=parent), Filing()):
            tasks.create(c, tasks.NewTask(new_id(), TaskSpec("sync", "a:b", "c:d", "{}"), "h", filing=filing))
    return sorted(made, key=lambda one: one["id"], reverse=True)


def _plain(made: list[dict], wanted: Filter) -> list[str]:
    def fits(one: dict) -> bool:
        return (
            any(s in ("", one["scope"]) or one["scope"].startswith(s + "/") for s in wanted.scopes)
            and (not wanted.families or one["family"] in wanted.families)
            and (not wanted.types or one["type"] in wanted.types)
            and (not wanted.states or one["state"] in wanted.states)
            and fold(wanted.text) in fold(one["name"])
            and (not wanted.creator or one["creator"] == wanted.creator)
            and (wanted.created_from is None or one["created"] >= wanted.created_from)
            and (wanted.created_before is None or one["created"] < wanted.created_before)
        )

    return [one["id"] for one in made if fits(one)]


def _some(values, most=3):
    return st.lists(st.sampled_from(values), max_size=most, unique=True).map(tuple)


def filters():
    moments = st.one_of(st.none(), st.floats(BORN - 4000, BORN + 80 * 1800))
    return st.builds(
        Filter,
        scopes=_some((*SCOPES, "ads", "nowhere")),
        families=_some(FAMILIES),
        types=_some(TYPES),
        states=_some([str(state) for state in WAYS]),
        text=st.sampled_from(["", "IMPORT", "imp", "训练", "数据-l", "äpf", "%_", "a", "5", "nothing", "y-i"]),
        creator=st.sampled_from(["", *CREATORS, "nobody"]),
        created_from=moments,
        created_before=moments,
    )


@pytest.fixture
def filled(ledger_place):
    ledger = LedgerPool(ledger_place)
    yield ledger, _fill(ledger, 80)
    ledger.close()


@pytest.mark.parametrize(("few", "some", "streams"), [(5000, 10**5, 40), (3, 40, 40), (3, 0, 1), (0, 20, 0)])
def test_every_way_to_a_page_shows_the_same(filled, monkeypatch, few, some, streams):
    ledger, made = filled
    monkeypatch.setattr(browse, "SOME", some)
    monkeypatch.setattr(browse, "FEW", few)
    monkeypatch.setattr(browse, "STREAMS", streams)
    monkeypatch.setattr(browse, "AT_ONCE", 4)

    @settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    @given(wanted=filters(), size=st.integers(1, 12), number=st.integers(0, 30))
    def check(wanted, size, number):
        truth = _plain(made, wanted)
        with ledger.read() as c:
            page = by_number(c, wanted, number, size, columns="id, name", counts=Counts(ledger))
            assert page.total == len(truth)
            start = (max(number, 1) - 1) * size
            assert [row.id for row in page.rows] == truth[start : start + size]
            marked, mark = [], ""
            while True:
                some = by_mark(c, wanted, mark, size, columns="id", counts=Counts(ledger))
                assert some.total == len(truth)
                marked += [row.id for row in some.rows]
                mark = some.mark
                if not mark:
                    break
            assert marked == truth

    check()


def test_removed_tasks_are_not_found_any_more(filled):
    ledger, made = filled
    wanted = Filter(text="import")
    before = _plain(made, wanted)
    with ledger.read() as c:
        assert by_number(c, wanted, 1, 100, counts=Counts(ledger)).total == len(before)
    ended = [one for one in made if one["state"] in (TaskState.SUCCEEDED, TaskState.FAILED)]
    with ledger.write() as c:
        for one in ended:
            tasks.remove(c, one["id"])
    left = [one for one in made if one not in ended]
    with ledger.read() as c:
        page = by_number(c, wanted, 1, 100, columns="id", counts=Counts(ledger))
        assert [row.id for row in page.rows] == _plain(left, wanted)
        assert c.value("SELECT count(*) FROM task_label") == len(left)


def test_a_page_far_beyond_the_end_is_empty(filled):
    ledger, made = filled
    with ledger.read() as c:
        page = by_number(c, Filter(), 10**30, 1000, counts=Counts(ledger))
        assert (list(page.rows), page.total) == ([], len(made))


class Spy:
    """A connection that notes what it is asked."""

    def __init__(self, connection):
        self.connection = connection
        self.kind = connection.kind
        self.asked = []

    def __getattr__(self, name):
        def call(sql, params=None):
            self.asked.append((sql, params or {}))
            return getattr(self.connection, name)(sql, params or {})

        return call


def test_first_and_last_pages_walk_along_an_index(tmp_path):
    """No table is read through, and nothing is sorted, for the pages that everyone asks for."""
    ledger = LedgerPool(str(tmp_path / "ledger.db"))
    _fill(ledger, 60)
    history = ("SUCCEEDED", "FAILED", "CANCELLED", "REJECTED")
    scope = (SCOPES[0],)
    with ledger.read() as c:
        for wanted in (
            Filter(scope, ("datasync",)),
            Filter(scope, ("datasync",), states=history),
            Filter(scope, ("datasync",), types=("AOSSTOFS",)),
        ):
            spy = Spy(c)
            by_number(spy, wanted, 1, 5, columns="id", counts=Counts(ledger))
            for sql, params in spy.asked:
                plan = " ".join(row.detail for row in c.execute(f"EXPLAIN QUERY PLAN {sql}", params))
                assert "SCAN task" not in plan.replace("SCAN task_count", ""), (sql, plan)
                assert "TEMP B-TREE" not in plan or "task_count" in plan, (sql, plan)


def test_ids_by_time_come_before_those_of_later_times():
    assert id_at(BORN) <= new_id(lambda: BORN, lambda n: b"\0" * n)
    assert id_at(BORN + 0.001) > new_id(lambda: BORN, lambda n: b"\xff" * n)
    assert id_at(-5.0) < id_at(1e30)


@given(st.text(max_size=40), st.data())
def test_a_part_of_a_name_has_no_gram_that_the_name_lacks(name, data):
    folded = fold(name)
    start = data.draw(st.integers(0, len(folded)))
    end = data.draw(st.integers(start, len(folded)))
    assert set(wanted_grams(folded[start:end])) <= set(grams(folded))


def test_dear_counts_are_remembered_for_a_while(tmp_path):
    now = [0.0]
    asked = []

    def count() -> int:
        asked.append(now[0])
        now[0] += 0.25
        return 100 + len(asked)

    ledger = LedgerPool(str(tmp_path / "ledger.db"))
    counts = Counts(ledger, lambda: now[0])
    wanted = Filter(text="x")
    assert counts.of(wanted, count) == 101
    now[0] = 25.0
    assert counts.of(wanted, count) == 101
    assert counts.of(Filter(text="y"), count) == 102
    now[0] = 200.0
    assert counts.of(wanted, count) == 103


def test_an_old_number_is_answered_while_it_is_counted_anew(filled):
    ledger, made = filled
    now = [0.0]
    counts = Counts(ledger, lambda: now[0])
    wanted = Filter(text="import")
    truth = len(_plain(made, wanted))
    assert counts.of(wanted, lambda: 1) == 1
    now[0] = 30.0
    assert counts.of(wanted, lambda: 2) == 1
    end = time.monotonic() + 20
    while counts.of(wanted, lambda: 3) != truth:
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_count_that_fails_in_the_background_is_tried_again(tmp_path, monkeypatch):
    ledger = LedgerPool(str(tmp_path / "ledger.db"))
    now = [0.0]
    counts = Counts(ledger, lambda: now[0])
    wanted = Filter(text="x")
    tried = threading.Semaphore(0)

    def fail():
        tried.release()
        raise LedgerError("gone")

    counts.of(wanted, lambda: 7)
    monkeypatch.setattr(ledger, "read", fail)
    now[0] = 30.0
    for _ in range(2):
        end = time.monotonic() + 20
        while not tried.acquire(timeout=0.01):
            assert counts.of(wanted, lambda: 8) == 7
            assert time.monotonic() < end
    monkeypatch.undo()
    ledger.close()


def test_tasks_of_an_older_server_are_found_by_name_too(filled, ledger_place):
    """The migration names the tasks that were there before it."""
    from alembic.migration import MigrationContext
    from alembic.operations import Operations

    from entrepot.ledger.database import find_database
    from entrepot.ledger.migrations.versions import r0004_lists

    _, made = filled
    with find_database(ledger_place).engine().begin() as raw:
        context = MigrationContext.configure(raw)
        with Operations.context(context):
            r0004_lists.downgrade()
            r0004_lists.upgrade()
    pool = LedgerPool(ledger_place)
    try:
        with pool.read() as c:
            for text in ("import", "训练", "5"):
                wanted = Filter(text=text)
                page = by_number(c, wanted, 1, 100, columns="id", counts=Counts(pool))
                assert [row.id for row in page.rows] == _plain(made, wanted)
            assert c.value("SELECT count(*) FROM task_label") == len(made)
    finally:
        pool.close()
