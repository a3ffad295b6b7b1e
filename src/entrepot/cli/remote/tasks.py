"""``entrepot --server URL task``: the tasks of a server: look at them, follow them, decide about them."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import Any, get_args

import click

from entrepot.cli.exits import OK
from entrepot.cli.groups import Verbs
from entrepot.cli.progress import by_count
from entrepot.cli.summary import OUTCOMES
from entrepot.cli.syncflags import apply
from entrepot.cli.tasks import raw
from entrepot.cli.terminal import out, out_json, say
from entrepot.cli.values import MOMENT
from entrepot.cli.words import (
    count_text,
    duration_text,
    failure_text,
    key_json,
    plain_text,
    rate_text,
    size_text,
    utc_text,
)
from entrepot.model.task import TaskState
from entrepot.sdk.client import Client
from entrepot.sdk.reading import plain
from entrepot.sdk.requests.tasks import Format
from entrepot.sdk.values import Task, TaskEvent

from .asking import asked, client
from .following import FOLLOW_FLAGS, check_report, follow
from .showing import JSON, when
from .syncoptions import option_text

_IDS = click.argument("task_ids", nargs=-1, required=True, metavar="TASK_ID...")
_REASON = click.option("--reason", default="", metavar="TEXT", help="Why, for those who read it later.")


@click.group("tasks", cls=Verbs, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> int:
    """Show the tasks of a server, follow them, decide about them."""
    if ctx.invoked_subcommand is None:
        return int(ctx.invoke(list_) or 0)
    return OK


@command.command("list")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=30, show_default=True, metavar="N",
              help="At most N tasks.")  # fmt: skip
@click.option("--state", multiple=True, type=click.Choice([str(state) for state in TaskState], case_sensitive=False),
              help="Only tasks in this state. May be repeated.")  # fmt: skip
@click.option("--kind", type=click.Choice(["sync", "verify"]), help="Only tasks of this kind.")
@click.option("--family", type=click.Choice(["native", "datasync"]), help="Only tasks made through this API.")
@click.option("--scope", default=None, metavar="SCOPE", help="Only tasks in this scope and below.")
@click.option("--creator", default="", metavar="NAME", help="Only tasks of this user.")
@click.option("--text", default="", metavar="TEXT", help="Only tasks with TEXT in the name.")
@click.option("--since", type=MOMENT, default=0, metavar="TIME", help="Only tasks created since (2026-11-21, 3d).")
@click.option("--until", type=MOMENT, default=0, metavar="TIME", help="Only tasks created before.")
@JSON
def list_(limit: int = 30, as_json: bool = False, **filters: Any) -> int:
    """List tasks, youngest first."""
    since, until = filters.pop("since", 0), filters.pop("until", 0)
    asked_for = {name: value for name, value in filters.items() if value}
    with client() as server:
        listing = server.tasks.list(
            **asked_for,
            created_after=utc_text(since) if since else None,
            created_before=utc_text(until) if until else None,
            page_size=min(limit, 1000),
        )
        shown = total = 0
        for page in listing.pages():
            total = page.total or 0
            for task in islice(page.items, limit - shown):
                out_json(plain(_listed(task))) if as_json else out(_lines(task))
                shown += 1
            if shown >= limit:
                break
    if not as_json and not shown:
        say("no such tasks" if asked_for or since or until else "no tasks yet")
    elif not as_json and total > shown:
        say(f"{count_text(shown)} of {count_text(total)}; --limit shows more")
    return OK


def _listed(task: Task) -> dict[str, Any]:
    """Without what a list does not know."""
    return {name: value for name, value in plain(task).items() if name not in _ONLY_OF_ONE}


_ONLY_OF_ONE = frozenset({"options", "failures", "leg_tasks", "requests", "peak_rss_bytes"})


def _lines(task: Task) -> str:
    t = task.totals
    failed = f" · {count_text(t.failed.entries)} failed" if t.failed.entries else ""
    name = f"  {plain_text(task.name)}" if task.name else ""
    percent = "" if task.ended else f" · {task.percent} %"
    known = "≥ " if task.scanning else ""
    return (
        f"{task.id}  {_state(task):<10} {when(task.created)}  {task.kind:<6} "
        f"{count_text(t.copied.entries + t.equal.entries)} of {known}{count_text(t.total.entries)} · "
        f"{known}{size_text(t.total.bytes)}{percent}{failed}{name}\n"
        f"{'':<28}{plain_text(task.source)} → {plain_text(task.destination)}"
    )


def _state(task: Task) -> str:
    """The state, and what was asked of it where that is still to come."""
    going = {"pause": "PAUSING", "cancel": "CANCELLING", "again": "RESUMING"}
    return task.state if task.ended else going.get(task.stop, task.state)


@command.command("show")
@click.argument("task_id")
@JSON
def show(task_id: str, as_json: bool) -> int:
    """Show one task: its figures, its options, and what happened to it."""
    with client() as server:
        task = server.tasks.get(task_id)
        happened = _history(server, task_id)
    if as_json:
        events = [{"at": plain(one.at), "kind": one.kind, "text": one.text} for one in happened]
        out_json({**plain(task), "events": events})
        return OK
    _show(task)
    for event in happened:
        out(f"{when(event.at)}  {event.kind:<9} {plain_text(event.text)}")
    return OK


def _history(server: Client, task_id: str) -> list[TaskEvent]:
    """What the live stream tells before it comes to the present."""
    found: list[TaskEvent] = []
    for event in server.tasks.events(task_id):
        if event.task is not None:
            break
        found.append(event)
    return found


def _show(task: Task) -> None:
    out(f"task         {task.id}")
    for name, value in (("name", task.name), ("scope", task.scope), ("creator", task.creator)):
        if value:
            out(f"{name:<12} {plain_text(value)}")
    out(f"state        {_state(task)}{f' ({plain_text(task.reason)})' if task.reason else ''}")
    out(f"kind         {task.kind}{f', {task.family} {task.type}' if task.family != 'native' else ''}")
    out(f"source       {plain_text(task.source)}")
    out(f"destination  {plain_text(task.destination)}")
    out(f"created      {when(task.created)}")
    if task.finished is not None and task.started is not None:
        took = (task.finished - task.started).total_seconds()
        out(f"finished     {when(task.finished)}, after {duration_text(took)}")
    elif not task.ended and task.rate_bytes is not None:
        eta = f", ETA {duration_text(task.eta_seconds)}" if task.eta_seconds is not None else ""
        out(f"progress     {task.percent} %, {rate_text(task.rate_bytes)}{eta}")
    if task.not_before is not None and task.started is None:
        out(f"not before   {when(task.not_before)}")
    for name, value in task.options.items():
        out(f"option       {plain_text(option_text(name, value))}")
    for name in ("total", *OUTCOMES):
        amount = getattr(task.totals, name)
        if amount.entries:
            out(f"{name:<12} {count_text(amount.entries):>12}   {size_text(amount.bytes)}")
    for name, count in by_count(task.failures):
        out(f"failed       {count_text(count):>12}   {name}")
    for leg in task.leg_tasks:
        out(f"part         {leg.id}  {_state(leg):<10} {plain_text(leg.source)}")


@command.command("failures")
@click.argument("task_id")
@click.option("--class", "only", default="", metavar="NAME", help="Only failures of this class.")
@click.option("-0", "--null", is_flag=True, help="Keys alone, raw, each ended by NUL: a list for --list.")
@JSON
def failures(task_id: str, *, only: str, null: bool, as_json: bool) -> int:
    """List the entries that failed, latest first."""
    with client() as server:
        for one in server.tasks.failures(task_id):
            if only and one.failure != only:
                continue
            if null:
                raw(one.raw_key)
            elif as_json:
                row = {"class": one.failure, "message": one.message, "attempts": one.attempts}
                out_json({**key_json(one.raw_key), "size": one.size, **row})
            else:
                out(f"{one.failure:<10} {failure_text(one.raw_key, one.message)}")
    return OK


@command.command("report")
@click.argument("task_id")
@click.argument("file", metavar="FILE", default="-")
@click.option("--format", "form", type=click.Choice(get_args(Format)), help="Else as FILE ends; jsonl without one.")
def report(task_id: str, file: str, form: Format | None) -> int:
    """Fetch what became of every entry into FILE (- or nothing: stdout).

    There is one when the task was created with --report, once it has ended.
    """
    import sys

    with client() as server:
        server.tasks.report(task_id, sys.stdout.buffer if file == "-" else file, form)
    if file != "-":
        say(f"written to {file}")
    return OK


@command.command("follow")
@click.argument("task_id")
@click.option("--report", "report_", default="", metavar="FILE", help="Fetch the report into FILE at the end.")
@apply(FOLLOW_FLAGS)
def follow_(task_id: str, report_: str, **flags: Any) -> int:
    """Follow a task live until it ends; exit as the sync itself would. Ctrl-C leaves it running."""
    check_report(report_)
    meant = asked()
    with client() as server:
        return follow(server, meant, server.tasks.get(task_id), **flags, report=report_)


def _order(name: str, help_text: str, said: Callable[[Task], str], *, reason: bool = False) -> None:
    def act(task_ids: tuple[str, ...], as_json: bool, **given: str) -> int:
        with client() as server:
            for task_id in task_ids:
                task = getattr(server.tasks, name)(task_id, **given)
                out_json(plain(task)) if as_json else say(f"task {task_id} {said(task)}")
        return OK

    act.__name__ = name
    act.__doc__ = help_text
    function: Any = JSON(_IDS(_REASON(act) if reason else act))
    command.command(name)(function)


def _paused(task: Task) -> str:
    return "is paused" if task.state == TaskState.PAUSED else "was told to pause"


def _cancelled(task: Task) -> str:
    return "is cancelled" if task.state == TaskState.CANCELLED else "was told to stop"


_order("pause", "Let tasks finish what is in their hands, and wait.", _paused)
_order("resume", "Let paused tasks go on where they were.", lambda _: "goes on")
_order("cancel", "End tasks and take away what they left half-moved.", _cancelled)
_order("retry", "Do once more what failed, and only that.", lambda _: "is in the queue again")
_order("approve", "Let the deletes of tasks that wait for review pass.", lambda _: "is approved", reason=True)
_order("reject", "End tasks that wait for review.", lambda _: "is rejected", reason=True)


@command.command("delete")
@_IDS
def delete(task_ids: tuple[str, ...]) -> int:
    """Forget ended tasks with their failures and reports; what they moved stays."""
    with client() as server:
        for task_id in task_ids:
            server.tasks.delete(task_id)
            say(f"task {task_id} is forgotten")
    return OK
