"""The door before all endpoints: who is asking, how much and how often, and no answer without the safe headers.

Plain ASGI, because it stands before every request. It authenticates before anything of the body is read, reads the
body within its limits, and answers itself where a request must not go further.
"""

from __future__ import annotations

import asyncio
import os
import re
import time
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from anyio import to_thread

from entrepot.control.auditing import note_failed_login
from entrepot.control.context import ADDRESS, Control
from entrepot.control.identify import identify
from entrepot.model.errors import AuthenticationError, TooMany
from entrepot.security.identity import Kind

from .auth import PUBLIC, address_of, presented
from .errors import REQUEST, Problem, explain, plain
from .limits import Buckets

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]
Watch = Callable[[Scope, int, float], None]
"""Told of each answer: scope, status, seconds."""

_REQUEST_ID = re.compile(rb"[A-Za-z0-9_.-]{8,64}")
_SAFE_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"referrer-policy", b"no-referrer"),
    (b"cross-origin-resource-policy", b"same-origin"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"cache-control", b"no-store"),
)
_HSTS = (b"strict-transport-security", b"max-age=31536000")


class Door:
    """Wraps the application."""

    def __init__(self, app: App, control: Control, watch: Watch) -> None:
        settings = control.settings
        self._app = app
        self._control = control
        self._watch = watch
        self._max_body = settings.max_body
        self._seconds = settings.request_seconds
        self._public = PUBLIC | ({"/openapi.json"} if settings.open_docs else set())
        self._requests = Buckets(settings.rate, settings.rate_burst)
        self._refusals = Buckets(settings.refusal_rate, settings.refusal_burst)
        self._noted = Buckets(1 / 60, 1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = Visit(self, scope, send)
        try:
            await self._admit(visit, scope, receive)
        except _Refused as refused:
            await visit.fail(refused.problem)
        except Exception as error:
            await visit.fail(explain(error))
        finally:
            visit.end()

    async def _admit(self, visit: Visit, scope: Scope, receive: Receive) -> None:
        headers = dict(scope["headers"])
        visit.name(headers)
        REQUEST.set(visit.request_id)
        address = address_of(scope, headers, self._control.settings.trusted_proxies)
        ADDRESS.set(address)
        state = scope.setdefault("state", {})
        state["request_id"] = visit.request_id
        if scope["path"] not in self._public or scope["method"] not in {"GET", "HEAD"}:
            state["who"] = await self._identify(headers, address)
        state["body"] = body = await self._body(headers, receive)
        timer = asyncio.get_running_loop().call_later(self._seconds, visit.out_of_time)
        try:
            await self._app(scope, _Replay(body, receive), visit.send)
        finally:
            timer.cancel()

    async def _identify(self, headers: dict[bytes, bytes], address: str) -> Any:
        wait = self._refusals.empty(address)
        if wait > 0:
            raise TooMany("too many failed logins from this address", hint=f"wait {wait:.1f} s", retry_after=wait)
        try:
            who = await to_thread.run_sync(identify, self._control, presented(headers))
        except AuthenticationError as error:
            self._refusals.take(address)
            if len(headers.keys() & {b"authorization", b"x-auth-token"}) and self._noted.try_take(address):
                await to_thread.run_sync(note_failed_login, self._control, address, error.message)
            raise
        if who.kind is not Kind.RUNNER:
            # A runner's pace is that of its task.
            self._requests.take(who.token_id or who.id)
        return who

    async def _body(self, headers: dict[bytes, bytes], receive: Receive) -> bytes:
        length = headers.get(b"content-length", b"")
        if length.isdigit() and int(length[:20]) > self._max_body:
            raise _TooLarge(self._max_body)
        if (not length or length == b"0") and b"transfer-encoding" not in headers:
            return b""
        pieces: list[bytes] = []
        size = 0
        try:
            async with asyncio.timeout(self._seconds):
                while True:
                    message = await receive()
                    if message["type"] != "http.request":
                        raise _Refused(plain(400, "the body of the request was cut"))
                    pieces.append(message.get("body", b""))
                    size += len(pieces[-1])
                    if size > self._max_body:
                        raise _TooLarge(self._max_body)
                    if not message.get("more_body"):
                        return b"".join(pieces)
        except TimeoutError:
            raise _Refused(plain(408, f"the body did not come within {self._seconds:g} s")) from None

    def told(self, scope: Scope, status: int, seconds: float) -> None:
        """An answer is on its way."""
        self._watch(scope, status, seconds)


class _Refused(Exception):
    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.message)
        self.problem = problem


class _TooLarge(_Refused):
    def __init__(self, most: int) -> None:
        super().__init__(plain(413, f"the body is larger than {most} bytes", headers={"Connection": "close"}))


class _Replay:
    """Gives the body that was read; then whether the client is still there."""

    def __init__(self, body: bytes, receive: Receive) -> None:
        self._body: bytes | None = body
        self._receive = receive

    async def __call__(self) -> Message:
        body, self._body = self._body, None
        if body is not None:
            return {"type": "http.request", "body": body, "more_body": False}
        return await self._receive()


class Visit:
    """One request on its way: sees to it that there is exactly one answer, with all headers."""

    def __init__(self, door: Door, scope: Scope, send: Send) -> None:
        self._door = door
        self._scope = scope
        self._send = send
        self._started = time.perf_counter()
        self._status = 0
        self._late: asyncio.Task[None] | None = None
        self.request_id = ""

    def name(self, headers: dict[bytes, bytes]) -> None:
        """Take the client's id for the request when it is a proper one."""
        given = headers.get(b"x-request-id", b"")
        self.request_id = given.decode() if _REQUEST_ID.fullmatch(given) else os.urandom(12).hex()

    async def send(self, message: Message) -> None:
        """Pass on what the application answers, unless it comes too late."""
        if self._late is not None:
            return
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._complete(message)
        await self._send(message)

    async def fail(self, problem: Problem) -> None:
        """Answer that it failed, where nothing was answered yet."""
        if self._status or self._late is not None:
            return
        await self._answer(problem)

    def out_of_time(self) -> None:
        """The application took too long; it goes on, but nobody waits for it."""
        if not self._status and self._late is None:
            problem = plain(504, "the answer took too long", hint="ask for less", headers={"Connection": "close"})
            self._late = asyncio.get_running_loop().create_task(self._answer(problem))

    def end(self) -> None:
        """All is said."""
        self._door.told(self._scope, self._status, time.perf_counter() - self._started)

    async def _answer(self, problem: Problem) -> None:
        body = problem.body(self.request_id)
        headers = [(name.lower().encode(), value.encode()) for name, value in problem.headers.items()]
        headers += [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        start: Message = {"type": "http.response.start", "status": problem.status, "headers": headers}
        self._status = problem.status
        self._complete(start)
        await self._send(start)
        await self._send({"type": "http.response.body", "body": b"" if self._scope["method"] == "HEAD" else body})

    def _complete(self, message: Message) -> None:
        headers = list(message["headers"])
        there = {name for name, _ in headers}
        headers += [pair for pair in _SAFE_HEADERS if pair[0] not in there]
        if self._scope.get("scheme") == "https":
            headers.append(_HSTS)
        headers.append((b"x-request-id", self.request_id.encode()))
        message["headers"] = headers
