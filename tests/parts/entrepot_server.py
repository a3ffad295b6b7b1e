"""A whole ``entrepot up`` as a test part: its own data directory, loopback allowed, asked over HTTP."""

from __future__ import annotations

import http.client
import json
import os
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from parts.cli import SOURCE
from parts.program import Program

TOKEN = "test-admin-token-0123456789-abcdef"
ENDED = {"SUCCEEDED", "FAILED", "CANCELLED", "REJECTED"}


class EntrepotServer:
    """A server process tree. ``stop`` and ``start`` as often as you like; ``data`` stays."""

    def __init__(self, folder: Path, *options: str, env: Mapping[str, str] | None = None) -> None:
        self.folder = folder
        self.data = folder / "server"
        self.url = ""
        self._options = options
        self._env = dict(env or {})
        self.program: Program | None = None

    def start(self) -> EntrepotServer:
        """Start it and wait until it says that it is ready."""
        log = self.folder / f"up-{time.monotonic_ns()}.log"
        env = {name: value for name, value in os.environ.items() if not name.startswith(("ENTREPOT_", "AWS_"))}
        env |= {
            "PYTHONPATH": SOURCE,
            "ENTREPOT_ADMIN_TOKEN": TOKEN,
            "ENTREPOT_EGRESS_ALLOW": "127.0.0.0/8",
            "ENTREPOT_RATE": "0",
        }
        command = [sys.executable, "-m", "entrepot", "up", "--data", str(self.data), "--port", "0", "--json"]
        self.program = program = Program([*command, *self._options], str(log), env=env | self._env, grace=20.0)

        def ready() -> bool:
            for line in log.read_text(errors="replace").splitlines():
                if line.startswith("{") and '"url"' in line:
                    self.url = json.loads(line)["url"]
                    return True
            return False

        program.wait_until(ready, 60, "entrepot up")
        return self

    def stop(self) -> None:
        """Let it drain and end."""
        if self.program is not None:
            self.program.stop()
            self.program = None

    def ask(self, method: str, path: str, body: Any = None, *, token: str = TOKEN) -> tuple[int, Any]:
        """(status, JSON) of one request."""
        at = urlsplit(self.url)
        connection = http.client.HTTPConnection(at.hostname or "", at.port, timeout=30)
        try:
            headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
            connection.request(method, path, None if body is None else json.dumps(body), headers)
            reply = connection.getresponse()
            data = reply.read()
            return reply.status, json.loads(data) if data else None
        finally:
            connection.close()

    def made(self, path: str, body: Any) -> Any:
        """What a POST made."""
        status, answer = self.ask("POST", path, body)
        assert status in {200, 201}, (path, status, answer)
        return answer

    def connection(self, name: str, endpoint: str, access: str, secret: str, **more: Any) -> None:
        """Store an S3 connection with path addressing."""
        new = {"name": name, "provider": "generic", "endpoint": endpoint, "access_key": access, "secret_key": secret}
        self.made("/api/v1/connections", {**new, "region": "us-east-1", "addressing": "path", **more})

    def volume(self, name: str, path: Path) -> None:
        """Open a directory."""
        self.made("/api/v1/volumes", {"name": name, "path": str(path)})

    def sync(self, source: str, destination: str, **options: Any) -> str:
        """Create a sync; its id."""
        body = {"source": source, "destination": destination, "options": options}
        return str(self.made("/api/v1/syncs", body)["id"])

    def task(self, task_id: str) -> Any:
        """One task."""
        status, answer = self.ask("GET", f"/api/v1/tasks/{task_id}")
        assert status == 200, answer
        return answer

    def wait(self, task_id: str, done: Callable[[Any], bool] | None = None, seconds: float = 60.0) -> Any:
        """The task as soon as it has ended, or ``done`` says so."""
        until = time.monotonic() + seconds
        while True:
            found = self.task(task_id)
            if found["state"] in ENDED or (done is not None and done(found)):
                return found
            assert time.monotonic() < until, found
            time.sleep(0.05)
