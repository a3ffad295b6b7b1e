"""The end of a run: a few readable lines, or the one JSON object that scripts rely on."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any

from .progress import by_count
from .terminal import out, styled
from .words import count_text, duration_text, entries_text, failure_text, plain_text, rate_text, size_text

if TYPE_CHECKING:
    from entrepot.service.request import Snapshot

OUTCOMES = ("copied", "equal", "deleted", "skipped", "failed")
VERBS = ("list", "get", "put", "head", "copy", "delete", "multipart")
EXAMPLES = 3


def as_json(snapshot: Snapshot) -> dict[str, Any]:
    """The last object of ``--json``; its keys are a promise."""
    totals = snapshot.totals

    def pair(name: str) -> dict[str, int]:
        return {"entries": getattr(totals, name), "bytes": getattr(totals, name + "_bytes")}

    return {
        "task_id": snapshot.task_id,
        "state": str(snapshot.state),
        "total": pair("total"),
        **{name: pair(name) for name in OUTCOMES},
        "seconds": round(snapshot.seconds, 3),
        "requests": {verb: snapshot.requests.get(verb, 0) for verb in VERBS},
        "peak_rss_bytes": snapshot.peak_rss_bytes,
        "resumed": snapshot.resumed,
    }


def print_summary(snapshot: Snapshot, *, kind: str, dry_run: bool) -> None:
    """What was done, how fast, what failed and why, and where to read on."""
    totals = snapshot.totals
    names = _names(kind, dry_run)
    out(_headline(snapshot, kind, dry_run))
    for name in OUTCOMES:
        count, size = getattr(totals, name), getattr(totals, name + "_bytes")
        if count or (name == "copied" and kind != "verify"):
            out(f"  {names[name]:<16}{count_text(count):>12}   {size_text(size)}")
    total = "total" if str(snapshot.state) in {"SUCCEEDED", "FAILED"} else "found so far"
    out(f"  {total:<16}{count_text(totals.total):>12}   {size_text(totals.total_bytes)}")
    out("  " + _figures(snapshot))
    _print_failures(snapshot)
    for warning in snapshot.warnings:
        out(f"  warning: {plain_text(warning)}")
    if snapshot.report and os.path.exists(snapshot.report):
        out(f"  report: {plain_text(snapshot.report)}")


def _headline(snapshot: Snapshot, kind: str, dry_run: bool) -> str:
    state = str(snapshot.state)
    failed = snapshot.totals.failed
    what = "Dry run, nothing was changed" if dry_run else "Verified" if kind == "verify" else "Done"
    if state == "SUCCEEDED" and not failed:
        return styled(what, "ok", sys.stdout) + (" (went on with an earlier run)" if snapshot.resumed else "")
    if failed and state in {"SUCCEEDED", "FAILED"}:
        return styled(f"{what}, but {failed_phrase(failed, kind)}", "error", sys.stdout)
    ended = {"PAUSED": "Interrupted", "CANCELLED": "Cancelled", "REVIEW": "Stopped for approval"}
    return styled(ended.get(state, f"Ended {state.lower()}"), "warn", sys.stdout)


def failed_phrase(count: int, kind: str) -> str:
    """``3 entries failed``; for a verification, ``1 entry differs``."""
    noun = f"{count_text(count)} {'entry' if count == 1 else 'entries'}"
    if kind != "verify":
        return f"{noun} failed"
    return f"{noun} {'differs' if count == 1 else 'differ'}"


def _names(kind: str, dry_run: bool) -> dict[str, str]:
    if kind == "verify":
        return dict(zip(OUTCOMES, ("copied", "equal", "deleted", "skipped", "different"), strict=True))
    if dry_run:
        return dict(zip(OUTCOMES, ("would copy", "equal", "would delete", "skipped", "failed"), strict=True))
    return {name: name for name in OUTCOMES}


def _figures(snapshot: Snapshot) -> str:
    totals = snapshot.totals
    requests = sum(snapshot.requests.get(verb, 0) for verb in VERBS)
    parts = [duration_text(snapshot.seconds)]
    if totals.copied_bytes:
        parts.append(rate_text(snapshot.rate_bytes))
    parts.append(f"{count_text(round(snapshot.rate_entries))} objects/s")
    if requests:
        listed = ", ".join(f"{count_text(n)} {verb}" for verb in VERBS if (n := snapshot.requests.get(verb, 0)))
        parts.append(f"{entries_text(requests, 'request')} ({listed})")
    if totals.retries:
        parts.append(f"{count_text(totals.retries)} retried")
    if snapshot.peak_rss_bytes:
        parts.append(f"peak memory {size_text(snapshot.peak_rss_bytes)}")
    return " · ".join(parts)


def _print_failures(snapshot: Snapshot) -> None:
    for name, count in by_count(snapshot.failure_counts):
        out(f"  {count_text(count)} {styled(name, 'error', sys.stdout)}:")
        examples = [f for f in snapshot.failures if str(f.failure) == name][:EXAMPLES]
        for failure in examples:
            out(f"    {failure_text(failure.key, failure.message)}")
        if examples and count > len(examples):
            out(f"    … and {count_text(count - len(examples))} more")
