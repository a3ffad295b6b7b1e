"""How far a task is: between 0 and 99, sensible while the total grows, and never falling in the ledger (case 74)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.ledger import live
from entrepot.ledger.database import open_ledger
from entrepot.model.options import SyncOptions
from entrepot.model.totals import Totals
from entrepot.service.progress import percent_of
from serve_parts import look, submit

PLAIN, FULL = SyncOptions(), SyncOptions(verify="full")


def _of(totals, scanning=False, options=PLAIN, shards=None):
    return percent_of(totals, scanning=scanning, options=options, shards=shards or {})


@pytest.mark.parametrize(
    ("totals", "scanning", "expected"),
    [
        (Totals(), True, 0),
        (Totals(), False, 0),
        (Totals(total=10, total_bytes=100), False, 0),
        (Totals(total=10, copied=5), False, 49),
        (Totals(total=10, copied=3, equal=2, skipped=2, failed=3), False, 99),
        (Totals(total=10, copied=10), True, 50),
        (Totals(total=2, total_bytes=1 << 30, copied=1, copied_bytes=0), False, 0),
        (Totals(total=2, total_bytes=1 << 30, copied=1, copied_bytes=1 << 30), False, 98),
    ],
)
def test_shares_of_entries_and_bytes(totals, scanning, expected):
    assert _of(totals, scanning) == expected


def test_a_full_verification_has_its_part_of_the_way():
    done = Totals(total=10, copied=10)
    assert _of(done, options=FULL) == 60
    assert _of(done, options=FULL, shards={("verify", "done"): 1, ("verify", "queued"): 1}) == 79
    assert _of(done, options=FULL, shards={("verify", "done"): 2, ("scan", "done"): 9}) == 99


counts = st.integers(0, 1 << 40)


@given(st.builds(Totals, *[counts] * 13), st.booleans(), st.sampled_from([PLAIN, FULL]))
def test_always_between_nothing_and_nearly_all(totals, scanning, options):
    assert 0 <= _of(totals, scanning, options) <= 99


def test_the_mark_in_the_ledger_only_rises(tmp_path):
    ledger = open_ledger(str(tmp_path / "ledger.db"))
    task_id = submit(ledger)
    for given_percent, kept in ((5, 5), (3, 5), (60, 60), (0, 60), (100, 100), (99, 100)):
        with ledger.write() as connection:
            live.raise_percent(connection, task_id, given_percent)
        assert look(ledger, task_id).percent == kept
    ledger.close()
