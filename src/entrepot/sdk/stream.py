"""Server-sent events: from the lines of a stream to events."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True, frozen=True)
class Event:
    """One event of a live stream. ``data`` is its JSON."""

    kind: str
    data: Any
    id: str = ""


class Reader:
    """Takes lines without their ends, and gives an event where one is complete."""

    def __init__(self) -> None:
        self.last_id = ""
        self._kind = ""
        self._data: list[str] = []

    def take(self, line: str) -> Event | None:
        """One line. An empty one ends an event; a line that begins with a colon only shows that the server lives."""
        if not line:
            return self._end()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._kind = value
        elif name == "id":
            self.last_id = value
        return None

    def cut(self) -> None:
        """The stream broke: what was half said comes again."""
        self._kind, self._data = "", []

    def _end(self) -> Event | None:
        kind, data = self._kind, self._data
        self._kind, self._data = "", []
        if not data:
            return None
        return Event(kind or "message", json.loads("\n".join(data)), self.last_id)
