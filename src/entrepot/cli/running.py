"""How a command runs a task on this machine: request, progress, result, exit code."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskKind

from .exits import GUARD, INTERNAL, INTERRUPTED, OK, SOME_FAILED
from .places import connection_lookup
from .progress import progress_for
from .terminal import complain, out_json

if TYPE_CHECKING:
    from entrepot.service.request import Snapshot
    from entrepot.service.trade import Trade

RUN_FLAGS: list[Callable[[Any], Any]] = [
    click.option("--processes", type=click.IntRange(min=0), default=0, metavar="N",
                 help="Processes to work with (0: one a core)."),
    click.option("--state-dir", default="", envvar="ENTREPOT_STATE_DIR", metavar="DIR",
                 help="Where runs are remembered, to go on after a crash (ENTREPOT_STATE_DIR)."),
    click.option("--json", "as_json_", is_flag=True, help="Print one JSON object at the end."),
    click.option("-q", "--quiet", is_flag=True, help="Print errors only."),
    click.option("--no-progress", is_flag=True, help="No progress, only the summary."),
]  # fmt: skip


def run_task(
    kind: TaskKind,
    source: str,
    destination: str,
    options: SyncOptions,
    *,
    processes: int,
    state_dir: str,
    as_json_: bool,
    quiet: bool,
    no_progress: bool,
    single: bool = False,
    manifest: str = "",
) -> int:
    """Run one task to its end, show it, and answer the exit code. ``single``: the places name one object each."""
    from entrepot.service import oneshot
    from entrepot.service.outcome import check_outputs, write_outputs
    from entrepot.service.request import Interrupted, TaskRequest

    from .summary import as_json, print_summary

    request = TaskRequest(
        kind=kind,
        source=source,
        destination=destination,
        options=options,
        processes=processes,
        state_dir=state_dir,
        connections=connection_lookup(source, destination),
    )
    check_outputs(request, manifest)
    progress = progress_for(kind, quiet=quiet, wanted=not no_progress)
    try:
        snapshot = oneshot.run(request, progress.show, trade=single_trade() if single else None)
    except Interrupted as stop:
        if stop.snapshot is None:
            raise
        snapshot = stop.snapshot
    finally:
        progress.close()
    write_outputs(request, snapshot, manifest)
    code = code_of(snapshot)
    if as_json_:
        out_json(as_json(snapshot))
    elif not quiet:
        print_summary(snapshot, kind=kind, dry_run=options.dry_run)
    sys.stdout.flush()
    _complain_about(snapshot, code, kind)
    return code


def single_trade() -> Trade:
    """The calls for copying one object to one name."""
    from entrepot.service.trade import Trade
    from entrepot.work import single

    return Trade(single.preflight, single.plan, single.open_session, single.discard)


def code_of(snapshot: Snapshot) -> int:
    """The exit code of a finished run."""
    state = str(snapshot.state)
    if state in {"PAUSED", "CANCELLED"}:
        return INTERRUPTED
    if state in {"REVIEW", "REJECTED"}:
        return GUARD
    if snapshot.totals.failed or any(snapshot.failure_counts.values()):
        return SOME_FAILED
    return OK if state == "SUCCEEDED" else INTERNAL


def _complain_about(snapshot: Snapshot, code: int, kind: str) -> None:
    from .summary import failed_phrase

    if code == INTERRUPTED:
        complain("interrupted", "run the same command again to go on")
    elif code == SOME_FAILED:
        count = max(snapshot.totals.failed, sum(snapshot.failure_counts.values()))
        hint = (
            f"read {snapshot.report}"
            if os.path.exists(snapshot.report)
            else f"entrepot tasks failures {snapshot.task_id}"
        )
        complain(failed_phrase(count, kind), hint)
    elif code == GUARD:
        complain("a guard stopped the run: " + ("; ".join(snapshot.warnings) or "it waits for approval"))
    elif code == INTERNAL:
        complain(f"the run ended {str(snapshot.state).lower()}", f"entrepot tasks show {snapshot.task_id}")
