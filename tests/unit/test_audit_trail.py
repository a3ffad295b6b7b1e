"""The audit log: found by what one looks for, and any change to it is found too."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from entrepot.ledger import audit, trail
from entrepot.ledger.audit import Entry
from entrepot.ledger.database import Ledger, open_ledger
from entrepot.ledger.trail import Filters
from entrepot.security import audit as chain


@pytest.fixture
def ledger(ledger_place: str) -> Iterator[Ledger]:
    opened = open_ledger(ledger_place)
    yield opened
    opened.close()


@pytest.fixture
def filled(ledger: Ledger, monkeypatch: pytest.MonkeyPatch) -> Ledger:
    """Ten rows, of which several chunks are read."""
    monkeypatch.setattr(trail, "_CHUNK", 3)
    with ledger.write() as c:
        for number in range(10):
            audit.append(
                c, Entry(f"user{number % 3}", "task.create", f"task {number}", f"s/{number % 2}", "done", "::1")
            )
    return ledger


def test_an_untouched_log_is_good(filled: Ledger) -> None:
    found = trail.verify(filled)
    assert found.good
    assert (found.rows, found.head) == (10, 10)
    assert trail.verify(filled, (found.head, found.head_hash)).good


def test_an_empty_log_is_good(ledger: Ledger) -> None:
    assert trail.verify(ledger).good
    assert trail.verify(ledger).head == 0


@pytest.mark.parametrize("column", [name for name in trail.COLUMNS if name not in {"id", "at"}])
@pytest.mark.parametrize("row", [1, 4, 10])
def test_a_change_to_any_column_is_found_at_its_row(filled: Ledger, column: str, row: int) -> None:
    with filled.write() as c:
        c.change(f"UPDATE audit SET {column} = 'x' WHERE id = :id", {"id": row})
    found = trail.verify(filled)
    assert found.broken == row
    assert found.reason


def test_a_change_to_the_time_is_found(filled: Ledger) -> None:
    with filled.write() as c:
        c.change("UPDATE audit SET at = at - 3600 WHERE id = 7")
    assert trail.verify(filled).broken == 7


def test_a_row_that_is_gone_is_found(filled: Ledger) -> None:
    with filled.write() as c:
        c.change("DELETE FROM audit WHERE id = 5")
    found = trail.verify(filled)
    assert (found.broken, found.head) == (6, 4)
    assert "row 5" in found.reason


def test_a_beginning_that_is_gone_is_found(filled: Ledger) -> None:
    with filled.write() as c:
        c.change("DELETE FROM audit WHERE id <= 3")
    found = trail.verify(filled)
    assert found.broken == 4
    assert "not bound" in found.reason


def test_a_row_with_a_hash_made_to_fit_is_found_at_the_next_one(filled: Ledger) -> None:
    with filled.write() as c:
        row = c.first("SELECT * FROM audit WHERE id = 5")
        assert row is not None
        values = {name: getattr(row, name) for name in trail.COLUMNS} | {"principal": "nobody"}
        c.change(
            "UPDATE audit SET principal = 'nobody', hash = :hash WHERE id = 5",
            {"hash": chain.link(row.previous, values)},
        )
    assert trail.verify(filled).broken == 6


def test_with_a_head_that_was_kept_a_cut_and_a_rewriting_are_found(filled: Ledger) -> None:
    head = trail.verify(filled)
    with filled.write() as c:
        c.change("DELETE FROM audit WHERE id > 8")
    assert trail.verify(filled).good
    cut = trail.verify(filled, (head.head, head.head_hash))
    assert (cut.broken, cut.rows) == (10, 8)
    with filled.write() as c:
        for number in range(2):
            audit.append(c, Entry("forger", "task.create", f"task {number}"))
    assert trail.verify(filled).good
    assert trail.verify(filled, (head.head, head.head_hash)).broken == 10


def test_two_rows_that_changed_places_are_found(filled: Ledger) -> None:
    with filled.write() as c:
        c.change("UPDATE audit SET id = 100 WHERE id = 4")
        c.change("UPDATE audit SET id = 4 WHERE id = 5")
        c.change("UPDATE audit SET id = 5 WHERE id = 100")
    assert trail.verify(filled).broken == 4


def _subjects(ledger: Ledger, scopes: tuple[str, ...] = ("",), **wanted: object) -> list[str]:
    with ledger.read() as c:
        return [row.subject for row in trail.find(c, Filters(**wanted), scopes)]  # type: ignore[arg-type]


def test_rows_are_found_by_what_they_say(ledger: Ledger) -> None:
    with ledger.write() as c:
        audit.append(c, Entry("ann", "task.create", "task 100%", "a"))
        audit.append(c, Entry("ann (tok1)", "task.delete", "task_2", "a/b", "refused", "10.0.0.1"))
        audit.append(c, Entry("anna", "user.write", "user bob", "ab", "done", "10.0.0.2"))
    assert _subjects(ledger) == ["user bob", "task_2", "task 100%"]
    assert _subjects(ledger, principal="ann") == ["task_2", "task 100%"]
    assert _subjects(ledger, principal="ann (tok1)") == ["task_2"]
    assert _subjects(ledger, action="user.write") == ["user bob"]
    assert _subjects(ledger, outcome="refused") == ["task_2"]
    assert _subjects(ledger, address="10.0.0.2") == ["user bob"]
    assert _subjects(ledger, scope="a") == ["task_2", "task 100%"]
    assert _subjects(ledger, subject="task_2") == ["task_2"]
    assert _subjects(ledger, text="%") == ["task 100%"]
    assert _subjects(ledger, text="k_") == ["task_2"]
    assert _subjects(ledger, text="USER") == []
    assert _subjects(ledger, ("a",)) == ["task_2", "task 100%"]
    assert _subjects(ledger, ()) == []
    assert _subjects(ledger, until=1.0) == []
    assert len(_subjects(ledger, since=1.0)) == 3


def test_pages_go_on_where_the_last_one_ended(filled: Ledger) -> None:
    seen: list[int] = []
    with filled.read() as c:
        while page := trail.find(c, Filters(), ("",), before=seen[-1] if seen else 0, limit=4):
            seen += [row.id for row in page]
    assert seen == list(range(10, 0, -1))
