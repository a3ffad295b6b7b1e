"""Cutting: when and where a session cuts its running ranges, for idle runners and for more chains of its own."""

from __future__ import annotations

from collections.abc import Callable

from entrepot.storage.posix.split import boundaries

from .ends import End
from .ranges import CutSearch, above, spread
from .scan import Scan

LONG = 3_000
"""Entries a range must have shown before it counts as long (pages of 1,000: cutting costs tens of requests)."""

WIDEN_EVERY = 0.1
"""Seconds between looks at what the session waits for."""

MOST = 64


class Cutter:
    """Finds cuts in the background and keeps them until they are taken."""

    def __init__(self, source: End, clock: Callable[[], float]) -> None:
        self.wanted = 1
        """How many ranges this session would like to run at once."""
        self._source = source
        self._clock = clock
        self._found: list[tuple[int, list[bytes]]] = []
        self._searching: set[int] = set()
        self._looked = clock()
        self._idle = 0.0
        self._hopeless: set[int] = set()

    @property
    def ready(self) -> bool:
        """True when cuts can be taken."""
        return bool(self._found)

    def take(self) -> list[tuple[int, list[bytes]]]:
        """(shard id, ascending keys) found since the last call."""
        found, self._found = self._found, []
        return found

    def largest(self, scans: dict[int, Scan]) -> Scan | None:
        """The range most worth cutting: still merging, and the one that has shown most."""
        open_ones = [
            scan
            for shard_id, scan in scans.items()
            if scan.merging and shard_id not in self._searching and shard_id not in self._hopeless
        ]
        return max(open_ones, key=lambda scan: scan.seen, default=None)

    def consider(self, scans: dict[int, Scan], worked: bool, idle: float, backlog: int) -> Scan | None:
        """A range to cut for ourselves, when most of the time goes into waiting for listings."""
        now = self._clock()
        passed = now - self._looked
        if passed < WIDEN_EVERY or self._source.lane is None or not self._source.cuttable:
            return None
        waiting = (idle - self._idle) / passed
        self._looked, self._idle = now, idle
        if waiting < 0.5 or backlog or worked or self._searching:
            return None
        scan = self.largest(scans)
        if scan is None or scan.seen < LONG:
            return None
        self.wanted = min(MOST, max(self.wanted, len(scans)) * 8)
        return scan

    def search(self, scan: Scan, wanted: int) -> None:
        """Look for up to ``wanted`` cuts of ``scan``."""
        shard_id = scan.shard.id
        if wanted <= 0 or shard_id in self._searching or not self._source.cuttable:
            return
        lane = self._source.lane
        if lane is None:
            if self._source.root is not None:
                root = self._source.root
                keys = boundaries(root.path, wanted + 1, scan.merged, scan.high, escape=root.escape)
                self._keep(shard_id, above(spread(keys, wanted), scan.merged))
            return
        self._searching.add(shard_id)
        CutSearch(lane, scan.fetched, scan.high, wanted, lambda keys: self._keep(shard_id, keys))

    def _keep(self, shard_id: int, keys: list[bytes]) -> None:
        self._searching.discard(shard_id)
        if keys:
            self._found.append((shard_id, keys))
        else:
            self._hopeless.add(shard_id)
