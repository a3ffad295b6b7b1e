"""Who is asking and what they may do: one table from roles to actions, and scopes as slash paths.

A scope is a path such as ``ads/sub1/rg/z/x``; ``""`` is everything. A grant gives a role in a scope and everything
below it, whole segments only: ``ads/sub1`` covers ``ads/sub1/rg`` and not ``ads/sub10``. Rights only add up; a
token can narrow what its owner may do and never widens it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType

from entrepot.model.errors import AccessError, UsageError

SCOPE_MAX = 1024


class Role(StrEnum):
    """What a person or token is trusted with, in a scope."""

    ADMIN = "admin"
    OPERATOR = "operator"
    EDITOR = "editor"
    REVIEWER = "reviewer"
    READER = "reader"
    RUNNER = "runner"
    """A machine that lends its cores, and nothing else."""


class Kind(StrEnum):
    """What a principal is."""

    USER = "user"
    SERVICE = "service"
    """A program with tokens or access keys of its own."""
    RUNNER = "runner"
    """A runner with the token of one task: its rights are listed one by one, it has no role."""
    SYSTEM = "system"
    """The server itself: schedules, retention, reconciling."""


class Action(StrEnum):
    """What can be asked for. ``write`` means create, change and delete, where nothing finer is named."""

    TASK_READ = "task.read"
    TASK_CREATE = "task.create"
    TASK_CONTROL = "task.control"
    """Pause, resume, cancel, retry, change limits."""
    TASK_DELETE = "task.delete"
    CONNECTION_READ = "connection.read"
    """See it without its secrets."""
    CONNECTION_WRITE = "connection.write"
    CONNECTION_USE = "connection.use"
    """Test it, browse it, run tasks with it."""
    VOLUME_READ = "volume.read"
    VOLUME_WRITE = "volume.write"
    """Open a directory of the server: whoever may do it can read and write all that the server can."""
    VOLUME_USE = "volume.use"
    SCHEDULE_READ = "schedule.read"
    SCHEDULE_WRITE = "schedule.write"
    TOOL_READ = "tool.read"
    """The datasync resource that tasks of that family hang below."""
    TOOL_WRITE = "tool.write"
    SPACE_READ = "space.read"
    SPACE_WRITE = "space.write"
    REPO_READ = "repo.read"
    REPO_WRITE = "repo.write"
    REVIEW_READ = "review.read"
    REVIEW_DECIDE = "review.decide"
    WEBHOOK_READ = "webhook.read"
    WEBHOOK_WRITE = "webhook.write"
    USER_READ = "user.read"
    USER_WRITE = "user.write"
    """Make users and give roles, none beyond one's own."""
    TOKEN_OWN = "token.own"  # noqa: S105
    """See, make and revoke tokens and access keys of one's own."""
    TOKEN_READ = "token.read"  # noqa: S105
    """See that others' tokens exist; never the tokens themselves."""
    TOKEN_WRITE = "token.write"  # noqa: S105
    """Make and revoke tokens for others."""
    AUDIT_READ = "audit.read"
    USAGE_READ = "usage.read"
    METRICS_READ = "metrics.read"
    SETTINGS_READ = "settings.read"
    SETTINGS_WRITE = "settings.write"
    """Limits, outgoing addresses, keys and their rotation."""
    RUNNER_WORK = "runner.work"
    """Lease and report: a runner sees the opened connections of what it leases."""


_SEE = frozenset(
    {
        Action.TASK_READ,
        Action.CONNECTION_READ,
        Action.VOLUME_READ,
        Action.SCHEDULE_READ,
        Action.TOOL_READ,
        Action.SPACE_READ,
        Action.REPO_READ,
        Action.REVIEW_READ,
        Action.USAGE_READ,
        Action.TOKEN_OWN,
    }
)
_WORK = frozenset(
    {
        Action.TASK_CREATE,
        Action.TASK_CONTROL,
        Action.TASK_DELETE,
        Action.CONNECTION_USE,
        Action.VOLUME_USE,
        Action.SCHEDULE_WRITE,
        Action.TOOL_WRITE,
        Action.REPO_WRITE,
    }
)
_RUN = frozenset(
    {
        Action.CONNECTION_WRITE,
        Action.SPACE_WRITE,
        Action.WEBHOOK_READ,
        Action.WEBHOOK_WRITE,
        Action.USER_READ,
        Action.TOKEN_READ,
        Action.METRICS_READ,
        Action.SETTINGS_READ,
    }
)

