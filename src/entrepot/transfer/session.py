"""The session: scans, movers and deletes of one task in one process, driven by polls.

Data flows one way: feeds → merge → (doubtful rows → resolver →) mover → batches → cursor. Back-pressure is the
mover's backlog: no page is merged while it holds enough.
"""

from __future__ import annotations

import resource
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

from entrepot.model.entry import Row
from entrepot.model.errors import StoreError
from entrepot.model.options import SyncOptions
from entrepot.model.shard import LedgerPort, Partial, Progress, Shard
from entrepot.model.totals import FIELDS, Totals
from entrepot.storage.base import Lane, Op
from entrepot.storage.posix.root import Root
from entrepot.storage.wire.reactor import Reactor

from .compare import Clock, columns_for, comparer, wants_changed
from .copy.mover import Mover
from .cutting import Cutter
from .deletes import DeleteRun
from .ends import End, way_of
from .filters import Filter
from .job import Batch
from .report import Segment
from .resolve import Resolver
from .scan import Rules, Scan, SpecialMover
from .select import selector

BACKLOG_LOW = 1500
"""Rows waiting for a mover below which the merge goes on."""

SCANS_MAX = 64
"""Key ranges listed at once in one process."""


@dataclass(slots=True)
class Recall:
    """The journal of half-moved objects, as movers see it."""

    port: LedgerPort
    known: dict[bytes, Partial]

    def recall(self, key: bytes) -> Partial | None:
        """The partial of ``key``, once."""
        return self.known.pop(key, None)


