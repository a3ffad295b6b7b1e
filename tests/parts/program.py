"""Starts outside programs for tests: free ports, readiness, logs, and an end by process id."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence

import pytest

REQUIRED = os.environ.get("ENTREPOT_REQUIRE_PARTS", "") not in ("", "0")
CACHE = os.environ.get("ENTREPOT_TEST_CACHE") or os.path.join(
    os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "entrepot-tests"
)


def missing(part: str, why: str) -> None:
    """Skip the test that needs ``part``; fail it where all parts are required (ENTREPOT_REQUIRE_PARTS=1)."""
    if REQUIRED:
        pytest.fail(f"{part} is required: {why}")
    pytest.skip(f"{part} is missing: {why}")


def find_program(name: str) -> str:
    """The path of a program: beside this Python, else in PATH; empty when there is none."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    return beside if os.path.exists(beside) else shutil.which(name) or ""


def need_program(name: str, how: str) -> str:
    """Like :func:`find_program`; ``how`` tells where to get it."""
    found = find_program(name)
    if not found:
        missing(name, how)
    return found


def free_ports(count: int) -> list[int]:
    """Ports that were free a moment ago, all different."""
    socks = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [int(s.getsockname()[1]) for s in socks]
    for s in socks:
        s.close()
    return ports


class Program:
    """One running program with its log file."""

    def __init__(
        self,
        command: Sequence[str],
        log: str,
        *,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        grace: float = 2.0,
    ) -> None:
        self.log = log
        self.grace = grace
        tied = shutil.which("setpriv")  # ends the program even when this process is killed
        start = [tied, "--pdeathsig", "KILL", "--"] if tied else []
        with open(log, "ab") as out:
            self.process = subprocess.Popen(
                [*start, *command],
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                env=dict(env) if env is not None else None,
                cwd=cwd,
                start_new_session=True,
            )

    @property
    def alive(self) -> bool:
        return self.process.poll() is None

    def wait_until(self, ready: Callable[[], bool], seconds: float, what: str) -> None:
        """Poll ``ready`` (OSError: not yet); RuntimeError with the log's end when it takes too long."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if not self.alive:
                raise RuntimeError(f"{what} ended with {self.process.returncode}: {self.tail()}")
            try:
                if ready():
                    return
            except OSError:
                pass
            time.sleep(0.05)
        self.stop()
        raise RuntimeError(f"{what} was not ready after {seconds} s: {self.tail()}")

    def wait_for_port(self, port: int, seconds: float, what: str) -> None:
        """Wait until something listens on the loopback port."""
        self.wait_until(lambda: answers(port), seconds, what)

    def tail(self, size: int = 2000) -> str:
        """The end of the log."""
        with open(self.log, errors="replace") as f:
            return f.read()[-size:]

    def stop(self) -> None:
        """Ask it to end, then make it end; its whole process group, by id."""
        for sig in (signal.SIGTERM, signal.SIGKILL):
            if not self.alive:
                break
            try:
                os.killpg(self.process.pid, sig)
            except ProcessLookupError:
                break
            try:
                self.process.wait(self.grace)
            except subprocess.TimeoutExpired:
                continue
        self.process.wait()


def answers(port: int) -> bool:
    """Whether something listens on the loopback port."""
    socket.create_connection(("127.0.0.1", port), 1).close()
    return True
