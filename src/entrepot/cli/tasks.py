"""``entrepot tasks``: the runs that this machine remembers: look at them, see what failed, cancel."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from .exits import OK
from .groups import Verbs
from .places import connection_lookup
from .progress import by_count
from .summary import OUTCOMES
from .terminal import out, out_json, say
from .words import count_text, duration_text, failure_text, key_json, plain_text, size_text, utc_text

if TYPE_CHECKING:
    from entrepot.ledger.tasks import Task
    from entrepot.service.trade import Trade

_STATE_DIR = click.option(
    "--state-dir", default="", envvar="ENTREPOT_STATE_DIR", metavar="DIR", help="Where runs are remembered."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="JSON instead of text.")
_PAGE = 1000


class _Tasks(Verbs):
    server_verbs = frozenset({"report", "follow", "pause", "resume", "retry", "approve", "reject", "delete"})


@click.group("tasks", cls=_Tasks, invoke_without_command=True)
@click.pass_context
def command(ctx: click.Context) -> int:
    """Show the runs of this machine: those going on, those that can be resumed, and those of the last 30 days."""
    if ctx.invoked_subcommand is None:
        return int(ctx.invoke(list_) or 0)
    return OK


@command.command("list")
@click.option("-n", "--limit", type=click.IntRange(min=1), default=30, show_default=True, metavar="N",
              help="At most N tasks.")  # fmt: skip
@_STATE_DIR
@_JSON
def list_(limit: int = 30, state_dir: str = "", as_json: bool = False) -> int:
    """List tasks, youngest first."""
    from entrepot.service import tasks

    found = tasks.list_tasks(state_dir, limit)
    if not found and not as_json:
        say("no tasks yet")
    for task in found:
        if as_json:
            out_json(_shown(task))
        else:
            out(_line(task))
    return OK


def _line(task: Task) -> str:
    t = task.totals
    failed = f" · {count_text(t.failed)} failed" if t.failed else ""
    return (
        f"{task.id}  {_state(task):<10} {_when(task.created)}  {task.spec.kind:<6} "
        f"{count_text(t.copied + t.equal)} of {count_text(t.total)} · {size_text(t.total_bytes)}{failed}\n"
        f"{'':<28}{plain_text(task.spec.source)} → {plain_text(task.spec.destination)}"
    )


def _state(task: Task) -> str:
    from entrepot.model.task import END_STATES, TaskState
    from entrepot.service.owner import is_running

    if task.state in END_STATES or task.state is TaskState.PAUSED or is_running(task):
        return str(task.state)
    return "STOPPED"


def _when(seconds: float | None) -> str:
    if seconds is None:
        return "-"
    return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))


def _shown(task: Task) -> dict[str, Any]:
    t = task.totals

    def moment(seconds: float | None) -> str | None:
        return None if seconds is None else utc_text(int(seconds * 1000) * 1_000_000)

    return {
        "task_id": task.id,
        "kind": task.spec.kind,
        "state": str(task.state),
        "running": _state(task) not in {"STOPPED"} and task.finished is None and str(task.state) != "PAUSED",
        "reason": task.reason,
        "source": task.spec.source,
        "destination": task.spec.destination,
        "created": moment(task.created),
        "started": moment(task.started),
        "finished": moment(task.finished),
        "resumed": task.resumed,
        "total": {"entries": t.total, "bytes": t.total_bytes},
        **{name: {"entries": getattr(t, name), "bytes": getattr(t, name + "_bytes")} for name in OUTCOMES},
        "retries": t.retries,
    }


@command.command("show")
@click.argument("task_id")
@_STATE_DIR
@_JSON
def show(task_id: str, state_dir: str, as_json: bool) -> int:
    """Show one task: its figures, its options, and what happened to it."""
    import json

    from entrepot.service import tasks

    task, failed, events = tasks.show_task(task_id, state_dir)
    options = _changed_options(task.spec.options)
    if as_json:
        happened = [{"at": utc_text(int(e.at * 1000) * 1_000_000), "kind": e.kind, "text": e.text} for e in events]
        out_json({**_shown(task), "options": options, "failures": failed, "events": happened})
        return OK
    out(f"task         {task.id}")
    out(f"state        {_state(task)}{f' ({plain_text(task.reason)})' if task.reason else ''}")
    out(f"source       {plain_text(task.spec.source)}")
    out(f"destination  {plain_text(task.spec.destination)}")
    out(f"created      {_when(task.created)}")
    if task.finished is not None and task.started is not None:
        out(f"finished     {_when(task.finished)}, after {duration_text(task.finished - task.started)}")
    for name, value in options.items():
        out(f"option       {name.replace('_', '-')} = {plain_text(json.dumps(value, ensure_ascii=False))}")
    for name in ("total", *OUTCOMES):
        count = getattr(task.totals, name)
        if count:
            out(f"{name:<12} {count_text(count):>12}   {size_text(getattr(task.totals, name + '_bytes'))}")
    for name, count in by_count(failed):
        out(f"failed       {count_text(count):>12}   {name}")
    for event in events:
        out(f"{_when(event.at)}  {event.kind:<9} {plain_text(event.text)}")
    if _state(task) in {"STOPPED", "PAUSED"}:
        say("hint: run the same command again to go on with it")
    return OK


def _changed_options(text: str) -> dict[str, Any]:
    import json

    from entrepot.model.options import SyncOptions

    default = json.loads(SyncOptions().to_json())
    return {name: value for name, value in json.loads(text).items() if value != default.get(name)}


@command.command("failures")
@click.argument("task_id")
@click.option("--class", "only", default="", metavar="NAME", help="Only failures of this class.")
@click.option("-0", "--null", is_flag=True, help="Keys alone, raw, each ended by NUL: a list for --list.")
@_STATE_DIR
@_JSON
def failures(task_id: str, *, only: str, null: bool, state_dir: str, as_json: bool) -> int:
    """List the entries that failed, latest first."""
    from entrepot.service import tasks

    before = 0
    while True:
        page, before = tasks.task_failures(task_id, state_dir, _PAGE, before)
        for failure in page:
            if only and str(failure.failure) != only:
                continue
            if null:
                raw(failure.key)
            elif as_json:
                row = {"class": str(failure.failure), "message": failure.message, "attempts": failure.attempts}
                out_json({**key_json(failure.key), "size": failure.size, **row})
            else:
                out(f"{failure.failure!s:<10} {failure_text(failure.key, failure.message)}")
        if not before:
            return OK


def raw(key: bytes) -> None:
    """One key as it is, ended by NUL."""
    import sys

    sys.stdout.flush()
    sys.stdout.buffer.write(key + b"\0")


@command.command("cancel")
@click.argument("task_id")
@_STATE_DIR
def cancel(task_id: str, state_dir: str) -> int:
    """Cancel a task and take away what it left half done."""
    from entrepot.service import tasks
    from entrepot.service.owner import is_running

    task, _, _ = tasks.show_task(task_id, state_dir)
    state = tasks.cancel(task_id, state_dir, connections=connection_lookup(), trade=_trade_of(task))
    if str(state) == "CANCELLED":
        say(f"task {task_id} is cancelled")
    elif is_running(task):
        say(f"task {task_id} was told to stop")
    else:
        say(f"task {task_id} has ended already: {str(state).lower()}")
    return OK


def _trade_of(task: Task) -> Trade | None:
    from entrepot.work.single import is_single

    from .running import single_trade

    return single_trade() if is_single(task.source[1]) else None
