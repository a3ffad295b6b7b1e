"""Live streams of tasks: one look at the ledger for all who watch, and a queue for each of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from anyio import to_thread

from entrepot.control import tasks
from entrepot.control.context import Control
from entrepot.ledger import events
from entrepot.ledger.events import Event
from entrepot.model.errors import EntrepotError
from entrepot.model.task import END_STATES, TaskState

from .limits import Streams
from .native import showing

TICK = 0.5
"""Seconds between two looks."""
CHECK_AGAIN = 30.0
"""Seconds after which the credentials of a stream are looked at anew."""
_BACKLOG = 1000
_TOLD = frozenset({"state", "warning", "lost", "resumed"})


@dataclass(slots=True)
class Watcher:
    """One stream: what it waits for, and how far it is."""

    task_id: str
    seen: int
    queue: asyncio.Queue[bytes | None] = field(default_factory=lambda: asyncio.Queue(256))
    last: str = ""


class Hub:
    """All live streams of one process. Looks at the ledger only while somebody watches."""

    def __init__(self, control: Control) -> None:
        settings = control.settings
        self._control = control
        self._heartbeat = settings.heartbeat_seconds
        self._longest = settings.stream_seconds
        self._watchers: list[Watcher] = []
        self._loop: asyncio.Task[None] | None = None
        self._closed = False
        self.streams = Streams(settings.streams, settings.streams_per_token)

    async def follow(self, task_id: str, after: int, still_good: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        """The stream of a task, from the event after ``after`` on, until the task ends."""
        watcher = Watcher(task_id, after)
        self._watchers.append(watcher)
        if self._loop is None or self._loop.done():
            self._loop = asyncio.create_task(self._look_on())
        try:
            yield b"retry: 2000\n\n"
            async for piece in self._pieces(watcher, still_good):
                yield piece
        finally:
            with suppress(ValueError):
                self._watchers.remove(watcher)

    async def _pieces(self, watcher: Watcher, still_good: Callable[[], Awaitable[bool]]) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop().time
        end, check = clock() + self._longest, clock() + CHECK_AGAIN
        while not self._closed and clock() < end:
            try:
                async with asyncio.timeout(self._heartbeat):
                    piece = await watcher.queue.get()
            except TimeoutError:
                yield b": alive\n\n"
            else:
                if piece is None:
                    return
                yield piece
            if clock() >= check:
                check = clock() + CHECK_AGAIN
                if not await still_good():
                    return

    def close(self) -> None:
        """End all streams: the server stops."""
        self._closed = True
        for watcher in self._watchers:
            _put(watcher, None)

    async def _look_on(self) -> None:
        while self._watchers and not self._closed:
            watchers = list(self._watchers)
            try:
                found = await to_thread.run_sync(self._look, watchers)
            except EntrepotError:
                # A ledger that is busy or gone for a moment: the heartbeat goes on.
                found = []
            for watcher, happened, state in found:
                self._tell(watcher, happened, state)
            await asyncio.sleep(TICK)

    def _look(self, watchers: list[Watcher]) -> list[tuple[Watcher, list[Event], dict[str, Any] | None]]:
        with self._control.pool.read() as c:
            found = tasks.figures(c, sorted({watcher.task_id for watcher in watchers}))
            shown = {task_id: showing.task(one) for task_id, one in found.items()}
            return [
                (watcher, events.since(c, watcher.task_id, watcher.seen, _BACKLOG), shown.get(watcher.task_id))
                for watcher in watchers
            ]

    def _tell(self, watcher: Watcher, happened: list[Event], state: dict[str, Any] | None) -> None:
        for event in happened:
            watcher.seen = event.id
            if event.kind in _TOLD:
                _put(watcher, _message(event.kind, {"at": event.at, "text": event.text}, event.id))
        if state is None:
            _put(watcher, _message("gone", {"id": watcher.task_id}))
            _put(watcher, None)
            return
        text = json.dumps(state, ensure_ascii=False, separators=(",", ":"))
        if TaskState(state["state"]) in END_STATES:
            _put(watcher, _message("end", text, watcher.seen))
            _put(watcher, None)
        elif text != watcher.last:
            watcher.last = text
            _put(watcher, _message("progress", text, watcher.seen))


def _put(watcher: Watcher, piece: bytes | None) -> None:
    """A reader that is too slow misses figures; it comes again by the id of the last event."""
    try:
        watcher.queue.put_nowait(piece)
    except asyncio.QueueFull:
        while not watcher.queue.empty():
            watcher.queue.get_nowait()
        watcher.queue.put_nowait(None)


def _message(kind: str, data: Any, event_id: int = 0) -> bytes:
    text = data if isinstance(data, str) else json.dumps(data, ensure_ascii=False, separators=(",", ":"))
    name = f"id: {event_id}\n" if event_id else ""
    return f"{name}event: {kind}\ndata: {text}\n\n".encode("utf-8", "backslashreplace")
