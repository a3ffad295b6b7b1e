"""Sync: joins two opened places into a transfer session, and plans the first shards."""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterable

from entrepot.model.errors import StoreError
from entrepot.model.options import SyncOptions
from entrepot.model.shard import LedgerPort, Partial, Shard
from entrepot.model.task import TaskSpec
from entrepot.storage.base import Store
from entrepot.storage.posix.attributes import finish_directories
from entrepot.storage.posix.links import Links
from entrepot.storage.posix.names import STAGING_PREFIX
from entrepot.storage.posix.root import Root
from entrepot.storage.posix.split import boundaries
from entrepot.storage.posix.staging import Staging
from entrepot.storage.posix.sweep import remove_staging
from entrepot.storage.wire.reactor import Reactor
from entrepot.transfer.copy.download import DownloadMover
from entrepot.transfer.copy.local import LocalMover
from entrepot.transfer.copy.meta import MetaRules
from entrepot.transfer.copy.mover import Mover
from entrepot.transfer.copy.server import ServerMover
from entrepot.transfer.copy.through import ThroughMover
from entrepot.transfer.copy.upload import UploadMover, discard_upload
from entrepot.transfer.ends import End
from entrepot.transfer.keylist import Keys
from entrepot.transfer.rates import Throttle, current_bandwidth
from entrepot.transfer.report import Segment
from entrepot.transfer.session import Recall, TransferSession

from .environment import WorkEnvironment
from .limits import lane_options
from .places import listed_keys, locate, open_place

PART_SIZE = 8 << 20
"""Default part size (bytes): right within a region; ``part_size`` changes it."""

DOWNLOAD_PART = 32 << 20
"""Default range of a large download (bytes): nothing of it is held in memory, so fewer requests are cheaper."""

SHARDS_PER_PROCESS = 3


def plan(spec: TaskSpec, processes: int, env: WorkEnvironment) -> list[bytes]:
    """Keys at which to cut the task's first shards, so that every process has work from the start."""
    source, _ = locate(spec.source, env)
    options = SyncOptions.from_json(spec.options)
    if options.list:
        keys = listed_keys(options.list, env)
        cuts = keys.cuts(processes * SHARDS_PER_PROCESS)
        keys.close()
        return cuts
    if processes <= 1 or not source.is_file:
        return []
    escape = options.escape_names and not locate(spec.destination, env)[0].is_file
    return boundaries(source.prefix, processes * SHARDS_PER_PROCESS, b"", None, escape=escape)


def open_session(spec: TaskSpec, port: LedgerPort, env: WorkEnvironment) -> TransferSession:
    """A session of this task for one process."""
    options = SyncOptions.from_json(spec.options)
    reactor = Reactor()
    stores = open_place(spec.source, env), open_place(spec.destination, env, create=not options.dry_run)
    if stores[0].location.is_file and stores[1].location.is_file:
        options = options.with_(escape_names=False)  # what one file system holds, another one can
    source, destination = (open_end(s, reactor, options, env, i == 1) for i, s in enumerate(stores))
    keys = listed_keys(options.list, env) if options.list else None
    return join(source, destination, options, port, reactor, env, keys, verifies=spec.kind == "verify")


def join(
    source: End,
    destination: End,
    options: SyncOptions,
    port: LedgerPort,
    reactor: Reactor,
    env: WorkEnvironment,
    keys: Keys | None,
    *,
    verifies: bool = False,
) -> TransferSession:
    """A session between two opened ends; of ``keys`` only when they are given."""
    staging = _open_staging(destination, options, env)
    told = False

    def mover(recall: Recall) -> Mover:
        return _mover(source, destination, staging, recall, options, env)

    def notes() -> list[str]:
        nonlocal told
        if staging is None or told or not staging.warnings:
            return []
        told = True
        return [f"{destination.store.location}: attributes (owner, mode or extended ones) could not all be set"]

    def finish(keep: bool) -> None:
        if staging is not None:
            staging.close(remove=not keep)

    return TransferSession(
        source,
        destination,
        options,
        port,
        reactor,
        mover,
        env.clock,
        keys=keys,
        discard=_discarder(destination, staging),
        md5_etags=lambda: all(_md5_etags(end) for end in (source, destination)),
        finish=finish,
        segments=_segments(options, env, verifies),
        verifies=verifies,
        notes=notes,
        bandwidth=(lambda: _bandwidth_share(options, env)) if options.bandwidth_windows else None,
    )


def _segments(options: SyncOptions, env: WorkEnvironment, verifies: bool) -> Callable[[Shard], Segment] | None:
    """Where per-entry outcomes go, when someone will read them."""
    if not verifies and not options.report:
        return None
    directory = os.path.join(env.state_dir, "segments", env.task_id)
    # Ranges that are tried again lie across the others: their outcomes replace single lines.
    return lambda shard: Segment(directory + ".again" if shard.phase == "retry" else directory, shard)


def open_end(store: Store, reactor: Reactor, options: SyncOptions, env: WorkEnvironment, writes: bool) -> End:
    """One side of a session: a store with its lane, or a directory."""
    if store.location.is_file:
        path = store.location.prefix
        follow = options.symlinks == "follow" and not writes
        if writes and options.dry_run and not os.path.isdir(path):
            return End(store)
        return End(store, root=Root(path, create=writes, follow=follow, escape=options.escape_names))
    return End(store, lane=store.lane(reactor, lane_options(options, env.processes, env.wall())))


