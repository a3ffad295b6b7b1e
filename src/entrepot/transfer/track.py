"""Tracks: how rows of one phase are judged and moved. A sync has one for its scan, and one for a full second look."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import cast

from entrepot.model.entry import Row
from entrepot.model.options import Compare, SyncOptions
from entrepot.model.shard import Shard
from entrepot.storage.base import Columns, Lane
from entrepot.storage.posix.root import Root

from .compare import Clock, Way, columns_for, comparer, wants_changed
from .copy.mover import Mover
from .ends import End
from .filters import Filter
from .job import Batch
from .names import Fit, fit_of
from .report import Segment
from .resolve import Resolver
from .scan import Emit, Extra, Rules, SpecialMover
from .select import selector
from .verify import VerifyMover


@dataclass(slots=True)
class Track:
    """Mover, resolver and rules that belong together, and what listings they need."""

    mover: Mover
    resolver: Resolver
    rules: Rules
    columns: Columns
    changed: bool
    directories: bool

    @property
    def backlog(self) -> int:
        """Rows taken but not begun."""
        return self.mover.backlog + self.resolver.backlog

    @property
    def busy(self) -> bool:
        """True while something is in flight."""
        return self.mover.busy or self.resolver.busy

    def work(self) -> bool:
        """Begin what there is room for."""
        worked = False
        if self.resolver.backlog or self.resolver.busy:
            worked = self.resolver.work()
        if self.mover.backlog or self.mover.busy:
            worked |= self.mover.work()
        return worked

    def drain(self, stop: str) -> None:
        """Begin nothing new."""
        self.resolver.drain()
        self.mover.drain(stop)


def make_track(
    mode: Compare,
    way: Way,
    ends: tuple[End, End],
    mover: Mover,
    options: SyncOptions,
    clock: Clock,
    *,
    extra: Extra,
    md5_etags: Callable[[], bool],
    segments: Callable[[Shard], Segment] | None,
    reads: bool = False,
) -> Track:
    """Join the parts of one phase."""
    columns = columns_for(mode, way)
    resolver = Resolver(mode, way, _place(ends[0]), _place(ends[1]), mover.offer, md5_etags=md5_etags, reads=reads)
    filters = Filter(options.filters)
    special = mover if way == "local" and hasattr(mover, "special") and not options.dry_run else None
    rules = Rules(
        comparer(mode, way, clock, md5_etags=way == "store" and md5_etags()),
        _fitting(
            None if isinstance(mover, VerifyMover) else fit_of(way, ends[1], asks=not options.dry_run),
            _emitter(mover, resolver),
        ),
        extra=extra,
        source_filter=filters,
        destination_filter=Filter(()) if options.delete_excluded else filters,
        select=selector(options, columns),
        segments=segments,
        specials=cast("SpecialMover | None", special),
    )
    return Track(mover, resolver, rules, columns, wants_changed(mode, way), special is not None)


def _emitter(mover: Mover, resolver: Resolver) -> Callable[[Batch, list[Row], list[Row]], None]:
    def emit(batch: Batch, copy: list[Row], doubt: list[Row]) -> None:
        if doubt:
            resolver.offer(batch, doubt)
        if copy:
            mover.offer(batch, copy)

    return emit


def _fitting(fit: Fit | None, emit: Emit) -> Emit:
    """``emit`` for the rows whose keys the destination can hold."""
    if fit is None:
        return emit

    def checked(batch: Batch, copy: list[Row], doubt: list[Row]) -> None:
        emit(batch, fit(batch, copy) if copy else copy, doubt)

    return checked


def _place(end: End) -> Lane | Root | None:
    return end.lane if end.lane is not None else end.root