RIGHTS: Mapping[Role, frozenset[Action]] = MappingProxyType(
    {
        Role.READER: _SEE,
        Role.REVIEWER: _SEE | {Action.REVIEW_DECIDE},
        Role.EDITOR: _SEE | _WORK,
        Role.OPERATOR: _SEE | _WORK | _RUN,
        Role.ADMIN: frozenset(Action),
        Role.RUNNER: frozenset({Action.RUNNER_WORK}),
    }
)
"""The one table: what each role may do within its scope. docs/security.md shows it."""


@dataclass(slots=True, frozen=True)
class Grant:
    """A role in a scope and everything below it."""

    role: Role
    scope: str = ""

    def __post_init__(self) -> None:
        check_scope(self.scope)


@dataclass(slots=True, frozen=True)
class Principal:
    """Somebody who proved who they are.

    ``scopes`` and ``actions`` narrow the grants, for tokens that may less than their owner; ``actions`` None means
    no narrowing. For a runner ``actions`` are the rights themselves, and ``task_id`` is the only task they are for.
    """

    id: str
    name: str
    kind: Kind
    grants: tuple[Grant, ...] = ()
    token_id: str = ""
    scopes: tuple[str, ...] = ("",)
    actions: frozenset[Action] | None = None
    task_id: str = ""

    def __post_init__(self) -> None:
        for scope in self.scopes:
            check_scope(scope)


def allows(principal: Principal, action: Action, scope: str) -> bool:
    """Whether ``principal`` may do ``action`` to what lies at ``scope``. A malformed scope is never allowed."""
    if principal.actions is not None and action not in principal.actions:
        return False
    if not any(covers(narrow, scope) for narrow in principal.scopes):
        return False
    if principal.kind is Kind.RUNNER:
        return principal.actions is not None
    return any(action in RIGHTS[grant.role] and covers(grant.scope, scope) for grant in principal.grants)


def require(principal: Principal, action: Action, scope: str) -> None:
    """Raise AccessError unless :func:`allows`."""
    if not allows(principal, action, scope):
        where = f"in {scope!r}" if scope else "here"
        raise AccessError(
            f"{principal.name or principal.id} has no right to {action} {where}",
            hint=f"an administrator can give a role with it: {', '.join(roles_with(action))}",
        )


def may_grant(principal: Principal, grant: Grant) -> bool:
    """Whether ``principal`` may give ``grant`` to others: nobody gives what they do not have."""
    return allows(principal, Action.USER_WRITE, grant.scope) and holds(principal, grant)


def holds(principal: Principal, grant: Grant) -> bool:
    """Whether everything that ``grant`` allows is allowed to ``principal``: what a new token of theirs may carry."""
    return all(allows(principal, action, grant.scope) for action in RIGHTS[grant.role])


def visible_scopes(principal: Principal, action: Action) -> tuple[str, ...]:
    """The smallest set of scopes within which ``principal`` may do ``action``: what a list is filtered by.

    ``("",)`` is everything and ``()`` nothing.
    """
    if principal.actions is not None and action not in principal.actions:
        return ()
    if principal.kind is Kind.RUNNER:
        return _widest(principal.scopes if principal.actions is not None else ())
    granted = [grant.scope for grant in principal.grants if action in RIGHTS[grant.role]]
    both = [a if covers(b, a) else b for a in granted for b in principal.scopes if covers(b, a) or covers(a, b)]
    return _widest(both)


def roles_with(action: Action) -> tuple[Role, ...]:
    """The roles that may do ``action``, the strongest first."""
    return tuple(role for role in Role if action in RIGHTS[role])


def covers(scope: str, target: str) -> bool:
    """Whether ``target`` is ``scope`` or lies below it, segment by segment."""
    if not _well_formed(target):
        return False
    return scope in ("", target) or target.startswith(scope + "/")


def check_scope(text: str) -> str:
    """``text`` itself when it is a scope. Raises UsageError for anything that is none."""
    if not _well_formed(text):
        shown = text if len(text) <= 80 else text[:80] + "…"
        raise UsageError(
            f"{shown!r} is no scope",
            hint="names joined by single slashes, such as team/project; empty means everything",
        )
    return text


def _well_formed(text: str) -> bool:
    if text == "":
        return True
    if len(text) > SCOPE_MAX or not text.isprintable():
        return False
    return all(segment not in ("", ".", "..") for segment in text.split("/"))


def _widest(scopes: Iterable[str]) -> tuple[str, ...]:
    kept: list[str] = []
    for scope in sorted(set(scopes), key=lambda s: (s.count("/"), s)):
        if not any(covers(wider, scope) for wider in kept):
            kept.append(scope)
    return tuple(sorted(kept))


SYSTEM = Principal("system", "system", Kind.SYSTEM, (Grant(Role.ADMIN),))
"""The server's own loops."""
