"""Usage by scope and day: what ends is counted, and nothing twice."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from entrepot.ledger import queue, tasks, usage
from entrepot.ledger.database import Ledger, open_ledger
from entrepot.ledger.usage import Quota, Usage, day_of
from entrepot.model.task import TaskState
from ledger_parts import make_task
from plan_parts import end_task, filed_task

FIRST, LAST = "0000-01-01", "9999-12-31"


@pytest.fixture
def ledger(ledger_place: str) -> Iterator[Ledger]:
    opened = open_ledger(ledger_place)
    yield opened
    opened.close()


def _all(ledger: Ledger, scopes: tuple[str, ...] = ("",)) -> list[Usage]:
    with ledger.read() as c:
        return usage.read(c, FIRST, LAST, scopes)


def _end_on(ledger: Ledger, task: str, day: str, to: TaskState, **totals: int) -> None:
    """End a task and count it as if that had been on another day."""
    with ledger.write() as c:
        if tasks.read(c, task).state is TaskState.FAILED:
            tasks.transition(c, task, TaskState.QUEUED)
        tasks.begin(c, task)
        row = c.first("SELECT * FROM task WHERE id = :id", {"id": task})
        assert row is not None
        at = 1_700_000_000.0 + 86400 * int(day)
        for name, value in {**totals, "finished": at}.items():
            setattr(row, name, value)
        usage.on_end(c, row)
        c.change("UPDATE task SET state = :state WHERE id = :id", {"state": to.value, "id": task})


def test_ended_tasks_are_added_up_by_scope_and_day(ledger: Ledger) -> None:
    for copied in (3, 4):
        end_task(ledger, filed_task(ledger, "a"), copied=copied, copied_bytes=copied * 100, failed=1, equal=9)
    end_task(ledger, filed_task(ledger, "b"), TaskState.CANCELLED, copied=1, copied_bytes=5)
    end_task(ledger, make_task(ledger), copied=1000)
    end_task(ledger, filed_task(ledger, "a", parent="P"), copied=1000)
    with ledger.read() as c:
        today = day_of(float(c.value("SELECT now()")))
    found = _all(ledger)
    assert {one.day for one in found} <= {today, day_of(0)} | {one.day for one in found}
    assert [(one.scope, one.tasks, one.entries, one.bytes, one.failed) for one in found] == [
        ("a", 2, 7, 700, 2),
        ("b", 1, 1, 5, 0),
    ]
    assert found[0].day == today


def test_a_retry_counts_only_what_it_moved(ledger: Ledger) -> None:
    task = filed_task(ledger, "a")
    _end_on(ledger, task, "0", TaskState.FAILED, copied=10, copied_bytes=1000, failed=4)
    _end_on(ledger, task, "1", TaskState.FAILED, copied=12, copied_bytes=1200, failed=2)
    _end_on(ledger, task, "1", TaskState.SUCCEEDED, copied=14, copied_bytes=1400, failed=0)
    first, second = _all(ledger)
    assert (first.tasks, first.entries, first.bytes, first.failed) == (0, 10, 1000, 0)
    assert (second.tasks, second.entries, second.bytes, second.failed) == (1, 4, 400, 0)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 50), st.integers(0, 9)), min_size=1, max_size=5))
def test_however_often_a_task_is_retried_the_sum_is_what_it_did(ends: list[tuple[int, int, int]]) -> None:
    # In memory would need another kind of ledger: a file that is gone afterwards.
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        ledger = open_ledger(f"{folder}/ledger.db")
        task = filed_task(ledger)
        copied = 0
        for day, more, failed in ends:
            copied += more
            _end_on(ledger, task, str(day), TaskState.FAILED, copied=copied, copied_bytes=copied * 7, failed=failed)
        found = _all(ledger)
        assert sum(one.tasks for one in found) == 1
        assert sum(one.entries for one in found) == copied
        assert sum(one.bytes for one in found) == copied * 7
        assert sum(one.failed for one in found) == ends[-1][2]
        assert all(one.tasks >= 0 and one.entries >= 0 and one.failed >= 0 for one in found)
        ledger.close()


def test_what_was_counted_goes_with_the_task_and_the_sum_stays(ledger: Ledger) -> None:
    task = filed_task(ledger)
    end_task(ledger, task, copied=5)
    with ledger.write() as c:
        tasks.remove(c, task)
        assert c.value("SELECT count(*) FROM usage_counted") == 0
    assert sum(one.entries for one in _all(ledger)) == 5


def test_usage_is_read_by_days_and_scopes_and_in_pages(ledger: Ledger) -> None:
    for day in range(3):
        for scope in ("a", "a/b", "ab"):
            _end_on(ledger, filed_task(ledger, scope), str(day), TaskState.FAILED, copied=1)
    days = sorted({one.day for one in _all(ledger)})
    assert len(days) == 3
    with ledger.read() as c:
        assert {one.scope for one in usage.read(c, FIRST, LAST, ["a"])} == {"a", "a/b"}
        assert usage.read(c, FIRST, LAST, []) == []
        assert {one.day for one in usage.read(c, days[1], days[1], [""])} == {days[1]}
        everything = usage.read(c, FIRST, LAST, [""])
        paged: list[Usage] = []
        while page := usage.read(
            c, FIRST, LAST, [""], after=(paged[-1].day, paged[-1].scope) if paged else None, limit=2
        ):
            paged += page
    assert paged == everything
    assert len(paged) == 9


def test_every_quota_is_one_that_the_queue_keeps() -> None:
    assert set(usage.QUOTAS) == {queue.MAX_QUEUED, queue.MAX_RUNNING}


def test_quotas_are_set_changed_and_dropped(ledger: Ledger) -> None:
    with ledger.write() as c:
        usage.set_quota(c, Quota("a", "max_running", 3))
        usage.set_quota(c, Quota("a/b", "max_running", 1))
        usage.set_quota(c, Quota("a", "max_running", 5))
        assert usage.quotas(c) == [Quota("a", "max_running", 5), Quota("a/b", "max_running", 1)]
        assert usage.quotas(c, ["a/b"]) == [Quota("a/b", "max_running", 1)]
        assert usage.drop_quota(c, "a", "max_running")
        assert not usage.drop_quota(c, "a", "max_running")
        assert usage.quotas(c) == [Quota("a/b", "max_running", 1)]
