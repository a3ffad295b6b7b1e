"""A machine that lends its cores to a server: ask for a task, run its ranges in a process per core, ask again."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from entrepot.ledger.ids import new_id
from entrepot.ledger.pipe import PipeClosed
from entrepot.model.connection import Connection
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret
from entrepot.model.shard import LedgerPort
from entrepot.model.task import TaskSpec
from entrepot.work.environment import WorkEnvironment
from entrepot.work.session import Session

from . import process
from .http_port import HttpPort, Link

ASK_WAIT = 5.0
"""Seconds that a call for a task waits on the server."""
BEAT = 5.0
"""Seconds between signs of life while a task is being worked on."""

SessionMaker = Callable[[TaskSpec, LedgerPort, WorkEnvironment], Session]
SECRETS = ("secret_key", "session_token", "sas")


@dataclass(slots=True, frozen=True)
class Assignment:
    """One task as the server hands it out; ``token`` is good for this task only."""

    task_id: str
    token: Secret
    spec: TaskSpec
    processes: int
    connections: dict[str, Connection] = field(default_factory=dict)


def assignment_in(value: Mapping[str, Any]) -> Assignment:
    """From the server's JSON. Raises UsageError when it does not have the form."""
    try:
        spec = TaskSpec(value["kind"], value["source"], value["destination"], value["options"])
        connections = {name: connection_in(each) for name, each in value["connections"].items()}
        return Assignment(value["task_id"], Secret(value["token"]), spec, int(value["processes"]), connections)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UsageError(
            f"the server's assignment is not understood ({type(error).__name__})",
            hint="use the same version of Entrepot on both machines",
        ) from error


def connection_in(value: Mapping[str, Any]) -> Connection:
    """A connection with its secrets, as a server opens it for a runner."""
    parts: dict[str, Any] = {name: Secret(part) if name in SECRETS else part for name, part in value.items()}
    return Connection(**parts)


def connection_out(connection: Connection) -> dict[str, Any]:
    """The reverse of :func:`connection_in`: secrets in the open, for the wire only."""
    names = Connection.__dataclass_fields__
    parts = {name: getattr(connection, name) for name in names}
    return {name: part.reveal() if isinstance(part, Secret) else part for name, part in parts.items()}


class Node:
    """This machine as a helper of one server. ``volumes`` maps the volumes it can reach to its own directories."""

    def __init__(
        self,
        link: Callable[[Secret | None], Link],
        open_session: SessionMaker,
        *,
        processes: int = 0,
        name: str = "",
        volumes: Mapping[str, str] | None = None,
        say: Callable[[str], None] = lambda _text: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make_link = link
        self._open_session = open_session
        self._processes = processes or len(os.sched_getaffinity(0))
        self._name = name or socket.gethostname()
        self._volumes = dict(volumes or {})
        self._say = say
        self._clock = clock
        self._id = new_id()
        self._link = link(None)
        self._children: set[int] = set()
        self.leaving = False

    def run(self, rounds: int = 0) -> int:
        """Work until told to leave (``leaving``), or for so many tasks; how many it worked on.

        Raises PipeClosed when the server is gone for good, AuthenticationError and AccessError for a wrong token.
        """
        done = 0
        self._say(f"offering {self._processes} processes as {self._name}")
        while not self.leaving and (not rounds or done < rounds):
            given = self._ask()
            if given is None:
                continue
            self._say(f"task {given.task_id}: helping")
            self._work(given)
            self._say(f"task {given.task_id}: nothing left to do here")
            done += 1
        self._link.call(f"/api/v1/runners/{self._id}:leave", {})
        return done

    def _ask(self) -> Assignment | None:
        about = {
            "name": self._name,
            "processes": self._processes,
            "volumes": sorted(self._volumes),
            "wait": ASK_WAIT,
        }
        answer = self._link.call(f"/api/v1/runners/{self._id}:ask", about)
        return None if answer is None else assignment_in(answer)

    def _work(self, given: Assignment) -> None:
        state_dir = tempfile.mkdtemp(prefix="entrepot-runner-")
        try:
            for _ in range(self._processes):
                self._fork(given, state_dir)
            self._wait(given.task_id)
        finally:
            for pid in list(self._children):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
                self._children.discard(pid)
            shutil.rmtree(state_dir, ignore_errors=True)

    def _fork(self, given: Assignment, state_dir: str) -> None:
        # The child must not share the parent's connection.
        self._link.close()
        pid = os.fork()
        if pid:
            self._children.add(pid)
            return
        status = 1
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            status = self._be_runner(given, state_dir)
        finally:
            os._exit(status)

    def _wait(self, task_id: str) -> None:
        beat_at = self._clock() + BEAT
        asked = False
        while self._children:
            pid, _ = os.waitpid(-1, os.WNOHANG)
            if pid:
                self._children.discard(pid)
                continue
            if self.leaving and not asked:
                asked = True
                for child in self._children:
                    os.kill(child, signal.SIGTERM)
            if self._clock() >= beat_at:
                beat_at = self._clock() + BEAT
                self._link.call(f"/api/v1/runners/{self._id}:beat", {"task_id": task_id})
            time.sleep(0.05)

    def _be_runner(self, given: Assignment, state_dir: str) -> int:
        runner_id = new_id()
        own = os.path.join(state_dir, runner_id)
        leaving = _Leaving()
        signal.signal(signal.SIGTERM, leaving.note)
        port = HttpPort(
            self._make_link(given.token),
            given.task_id,
            runner_id,
            segments=os.path.join(own, "segments", given.task_id),
            leaving=lambda: leaving.now,
        )
        surroundings = WorkEnvironment(
            task_id=given.task_id,
            runner_id=runner_id,
            state_dir=own,
            processes=given.processes,
            connection=given.connections.get,
            volume=self._volumes.get,
        )
        parent = os.getppid()
        try:
            last = process.work(
                port,
                lambda: self._open_session(given.spec, port, surroundings),
                alive=lambda: os.getppid() == parent,
            )
            port.farewell(last.outcome, last.error.message if last.error else last.text)
        except PipeClosed:
            return 1
        return 0


class _Leaving:
    """Whether this process was asked to end."""

    def __init__(self) -> None:
        self.now = False

    def note(self, _number: int, _frame: object) -> None:
        self.now = True


def read_volumes(texts: list[str]) -> dict[str, str]:
    """``NAME=DIRECTORY`` pairs. Raises UsageError."""
    found: dict[str, str] = {}
    for text in texts:
        name, equals, path = text.partition("=")
        if not equals or not name or not os.path.isabs(path):
            raise UsageError(f"--volume {text}: not NAME=/DIRECTORY")
        if not os.path.isdir(path):
            raise UsageError(f"--volume {text}: there is no directory {path}")
        found[name] = path
    return found
