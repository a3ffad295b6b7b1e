"""What the bridge needs of a backend: seven blocking calls on paths.

A path is what follows the host or bucket, as bytes without a leading slash. Calls may come from several
threads at once. They raise whatever their library raises; :mod:`.faults` makes it a StoreError.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Literal, Protocol

from entrepot.storage.base import Meta

Kind = Literal["file", "directory", "symlink", "other"]


@dataclass(slots=True, frozen=True)
class Item:
    """One entry of a directory; ``name`` is its last segment. Times in ns since 1970, 0 when unknown."""

    name: bytes
    kind: Kind
    size: int = 0
    mtime_ns: int = 0
    etag: bytes = b""
    content_type: str = ""
    metadata: dict[str, str] = field(default_factory=dict)


class Place(Protocol):
    """A backend at one host or bucket."""

    protocol: str
    """webdav, sftp, gcs or hdfs: says which names are possible."""
    renames: bool
    """True when :meth:`rename` is one step: files then land under a temporary name first."""
    keeps_mtime: bool
    """True when :meth:`write` or :meth:`set_mtime` gives a file the mtime of its original."""

    base: bytes
    """Where paths begin at the endpoint: empty or ending in ``/``."""

    def identity(self) -> str:
        """The endpoint in canonical form, without credentials and without ``base``."""
        ...

    def entries(self, path: bytes) -> list[Item]:
        """The entries of a directory, in any order. FileNotFoundError when there is none."""
        ...

    def stat(self, path: bytes) -> Item:
        """One file or directory. FileNotFoundError when there is none."""
        ...

    def read(self, path: bytes, offset: int, length: int) -> Iterator[bytes]:
        """Pieces of a file from ``offset``; ``length`` -1 means to its end."""
        ...

    def write(self, path: bytes, pieces: Iterable[bytes | memoryview], size: int, meta: Meta | None) -> None:
        """Write a whole file, replacing one that is there."""
        ...

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        """Give a file its mtime, where the backend can."""
        ...

    def rename(self, source: bytes, target: bytes) -> None:
        """Move a file, replacing one that is there."""
        ...

    def make_directories(self, path: bytes) -> None:
        """Make a directory and what is above it; fine when it is there."""
        ...

    def remove(self, path: bytes) -> None:
        """Remove a file. FileNotFoundError when there is none."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...
