"""Who drives a task: naming this process, and judging whether another one still lives."""

from __future__ import annotations

import os
import socket

from entrepot.ledger.tasks import ACTIVE, Owner, Task

SILENCE = 30.0
"""Seconds without a sign after which an owner that cannot be looked at counts as dead."""


def this_process() -> Owner:
    """The owner that this process is."""
    pid = os.getpid()
    return Owner(_host(), _first_line("/proc/sys/kernel/random/boot_id"), pid, _start_time(pid))


def is_alive(task: Task) -> bool:
    """Whether the process that drives a task still exists.

    On this host the process table tells. An owner on another host (or in another container) is judged by its
    signs of life.
    """
    owner = task.owner
    if not owner.pid:
        return False
    if owner.host == _host():
        if owner.boot != _first_line("/proc/sys/kernel/random/boot_id"):
            return False
        start = _start_time(owner.pid)
        if start or os.path.exists("/proc/self/stat"):
            return bool(start) and start == owner.start
    return task.owner_age is not None and task.owner_age < SILENCE


def is_running(task: Task) -> bool:
    """Whether a live process drives the task now."""
    return task.state in ACTIVE and is_alive(task)


def _host() -> str:
    """Host name with the process space: pids mean something only inside it."""
    try:
        space = os.readlink("/proc/self/ns/pid")
    except OSError:
        space = ""
    return f"{socket.gethostname()} {space}".strip()


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as file:
            return file.readline().strip()
    except OSError:
        return ""


def _start_time(pid: int) -> str:
    """Start time of a process in ticks since boot; empty when it is gone (or only waits to be reaped)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            after_name = file.read().rpartition(b")")[2].split()
    except OSError:
        return ""
    return "" if after_name[0] in {b"Z", b"X"} else after_name[19].decode()


def holder_name(owner: Owner) -> str:
    """An owner as one text, for leases."""
    return "|".join((owner.host, owner.boot, str(owner.pid), owner.start))


def is_gone(holder: str) -> bool:
    """Whether the process that a lease names has ended for sure: only one on this host can be judged."""
    host, _, rest = holder.partition("|")
    boot, _, rest = rest.partition("|")
    pid, _, start = rest.partition("|")
    if host != _host() or not pid.isdigit() or not os.path.exists("/proc/self/stat"):
        return False
    return boot != _first_line("/proc/sys/kernel/random/boot_id") or _start_time(int(pid)) != start