class TransferSession:
    """Implements ``work.session.Session`` for syncs."""

    def __init__(
        self,
        source: End,
        destination: End,
        options: SyncOptions,
        port: LedgerPort,
        reactor: Reactor,
        mover: Callable[[Recall], Mover],
        clock: Callable[[], float],
        *,
        keys: list[bytes] | None,
        discard: Callable[[Partial], None],
        md5_etags: Callable[[], bool],
        finish: Callable[[bool], None],
        segments: Callable[[Shard], Segment] | None = None,
    ) -> None:
        self.source, self.destination = source, destination
        self.options = options
        self._port = port
        self._reactor = reactor
        self._clock = clock
        self._keys = keys
        self._discard = discard
        self._finish = finish
        self._segments = segments
        self._recall = Recall(port, {})
        self._way = way_of(source, destination)
        self._columns = columns_for(options.compare, self._way)
        self._changed = wants_changed(options.compare, self._way)
        self._mover = mover(self._recall)
        self._resolver = Resolver(
            options.compare,
            self._way,
            _place(source),
            _place(destination),
            self._mover.offer,
            md5_etags=md5_etags,
        )
        self._rules = self._make_rules(md5_etags)
        self._scans: dict[int, Scan] = {}
        self._deletes: dict[int, DeleteRun] = {}
        self._stopping = ""
        self._cutter = Cutter(source, clock)
        self._lanes = [lane for lane in (source.lane, destination.lane) if lane is not None]
        self._install_feeds()

    def _make_rules(self, md5_etags: Callable[[], bool]) -> Rules:
        options = self.options
        filters = Filter(options.filters)
        clock = Clock(self._store_offset())
        return Rules(
            comparer(options.compare, self._way, clock, md5_etags=self._way == "store" and md5_etags()),
            self._emit,
            delete=options.delete == "destination",
            source_filter=filters,
            destination_filter=Filter(()) if options.delete_excluded else filters,
            select=selector(options, self._columns),
            segments=self._segments,
            specials=None if options.dry_run else cast("SpecialMover | None", self._special_mover()),
        )

    def _special_mover(self) -> object | None:
        return self._mover if self._way == "local" and hasattr(self._mover, "special") else None

    def _store_offset(self) -> int:
        for end in (self.source, self.destination):
            offset = getattr(end.store, "clock_offset", 0.0) if end.lane is not None else 0.0
            if offset:
                return int(offset * 1e9)
        return 0

    def _install_feeds(self) -> None:
        """The mover's own lane asks it for operations; a lane that only receives has no feed."""
        lane = getattr(self._mover, "lane", None)
        feed: Callable[[], Op | None] | None = getattr(self._mover, "feed", None)
        if lane is not None and feed is not None:
            lane.feed = feed

    # -- shards ----------------------------------------------------------------------------------------------------

    def add(self, shard: Shard) -> None:
        if shard.phase == "delete":
            self._deletes[shard.id] = DeleteRun(
                shard,
                self._port,
                _place(self.source),
                _place(self.destination),
                exists=self._source_has if self.source.lane is None else None,
            )
            return
        if not self.options.dry_run:
            for partial in self._port.partials(shard.cursor, shard.high):
                self._recall.known[partial.key] = partial
        low, high = shard.cursor, shard.high
        feeds = [
            end.feed(
                low,
                high,
                self._columns,
                self.options,
                self._keys,
                _nothing,
                changed=self._changed,
                source=end is self.source,
                directories=end is self.source and self._rules.specials is not None,
            )
            for end in (self.source, self.destination)
        ]
        self._scans[shard.id] = Scan(shard, feeds[0], feeds[1], self._rules)

    def _source_has(self, key: bytes) -> bool:
        if self.source.root is None:
            return False
        try:
            self.source.root.lstat(key.rstrip(b"/"))
        except StoreError:
            return False
        return True

    @property
    def room(self) -> int:
        if self._stopping:
            return 0
        if not self._scans and not self._deletes:
            return 1
        return max(0, min(self._cutter.wanted, SCANS_MAX) - len(self._scans) - len(self._deletes))

    @property
    def idle(self) -> bool:
        if self._mover.busy or self._resolver.busy:
            return False
        if self._stopping:
            return all(run.finished for run in self._deletes.values())
        return not (self._scans or self._deletes)

    @property
    def urgent(self) -> bool:
        if self._cutter.ready:
            return True
        if any(scan.finished for scan in self._scans.values()):
            return True
        return any(run.finished for run in self._deletes.values())

    # -- polling ---------------------------------------------------------------------------------------------------

    def poll(self, timeout: float) -> None:
        deadline = self._clock() + timeout
        reactor = self._reactor
        while True:
            worked = self._turn()
            now = self._clock()
            reactor.poll(0.0 if worked else max(0.0, deadline - now))
            if now >= deadline or self.urgent:
                return
            if self._stopping and not (self._mover.busy or self._resolver.busy):
                return

    def _turn(self) -> bool:
        worked = False
        mover = self._mover
        if not self._stopping and mover.backlog + self._resolver.backlog < BACKLOG_LOW:
            for scan in self._scans.values():
                if scan.step():
                    worked = True
                    if mover.backlog >= BACKLOG_LOW:
                        break
            self._widen(worked)
        for run in self._deletes.values():
            worked |= run.work()
        if self._resolver.backlog:
            worked |= self._resolver.work()
        if mover.backlog or mover.busy:
            worked |= mover.work()
        return worked

    def _widen(self, worked: bool) -> None:
        """When listings are what everything waits for, cut a running range for more chains of our own."""
        scan = self._cutter.consider(self._scans, worked, self._reactor.idle, self._mover.backlog)
        if scan is not None:
            self._cutter.search(scan, self._cutter.wanted - len(self._scans))

    def _emit(self, batch: Batch, copy: list[Row], doubt: list[Row]) -> None:
        if self.options.dry_run:
            batch.open -= len(copy) + len(doubt)
            batch.totals.copied += len(copy) + len(doubt)
            batch.totals.copied_bytes += sum(row[2] for row in copy) + sum(row[2] for row in doubt)
            return
        if doubt:
            self._resolver.offer(batch, doubt)
        if copy:
            self._mover.offer(batch, copy)

    # -- reports ---------------------------------------------------------------------------------------------------

    def progress(self) -> tuple[list[Progress], list[int]]:
        said: list[Progress] = []
        ended: list[int] = []
        for shard_id, scan in list(self._scans.items()):
            finished = scan.finished and not (self._stopping and scan.merging)
            said.append(scan.progress())
            if finished:
                self._end(shard_id, scan)
                ended.append(shard_id)
        for shard_id, run in list(self._deletes.items()):
            over = run.over and run.finished
            said.append(run.progress())
            if over:
                del self._deletes[shard_id]
                ended.append(shard_id)
        return said, ended

    def _end(self, shard_id: int, scan: Scan) -> None:
        del self._scans[shard_id]
        scan.close()
        if scan.error is None:
            self._drop_leftovers(scan.shard.low, scan.high)

    def _drop_leftovers(self, low: bytes, high: bytes | None) -> None:
        """Partials of keys that need no copy any more (equal, gone or small by now)."""
        known = self._recall.known
        for key in [k for k in known if k > low and (high is None or k <= high)]:
            partial = known.pop(key)
            self._discard(partial)
            self._port.drop_partial(key)

    def split_offers(self, hungry: int) -> list[tuple[int, int, list[bytes]]]:
        offers: list[tuple[int, int, list[bytes]]] = []
        for shard_id, keys in self._cutter.take():
            scan = self._scans.get(shard_id)
            keys = [key for key in keys if scan is not None and key > scan.merged]
            if scan is None or not keys or not scan.merging:
                continue
            scan.cut(keys[0])
            offers.append((shard_id, scan.shard.fence, keys))
        if not offers and hungry > 0 and not self._stopping:
            scan = self._cutter.largest(self._scans)
            if scan is not None:
                self._cutter.search(scan, hungry)
        return offers

    def drop(self, shard_ids: Sequence[int]) -> None:
        for shard_id in shard_ids:
            scan = self._scans.pop(shard_id, None)
            if scan is not None:
                scan.drop()
            self._deletes.pop(shard_id, None)

    def drain(self, stop: str) -> None:
        self._stopping = stop
        self._resolver.drain()
        self._mover.drain(stop)
        for run in self._deletes.values():
            run.stopping = True

    def limit(self, bandwidth: int) -> None:
        for lane in self._lanes:
            change = getattr(lane, "limit_bandwidth", None)
            if change is not None:
                change(bandwidth)

    def stats(self) -> dict[str, int]:
        figures: dict[str, int] = {}
        for lane in self._lanes:
            for verb, count in lane.requests().items():
                figures[f"requests.{verb}"] = figures.get(f"requests.{verb}", 0) + count
            figures["retries"] = figures.get("retries", 0) + lane.retries
        figures["peak_rss_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        live = Totals()
        for scan in self._scans.values():
            scan.live(live)
        for name in FIELDS:
            figures[f"live.{name}"] = getattr(live, name)
        figures["live.copied_bytes"] += self._mover.live_bytes()
        figures["scanning"] = sum(scan.merging for scan in self._scans.values())
        return figures

    def close(self) -> None:
        self._mover.close()
        for lane in self._lanes:
            lane.close()
        self._finish(self._stopping == "pause")


def _place(end: End) -> Lane | Root | None:
    return end.lane if end.lane is not None else end.root


def _nothing() -> None:
    return None
