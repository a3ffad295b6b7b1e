"""Trying and looking at connections on behalf of somebody: within a time, a few at once, by the rules of the server."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from concurrent.futures import TimeoutError as Late
from dataclasses import dataclass
from itertools import islice
from typing import Final, TypeVar

from entrepot.model.connection import Connection
from entrepot.model.entry import Row
from entrepot.model.errors import EntrepotError, RequestError, StoreTimeoutError, TooMany
from entrepot.model.location import Location
from entrepot.security.identity import Principal
from entrepot.security.redact import redact
from entrepot.storage import registry
from entrepot.storage.reach import Check, check_connection

from . import connections
from .auditing import record
from .context import Control

AT_ONCE: Final = 8
"""Probes that run at once in one process; one that hangs keeps its place until its own time-outs end it."""
DEEPEST: Final = 1_000_000
"""So far into one level pages can be turned."""

_places = threading.BoundedSemaphore(AT_ONCE)
_T = TypeVar("_T")


@dataclass(slots=True, frozen=True)
class Level:
    """One page of one level: sub-prefixes, entries (key, size, Unix time), and where the next page begins (0: none)."""

    prefixes: list[str]
    entries: list[tuple[str, int, float | None]]
    following: int


def test(
    control: Control, who: Principal, name: str, place: str, *, scope: str | None = None, write: bool = True
) -> list[Check]:
    """All checks of a connection up to the first that fails. ``place`` is BUCKET or BUCKET/prefix, or empty."""
    connection = connections.to_use(control, who, name, scope)
    bucket, prefix = _split(place)
    if write and bucket:
        # It writes into somebody's store: that is to be found again.
        with control.pool.write() as c:
            record(c, who, "connection.test", f"connection {name}", scope=scope or "", detail=place)
    found: list[Check] = []

    def run() -> None:
        checks = check_connection(connection, bucket, prefix, write=write)
        # One by one: what was found before the time is over counts.
        found.extend(Check(check.name, check.verdict, redact(check.text), redact(check.hint)) for check in checks)

    try:
        _within(control, run)
    except StoreTimeoutError as fault:
        found.append(Check("time", "fail", fault.message, fault.hint))
    except EntrepotError as fault:
        found.append(Check("settings", "fail", fault.message, fault.hint))
    return list(found)


def browse(
    control: Control,
    who: Principal,
    name: str,
    place: str,
    *,
    scope: str | None = None,
    skip: int = 0,
    limit: int = 100,
) -> Level:
    """One page of one level of a connection's place. Raises StoreError."""
    if not 0 <= skip <= DEEPEST:
        raise RequestError("page_token", "too far", hint=f"a level is shown up to {DEEPEST} entries")
    connection = connections.to_use(control, who, name, scope)
    bucket, prefix = _split(place)
    if not bucket and connection.provider not in {"webdav", "sftp"}:
        raise RequestError("place", "no bucket is named", hint="write BUCKET or BUCKET/prefix/")
    return _within(control, lambda: _look(control, connection, bucket, prefix, skip, limit))


def _look(control: Control, connection: Connection, bucket: str, prefix: bytes, skip: int, limit: int) -> Level:
    location = Location("connection", bucket, prefix, connection=connection.name)
    store = registry.open_store(location, connection, state_dir=control.state_dir)
    page = list(islice(_items(store.children(b"")), skip, skip + limit + 1))
    more = len(page) > limit
    level = Level([], [], skip + limit if more else 0)
    for key, mtime_ns, size in page[:limit]:
        text = key.decode("utf-8", "backslashreplace")
        if size is None:
            level.prefixes.append(text)
        else:
            level.entries.append((text, size, mtime_ns / 1e9 if mtime_ns else None))
    return level


def _items(pages: Iterator[tuple[list[Row], list[bytes]]]) -> Iterator[tuple[bytes, int, int | None]]:
    for rows, prefixes in pages:
        found: list[tuple[bytes, int, int | None]] = [
            (row[0], row[1] if isinstance(row[1], int) else 0, row[2]) for row in rows
        ]
        found += [(name, 0, None) for name in prefixes]
        yield from sorted(found, key=lambda item: item[0])


def _split(place: str) -> tuple[str, bytes]:
    bucket, _, prefix = place.strip("/").partition("/")
    if bucket in {".", ".."} or set(bucket) & set("?#\\@: "):
        raise RequestError("place", "the name of the bucket is none", hint="write BUCKET or BUCKET/prefix/")
    return bucket, prefix.encode() + b"/" if prefix else b""


def _within(control: Control, work: Callable[[], _T]) -> _T:
    """The outcome of ``work`` in a thread of its own, or StoreTimeoutError; the thread may live on for a while."""
    if not _places.acquire(blocking=False):
        raise TooMany("too many tests and looks at once", hint="try again in a moment", retry_after=2)
    outcome: Future[_T] = Future()

    def run() -> None:
        try:
            outcome.set_result(work())
        except Exception as fault:
            outcome.set_exception(fault)
        finally:
            _places.release()

    threading.Thread(target=run, name="probe", daemon=True).start()
    try:
        return outcome.result(control.settings.probe_seconds)
    except Late:
        raise StoreTimeoutError(
            f"no end after {control.settings.probe_seconds:g} s", hint="is the endpoint reachable from the server?"
        ) from None
