"""AzureStore: an opened location in an Azure Blob container."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from entrepot.model.connection import Connection
from entrepot.model.entry import Info, Page, Row
from entrepot.model.errors import InternalError, NotFoundError
from entrepot.model.location import Location
from entrepot.storage.base import Capabilities, Columns, Get, Head, Lane, List, Op, Part, Put, Store
from entrepot.storage.wire.lane import HttpLane
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor

from . import names
from .blocks import BLOCK_MAX, BLOCKS_MAX, COPY_MAX, PUT_MAX, Blocks, parse_block_id
from .control import BlockList, Control, Level, Uncommitted
from .dialect import AzureDialect
from .target import AzureTarget, target_of

CONTROL = LaneOptions(connections=1, attempts=4, retry_seconds=20.0)


class AzureStore:
    """One location in a container. Not for several threads at once; every process opens its own."""

    def __init__(
        self,
        location: Location,
        connection: Connection | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.location = location
        self.target = target_of(location, connection, environ)
        self._reactor: Reactor | None = None
        self._lane: HttpLane | None = None

    @classmethod
    def open(
        cls,
        location: Location,
        connection: Connection | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> AzureStore:
        """The store of ``location`` through ``connection`` (or the environment); sends nothing yet."""
        return cls(location, connection, environ=environ)

    @property
    def caps(self) -> Capabilities:
        """What the service can do, as far as it is known by now."""
        return Capabilities(
            part_min=1,
            part_max=BLOCK_MAX,
            parts_max=BLOCKS_MAX,
            put_max=PUT_MAX,
            copy_max=COPY_MAX,
            key_max=names.NAME_MAX,
            start_after=self.target.profile.start_from is not False,
        )

    def check(self) -> None:
        """One listing of one blob: container, account and credentials are right. Learns about ``startFrom``.

        Raises NotFoundError (container or host), ForbiddenError, StoreTimeoutError (no answer).
        """
        first = List(b"", b"", "mtime", _nothing, limit=1)
        try:
            self._run(first)
        except NotFoundError as fault:
            missing = NotFoundError(
                f"container `{self.target.container}` does not exist at {self.target.endpoint}",
                subject=self.target.container,
                hint="check its name and the account; containers are not created by themselves",
            )
            missing.code = fault.code
            raise missing from None
        if self.target.profile.start_from is None and first.page.rows:
            probe = List(first.page.rows[0][0] + b"!", b"", "mtime", _nothing, limit=1)
            self._run(probe)
            self.target.profile.start_from = self.target.profile.start_from is not False

    def identity(self) -> tuple[str, bytes]:
        """(account endpoint and container, prefix): equal for two ways to write the same place."""
        return f"{_canonical(self.target)}/{self.target.container}", self.location.prefix

    def can_server_copy_from(self, source: Store) -> bool:
        """True for a store at the same account that the service can be allowed to read."""
        return (
            isinstance(source, AzureStore)
            and _canonical(self.target) == _canonical(source.target)
            and bool(source.target.key or source.target.sas)
        )

    def lane(self, reactor: Any, options: Any) -> Lane:
        """Open a lane; see :class:`~entrepot.storage.base.Store`."""
        dialect = AzureDialect(self.target, self.location.prefix)
        Blocks(dialect)
        lane: Lane = HttpLane(dialect, reactor, options)
        return lane

    def close(self) -> None:
        """Close the connections of the control calls."""
        if self._lane is not None:
            self._lane.close()
            self._lane = None
        if self._reactor is not None:
            self._reactor.close()
            self._reactor = None

    def head(self, key: bytes) -> Info:
        """One blob. Raises NotFoundError."""
        op = Head(key, _nothing)
        self._run(op)
        if op.info is None:
            raise InternalError("a Head came back without its result")
        return op.info

    def read(self, key: bytes) -> bytes:
        """A whole small blob."""
        op = Get(key, _nothing)
        self._run(op)
        return bytes(op.body)

    def write(self, key: bytes, data: bytes) -> None:
        """Write a small blob."""
        self._run(Put(key, data, _nothing))

    def pages(self, after: bytes = b"", columns: Columns = "mtime") -> Iterator[Page]:
        """All rows after ``after``, sorted, page by page."""
        token = b""
        while True:
            op = List(after, token, columns, _nothing)
            self._run(op)
            yield op.page
            if op.page.last:
                return
            token = op.page.token

    def children(self, prefix: bytes) -> Iterator[tuple[list[Row], list[bytes]]]:
        """One level: (rows with mtimes, sub-prefixes ending in ``/``) per page."""
        cut = len(self.location.prefix)
        marker = b""
        while True:
            op = Level(prefix, marker, _nothing)
            self._run(op)
            listing = op.listing
            rows = [(name[cut:], evidence, size) for name, evidence, size in listing.rows]
            yield rows, [name[cut:] for name in listing.prefixes]
            if not listing.marker or listing.marker == marker:
                return
            marker = listing.marker

    def uploads(self, prefix: bytes) -> Iterator[tuple[bytes, str, float]]:
        """(key, upload id, Unix time of the blob's record) of unfinished uploads of ours below ``prefix``.

        Blocks waiting beside a blob that already has content are not listed by the service: see
        ``upload_parts``.
        """
        cut = len(self.location.prefix)
        marker = b""
        while True:
            op = Uncommitted(prefix, marker, _nothing)
            self._run(op)
            for name, moment in op.found:
                for upload_id in sorted(self._uploads_of(name[cut:])):
                    yield name[cut:], upload_id, moment / 1e9
            if not op.marker or op.marker == marker:
                return
            marker = op.marker

    def upload_parts(self, key: bytes, upload_id: str) -> list[Part]:
        """The parts that the service holds of an upload. Raises NotFoundError when there are none."""
        parts = self._uploads_of(key).get(upload_id)
        if not parts:
            name = (self.location.prefix + key).decode("utf-8", "backslashreplace")
            subject = f"az://{self.target.container}/{name}"
            raise NotFoundError(f"{subject}: the service holds no blocks of this upload", subject=subject)
        return sorted(parts, key=lambda part: part.number)

    def abort_upload(self, key: bytes, upload_id: str) -> None:
        """Nothing to send: uncommitted blocks go away at the next write of the blob, or after a week."""

    def _uploads_of(self, key: bytes) -> dict[str, list[Part]]:
        op = BlockList(key, _nothing)
        try:
            self._run(op)
        except NotFoundError:
            return {}
        found: dict[str, list[Part]] = {}
        for raw, size in op.blocks:
            ours = parse_block_id(raw)
            if ours is not None:
                found.setdefault(ours[0], []).append(Part(ours[1], size, raw))
        return found

    def _run(self, op: Op) -> None:
        """Let a lane of our own do one operation. Raises its error."""
        if self._lane is None or self._reactor is None:
            self._reactor = Reactor()
            dialect = AzureDialect(self.target, self.location.prefix)
            Blocks(dialect)
            Control(dialect)
            self._lane = HttpLane(dialect, self._reactor, CONTROL)
        finished: list[Op] = []
        op.done = finished.append
        self._lane.submit(op)
        while not finished:
            self._reactor.poll(1.0)
        if op.error is not None:
            raise op.error


def _canonical(target: AzureTarget) -> str:
    """One name for all ways to write an account's endpoint."""
    host = target.host.lower().rstrip(".")
    if host in {"localhost", "::1", "0.0.0.0"}:
        host = "127.0.0.1"
    port = "" if target.port in {80, 443} else f":{target.port}"
    return f"{host}{port}{target.base_path.decode().rstrip('/')}"


def _nothing(op: Op) -> None:
    """Completion of an operation that nobody submitted yet."""
