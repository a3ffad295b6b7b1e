"""What is written when a run has ended: the report of every entry, the signed manifest of a verification."""

from __future__ import annotations

import os

from entrepot.model.errors import UsageError
from entrepot.model.task import TaskState

from .report import check_report, drop_segments, segments_directory, write_report
from .request import Snapshot, TaskRequest
from .statedir import state_directory

_ENDED = (TaskState.SUCCEEDED, TaskState.FAILED)


def check_outputs(request: TaskRequest, manifest: str) -> None:
    """Raise UsageError, before anything is done, for files that could not be written at the end."""
    check_report(request.options.report)
    for path in (request.options.report, manifest):
        if path and os.path.isdir(path):
            raise UsageError(f"{path} is a directory", hint="name a file")
    if manifest and not os.path.isdir(os.path.dirname(os.path.abspath(manifest))):
        raise UsageError(f"manifest: there is no directory {os.path.dirname(os.path.abspath(manifest))}")


def write_outputs(request: TaskRequest, snapshot: Snapshot, manifest: str) -> None:
    """Join the runners' segments into the files asked for, and drop them. Nothing while the task goes on later."""
    if snapshot.state not in _ENDED:
        return
    state_dir = state_directory(request.state_dir)
    found = os.path.isdir(segments_directory(state_dir, snapshot.task_id))
    report = request.options.report
    if report and (found or not os.path.exists(report)):
        write_report(state_dir, snapshot.task_id, report)
    if manifest:
        from .manifest import write_manifest

        about = {
            "source": request.source,
            "destination": request.destination,
            "state": str(snapshot.state),
            "total": {"entries": snapshot.totals.total, "bytes": snapshot.totals.total_bytes},
        }
        write_manifest(state_dir, snapshot.task_id, manifest, about)
    if found:
        drop_segments(state_dir, snapshot.task_id)
