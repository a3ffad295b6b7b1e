"""News of ended tasks: who gets them, what they say, and the queue that they stand in."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import pytest

from entrepot.ledger import deliveries, hooks, tasks
from entrepot.ledger.database import Ledger, open_ledger
from entrepot.model.task import TaskState
from ledger_parts import make_task
from plan_parts import end_task, filed_task, hook


@pytest.fixture
def ledger(ledger_place: str) -> Iterator[Ledger]:
    opened = open_ledger(ledger_place)
    yield opened
    opened.close()


def _add(ledger: Ledger, one: hooks.Webhook) -> hooks.Webhook:
    with ledger.write() as c:
        hooks.add(c, one)
    return one


def _queue(ledger: Ledger) -> list[tuple[str, str]]:
    with ledger.read() as c:
        return [(row.webhook_id, row.task_id) for row in c.execute("SELECT * FROM delivery ORDER BY id")]


@pytest.mark.parametrize(
    ("scope", "task_scope", "told"),
    [
        ("", "", True),
        ("", "a/b", True),
        ("a", "a", True),
        ("a", "a/b", True),
        ("a", "ab", False),
        ("a/b", "a", False),
        ("A", "a", False),
        ("a_", "ab", False),
    ],
)
def test_a_webhook_is_told_of_tasks_in_its_scope(ledger: Ledger, scope: str, task_scope: str, told: bool) -> None:
    one = _add(ledger, hook(scope))
    task = filed_task(ledger, task_scope)
    end_task(ledger, task)
    assert _queue(ledger) == ([(one.id, task)] if told else [])


def test_only_the_states_that_were_asked_for_are_told(ledger: Ledger) -> None:
    one = _add(ledger, hook(states=("FAILED", "CANCELLED")))
    _add(ledger, hook(enabled=False))
    ended = {state: filed_task(ledger) for state in (TaskState.SUCCEEDED, TaskState.FAILED, TaskState.CANCELLED)}
    for state, task in ended.items():
        end_task(ledger, task, state)
    assert _queue(ledger) == [(one.id, ended[TaskState.FAILED]), (one.id, ended[TaskState.CANCELLED])]


def test_runs_of_the_command_line_and_legs_are_not_told(ledger: Ledger) -> None:
    _add(ledger, hook())
    end_task(ledger, make_task(ledger))
    parent = filed_task(ledger)
    end_task(ledger, filed_task(ledger, parent=parent))
    assert _queue(ledger) == []


def test_the_body_tells_the_task_as_it_ended(ledger: Ledger) -> None:
    first, second = _add(ledger, hook()), _add(ledger, hook())
    task = filed_task(ledger, "a/b", name="nightly", schedule_id="S")
    end_task(ledger, task, TaskState.FAILED, copied=3, copied_bytes=300, failed=1)
    with ledger.read() as c:
        rows = c.execute("SELECT * FROM delivery ORDER BY id")
    assert {row.webhook_id for row in rows} == {first.id, second.id}
    assert rows[0].body == rows[1].body
    body = json.loads(rows[0].body)
    assert body["event"] == rows[0].event
    assert body["type"] == "task.failed"
    assert body["task"]["id"] == task
    assert body["task"]["state"] == "FAILED"
    assert (body["task"]["name"], body["task"]["scope"], body["task"]["schedule_id"]) == ("nightly", "a/b", "S")
    assert body["task"]["totals"]["copied"] == {"entries": 3, "bytes": 300}
    assert body["task"]["totals"]["failed"]["entries"] == 1
    assert body["at"] == body["task"]["finished"]
    assert body["at"].endswith("Z")


def test_an_end_that_is_taken_back_is_not_told(ledger: Ledger) -> None:
    _add(ledger, hook())
    task = filed_task(ledger)
    with pytest.raises(ZeroDivisionError), ledger.write() as c:
        tasks.transition(c, task, TaskState.CANCELLED)
        raise ZeroDivisionError
    assert _queue(ledger) == []


def test_each_end_of_a_retried_task_is_told(ledger: Ledger) -> None:
    _add(ledger, hook())
    task = filed_task(ledger)
    end_task(ledger, task, TaskState.FAILED)
    with ledger.write() as c:
        assert not tasks.transition(c, task, TaskState.FAILED)
        tasks.transition(c, task, TaskState.QUEUED)
    end_task(ledger, task)
    with ledger.read() as c:
        rows = c.execute("SELECT * FROM delivery ORDER BY id")
    assert [json.loads(row.body)["type"] for row in rows] == ["task.failed", "task.succeeded"]
    assert len({row.event for row in rows}) == 2


def test_news_outlive_the_task(ledger: Ledger) -> None:
    _add(ledger, hook())
    task = filed_task(ledger)
    end_task(ledger, task)
    with ledger.write() as c:
        tasks.remove(c, task)
    assert len(_queue(ledger)) == 1


def test_a_delivery_is_claimed_once_and_again_when_the_courier_died(ledger: Ledger) -> None:
    one = _add(ledger, hook(url="http://there/"))
    end_task(ledger, filed_task(ledger))
    with ledger.write() as c:
        [(webhook, number)] = deliveries.due(c)
        assert webhook == one.id
        parcel = deliveries.claim(c, number)
        assert parcel is not None
        assert (parcel.url, parcel.attempt) == ("http://there/", 1)
        assert deliveries.due(c) == []
        assert deliveries.claim(c, number) is None
        assert 0 < (deliveries.wait(c) or 0) <= deliveries.LEASE
        c.change("UPDATE delivery SET next_try = 1.0")
        assert deliveries.due(c) == [(one.id, number)]
        second = deliveries.claim(c, number)
        assert second is not None
        assert second.attempt == 2
        # The first courier comes back to life: what it says no longer counts.
        assert not deliveries.settle(c, parcel, deliveries.DEAD, error="late")
        assert deliveries.settle(c, second, deliveries.DELIVERED, status=204)
        found = deliveries.read(c, one.id, number)
    assert found is not None
    assert (found.state, found.status, found.attempts, found.next_try) == ("delivered", 204, 2, None)


def test_one_webhook_does_not_stand_in_the_way_of_another(ledger: Ledger) -> None:
    slow = _add(ledger, hook("slow"))
    other = _add(ledger, hook("other"))
    for _ in range(5):
        end_task(ledger, filed_task(ledger, "slow"))
    end_task(ledger, filed_task(ledger, "other"))
    with ledger.read() as c:
        due = deliveries.due(c, 2)
    assert {webhook for webhook, _ in due} == {slow.id, other.id}


def test_a_disabled_webhook_waits_and_a_removed_one_is_forgotten(ledger: Ledger) -> None:
    one = _add(ledger, hook())
    end_task(ledger, filed_task(ledger))
    with ledger.write() as c:
        hooks.change(c, replace(one, enabled=False))
        assert deliveries.due(c) == []
        assert deliveries.wait(c) is None
        hooks.change(c, one)
        assert len(deliveries.due(c)) == 1
        hooks.remove(c, one.id)
        assert hooks.read(c, one.id) is None
    assert _queue(ledger) == []


def test_deliveries_are_paged_narrowed_and_forgotten(ledger: Ledger) -> None:
    one = _add(ledger, hook())
    for _ in range(5):
        end_task(ledger, filed_task(ledger))
    with ledger.write() as c:
        first = deliveries.listing(c, one.id, limit=3)
        second = deliveries.listing(c, one.id, before=first[-1].id, limit=3)
        ids = [found.id for found in first + second]
        assert len(ids) == 5
        assert all(a > b for a, b in pairwise(ids))
        c.change("UPDATE delivery SET state = 'dead', created = 1.0 WHERE id = :id", {"id": ids[0]})
        assert [found.id for found in deliveries.listing(c, one.id, ["dead"])] == [ids[0]]
        assert len(deliveries.listing(c, one.id, ["pending", "delivered"])) == 4
        deliveries.again(c, ids[0])
        again = deliveries.read(c, one.id, ids[0])
        assert again is not None
        assert (again.state, again.attempts) == ("pending", 0)
        assert deliveries.prune(c, 86400) == 1
        assert deliveries.read(c, one.id, ids[0]) is None
        assert deliveries.read(c, "somebody else's", ids[1]) is None


def test_webhooks_are_listed_by_scope(ledger: Ledger) -> None:
    made = [_add(ledger, hook(scope, id=f"W{n}")) for n, scope in enumerate(("", "a", "a/b", "ab", "b"))]
    with ledger.read() as c:
        assert [one.id for one in hooks.listing(c, ["a"])] == [made[1].id, made[2].id]
        assert hooks.listing(c, []) == []
        assert len(hooks.listing(c, [""])) == 5
        page = hooks.listing(c, [""], after=made[1].id, limit=2)
        assert [one.id for one in page] == [made[2].id, made[3].id]
        assert hooks.named(c, "a", made[1].name) == made[1]
        assert hooks.named(c, "", made[1].name) is None
