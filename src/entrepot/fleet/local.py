"""Runners as forked child processes of this one, a process per core."""

from __future__ import annotations

import os
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass

from entrepot.model.errors import InternalError

from .launcher import Ended

_PR_SET_PDEATHSIG = 1
_IGNORED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals to the whole process group are for the parent; runners get orders instead."""


@dataclass(slots=True)
class _Child:
    pid: int
    pipe: socket.socket


class LocalFleet:
    """A launcher of child processes. ``main`` runs in the child with its end of a socket pair.

    Launch before importing much and before starting threads: a fork copies what there is.
    ``joined`` gets (runner id, parent's end) of each new runner and owns that end from then on.
    """

    def __init__(self, main: Callable[[socket.socket], int], joined: Callable[[str, socket.socket], None]) -> None:
        self._main = main
        self._joined = joined
        self._children: dict[str, _Child] = {}
        self._ended: dict[str, int] = {}

    def capacity(self) -> int:
        """Cores that this process may use."""
        return len(os.sched_getaffinity(0))

    def launch(self, runner_id: str, main: Callable[[socket.socket], int] | None = None) -> None:
        """Fork one runner; it runs ``main`` instead of the usual one when given."""
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        try:
            pid = os.fork()
        except OSError as error:
            ours.close()
            theirs.close()
            raise InternalError(f"no process could be started: {error.strerror}", hint="lower --processes") from error
        if pid == 0:
            self._be_child(parent, ours, theirs, main or self._main)
        theirs.close()
        self._children[runner_id] = _Child(pid, ours)
        self._joined(runner_id, ours)

    def _be_child(
        self, parent: int, ours: socket.socket, theirs: socket.socket, main: Callable[[socket.socket], int]
    ) -> None:
        status = 1
        try:
            for number in _IGNORED:
                signal.signal(number, signal.SIG_IGN)
            signal.set_wakeup_fd(-1)
            die_with_parent(parent)
            # An open copy of another runner's pipe would hide the parent's death from that runner.
            ours.close()
            for other in self._children.values():
                other.pipe.close()
            status = main(theirs)
        finally:
            # No clean-up of what was inherited: it belongs to the parent.
            os._exit(status)

    def observe(self) -> list[Ended]:
        """Reap children that ended."""
        ended = []
        for runner_id, child in list(self._children.items()):
            pid, status = os.waitpid(child.pid, os.WNOHANG)
            if pid:
                del self._children[runner_id]
                code = os.waitstatus_to_exitcode(status)
                self._ended[runner_id] = code
                ended.append(Ended(runner_id, code))
        return ended

    def stop(self, runner_id: str, *, force: bool = False) -> None:
        """Close the pipe, which a runner takes as the end; ``force`` kills."""
        child = self._children.get(runner_id)
        if child is None:
            return
        if force:
            os.kill(child.pid, signal.SIGKILL)
        else:
            child.pipe.close()

    def logs(self, runner_id: str) -> str:
        """How a runner ended."""
        status = self._ended.get(runner_id)
        if status is None:
            return ""
        return f"killed by signal {-status}" if status < 0 else f"exit code {status}"

    @property
    def pids(self) -> dict[str, int]:
        """Process ids by runner id."""
        return {runner_id: child.pid for runner_id, child in self._children.items()}

    def end(self, patience: float = 1.0) -> None:
        """Wait a moment for runners whose pipes are closed, then kill the others; leaves no child behind."""
        until = time.monotonic() + patience
        pause = 0.001
        while self._children and time.monotonic() < until:
            self.observe()
            if self._children:
                time.sleep(pause)
                pause = min(pause * 2, 0.02)
        for runner_id, child in list(self._children.items()):
            os.kill(child.pid, signal.SIGKILL)
            _, status = os.waitpid(child.pid, 0)
            self._ended[runner_id] = os.waitstatus_to_exitcode(status)
            del self._children[runner_id]


def die_with_parent(parent: int) -> None:
    """Have the kernel end this process when its parent dies, whatever it is doing then."""
    try:
        import ctypes

        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    except (ImportError, OSError, AttributeError):
        pass
    if os.getppid() != parent:
        os._exit(1)
