"""BridgeStore: an opened location at a place of the long tail."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from entrepot.model.connection import Connection
from entrepot.model.entry import Info, Page, Row
from entrepot.model.errors import ForbiddenError, InternalError, NotFoundError
from entrepot.model.location import Location
from entrepot.storage.base import Capabilities, Columns, Get, Head, Lane, List, Op, Part, Put, Store

from .actions import Actions
from .faults import store_error
from .guard import is_temporary
from .lane import BridgeLane
from .opening import open_place
from .place import Place
from .spool import PART


class BridgeStore:
    """One location behind the bridge. ``place`` and ``prefix`` replace what the location says (for tests)."""

    caps = Capabilities(
        server_copy=False,
        multipart=True,
        part_min=1,
        part_max=PART,
        part_fixed=PART,
        parts_max=1_000_000,
        put_max=PART,
        start_after=False,
    )
    """Parts gather in a local file (see ``spool``): none of these backends takes them by itself."""

    def __init__(
        self,
        location: Location,
        connection: Connection | None = None,
        *,
        environ: Mapping[str, str] | None = None,
        place: Place | None = None,
    ) -> None:
        self.location = location
        self._prefix = location.prefix
        if place is None:
            place, self._prefix = open_place(location, connection, environ)
        self.place = place
        self._actions = Actions(place, self._prefix, self._name())

    @classmethod
    def open(
        cls, location: Location, connection: Connection | None = None, *, environ: Mapping[str, str] | None = None
    ) -> BridgeStore:
        """The store of ``location``; sends nothing yet."""
        return cls(location, connection, environ=environ)

    def check(self) -> None:
        """Look at the top: host, user and rights are right. A prefix that is not there yet is fine.

        Raises NotFoundError (host, bucket) or ForbiddenError.
        """
        top = b""
        for path in dict.fromkeys((self._prefix.rstrip(b"/"), top)):
            try:
                self.place.entries(path)
            except Exception as fault:
                error = store_error(fault, self._name())
                if path != top and isinstance(error, NotFoundError):
                    continue  # not there yet: fine, when its host is
                if path == top and self._prefix and isinstance(error, ForbiddenError):
                    return  # the top may be closed where the place below it is not
                raise error from None
            return

    def identity(self) -> tuple[str, bytes]:
        """(endpoint, path there) in canonical form."""
        return f"{self.place.protocol}:{self.place.identity()}", self.place.base + self._prefix

    def can_server_copy_from(self, source: Store) -> bool:
        """Never: the bytes pass through us."""
        return False

    def lane(self, reactor: Any, options: Any) -> Lane:
        """Open a lane; see :class:`~entrepot.storage.base.Store`."""
        lane: Lane = BridgeLane(self._actions, reactor, options)
        return lane

    def close(self) -> None:
        """Close the connections to the place."""
        self._actions.close()
        self.place.close()

    def head(self, key: bytes) -> Info:
        """One file. Raises NotFoundError."""
        op = Head(key, _nothing)
        self._run(op)
        if op.info is None:
            raise InternalError("a Head came back without its result")
        return op.info

    def read(self, key: bytes) -> bytes:
        """A whole small file."""
        op = Get(key, _nothing)
        self._run(op)
        return bytes(op.body)

    def write(self, key: bytes, data: bytes) -> None:
        """Write a small file."""
        self._run(Put(key, data, _nothing))

    def pages(self, after: bytes = b"", columns: Columns = "mtime") -> Iterator[Page]:
        """All rows after ``after``, sorted, page by page. A prefix that is not there has none."""
        token = b""
        while True:
            op = List(after, token, columns, _nothing)
            self._run(op)
            yield op.page
            if op.page.last:
                return
            token = op.page.token

    def children(self, prefix: bytes) -> Iterator[tuple[list[Row], list[bytes]]]:
        """One level: (rows with mtimes, sub-prefixes ending in ``/``)."""
        try:
            items = self.place.entries((self._prefix + prefix).rstrip(b"/"))
        except Exception as fault:
            raise store_error(fault, self._actions.subject(prefix)) from None
        base = prefix if not prefix or prefix.endswith(b"/") else prefix + b"/"
        files = [i for i in items if i.kind == "file" and not is_temporary(i.name)]
        rows: list[Row] = sorted((base + i.name, i.mtime_ns, i.size) for i in files)
        yield rows, sorted(base + i.name + b"/" for i in items if i.kind == "directory")

    def uploads(self, prefix: bytes) -> Iterator[tuple[bytes, str, float]]:
        """(key, upload id, begin as Unix time) of the uploads that gather on this machine."""
        for key, upload_id, begun in self._actions.spool.uploads():
            if key.startswith(self._prefix + prefix):
                yield key[len(self._prefix) :], upload_id, begun

    def upload_parts(self, key: bytes, upload_id: str) -> list[Part]:
        """The parts that are here. Raises NotFoundError when the upload is gone."""
        return self._actions.spool.parts(upload_id)

    def abort_upload(self, key: bytes, upload_id: str) -> None:
        """Drop an upload; one that is gone already counts as done."""
        self._actions.spool.drop(upload_id)

    def _run(self, op: Op) -> None:
        self._actions.perform(op, _no_sink, _no_count)

    def _name(self) -> str:
        location = self.location
        if location.scheme == "connection":
            return f"{location.connection}:{location.bucket}".rstrip("/")
        return f"{location.scheme}://{location.bucket.rpartition('@')[2]}"


def _nothing(op: Op) -> None:
    """Completion of an operation that no lane carries."""


def _no_sink(op: Get, offset: int, data: bytes) -> None:
    """Plain calls have no sinks."""


def _no_count(amount: int) -> None:
    """Plain calls are not counted."""
