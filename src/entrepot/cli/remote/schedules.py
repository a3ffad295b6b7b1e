"""``entrepot --server URL schedule``: syncs that a server runs again and again."""

from __future__ import annotations

from typing import Any, get_args

import click

from entrepot.cli.exits import OK
from entrepot.cli.groups import Verbs
from entrepot.cli.syncflags import (
    COMPARE_FLAGS,
    COPY_FLAGS,
    DELETE_FLAGS,
    FILTER_FLAGS,
    LIMIT_FLAGS,
    OrderedFilters,
    apply,
)
from entrepot.cli.terminal import out, out_json, say
from entrepot.sdk.client import Client
from entrepot.sdk.reading import plain
from entrepot.sdk.requests.schedules import Overlap
from entrepot.sdk.values import Schedule

from .asking import asked, client
from .finding import by_name_or_id
from .showing import JSON, SCOPE, as_lines, facts, table, when
from .syncoptions import option_text, request_options

_WHICH = click.argument("which", metavar="NAME")


@click.group("schedule", cls=Verbs)
def command() -> None:
    """Have syncs run again and again.

    A schedule is named by its NAME or its id.
    """


@command.command("add", cls=OrderedFilters)
@click.argument("name")
@click.argument("source")
@click.argument("destination")
@click.option("--cron", required=True, metavar="EXPRESSION",
              help="minute hour day month weekday, or @hourly, @daily, @weekly, @monthly, @yearly.")  # fmt: skip
@click.option("--zone", default="UTC", show_default=True, metavar="ZONE", help="Whose clock: such as Europe/Berlin.")
@click.option("--kind", type=click.Choice(["sync", "verify"]), default="sync", show_default=True,
              help="What is run.")  # fmt: skip
@click.option("--overlap", type=click.Choice(get_args(Overlap)), default="skip", show_default=True,
              help="When it is due and the run before still goes on.")  # fmt: skip
@click.option(
    "--max-count", type=click.IntRange(min=0), default=0, metavar="N", help="Run so often at most; 0: always."
)
@click.option("--priority", type=click.IntRange(-1000, 1000), default=0, metavar="N", help="Higher goes first.")
@click.option("--resource-spec", default="", metavar="SPEC", help="Cores and memory, such as 4Core_8GiB.")
@click.option("--paused", is_flag=True, help="Only store it.")
@SCOPE
@JSON
@apply(COMPARE_FLAGS, DELETE_FLAGS, FILTER_FLAGS, COPY_FLAGS, LIMIT_FLAGS)
@click.pass_context
def add(ctx: click.Context, /, name: str, source: str, destination: str, as_json: bool, **flags: Any) -> int:
    """Run a sync of SOURCE to DESTINATION whenever --cron says so, as NAME.

    \b
      entrepot --server URL schedule add nightly lab:photos volume://archive/photos --cron '0 2 * * *'
    """
    asked()
    fixed = {"compare": "checksum"} if flags["kind"] == "verify" else {}
    options: Any = request_options(ctx, flags, **fixed)
    with client() as server:
        made = server.schedules.create(
            name,
            flags["cron"],
            source,
            destination,
            zone=flags["zone"],
            kind=flags["kind"],
            scope=flags["scope"],
            priority=flags["priority"],
            enabled=not flags["paused"],
            max_count=flags["max_count"],
            overlap=flags["overlap"],
            **options,
        )
    if as_json:
        out_json(plain(made))
    else:
        say(f"schedule {name} stored ({made.id}); {_next(made)}")
    return OK


def _next(one: Schedule) -> str:
    if not one.enabled:
        return f"it is paused{f': {one.last_error}' if one.last_error else ''}"
    if one.next_due is None:
        return "it is never due again"
    return f"next run {when(one.next_due)}"


@command.command("list")
@SCOPE
@JSON
def list_(scope: str | None, as_json: bool) -> int:
    """List the schedules, oldest first."""
    with client() as server:
        found = server.schedules.list(scope=scope)
        if as_json:
            as_lines(found)
            return OK
        rows = (
            (one.name, one.cron, one.zone, "paused" if not one.enabled else when(one.next_due), f"{one.runs}",
             f"{one.request.source} → {one.request.destination}")
            for one in found
        )  # fmt: skip
        table(("NAME", "CRON", "ZONE", "NEXT RUN", "RUNS", "SYNC"), rows, empty="no schedules yet")
    return OK


@command.command("show")
@_WHICH
@JSON
def show(which: str, as_json: bool) -> int:
    """Show a schedule, what it runs, and how its last run began."""
    with client() as server:
        one = _find(server, which)
        times = server.schedules.preview(one.cron, zone=one.zone, count=3) if one.enabled else ()
    if as_json:
        out_json(plain(one))
        return OK
    facts([
        ("name", one.name), ("id", one.id), ("scope", one.scope), ("creator", one.creator), ("created", one.created),
        ("state", "on" if one.enabled else "paused"), ("cron", f"{one.cron} ({one.zone})"),
        ("next runs", ", ".join(when(at) for at in times) if one.next_due else ""), ("overlap", one.overlap),
        ("runs", f"{one.runs}" + (f" of at most {one.max_count}" if one.max_count else "")),
        ("last run", one.last_run), ("last task", one.last_task), ("last error", one.last_error),
        ("waiting", "a run is due and begins when the one before has ended" if one.waiting else ""),
        ("kind", one.request.kind), ("source", one.request.source), ("destination", one.request.destination),
    ])  # fmt: skip
    for name, value in one.request.options.items():
        out(f"option         {option_text(name, value)}")
    return OK


@command.command("pause")
@_WHICH
def pause(which: str) -> int:
    """Let a schedule rest; what is due meanwhile is not made up for."""
    with client() as server:
        server.schedules.pause(_find(server, which).id)
    say(f"schedule {which} is paused")
    return OK


@command.command("resume")
@_WHICH
def resume(which: str) -> int:
    """Let a schedule go on. From now on it runs as whoever does this."""
    with client() as server:
        one = server.schedules.resume(_find(server, which).id)
    say(f"schedule {which} goes on; {_next(one)}")
    return OK


@command.command("run")
@_WHICH
@JSON
def run(which: str, as_json: bool) -> int:
    """Run a schedule once, now; that counts."""
    meant = asked()
    with client() as server:
        before = _find(server, which)
        one = server.schedules.run(before.id)
    if as_json:
        out_json(plain(one))
    elif one.waiting and one.last_task == before.last_task:
        say(f"schedule {which} runs when task {one.last_task} has ended")
    else:
        out(one.last_task)
        say(f"follow it: {meant.words(f'task follow {one.last_task}')}")
    return OK


@command.command("remove")
@click.argument("names", nargs=-1, required=True, metavar="NAME...")
def remove(names: tuple[str, ...]) -> int:
    """Forget schedules; their tasks stay and go on."""
    with client() as server:
        for which in names:
            server.schedules.delete(_find(server, which).id)
            say(f"schedule {which} removed")
    return OK


def _find(server: Client, which: str) -> Schedule:
    return by_name_or_id("schedule", which, server.schedules.get, server.schedules.list())
