"""Any fsspec file system as a place: Google Cloud Storage (gcsfs), HDFS (pyarrow), and fsspec's memory for tests."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from entrepot.storage.base import Meta

from .guard import decode, encode
from .place import Item

PIECE = 1 << 20


class FsspecPlace:
    """``filesystem`` below ``root`` (text that ends without a slash)."""

    keeps_mtime = False
    base = b""

    def __init__(self, filesystem: Any, root: str, *, protocol: str, renames: bool, identity: str) -> None:
        self._fs = filesystem
        self._root = root
        self.protocol = protocol
        self.renames = renames
        self._identity = identity

    def identity(self) -> str:
        """The endpoint in canonical form."""
        return self._identity

    def entries(self, path: bytes) -> list[Item]:
        """The entries of a directory."""
        whole = self._path(path)
        found = self._fs.ls(whole, detail=True, refresh=True)
        own = whole.strip("/")
        return [_item(info) for info in found if info["name"].strip("/") != own]

    def stat(self, path: bytes) -> Item:
        """One file or directory."""
        self._fs.invalidate_cache()
        return _item(self._fs.info(self._path(path)))

    def read(self, path: bytes, offset: int, length: int) -> Iterator[bytes]:
        """Pieces of a file, each asked as a range."""
        end = None if length < 0 else offset + length
        with self._fs.open(self._path(path), "rb", cache_type="none") as file:
            file.seek(offset)
            while end is None or offset < end:
                piece: bytes = file.read(PIECE if end is None else min(PIECE, end - offset))
                if not piece:
                    return
                offset += len(piece)
                yield piece

    def write(self, path: bytes, pieces: Iterable[bytes | memoryview], size: int, meta: Meta | None) -> None:
        """Write a file; small ones in one request."""
        whole = self._path(path)
        extra = _extra(meta) if self.protocol == "gcs" else {}
        if size <= PIECE:
            self._fs.pipe_file(whole, b"".join(pieces), **extra)
            return
        file = self._fs.open(whole, "wb", **extra)
        try:
            for piece in pieces:
                file.write(piece)
        except BaseException:
            _abandon(file)
            raise
        file.close()

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        """Not offered; Google Cloud Storage keeps it as metadata, with the write."""

    def rename(self, source: bytes, target: bytes) -> None:
        """Replace; HDFS refuses a target that is there, so it goes first."""
        whole = self._path(target)
        if self.protocol == "hdfs" and self._fs.exists(whole):
            self._fs.rm_file(whole)
        self._fs.mv(self._path(source), whole)

    def make_directories(self, path: bytes) -> None:
        """Make a directory and its parents, where there are such."""
        if self.renames:
            self._fs.makedirs(self._path(path), exist_ok=True)

    def remove(self, path: bytes) -> None:
        """Remove a file."""
        self._fs.rm_file(self._path(path))

    def close(self) -> None:
        """fsspec closes its sessions by itself."""

    def _path(self, path: bytes) -> str:
        return f"{self._root}/{encode(path)}".rstrip("/") or "/"


def _abandon(file: Any) -> None:
    """End a write without committing it: closing would make half a body the object."""
    if hasattr(file, "discard"):
        try:
            file.discard()
        except Exception:
            pass  # the failure that led here is the one to tell; an upload left open ends by itself
        file.closed = True
    else:
        file.close()


def _extra(meta: Meta | None) -> dict[str, Any]:
    if meta is None:
        return {}
    metadata = dict(meta.metadata)
    if meta.mtime_ns is not None:
        seconds, rest = divmod(meta.mtime_ns, 1_000_000_000)
        metadata["mtime"] = f"{seconds}.{rest:09d}" if meta.mtime_ns >= 0 else f"{meta.mtime_ns / 1e9:.9f}"
    found: dict[str, Any] = {"metadata": metadata} if metadata else {}
    if meta.content_type:
        found["content_type"] = meta.content_type
    return found


def _item(info: dict[str, Any]) -> Item:
    name = decode(str(info["name"]).rstrip("/")).rpartition(b"/")[2]
    if info.get("islink"):
        return Item(name, "symlink")
    if info.get("type") == "directory":
        return Item(name, "directory")
    etag = info.get("etag")
    metadata = info.get("metadata")
    return Item(
        name,
        "file" if info.get("type", "file") == "file" else "other",
        int(info.get("size") or 0),
        _time(info.get("mtime") or info.get("updated") or info.get("modified") or info.get("created")),
        str(etag).strip('"').encode() if etag else b"",
        str(info.get("contentType") or ""),
        {str(k): str(v) for k, v in metadata.items()} if isinstance(metadata, dict) else {},
    )


def _time(value: Any) -> int:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return 0
    if isinstance(value, datetime):
        moment: datetime = value if value.tzinfo else value.replace(tzinfo=UTC)
        return int(moment.timestamp()) * 1_000_000_000 + moment.microsecond * 1000
    return int(float(value) * 1_000_000_000) if isinstance(value, int | float) else 0
