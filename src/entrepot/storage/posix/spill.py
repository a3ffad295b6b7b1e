"""Sorting more names than memory should hold: sorted runs in a temporary file, merged while they are read."""

from __future__ import annotations

import heapq
import os
from collections.abc import Iterator

_CHUNK = 64 << 10


class Spill:
    """Takes names (which hold no NUL) in any order, and gives them back sorted."""

    def __init__(self, run: int) -> None:
        import tempfile

        self._run = run
        self._names: list[bytes] = []
        self._file = tempfile.TemporaryFile(prefix="entrepot-")  # noqa: SIM115
        self._runs: list[tuple[int, int]] = []
        self._end = 0

    def add(self, name: bytes) -> None:
        """Take one name."""
        self._names.append(name)
        if len(self._names) >= self._run:
            self._flush()

    def __iter__(self) -> Iterator[bytes]:
        """All names, sorted. Reads the file piece by piece."""
        self._names.sort()
        runs = [self._read(start, end) for start, end in self._runs]
        return heapq.merge(*runs, iter(self._names))

    def close(self) -> None:
        """Drop the temporary file."""
        self._file.close()

    def _flush(self) -> None:
        self._names.sort()
        data = b"\0".join(self._names) + b"\0"
        self._file.write(data)
        self._file.flush()
        self._runs.append((self._end, self._end + len(data)))
        self._end += len(data)
        self._names = []

    def _read(self, start: int, end: int) -> Iterator[bytes]:
        fd = self._file.fileno()
        rest = b""
        while start < end:
            piece = os.pread(fd, min(_CHUNK, end - start), start)
            if not piece:
                raise EOFError("the temporary file of a listing was cut short")
            start += len(piece)
            *whole, rest = (rest + piece).split(b"\0")
            yield from whole
