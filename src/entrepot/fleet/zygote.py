"""A small warm process that forks others: forked first, with the code loaded and no threads, no database, no HTTP.

It is asked over a socket of datagrams, one for each process to start; what the process shall do travels in a memory
file that comes with the datagram, so that no length limits it and nothing of it stands in arguments. The other end
is told of every process that ended. Both ends are made by a process that outlives them: a zygote that died is
replaced by another one at the same socket.
"""

from __future__ import annotations

import json
import os
import select
import signal
import socket
from collections.abc import Callable
from dataclasses import dataclass
from types import FrameType

from .local import die_with_parent

MESSAGE = 4096


@dataclass(slots=True, frozen=True)
class Gone:
    """A process that ended. ``status`` is its exit code, or the negative signal number.

    Without a name: a zygote has begun, so every process of an earlier one is gone.
    """

    name: str
    pid: int
    status: int


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """(the asking end, the zygote's end)."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Asking:
    """The end that asks for processes; never waits."""

    def __init__(self, end: socket.socket) -> None:
        self._end = end
        end.setblocking(False)

    def fileno(self) -> int:
        """Readable when a process ended."""
        return self._end.fileno()

    def start(self, name: str, work: bytes) -> bool:
        """Ask for a process that does ``work``. False when the zygote does not listen now: try again later."""
        memory = os.memfd_create("work", os.MFD_CLOEXEC)
        try:
            view = memoryview(work)
            while view:
                view = view[os.write(memory, view) :]
            socket.send_fds(self._end, [name.encode()], [memory])
        except (BlockingIOError, ConnectionError):
            return False
        finally:
            os.close(memory)
        return True

    def gone(self) -> list[Gone]:
        """The processes that ended since the last call."""
        found: list[Gone] = []
        while True:
            try:
                raw = self._end.recv(MESSAGE)
            except (BlockingIOError, ConnectionError):
                return found
            if not raw:
                return found
            found.append(Gone(*json.loads(raw)))


class Zygote:
    """The process itself. ``main`` runs in each child with its work; what it answers is the exit code."""

    def __init__(self, end: socket.socket, main: Callable[[bytes], int]) -> None:
        self._end = end
        self._main = main
        self._children: dict[int, str] = {}
        self._stopping = False
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def run(self) -> int:
        """Serve until SIGTERM, which the children get as well; leave when the last of them has."""
        signal.signal(signal.SIGCHLD, _note)
        signal.signal(signal.SIGTERM, self._stop)
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)
        self._end.setblocking(False)
        self._tell("", os.getpid(), 0)
        while not self._stopping or self._children:
            watched = [self._wake] if self._stopping else [self._wake, self._end.fileno()]
            ready, _, _ = select.select(watched, [], [], 1.0)
            if self._wake in ready:
                _empty(self._wake)
            self._reap()
            if not self._stopping:
                self._serve()
        return 0

    def _stop(self, _number: int, _frame: FrameType | None) -> None:
        self._stopping = True
        for pid in list(self._children):
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                pass

    def _serve(self) -> None:
        while not self._stopping:
            try:
                raw, files, _, _ = socket.recv_fds(self._end, MESSAGE, 1)
            except (BlockingIOError, ConnectionError):
                return
            if not raw or not files:
                return
            with os.fdopen(files[0], "rb") as file:
                file.seek(0)
                work = file.read()
            self._fork(raw.decode(), work)

    def _fork(self, name: str, work: bytes) -> None:
        parent = os.getpid()
        # A signal to end that comes between the fork and the note of the child must reach the child.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        try:
            pid = os.fork()
            if pid == 0:
                self._be_child(parent, work)
            self._children[pid] = name
        except OSError:
            self._tell(name, 0, 1)
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})

    def _be_child(self, parent: int, work: bytes) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGTERM})
            die_with_parent(parent)
            self._end.close()
            os.close(self._wake)
            os.close(self._woken)
            status = self._main(work)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(status)

    def _reap(self) -> None:
        for pid, name in list(self._children.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self._children[pid]
                self._tell(name, pid, os.waitstatus_to_exitcode(status))

    def _tell(self, name: str, pid: int, status: int) -> None:
        try:
            self._end.send(json.dumps([name, pid, status]).encode())
        except (BlockingIOError, ConnectionError):
            pass  # nobody listens: the ledger tells as well


def _note(_number: int, _frame: FrameType | None) -> None:
    return


def _empty(descriptor: int) -> None:
    try:
        while os.read(descriptor, 4096):
            pass
    except BlockingIOError:
        pass
