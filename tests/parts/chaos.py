"""A faulty network: a loopback TCP proxy that delays, cuts, flips and stalls, connection by connection.

::

    with ChaosProxy("127.0.0.1", server.port) as proxy:
        proxy.next(cut_down=5000)             # the next connection: close after 5,000 bytes of replies
        proxy.next(flip_down=900)             # the one after it: alter byte 900 of the replies
        proxy.always(delay=0.02)              # all others: 20 ms before the first byte each way
        env = {**server.env(), "AWS_ENDPOINT_URL": proxy.endpoint}

``down`` is from the server to the client, ``up`` the other way; offsets count the bytes of one connection.
"""

from __future__ import annotations

import contextlib
import socket
import threading
from collections import deque
from dataclasses import dataclass
from types import TracebackType
from typing import Any


@dataclass(slots=True)
class Plan:
    """What happens to one connection. Offsets of -1 never come."""

    refuse: bool = False
    """Accept and close at once."""
    delay: float = 0.0
    """Seconds before every piece that is passed on."""
    cut_up: int = -1
    cut_down: int = -1
    reset: bool = False
    """Cut with a TCP reset."""
    flip_up: int = -1
    flip_down: int = -1
    stall_up: int = -1
    stall_down: int = -1
    stall_seconds: float = 3600.0
    rate: float = 0.0
    """Bytes per second each way; 0 = no limit."""


class ChaosProxy:
    """The proxy; see the module's text."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.port = 0
        self.connections = 0
        self.default = Plan()
        self._queue: deque[Plan] = deque()
        self._stopping = threading.Event()
        self._listener: socket.socket | None = None
        self._live: set[socket.socket] = set()
        self._lock = threading.Lock()

    @property
    def endpoint(self) -> str:
        """Where clients connect."""
        return f"http://127.0.0.1:{self.port}"

    def next(self, **plan: Any) -> None:
        """Plan the next connection that has none yet."""
        self._queue.append(Plan(**plan))

    def always(self, **plan: Any) -> None:
        """Plan all connections without a plan of their own."""
        self.default = Plan(**plan)

    def drop(self) -> None:
        """Cut every live connection."""
        with self._lock:
            live = list(self._live)
        for sock in live:
            _hang_up(sock, False)

    def __enter__(self) -> ChaosProxy:
        self._listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self._listener,), daemon=True, name="chaos").start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        if self._listener is not None:
            _hang_up(self._listener, False)
        self.drop()

    def _accept(self, listener: socket.socket) -> None:
        while not self._stopping.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            plan = self._queue.popleft() if self._queue else self.default
            if plan.refuse:
                _hang_up(client, plan.reset)
                continue
            threading.Thread(target=self._join, args=(client, plan), daemon=True, name="chaos").start()

    def _join(self, client: socket.socket, plan: Plan) -> None:
        try:
            server = socket.create_connection(self.target, 10)
        except OSError:
            _hang_up(client, True)
            return
        server.settimeout(None)
        for sock in (client, server):
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with self._lock:
            self._live |= {client, server}
        faults = (plan.cut_up, plan.flip_up, plan.stall_up)
        up = threading.Thread(target=self._pump, args=(client, server, plan, faults), daemon=True)
        up.start()
        self._pump(server, client, plan, (plan.cut_down, plan.flip_down, plan.stall_down))
        up.join()
        with self._lock:
            self._live -= {client, server}

    def _pump(self, source: socket.socket, sink: socket.socket, plan: Plan, faults: tuple[int, int, int]) -> None:
        cut, flip, stall = faults
        passed = 0
        size = max(1, min(1 << 16, int(plan.rate / 20))) if plan.rate else 1 << 16
        hard = False
        try:
            while not self._stopping.is_set():
                piece = source.recv(size)
                if not piece:
                    break
                if plan.delay and self._stopping.wait(plan.delay):
                    break
                if plan.rate and self._stopping.wait(len(piece) / plan.rate):
                    break
                if passed <= flip < passed + len(piece):
                    changed = bytearray(piece)
                    changed[flip - passed] ^= 1
                    piece = bytes(changed)
                if passed <= stall < passed + len(piece):
                    sink.sendall(piece[: stall - passed])
                    piece, passed, stall = piece[stall - passed :], stall, -1
                    if self._stopping.wait(plan.stall_seconds):
                        break
                if 0 <= cut <= passed + len(piece):
                    sink.sendall(piece[: cut - passed])
                    hard = True
                    break
                sink.sendall(piece)
                passed += len(piece)
        except OSError:
            hard = True
        if hard:
            _hang_up(sink, plan.reset)
            _hang_up(source, plan.reset)
        else:
            with contextlib.suppress(OSError):
                sink.shutdown(socket.SHUT_WR)


def _hang_up(sock: socket.socket, reset: bool) -> None:
    with contextlib.suppress(OSError):
        if reset:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\x01\x00\x00\x00\x00\x00\x00\x00")
        else:
            sock.shutdown(socket.SHUT_RDWR)
    with contextlib.suppress(OSError):
        sock.close()
