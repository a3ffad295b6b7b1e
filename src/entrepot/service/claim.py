"""Taking hold of a task: go on with the unfinished one of the same request, or create it."""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass

from entrepot.ledger import journal, shards, tasks
from entrepot.ledger.database import Connection, Ledger
from entrepot.ledger.ids import new_id
from entrepot.model.errors import GuardError
from entrepot.model.options import SyncOptions
from entrepot.model.shard import Phase
from entrepot.model.task import TaskSpec

from .owner import is_running, this_process
from .trade import Preflight

_PACE = (
    "bandwidth",
    "bandwidth_windows",
    "max_requests",
    "concurrency",
    "report",
    "on_error",
    "max_failures",
)
"""Options that may change between an interrupted run and the one that goes on with it."""


@dataclass(slots=True, frozen=True)
class Claim:
    """The task that this process now drives."""

    task_id: str
    resumed: bool
    forebears: tuple[str, ...] = ()
    """Dead tasks with the same destination, whose leftovers this one took over."""


def spec_hash(kind: str, found: Preflight, options: SyncOptions) -> str:
    """Equal for two requests that mean the same work."""
    wanted = json.loads(options.to_json())
    for name in _PACE:
        wanted.pop(name, None)
    if options.list:
        wanted["list"] = _file_version(options.list)
    text = json.dumps([kind, found.source_identity, found.destination_identity, wanted], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def place_of(identity: str) -> tasks.Place:
    """(endpoint and bucket, prefix) of a canonical name."""
    place, _, prefix = identity.partition("|")
    return place, os.fsencode(prefix)


def _file_version(path: str) -> list[str | int]:
    try:
        about = os.stat(path)
    except OSError:
        return [path]
    return [os.path.realpath(path), about.st_size, about.st_mtime_ns, about.st_ino]


def claim(
    ledger: Ledger,
    spec: TaskSpec,
    found: Preflight,
    options: SyncOptions,
    cuts: list[bytes],
) -> Claim:
    """Resume or create in one transaction. Raises GuardError when another live process is in the way.

    ``cuts`` are where to cut the first ranges of a new task.
    """
    key = spec_hash(spec.kind, found, options)
    with ledger.write() as connection:
        connection.alone("claim")
        earlier = None if options.dry_run else tasks.resumable(connection, key)
        if earlier is not None and is_running(earlier):
            raise GuardError(
                f"already running as task {earlier.id}, pid {earlier.owner.pid}",
                hint="wait for it, or stop it with Ctrl-C there",
            )
        if not options.dry_run:
            _refuse_overlap(connection, place_of(found.destination_identity), earlier.id if earlier else "")
        if earlier is not None:
            tasks.take_over(connection, earlier.id, this_process(), spec.options)
            return Claim(earlier.id, True, inherit(connection, earlier.id))
        new = tasks.NewTask(
            id=new_id(),
            spec=spec,
            spec_hash=key,
            source=place_of(found.source_identity),
            destination=place_of(found.destination_identity),
            owner=this_process(),
        )
        tasks.create(connection, new)
        first: Phase = "verify" if spec.kind == "verify" else "scan"
        shards.add_ranges(connection, new.id, first, cuts)
        heirs = inherit(connection, new.id) if spec.kind == "sync" and not options.dry_run else ()
    return Claim(new.id, False, heirs)


def inherit(connection: Connection, task_id: str) -> tuple[str, ...]:
    """Take over what dead tasks left half-moved at the destination, to go on with it or to undo it.

    Answers the tasks with the very same destination.
    """
    task = tasks.read(connection, task_id)
    if task.spec.kind != "sync":
        return ()
    dead = [
        other
        for other in tasks.heirless(connection, task.destination[0])
        if other.id != task_id and other.spec.kind == "sync" and not is_running(other)
    ]
    for other in dead:
        lead, cut = _base(other.destination[1]), _base(task.destination[1])

        def rename(key: bytes, lead: bytes = lead, cut: bytes = cut) -> bytes | None:
            whole = lead + key
            return whole[len(cut) :] if whole.startswith(cut) else None

        same = other.source == task.source if lead == cut else _parallel(other, task)
        journal.adopt_partials(connection, task_id, other.id, rename, fits=same)
    return tuple(other.id for other in dead if _base(other.destination[1]) == _base(task.destination[1]))


def _parallel(one: tasks.Task, other: tasks.Task) -> bool:
    """Whether two tasks with different destinations bring each common key from the same source entry."""
    if one.source[0] != other.source[0] or not all(task.source[1].endswith(b"/") for task in (one, other)):
        return False
    return _tail(one.destination[1], other.destination[1]) == _tail(one.source[1], other.source[1])


def _tail(one: bytes, other: bytes) -> tuple[bytes, bytes] | None:
    """What one place has beyond the other: (beyond other, beyond one); None when neither holds the other."""
    if one.startswith(other):
        return one[len(other) :], b""
    if other.startswith(one):
        return b"", other[len(one) :]
    return None


def _base(prefix: bytes) -> bytes:
    """The prefix that keys are relative to; a place that names one object lies above it."""
    return prefix if not prefix or prefix.endswith(b"/") else prefix.rpartition(b"/")[0] + b"/"


def _refuse_overlap(connection: Connection, wanted: tasks.Place, own: str) -> None:
    other = in_the_way(connection, wanted, own)
    if other is not None:
        raise GuardError(
            f"task {other.id} (pid {other.owner.pid}) is writing to {other.spec.destination}, "
            "which overlaps this destination",
            hint="wait for it to end, or stop it first",
        )


def in_the_way(connection: Connection, wanted: tasks.Place, own: str) -> tasks.Task | None:
    """A task that a live process drives now and that writes to a place which shares entries with this one."""
    for other in tasks.active(connection):
        if other.id == own or SyncOptions.from_json(other.spec.options).dry_run:
            continue
        if other.spec.kind != "verify" and overlaps(other.destination, wanted) and is_running(other):
            return other
    return None


def overlaps(a: tasks.Place, b: tasks.Place) -> bool:
    """Whether two places share entries: equal, or one inside the other."""
    if a[0] != b[0]:
        return False
    one, other = _closed(a[1]), _closed(b[1])
    return one.startswith(other) or other.startswith(one)


def _closed(prefix: bytes) -> bytes:
    return prefix if not prefix or prefix.endswith(b"/") else prefix + b"/"
