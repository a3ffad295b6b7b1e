"""Sending calls over HTTP, in a thread or in an event loop: credentials, retries, errors, live streams."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import httpx

import entrepot
from entrepot.model.errors import UsageError
from entrepot.model.secret import Secret

from .call import RETRIED, Call, pause_before
from .errors import NotReachable, error_from
from .stream import Event, Reader
from .token import find_token

T = TypeVar("T")

TIMEOUT = 60.0
_RECONNECTS = 5


class Settings:
    """Where a server is and who asks: as given, else ENTREPOT_SERVER and ENTREPOT_TOKEN (or _TOKEN_FILE)."""

    def __init__(
        self,
        server: str = "",
        token: str | Secret = "",
        *,
        token_file: str = "",
        timeout: float = TIMEOUT,
        ca_file: str = "",
        insecure_skip_verify: bool = False,
    ) -> None:
        self.server = (server or os.environ.get("ENTREPOT_SERVER", "")).rstrip("/")
        if not self.server.startswith(("http://", "https://")):
            raise UsageError(
                f"{self.server!r} is no address of a server" if self.server else "no server is named",
                hint="write https://HOST:PORT, or set ENTREPOT_SERVER",
            )
        self.token = find_token(token, token_file)
        self.timeout = timeout
        self.verify: bool | str = not insecure_skip_verify and (ca_file or True)

    def options(self) -> dict[str, Any]:
        """What both kinds of HTTP clients are made with."""
        headers = {"User-Agent": f"entrepot/{entrepot.__version__}", "Accept": "application/json"}
        if self.token:
            headers["Authorization"] = f"Bearer {self.token.reveal()}"
        return {
            "base_url": self.server,
            "headers": headers,
            "timeout": httpx.Timeout(self.timeout, connect=10.0),
            "verify": self.verify,
            "follow_redirects": False,
            "trust_env": False,
        }


def _request(client: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
    return client.build_request(
        call.method, call.path, params=call.parameters() or None, json=call.body, headers=call.headers()
    )


def _unreachable(server: str, fault: Exception) -> NotReachable:
    cause = str(fault) or type(fault).__name__
    return NotReachable(f"{server} does not answer: {cause}", hint="check the address, and that the server runs")


def _result(call: Call[T], reply: httpx.Response) -> T:
    if reply.status_code >= 400:
        raise error_from(reply.status_code, reply.content, reply.headers.get("Retry-After", ""))
    if reply.status_code >= 300:
        raise error_from(reply.status_code, b'{"message": "the server answers with a redirect"}')
    return call.read(reply.json() if reply.content else None)


def _again(call: Call[Any], reply: httpx.Response | None, attempt: int) -> float | None:
    """Seconds until the next try; None when there is none."""
    if reply is not None and reply.status_code not in RETRIED:
        return None
    refused_unread = reply is not None and reply.status_code == 429
    if not (call.repeatable or refused_unread):
        return None
    text = reply.headers.get("Retry-After", "") if reply is not None else ""
    return pause_before(attempt, float(text) if text.replace(".", "", 1).isdigit() else 0.0)


class Wire:
    """Sends calls and waits for their results. One for all threads."""

    def __init__(self, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        self.server = settings.server
        self._sleep = sleep
        self._http = httpx.Client(**settings.options())

    def send(self, call: Call[T]) -> T:
        """The result of a call. Raises ApiError; repeats what may be repeated when the server is away."""
        attempt = 0
        while True:
            attempt += 1
            reply: httpx.Response | None = None
            fault: httpx.HTTPError | None = None
            try:
                reply = self._http.send(_request(self._http, call))
            except httpx.HTTPError as error:
                fault = error
            pause = _again(call, reply, attempt)
            if pause is None:
                break
            self._sleep(pause)
        if reply is None:
            assert fault is not None
            raise _unreachable(self.server, fault) from None
        return _result(call, reply)

    def events(self, path: str) -> Iterator[Event]:
        """A live stream; goes on after the last event seen when the connection is cut. Ends when the server ends it."""
        reader, cuts = Reader(), 0
        while True:
            try:
                with self._http.stream("GET", path, headers=_stream_headers(reader), timeout=_STREAM) as reply:
                    if reply.status_code >= 400:
                        raise error_from(reply.status_code, reply.read())
                    for line in reply.iter_lines():
                        event = reader.take(line)
                        if event is not None:
                            cuts = 0
                            yield event
                return
            except httpx.HTTPError as fault:
                cuts += 1
                if cuts > _RECONNECTS:
                    raise _unreachable(self.server, fault) from None
                self._sleep(min(cuts, 3))

    def download(self, call: Call[Any]) -> Iterator[bytes]:
        """The raw body of a call's answer, piece by piece."""
        try:
            with self._http.stream(call.method, call.path, params=call.parameters()) as reply:
                if reply.status_code >= 400:
                    raise error_from(reply.status_code, reply.read())
                yield from reply.iter_bytes()
        except httpx.HTTPError as fault:
            raise _unreachable(self.server, fault) from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncWire:
    """The same in an event loop."""

    def __init__(self, settings: Settings) -> None:
        self.server = settings.server
        self._http = httpx.AsyncClient(**settings.options())

    async def send(self, call: Call[T]) -> T:
        """The result of a call. Raises ApiError; repeats what may be repeated when the server is away."""
        attempt = 0
        while True:
            attempt += 1
            reply: httpx.Response | None = None
            fault: httpx.HTTPError | None = None
            try:
                reply = await self._http.send(_request(self._http, call))
            except httpx.HTTPError as error:
                fault = error
            pause = _again(call, reply, attempt)
            if pause is None:
                break
            await asyncio.sleep(pause)
        if reply is None:
            assert fault is not None
            raise _unreachable(self.server, fault) from None
        return _result(call, reply)

    async def events(self, path: str) -> AsyncIterator[Event]:
        """A live stream; goes on after the last event seen when the connection is cut. Ends when the server ends it."""
        reader, cuts = Reader(), 0
        while True:
            try:
                async with self._http.stream("GET", path, headers=_stream_headers(reader), timeout=_STREAM) as reply:
                    if reply.status_code >= 400:
                        raise error_from(reply.status_code, await reply.aread())
                    async for line in reply.aiter_lines():
                        event = reader.take(line)
                        if event is not None:
                            cuts = 0
                            yield event
                return
            except httpx.HTTPError as fault:
                cuts += 1
                if cuts > _RECONNECTS:
                    raise _unreachable(self.server, fault) from None
                await asyncio.sleep(min(cuts, 3))

    async def download(self, call: Call[Any]) -> AsyncIterator[bytes]:
        """The raw body of a call's answer, piece by piece."""
        try:
            async with self._http.stream(call.method, call.path, params=call.parameters()) as reply:
                if reply.status_code >= 400:
                    raise error_from(reply.status_code, await reply.aread())
                async for piece in reply.aiter_bytes():
                    yield piece
        except httpx.HTTPError as fault:
            raise _unreachable(self.server, fault) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


_STREAM = httpx.Timeout(None, connect=10.0, read=60.0)


def _stream_headers(reader: Reader) -> dict[str, str]:
    headers = {"Accept": "text/event-stream"}
    if reader.last_id:
        headers["Last-Event-ID"] = reader.last_id
    return headers
