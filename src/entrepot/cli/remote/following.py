"""A server's task followed live: the same display, the same last object and the same exit codes as a run here."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from typing import Any

import click

from entrepot.cli.exits import GUARD, INTERNAL, INTERRUPTED, OK, PLACE, SOME_FAILED
from entrepot.cli.progress import Progress, progress_for
from entrepot.cli.running import code_of
from entrepot.cli.summary import as_json, failed_phrase, print_summary
from entrepot.cli.terminal import complain, out_json, say
from entrepot.model.errors import UsageError
from entrepot.model.shard import Failure as FailedEntry
from entrepot.model.task import TaskState
from entrepot.model.totals import Totals
from entrepot.sdk.client import Client
from entrepot.sdk.errors import ApiError
from entrepot.sdk.saving import format_of
from entrepot.sdk.values import Task
from entrepot.service.request import Snapshot

from .asking import Asked

FOLLOW_FLAGS = [
    click.option("--json", "as_json_", is_flag=True, help="Print one JSON object at the end."),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
    click.option("--no-progress", is_flag=True, help="No progress, only the summary."),
]
_TOLD = frozenset({"warning", "lost"})
_KINDS = ("total", "copied", "equal", "deleted", "skipped", "failed")
_EXAMPLES = 100
_KNOWN = frozenset(str(state) for state in TaskState)


def follow(
    client: Client,
    meant: Asked,
    task: Task,
    *,
    as_json_: bool,
    quiet: bool,
    no_progress: bool,
    report: str = "",
) -> int:
    """Show a task until it ends or waits for a person; the exit code. Ctrl-C leaves it running."""
    progress = progress_for(task.kind, quiet=quiet, wanted=not no_progress)
    if not quiet and not as_json_:
        say(f"task {task.id} on {client.server}")
    warnings: list[str] = []
    try:
        _watch(client, task, progress, warnings)
        last = client.tasks.get(task.id)
        shot = snapshot_of(last, warnings)
        if last.totals.failed.entries and not as_json_ and not quiet:
            shot.failures = _examples(client, last)
        if report and last.ended:
            client.tasks.report(last.id, report)
            shot.report = report
    except KeyboardInterrupt:
        progress.close()
        say("")
        complain(f"left task {task.id}: it goes on", meant.words(f"task follow {task.id}"))
        return INTERRUPTED
    finally:
        progress.close()
    return tell_end(meant, last, shot, as_json_=as_json_, quiet=quiet)


def check_report(report: str) -> None:
    """Raise UsageError, before anything is asked for, for a report that could not be written."""
    import os

    if not report:
        return
    format_of(report, "")
    folder = os.path.dirname(os.path.abspath(os.path.expanduser(report)))
    if not os.path.isdir(folder):
        raise UsageError(f"--report {report}: there is no directory {folder}")


def _watch(client: Client, task: Task, progress: Progress, warnings: list[str]) -> None:
    for event in client.tasks.events(task.id):
        if event.kind in _TOLD:
            warnings.append(event.text)
        elif event.task is not None:
            progress.show(snapshot_of(event.task, warnings))
            if event.task.state == TaskState.REVIEW:
                return


def tell_end(meant: Asked, task: Task, shot: Snapshot, *, as_json_: bool, quiet: bool) -> int:
    """Summary or JSON, what is to be said of it, and the exit code."""
    code = end_code(task, shot)
    if as_json_:
        out_json(as_json(shot))
    elif not quiet:
        print_summary(shot, kind=task.kind, dry_run=bool(task.options.get("dry_run")))
    sys.stdout.flush()
    _complain(meant, task, shot, code)
    return code


def end_code(task: Task, shot: Snapshot) -> int:
    """As for a run here. A task that failed before it saw one entry could not use its places."""
    code = code_of(shot)
    if code == INTERNAL and task.state == TaskState.FAILED and not task.totals.total.entries:
        return PLACE
    return code


def _complain(meant: Asked, task: Task, shot: Snapshot, code: int) -> None:
    why = f": {task.reason}" if task.reason else ""
    if task.state == TaskState.REVIEW:
        complain(f"the task waits for approval{why}", meant.words(f"task approve {task.id}") + ", or reject")
    elif code == SOME_FAILED:
        count = max(shot.totals.failed, sum(shot.failure_counts.values()))
        complain(failed_phrase(count, task.kind), meant.words(f"task failures {task.id}"))
    elif code == INTERRUPTED:
        complain(f"the task was {task.state.lower()}{why}")
    elif code == GUARD:
        complain(f"the task was rejected{why}")
    elif code != OK:
        complain(f"the task ended {task.state.lower()}{why}", meant.words(f"task show {task.id}"))


def snapshot_of(task: Task, warnings: list[str]) -> Snapshot:
    """A server's task as the displays of runs here take it."""
    seconds = _seconds(task)
    figures: dict[str, Any] = {}
    for kind in _KINDS:
        amount = getattr(task.totals, kind)
        figures[kind], figures[f"{kind}_bytes"] = amount.entries, amount.bytes
    totals = Totals(**figures, retries=task.retries)
    done = totals.copied + totals.equal + totals.skipped + totals.failed
    rate_bytes, rate_entries = task.rate_bytes, task.rate_entries
    if task.ended and seconds > 0:
        rate_bytes, rate_entries = totals.copied_bytes / seconds, done / seconds
    return Snapshot(
        task_id=task.id,
        state=TaskState(task.state) if task.state in _KNOWN else TaskState.RUNNING,
        totals=totals,
        phase="queue" if task.state == TaskState.QUEUED else task.phase or "",
        scanning=not task.ended if task.scanning is None else task.scanning,
        seconds=seconds,
        rate_bytes=rate_bytes or 0.0,
        rate_entries=rate_entries or 0.0,
        eta_seconds=task.eta_seconds,
        failure_counts=dict(task.failures),
        requests=dict(task.requests),
        peak_rss_bytes=task.peak_rss_bytes,
        resumed=task.resumed > 0,
        warnings=list(warnings),
    )


def _seconds(task: Task) -> float:
    if task.started is None:
        return 0.0
    return max(0.0, ((task.finished or datetime.now(UTC)) - task.started).total_seconds())


def _examples(client: Client, task: Task) -> list[FailedEntry]:
    try:
        page = next(client.tasks.failures(task.id, page_size=_EXAMPLES).pages())
    except ApiError:
        return []
    return [FailedEntry(one.raw_key, one.failure, one.message, one.attempts, one.size) for one in page.items]
