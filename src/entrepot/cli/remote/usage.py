"""``entrepot --server URL usage``: what was moved, and the quotas that limit it."""

from __future__ import annotations

from typing import Any, get_args

import click

from entrepot.cli.exits import OK
from entrepot.cli.groups import Verbs
from entrepot.cli.terminal import out_json, say
from entrepot.cli.words import count_text, size_text
from entrepot.sdk.reading import plain
from entrepot.sdk.requests.usage import QuotaName

from .asking import client
from .showing import JSON, as_lines, table

_QUOTA = click.argument("name", type=click.Choice(get_args(QuotaName)), metavar="|".join(get_args(QuotaName)))
_SCOPE = click.option("--scope", default="", metavar="SCOPE", help="For this scope and below; else for all.")


@click.group("usage", cls=Verbs, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> int:
    """Show what was moved, and set limits to it."""
    if ctx.invoked_subcommand is None:
        return int(ctx.invoke(list_) or 0)
    return OK


@command.command("list")
@click.option("--from", "first", default="", metavar="DAY", help="From this day (UTC), such as 2026-11-01.")
@click.option("--to", "last", default="", metavar="DAY", help="To this day.  [default: today, and 30 days]")
@click.option("--scope", default=None, metavar="SCOPE", help="Only this scope and below.")
@JSON
def list_(first: str = "", last: str = "", scope: str | None = None, as_json: bool = False) -> int:
    """List what the tasks of each scope that ended on each day did."""
    with client() as server:
        found = server.usage.list(first=first, last=last, scope=scope)
        if as_json:
            as_lines(found)
            return OK
        rows = (
            (one.day, one.scope, count_text(one.tasks), count_text(one.entries), size_text(one.bytes),
             count_text(one.failed))
            for one in found
        )  # fmt: skip
        table(("DAY", "SCOPE", "TASKS", "ENTRIES", "BYTES", "FAILED"), rows, empty="nothing was moved")
    return OK


@command.command("quotas")
@click.option("--scope", default=None, metavar="SCOPE", help="Only this scope and below.")
@JSON
def quotas(scope: str | None, as_json: bool) -> int:
    """List the quotas that are set."""
    with client() as server:
        found = server.usage.quotas(scope=scope)
    if as_json:
        as_lines(found)
    else:
        rows = ((one.name, count_text(one.amount), one.scope) for one in found)
        table(("QUOTA", "AMOUNT", "SCOPE"), rows, empty="no quotas")
    return OK


@command.command("set-quota")
@_QUOTA
@click.argument("amount", type=click.IntRange(min=0))
@_SCOPE
@JSON
def set_quota(name: Any, amount: int, scope: str, as_json: bool) -> int:
    """Limit how many tasks wait, or run."""
    with client() as server:
        made = server.usage.set_quota(name, amount, scope=scope)
    if as_json:
        out_json(plain(made))
    else:
        say(f"{name} is limited to {count_text(made.amount)}{f' in {scope}' if scope else ''}")
    return OK


@command.command("drop-quota")
@_QUOTA
@_SCOPE
def drop_quota(name: Any, scope: str) -> int:
    """Take a limit away."""
    with client() as server:
        server.usage.delete_quota(name, scope=scope)
    say(f"{name} is not limited any more{f' in {scope}' if scope else ''}")
    return OK
