"""Syncs: a request with all its options, for now or for a schedule."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, TypedDict, Unpack

from entrepot.model.options import Compare, Delete, OnError, Symlinks, Verify
from entrepot.sdk.call import Call, creating, given
from entrepot.sdk.reading import reader, text_of
from entrepot.sdk.values import Task

from .paths import path

Kind = Literal["sync", "verify"]
Preserved = Literal["mtime", "mode", "owner", "xattr", "metadata", "tags", "storage_class"]


class SyncOptions(TypedDict, total=False):
    """How a sync works; what is left out has the default of the command line.

    Sizes are bytes, ``bandwidth`` is bytes/s, ``max_requests`` is requests/s (0: no limit). ``filters`` are
    ``+ PATTERN`` and ``- PATTERN`` in order; ``include`` and ``exclude`` follow them. ``list`` is a file of keys
    (``volume://NAME/path``). ``bandwidth_windows`` are ``HH:MM-HH:MM=BYTES_PER_SECOND`` in the server's time.
    """

    compare: Compare
    verify: Verify
    delete: Delete
    delete_max_count: int
    delete_max_share: float
    delete_excluded: bool
    allow_empty_source: bool
    filters: Sequence[str]
    include: Sequence[str]
    exclude: Sequence[str]
    min_size: int
    max_size: int
    modified_after: datetime | str
    modified_before: datetime | str
    list: str
    symlinks: Symlinks
    preserve: Sequence[Preserved]
    storage_class: str
    bandwidth: int
    bandwidth_windows: Sequence[str]
    max_requests: int
    on_error: OnError
    max_failures: int
    dry_run: bool
    report: bool
    fsync: bool
    part_size: int
    concurrency: int
    escape_names: bool
    server_side: bool
    resource_spec: str


OPTIONS = frozenset(SyncOptions.__annotations__)


def create(
    source: str,
    destination: str,
    *,
    name: str = "",
    kind: Kind = "sync",
    scope: str | None = None,
    priority: int = 0,
    not_before: datetime | str | None = None,
    idempotency_key: str = "",
    **options: Unpack[SyncOptions],
) -> Call[Task]:
    """Put a sync into the queue; the answer is its task. Places are NAME:bucket/prefix or volume://name/path."""
    body = _body(source, destination, name, kind, scope, priority, not_before, options)
    return creating(path("syncs"), body, reader(Task), idempotency_key)


def preview(
    source: str,
    destination: str,
    *,
    name: str = "",
    kind: Kind = "sync",
    scope: str | None = None,
    priority: int = 0,
    not_before: datetime | str | None = None,
    idempotency_key: str = "",
    **options: Unpack[SyncOptions],
) -> Call[Task]:
    """Look what the sync would do, and change nothing: a task whose totals are the answer."""
    body = _body(source, destination, name, kind, scope, priority, not_before, options)
    return creating(path("syncs", verb="preview"), body, reader(Task), idempotency_key)


def _body(
    source: str,
    destination: str,
    name: str,
    kind: Kind,
    scope: str | None,
    priority: int,
    not_before: datetime | str | None,
    options: Mapping[str, Any],
) -> dict[str, Any]:
    return given(
        source=source,
        destination=destination,
        name=name,
        kind=kind,
        scope=scope,
        priority=priority,
        not_before=text_of(not_before),
        options=options_out(options),
    )


def options_out(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options as a request has them; None means left out. Raises TypeError for a keyword that is none of them."""
    found: dict[str, Any] = {}
    for name, value in options.items():
        if name not in OPTIONS:
            raise TypeError(f"there is no option {name!r} of a sync")
        if isinstance(value, datetime):
            value = text_of(value)
        elif isinstance(value, (tuple, set, frozenset)):
            value = [*value]
        if value is not None:
            found[name] = value
    return found
