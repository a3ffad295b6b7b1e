"""Runs the program as a person does: in a process of its own, with a private state directory.

::

    done = cli("sync", "/src", "s3://dst", server=fake)       # server: anything with env()
    assert done.code == 0, done.text
    assert done.report["copied"]["entries"] == 3              # the last JSON object of stdout

    with cli.start("sync", "/src", "s3://dst", server=fake) as run:   # a run to interrupt
        run.kill_when(lambda: fake.count("PART") >= 5)                # SIGKILL at a chosen moment
    done = cli("sync", "/src", "s3://dst", server=fake)               # goes on where it was

``--json`` is added to ``sync`` and ``verify`` unless ``json=False``. The environment holds nothing of the
caller's but PATH, TMPDIR, the language, and what Python and coverage need; HOME is an empty directory.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Protocol

KEPT = ("PATH", "TMPDIR", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "COVERAGE_PROCESS_START", "VIRTUAL_ENV")
WITH_REPORT = frozenset({"sync", "verify"})
SOURCE = os.path.join(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))), "src")


class HasEnv(Protocol):
    """A server that tells clients their environment."""

    def env(self) -> dict[str, str]: ...


@dataclass
class Result:
    """What a finished run left."""

    code: int
    out: str
    err: str
    seconds: float
    report: dict[str, Any] = field(default_factory=dict)
    """The last JSON object on stdout; empty when there was none."""

    @property
    def text(self) -> str:
        """All that a failed assertion should show."""
        return f"exit {self.code} after {self.seconds:.1f} s\n--- stdout\n{self.out}\n--- stderr\n{self.err}"


class Run:
    """A run in progress; leaving the ``with`` block kills it if it still lives."""

    def __init__(self, command: list[str], env: dict[str, str], cwd: str | None, limit: float) -> None:
        self.limit = limit
        self.started = time.monotonic()
        self.process = subprocess.Popen(
            command,
            env=env,
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )

    def __enter__(self) -> Run:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.kill()

    def send(self, number: int = signal.SIGINT) -> None:
        """Send a signal to the main process alone."""
        self.process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL to the whole group (the program's own processes too), and read what is left."""
        if self.process.returncode is None:
            try:
                os.killpg(self.process.pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
            self.process.communicate()

    def wait(self) -> Result:
        """Wait for the end; a run over its limit is killed and AssertionError raised."""
        try:
            out, err = self.process.communicate(timeout=self.limit)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            out, err = self.process.communicate()
            told = (out + b"\n" + err).decode(errors="replace")
            raise AssertionError(f"still running after {self.limit} s\n{told}") from None
        text = out.decode("utf-8", "surrogateescape")
        seconds = time.monotonic() - self.started
        errors = err.decode("utf-8", "surrogateescape")
        return Result(self.process.returncode, text, errors, seconds, last_object(text))

    def kill_when(self, reached: Callable[[], bool], *, number: int = signal.SIGKILL) -> bool:
        """Kill (or signal) as soon as ``reached()``; False when the run ended before."""
        end = time.monotonic() + self.limit
        while self.process.poll() is None:
            if reached():
                if number == signal.SIGKILL:
                    self.kill()
                else:
                    self.send(number)
                return True
            if time.monotonic() > end:
                self.kill()
                raise AssertionError(f"the moment to kill was not reached within {self.limit} s")
            time.sleep(0.002)
        return False

    def kill_after(self, seconds: float) -> bool:
        """SIGKILL after a time; False when the run ended before."""
        moment = time.monotonic() + seconds
        return self.kill_when(lambda: time.monotonic() >= moment)


class Cli:
    """The program, with its own state directory and home."""

    def __init__(self, state: str) -> None:
        self.state = state
        self.home = state + "-home"
        os.makedirs(self.home, exist_ok=True)

    def env(self, server: HasEnv | None = None, extra: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment of a run."""
        found = {name: os.environ[name] for name in KEPT if name in os.environ}
        found |= {"HOME": self.home, "ENTREPOT_STATE_DIR": self.state, "PYTHONPATH": SOURCE, "NO_COLOR": "1"}
        found |= {"PYTHONUNBUFFERED": "1"}
        found |= server.env() if server is not None else {}
        return found | dict(extra or {})

    def start(
        self,
        *arguments: str | bytes | os.PathLike[str],
        server: HasEnv | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
        json: bool = True,
    ) -> Run:
        """Start a run."""
        words = [os.fsdecode(a) for a in arguments]
        if json and words and words[0] in WITH_REPORT and "--json" not in words:
            words.append("--json")
        return Run([sys.executable, "-m", "entrepot", *words], self.env(server, env), cwd, timeout)

    def __call__(
        self,
        *arguments: str | bytes | os.PathLike[str],
        server: HasEnv | None = None,
        env: Mapping[str, str] | None = None,
        cwd: str | None = None,
        timeout: float = 60.0,
        json: bool = True,
    ) -> Result:
        """Run to the end."""
        with self.start(*arguments, server=server, env=env, cwd=cwd, timeout=timeout, json=json) as run:
            return run.wait()


def last_object(text: str) -> dict[str, Any]:
    """The last JSON object that begins at the start of a line; an empty dict when there is none."""
    decoder = json.JSONDecoder()
    for found in reversed(list(re.finditer(r"^\{", text, re.MULTILINE))):
        try:
            value, _ = decoder.raw_decode(text, found.start())
        except ValueError:
            continue
        if isinstance(value, dict):
            return value
    return {}
