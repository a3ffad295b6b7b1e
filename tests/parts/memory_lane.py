"""A lane over a dict, for tests of the transfer engine without sockets.

Operations are answered from ``deliver()`` (or at once with ``prompt``), in order; ``pages`` sets the page size and
``broken`` may replace a listing page.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter, deque
from collections.abc import Callable
from hashlib import md5

from entrepot.model.entry import Info, Page
from entrepot.model.errors import NotFoundError, StoreError
from entrepot.storage import base


class MemoryLane:
    """Implements ``storage.base.Lane`` over ``objects`` (key -> (bytes, mtime ns))."""

    def __init__(
        self, objects: dict[bytes, tuple[bytes, int]], *, pages: int = 1000, connections: int = 4, prompt: bool = False
    ) -> None:
        self.objects = objects
        self.page_size = pages
        self.connections = connections
        self.prompt = prompt
        self.feed: Callable[[], base.Op | None] | None = None
        self.counts: Counter[str] = Counter()
        self.broken: Callable[[base.List, Page], Page | StoreError] | None = None
        self.faults: dict[tuple[str, bytes], StoreError] = {}
        self.queue: deque[base.Op] = deque()
        self.retries = 0
        self.clock_offset = 0.0

    @property
    def hungry(self) -> bool:
        return len(self.queue) < self.connections

    def submit(self, op: base.Op) -> None:
        self.queue.append(op)
        if self.prompt:
            self.deliver()

    def deliver(self, limit: int = 1 << 30) -> int:
        """Answer up to ``limit`` operations; how many were."""
        count = 0
        while self.queue and count < limit:
            op = self.queue.popleft()
            self._answer(op)
            op.done(op)
            count += 1
            while self.feed is not None and self.hungry and (more := self.feed()) is not None:
                self.queue.append(more)
        return count

    def _answer(self, op: base.Op) -> None:
        name = type(op).__name__.lower()
        self.counts[name] += 1
        fault = self.faults.get((name, op.key))
        if fault is not None:
            op.error = fault
            return
        getattr(self, f"_{name}")(op)

    def _list(self, op: base.List) -> None:
        keys = sorted(self.objects)
        start = bisect_right(keys, max(op.after, op.token)) if op.after or op.token else 0
        chosen = keys[start : start + min(op.limit, self.page_size)]
        rows = [(k, self._evidence(k, op.columns), len(self.objects[k][0])) for k in chosen]
        last = start + len(chosen) >= len(keys)
        page = Page(rows, last=last, token=b"" if last else chosen[-1])
        if self.broken is not None:
            answer = self.broken(op, page)
            if isinstance(answer, StoreError):
                op.error = answer
                return
            page = answer
        op.page = page

    def _evidence(self, key: bytes, columns: str) -> bytes | int:
        data, mtime = self.objects[key]
        return md5(data).hexdigest().encode() if columns == "etag" else mtime

    def _head(self, op: base.Head) -> None:
        if op.key not in self.objects:
            op.error = NotFoundError(f"{op.key!r} does not exist")
            return
        op.info = self._info(op.key)

    def _info(self, key: bytes) -> Info:
        data, mtime = self.objects[key]
        return Info(key, len(data), mtime, md5(data).hexdigest().encode())

    def _get(self, op: base.Get) -> None:
        if op.key not in self.objects:
            op.error = NotFoundError(f"{op.key!r} does not exist")
            return
        data = self.objects[op.key][0]
        end = len(data) if op.length < 0 else op.offset + op.length
        body = data[op.offset : end]
        if op.sink is not None:
            op.sink.write(op.offset, memoryview(body))
        else:
            op.body = body

    def _put(self, op: base.Put) -> None:
        assert not isinstance(op.body, base.FileRegion)
        self.objects[op.key] = (bytes(op.body), 1_700_000_000_000_000_000)
        op.etag = md5(bytes(op.body)).hexdigest().encode()

    def _delete(self, op: base.Delete) -> None:
        for key in op.keys:
            self.objects.pop(key, None)

    def info(self, op: base.Op) -> Info:
        return self._info(op.key)

    def recycle(self, body: base.Buffer) -> None:
        """Nothing is kept."""

    def stamp(self, op: base.Op) -> int:
        return self.objects[op.key][1]

    def requests(self) -> dict[str, int]:
        return dict(self.counts)

    def close(self) -> None:
        self.queue.clear()
