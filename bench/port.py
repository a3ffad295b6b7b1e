"""A running ``entrepot up`` to measure: started on loopback, asked over HTTP, ended with everything of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from .measure import kill_group
from .programs import environment, our_command
from .settings import ACCESS_KEY, SECRET_KEY, Settings

TOKEN = "bench-token-0123456789-abcdefghij"


class Port:
    """The server; ``data`` outlives it, so that it can be started again. ``ready_seconds`` is its last start."""

    def __init__(self, settings: Settings, *options: str, database_url: str = "") -> None:
        self.settings = settings
        self.data = settings.scratch / "server"
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self.port = int(probe.getsockname()[1])
        self.ready_seconds = 0.0
        self._options = [*options, *(["--database-url", database_url] if database_url else [])]
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it and wait until it is ready."""
        command = [*our_command(self.settings), "up", "--data", str(self.data), "--port", str(self.port)]
        env = environment(self.settings, "", "")
        env |= {"ENTREPOT_ADMIN_TOKEN": TOKEN, "ENTREPOT_EGRESS_ALLOW": "127.0.0.0/8", "ENTREPOT_RATE": "0"}
        began = time.monotonic()
        with open(self.settings.scratch / "up.log", "ab") as log:
            self._process = subprocess.Popen(
                [*command, *self._options], env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip
        self._wait()
        self.ready_seconds = time.monotonic() - began

    def _wait(self) -> None:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(
                    f"the server ended with {self._process.returncode}, see {self.settings.scratch}/up.log"
                )
            with suppress(OSError, http.client.HTTPException):
                if self.ask("GET", "/readyz")[0] == 200:
                    return
            time.sleep(0.02)
        raise RuntimeError(f"the server is not ready after 60 s, see {self.settings.scratch}/up.log")

    @property
    def pid(self) -> int:
        """Of its first process."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the first process is there."""
        return self._process is not None and self._process.poll() is None

    def ask(self, method: str, path: str, body: Any = None, timeout: float = 30.0) -> tuple[int, Any]:
        """(status, JSON) of one request on a connection of its own."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            return asked(connection, method, path, body)
        finally:
            connection.close()

    def session(self) -> http.client.HTTPConnection:
        """A connection for many requests."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def furnish(self, endpoint: str, volume: Path) -> None:
        """The connection ``store`` and the volume ``files``."""
        store = {"name": "store", "provider": "generic", "endpoint": endpoint, "access_key": ACCESS_KEY,
                 "secret_key": SECRET_KEY, "region": "us-east-1", "addressing": "path"}  # fmt: skip
        for path, new in (("/api/v1/connections", store), ("/api/v1/volumes", {"name": "files", "path": str(volume)})):
            status, answer = self.ask("POST", path, new)
            if status not in {200, 201}:
                raise RuntimeError(f"{path}: {status} {answer}")

    def sync(self, source: str, destination: str, **options: Any) -> str:
        """Create a sync; its task's id."""
        status, answer = self.ask(
            "POST", "/api/v1/syncs", {"source": source, "destination": destination, "options": options}
        )
        if status != 201:
            raise RuntimeError(f"/api/v1/syncs: {status} {answer}")
        return str(answer["id"])

    def task(self, task_id: str) -> dict[str, Any]:
        """One task."""
        status, answer = self.ask("GET", f"/api/v1/tasks/{task_id}")
        if status != 200:
            raise RuntimeError(f"task {task_id}: {status} {answer}")
        found: dict[str, Any] = answer
        return found

    def stop(self) -> float:
        """Ask it to end; seconds until it had."""
        if self._process is None:
            return 0.0
        began = time.monotonic()
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(30)
        took = time.monotonic() - began
        self.kill()
        return took

    def await_end(self) -> None:
        """Its first process was killed: all others must follow by themselves. Raises RuntimeError when they do not."""
        if self._process is not None:
            pid = self._process.pid
            self._process.wait(10)
            until = time.monotonic() + 10
            while _group(pid):
                if time.monotonic() > until:
                    raise RuntimeError(f"processes of the killed server live on: {_group(pid)}")
                time.sleep(0.02)
            self._process = None

    def kill(self) -> None:
        """End all of it at once."""
        if self._process is not None:
            kill_group(self._process.pid)
            self._process.wait()
            self._process = None


def asked(connection: http.client.HTTPConnection, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    """(status, JSON) of one request."""
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    reply = connection.getresponse()
    data = reply.read()
    return reply.status, json.loads(data) if data else None


def _group(group: int) -> list[int]:
    """Processes of a process group that are not merely waiting to be reaped."""
    found = []
    for name in os.listdir("/proc"):
        with suppress(OSError, ValueError, IndexError):
            state, _, of = Path(f"/proc/{int(name)}/stat").read_text().rpartition(")")[2].split()[:3]
            if int(of) == group and state not in "ZX":
                found.append(int(name))
    return found


def family(pid: int) -> list[int]:
    """A process and all below it."""
    found = [pid]
    for one in found:
        with suppress(OSError):
            for thread in os.listdir(f"/proc/{one}/task"):
                text = Path(f"/proc/{one}/task/{thread}/children").read_text()
                found.extend(int(child) for child in text.split())
    return found
