"""Survey: all rows of one place, by many chains at once, for counting (order does not matter)."""

from __future__ import annotations

import time
from collections.abc import Callable

from entrepot.model.entry import Row
from entrepot.storage.base import Columns, Lane, Store
from entrepot.storage.wire.options import LaneOptions
from entrepot.storage.wire.reactor import Reactor

from .cutting import MOST
from .listing import LaneFeed
from .ranges import CutSearch

LONG_PAGES = 3
"""Pages after which a listing counts as long."""

FAR = 0.004
"""Seconds per page above which waiting, not work, sets the pace: then more chains help."""

Take = Callable[[list[Row]], None]


def survey(store: Store, take: Take, *, columns: Columns = "mtime", chains: int = MOST) -> None:
    """Call ``take`` with every row of ``store``, page by page in any order. Raises StoreError.

    One chain as long as pages come fast; else up to ``chains`` key ranges at once.
    """
    if store.location.is_file or not (store.caps.start_after and store.caps.ordered) or chains <= 1:
        for page in store.pages(columns=columns):
            take(page.rows)
        return
    reactor = Reactor()
    lane = store.lane(reactor, LaneOptions(connections=chains))
    try:
        _Survey(lane, reactor, take, columns, chains, str(store.location)).run()
    finally:
        lane.close()


class _Survey:
    def __init__(self, lane: Lane, reactor: Reactor, take: Take, columns: Columns, chains: int, place: str) -> None:
        self.lane, self.reactor, self.take = lane, reactor, take
        self.columns, self.chains, self.place = columns, chains, place
        self.feeds: list[tuple[LaneFeed, bytes | None]] = []
        self.pages = 0
        self.searching = False
        self.hopeless = False

    def run(self) -> None:
        began = time.monotonic()
        self._open(b"", None)
        while self.feeds:
            if not self._drain():
                self.reactor.poll(0.1)
            self._widen(time.monotonic() - began)

    def _open(self, low: bytes, high: bytes | None) -> None:
        feed = LaneFeed(self.lane, low, high, self.columns, _nothing, self.place)
        self.feeds.append((feed, high))

    def _drain(self) -> bool:
        moved = False
        for entry in list(self.feeds):
            feed = entry[0]
            while feed.fill():
                if feed.error is not None:
                    raise feed.error
                if feed.rows:
                    rows, feed.rows = feed.rows, []
                    self.pages += 1
                    moved = True
                    self.take(rows)
                if feed.ended:
                    self.feeds.remove(entry)
                    break
        return moved

    def _widen(self, seconds: float) -> None:
        if self.searching or self.hopeless or self.pages < LONG_PAGES or not self.feeds:
            return
        if len(self.feeds) > self.chains // 2 or seconds / self.pages < FAR:
            return
        feed, high = max(self.feeds, key=lambda entry: entry[0].seen)
        self.searching = True
        wanted = self.chains - len(self.feeds)
        CutSearch(self.lane, feed.position, high, wanted, lambda keys: self._cut(feed, high, keys))

    def _cut(self, feed: LaneFeed, high: bytes | None, keys: list[bytes]) -> None:
        self.searching = False
        keys = [key for key in keys if key > feed.position]
        if not keys or (feed, high) not in self.feeds:
            self.hopeless = not keys
            return
        feed.cut(keys[0])
        self.feeds[self.feeds.index((feed, high))] = (feed, keys[0])
        edges = [*keys, high]
        for low, top in zip(keys, edges[1:], strict=True):
            assert low is not None
            self._open(low, top)


def _nothing() -> None:
    return None
