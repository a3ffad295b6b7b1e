"""Run one command: wall time, processor time of its whole tree, largest memory of one process."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any


@dataclass
class Run:
    """One measured run."""

    case: str
    tool: str
    run: int
    objects: int = 0
    bytes: int = 0
    wall: float = 0.0
    cpu: float = 0.0
    server_cpu: float = 0.0
    rss_mib: float = 0.0
    """Peak of the largest single process."""
    ok: bool = False
    why: str = ""
    requests: dict[str, int] = field(default_factory=dict)
    extra: dict[str, float] = field(default_factory=dict)
    """Figures of this case alone, by the name that its bars use."""


@dataclass
class Outcome:
    """What a command did."""

    code: int
    started: float
    """CLOCK_MONOTONIC, just before it was started."""
    wall: float
    cpu: float
    rss_mib: float
    output: str


def kill_group(pid: int) -> None:
    """End everything in the process group that we started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def execute(command: list[str], env: dict[str, str], log: Path, timeout: float, *, keep_stdout: bool = True) -> Outcome:
    """Run a command to its end or its timeout. ``keep_stdout`` False sends listings to nowhere."""
    with open(log, "wb") as file:
        started = time.monotonic()
        process = subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=file if keep_stdout else subprocess.DEVNULL,
            stderr=file,
            start_new_session=True,
        )
        timer = threading.Timer(timeout, kill_group, (process.pid,))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.monotonic() - started
        except BaseException:
            kill_group(process.pid)
            process.wait()
            raise
        finally:
            timer.cancel()
    process.returncode = os.waitstatus_to_exitcode(status)
    kill_group(process.pid)
    return Outcome(
        process.returncode,
        started,
        wall,
        usage.ru_utime + usage.ru_stime,
        usage.ru_maxrss / 1024,
        log.read_text(errors="replace"),
    )


def as_row(run: Run) -> dict[str, Any]:
    """For JSON."""
    return dict(vars(run))
