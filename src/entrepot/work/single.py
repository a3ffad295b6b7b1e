"""One object or file to one name: a sync of a single key that may be called otherwise at its source.

The key of the work is the destination's name. The source end answers to it and asks for its own name: a
directory by another path, a lane by another key in every operation. All else (parts, checksums, resume) is
the sync's.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from entrepot.model.errors import GuardError, NotFoundError, PlaceError, UsageError
from entrepot.model.location import Location, parse_location
from entrepot.model.options import SyncOptions
from entrepot.model.shard import LedgerPort
from entrepot.model.task import TaskSpec
from entrepot.storage.base import Copy, CopyPart, Lane, Op, Store
from entrepot.storage.posix.root import Root
from entrepot.storage.registry import open_store
from entrepot.storage.wire.reactor import Reactor
from entrepot.transfer.copy.upload import discard_upload
from entrepot.transfer.ends import End
from entrepot.transfer.keylist import FewKeys
from entrepot.transfer.session import TransferSession

from .environment import WorkEnvironment
from .places import PreflightResult, check_place
from .sync import join, open_end, sweep_task, sweep_tasks


def open_single(text: str, env: WorkEnvironment) -> tuple[Store, bytes]:
    """The store of the place above what ``text`` names, and the name in it. Raises UsageError."""
    location = parse_location(text, directory=False)
    above, name = _split(location, text)
    connection = None
    if location.scheme == "connection":
        connection = env.connection(location.connection)
    return open_store(above, connection, state_dir=env.state_dir), name


def _split(location: Location, text: str) -> tuple[Location, bytes]:
    head, slash, name = location.prefix.rpartition(b"/")
    if not name:
        raise UsageError(f"{text} names no single object", hint="leave out the slash at its end")
    return replace(location, prefix=head + slash if not location.is_file else head or b"/"), name


def preflight(spec: TaskSpec, env: WorkEnvironment) -> PreflightResult:
    """Check both places. Raises PlaceError (missing, not allowed) or GuardError (the same object)."""
    source, name = open_single(spec.source, env)
    destination, target = open_single(spec.destination, env)
    here, there = (_whole(source, name), _whole(destination, target))
    if here == there:
        raise GuardError(f"source and destination are the same: {spec.source}")
    check_place(source, "source")
    try:
        source.head(name)
    except NotFoundError:
        raise PlaceError(f"source: {spec.source}: not found", hint="check the spelling") from None
    if not destination.location.is_file:
        check_place(destination, "destination")
    elif os.path.isdir(os.path.join(destination.location.prefix, target)):
        raise PlaceError(f"destination: {spec.destination} is a directory", hint="name a file, or add a slash")
    return PreflightResult(here, there)


def _whole(store: Store, name: bytes) -> str:
    place, prefix = store.identity()
    return f"{place}|{os.fsdecode(prefix + name)}"


def is_single(prefix: bytes) -> bool:
    """Whether the place of a task, in canonical form, is one object and not a prefix or directory."""
    return bool(prefix) and not prefix.endswith(b"/")


def plan(_spec: TaskSpec, _processes: int, _env: WorkEnvironment) -> list[bytes]:
    """One key needs no cuts."""
    return []


def open_session(spec: TaskSpec, port: LedgerPort, env: WorkEnvironment) -> TransferSession:
    """A session for the one key."""
    options = SyncOptions.from_json(spec.options)
    reactor = Reactor()
    alone = replace(env, processes=1)
    from_store, name = open_single(spec.source, env)
    to_store, target = open_single(spec.destination, env)
    destination = open_end(to_store, reactor, options, alone, True)
    source = open_end(from_store, reactor, options, alone, False)
    if name != target:
        source = _renamed(source, name, target)
        if source.lane is not None and destination.lane is not None:
            destination = End(destination.store, lane=RenamedLane(destination.lane, name, target, of_source=True))
    return join(source, destination, options, port, reactor, alone, FewKeys([target]))


def discard(spec: TaskSpec, port: LedgerPort, env: WorkEnvironment) -> None:
    """Undo what a cancelled task left half-moved. Raises StoreError when a store cannot be reached."""
    store, _ = open_single(spec.destination, env)
    for partial in port.partials(b"", None):
        if not store.location.is_file:
            discard_upload(store, partial.key, partial.upload_id, partial.started)
        port.drop_partial(partial.key)
    if store.location.is_file and os.path.isdir(store.location.prefix):
        sweep_task(store.location.prefix, env.task_id)


def finish(spec: TaskSpec, _cuts: list[bytes], env: WorkEnvironment) -> list[str]:
    """The last touch: the task's staging directories go."""
    store, _ = open_single(spec.destination, env)
    if store.location.is_file and os.path.isdir(store.location.prefix):
        sweep_tasks(store.location.prefix, (env.task_id, *env.forebears))
    return []


def _renamed(source: End, name: bytes, target: bytes) -> End:
    if source.lane is not None:
        return End(source.store, lane=RenamedLane(source.lane, name, target))
    assert source.root is not None
    root = OneFile(source.root.path, name, target, follow=source.root.follow)
    source.root.close()
    return End(source.store, root=root)


class OneFile(Root):
    """A directory whose file ``name`` answers to ``target``."""

    def __init__(self, path: bytes, name: bytes, target: bytes, *, follow: bool) -> None:
        super().__init__(path, follow=follow)
        self._name = name
        self._target = target

    def place(self, key: bytes) -> tuple[int, bytes]:
        if key != self._target:
            raise NotFoundError(f"{key!r}: not part of this copy", subject=repr(key))
        return self.fd, self._name


class RenamedLane:
    """A lane where the key ``target`` means ``name`` (``of_source``: as the source key of copies only).

    An operation comes back under the key that it was given.
    """

    def __init__(self, lane: Lane, name: bytes, target: bytes, *, of_source: bool = False) -> None:
        self._lane = lane
        self._name = name
        self._target = target
        self._of_source = of_source

    def submit(self, op: Op) -> None:
        """Take one operation."""
        self._lane.submit(self._rename(op))

    @property
    def feed(self) -> Callable[[], Op | None] | None:
        """Where the lane asks for operations."""
        return self._lane.feed

    @feed.setter
    def feed(self, feed: Callable[[], Op | None] | None) -> None:
        def renamed() -> Op | None:
            op = feed() if feed is not None else None
            return self._rename(op) if op is not None else None

        self._lane.feed = renamed if feed is not None else None

    def _rename(self, op: Op) -> Op:
        if isinstance(op, (Copy, CopyPart)) and self._of_source:
            op.source_key = self._name
        elif not self._of_source and op.key == self._target:
            done = op.done

            def restored(finished: Any) -> None:
                finished.key = self._target
                done(finished)

            op.key = self._name
            op.done = restored
        return op

    def __getattr__(self, name: str) -> Any:
        return getattr(self._lane, name)
