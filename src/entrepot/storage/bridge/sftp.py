"""SFTP by asyncssh: one connection, its event loop in a thread of its own, many requests in flight.

Names are bytes on the wire and stay so. Host keys are checked against ``known_hosts`` unless the connection
says otherwise; a password comes from the connection or the environment, else the agent or key files serve.
"""

from __future__ import annotations

import asyncio
import stat as modes
import threading
from collections.abc import Coroutine, Iterable, Iterator
from typing import Any, TypeVar

from entrepot.model.secret import Secret
from entrepot.storage.base import Meta
from entrepot.storage.wire.resolve import connect, guarded

from .faults import missing_extra
from .place import Item, Kind

PIECE = 1 << 20
T = TypeVar("T")


class SftpPlace:
    """An SFTP server; paths start at its root directory."""

    protocol = "sftp"
    renames = True
    keeps_mtime = True
    base = b""

    def __init__(
        self,
        host: str,
        port: int,
        user: str,
        password: Secret,
        *,
        key_file: str = "",
        verify: bool = True,
        known_hosts: str = "",
    ) -> None:
        try:
            import asyncssh
        except ImportError as fault:
            raise missing_extra("SFTP", fault) from None
        self._ssh: Any = asyncssh
        self._host, self._port, self._user = host, port, user
        self._password = password
        self._options: dict[str, Any] = {}
        if key_file:
            self._options["client_keys"] = [key_file]
        if not verify:
            self._options["known_hosts"] = None
        elif known_hosts:
            self._options["known_hosts"] = known_hosts
        self._loop = asyncio.new_event_loop()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._client: Any = None
        self._connection: Any = None

    def identity(self) -> str:
        """The endpoint in canonical form."""
        return f"{self._host.lower()}:{self._port}"

    def entries(self, path: bytes) -> list[Item]:
        """The entries of a directory."""

        async def work(client: Any) -> list[Item]:
            found = await client.readdir(self._path(path))
            return [_item(entry.filename, entry.attrs) for entry in found if entry.filename not in {b".", b".."}]

        found: list[Item] = self._run(work)
        return found

    def stat(self, path: bytes) -> Item:
        """One file or directory; a symlink is followed."""

        async def work(client: Any) -> Item:
            return _item(path.rpartition(b"/")[2], await client.stat(self._path(path)))

        found: Item = self._run(work)
        return found

    def read(self, path: bytes, offset: int, length: int) -> Iterator[bytes]:
        """Pieces of a file."""
        handle = self._run(lambda client: client.open(self._path(path), "rb"))
        try:
            left = length
            while left != 0:
                want = PIECE if left < 0 else min(PIECE, left)
                piece: bytes = self._run(lambda _, at=offset, size=want: handle.read(size, at))
                if not piece:
                    return
                offset += len(piece)
                left -= len(piece) if left > 0 else 0
                yield piece
        finally:
            self._run(lambda _: handle.close())

    def write(self, path: bytes, pieces: Iterable[bytes | memoryview], size: int, meta: Meta | None) -> None:
        """Write a file from its start."""
        handle = self._run(lambda client: client.open(self._path(path), "wb"))
        try:
            offset = 0
            for piece in pieces:
                self._run(lambda _, data=bytes(piece), at=offset: handle.write(data, at))
                offset += len(piece)
        finally:
            self._run(lambda _: handle.close())

    def set_mtime(self, path: bytes, mtime_ns: int) -> None:
        """Whole seconds: that is what the protocol's common version carries."""
        seconds = mtime_ns // 1_000_000_000
        if 0 <= seconds < 1 << 32:
            self._run(lambda client: client.utime(self._path(path), (seconds, seconds)))

    def rename(self, source: bytes, target: bytes) -> None:
        """Replace in one step where the server can, else remove and rename."""

        async def work(client: Any) -> None:
            try:
                await client.posix_rename(self._path(source), self._path(target))
            except self._ssh.SFTPOpUnsupported:
                try:
                    await client.remove(self._path(target))
                except self._ssh.SFTPNoSuchFile:
                    pass
                await client.rename(self._path(source), self._path(target))

        self._run(work)

    def make_directories(self, path: bytes) -> None:
        """Make a directory and its parents."""
        self._run(lambda client: client.makedirs(self._path(path), exist_ok=True))

    def remove(self, path: bytes) -> None:
        """Remove a file."""
        self._run(lambda client: client.remove(self._path(path)))

    def close(self) -> None:
        """Close the connection and end the loop's thread."""
        with self._lock:
            if self._thread is None:
                return

            async def end() -> None:
                if self._connection is not None:
                    self._connection.abort()
                    await self._connection.wait_closed()

            try:
                asyncio.run_coroutine_threadsafe(end(), self._loop).result(5)
            except Exception:
                pass
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(5)
            self._thread = None
            self._client = self._connection = None
            self._loop.close()
            self._loop = asyncio.new_event_loop()

    def _path(self, path: bytes) -> bytes:
        return b"/" + path.rstrip(b"/")

    def _run(self, make: Any) -> Any:
        """Run ``make(client)`` on the loop and wait for it; connect first if need be."""
        return self._wait(self._on_client(make))

    async def _on_client(self, make: Any) -> Any:
        client = self._client
        if client is None or self._connection.is_closed():
            client = await self._connect()
        return await make(client)

    async def _connect(self) -> Any:
        if not hasattr(self, "_gate"):
            self._gate = asyncio.Lock()
        async with self._gate:
            if self._client is not None and not self._connection.is_closed():
                return self._client
            options = dict(self._options)
            if self._user:
                options["username"] = self._user
            if self._password:
                options["password"] = self._password.reveal()
            if guarded():
                # A server works for others: it lends them neither its keys nor its agent nor its ssh_config.
                options = {"client_keys": None, "agent_path": None, "config": None} | options
                options["sock"] = await asyncio.to_thread(connect, self._host, self._port, 20.0)
            self._connection = await self._ssh.connect(
                self._host, self._port, connect_timeout=20, keepalive_interval=15, **options
            )
            self._client = await self._connection.start_sftp_client(path_encoding=None)
            return self._client

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._loop.run_forever, name="sftp", daemon=True)
                self._thread.start()
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _item(name: bytes, attributes: Any) -> Item:
    mode = attributes.permissions or 0
    kind: Kind = "other"
    if modes.S_ISREG(mode):
        kind = "file"
    elif modes.S_ISDIR(mode):
        kind = "directory"
    elif modes.S_ISLNK(mode):
        kind = "symlink"
    nanoseconds = getattr(attributes, "mtime_ns", None) or 0
    return Item(name, kind, attributes.size or 0, int(attributes.mtime or 0) * 1_000_000_000 + nanoseconds)
