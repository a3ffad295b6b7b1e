"""The table of fault cases. ``python tests/docs/fault_cases.py`` writes the tests found into it."""

from __future__ import annotations

import ast
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from docs_parts import DOCS, ROOT

PAGE = DOCS / "design" / "fault-cases.md"
_TEST = re.compile(r"test_case_(\d+(?:_and_\d+)*)(?:_|$)")
_ROW = re.compile(r"^\| (\d+) \| (.+?) \| (.+?) \| (.*?) \|$", re.MULTILINE)
NONE = "none yet"


def tests_by_case() -> dict[int, list[str]]:
    """Names of the tests that say which case they stage, by its number."""
    found: dict[int, list[str]] = {}
    for name in test_names():
        said = _TEST.match(name)
        if said:
            for number in map(int, said.group(1).split("_and_")):
                found.setdefault(number, []).append(name)
    return {number: sorted(names) for number, names in found.items()}


def test_names() -> set[str]:
    """Every test function of the tree, methods too."""
    names: set[str] = set()
    for path in (ROOT / "tests").rglob("test_*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                names.add(node.name)
    return names


test_names.__test__ = False  # type: ignore[attr-defined]
tests_by_case.__test__ = False  # type: ignore[attr-defined]


def listed(content: str) -> dict[int, list[str]]:
    """The tests that the page names, by case."""
    return {int(row[0]): re.findall(r"`(test_\w+)`", row[3]) for row in _ROW.findall(content)}


def written(content: str, tests: dict[int, list[str]]) -> str:
    """The page with these tests in its table."""

    def row(found: re.Match[str]) -> str:
        number, case, outcome, former = found.groups()
        names = tests.get(int(number), [])
        cell = ", ".join(f"`{name}`" for name in names) or (former if "`" not in former else NONE)
        return f"| {number} | {case} | {outcome} | {cell} |"

    return _ROW.sub(row, content)


def main() -> None:
    """Rewrite the table."""
    content = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(written(content, tests_by_case()), encoding="utf-8")


if __name__ == "__main__":
    main()
