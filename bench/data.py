"""The data sets, made once in the scratch folder, and how they come into a bucket."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

from .client import Client
from .settings import SOURCE_BUCKET, Settings

PATTERN = 4 << 20
WRITTEN = 1_767_225_600
"""The mtime of files that stand for generated keys: long ago, so that no tool has reason for doubt."""


@dataclass(frozen=True)
class DataSet:
    """A folder and what it holds."""

    name: str
    folder: Path
    objects: int
    bytes: int

    @property
    def prefix(self) -> str:
        """Where it lies in the source bucket."""
        return f"data-{self.name}/"


def pattern() -> bytes:
    """The 4 MiB that lows3 sends for bodies it does not keep: files made of it survive the server."""
    mask = (1 << 64) - 1
    x = 88172645463325252
    words = bytearray()
    for _ in range(PATTERN // 8):
        x ^= x << 13 & mask
        x ^= x >> 7
        x ^= x << 17 & mask
        words += x.to_bytes(8, "little")
    return bytes(words)


class Data:
    """Makes data sets when they are first asked for."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._root = settings.scratch / "data"
        self._made: dict[str, DataSet] = {}

    def get(self, name: str) -> DataSet:
        """small, large, many, fs-small, fs-large or ten."""
        if name not in self._made:
            self._made[name] = self._make(name)
        return self._made[name]

    def touch(self, name: str, when: int) -> None:
        """Give all its files one mtime."""
        for folder, _, files in os.walk(self.get(name).folder):
            for file in files:
                os.utime(os.path.join(folder, file), (when, when))

    def drop(self, name: str) -> None:
        """Give the room back."""
        if self._made.pop(name, None):
            shutil.rmtree(self._root / name, ignore_errors=True)

    def _make(self, name: str) -> DataSet:
        s = self._settings.sizes
        count, size, per = {
            "small": (s.small, s.small_bytes, 200),
            "large": (s.large, s.large_mib << 20, 1000),
            "many": (s.many, 100, 1000),
            "fs-small": (s.fs_small, s.small_bytes, 200),
            "fs-large": (1, s.fs_large_mib << 20, 1),
            "ten": (10, s.small_bytes, 10),
        }[name]
        folder = self._root / name
        blob = pattern() if size > 1 << 20 else os.urandom(PATTERN)
        for i in range(count):
            # the names are those of the keys that lows3 generates: d00000/f00000000.bin
            inside = folder / f"d{i // per:05d}"
            if i % per == 0:
                inside.mkdir(parents=True)
            path = f"{inside}/f{i:08d}.bin"
            with open(path, "wb", buffering=0) as file:
                if size <= 1 << 20:
                    at = i * 37 % (PATTERN - size)
                    file.write(blob[at : at + size])
                else:
                    for at in range(0, size, PATTERN):
                        file.write(blob[: min(PATTERN, size - at)])
            if name == "many":
                os.utime(path, (WRITTEN, WRITTEN))
        return DataSet(name, folder, count, count * size)


def load(client: Client, data: DataSet) -> None:
    """Put a data set into the source bucket."""
    for folder, _, files in os.walk(data.folder):
        for name in sorted(files):
            path = os.path.join(folder, name)
            key = data.prefix + os.path.relpath(path, data.folder)
            with open(path, "rb") as file:
                size = os.stat(path).st_size
                body = file.read() if size < 1 << 20 else file
                status, reply = client.call("PUT", f"/{SOURCE_BUCKET}/{key}", body=body, size=size)
            if status != 200:
                raise RuntimeError(f"loading {key}: {status} {reply[:200]!r}")


def tree(folder: Path) -> dict[str, int]:
    """Sizes by relative path below a folder."""
    found = {}
    for at, _, files in os.walk(folder):
        for name in files:
            path = os.path.join(at, name)
            found[os.path.relpath(path, folder)] = os.stat(path).st_size
    return found
