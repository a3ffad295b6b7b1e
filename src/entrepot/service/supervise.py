"""The parent of a server's processes: forks them, begins them anew when they die, ends them in order.

It stays small and opens nothing itself (no database, no threads), so that a child can be forked from it at any time.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import FrameType

from entrepot.fleet.local import die_with_parent
from entrepot.model.errors import EntrepotError

FIRST_PAUSE, LONGEST_PAUSE = 0.1, 10.0
CALM_SECONDS = 20.0
"""A part that lived so long did not die of how it began."""
STOP_SECONDS = 40.0


@dataclass(slots=True, frozen=True)
class Part:
    """One process of the server. ``main`` runs in it; what it answers is the exit code."""

    name: str
    main: Callable[[], int]
    patient: bool = False
    """Has work to bring to a good end when it is asked to stop; the others need not be waited for long."""


@dataclass(slots=True)
class _Life:
    part: Part
    pid: int = 0
    begun: float = 0.0
    deaths: int = 0
    again_at: float = 0.0


class Supervisor:
    """Runs parts until it is told to stop."""

    def __init__(
        self, parts: Sequence[Part], *, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._lives = [_Life(part) for part in parts]
        self._say = say
        self._clock = clock
        self._signals = 0
        self._wake, self._woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def listen(self) -> None:
        """From here on signals are for the supervisor: call it before the first part begins."""
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
                signal.signal(number, self._note)
        signal.signal(signal.SIGCHLD, _nothing)
        signal.set_wakeup_fd(self._woken, warn_on_full_buffer=False)

    @property
    def stopping(self) -> bool:
        """Somebody asked for the end."""
        return self._signals > 0

    @property
    def pids(self) -> dict[str, int]:
        """Process ids of the parts that run."""
        return {life.part.name: life.pid for life in self._lives if life.pid}

    def begin(self, *names: str) -> None:
        """Fork these parts (all without names)."""
        for life in self._lives:
            if not life.pid and (not names or life.part.name in names):
                self._fork(life)

    def run(self) -> int:
        """Keep the parts alive until a signal; then end them. Answers the exit code."""
        while not self.stopping:
            now = self._clock()
            waits = [life.again_at - now for life in self._lives if not life.pid]
            self.rest(max(0.0, min([1.0, *waits])))
        return self._end()

    def rest(self, seconds: float) -> None:
        """Let some time pass, or until something happened; parts that died are begun anew."""
        self._reap()
        for life in self._lives:
            if not life.pid and life.again_at <= self._clock() and not self.stopping:
                self._fork(life)
        self._sleep(seconds)

    def failing(self, deaths: int) -> bool:
        """Whether a part died so often, one time after the other."""
        return any(life.deaths >= deaths for life in self._lives)

    def abandon(self) -> None:
        """End what began, without a good end."""
        self._signals += 1
        self._tell(signal.SIGKILL)
        self._end()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._signals += 1

    def _sleep(self, seconds: float) -> None:
        import select

        if select.select([self._wake], [], [], seconds)[0]:
            with contextlib.suppress(BlockingIOError):
                while os.read(self._wake, 4096):
                    pass

    def _fork(self, life: _Life) -> None:
        parent = os.getpid()
        sys.stdout.flush()
        sys.stderr.flush()
        pid = os.fork()
        if pid == 0:
            self._be_child(parent, life.part)
        life.pid, life.begun = pid, self._clock()

    def _be_child(self, parent: int, part: Part) -> None:
        status = 1
        try:
            signal.set_wakeup_fd(-1)
            for number in (signal.SIGTERM, signal.SIGCHLD):
                signal.signal(number, signal.SIG_DFL)
            for number in (signal.SIGINT, signal.SIGHUP):
                signal.signal(number, signal.SIG_IGN)
            # Ctrl-C is for the supervisor, which ends everything in order.
            os.setpgid(0, 0)
            die_with_parent(parent)
            os.close(self._wake)
            os.close(self._woken)
            status = part.main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except EntrepotError as error:
            self._say(f"{part.name}: {error.message}")
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            with contextlib.suppress(Exception):
                sys.stdout.flush()
                sys.stderr.flush()
            os._exit(status)

    def _reap(self) -> None:
        for life in self._lives:
            if not life.pid:
                continue
            done, status = os.waitpid(life.pid, os.WNOHANG)
            if done:
                self._bury(life, os.waitstatus_to_exitcode(status))

    def _bury(self, life: _Life, status: int) -> None:
        now = self._clock()
        life.pid = 0
        life.deaths = 1 if now - life.begun > CALM_SECONDS else life.deaths + 1
        life.again_at = now + min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** (life.deaths - 1)) - FIRST_PAUSE
        if not self.stopping:
            how = f"was killed by signal {-status}" if status < 0 else f"ended with code {status}"
            self._say(f"the process {life.part.name} {how}: it is begun anew")

    def _end(self) -> int:
        """Ask everyone to end; a second signal is passed on, who does not listen is killed in the end."""
        told = 0
        until = self._clock() + STOP_SECONDS
        while any(life.pid for life in self._lives):
            if told < self._signals:
                told = self._signals
                self._tell(signal.SIGTERM)
            self._reap()
            if not any(life.pid for life in self._lives if life.part.patient):
                until = min(until, self._clock() + 8.0)
            if self._clock() > until:
                self._tell(signal.SIGKILL)
            if any(life.pid for life in self._lives):
                self._sleep(0.2)
        return 0

    def _tell(self, number: int) -> None:
        for life in self._lives:
            if life.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(life.pid, number)


def _nothing(_number: int, _frame: FrameType | None) -> None:
    return
