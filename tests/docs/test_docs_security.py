"""The page on security: its table of roles is the one that the server uses."""

from __future__ import annotations

import re
from pathlib import Path

from entrepot.control.settings import options
from entrepot.security.identity import RIGHTS, Action, Role

PAGE = Path(__file__).parents[2].joinpath("docs/security.md").read_text(encoding="utf-8")
ORDER = (Role.READER, Role.REVIEWER, Role.EDITOR, Role.OPERATOR, Role.ADMIN, Role.RUNNER)


def test_the_table_of_roles_is_the_one_in_force() -> None:
    lines = PAGE.partition("<!-- roles -->")[2].partition("<!-- /roles -->")[0].strip().splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert cells[0] == ["Action", *ORDER]
    told = {row[0].strip("`"): {role for role, mark in zip(ORDER, row[1:], strict=True) if mark} for row in cells[2:]}
    assert told == {str(action): {role for role in Role if action in RIGHTS[role]} for action in Action}


def test_the_settings_that_it_names_exist() -> None:
    known = {option.name for option in options()}
    words = set(re.findall(r"[a-z]+(?:_[a-z]+)+", PAGE))
    for prefix in ("egress_", "oidc_", "tls_", "token_", "trusted_"):
        named = {word for word in words if word.startswith(prefix)}
        assert named and named <= known, (prefix, named - known)
