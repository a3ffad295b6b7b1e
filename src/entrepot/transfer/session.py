"""The session: scans, movers and deletes of one task in one process, driven by polls.

Data flows one way: feeds → merge → (doubtful rows → resolver →) mover → batches → cursor. Back-pressure is the
mover's backlog: no page is merged while it holds enough.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from entrepot.model.errors import QuotaError, StoreError, StoreTimeoutError
from entrepot.model.options import SyncOptions
from entrepot.model.shard import LedgerPort, Partial, Progress, Shard
from entrepot.model.totals import FIELDS, Totals
from entrepot.observe.memory import peak_memory
from entrepot.storage.base import Lane
from entrepot.storage.posix.root import Root
from entrepot.storage.wire.reactor import Reactor

from .access import Access
from .compare import Clock
from .copy.local import LocalMover
from .copy.mover import Mover
from .cutting import Cutter
from .deletes import DeleteRun
from .ends import End, way_of
from .filters import Filter
from .keylist import FewKeys, Keys
from .report import Segment
from .scan import Extra, Scan
from .track import Track, make_track
from .verify import DryMover, VerifyMover

BACKLOG_LOW = 1500
"""Rows waiting for a mover below which the merge goes on."""

CLOCK_DOUBT = 1.5
"""Seconds of difference between two clocks that the resolution of Date headers alone explains."""

WINDOW_CHECK = 1.0
"""Seconds between looks at the bandwidth windows."""

SCANS_MAX = 64
"""Key ranges listed at once in one process."""


@dataclass(slots=True)
class Recall:
    """The journal of half-moved objects, as movers see it."""

    port: LedgerPort
    known: dict[bytes, Partial]
    access: Access

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
        keys: Keys | None,
        discard: Callable[[Partial], None],
        md5_etags: Callable[[], bool],
        finish: Callable[[bool], None],
        segments: Callable[[Shard], Segment] | None,
        verifies: bool,
        notes: Callable[[], list[str]] = list,
        bandwidth: Callable[[], int] | None = None,
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
        self._access = Access()
        self._recall = Recall(port, {}, self._access)
        self._way = way_of(source, destination)
        self._clock_offset = Clock()
        self._md5_etags = md5_etags
        self._tracks: dict[str, Track] = {}
        self._make_mover = mover
        self._verifies = verifies
        self._notes = notes
        """What a person should know of the destination, each said once."""
        self._bandwidth = bandwidth
        """Bytes/s that this process may use now (0 = no limit); None when that never changes."""
        self._limited_to = -1
        self._limit_checked = 0.0
        self._scans: dict[int, tuple[Scan, Track]] = {}
        self._deletes: dict[int, DeleteRun] = {}
        self._stopping = ""
        self._cutter = Cutter(source, clock)
        self._lanes = [lane for lane in (source.lane, destination.lane) if lane is not None]

    def _track(self, phase: str) -> Track:
        """The track of a phase, made when its first shard comes."""
        track = self._tracks.get(phase)
        if track is None:
            track = self._tracks[phase] = self._new_track(phase)
        return track

    def _new_track(self, phase: str) -> Track:
        options = self.options
        looks = phase == "verify"
        mover: Mover = VerifyMover() if looks else DryMover() if options.dry_run else self._make_mover(self._recall)
        mode = options.compare if self._verifies or not looks else "checksum"
        if phase == "retry" and mode not in {"missing", "newer"}:
            mode = "always"  # it failed: what lies at the destination is no evidence
        doom: Extra = "doom" if options.delete == "destination" and phase == "scan" else "leave"
        extra: Extra = ("tell" if self._verifies else "leave") if looks else doom
        track = make_track(
            mode,
            self._way,
            (self.source, self.destination),
            mover,
            options,
            self._clock_offset,
            extra=extra,
            md5_etags=self._md5_etags,
            segments=self._segments if self._verifies or not looks else None,
            reads=looks and mode == "checksum",
        )
        track.resolver.refused = self._access.refused
        lane = getattr(mover, "lane", None)
        if lane is not None:
            lane.feed = getattr(mover, "feed", None)
        if isinstance(mover, LocalMover):
            mover.pulse = self._pulse
            mover.access = self._access
        return track

    def _pulse(self) -> None:
        """A heartbeat from inside a long copy; a stop order gives the copy up."""
        said = [scan.progress() for scan, _ in self._scans.values()]
        orders = self._port.report(said, (), self.stats())
        if orders.stop:
            raise StoreTimeoutError("given up: the run was asked to stop", hint="run again to go on")

    def _learn_offset(self) -> None:
        """The store's clock against ours, from the first reply of a lane."""
        for lane in self._lanes:
            offset: float = getattr(lane, "clock_offset", 0.0)
            if abs(offset) >= CLOCK_DOUBT:
                self._clock_offset.offset_ns = int(offset * 1e9)

    # -- shards ----------------------------------------------------------------------------------------------------

    def add(self, shard: Shard) -> None:
        if shard.phase == "delete":
            self._deletes[shard.id] = DeleteRun(
                shard,
                self._port,
                _place(self.source),
                _place(self.destination),
                exists=self._source_has if self.source.lane is None else None,
                excluded=self._excluded() if self.options.delete_excluded else None,
            )
            return
        if not self.options.dry_run:
            for partial in self._port.partials(shard.cursor, shard.high):
                self._recall.known[partial.key] = partial
        track = self._track(shard.phase)
        low, high = shard.cursor, shard.high
        keys = self._keys if shard.phase != "retry" else FewKeys(self._port.failed_keys(shard))
        feeds = [
            end.feed(
                low,
                high,
                track.columns,
                self.options,
                keys,
                _nothing,
                changed=track.changed,
                source=end is self.source,
                directories=end is self.source and track.directories,
            )
            for end in (self.source, self.destination)
        ]
        self._scans[shard.id] = (Scan(shard, feeds[0], feeds[1], track.rules), track)

    def _excluded(self) -> Callable[[bytes], bool]:
        filters = Filter(self.options.filters)
        return lambda key: not filters.allows(key)

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
        if self._busy:
            return False
        if self._stopping:
            return all(run.finished for run in self._deletes.values())
        return not (self._scans or self._deletes)

    @property
    def _busy(self) -> bool:
        return any(track.busy for track in self._tracks.values())

    @property
    def urgent(self) -> bool:
        if self._cutter.ready and not self._stopping:
            return True
        if any(scan.finished for scan, _ in self._scans.values()):
            return True
        return any(run.finished for run in self._deletes.values())

    # -- polling ---------------------------------------------------------------------------------------------------

    def _follow_windows(self, now: float) -> None:
        """Bandwidth windows: the limit of this time of day."""
        if self._bandwidth is None or now < self._limit_checked + WINDOW_CHECK:
            return
        self._limit_checked = now
        rate = self._bandwidth()
        if rate != self._limited_to:
            self._limited_to = rate
            self.limit(rate)

    def poll(self, timeout: float) -> None:
        deadline = self._clock() + timeout
        self._follow_windows(self._clock())
        reactor = self._reactor
        while True:
            worked = self._turn()
            now = self._clock()
            reactor.poll(0.0 if worked else max(0.0, deadline - now))
            if now >= deadline or self.urgent:
                return
            if self._stopping and not self._busy:
                return

    def _turn(self) -> bool:
        worked = False
        if not self._stopping:
            self._learn_offset()
            for scan, track in self._scans.values():
                if track.backlog < BACKLOG_LOW and scan.merging:
                    worked |= scan.step()
                    if scan.error is not None:
                        self._access.look(scan.error)
            self._widen(worked)
        for run in self._deletes.values():
            worked |= run.work()
        for track in self._tracks.values():
            worked |= track.work()
        if self._access.lost is not None and not self._stopping:
            raise self._access.lost
        return worked

    def _widen(self, worked: bool) -> None:
        """When listings are what everything waits for, cut a running range for more chains of our own."""
        scans = {shard_id: scan for shard_id, (scan, _) in self._scans.items()}
        backlog = sum(track.backlog for track in self._tracks.values())
        scan = self._cutter.consider(scans, worked, self._reactor.idle, backlog)
        if scan is not None:
            self._cutter.search(scan, self._cutter.wanted - len(self._scans))

    # -- reports ---------------------------------------------------------------------------------------------------

    def progress(self) -> tuple[list[Progress], list[int]]:
        said: list[Progress] = []
        ended: list[int] = []
        for shard_id, (scan, _) in list(self._scans.items()):
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
        if said:
            said[0].warnings += self._notes()
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
            scan, _ = self._scans.get(shard_id, (None, None))
            keys = [key for key in keys if scan is not None and key > scan.merged]
            if scan is None or not keys or not scan.merging:
                continue
            scan.cut(keys[0])
            offers.append((shard_id, scan.shard.fence, keys))
        if not offers and hungry > 0 and not self._stopping:
            largest = self._cutter.largest({i: scan for i, (scan, _) in self._scans.items()})
            if largest is not None:
                self._cutter.search(largest, hungry)
        return offers

    def drop(self, shard_ids: Sequence[int]) -> None:
        for shard_id in shard_ids:
            scan, track = self._scans.pop(shard_id, (None, None))
            if scan is not None and track is not None:
                for batch in scan.drop():
                    track.mover.forget(batch)
            self._deletes.pop(shard_id, None)

    def drain(self, stop: str) -> None:
        self._stopping = stop
        for track in self._tracks.values():
            track.drain(stop)
        for run in self._deletes.values():
            run.stopping = True

    def limit(self, bandwidth: int) -> None:
        for lane in self._lanes:
            change = getattr(lane, "limit_bandwidth", None)
            if change is not None:
                change(bandwidth)
        for track in self._tracks.values():
            if isinstance(track.mover, LocalMover):
                track.mover.limit(bandwidth)

    def stats(self) -> dict[str, int]:
        figures: dict[str, int] = {}
        for lane in self._lanes:
            for verb, count in lane.requests().items():
                figures[f"requests.{verb}"] = figures.get(f"requests.{verb}", 0) + count
            figures["retries"] = figures.get("retries", 0) + lane.retries
        figures["peak_rss_bytes"] = peak_memory()
        live = Totals()
        for scan, _ in self._scans.values():
            scan.live(live)
        for name in FIELDS:
            figures[f"live.{name}"] = getattr(live, name)
        figures["live.copied_bytes"] += sum(track.mover.live_bytes() for track in self._tracks.values())
        figures["scanning"] = sum(scan.merging for scan, _ in self._scans.values())
        return figures

    def close(self) -> None:
        for track in self._tracks.values():
            track.mover.close()
        for lane in self._lanes:
            lane.close()
        full = isinstance(self._access.lost, QuotaError)
        self._finish(self._stopping == "pause" and not full)


def _place(end: End) -> Lane | Root | None:
    return end.lane if end.lane is not None else end.root


def _nothing() -> None:
    return None
