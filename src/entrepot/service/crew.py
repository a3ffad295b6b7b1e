"""The runners of a run: forked at once, while this process is small, and waiting for their task."""

from __future__ import annotations

import functools
import socket
import sys
import time
from collections.abc import Callable

from entrepot.fleet.local import LocalFleet
from entrepot.ledger.ids import new_id
from entrepot.ledger.pipe import Assignment, Bell, PipePort, Scouted
from entrepot.ledger.pipe_server import PipeServer
from entrepot.model.errors import InternalError
from entrepot.model.task import TaskSpec
from entrepot.runner import process
from entrepot.work.environment import WorkEnvironment
from entrepot.work.session import Session

from .request import TaskRequest
from .trade import Trade

SCOUT_SERVE = 1.0


class ScoutLost(InternalError):
    """The process that looked at the places died: nothing is known of them."""


def _nothing() -> None:
    return


class Crew:
    """The processes of one run and the pipes to them. The first runner is the scout: it does the checks."""

    def __init__(self, request: TaskRequest, spec: TaskSpec, state_dir: str, trade: Trade, *, size: int) -> None:
        self.request = request
        self.spec = spec
        self.state_dir = state_dir
        self.trade = trade
        self.size = size
        self.began = time.monotonic()
        self.server = PipeServer(Bell())
        self.fleet = LocalFleet(functools.partial(self._be_runner, scouts=False), self.server.add)
        if trade.prepare is not None:
            trade.prepare(spec, self.environment())
        sys.stdout.flush()
        self._launch_scout()
        for _ in range(size - 1):
            self.launch()

    def _launch_scout(self) -> None:
        self.fleet.launch(new_id(), functools.partial(self._be_runner, scouts=True))

    def launch(self) -> str:
        """One more runner."""
        runner_id = new_id()
        self.fleet.launch(runner_id)
        return runner_id

    def scouted(self, meanwhile: Callable[[], None] = _nothing) -> Scouted:
        """Wait for what the first runner found. Raises what the checks raised.

        ``meanwhile`` is called about once a second, and may raise to give up.
        """
        while self.server.scouted is None:
            self.server.serve(SCOUT_SERVE)
            if self.server.scouted is None and self.server.gone:
                raise ScoutLost("a runner died while it looked at the places", hint="run again")
            meanwhile()
        if self.server.scouted.error is not None:
            raise self.server.scouted.error
        return self.server.scouted

    def _be_runner(self, pipe: socket.socket, *, scouts: bool) -> int:
        trade = self.trade

        def open_session(given: Assignment, port: PipePort) -> Session:
            return trade.open_session(given.spec, port, self.environment(given.task_id, given.runner_id))

        def scout() -> Scouted:
            here = self.environment()
            return Scouted(trade.preflight(self.spec, here), trade.plan(self.spec, self.size, here))

        return process.live(pipe, self.server.bell, open_session, scout if scouts else None)

    def environment(self, task_id: str = "", runner_id: str = "") -> WorkEnvironment:
        """The surroundings of a session, or (without ids) of the checks before it."""
        return WorkEnvironment(
            task_id=task_id,
            runner_id=runner_id,
            state_dir=self.state_dir,
            processes=self.size,
            connection=self.request.connections,
            volume=self.request.volumes,
        )

    def dismiss(self) -> None:
        """Leave no process behind."""
        self.server.close()
        self.fleet.end()
