"""Rights: the whole table, every role by every action, and scopes that cover whole segments only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.model.errors import AccessError, UsageError
from entrepot.security.identity import (
    RIGHTS,
    SYSTEM,
    Action,
    Grant,
    Kind,
    Principal,
    Role,
    allows,
    check_scope,
    covers,
    holds,
    may_grant,
    require,
    roles_with,
    visible_scopes,
)

# One line for each action: r reader, v reviewer, e editor, o operator, a admin, m runner.
# Written out by hand, not computed.
TABLE = """
task.read         rveoa
task.create         eoa
task.control        eoa
task.delete         eoa
connection.read   rveoa
connection.write     oa
connection.use      eoa
volume.read       rveoa
volume.write          a
volume.use          eoa
schedule.read     rveoa
schedule.write      eoa
tool.read         rveoa
tool.write          eoa
space.read        rveoa
space.write          oa
repo.read         rveoa
repo.write          eoa
review.read       rveoa
review.decide      v  a
webhook.read         oa
webhook.write        oa
user.read            oa
user.write            a
token.own         rveoa
token.read           oa
token.write           a
audit.read            a
usage.read        rveoa
metrics.read         oa
settings.read        oa
settings.write        a
runner.work           am
"""
LETTERS = {
    "r": Role.READER,
    "v": Role.REVIEWER,
    "e": Role.EDITOR,
    "o": Role.OPERATOR,
    "a": Role.ADMIN,
    "m": Role.RUNNER,
}
EXPECTED = {
    Action(name): {LETTERS[letter] for letter in letters.replace(" ", "")}
    for name, letters in (line.split(maxsplit=1) for line in TABLE.strip().splitlines())
}
SCOPE = "ads/sub1/rg/z/x"

segments = st.text(st.characters(categories=("L", "N"), include_characters="-_. "), min_size=1, max_size=6).filter(
    lambda s: s not in (".", "..") and s.isprintable()
)
paths = st.lists(segments, max_size=5).map("/".join)


def user(*grants: Grant, scopes: tuple[str, ...] = ("",), actions: frozenset[Action] | None = None) -> Principal:
    return Principal("u1", "Ana", Kind.USER, grants, scopes=scopes, actions=actions)


def test_the_table_names_every_action() -> None:
    assert set(EXPECTED) == set(Action)
    assert set(RIGHTS) == set(Role)


@pytest.mark.parametrize("action", list(Action))
@pytest.mark.parametrize("role", list(Role))
def test_every_role_by_every_action(role: Role, action: Action) -> None:
    expected = role in EXPECTED[action]
    principal = user(Grant(role, "ads/sub1"))
    assert allows(principal, action, SCOPE) is expected
    assert allows(principal, action, "ads/sub1") is expected
    assert not allows(principal, action, "ads/sub10")
    assert not allows(principal, action, "ads")
    assert not allows(principal, action, "")
    assert (role in roles_with(action)) is expected


@pytest.mark.parametrize("action", list(Action))
def test_without_a_grant_nothing_is_allowed_and_the_system_may_all(action: Action) -> None:
    assert not allows(user(), action, "")
    assert allows(SYSTEM, action, SCOPE)


@pytest.mark.parametrize(
    ("scope", "target", "expected"),
    [
        ("", "", True),
        ("", "a/b", True),
        ("a", "", False),
        ("ads/sub1", "ads/sub1", True),
        ("ads/sub1", "ads/sub1/rg/z/x", True),
        ("ads/sub1", "ads/sub10", False),
        ("ads/sub1", "ads/sub10/rg", False),
        ("ads/sub1", "ads", False),
        ("ads/sub1", "ADS/sub1", False),
        ("ads/sub1", "ads/sub1/../sub2", False),
        ("ads/sub1", "ads/sub1/./x", False),
        ("ads/sub1", "ads/sub1//x", False),
        ("ads/sub1", "ads/sub1/", False),
        ("ads/sub1", "ads/sub1/x\0", False),
        ("", "../x", False),
        ("", "/x", False),
    ],
)
def test_a_scope_covers_whole_segments(scope: str, target: str, expected: bool) -> None:
    assert covers(scope, target) is expected


@given(paths, paths)
def test_cover_is_the_order_of_prefixes(a: str, b: str) -> None:
    parts_a, parts_b = a.split("/") if a else [], b.split("/") if b else []
    assert covers(a, b) is (parts_b[: len(parts_a)] == parts_a)
    below = f"{a}/{b}".strip("/")
    assert covers(a, below)
    if covers(a, b) and covers(b, a):
        assert a == b


@pytest.mark.parametrize("text", ["/", "/a", "a/", "a//b", "..", "a/../b", "a/.", "a\nb", "x" * 2000])
def test_what_is_no_scope_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="is no scope"):
        check_scope(text)
    with pytest.raises(UsageError):
        Grant(Role.READER, text)
    with pytest.raises(UsageError):
        user(scopes=(text,))


def test_a_token_narrows_its_owner_and_never_widens() -> None:
    grant = Grant(Role.EDITOR, "ads/sub1")
    narrow = user(grant, scopes=("ads/sub1/rg", "ads/sub2"), actions=frozenset({Action.TASK_READ, Action.AUDIT_READ}))
    assert allows(narrow, Action.TASK_READ, "ads/sub1/rg/z")
    assert not allows(narrow, Action.TASK_READ, "ads/sub1/other")
    assert not allows(narrow, Action.TASK_READ, "ads/sub2"), "the owner has nothing there"
    assert not allows(narrow, Action.TASK_CREATE, "ads/sub1/rg/z"), "the token does not carry it"
    assert not allows(narrow, Action.AUDIT_READ, "ads/sub1/rg"), "the owner does not have it"


def test_a_runner_has_its_listed_rights_and_no_role() -> None:
    runner = Principal(
        "r", "r", Kind.RUNNER, (Grant(Role.ADMIN),), scopes=("s",), actions=frozenset({Action.RUNNER_WORK})
    )
    assert allows(runner, Action.RUNNER_WORK, "s/x")
    assert not allows(runner, Action.RUNNER_WORK, "other")
    assert not allows(runner, Action.TASK_READ, "s/x"), "a role of a runner counts for nothing"
    bare = Principal("r", "r", Kind.RUNNER, (Grant(Role.ADMIN),))
    assert not allows(bare, Action.RUNNER_WORK, "s")
    assert visible_scopes(bare, Action.RUNNER_WORK) == ()


def test_require_says_who_may_not_what_and_where() -> None:
    require(user(Grant(Role.READER)), Action.TASK_READ, SCOPE)
    with pytest.raises(AccessError, match=r"Ana has no right to task\.create in 'ads/sub1/rg/z/x'") as caught:
        require(user(Grant(Role.READER)), Action.TASK_CREATE, SCOPE)
    assert "admin, operator, editor" in caught.value.hint


def test_nobody_gives_what_they_do_not_have() -> None:
    admin_here = user(Grant(Role.ADMIN, "team"))
    assert may_grant(admin_here, Grant(Role.ADMIN, "team/project"))
    assert not may_grant(admin_here, Grant(Role.READER, "")), "not beyond the own scope"
    assert not may_grant(user(Grant(Role.OPERATOR)), Grant(Role.READER)), "an operator gives no roles"
    assert not may_grant(user(Grant(Role.REVIEWER)), Grant(Role.REVIEWER))
    limited = user(Grant(Role.ADMIN), actions=frozenset({Action.USER_WRITE, Action.USER_READ}))
    assert not may_grant(limited, Grant(Role.READER)), "a narrow token makes no wide user"
    assert holds(user(Grant(Role.OPERATOR, "a")), Grant(Role.EDITOR, "a/b"))
    assert not holds(user(Grant(Role.EDITOR, "a")), Grant(Role.REVIEWER, "a"))


grants = st.lists(st.builds(Grant, st.sampled_from(Role), paths), max_size=4).map(tuple)


@given(grants, st.lists(paths, max_size=3).map(tuple), st.sampled_from(Action), paths)
def test_visible_scopes_say_the_same_as_allows(
    given_grants: tuple[Grant, ...], scopes: tuple[str, ...], action: Action, target: str
) -> None:
    principal = user(*given_grants, scopes=scopes)
    visible = visible_scopes(principal, action)
    assert any(covers(scope, target) for scope in visible) is allows(principal, action, target)
    for scope in visible:
        assert allows(principal, action, scope)
        assert not any(covers(other, scope) for other in visible if other != scope)
