"""The ledger as a runner on another machine sees it: calls over HTTP with the token of one task.

A server that is away for a moment (a restart) is waited for; one that no longer knows the task, or is away too long,
ends the runner as a broken pipe does: its ranges go to others when the leases run out. A call that is sent twice
because its answer was lost does no harm: checkpoints are absolute, and a range leased twice has a newer fence.
"""

from __future__ import annotations

import http.client
import json
import os
import random
import socket
import ssl
import time
from collections.abc import Callable, Sequence
from typing import Any
from urllib.parse import SplitResult, urlsplit

from entrepot.ledger import port_json
from entrepot.ledger.pipe import PipeClosed
from entrepot.model.errors import AccessError, AuthenticationError, InternalError, LeaseLost, UsageError
from entrepot.model.secret import Secret
from entrepot.model.shard import Doomed, Orders, Partial, Progress, Shard

PATIENCE = 60.0
"""Seconds that a server may be away."""
IDLE_WAIT = 1.0
"""Seconds that a call for work waits on the server."""
TIMEOUT = 30.0
SEGMENT_PIECE = 4 << 20
_PAUSES = (0.1, 0.3, 1.0, 2.0, 4.0)
_TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})


class Link:
    """A keep-alive connection to a server; ``call`` sends JSON and gives JSON.

    Raises UsageError for an address that is none.
    """

    def __init__(
        self,
        server: str,
        token: Secret,
        *,
        ca_file: str = "",
        patience: float = PATIENCE,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._at = _address(server)
        self.token = token
        """Sent with every call; the server hands out a fresh one now and then."""
        self._ca_file = ca_file
        self._patience = patience
        self._clock = clock
        self._sleep = sleep
        self._connection: http.client.HTTPConnection | None = None

    def call(self, path: str, body: Any = None, *, raw: bytes | None = None) -> Any:
        """POST ``body`` as JSON (or ``raw`` as it is) to ``path``; the JSON of the answer, None when it is empty.

        Raises PipeClosed when there is no answer for too long, AuthenticationError (401), AccessError (403),
        LeaseLost (409), UsageError (other refusals).
        """
        data = raw if raw is not None else json.dumps(body, separators=(",", ":")).encode()
        until = self._clock() + self._patience
        for attempt in range(1_000_000):
            try:
                status, answer = self._once(path, data, raw is None)
            except (OSError, http.client.HTTPException) as error:
                self.close()
                problem = str(error) or type(error).__name__
            else:
                if status not in _TRANSIENT:
                    return _judge(status, answer)
                problem = f"status {status}"
            if self._clock() >= until:
                break
            pause = _PAUSES[min(attempt, len(_PAUSES) - 1)]
            self._sleep(pause * random.uniform(0.5, 1.0))
        raise PipeClosed(
            f"the server {self._at.netloc.rpartition('@')[2]} does not answer: {problem}",
            hint="start the runner again when it does",
        )

    def _once(self, path: str, data: bytes, is_json: bool) -> tuple[int, bytes]:
        if self._connection is None:
            self._connection = self._connect()
        kind = "application/json" if is_json else "application/octet-stream"
        headers = {"Authorization": f"Bearer {self.token.reveal()}", "Content-Type": kind}
        self._connection.request("POST", self._at.path.rstrip("/") + path, data, headers)
        reply = self._connection.getresponse()
        return reply.status, reply.read()

    def _connect(self) -> http.client.HTTPConnection:
        host, port = self._at.hostname or "", self._at.port
        if self._at.scheme == "https":
            context = ssl.create_default_context(cafile=self._ca_file or None)
            connection: http.client.HTTPConnection = http.client.HTTPSConnection(
                host, port, timeout=TIMEOUT, context=context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=TIMEOUT)
        connection.connect()
        connection.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return connection

    def close(self) -> None:
        """Close the connection; the next call opens another."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def _address(server: str) -> SplitResult:
    at = urlsplit(server)
    if at.scheme not in {"http", "https"} or not at.hostname:
        raise UsageError(f"{server!r} is no address of a server", hint="write https://HOST:PORT")
    return at


def _judge(status: int, answer: bytes) -> Any:
    if status in {200, 201, 202}:
        return json.loads(answer) if answer else None
    if status == 204:
        return None
    try:
        message = str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        message = f"the server answered {status}"
    if status == 401:
        raise AuthenticationError(message)
    if status == 403:
        raise AccessError(message)
    if status in {404, 410}:
        raise PipeClosed(message)
    if status == 409:
        raise LeaseLost(message)
    if status >= 500:
        raise InternalError(message)
    raise UsageError(message)


class HttpPort:
    """``RunnerPort`` and ``LedgerPort`` of one runner process, over a :class:`Link` with a task token.

    ``segments`` is the directory of its report segments: what they hold goes to the server before the checkpoint
    that counts it. ``leaving`` tells that this machine wants to go: its ranges are given back in order.
    """

    def __init__(
        self,
        link: Link,
        task_id: str,
        runner_id: str,
        *,
        segments: str = "",
        leaving: Callable[[], bool] = lambda: False,
    ) -> None:
        self._link = link
        self._base = f"/api/v1/runners/tasks/{task_id}/{runner_id}"
        self._segments = segments
        self._sent: dict[str, int] = {}
        self._leaving = leaving
        self._finished = False

    def _call(self, verb: str, body: Any) -> Any:
        return self._link.call(f"{self._base}:{verb}", body)

    def lease(self, limit: int, wait: float = 0.0) -> list[Shard]:
        """Lease shards; an idle runner waits up to :data:`IDLE_WAIT` seconds for one. None any more once leaving."""
        if self._leaving():
            self._finished = True
            return []
        answer = self._call("lease", {"limit": limit, "wait": IDLE_WAIT if wait else 0.0})
        self._finished = bool(answer["finished"])
        return [port_json.shard_in(value) for value in answer["shards"]]

    def finished(self) -> bool:
        """Whether the last lease call said that no shard will come any more."""
        return self._finished

    def report(
        self, progress: Sequence[Progress], final: Sequence[int] = (), stats: dict[str, int] | None = None
    ) -> Orders:
        """Checkpoint."""
        self._send_segments()
        said = [port_json.progress_out(one) for one in progress]
        answer = self._call("report", {"progress": said, "final": list(final), "stats": stats})
        self._link.token = Secret(answer["token"])
        orders = port_json.orders_in(answer)
        if self._leaving() and not orders.stop:
            orders.stop = "pause"
        return orders

    def _send_segments(self) -> None:
        """Hand what the segments have more than before to the server's own state directory."""
        if not os.path.isdir(self._segments):
            return
        for entry in os.scandir(self._segments):
            offset = self._sent.get(entry.name, 0)
            if entry.stat().st_size <= offset:
                continue
            with open(entry.path, "rb") as file:
                file.seek(offset)
                while piece := file.read(SEGMENT_PIECE):
                    self._link.call(f"{self._base}:segment?name={entry.name}&offset={offset}", raw=piece)
                    offset += len(piece)
            self._sent[entry.name] = offset

    def release(self, shard_ids: Sequence[int]) -> None:
        """Give shards back."""
        self._call("release", {"shard_ids": list(shard_ids)})

    def split(self, shard_id: int, fence: int, at: Sequence[bytes]) -> None:
        """Cut a shard. Raises LeaseLost."""
        self._call("split", {"shard_id": shard_id, "fence": fence, "at": [port_json.text_of(key) for key in at]})

    def partials(self, low: bytes, high: bytes | None) -> list[Partial]:
        """Half-moved objects."""
        answer = self._call("partials", {"low": port_json.text_of(low), "high": port_json.text_of(high)})
        return [port_json.partial_in(value) for value in answer["partials"]]

    def save_partial(self, partial: Partial) -> None:
        """Durable on return."""
        self._call("save_partial", port_json.partial_out(partial))

    def drop_partial(self, key: bytes) -> None:
        """Forget it."""
        self._call("drop_partial", {"key": port_json.text_of(key)})

    def next_doomed(self, shard: Shard, limit: int) -> list[Doomed]:
        """Journaled deletes."""
        answer = self._call("next_doomed", {"shard": port_json.shard_out(shard), "limit": limit})
        return [port_json.doomed_in(value) for value in answer["doomed"]]

    def failed_keys(self, shard: Shard) -> list[bytes]:
        """The keys of a range that failed before and are looked at again."""
        answer = self._call("failed_keys", {"shard": port_json.shard_out(shard)})
        return [port_json.bytes_of(key) for key in answer["keys"]]

    def farewell(self, outcome: str, text: str) -> None:
        """Say why this runner ends: "" (done), "stopped", "error", "crash"."""
        self._call("farewell", {"outcome": outcome, "text": text})