def _open_staging(destination: End, options: SyncOptions, env: WorkEnvironment) -> Staging | None:
    if destination.root is None or options.dry_run:
        return None
    return Staging(destination.root, staging_tag(env.task_id, env.runner_id), fsync=options.fsync)


def staging_tag(task_id: str, runner_id: str) -> str:
    """Names the staging directory of one runner, so that what a killed one left is known by its task."""
    return f"{task_id[-16:]}-{runner_id[-8:]}".lower()


def _mover(
    source: End,
    destination: End,
    staging: Staging | None,
    recall: Recall,
    options: SyncOptions,
    env: WorkEnvironment,
) -> Mover:
    rules = MetaRules(options)
    part_size = options.part_size or PART_SIZE
    verify = options.verify != "none"
    if source.lane is None:
        assert source.root is not None
        if destination.lane is None:
            return _local(source.root, staging, options, env)
        return UploadMover(
            source.root,
            destination.lane,
            destination.store,
            recall,
            rules,
            part_size,
            env.wall,
            verify=verify,
        )
    if destination.lane is None:
        assert staging is not None or options.dry_run
        return DownloadMover(source.lane, staging, recall, options, options.part_size or DOWNLOAD_PART, env.wall)  # type: ignore[arg-type]
    through = ThroughMover(
        source.lane, destination.lane, destination.store, recall, rules, part_size, env.wall, verify=verify
    )
    if not (options.server_side and rules.keeps_all and destination.store.can_server_copy_from(source.store)):
        return through
    other_way = None if "tags" in options.preserve else through
    lanes = destination.lane, source.lane
    return ServerMover(lanes[0], source.store, destination.store, recall, rules, env.wall, lanes[1], other_way)


def _local(source: Root, staging: Staging | None, options: SyncOptions, env: WorkEnvironment) -> LocalMover:
    links = Links(staging, env.task_id[-16:].lower()) if staging is not None else None
    bandwidth = _bandwidth_share(options, env)
    throttle = Throttle(bandwidth, env.clock, time.sleep) if bandwidth else None
    return LocalMover(source, staging, options, env.clock, links, throttle)


def _bandwidth_share(options: SyncOptions, env: WorkEnvironment) -> int:
    """This process's share of what is allowed now, bytes/s."""
    return current_bandwidth(options, env.wall()) // max(1, env.processes)


def _discarder(destination: End, staging: Staging | None) -> Callable[[Partial], None]:
    def discard(partial: Partial) -> None:
        if partial.staged:
            left = staging.reopen(partial.staged) if staging is not None else None
            if staging is not None and left is not None:
                staging.discard(left)
        elif destination.lane is not None:
            discard_upload(destination.store, partial.key, partial.upload_id, partial.started)

    return discard


def _md5_etags(end: End) -> bool:
    return bool(getattr(end.store, "md5_etags", False))


def discard(spec: TaskSpec, port: LedgerPort, env: WorkEnvironment) -> None:
    """Undo every half-moved object of a cancelled task. Raises StoreError when a store cannot be reached."""
    store = open_place(spec.destination, env)
    for partial in port.partials(b"", None):
        if not store.location.is_file:
            discard_upload(store, partial.key, partial.upload_id, partial.started)
        port.drop_partial(partial.key)
    if store.location.is_file and os.path.isdir(store.location.prefix):
        sweep_task(store.location.prefix, env.task_id)


def sweep_task(path: bytes, task_id: str) -> None:
    """Remove all staging directories of one task below ``path``."""
    sweep_tasks(path, (task_id,))


def sweep_tasks(path: bytes, task_ids: Iterable[str]) -> None:
    """Remove all staging directories of some tasks below ``path``."""
    prefixes = tuple(STAGING_PREFIX + task_id[-16:].lower().encode() for task_id in task_ids)
    with Root(path) as root:
        for name in os.listdir(root.fd):
            raw = os.fsencode(name)
            if raw.startswith(prefixes):
                remove_staging(root, raw)


def finish(spec: TaskSpec, cuts: list[bytes], env: WorkEnvironment) -> list[str]:
    """The last touches when all ranges are done; what could not be done is returned as warnings.

    Between file systems: times and modes of the directories that reach over a cut, and of the root. At a file
    system: the task's staging directories go.
    """
    options = SyncOptions.from_json(spec.options)
    destination, _ = locate(spec.destination, env)
    warnings: list[str] = []
    if options.dry_run or spec.kind != "sync" or not destination.is_file or not os.path.isdir(destination.prefix):
        return warnings
    sweep_tasks(destination.prefix, (env.task_id, *env.forebears))
    source, _ = locate(spec.source, env)
    if source.is_file:
        ancestors = {cut[: at + 1] for cut in cuts for at in range(len(cut)) if cut[at : at + 1] == b"/"}
        with Root(source.prefix) as mine, Root(destination.prefix) as theirs:
            present = [key for key in ancestors if _is_directory(mine, key)]
            faults = finish_directories(mine, theirs, present, options.preserve)
            warnings += [fault.message for fault in faults]
            _finish_root(mine, theirs, options)
    return warnings


def _is_directory(root: Root, key: bytes) -> bool:
    try:
        return stat.S_ISDIR(root.lstat(key.rstrip(b"/")).st_mode)
    except StoreError:
        return False


def _finish_root(source: Root, destination: Root, options: SyncOptions) -> None:
    state = os.fstat(source.fd)
    if "mode" in options.preserve:
        os.fchmod(destination.fd, stat.S_IMODE(state.st_mode) & 0o1777)
    if "mtime" in options.preserve:
        os.utime(destination.fd, ns=(state.st_mtime_ns, state.st_mtime_ns))
