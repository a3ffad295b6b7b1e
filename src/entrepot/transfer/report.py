"""Report segments: the outcome of every entry of one lease of a shard, in key order, written as batches retire.

A segment begins with a line that names the key after which it starts. A later lease of the same range writes a new
segment from its cursor on; when segments are joined, lines of an older one above a newer one's start are void.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

from entrepot.model.shard import Shard

from .job import Outcome


class Segment:
    """Appends outcome lines to one file."""

    def __init__(self, directory: str, shard: Shard) -> None:
        os.makedirs(directory, exist_ok=True)
        name = os.path.join(directory, f"{shard.id:08d}-{shard.fence:06d}.segment")
        self._file = open(name, "wb", buffering=1 << 18)  # noqa: SIM115
        self._file.write(json.dumps({"after": shard.cursor.hex()}).encode() + b"\n")

    def write(self, lines: list[Outcome]) -> None:
        """Append the outcomes of one batch."""
        lines.sort()
        self._file.write(b"".join(map(_encode, lines)))

    def flush(self) -> None:
        """Hand all to the operating system: a checkpoint follows."""
        if not self._file.closed:
            self._file.flush()

    def close(self) -> None:
        """Close; safe to repeat."""
        self._file.close()


def _encode(line: Outcome) -> bytes:
    return json.dumps((line[0].hex(), *line[1:]), ensure_ascii=True).encode() + b"\n"


def join(directory: str) -> Iterator[Outcome]:
    """All outcomes of a task in key order, without those that a later segment voids."""
    segments: list[tuple[bytes, str]] = []
    if not os.path.isdir(directory):
        return
    for name in sorted(os.listdir(directory)):
        path = os.path.join(directory, name)
        with open(path, "rb") as file:
            head = file.readline()
        if head.endswith(b"\n"):
            segments.append((bytes.fromhex(json.loads(head)["after"]), path))
    segments.sort()
    for index, (after, path) in enumerate(segments):
        until = segments[index + 1][0] if index + 1 < len(segments) else None
        yield from _lines(path, after, until)


def _lines(path: str, after: bytes, until: bytes | None) -> Iterator[Outcome]:
    with open(path, "rb") as file:
        file.readline()
        for raw in file:
            if not raw.endswith(b"\n"):
                return
            key_hex, outcome, size, proof, note = json.loads(raw)
            key = bytes.fromhex(key_hex)
            if until is not None and key > until:
                return
            if key > after or not after:
                yield key, outcome, size, proof, note
