"""The two ends of a transfer in one process: an opened store, and its lane or its root directory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from entrepot.model.entry import Page
from entrepot.model.options import SyncOptions
from entrepot.storage.base import Columns, Lane, Store
from entrepot.storage.posix.root import Root
from entrepot.storage.posix.walk import walk

from .compare import Way
from .keylist import HeadFeed, Keys, file_pages
from .listing import Feed, LaneFeed, PageFeed


@dataclass(slots=True)
class End:
    """One side. Exactly one of ``lane`` and ``root`` is set; a missing directory (dry run) has neither."""

    store: Store
    lane: Lane | None = None
    root: Root | None = None

    @property
    def cuttable(self) -> bool:
        """True when the listing is in byte order and can begin behind any key."""
        caps = self.store.caps
        return self.lane is None or (caps.start_after and caps.ordered)

    def feed(
        self,
        low: bytes,
        high: bytes | None,
        columns: Columns,
        options: SyncOptions,
        keys: Keys | None,
        ready: Callable[[], None],
        *,
        changed: bool,
        source: bool,
        directories: bool = False,
    ) -> Feed:
        """The listing of a key range on this side; of ``keys`` only when they are given."""
        if self.lane is not None:
            if keys is not None:
                return HeadFeed(self.lane, keys.within(low, high), columns, ready)
            if not self.cuttable:
                return PageFeed(self.store.pages(low, columns), high)
            return LaneFeed(self.lane, low, high, columns, ready, str(self.store.location))
        if self.root is None:
            return PageFeed(iter([Page([], last=True)]), high)
        if keys is not None:
            return PageFeed(file_pages(self.root, keys.within(low, high), changed=changed), high)
        return PageFeed(self._walk(low, high, options, changed, source, directories), high)

    def _walk(
        self, low: bytes, high: bytes | None, options: SyncOptions, changed: bool, source: bool, directories: bool
    ) -> Iterator[Page]:
        assert self.root is not None
        return walk(
            self.root.fd,
            after=low,
            until=high,
            symlinks=options.symlinks if source else "skip",
            escape=self.root.escape,
            changed=changed,
            directories=directories,
        )


def way_of(source: End, destination: End) -> Way:
    """Which of the four ways this pair of ends is."""
    if source.lane is not None:
        return "store" if destination.lane is not None else "download"
    return "upload" if destination.lane is not None else "local"
