"""Filters follow rsync's rules."""

from __future__ import annotations

import pytest

from entrepot.model.errors import UsageError
from entrepot.transfer.filters import Filter


@pytest.mark.parametrize(
    ("rules", "key", "allowed"),
    [
        ((), b"a/b", True),
        (("- *.tmp",), b"a/b.tmp", False),
        (("- *.tmp",), b"a/b.tmpx", True),
        (("- /a",), b"a", False),
        (("- /a",), b"b/a", True),
        (("- /a",), b"a/b", False),
        (("- b/",), b"a/b/c", False),
        (("- b/",), b"a/b", True),
        (("+ *.py", "- *"), b"x.py", True),
        (("+ *.py", "- *"), b"x.txt", False),
        (("+ */", "+ *.py", "- *"), b"d/x.py", True),
        (("+ *.py", "- *"), b"d/x.py", False),
        (("- a/*/c",), b"a/b/c", False),
        (("- a/*/c",), b"a/b/b/c", True),
        (("- a/**/c",), b"a/b/b/c", False),
        (("- [a-c]?",), b"bz", False),
        (("- [!a-c]?",), b"bz", True),
        (("- caf\u00e9",), "caf\u00e9".encode(), False),
        (("- \udcff*",), b"\xffx", False),
    ],
)
def test_rules(rules: tuple[str, ...], key: bytes, allowed: bool) -> None:
    assert Filter(rules).allows(key) is allowed


@pytest.mark.parametrize("rule", ["", "x", "-", "- ", "? a", "-a", "- /"])
def test_bad_rules_are_refused(rule: str) -> None:
    with pytest.raises(UsageError):
        Filter((rule,))


def test_no_rules_is_falsy_and_rows_keep_their_order() -> None:
    assert not Filter(())
    rows = [(b"a", 1, 1), (b"b.tmp", 1, 1), (b"c", 1, 1)]
    assert [r[0] for r in Filter(("- *.tmp",)).rows(rows)] == [b"a", b"c"]
