"""``entrepot ledger audit``: says whether the audit log is as it was written, and where it is not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from entrepot.cli.ledger import command
from entrepot.ledger.audit import Entry, append
from entrepot.ledger.database import open_ledger
from entrepot.model.errors import UsageError


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """The data directory of a server with five rows of audit."""
    ledger = open_ledger(str(tmp_path / "ledger.db"))
    with ledger.write() as c:
        for number in range(5):
            append(c, Entry("ann", "task.create", f"task {number}"))
    ledger.close()
    return tmp_path


def _run(data: Path, *words: str) -> Result:
    return CliRunner().invoke(command, ["audit", "--data", str(data), *words], standalone_mode=False)


def _change(data: Path, statement: str) -> None:
    ledger = open_ledger(str(data / "ledger.db"))
    with ledger.write() as c:
        c.change(statement)
    ledger.close()


def _json(result: Result) -> dict[str, Any]:
    return dict(json.loads(result.stdout))


def test_a_good_log_gives_its_head_for_the_next_check(data: Path) -> None:
    first = _run(data)
    assert first.return_value == 0
    head = first.stdout.splitlines()[-1]
    assert head.startswith("5:")
    assert _run(data, "--known", head).return_value == 0
    _change(data, "DELETE FROM audit WHERE id = 5")
    assert _run(data).return_value == 0
    assert _run(data, "--known", head).return_value == 1


def test_the_first_broken_row_is_named(data: Path) -> None:
    _change(data, "UPDATE audit SET principal = 'bob' WHERE id = 3")
    result = _run(data, "--json")
    assert result.return_value == 1
    assert (_json(result)["good"], _json(result)["broken"], _json(result)["rows"]) == (False, 3, 2)
    assert "row 3" in result.stderr


@pytest.mark.parametrize("known", ["5", "5:", "x:abc", ":abc", "9" * 30 + ":abc", "５:abc"])
def test_a_head_that_is_none_is_refused(data: Path, known: str) -> None:
    result = _run(data, "--known", known)
    assert isinstance(result.exception, UsageError)
