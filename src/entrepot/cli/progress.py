"""Progress while a task runs: a live block on a terminal, a line every ten seconds elsewhere, or nothing."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from .terminal import say
from .words import count_text, duration_text, entries_text, failure_text, rate_text, size_text

if TYPE_CHECKING:
    from entrepot.service.request import Snapshot

PLAIN_EVERY = 10.0
DRAW_AFTER = 0.4
DRAW_EVERY = 0.1


class Progress(Protocol):
    """Takes snapshots, shows them, and cleans up behind itself."""

    def show(self, snapshot: Snapshot) -> None:
        """The newest state of the task."""
        ...

    def close(self) -> None:
        """No more follows; what was drawn is removed."""
        ...


def progress_for(kind: str, *, quiet: bool, wanted: bool, clock: Callable[[], float] = time.monotonic) -> Progress:
    """The right display for this stderr."""
    if quiet or not wanted:
        return _Silent()
    if sys.stderr.isatty():
        import os

        if os.environ.get("TERM") != "dumb":
            return _Live(kind, clock)
    return _Plain(kind, clock)


class _Silent:
    def show(self, snapshot: Snapshot) -> None:
        pass

    def close(self) -> None:
        pass


class _Plain:
    """A line every ten seconds: for logs."""

    def __init__(self, kind: str, clock: Callable[[], float]) -> None:
        self._kind = kind
        self._clock = clock
        self._next = clock() + PLAIN_EVERY

    def show(self, snapshot: Snapshot) -> None:
        now = self._clock()
        if now >= self._next:
            self._next = now + PLAIN_EVERY
            say("entrepot: " + line_of(self._kind, snapshot))

    def close(self) -> None:
        pass


class _Live:
    """A block of lines redrawn in place. Drawing begins late: a short run does not pay for it."""

    def __init__(self, kind: str, clock: Callable[[], float]) -> None:
        self._kind = kind
        self._clock = clock
        self._next = clock() + DRAW_AFTER
        self._live: Any = None
        self._share = 0.0

    def show(self, snapshot: Snapshot) -> None:
        now = self._clock()
        if now < self._next:
            return
        self._next = now + DRAW_EVERY
        if self._live is None:
            self._live = self._start()
        self._share = max(self._share, share_done(snapshot))
        self._live.update(self._block(snapshot), refresh=True)

    def close(self) -> None:
        if self._live is not None:
            self._live.stop()
            self._live = None

    def _start(self) -> Any:
        from rich.console import Console
        from rich.live import Live

        live = Live(
            console=Console(stderr=True),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        live.start()
        return live

    def _block(self, snapshot: Snapshot) -> Any:
        from rich.console import Group
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        head = Table.grid(padding=(0, 1))
        bar = ProgressBar(total=1.0, completed=self._share, width=30, pulse=snapshot.scanning)
        percent = "" if snapshot.scanning else f"{int(self._share * 100):3d} %"
        head.add_row(Text(phase_of(self._kind, snapshot), style="bold"), bar, percent, done_text(snapshot))
        lines: list[Any] = [head, Text(speed_text(snapshot), overflow="ellipsis", no_wrap=True)]
        if snapshot.totals.failed:
            lines.append(Text(failed_text(snapshot), style="red", overflow="ellipsis", no_wrap=True))
            last = snapshot.failures[-1] if snapshot.failures else None
            if last is not None:
                text = f"last: {failure_text(last.key, last.message)}"
                lines.append(Text(text, style="dim", overflow="ellipsis", no_wrap=True))
        return Group(*lines)


def done_entries(snapshot: Snapshot) -> int:
    """Source entries that are settled, in whatever way."""
    t = snapshot.totals
    return t.copied + t.equal + t.skipped + t.failed


def done_bytes(snapshot: Snapshot) -> int:
    """Their bytes."""
    t = snapshot.totals
    return t.copied_bytes + t.equal_bytes + t.skipped_bytes + t.failed_bytes


def share_done(snapshot: Snapshot) -> float:
    """How far the run is, below 1 until it has ended; 0 while the total is unknown.

    The mean of entries and bytes: many small files and few large ones both count.
    """
    t = snapshot.totals
    if snapshot.scanning or not t.total:
        return 0.0
    by_entries = min(done_entries(snapshot) / t.total, 1.0)
    by_bytes = min(done_bytes(snapshot) / t.total_bytes, 1.0) if t.total_bytes else by_entries
    return min((by_entries + by_bytes) / 2, 0.999)


def phase_of(kind: str, snapshot: Snapshot) -> str:
    """What is going on, in one word or two."""
    verb = "Verifying" if kind == "verify" else "Copying"
    state = str(snapshot.state)
    if state == "QUEUED":
        return "In the queue" if snapshot.phase == "queue" else "Starting"
    if state == "PAUSED":
        return "Paused"
    if snapshot.scanning:
        return f"Scanning, {verb.lower()}"
    if snapshot.phase == "delete":
        return "Deleting"
    if snapshot.phase == "verify":
        return "Verifying"
    return verb if snapshot.phase else "Finishing"


def done_text(snapshot: Snapshot) -> str:
    """``12,345 of ≥ 28,900 objects · 1.2 of ≥ 2.8 GiB``: never a false total."""
    t = snapshot.totals
    known = "≥ " if snapshot.scanning else ""
    if not t.total:
        return "nothing found yet" if snapshot.scanning else "nothing to do"
    return (
        f"{count_text(done_entries(snapshot))} of {known}{entries_text(t.total)} · "
        f"{size_text(done_bytes(snapshot))} of {known}{size_text(t.total_bytes)}"
    )


def speed_text(snapshot: Snapshot) -> str:
    """Rates, time to go, and time so far."""
    parts = [rate_text(snapshot.rate_bytes), f"{count_text(round(snapshot.rate_entries))} objects/s"]
    if snapshot.eta_seconds is not None and not snapshot.scanning:
        parts.append(f"ETA {duration_text(snapshot.eta_seconds)}")
    parts.append(f"{duration_text(snapshot.seconds)} so far")
    if snapshot.scanning:
        parts.append(f"scan still running, ≥ {count_text(snapshot.totals.total)} so far")
    if snapshot.totals.deleted:
        parts.append(f"{count_text(snapshot.totals.deleted)} deleted")
    return " · ".join(parts)


def failed_text(snapshot: Snapshot) -> str:
    """``3 failed (2 forbidden, 1 timeout)``."""
    counts = ", ".join(f"{count_text(n)} {name}" for name, n in by_count(snapshot.failure_counts))
    return f"{count_text(snapshot.totals.failed)} failed" + (f" ({counts})" if counts else "")


def by_count(counts: dict[str, int]) -> list[tuple[str, int]]:
    """Largest first."""
    return sorted(((str(k), n) for k, n in counts.items() if n), key=lambda item: (-item[1], item[0]))


def line_of(kind: str, snapshot: Snapshot) -> str:
    """Everything in one line."""
    line = f"{phase_of(kind, snapshot).lower()}: {done_text(snapshot)} · {speed_text(snapshot)}"
    return line + (f" · {failed_text(snapshot)}" if snapshot.totals.failed else "")
