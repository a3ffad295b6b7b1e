"""Small helpers for tests of schedules, webhooks and usage."""

from __future__ import annotations

import http.server
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from entrepot.ledger import hooks, tasks
from entrepot.ledger.database import Connection, Ledger
from entrepot.ledger.filing import Filing
from entrepot.ledger.ids import new_id
from entrepot.model.options import SyncOptions
from entrepot.model.task import TaskSpec, TaskState


def filed_task(ledger: Ledger, scope: str = "", **filing: Any) -> str:
    """A queued task of a server."""
    spec = TaskSpec("sync", "one:bucket/a", "two:bucket/b", SyncOptions().to_json())
    about = Filing(**{"scope": scope, "family": "native", "type": "sync", "creator": "ann", **filing})
    with ledger.write() as c:
        new = tasks.NewTask(id=new_id(), spec=spec, spec_hash=new_id(), filing=about)
        tasks.create(c, new)
    return new.id


def end_task(ledger: Ledger, task_id: str, to: TaskState = TaskState.SUCCEEDED, **totals: int) -> None:
    """Let a task pass through SCANNING to an end."""
    with ledger.write() as c:
        tasks.begin(c, task_id)
        set_totals(c, task_id, **totals)
        tasks.transition(c, task_id, to)


def set_totals(c: Connection, task_id: str, **totals: int) -> None:
    """Counters of a task row, as runners would have reported them."""
    for name, value in totals.items():
        c.change(f"UPDATE task SET {name} = :value WHERE id = :id", {"id": task_id, "value": value})


def hook(scope: str = "", url: str = "http://127.0.0.1:9/", **more: Any) -> hooks.Webhook:
    """A webhook; its secret is not sealed."""
    made = hooks.Webhook(new_id(), new_id().lower(), scope, url, "sealed", (), True, "ann", 1.0)
    return replace(made, **more)


def until(condition: Callable[[], object], seconds: float = 20.0) -> None:
    """Wait for a condition; fails when it does not come about."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, f"not within {seconds} s: {condition}"
        time.sleep(0.01)


@dataclass
class Received:
    """One message that came in."""

    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """A web server over loopback that notes what comes and answers as it is told.

    ``answers`` are taken one after the other, the last one for ever; an answer is a status, (status, headers), or a
    function that gets the handler.
    """

    answers: list[Any] = field(default_factory=lambda: [204])
    tls: ssl.SSLContext | None = None
    received: list[Received] = field(default_factory=list)

    def __enter__(self) -> Receiver:
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                owner._take(self)

            def log_message(self, *_: object) -> None:
                pass

        self._lock = threading.Lock()
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        if self.tls is not None:
            self._server.socket = self.tls.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def url(self, path: str = "/hook?a=1") -> str:
        return f"{'https' if self.tls else 'http'}://127.0.0.1:{self.port}{path}"

    def _take(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", "0")))
        with self._lock:
            answer = self.answers[min(len(self.received), len(self.answers) - 1)]
            self.received.append(Received(handler.path, dict(handler.headers.items()), body))
        if callable(answer):
            answer(handler)
            return
        status, headers = answer if isinstance(answer, tuple) else (answer, {})
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        handler.send_header("Content-Length", "0")
        handler.end_headers()
