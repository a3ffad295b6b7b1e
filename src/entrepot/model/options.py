"""The options of a sync: one flat, frozen value that travels through CLI, ledger and runner."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from .errors import UsageError

Compare = Literal["auto", "size", "mtime", "etag", "checksum", "always", "missing", "newer"]
Verify = Literal["none", "transfer", "full"]
Delete = Literal["none", "destination"]
Symlinks = Literal["skip", "copy", "follow"]
OnError = Literal["skip", "stop"]

PRESERVABLE = ("mtime", "mode", "owner", "xattr", "metadata", "tags", "storage_class")


@dataclass(slots=True, frozen=True)
class SyncOptions:
    """Options of one sync; names as in the API and, with dashes, on the command line.

    Sizes are bytes, times are ns since 1970, ``bandwidth`` is bytes/s (0 = no limit), ``max_requests`` is
    requests/s (0 = no limit).
    """

    compare: Compare = "auto"
    verify: Verify = "transfer"
    delete: Delete = "none"
    delete_max_count: int = 0
    """0 = no absolute cap."""
    delete_max_share: float = 0.5
    """Largest share of destination entries that may be deleted in one run; 1.0 = no cap."""
    delete_excluded: bool = False
    allow_empty_source: bool = False
    filters: tuple[str, ...] = ()
    """rsync-style rules in order: ``+ pattern`` or ``- pattern``."""
    min_size: int = 0
    max_size: int = 0
    modified_after: int = 0
    modified_before: int = 0
    list: str = ""
    """Path of a file of keys, one a line (or NUL-separated), relative to the source."""
    symlinks: Symlinks = "skip"
    preserve: tuple[str, ...] = ("mtime", "mode", "metadata")
    storage_class: str = ""
    bandwidth: int = 0
    bandwidth_windows: tuple[str, ...] = ()
    """``HH:MM-HH:MM=RATE`` in local time; the first that holds wins over ``bandwidth``."""
    max_requests: int = 0
    on_error: OnError = "skip"
    max_failures: int = 0
    dry_run: bool = False
    report: str = ""
    fsync: bool = False
    part_size: int = 0
    """0 = chosen from object size and round-trip time."""
    concurrency: int = 0
    """Connections per store and process; 0 = adaptive."""
    escape_names: bool = False
    """Write keys that a file system cannot hold under a reversible escaped name instead of failing them."""
    server_side: bool = True
    """Let the store copy by itself where both ends allow it."""

    def __post_init__(self) -> None:
        _one_of("compare", self.compare, get_args(Compare))
        _one_of("verify", self.verify, get_args(Verify))
        _one_of("delete", self.delete, get_args(Delete))
        _one_of("symlinks", self.symlinks, get_args(Symlinks))
        _one_of("on_error", self.on_error, get_args(OnError))
        for name in self.preserve:
            _one_of("preserve", name, PRESERVABLE)
        if not 0.0 <= self.delete_max_share <= 1.0:
            raise UsageError(f"delete_max_share is {self.delete_max_share}: it must lie between 0 and 1")
        for name in ("delete_max_count", "min_size", "max_size", "bandwidth", "max_requests", "max_failures"):
            if getattr(self, name) < 0:
                raise UsageError(f"{name} is {getattr(self, name)}: it must not be negative")

    def to_json(self) -> str:
        """Canonical JSON: equal options give equal text."""
        return json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> SyncOptions:
        """The reverse of :meth:`to_json`; names this version does not know are ignored."""
        values: dict[str, Any] = json.loads(text)
        known = {f.name for f in fields(cls)}
        chosen: dict[str, Any] = {k: v for k, v in values.items() if k in known}
        for name in ("filters", "preserve", "bandwidth_windows"):
            if name in chosen:
                chosen[name] = tuple(chosen[name])
        return cls(**chosen)

    def with_(self, **changes: Any) -> SyncOptions:
        """A copy with some options changed."""
        return replace(self, **changes)


def _one_of(name: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise UsageError(f"{name} is {value!r}", hint="one of: " + ", ".join(allowed))
