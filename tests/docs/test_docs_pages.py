"""Links lead somewhere, both readmes say the same, tables follow the code, and nothing private is in a page."""

from __future__ import annotations

import os
import re
from itertools import pairwise
from pathlib import Path

import pytest
from docs_parts import DOCS, FRONT, ROOT, anchors, blocks, headings, links, pages, rows, text
from fault_cases import PAGE, listed, test_names, tests_by_case, written
from tables import TABLES, table_of

PAGES = {str(path.relative_to(ROOT)): path for path in pages()}


@pytest.mark.parametrize("page", sorted(PAGES))
def test_links_lead_somewhere(page: str) -> None:
    path = PAGES[page]
    content = path.read_text(encoding="utf-8")
    for target in links(content):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        goal = (path.parent / name).resolve() if name else path
        assert goal.exists(), f"{page}: {target} leads nowhere"
        assert goal.is_relative_to(ROOT), f"{page}: {target} leads out of the repository"
        if anchor:
            assert anchor in anchors(goal.read_text(encoding="utf-8")), f"{page}: {target} has no such heading"


def test_the_index_leads_to_every_page() -> None:
    found = {(DOCS / target.partition("#")[0]).resolve() for target in links(text("docs/README.md"))}
    missing = [path for path in DOCS.rglob("*.md") if path.resolve() not in found and path.name != "README.md"]
    assert not missing


@pytest.mark.parametrize("page", sorted(PAGES))
def test_a_page_has_one_title_and_short_lines(page: str) -> None:
    content = PAGES[page].read_text(encoding="utf-8")
    levels = [level for level, _ in headings(content)]
    assert levels.count(1) == 1 and levels[0] == 1
    assert all(b <= a + 1 for a, b in pairwise(levels)), "a level of headings is left out"
    long = [line for line in content.splitlines() if len(line) > 120 and not line.startswith("|")]
    assert not long


def test_both_readmes_have_the_same_sections_commands_and_figures() -> None:
    english, chinese = text("README.md"), text("README.zh.md")
    assert [level for level, _ in headings(english)] == [level for level, _ in headings(chinese)]
    assert [_code(b) for b in blocks(english)] == [_code(b) for b in blocks(chinese)]
    assert _targets(english) == _targets(chinese)
    assert len(list(rows(_unmeasured(english)))) == len(list(rows(_unmeasured(chinese))))


def _code(block: str) -> str:
    return re.sub(r"\s+# .*", "", block)


def _targets(content: str) -> list[str]:
    return sorted(target for target in links(_unmeasured(content)) if target not in {"README.md", "README.zh.md"})


def _unmeasured(content: str) -> str:
    return re.sub(r"<!-- bench:start -->.*?<!-- bench:end -->", "", content, flags=re.DOTALL)


@pytest.mark.parametrize("page", ["README.md", "README.zh.md"])
def test_the_readme_has_one_place_for_figures(page: str) -> None:
    content = text(page)
    assert content.count("<!-- bench:start -->") == content.count("<!-- bench:end -->") == 1
    assert content.index("<!-- bench:start -->") < content.index("<!-- bench:end -->")


def test_the_commands_of_the_repository_exist() -> None:
    for page, path in PAGES.items():
        for block in blocks(path.read_text(encoding="utf-8")):
            for line in block.splitlines():
                words = line.removeprefix("$ ").split()
                if line.startswith("$ ") and words and words[0].startswith(("scripts/", ".ci/")):
                    assert os.access(ROOT / words[0], os.X_OK), f"{page}: {words[0]}"
                if line.startswith("$ python -m ") and words[2].startswith("bench"):
                    module = ROOT / Path(*words[2].split("."))
                    assert module.is_dir() or module.with_suffix(".py").exists(), f"{page}: {words[2]}"


@pytest.mark.parametrize("name", sorted(TABLES))
def test_tables_that_follow_from_the_code_are_up_to_date(name: str) -> None:
    page, make = TABLES[name]
    assert table_of((DOCS / page).read_text(encoding="utf-8"), name) == make(), "run tests/docs/tables.py"


def test_the_table_of_fault_cases_has_every_case_once_and_names_tests_that_exist() -> None:
    table = listed(PAGE.read_text(encoding="utf-8"))
    assert list(table) == list(range(1, 81))
    known = test_names()
    wrong = {number: name for number, names in table.items() for name in names if name not in known}
    assert not wrong, "run tests/docs/fault_cases.py"
    for number, names in table.items():
        for name in names:
            numbers = re.match(r"test_case_(\d+(?:_and_\d+)*)", name)
            said = [int(part) for part in numbers.group(1).split("_and_")] if numbers else []
            assert number in said, f"{name} is no case {number}"


def test_writing_the_table_of_fault_cases_enters_what_there_is() -> None:
    content = written(PAGE.read_text(encoding="utf-8"), {1: ["test_case_1_x", "test_case_1_y"]})
    assert listed(content)[1] == ["test_case_1_x", "test_case_1_y"]
    assert not listed(content)[2]
    assert tests_by_case()[62]


_PRIVATE = re.compile(r"/tmp/|/root/|/work/|/home/\w|TODO|FIXME|XXX|\bAKIA[A-Z0-9]{12}", re.IGNORECASE)


@pytest.mark.parametrize("page", sorted(PAGES))
def test_pages_hold_no_path_of_a_machine_and_nothing_unfinished(page: str) -> None:
    content = PAGES[page].read_text(encoding="utf-8")
    assert not _PRIVATE.findall(content.replace("'/tmp/'", ""))


def test_all_pages_of_the_front_are_there() -> None:
    assert all((ROOT / name).is_file() for name in (*FRONT, "LICENSE"))
