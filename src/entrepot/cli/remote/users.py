"""``entrepot --server URL user``: who may come in, with which roles."""

from __future__ import annotations

from typing import Any

import click

from entrepot.cli.exits import OK
from entrepot.cli.groups import Verbs
from entrepot.cli.terminal import out_json, say
from entrepot.sdk.reading import plain
from entrepot.sdk.values import Grant, User

from .asking import client
from .showing import JSON, as_lines, facts, grant_of, grants_text, table, when

_ROLES = click.option("--role", "roles", multiple=True, metavar="ROLE[@SCOPE]",
                      help="admin, operator, editor, reviewer, reader, runner; everywhere, or in a scope. "
                      "May be repeated.")  # fmt: skip


@click.group("user", cls=Verbs)
def command() -> None:
    """Let people and programs in, and give them roles."""


@command.command("add")
@click.argument("name")
@_ROLES
@click.option("--service", is_flag=True, help="A program, no person.")
@JSON
def add(name: str, roles: tuple[str, ...], service: bool, as_json: bool) -> int:
    """Let NAME in. A token for them: token create --user NAME."""
    with client() as server:
        made = server.users.create(name, grants=map(grant_of, roles), kind="service" if service else "user")
    if as_json:
        out_json(plain(made))
    else:
        say(f"user {name} made; roles: {grants_text(made.grants)}")
    return OK


@command.command("list")
@JSON
def list_(as_json: bool) -> int:
    """List the users."""
    with client() as server:
        found = server.users.list()
        if as_json:
            as_lines(found)
            return OK
        rows = ((one.name, one.kind, _state(one), when(one.created), grants_text(one.grants)) for one in found)
        table(("NAME", "KIND", "STATE", "CREATED", "ROLES"), rows, empty="no users")
    return OK


def _state(one: User) -> str:
    return "shut out" if one.disabled else "in"


@command.command("show")
@click.argument("name")
@JSON
def show(name: str, as_json: bool) -> int:
    """Show a user."""
    with client() as server:
        one = server.users.get(name)
    if as_json:
        out_json(plain(one))
        return OK
    _facts(one, [("state", _state(one)), ("created", one.created)])
    return OK


@command.command("me")
@JSON
def me(as_json: bool) -> int:
    """Show who the token belongs to, and what it may."""
    with client() as server:
        one = server.users.me()
    if as_json:
        out_json(plain(one))
        return OK
    _facts(one, [("token", one.token_id)])
    return OK


def _facts(one: Any, more: list[tuple[str, Any]]) -> None:
    grants: tuple[Grant, ...] = one.grants
    facts([("name", one.name), ("id", one.id), ("kind", one.kind), ("roles", grants_text(grants)), *more])


@command.command("set")
@click.argument("name")
@_ROLES
@click.option("--no-roles", is_flag=True, help="Take all roles away.")
@click.option("--disable/--enable", "disabled", default=None, help="Shut out, or let in again.")
@JSON
def set_(name: str, roles: tuple[str, ...], no_roles: bool, disabled: bool | None, as_json: bool) -> int:
    """Give a user other roles in the place of all former ones, shut them out, or let them in again."""
    if not roles and not no_roles and disabled is None:
        raise click.UsageError("nothing to change is named")
    if roles and no_roles:
        raise click.UsageError("--role and --no-roles exclude each other")
    grants = [grant_of(role) for role in roles] if roles or no_roles else None
    with client() as server:
        one = server.users.update(name, grants=grants, disabled=disabled)
    if as_json:
        out_json(plain(one))
    else:
        say(f"user {name} is {_state(one)}; roles: {grants_text(one.grants)}")
    return OK


@command.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(names: tuple[str, ...]) -> int:
    """Forget users with all their tokens and access keys."""
    with client() as server:
        for name in names:
            server.users.delete(name)
            say(f"user {name} removed")
    return OK
