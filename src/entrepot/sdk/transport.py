"""Sending calls over HTTP, in a thread or in an event loop: credentials, retries, errors, live streams."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, TypeVar

import httpx

from .call import RETRIED, Call
from .settings import Settings
from .stream import Event, Reader
from .trouble import Patience, next_try, refusal, strange, unreachable

T = TypeVar("T")

_STREAM = httpx.Timeout(60.0, connect=10.0)
"""A live stream shows more often than that that it lives."""
_ENDS = frozenset({"end", "gone"})
_AWAY = RETRIED - {429}
"""Answers to a stream that come from a server on its way; one that has too many streams will not soon have fewer."""


def _request(client: httpx.Client | httpx.AsyncClient, call: Call[Any]) -> httpx.Request:
    return client.build_request(
        call.method, call.path, params=call.parameters() or None, json=call.body, headers=call.headers()
    )


def _result(server: str, call: Call[T], reply: httpx.Response) -> T:
    if not 200 <= reply.status_code < 300:
        raise refusal(server, reply)
    try:
        return call.read(reply.json() if reply.content else None)
    except (ValueError, TypeError, KeyError, AttributeError) as fault:
        raise strange(server, f"{call.method} {call.path}: {type(fault).__name__}: {fault}") from fault


def _stream_headers(reader: Reader) -> dict[str, str]:
    headers = {"Accept": "text/event-stream"}
    if reader.last_id:
        headers["Last-Event-ID"] = reader.last_id
    return headers


class Wire:
    """Sends calls and waits for their results. One for all threads."""

    def __init__(self, settings: Settings, sleep: Callable[[float], None] = time.sleep) -> None:
        self.server = settings.server
        self.sleep = sleep
        self._retries = settings.retries
        self._patience = settings.patience
        self._http = httpx.Client(**settings.options())

    def send(self, call: Call[T]) -> T:
        """The result of a call. Raises ApiError; repeats what may be repeated when the server is away."""
        attempt = 0
        while True:
            attempt += 1
            outcome: httpx.Response | httpx.HTTPError
            try:
                outcome = self._http.send(_request(self._http, call))
            except httpx.HTTPError as fault:
                outcome = fault
            pause = next_try(call, outcome, attempt, self._retries)
            if pause is None:
                break
            self.sleep(pause)
        if isinstance(outcome, httpx.HTTPError):
            raise unreachable(self.server, outcome) from None
        return _result(self.server, call, outcome)

    def events(self, path: str) -> Iterator[Event]:
        """A live stream to its last event; goes on after the last one seen when it is cut."""
        reader, patience = Reader(), Patience(self._patience)
        while True:
            reply: httpx.Response | None = None
            broken: httpx.HTTPError | None = None
            try:
                with self._http.stream("GET", path, headers=_stream_headers(reader), timeout=_STREAM) as reply:
                    if reply.status_code == 204:
                        return
                    if reply.status_code != 200:
                        reply.read()
                        if reply.status_code not in _AWAY:
                            raise refusal(self.server, reply)
                    else:
                        for line in reply.iter_lines():
                            event = reader.take(line)
                            if event is not None:
                                patience.renew()
                                yield event
                                if event.kind in _ENDS:
                                    return
            except httpx.HTTPError as fault:
                broken = fault
            reader.cut()
            pause = patience.pause(reply)
            if pause is None:
                raise _gave_up(self.server, broken, reply) from None
            self.sleep(pause)

    def download(self, call: Call[Any]) -> Iterator[bytes]:
        """The raw body of a call's answer, piece by piece."""
        try:
            with self._http.stream(call.method, call.path, params=call.parameters()) as reply:
                if reply.status_code != 200:
                    reply.read()
                    raise refusal(self.server, reply)
                yield from reply.iter_bytes()
        except httpx.HTTPError as fault:
            raise unreachable(self.server, fault) from None

    def close(self) -> None:
        """Close the connections."""
        self._http.close()


class AsyncWire:
    """The same in an event loop."""

    def __init__(self, settings: Settings) -> None:
        self.server = settings.server
        self._retries = settings.retries
        self._patience = settings.patience
        self._http = httpx.AsyncClient(**settings.options())

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        await asyncio.sleep(seconds)

    async def send(self, call: Call[T]) -> T:
        """The result of a call. Raises ApiError; repeats what may be repeated when the server is away."""
        attempt = 0
        while True:
            attempt += 1
            outcome: httpx.Response | httpx.HTTPError
            try:
                outcome = await self._http.send(_request(self._http, call))
            except httpx.HTTPError as fault:
                outcome = fault
            pause = next_try(call, outcome, attempt, self._retries)
            if pause is None:
                break
            await self.sleep(pause)
        if isinstance(outcome, httpx.HTTPError):
            raise unreachable(self.server, outcome) from None
        return _result(self.server, call, outcome)

    async def events(self, path: str) -> AsyncIterator[Event]:
        """A live stream to its last event; goes on after the last one seen when it is cut."""
        reader, patience = Reader(), Patience(self._patience)
        while True:
            reply: httpx.Response | None = None
            broken: httpx.HTTPError | None = None
            try:
                async with self._http.stream("GET", path, headers=_stream_headers(reader), timeout=_STREAM) as reply:
                    if reply.status_code == 204:
                        return
                    if reply.status_code != 200:
                        await reply.aread()
                        if reply.status_code not in _AWAY:
                            raise refusal(self.server, reply)
                    else:
                        async for line in reply.aiter_lines():
                            event = reader.take(line)
                            if event is not None:
                                patience.renew()
                                yield event
                                if event.kind in _ENDS:
                                    return
            except httpx.HTTPError as fault:
                broken = fault
            reader.cut()
            pause = patience.pause(reply)
            if pause is None:
                raise _gave_up(self.server, broken, reply) from None
            await self.sleep(pause)

    async def download(self, call: Call[Any]) -> AsyncIterator[bytes]:
        """The raw body of a call's answer, piece by piece."""
        try:
            async with self._http.stream(call.method, call.path, params=call.parameters()) as reply:
                if reply.status_code != 200:
                    await reply.aread()
                    raise refusal(self.server, reply)
                async for piece in reply.aiter_bytes():
                    yield piece
        except httpx.HTTPError as fault:
            raise unreachable(self.server, fault) from None

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()


def _gave_up(server: str, broken: httpx.HTTPError | None, reply: httpx.Response | None) -> Exception:
    if broken is None and reply is not None and reply.status_code != 200:
        return refusal(server, reply)
    return unreachable(server, broken or httpx.RemoteProtocolError("the live stream ends again and again"))
