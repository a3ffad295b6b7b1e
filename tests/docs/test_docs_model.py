"""Failure classes, error types, exit codes, states and proofs: what the code has is what the pages tell."""

from __future__ import annotations

import ast
import re

import pytest
from docs_parts import SOURCE, codes, rows, text

from entrepot.cli import exits
from entrepot.model.errors import EntrepotError, FailureClass
from entrepot.model.task import TaskState

ERRORS = text("docs/errors.md")


def _rows_with(content: str, width: int) -> dict[str, list[str]]:
    return {codes(cells[0])[0]: cells for cells in rows(content) if len(cells) == width and codes(cells[0])}


def test_every_failure_class_has_a_row_and_no_other_has() -> None:
    assert set(_rows_with(ERRORS, 6)) == {str(name) for name in FailureClass}


def _error_types() -> dict[str, str]:
    """Every class below EntrepotError in the code, by name, with its module."""
    bases = {"EntrepotError": "model/errors.py"}
    grown = True
    while grown:
        grown = False
        for path in SOURCE.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.ClassDef) and node.name not in bases:
                    names = {b.id if isinstance(b, ast.Name) else getattr(b, "attr", "") for b in node.bases}
                    if names & bases.keys() and not {"UsageError"} & names - bases.keys():
                        if any(isinstance(b, ast.Attribute) for b in node.bases):
                            continue
                        bases[node.name] = str(path.relative_to(SOURCE))
                        grown = True
    return bases


def test_every_type_of_error_is_explained() -> None:
    told = set(codes(ERRORS))
    missing = {name: module for name, module in _error_types().items() if name not in told and name[0] != "_"}
    assert not missing


def test_the_class_of_each_error_stands_in_its_row() -> None:
    table = _rows_with(ERRORS, 6)
    for kind in EntrepotError.__subclasses__():
        for below in kind.__subclasses__():
            failure = getattr(below, "failure", None)
            if failure is not None:
                assert below.__name__ in codes(table[str(failure)][1]), below.__name__


def test_whether_it_is_tried_again_is_told_as_it_is() -> None:
    table = _rows_with(ERRORS, 6)
    for kind in EntrepotError.__subclasses__():
        for below in kind.__subclasses__():
            failure = getattr(below, "failure", None)
            if failure is not None and failure not in (FailureClass.INTERNAL, FailureClass.CHANGED):
                assert table[str(failure)][4].startswith("yes") == below.retryable, below.__name__  # type: ignore[attr-defined]


def test_every_exit_code_is_explained() -> None:
    codes_ = {value for name, value in vars(exits).items() if name.isupper() and isinstance(value, int)}
    start = ERRORS.index("## Exit codes")
    told = {int(cells[0]) for cells in rows(ERRORS[start : ERRORS.index("\n## ", start + 1)]) if cells[0].isdigit()}
    assert told == codes_


@pytest.mark.parametrize("kind", ["UsageError", "PlaceError", "GuardError", "InternalError", "LeaseLost"])
def test_the_exit_code_of_an_error_is_told_as_it_is(kind: str) -> None:
    import entrepot.model.errors as module

    assert _rows_with(ERRORS, 3)[kind][1] == str(getattr(module, kind).exit_code)


def test_every_state_of_a_task_is_explained() -> None:
    page = text("docs/resume-and-state.md")
    assert {str(state) for state in TaskState} <= set(codes(page))


def test_every_proof_is_explained() -> None:
    told = {code for cells in rows(text("docs/compare-and-verify.md")) for code in codes(cells[0])}
    for path in sorted((SOURCE / "storage").rglob("*.py")) + sorted((SOURCE / "transfer").rglob("*.py")):
        for proof in re.findall(r"\.proof = \"(\w+)\"", path.read_text(encoding="utf-8")):
            assert proof in told, f"{path.name} names the proof {proof!r}"


def test_columns_and_outcomes_of_a_report_are_explained() -> None:
    from entrepot.service.report import COLUMNS

    told = set(codes(text("docs/reports-and-manifests.md")))
    assert set(COLUMNS) <= told
    for path in (SOURCE / "transfer").rglob("*.py"):
        for outcome in re.findall(r"_tell\(job, \"(\w+)\"", path.read_text(encoding="utf-8")):
            assert outcome in told, outcome
